//! Whether JSON fits a schema, as Python's jsonschema sees it, and the words for what does not.
//!
//! As there: formats are not asserted, and a schema names its draft by `$schema`. Nothing is ever fetched.
//! Patterns are matched in linear time, whatever a message holds; one with look-around, which would not be,
//! makes its schema unusable, and no package has one (docs/decisions/0020).

use std::fmt;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::message::body;
use crate::schema::numbers;
use crate::text::{MAX_DETAIL, MAX_PHRASE, printable, quoted};

/// How many violations are told of a message.
pub const MOST_SHOWN: usize = 5;
/// How many are gathered, of however many.
pub const MOST_TOLD: usize = 100;
/// How deep forms within forms are looked into.
const MOST_FORMS: usize = 8;

/// A compiled schema.
pub struct Checker(Validator);

impl Checker {
    /// Compiles a schema, or says why that can't be done.
    pub fn new(json: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map(Self)
            .map_err(|error| printable(&error.to_string(), MAX_DETAIL))
    }

    /// What is wrong with a value; nothing if it fits.
    pub fn violations(&self, value: &Value, violation: Telling) -> Vec<Violation> {
        if self.0.is_valid(value) {
            return Vec::new();
        }
        let mut last_reported: Vec<Violation> = Vec::new();
        for error in self.0.iter_errors(value) {
            tell(&error, violation, MOST_FORMS, &mut last_reported);
            if last_reported.len() >= MOST_TOLD {
                break;
            }
        }
        last_reported
    }
}

/// Makes a violation of a place in headers or body, of a member there, if it is one that is meant, and of words.
pub type Telling = fn(&Location, Option<&str>, String) -> Violation;

/// One thing in a message that its schema does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where in the resource.
    pub path: String,
    /// What is there, and what the schema wants.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.detail)
    }
}

impl Violation {
    /// One in the body, at this place in it, or at this member there.
    #[must_use]
    pub fn of_body(at: &Location, member: Option<&str>, detail: String) -> Self {
        let mut path = "spec.message.body".to_owned();
        append(&mut path, at.segments());
        append(&mut path, member.map(|name| LocationSegment::Property(name.into())));
        Self { path: printable(&path, MAX_PHRASE), detail }
    }

    /// One in the headers, by the field that sets the header.
    #[must_use]
    pub fn of_headers(at: &Location, member: Option<&str>, detail: String) -> Self {
        let mut segments = at.segments().chain(member.map(|name| LocationSegment::Property(name.into())));
        let first = segments.next();
        let field = match &first {
            Some(LocationSegment::Property(name)) => match name.as_ref() {
                "fedora_messaging_schema" => Some("schema"),
                "fedora_messaging_schema_package" => Some("schemaPackage"),
                "fedora_messaging_severity" => Some("severity"),
                "priority" => Some("priority"),
                _ => None,
            },
            _ => None,
        };
        let mut path = format!("spec.message.{}", field.unwrap_or("headers"));
        append(&mut path, first.filter(|_| field.is_none()));
        append(&mut path, segments);
        Self { path: printable(&path, MAX_PHRASE), detail }
    }
}

/// Adds the way from a place to one within it.
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

/// Tells an error in words. Of a value that should have one of several forms, it tells what is wrong with it
/// by the only form of its type, if there is one.
fn tell(error: &ValidationError<'_>, violation: Telling, forms: usize, last_reported: &mut Vec<Violation>) {
    let at = error.instance_path();
    if let ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } = error.kind()
        && let Some(errors) = only_form(context, at).filter(|_| forms > 0)
    {
        for error in errors {
            tell(error, violation, forms - 1, last_reported);
        }
        return;
    }
    let mut add = |member: Option<&str>, detail: String| {
        let found = violation(at, member, detail);
        if !last_reported.contains(&found) {
            last_reported.push(found);
        }
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            add(Some(property.as_str().unwrap_or_default()), "is missing: add it".to_owned());
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected.iter().take(MOST_SHOWN) {
                add(Some(name), "is not allowed: remove it".to_owned());
            }
        }
        ValidationErrorKind::FalseSchema => add(None, "is not allowed: remove it".to_owned()),
        kind => add(None, format!("is {}, but {}", found(error.instance()), wanted(kind))),
    }
}

/// The errors by the only one of several forms that is of the value's type.
fn only_form<'a, 'b>(forms: &'b [Vec<ValidationError<'a>>], at: &Location) -> Option<&'b [ValidationError<'a>]> {
    let other_type = |error: &ValidationError<'_>| {
        matches!(error.kind(), ValidationErrorKind::Type { .. }) && error.instance_path() == at
    };
    let mut same_type = forms.iter().filter(|errors| !errors.iter().any(other_type));
    same_type.next().filter(|_| same_type.next().is_none()).map(Vec::as_slice)
}

/// What a schema wants, after "but".
fn wanted(kind: &ValidationErrorKind) -> String {
    let items = |count: &u64| if *count == 1 { "1 item".to_owned() } else { format!("{count} items") };
    match kind {
        ValidationErrorKind::Type { kind } => format!("must be {}", types(kind)),
        ValidationErrorKind::Enum { options } => match options.as_array() {
            Some(options) => format!("must be one of {}", list(options.iter().map(found))),
            None => "must be one of the values that the schema names".to_owned(),
        },
        ValidationErrorKind::Constant { expected_value } => format!("must be {}", found(expected_value)),
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
        ValidationErrorKind::MinProperties { limit } => format!("must have at least {limit} members"),
        ValidationErrorKind::MaxProperties { limit } => format!("must have at most {limit} members"),
        ValidationErrorKind::UniqueItems => "must not have the same item twice".to_owned(),
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => forms(context),
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            "must fit exactly one of the forms that the schema allows, and fits several".to_owned()
        }
        other => format!("does not fit the schema's {}", quoted(other.keyword())),
    }
}

/// The types of several forms, where these are all that is wrong.
fn forms(context: &[Vec<ValidationError<'_>>]) -> String {
    let types = context.iter().map(|errors| match errors.as_slice() {
        [error] => match error.kind() {
            ValidationErrorKind::Type { kind } => Some(types(kind)),
            _ => None,
        },
        _ => None,
    });
    match types.collect::<Option<Vec<_>>>() {
        Some(types) => format!("must be {}", list(types.into_iter())),
        None => format!("must fit one of the {} forms that the schema allows", context.len()),
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

/// "a, b or c", shortened.
fn list(detail: impl Iterator<Item = String>) -> String {
    let detail: Vec<_> = detail.collect();
    let text = match detail.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    };
    printable(&text, MAX_PHRASE)
}

/// A value, shortened.
fn found(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// Reads JSON whose depth was counted before, with numbers as Python reads them.
#[must_use]
pub fn value(json: &str) -> Option<Value> {
    body::value(&numbers::apart(json))
}
