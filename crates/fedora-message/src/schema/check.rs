//! Checks a message against its schema, and fills in the package and the severity from the schema.

use std::sync::Arc;

use serde_json::Value;

use crate::bounds::{MAX_CHECKED_CONTAINERS, MAX_EXPLAINED_BYTES};
use crate::message::body::is_too_complex;
use crate::message::envelope::Envelope;
use crate::message::invalid::{PrepareError, refuse};
use crate::message::outgoing::{BASE_SCHEMA, BASE_SCHEMA_PACKAGE, OutgoingMessage};
use crate::schema::catalog::{Catalog, LeftOut, Schema, SchemaError, SchemaLookup};
use crate::schema::validator::{MAX_SHOWN, MAX_VIOLATIONS, value};
use crate::text::quoted;

/// The known schemas, and the policy for the others.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    /// The catalog, if the operator has one.
    pub catalog: Option<Arc<Catalog>>,
    /// The policy for messages of unknown schemas.
    pub unknown: UnknownSchemaPolicy,
}

/// The policy for messages whose schema is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownSchemaPolicy {
    /// The message is sent without a check.
    #[default]
    Allow,
    /// The message is refused.
    Refuse,
}

/// The result of the check of a message that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaCheck {
    /// The message matches its schema.
    Passed,
    /// The message matches its schema, whose package marks it as deprecated.
    Deprecated,
    /// The message could not be checked, for this reason.
    Unchecked(String),
}

/// Checks a message against its schema, and fills in the package and the severity from the schema.
pub fn check_schema(message: &mut OutgoingMessage, schemas: &Schemas) -> Result<SchemaCheck, PrepareError> {
    // Any object matches it, and validate() has checked that the body is one.
    if message.schema == BASE_SCHEMA && message.schema_package.as_deref() == Some(BASE_SCHEMA_PACKAGE) {
        return Ok(SchemaCheck::Passed);
    }
    let Some(catalog) = schemas.catalog.as_deref() else {
        return unknown(&message.schema, "the operator has no catalog of schemas".to_owned(), schemas.unknown);
    };
    match catalog.find(&message.schema, message.schema_package.as_deref()) {
        SchemaLookup::Found(schema) => {
            fill_in(message, schema);
            let passed = if schema.deprecated { SchemaCheck::Deprecated } else { SchemaCheck::Passed };
            check(catalog, schema, message).map(|()| passed)
        }
        SchemaLookup::Ambiguous(schemas) => refuse(format!(
            "spec.message.schema {} is in several packages: name one of {} as spec.message.schemaPackage",
            quoted(&message.schema),
            packages(&schemas)
        )),
        SchemaLookup::OtherPackage(schemas) => refuse(format!(
            "spec.message.schemaPackage is {}, but schema {} is in {}: correct it, or leave it out",
            quoted(message.schema_package.as_deref().unwrap_or_default()),
            quoted(&message.schema),
            packages(&schemas)
        )),
        SchemaLookup::Missing(left_out) => {
            unknown(&message.schema, missing(&message.schema, left_out), schemas.unknown)
        }
    }
}

fn unknown(schema: &str, why: String, unknown: UnknownSchemaPolicy) -> Result<SchemaCheck, PrepareError> {
    match unknown {
        UnknownSchemaPolicy::Allow => Ok(SchemaCheck::Unchecked(why)),
        UnknownSchemaPolicy::Refuse => Err(PrepareError::Misconfigured(format!(
            "spec.message.schema is {}, which can't be checked, and --unknown-schemas is refuse: {why}; create another FedoraMessage with the right name, or ask the operator's administrators to add its package",
            quoted(schema)
        ))),
    }
}

fn missing(schema: &str, left_out: Option<&LeftOut>) -> String {
    match left_out {
        None => format!("the operator's catalog lacks schema {schema}"),
        Some(LeftOut { distribution, version, why, .. }) => {
            format!("the operator's catalog lacks schema {schema} of {distribution} {version}, because {why}")
        }
    }
}

/// Fills in the package and the severity, which the library takes from the message class.
fn fill_in(message: &mut OutgoingMessage, schema: &Schema) {
    message.severity = message.severity.or(Some(schema.severity));
    if let Some(package) = &schema.package {
        message.schema_package = Some(package.clone());
    }
}

fn check(catalog: &Catalog, schema: &Schema, message: &OutgoingMessage) -> Result<(), PrepareError> {
    let json = message.body.get();
    if is_too_complex(json) {
        return refuse(format!(
            "spec.message.body can't be checked against its schema: it has more than {MAX_CHECKED_CONTAINERS} objects and lists; split it"
        ));
    }
    let large = json.len() > MAX_EXPLAINED_BYTES;
    let Some(body) = value(json) else {
        return refuse(
            "spec.message.body can't be checked against its schema: correct numbers beyond 64-bit floats and halves of surrogate pairs in it",
        );
    };
    match catalog.check(schema, &headers(message), &body, large) {
        Ok(()) => Ok(()),
        Err(SchemaError::Violations(violations)) => {
            let more = match violations.len().saturating_sub(MAX_SHOWN) {
                0 if large => "; there may be more, which are not looked for in a body of this size".to_owned(),
                0 => String::new(),
                more if violations.len() < MAX_VIOLATIONS => format!("; and {more} more"),
                _ => "; and many more".to_owned(),
            };
            let shown: Vec<_> = violations.iter().take(MAX_SHOWN).map(ToString::to_string).collect();
            refuse(format!(
                "consumers would drop the message, because it does not match schema {schema}: {}{more}",
                shown.join("; ")
            ))
        }
        Err(SchemaError::Schema(detail)) => Err(PrepareError::Misconfigured(format!(
            "schema {schema} is broken, so no message matches it ({detail}): use another, or report it to its package's maintainers"
        ))),
    }
}

/// Returns the headers as consumers see them.
fn headers(message: &OutgoingMessage) -> Value {
    let headers = Envelope::new(message, "").headers;
    headers.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
}

fn packages(schemas: &[&Schema]) -> String {
    schemas
        .iter()
        .map(|schema| schema.package.as_ref().unwrap_or(&schema.distribution).as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
