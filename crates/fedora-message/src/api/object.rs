//! A `FedoraMessage` from a list or watch, with only the fields that a delivery needs.
//!
//! The body and header values stay raw JSON, so that the same bytes are sent and deep nesting can't
//! stop the decoder. Managed fields, which repeat the nesting, are never decoded
//! (docs/decisions/0006).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_path_to_error::Track;

use crate::api::deployment_tool::{DeploymentTool, Labels};
use crate::api::names::{DEFAULT_SENDER, SenderName, SourceName};
use crate::api::serde::object;
use crate::api::v1alpha1::{
    AuthenticationSpec, Environment, FedoraMessageDefinition, FedoraMessageSpec, FedoraMessageStatus, SenderReference,
};
use crate::text::{MAX_PHRASE, printable};

/// The status that the CRD gives a new resource, as API servers write it (docs/decisions/0052).
pub(super) const FIRST_STATUS: &str = r#"{"observedGeneration":-1}"#;

/// Short name of the resource, as `kubectl` takes it.
const SHORT_NAME: &str = "fmsg";

/// An error in the JSON of a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The resource has no spec.
    #[error("spec is missing: add message with topic and body")]
    Missing,
    /// A field can't be decoded. The text names the field and its problem.
    #[error("{0}")]
    Unreadable(String),
}

/// A `FedoraMessage` as the program holds it: only what a delivery needs.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = FedoraMessageDefinition)]
#[serde(from = "RawObject<'_>")]
pub struct FedoraMessage {
    /// Name, namespace, uid, generation and resource version. The other fields are empty.
    pub metadata: ObjectMeta,
    /// The time when the API server stored the resource, which is the message's `sent-at`.
    pub created: Option<DateTime<Utc>>,
    /// True if the resource is being deleted. It may stay for long, until its last finalizer is gone,
    /// and it never becomes a message again.
    pub deleting: bool,
    /// The value of the annotation [`RETRY_ANNOTATION`](super::v1alpha1::RETRY_ANNOTATION).
    pub retry: Option<String>,
    /// The last configuration that client-side `kubectl apply` was given, if it holds a null.
    pub last_applied: Option<String>,
    /// The spec as JSON, as it came. [`spec`](Self::spec) decodes it.
    pub spec_json: Option<Box<str>>,
    /// The fields of the spec that are needed before it is decoded.
    pub summary: Arc<Summary>,
    /// The last status.
    pub status: Option<Box<FedoraMessageStatus>>,
}

/// The fields of a spec that the work queue and the policies need, with those that its Sender gives.
///
/// Most messages of an application have the same summary, so the queue holds each one once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Summary {
    /// The namespace of the resource.
    pub namespace: String,
    /// False if the spec can't be decoded. Such a message is refused later, because it must not stop the
    /// list or watch that brought it.
    pub readable: bool,
    /// `spec.suspend`.
    pub suspend: bool,
    /// The tool that would create the resource again, if it were deleted.
    pub tool: Option<DeploymentTool>,
    /// True if the annotation [`IGNORE_DEFAULT_TTL_ANNOTATION`](super::v1alpha1::IGNORE_DEFAULT_TTL_ANNOTATION) says so.
    pub ignores_default_ttl: bool,
    /// The Sender that the message is sent as, unless it names a certificate itself.
    pub sender: Option<SenderName>,
    /// The fields of the spec.
    own: SummaryFields,
    /// The fields that the Sender gives, if it is there and the message may use it.
    sender_fields: Option<Arc<SummaryFields>>,
}

/// The fields that decide where a message goes, when it is given up, and when its resource is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SummaryFields {
    /// The environment whose broker gets the message.
    pub environment: Option<Environment>,
    /// The Secrets and `ConfigMaps` with the certificates.
    pub sources: Vec<SourceName>,
    /// `activeDeadlineSeconds`.
    pub active_deadline_seconds: Option<i64>,
    /// `backoffLimit`.
    pub backoff_limit: Option<u32>,
    /// `ttlSecondsAfterFinished`.
    pub ttl_seconds_after_finished: Option<u32>,
}

/// The fields of a spec that a [`Summary`] needs. The decoder skips the others at any depth.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummarySpec {
    env: Option<Environment>,
    authentication: Option<AuthenticationSpec>,
    sender_ref: Option<SenderReference>,
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
        let source = |(name, other): (&str, Option<&str>)| SourceName::secret(other.unwrap_or(&namespace), name);
        let sender = sender_name(&namespace, spec.sender_ref.as_ref(), spec.authentication.is_some());
        Self {
            readable: true,
            suspend: spec.suspend.unwrap_or_default(),
            sender,
            own: SummaryFields {
                environment: spec.env,
                sources: spec.authentication.iter().flat_map(AuthenticationSpec::secrets).map(source).collect(),
                active_deadline_seconds: spec.active_deadline_seconds,
                backoff_limit: spec.backoff_limit,
                ttl_seconds_after_finished: spec.ttl_seconds_after_finished,
            },
            namespace,
            ..Self::default()
        }
    }

    /// Sets the fields that the Sender gives now, if there is one that the message may use.
    pub fn set_sender_fields(&mut self, fields: Option<Arc<SummaryFields>>) {
        self.sender_fields = fields;
    }

    /// Returns true if the message itself sets its time to live, or has no Sender that could.
    #[must_use]
    pub fn fixes_time_to_live(&self) -> bool {
        self.sender.is_none() || self.own_ttl().is_some()
    }

    /// The fields that the Sender gives, if there is one that the message may use.
    #[must_use]
    pub fn sender_fields(&self) -> Option<&Arc<SummaryFields>> {
        self.sender_fields.as_ref()
    }

    /// The environment whose broker gets the message. `None` if the spec can't be decoded, or if only the
    /// Sender would name it and is not there.
    #[must_use]
    pub fn environment(&self) -> Option<Environment> {
        self.own.environment.or_else(|| self.sender_fields.as_ref()?.environment)
    }

    /// The Secrets and `ConfigMaps` with the certificates.
    #[must_use]
    pub fn sources(&self) -> &[SourceName] {
        self.sender_fields.as_ref().map_or(&self.own.sources, |fields| &fields.sources)
    }

    /// The namespace whose messages may use these Secrets: the Sender's, or that of the message.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.sender.as_ref().map_or(&self.namespace, |sender| &sender.namespace)
    }

    /// `activeDeadlineSeconds` of the message or its Sender.
    #[must_use]
    pub fn active_deadline_seconds(&self) -> Option<i64> {
        self.own.active_deadline_seconds.or_else(|| self.sender_fields.as_ref()?.active_deadline_seconds)
    }

    /// `backoffLimit` of the message or its Sender.
    #[must_use]
    pub fn backoff_limit(&self) -> Option<u32> {
        self.own.backoff_limit.or_else(|| self.sender_fields.as_ref()?.backoff_limit)
    }

    /// `ttlSecondsAfterFinished` of the message itself.
    #[must_use]
    pub fn own_ttl(&self) -> Option<u32> {
        self.own.ttl_seconds_after_finished
    }

    /// `ttlSecondsAfterFinished` of the message, else of its Sender, else the operator's `default`.
    ///
    /// The two defaults spare a message that a tool would create again, and so send again, for ever.
    #[must_use]
    pub fn ttl_seconds_after_finished(&self, default: Option<u32>) -> Option<u32> {
        let of_sender = || self.sender_fields.as_ref()?.ttl_seconds_after_finished;
        let is_spared = self.tool.is_some() || self.ignores_default_ttl;
        self.own_ttl().or_else(|| of_sender().or(default).filter(|_| !is_spared))
    }
}

/// Returns the Sender of a message in `namespace`, unless the message names a certificate itself.
fn sender_name(namespace: &str, reference: Option<&SenderReference>, has_certificate: bool) -> Option<SenderName> {
    match reference {
        None if has_certificate => None,
        None => Some(SenderName::new(namespace, DEFAULT_SENDER)),
        Some(SenderReference { name, namespace: other }) => {
            Some(SenderName::new(other.as_deref().unwrap_or(namespace), name))
        }
    }
}

impl FedoraMessage {
    /// Returns a message from a file and the paths of its unknown fields. The caller has filled in the
    /// metadata as an API server would.
    #[must_use]
    pub fn from_manifest(metadata: Metadata, spec: Option<&RawValue>) -> (Self, Vec<String>) {
        let unknown = spec.map(|raw| {
            let mut decoder = serde_json::Deserializer::from_str(raw.get());
            unknown_fields::<FedoraMessageSpec>(&mut decoder)
        });
        (Self::new(metadata, spec, None), unknown.unwrap_or_default())
    }

    /// Returns a message of this spec. The caller has filled in the metadata as an API server would.
    pub fn of_spec(metadata: Metadata, spec: &FedoraMessageSpec) -> serde_json::Result<Self> {
        let raw = serde_json::value::to_raw_value(spec)?;
        Ok(Self::new(metadata, Some(&raw), None))
    }

    fn new(mut metadata: Metadata, spec: Option<&RawValue>, status: Option<Box<FedoraMessageStatus>>) -> Self {
        let labels = metadata.labels.take().unwrap_or_default();
        let Annotations { retry, last_applied, ignore_default_ttl, argocd_tracking_id, helm_release } =
            metadata.annotations.take().unwrap_or_default();
        let spec = spec.map(RawValue::get);
        let mut summary = Summary::new(metadata.namespace.as_deref().unwrap_or_default(), spec);
        summary.tool = labels.tool(argocd_tracking_id.is_some(), helm_release.is_some());
        summary.ignores_default_ttl = ignore_default_ttl.as_deref() == Some("true");
        Self {
            summary: Arc::new(summary),
            created: metadata.creation_timestamp,
            deleting: metadata.deletion_timestamp.is_some(),
            metadata: metadata.into_object(),
            retry: retry.map(shortened),
            last_applied: last_applied.filter(|text| memchr::memmem::find(text.as_bytes(), b"null").is_some()),
            spec_json: spec.map(Into::into),
            status,
        }
    }

    /// Decodes the spec. An error names the field and its problem.
    pub fn spec(&self) -> Result<Box<FedoraMessageSpec>, SpecError> {
        self.spec_json
            .as_deref()
            .map_or(Err(SpecError::Missing), |json| decode(json, SHORT_NAME).map_err(SpecError::Unreadable))
    }

    /// Replaces the spec.
    pub fn set_spec(&mut self, spec: &FedoraMessageSpec) -> serde_json::Result<()> {
        self.spec_json = Some(serde_json::to_string(spec)?.into());
        Ok(())
    }

    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The resource's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The resource's uid, which is also the message's id on the bus.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Returns the length of the spec and of the last applied configuration, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.spec_json.as_ref().map_or(0, |json| json.len()) + self.last_applied.as_ref().map_or(0, String::len)
    }

    /// The environment whose broker gets the message, if the message or its Sender names one.
    #[must_use]
    pub fn environment(&self) -> Option<Environment> {
        self.summary.environment()
    }

    /// The time since the resource was created.
    #[must_use]
    pub fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        age(self.created, now)
    }
}

/// Returns the time since `created`, or zero if that is unknown.
pub(crate) fn age(created: Option<DateTime<Utc>>, now: DateTime<Utc>) -> TimeDelta {
    created.map_or(TimeDelta::zero(), |created| now - created)
}

/// The parts of a `FedoraMessage` that are decoded.
#[derive(Deserialize)]
struct RawObject<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

/// The metadata of a `FedoraMessage` that are decoded.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The resource's name.
    pub name: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its uid, which becomes the message's id.
    pub uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    /// The creation time, which becomes the message's time.
    pub creation_timestamp: Option<DateTime<Utc>>,
    deletion_timestamp: Option<IgnoredAny>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
}

impl Metadata {
    /// Returns the fields that requests to the API server need.
    pub(super) fn into_object(self) -> ObjectMeta {
        ObjectMeta {
            name: self.name,
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            generation: self.generation,
            ..ObjectMeta::default()
        }
    }
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "apps.fedoraproject.org/retry")]
    retry: Option<String>,
    /// The manifest that client-side `kubectl apply` was given, as JSON in a string.
    #[serde(rename = "kubectl.kubernetes.io/last-applied-configuration")]
    last_applied: Option<String>,
    #[serde(rename = "apps.fedoraproject.org/ignore-default-ttl")]
    ignore_default_ttl: Option<String>,
    #[serde(rename = "argocd.argoproj.io/tracking-id")]
    argocd_tracking_id: Option<IgnoredAny>,
    #[serde(rename = "meta.helm.sh/release-name")]
    helm_release: Option<IgnoredAny>,
}

impl From<RawObject<'_>> for FedoraMessage {
    fn from(raw: RawObject<'_>) -> Self {
        // The CRD's default says nothing, and decoding it would cost each new message an allocation.
        let written = raw.status.map(RawValue::get).filter(|json| *json != FIRST_STATUS);
        let status = written.and_then(|json| serde_json::from_str(json).ok());
        Self::new(raw.metadata, raw.spec, status)
    }
}

/// Shortens the retry token. Only its beginning is compared and stored in the status.
fn shortened(mut token: String) -> String {
    const LONGEST: usize = 256;
    token.truncate(token.floor_char_boundary(LONGEST));
    token
}

/// Decodes a spec. An error names the field and its problem. `short_name` is the resource's, for
/// `kubectl explain`.
pub(super) fn decode<T: DeserializeOwned>(json: &str, short_name: &str) -> Result<T, String> {
    object(&mut serde_json::Deserializer::from_str(json)).map_err(|error| describe::<T>(json, short_name, error))
}

/// Returns the paths of the fields of a spec that are not in `T`. If the spec can't be decoded, those who decode it
/// report the error.
pub(super) fn unknown_fields<'de, T: Deserialize<'de>>(spec: impl Deserializer<'de>) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(format!("spec.{path}"));
    let _ = object::<_, T>(serde_ignored::Deserializer::new(spec, &mut note));
    unknown
}

/// Describes a decoder's error with the path of the field.
///
/// The spec is decoded again for that, because tracking the path is expensive and most specs can be
/// decoded (docs/measurements.md).
fn describe<T: DeserializeOwned>(json: &str, short_name: &str, error: serde_json::Error) -> String {
    let mut track = Track::new();
    let mut raw = serde_json::Deserializer::from_str(json);
    let again = object::<_, T>(serde_path_to_error::Deserializer::new(&mut raw, &mut track));
    let error = again.err().unwrap_or(error);
    let field = match track.path().to_string().as_str() {
        "." => "spec".to_owned(),
        path => format!("spec.{path}"),
    };
    translate(&printable(&field, MAX_PHRASE), short_name, &without_position(&error))
}

/// Translates a decoder's message into the user's terms, without the names of Rust types.
fn translate(field: &str, short_name: &str, detail: &str) -> String {
    if let Some(name) = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("{field}.{name} is missing");
    }
    let Some((found, expected)) = detail.rsplit_once(", expected ") else {
        return match detail {
            // The field must be one of several names, but is a list, a null or a number.
            "expected value" => format!("{field} must be a string: see kubectl explain {short_name}.{field}"),
            detail => format!("{field} can't be read: {}", printable(detail, MAX_PHRASE)),
        };
    };
    let names;
    let expected = match expected {
        "u8" => "an integer from 0 to 255",
        // Both fields of this type count retries or seconds. The schema has this limit.
        "u32" => "an integer from 0 to 2147483647",
        "i64" => "a 64-bit integer",
        "a map" => "an object",
        expected => {
            names = expected.replace('`', "");
            &names
        }
    };
    format!("{field} is {}, but must be {expected}", printable(&translate_found(found), MAX_PHRASE))
}

/// Translates the first half of a decoder's message: the value, or its type.
fn translate_found(detail: &str) -> String {
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

/// Returns a decoder's message without line and column, which mean nothing to users who write YAML.
fn without_position(error: &serde_json::Error) -> String {
    let detail = error.to_string();
    match detail.rfind(" at line ") {
        Some(end) => detail[..end].to_owned(),
        None => detail,
    }
}

#[cfg(test)]
mod tests;
