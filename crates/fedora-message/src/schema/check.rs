//! Holds a message against its schema, and takes from that what the sender left open: package and severity.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::message::envelope::{Envelope, HeaderValue};
use crate::message::validate::{BASE_SCHEMA, BASE_SCHEMA_PACKAGE, InvalidMessage, OutgoingMessage, refuse};
use crate::schema::catalog::{Catalog, Found, LeftOut, Schema, SchemaError};
use crate::schema::validator::{MAX_SHOWN, MAX_VIOLATIONS, value};
use crate::text::quoted;

/// What is known of schemas.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    /// All that are known, if any are.
    pub catalog: Option<Arc<Catalog>>,
    /// What becomes of messages of others.
    pub unknown: Unknown,
}

/// What becomes of a message whose schema is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// It is sent as it is.
    #[default]
    Allow,
    /// It is refused.
    Refuse,
}

/// What was found of a message that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaCheck {
    /// It fits its schema.
    Yes,
    /// It could not be checked, for this reason.
    Unchecked(String),
}

/// Checks a message against its schema, and fills in what the schema says of package and severity.
pub fn check_schema(message: &mut OutgoingMessage, schemas: &Schemas) -> Result<SchemaCheck, InvalidMessage> {
    // Any object fits it, and validate() has seen that this is one.
    if message.schema == BASE_SCHEMA && message.schema_package.as_deref() == Some(BASE_SCHEMA_PACKAGE) {
        return Ok(SchemaCheck::Yes);
    }
    let Some(catalog) = schemas.catalog.as_deref() else {
        return unknown(&message.schema, "the operator has no catalog of schemas".to_owned(), schemas.unknown);
    };
    match catalog.find(&message.schema, message.schema_package.as_deref()) {
        Found::One(schema) => {
            adopt(message, schema);
            check(catalog, schema, message).map(|()| SchemaCheck::Yes)
        }
        Found::Several(schemas) => refuse(format!(
            "spec.message.schema {} is in several packages: name one of {} as spec.message.schemaPackage",
            quoted(&message.schema),
            packages(&schemas)
        )),
        Found::Elsewhere(schemas) => refuse(format!(
            "spec.message.schemaPackage is {}, but schema {} is in {}: correct it, or leave it out",
            quoted(message.schema_package.as_deref().unwrap_or_default()),
            quoted(&message.schema),
            packages(&schemas)
        )),
        Found::Lacking(left_out) => unknown(&message.schema, lacking(&message.schema, left_out), schemas.unknown),
    }
}

fn unknown(schema: &str, why: String, unknown: Unknown) -> Result<SchemaCheck, InvalidMessage> {
    match unknown {
        Unknown::Allow => Ok(SchemaCheck::Unchecked(why)),
        Unknown::Refuse => refuse(format!(
            "spec.message.schema is {}, which can't be checked, and --unknown-schemas is refuse: {why}; correct the name, or let the operator's administrators add its package",
            quoted(schema)
        )),
    }
}

fn lacking(schema: &str, left_out: Option<&LeftOut>) -> String {
    match left_out {
        None => format!("the operator's catalog lacks schema {schema}"),
        Some(LeftOut { distribution, version, why, .. }) => {
            format!("the operator's catalog lacks schema {schema} of {distribution} {version}, as {why}")
        }
    }
}

/// The library takes both from the class.
fn adopt(message: &mut OutgoingMessage, schema: &Schema) {
    message.severity = message.severity.or(Some(schema.severity));
    if let Some(package) = &schema.package {
        message.schema_package = Some(package.clone());
    }
}

fn check(catalog: &Catalog, schema: &Schema, message: &OutgoingMessage) -> Result<(), InvalidMessage> {
    let Some(body) = value(message.body.get()) else {
        return refuse(
            "spec.message.body can't be read as its schema wants: correct numbers beyond 64-bit floats and halves of surrogate pairs in it",
        );
    };
    let misfit = match catalog.check(schema, &headers(message), &body) {
        Ok(()) => return Ok(()),
        Err(misfit) => misfit,
    };
    match misfit {
        SchemaError::Violations(violations) => {
            let more = match violations.len().saturating_sub(MAX_SHOWN) {
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
        SchemaError::Schema(detail) => refuse(format!(
            "schema {schema} is broken, and nothing fits it ({detail}): use another, or tell its package's maintainers"
        )),
    }
}

/// The headers as consumers see them.
fn headers(message: &OutgoingMessage) -> Value {
    let headers = Envelope::new(message, "").headers;
    let members = headers.into_iter().map(|(name, value)| {
        let value = match value {
            HeaderValue::String(text) => Value::String(text),
            HeaderValue::Integer(number) => number.into(),
            HeaderValue::Boolean(value) => value.into(),
        };
        (name.to_owned(), value)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

fn packages(schemas: &[&Schema]) -> String {
    schemas
        .iter()
        .map(|schema| schema.package.as_ref().unwrap_or(&schema.distribution).as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
