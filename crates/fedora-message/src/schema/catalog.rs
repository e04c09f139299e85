//! The catalog: the schemas of all packages for consumers, exported to one file.
//!
//! This module reads the file and finds the schema of a message. The rules of a schema are checked in
//! [`validator`](crate::schema::validator).

use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::v1alpha1::Severity;
use crate::schema::validator::{MessagePart, SchemaValidator, Violation};
use crate::text::{MAX_DETAIL, printable};

/// The format version of the file that this program reads.
const FORMAT: u64 = 1;

/// All schemas that the operator knows.
#[derive(Debug, Deserialize)]
pub struct Catalog {
    /// The version of fedora-messaging that exported the file.
    pub library: String,
    base: Base,
    /// The schemas, by name.
    pub schemas: Vec<Schema>,
    /// The classes whose schemas could not be exported.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// The rules that every message must follow besides its own schema.
#[derive(Debug, Deserialize)]
struct Base {
    headers: LazyValidator,
    body: LazyValidator,
}

/// The schema of a message class.
#[derive(Debug, Deserialize)]
pub struct Schema {
    /// The name of its entry point, as in `spec.message.schema`.
    pub name: String,
    /// The package as the library writes it into a header. The library omits it if it can't detect it.
    pub package: Option<String>,
    /// The package's name.
    pub distribution: String,
    /// The package's version.
    pub version: String,
    /// The severity of messages that have none of their own.
    #[serde(deserialize_with = "severity")]
    pub severity: Severity,
    /// True if its package recommends a newer schema.
    #[serde(default)]
    pub deprecated: bool,
    /// The schema of the headers, if it differs from the base one.
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
    /// The reason.
    pub why: String,
}

/// An error in a catalog file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The export does not write such a file.
    #[error("it is no catalog of schemas ({0}): write it with `just schemas`")]
    Unreadable(String),
    /// The file has another format version.
    #[error(
        "it has format version {0}, but this program reads {FORMAT}: write it with `just schemas` of the same release"
    )]
    Format(u64),
}

/// The result of a lookup by name and, if given, package.
#[derive(Debug)]
pub enum SchemaLookup<'a> {
    /// Exactly one schema matches.
    Found(&'a Schema),
    /// Several packages ship a schema of this name.
    Ambiguous(Vec<&'a Schema>),
    /// Only these packages ship it, and none is the given package.
    OtherPackage(Vec<&'a Schema>),
    /// The catalog does not have it. The export may have left it out.
    Missing(Option<&'a LeftOut>),
}

/// An error of the schema check.
#[derive(Debug)]
pub enum SchemaError {
    /// The message does not match the schema.
    Violations(Vec<Violation>),
    /// The schema itself is invalid. The library refuses such messages too.
    Schema(String),
}

impl Catalog {
    /// Parses a file that the export wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, CatalogError> {
        #[derive(Deserialize)]
        struct Header {
            format: u64,
        }
        let unreadable = |error: serde_json::Error| CatalogError::Unreadable(printable(&error.to_string(), MAX_DETAIL));
        let Header { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        match format {
            FORMAT => serde_json::from_slice(bytes).map_err(unreadable),
            other => Err(CatalogError::Format(other)),
        }
    }

    /// Looks up a schema by its name and, if given, its package.
    #[must_use]
    pub fn find(&self, name: &str, package: Option<&str>) -> SchemaLookup<'_> {
        let all: Vec<_> = self.schemas.iter().filter(|schema| schema.name == name).collect();
        if all.is_empty() {
            return SchemaLookup::Missing(self.left_out.iter().find(|left| left.name == name));
        }
        let is_match = |schema: &&Schema| package.is_none_or(|package| schema.is_of(package));
        let matches: Vec<_> = all.iter().copied().filter(is_match).collect();
        match matches.as_slice() {
            [] => SchemaLookup::OtherPackage(all),
            [one] => SchemaLookup::Found(one),
            _ => SchemaLookup::Ambiguous(matches),
        }
    }

    /// Checks what the library's `validate()` checks: headers and body, each against the schema's own
    /// rules and against the rules for all messages. For a `large` body, at most one violation of
    /// each of these four is found.
    pub fn check(&self, schema: &Schema, headers: &Value, body: &Value, large: bool) -> Result<(), SchemaError> {
        let checks = [
            (schema.headers.as_ref(), MessagePart::Headers, headers),
            (Some(&self.base.headers), MessagePart::Headers, headers),
            (Some(&schema.body), MessagePart::Body, body),
            (Some(&self.base.body), MessagePart::Body, body),
        ];
        let mut violations: Vec<Violation> = Vec::new();
        for (rules, part, value) in checks {
            let Some(rules) = rules else { continue };
            let validator = rules.validator().map_err(|detail| SchemaError::Schema(detail.to_owned()))?;
            validator.violations(part, value, large, &mut violations);
        }
        if violations.is_empty() { Ok(()) } else { Err(SchemaError::Violations(violations)) }
    }

    /// Checks the schema itself, without a message.
    pub fn test(&self, schema: &Schema) -> Result<(), String> {
        for rules in schema.headers.iter().chain([&schema.body, &self.base.headers, &self.base.body]) {
            rules.validator().map_err(str::to_owned)?;
        }
        Ok(())
    }
}

impl Schema {
    fn is_of(&self, package: &str) -> bool {
        let package = normalized(package);
        self.package.as_ref().is_some_and(|own| normalized(own) == package) || normalized(&self.distribution) == package
    }
}

/// Writes the name, the package and the version.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {}", self.name, self.distribution, self.version)
    }
}

/// Normalizes the name of a Python package, because Python ignores case and kinds of separators.
fn normalized(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

/// Reads a severity from the number that the library gives it.
fn severity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Severity, D::Error> {
    let number = u64::deserialize(deserializer)?;
    let severity = u8::try_from(number).ok().and_then(Severity::from_repr);
    severity.ok_or_else(|| serde::de::Error::custom(format!("no message has the severity {number}")))
}

/// The JSON of a schema. The first use compiles it.
#[derive(Deserialize)]
#[serde(from = "Box<RawValue>")]
struct LazyValidator {
    json: Box<RawValue>,
    compiled: OnceLock<Result<SchemaValidator, String>>,
}

impl LazyValidator {
    fn validator(&self) -> Result<&SchemaValidator, &str> {
        self.compiled.get_or_init(|| SchemaValidator::new(self.json.get())).as_ref().map_err(String::as_str)
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
