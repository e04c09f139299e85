//! A `FedoraMessage` as it comes from a list or watch, with only what a delivery needs.
//!
//! The body and header values stay raw JSON: the bytes that came are the bytes that are sent, and
//! no depth of nesting can stop the decoder. Managed fields, which repeat the nesting, are never
//! looked at (docs/decisions/0006).

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_path_to_error::Track;

use crate::api::names::SecretName;
use crate::api::serde::object;
use crate::api::v1alpha1::{
    AuthenticationSpec, Environment, FedoraMessageSpec, FedoraMessageStatus, GROUP, KIND, PLURAL, VERSION,
};
use crate::text::{MAX_PHRASE, printable};

/// Why a spec can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The resource has none.
    #[error("spec is missing: add env, message and authentication")]
    Missing,
    /// A field is wrong; the text names it, and says what is wrong.
    #[error("{0}")]
    Unreadable(String),
}

/// A `FedoraMessage` as the program holds it: only what a delivery needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawObject<'_>")]
pub struct FedoraMessage {
    /// Name, namespace, uid, generation and resource version; the rest is left out.
    pub metadata: ObjectMeta,
    /// When the API server stored the resource; the message's `sent-at`.
    pub created: Option<DateTime<Utc>>,
    /// The value of the annotation [`RETRY_ANNOTATION`](super::v1alpha1::RETRY_ANNOTATION).
    pub retry: Option<String>,
    /// The last configuration that client-side `kubectl apply` was given, if it holds a null.
    pub last_applied: Option<String>,
    /// The spec as JSON, as it came. [`spec`](Self::spec) decodes it.
    pub spec_json: Option<Box<str>>,
    /// What is needed of the spec before it is decoded.
    pub summary: Arc<Summary>,
    /// The status as last written.
    pub status: Option<Box<FedoraMessageStatus>>,
}

/// What the work queue and the policies need of a spec. Most messages of an application have the
/// same summary, so the queue holds each one once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Summary {
    /// The namespace of the resource.
    pub namespace: String,
    /// The environment whose broker gets the message. `None` if the spec can't be read: the error
    /// belongs to this one message, and must not stop the list or watch that brought it.
    pub environment: Option<Environment>,
    /// The Secrets that the message names.
    pub secrets: Vec<SecretName>,
    /// `spec.suspend`.
    pub suspend: bool,
    /// `spec.activeDeadlineSeconds`.
    pub active_deadline_seconds: Option<i64>,
    /// `spec.backoffLimit`.
    pub backoff_limit: Option<u32>,
    /// `spec.ttlSecondsAfterFinished`.
    pub ttl_seconds_after_finished: Option<u32>,
}

/// The JSON of a spec, as far as a [`Summary`] needs it. All else is skipped, however deep it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummarySpec {
    env: Environment,
    authentication: AuthenticationSpec,
    suspend: Option<bool>,
    active_deadline_seconds: Option<i64>,
    backoff_limit: Option<u32>,
    ttl_seconds_after_finished: Option<u32>,
}

impl Summary {
    fn new(namespace: &str, spec_json: Option<&str>) -> Self {
        let namespace = namespace.to_owned();
        let Some(spec) = spec_json.and_then(|json| serde_json::from_str::<SummarySpec>(json).ok()) else {
            return Self { namespace, ..Self::default() };
        };
        let secret = |(name, other): (&str, Option<&str>)| SecretName {
            namespace: other.unwrap_or(&namespace).to_owned(),
            name: name.to_owned(),
        };
        Self {
            environment: Some(spec.env),
            secrets: spec.authentication.secrets().map(secret).collect(),
            suspend: spec.suspend.unwrap_or_default(),
            active_deadline_seconds: spec.active_deadline_seconds,
            backoff_limit: spec.backoff_limit,
            ttl_seconds_after_finished: spec.ttl_seconds_after_finished,
            namespace,
        }
    }
}

impl FedoraMessage {
    /// Returns a message from a file, with metadata as an API server would fill them in, and the
    /// paths of fields that no spec has.
    #[must_use]
    pub fn from_manifest(metadata: Metadata, spec: Option<&RawValue>) -> (Self, Vec<String>) {
        let mut unknown = Vec::new();
        if let Some(raw) = spec {
            // If the spec can't be decoded, the message's own attempt says why.
            let _ = decode_spec_strictly(raw.get(), |path| unknown.push(path));
        }
        (Self::new(metadata, spec, None), unknown)
    }

    fn new(metadata: Metadata, spec: Option<&RawValue>, status: Option<Box<FedoraMessageStatus>>) -> Self {
        let (retry, last_applied) = match metadata.annotations {
            Some(annotations) => (annotations.retry, annotations.last_applied),
            None => (None, None),
        };
        let spec = spec.map(RawValue::get);
        Self {
            summary: Arc::new(Summary::new(metadata.namespace.as_deref().unwrap_or_default(), spec)),
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                uid: metadata.uid,
                resource_version: metadata.resource_version,
                generation: metadata.generation,
                ..ObjectMeta::default()
            },
            created: metadata.creation_timestamp,
            retry: retry.map(shortened),
            last_applied: last_applied.filter(|text| memchr::memmem::find(text.as_bytes(), b"null").is_some()),
            spec_json: spec.map(Into::into),
            status,
        }
    }

    /// Decodes the spec. The error names the field that can't be read, and what is wrong with it.
    pub fn spec(&self) -> Result<Box<FedoraMessageSpec>, SpecError> {
        self.spec_json
            .as_deref()
            .map_or(Err(SpecError::Missing), |json| decode_spec(json).map_err(SpecError::Unreadable))
    }

    /// Replaces the spec.
    pub fn set_spec(&mut self, spec: &FedoraMessageSpec) -> serde_json::Result<()> {
        self.spec_json = Some(serde_json::to_string(spec)?.into());
        Ok(())
    }

    /// The resource's name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The resource's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The resource's uid: its identity for the operator, and the message's id on the bus.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Returns the length of the spec and of the last applied configuration, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.spec_json.as_ref().map_or(0, |json| json.len()) + self.last_applied.as_ref().map_or(0, String::len)
    }

    /// The environment whose broker gets it, if it can be read.
    #[must_use]
    pub fn environment(&self) -> Option<Environment> {
        self.summary.environment
    }

    /// How old it is.
    #[must_use]
    pub fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        age(self.created, now)
    }
}

/// The age of what was created then; nothing, if that is not known.
pub(crate) fn age(created: Option<DateTime<Utc>>, now: DateTime<Utc>) -> TimeDelta {
    created.map_or(TimeDelta::zero(), |created| now - created)
}

impl kube::Resource for FedoraMessage {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The JSON of a `FedoraMessage`, as far as it is read at all.
#[derive(Deserialize)]
struct RawObject<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

/// The metadata of a `FedoraMessage`, as far as they are read at all.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The resource's name.
    pub name: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its identity, which becomes the message's id.
    pub uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    /// When it was created, which becomes the message's time.
    pub creation_timestamp: Option<DateTime<Utc>>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "apps.fedoraproject.org/retry")]
    retry: Option<String>,
    /// What client-side `kubectl apply` was given, as JSON in a string.
    #[serde(rename = "kubectl.kubernetes.io/last-applied-configuration")]
    last_applied: Option<String>,
}

impl From<RawObject<'_>> for FedoraMessage {
    fn from(raw: RawObject<'_>) -> Self {
        let status = raw.status.and_then(|json| serde_json::from_str(json.get()).ok());
        Self::new(raw.metadata, raw.spec, status)
    }
}

/// The token is compared and stored in the status: what comes after its beginning doesn't count.
fn shortened(mut token: String) -> String {
    const LONGEST: usize = 256;
    token.truncate(token.floor_char_boundary(LONGEST));
    token
}

/// Reads a spec, and names the field where that fails.
pub(crate) fn decode_spec(json: &str) -> Result<Box<FedoraMessageSpec>, String> {
    object(&mut serde_json::Deserializer::from_str(json)).map_err(|error| unread(json, error))
}

/// The same, and gives `unknown` the path of every field that no spec has.
fn decode_spec_strictly(json: &str, mut unknown: impl FnMut(String)) -> Result<Box<FedoraMessageSpec>, String> {
    let mut ignored = |path: serde_ignored::Path<'_>| unknown(format!("spec.{path}"));
    let mut raw = serde_json::Deserializer::from_str(json);
    object(serde_ignored::Deserializer::new(&mut raw, &mut ignored)).map_err(|error| unread(json, error))
}

/// Why a spec can't be read, and which field of it. It is read once more for that: most can be read, and for them nobody
/// needs to keep track of fields, which costs (docs/performance.md).
fn unread(json: &str, error: serde_json::Error) -> String {
    let mut track = Track::new();
    let mut raw = serde_json::Deserializer::from_str(json);
    let again = object::<_, FedoraMessageSpec>(serde_path_to_error::Deserializer::new(&mut raw, &mut track));
    let error = again.err().unwrap_or(error);
    let field = match track.path().to_string().as_str() {
        "." => "spec".to_owned(),
        path => format!("spec.{path}"),
    };
    plain(&printable(&field, MAX_PHRASE), &without_position(&error))
}

/// A decoder's words as a user's: without names of Rust's types, and with what to do.
fn plain(field: &str, detail: &str) -> String {
    if let Some(name) = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("{field}.{name} is missing");
    }
    let Some((found, expected)) = detail.rsplit_once(", expected ") else {
        return match detail {
            // A list, a null or a number where one of several names is to stand.
            "expected value" => format!("{field} must be a string: see kubectl explain fmsg.{field}"),
            detail => format!("{field} can't be read: {}", printable(detail, MAX_PHRASE)),
        };
    };
    let names;
    let expected = match expected {
        "u8" => "an integer from 0 to 255",
        // Both of this type count retries or seconds, and end where the schema says.
        "u32" => "an integer from 0 to 2147483647",
        "i64" => "a 64-bit integer",
        "a map" => "an object",
        expected => {
            names = expected.replace('`', "");
            &names
        }
    };
    format!("{field} is {}, but must be {expected}", printable(&kind_found(found), MAX_PHRASE))
}

/// What a decoder found: a value, or its kind.
fn kind_found(detail: &str) -> String {
    if let Some(name) = detail.strip_prefix("unknown variant ") {
        return format!("\"{}\"", name.trim_matches('`'));
    }
    let found = detail.split_once(": ").map_or(detail, |(_, found)| found);
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        "null" | "unit value" => "null".to_owned(),
        found => match found.strip_prefix("string ") {
            Some(text) => text.to_owned(),
            None => found.split_once('`').map_or(found, |(_, value)| value.trim_end_matches('`')).to_owned(),
        },
    }
}

/// A decoder's words without its line and column, which mean nothing to whoever wrote YAML.
fn without_position(error: &serde_json::Error) -> String {
    let detail = error.to_string();
    match detail.rfind(" at line ") {
        Some(end) => detail[..end].to_owned(),
        None => detail,
    }
}

#[cfg(test)]
mod tests;
