//! Validates JSON against a schema with the same result as Python's jsonschema, and describes each
//! violation.
//!
//! As in Python, formats are not asserted, and a schema names its draft by `$schema`. Nothing is ever
//! fetched. Patterns match in linear time, whatever a message holds. A pattern with look-around can't
//! do that, so it makes its schema unusable. No package has one (docs/decisions/0020).

use std::fmt;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::message::body;
use crate::schema::numbers;
use crate::text::{MAX_DETAIL, MAX_PHRASE, printable, quoted};

/// The number of violations that an error shows.
pub const MAX_SHOWN: usize = 5;
/// The number of violations after which the validator stops.
pub const MAX_VIOLATIONS: usize = 100;
/// The number of nested alternatives (`anyOf`, `oneOf`) that are inspected.
const MAX_ALTERNATIVES_DEPTH: usize = 8;

/// A compiled schema.
pub struct SchemaValidator {
    validator: Validator,
    /// True if the schema has alternatives (`anyOf`, `oneOf`). An error of these holds all errors of
    /// each alternative.
    has_alternatives: bool,
}

impl SchemaValidator {
    /// Compiles a schema.
    pub fn new(json: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|error| printable(&error.to_string(), MAX_DETAIL))?;
        Ok(Self { validator, has_alternatives: ["\"anyOf\"", "\"oneOf\""].iter().any(|name| json.contains(name)) })
    }

    /// Adds the violations of a value, which is this part of the message, until there are [`MAX_VIOLATIONS`].
    ///
    /// The library collects all violations of a value before it returns the first, several hundred
    /// bytes for each. So of a `large` value only the first is found, and none if that could hold any
    /// number of others.
    pub fn violations(&self, part: MessagePart, value: &Value, large: bool, violations: &mut Vec<Violation>) {
        if self.validator.is_valid(value) {
            return;
        }
        if !large {
            for error in self.validator.iter_errors(value) {
                describe(&error, part, MAX_ALTERNATIVES_DEPTH, violations);
            }
        } else if self.has_alternatives {
            let detail = "does not match, and is too large to look for the place".to_owned();
            violations.push(Violation { path: path(part, &Location::new(), None), detail });
        } else if let Err(error) = self.validator.validate(value) {
            describe(&error, part, MAX_ALTERNATIVES_DEPTH, violations);
        }
    }
}

/// The parts of a message that have a schema.
#[derive(Clone, Copy, Debug)]
pub enum MessagePart {
    /// The headers.
    Headers,
    /// The body.
    Body,
}

/// One rule of the schema that a message violates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the resource.
    pub path: String,
    /// The value of the field, and what the schema requires.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.detail)
    }
}

/// Returns the path in the resource of a location in the headers or the body, or of a member there.
///
/// The library sets some headers from fields of their own. Their path is that field.
fn path(part: MessagePart, at: &Location, member: Option<&str>) -> String {
    let mut segments = at.segments().chain(member.map(|name| LocationSegment::Property(name.into()))).peekable();
    let header = match (part, segments.peek()) {
        (MessagePart::Headers, Some(LocationSegment::Property(name))) => name.as_ref(),
        _ => "",
    };
    let field = match header {
        "fedora_messaging_schema" => Some("schema"),
        "fedora_messaging_schema_package" => Some("schemaPackage"),
        "fedora_messaging_severity" => Some("severity"),
        "priority" => Some("priority"),
        _ => None,
    };
    let default = match part {
        MessagePart::Headers => "headers",
        MessagePart::Body => "body",
    };
    let mut path = format!("spec.message.{}", field.unwrap_or(default));
    append(&mut path, segments.skip(usize::from(field.is_some())));
    printable(&path, MAX_PHRASE)
}

/// Appends segments to a path.
fn append<'a>(path: &mut String, segments: impl IntoIterator<Item = LocationSegment<'a>>) {
    let plain = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    for segment in segments {
        if path.len() > 4 * MAX_PHRASE {
            return;
        }
        match segment {
            LocationSegment::Property(name) if plain(&name) => path.extend([".", &name]),
            LocationSegment::Property(name) => path.extend(["[", &quoted(&name), "]"]),
            LocationSegment::Index(index) => path.extend(["[", &index.to_string(), "]"]),
        }
    }
}

/// Adds the violations that an error stands for, as long as there are fewer than [`MAX_VIOLATIONS`].
///
/// If a value matches none of several alternatives, but only one of them is of the value's type, the
/// violations of that alternative are added. `depth` limits how often that is repeated.
fn describe(error: &ValidationError<'_>, part: MessagePart, depth: usize, violations: &mut Vec<Violation>) {
    if violations.len() >= MAX_VIOLATIONS {
        return;
    }
    let at = error.instance_path();
    if let ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } = error.kind()
        && let Some(errors) = alternative_of_type(context, at).filter(|_| depth > 0)
    {
        for error in errors {
            describe(error, part, depth - 1, violations);
        }
        return;
    }
    let mut add = |member: Option<&str>, detail: String| {
        let violation = Violation { path: path(part, at, member), detail };
        if !violations.contains(&violation) {
            violations.push(violation);
        }
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            add(Some(property.as_str().unwrap_or_default()), "is missing".to_owned());
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected.iter().take(MAX_SHOWN) {
                add(Some(name), "is not allowed".to_owned());
            }
        }
        ValidationErrorKind::FalseSchema => add(None, "is not allowed".to_owned()),
        kind => add(None, format!("is {}, but {}", shortened(error.instance()), requirement(kind))),
    }
}

/// Returns the errors of the alternative that is of the value's type, if there is exactly one.
fn alternative_of_type<'a, 'b>(
    alternatives: &'b [Vec<ValidationError<'a>>],
    at: &Location,
) -> Option<&'b [ValidationError<'a>]> {
    let other_type = |error: &ValidationError<'_>| {
        matches!(error.kind(), ValidationErrorKind::Type { .. }) && error.instance_path() == at
    };
    let mut same_type = alternatives.iter().filter(|errors| !errors.iter().any(other_type));
    same_type.next().filter(|_| same_type.next().is_none()).map(Vec::as_slice)
}

/// Returns what a schema requires, as the second half of a sentence.
fn requirement(kind: &ValidationErrorKind) -> String {
    let items = |count: &u64| if *count == 1 { "1 item".to_owned() } else { format!("{count} items") };
    match kind {
        ValidationErrorKind::Type { kind } => format!("must be {}", types(kind)),
        ValidationErrorKind::Enum { options } => match options.as_array() {
            Some(options) => format!("must be one of {}", list(options.iter().map(shortened))),
            None => "must be one of the values that the schema names".to_owned(),
        },
        ValidationErrorKind::Constant { expected_value } => format!("must be {}", shortened(expected_value)),
        ValidationErrorKind::Pattern { pattern } => format!("must match the pattern {}", quoted(pattern)),
        ValidationErrorKind::Minimum { limit } => format!("must be at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("must be at most {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        ValidationErrorKind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        ValidationErrorKind::MinLength { limit } => format!("must have at least {limit} characters"),
        ValidationErrorKind::MaxLength { limit } => format!("must have at most {limit} characters"),
        ValidationErrorKind::MinItems { limit } => format!("must have at least {}", items(limit)),
        ValidationErrorKind::MaxItems { limit } => format!("must have at most {}", items(limit)),
        ValidationErrorKind::AdditionalItems { limit } => format!("must have at most {limit} items"),
        ValidationErrorKind::MinProperties { limit } => format!("must have at least {limit} properties"),
        ValidationErrorKind::MaxProperties { limit } => format!("must have at most {limit} properties"),
        ValidationErrorKind::UniqueItems => "must not have the same item twice".to_owned(),
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            one_of_alternatives(context)
        }
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            "must match exactly one of the schema's alternatives, and matches several".to_owned()
        }
        other => format!("does not match the schema's {}", quoted(other.keyword())),
    }
}

/// Names the types of the alternatives, if the value is only of the wrong type.
fn one_of_alternatives(alternatives: &[Vec<ValidationError<'_>>]) -> String {
    let types = alternatives.iter().map(|errors| match errors.as_slice() {
        [error] => match error.kind() {
            ValidationErrorKind::Type { kind } => Some(types(kind)),
            _ => None,
        },
        _ => None,
    });
    match types.collect::<Option<Vec<_>>>() {
        Some(types) => format!("must be {}", list(types.into_iter())),
        None => format!("must match one of the schema's {} alternatives", alternatives.len()),
    }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => with_article(&kind.to_string()),
        TypeKind::Multiple(kinds) => list(kinds.iter().map(|kind| with_article(&kind.to_string()))),
    }
}

fn with_article(kind: &str) -> String {
    match kind {
        "null" => "null".to_owned(),
        "array" => "a list".to_owned(),
        "integer" | "object" => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}

/// Joins items to "a, b or c", and shortens the result.
fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    let text = match items.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    };
    printable(&text, MAX_PHRASE)
}

/// Describes a value in few characters.
fn shortened(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// Parses JSON whose depth the caller has checked, with numbers as Python reads them.
#[must_use]
pub fn value(json: &str) -> Option<Value> {
    body::value(&numbers::clamp_numbers(json))
}
