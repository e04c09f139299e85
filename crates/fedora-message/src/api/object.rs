//! A `FedoraMessage` as it comes from a list or watch, with only what a delivery needs.
//!
//! The body and header values stay raw JSON: the bytes that came are the bytes that are sent, and
//! no depth of nesting can stop the decoder. Managed fields, which repeat the nesting, are never
//! looked at (docs/decisions/0006).

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_path_to_error::Track;

use crate::api::serde::object;
use crate::api::v1alpha1::{Environment, FedoraMessageSpec, FedoraMessageStatus, GROUP, KIND, PLURAL, VERSION};
use crate::text::{MAX_PHRASE, printable};

/// What is said of a resource without a spec.
const NO_SPEC: &str = "spec is missing: add env, message and authentication";

/// A `FedoraMessage` as the program holds it: what a delivery needs and nothing else.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawObject<'_>")]
pub struct FedoraMessage {
    /// Name, namespace, uid, generation and resource version; the rest is left out.
    pub metadata: ObjectMeta,
    /// When the API server stored the resource; the message's `sent-at`.
    pub created: Option<DateTime<Utc>>,
    /// The value of the annotation [`RETRY_ANNOTATION`].
    pub retry: Option<String>,
    /// What client-side `kubectl apply` was given, if a null stands in it.
    pub last_applied: Option<String>,
    /// The spec, or why it can't be read. The error belongs to this one message: it must not stop
    /// the list or watch which brought it.
    pub spec: Result<Box<FedoraMessageSpec>, String>,
    /// The status as last written.
    pub status: Option<Box<FedoraMessageStatus>>,
}

impl FedoraMessage {
    /// A message that stands in a file, from its metadata, filled in as an API server would, and its spec; and
    /// the paths of the fields that no spec has.
    #[must_use]
    pub fn from_manifest(metadata: Metadata, spec: Option<&RawValue>) -> (Self, Vec<String>) {
        let mut unknown = Vec::new();
        let spec = spec.map(|raw| decode_spec_strictly(raw.get(), |path| unknown.push(path)));
        (Self::new(metadata, spec, None), unknown)
    }

    fn new(
        metadata: Metadata,
        spec: Option<Result<Box<FedoraMessageSpec>, String>>,
        status: Option<Box<FedoraMessageStatus>>,
    ) -> Self {
        let (retry, last_applied) = match metadata.annotations {
            Some(annotations) => (annotations.retry, annotations.last_applied),
            None => (None, None),
        };
        Self {
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
            spec: spec.unwrap_or_else(|| Err(NO_SPEC.to_owned())),
            status,
        }
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

    /// Takes out what may be large: the body, for which null stands then, the headers, and what was applied last.
    pub(crate) fn without_bulk(mut self) -> Self {
        self.last_applied = None;
        if let Ok(spec) = &mut self.spec {
            RawValue::NULL.clone_into(&mut spec.message.body);
            spec.message.headers.clear();
        }
        self
    }

    /// How many bytes that has.
    #[must_use]
    pub fn bulk(&self) -> usize {
        let message = self.spec.as_ref().map(|spec| &spec.message);
        let parts = message.map_or(0, |message| {
            let headers = message.headers.iter().map(|(name, value)| name.len() + value.get().len());
            message.body.get().len() + headers.sum::<usize>()
        });
        parts + self.last_applied.as_ref().map_or(0, String::len)
    }

    /// The environment whose broker gets it, if it can be read.
    #[must_use]
    pub fn environment(&self) -> Option<Environment> {
        self.spec.as_ref().ok().map(|spec| spec.env)
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
    fn from(incoming: RawObject<'_>) -> Self {
        let spec = incoming.spec.map(|raw| decode_spec(raw.get()));
        let status = incoming.status.and_then(|raw| serde_json::from_str(raw.get()).ok());
        Self::new(incoming.metadata, spec, status)
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
        return format!("{field}.{name} is missing: add it");
    }
    let Some((found, expected)) = detail.rsplit_once(", expected ") else {
        return match detail {
            // A list, a null or a number where one of several names is to stand.
            "expected value" => format!("{field} must be a string: kubectl explain fmsg.{field} tells which"),
            detail => format!("{field} can't be read: {}", printable(detail, MAX_PHRASE)),
        };
    };
    let names;
    let expected = match expected {
        "u8" => "an integer from 0 to 255",
        // Both of this type count retries or seconds, and end where the schema says.
        "u32" => "an integer from 0 to 2147483647",
        "i64" => "an integer of 64 bits",
        "a map" => "an object",
        expected => {
            names = expected.replace('`', "");
            &names
        }
    };
    format!("{field} is {}, but must be {expected}: correct it", printable(&kind_found(found), MAX_PHRASE))
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
