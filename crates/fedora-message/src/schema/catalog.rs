//! The schemas of messages, as the packages for consumers ship them, exported to one file: what the file
//! holds, and which of its schemas a message means. What is checked is in `fitting.rs`.

use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::v1alpha1::Severity;
use crate::schema::validator::{Checker, Telling, Violation};
use crate::text::{MAX_DETAIL, printable};

/// The form of the file that is read here.
const FORMAT: u64 = 1;

/// All schemas that are known.
#[derive(Debug, Deserialize)]
pub struct Catalog {
    /// The version of the library fedora-messaging by which the file was made.
    pub library: String,
    base: Base,
    /// The schemas, by name.
    pub schemas: Vec<Schema>,
    /// The classes whose schemas could not be exported.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// What every message must fit, whatever its own schema.
#[derive(Debug, Deserialize)]
struct Base {
    headers: LazyValidator,
    body: LazyValidator,
}

/// A class of messages.
#[derive(Debug, Deserialize)]
pub struct Schema {
    /// The name of its entry point: what `spec.message.schema` holds.
    pub name: String,
    /// Its package as the library writes it into a header; the library writes none where it can't tell.
    pub package: Option<String>,
    /// The package's name.
    pub distribution: String,
    /// The package's version.
    pub version: String,
    /// How important its messages are unless they say so.
    #[serde(deserialize_with = "severity")]
    pub severity: Severity,
    /// Whether a newer one should be used.
    #[serde(default)]
    pub deprecated: bool,
    /// The schema of headers, if it is not the base one.
    headers: Option<LazyValidator>,
    /// The schema of the body.
    body: LazyValidator,
}

/// A class whose schema could not be exported.
#[derive(Debug, Deserialize)]
pub struct LeftOut {
    /// The name of its entry point.
    pub name: String,
    /// The package's name.
    pub distribution: String,
    /// The package's version.
    pub version: String,
    /// Why.
    pub why: String,
}

/// Why a file is no catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// It is not what the export writes.
    #[error("it is no catalog of schemas ({0}): write it with `just schemas`")]
    Unreadable(String),
    /// It is of another form.
    #[error("it has the form {0}, but this program reads {FORMAT}: write it with `just schemas` of the same version")]
    Format(u64),
}

/// What a catalog has for a name and, where it is given, a package.
#[derive(Debug)]
pub enum Found<'a> {
    /// The one that is meant.
    One(&'a Schema),
    /// Several packages ship it.
    Several(Vec<&'a Schema>),
    /// None ships it but these, which are not the package that is given.
    Elsewhere(Vec<&'a Schema>),
    /// None; or one that could not be exported.
    Lacking(Option<&'a LeftOut>),
}

/// Why a message does not fit.
#[derive(Debug)]
pub enum SchemaError {
    /// The message breaks these rules.
    Violations(Vec<Violation>),
    /// The schema itself is not usable; the library refuses such messages too.
    Schema(String),
}

impl Catalog {
    /// Reads a file that the export wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, CatalogError> {
        #[derive(Deserialize)]
        struct Form {
            format: u64,
        }
        let unreadable = |error: serde_json::Error| CatalogError::Unreadable(printable(&error.to_string(), MAX_DETAIL));
        let Form { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        match format {
            FORMAT => serde_json::from_slice(bytes).map_err(unreadable),
            other => Err(CatalogError::Format(other)),
        }
    }

    /// The schema of this name, and of this package where one is given.
    #[must_use]
    pub fn find(&self, name: &str, package: Option<&str>) -> Found<'_> {
        let all: Vec<_> = self.schemas.iter().filter(|schema| schema.name == name).collect();
        if all.is_empty() {
            return Found::Lacking(self.left_out.iter().find(|left| left.name == name));
        }
        let is_meant = |schema: &&Schema| package.is_none_or(|package| schema.is_of(package));
        let meant: Vec<_> = all.iter().copied().filter(is_meant).collect();
        match meant.as_slice() {
            [] => Found::Elsewhere(all),
            [one] => Found::One(one),
            _ => Found::Several(meant),
        }
    }

    /// Whether a message fits, by what the library's `validate()` looks at: headers and body, each by the
    /// schema's own rules and by those for all messages.
    pub fn check(&self, schema: &Schema, headers: &Value, body: &Value) -> Result<(), SchemaError> {
        let parts = [
            (schema.headers.as_ref(), headers, Violation::of_headers as Telling),
            (Some(&self.base.headers), headers, Violation::of_headers),
            (Some(&schema.body), body, Violation::of_body),
            (Some(&self.base.body), body, Violation::of_body),
        ];
        let mut violations: Vec<Violation> = Vec::new();
        for (rules, value, violation) in parts {
            let Some(rules) = rules else { continue };
            let checker = rules.checker().map_err(|detail| SchemaError::Schema(detail.to_owned()))?;
            for found in checker.violations(value, violation) {
                if !violations.contains(&found) {
                    violations.push(found);
                }
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(SchemaError::Violations(violations)) }
    }

    /// Whether a schema can be used, without a message.
    pub fn test(&self, schema: &Schema) -> Result<(), String> {
        for rules in schema.headers.iter().chain([&schema.body, &self.base.headers, &self.base.body]) {
            rules.checker().map_err(str::to_owned)?;
        }
        Ok(())
    }
}

impl Schema {
    fn is_of(&self, package: &str) -> bool {
        let package = normal(package);
        self.package.as_ref().is_some_and(|own| normal(own) == package) || normal(&self.distribution) == package
    }
}

/// Name, package and version, for people.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {}", self.name, self.distribution, self.version)
    }
}

/// The name of a Python package without the differences that Python doesn't see.
fn normal(name: &str) -> String {
    let detail = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    detail.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

/// The library's numbers for severities.
fn severity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Severity, D::Error> {
    match u64::deserialize(deserializer)? {
        10 => Ok(Severity::Debug),
        20 => Ok(Severity::Info),
        30 => Ok(Severity::Warning),
        40 => Ok(Severity::Error),
        other => Err(serde::de::Error::custom(format!("no message has the severity {other}"))),
    }
}

/// A schema as it is written, and compiled once it is needed.
#[derive(Deserialize)]
#[serde(from = "Box<RawValue>")]
struct LazyValidator {
    json: Box<RawValue>,
    compiled: OnceLock<Result<Checker, String>>,
}

impl LazyValidator {
    fn checker(&self) -> Result<&Checker, &str> {
        self.compiled.get_or_init(|| Checker::new(self.json.get())).as_ref().map_err(String::as_str)
    }
}

impl From<Box<RawValue>> for LazyValidator {
    fn from(json: Box<RawValue>) -> Self {
        Self { json, compiled: OnceLock::new() }
    }
}

impl fmt::Debug for LazyValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json.get())
    }
}
