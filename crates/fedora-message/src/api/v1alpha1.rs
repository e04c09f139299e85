//! The custom resource: spec and status, from which the CRD is generated, admission rules and the
//! texts of `kubectl explain` included.
//!
//! The program decodes resources into [`FedoraMessage`](crate::api::object::FedoraMessage). What the
//! fields may hold is checked again in [`validate`](crate::message::validate).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::crd;

/// API group of the resource.
pub const GROUP: &str = "apps.fedoraproject.org";
/// API version of the resource.
pub const VERSION: &str = "v1alpha1";
/// Both, as manifests name them and API paths have them.
pub const API_VERSION: &str = "apps.fedoraproject.org/v1alpha1";
/// Kind of the resource.
pub const KIND: &str = "FedoraMessage";
/// Plural name of the resource, as in API paths.
pub const PLURAL: &str = "fedoramessages";
/// When the value of this annotation changes, a stopped message is tried once more.
pub const RETRY_ANNOTATION: &str = "apps.fedoraproject.org/retry";

/// What to send, to which environment, and with which certificate. It can't be changed, as the
/// message may have been sent already: only `suspend` may.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[kube(
    group = "apps.fedoraproject.org",
    version = "v1alpha1",
    kind = "FedoraMessage",
    root = "FedoraMessageDefinition",
    plural = "fedoramessages",
    shortname = "fmsg",
    category = "fedora",
    namespaced,
    status = "FedoraMessageStatus",
    doc = "A message for Fedora's message bus. The operator publishes it to the RabbitMQ broker of its environment, as the fedora-messaging library would, and records in the status what became of it.",
    validation = crd::only_suspend_changes(),
    selectable = ".spec.env",
    selectable = ".spec.ttlSecondsAfterFinished",
    selectable = ".status.status",
    selectable = ".status.reason",
    printcolumn = r#"{"name":"Env", "type":"string", "jsonPath":".spec.env", "description":"The environment whose broker gets the message"}"#,
    printcolumn = r#"{"name":"Topic", "type":"string", "jsonPath":".spec.message.topic", "description":"The topic, without the configured prefix"}"#,
    printcolumn = r#"{"name":"Sent", "type":"boolean", "jsonPath":".status.status", "description":"Whether the broker confirmed the message"}"#,
    printcolumn = r#"{"name":"Reason", "type":"string", "jsonPath":".status.reason", "description":"What became of the message, in one word"}"#,
    printcolumn = r#"{"name":"Message-ID", "type":"string", "jsonPath":".status.messageId", "description":"The message's id on the bus", "priority":1}"#,
    printcolumn = r#"{"name":"Sent-Time", "type":"string", "jsonPath":".status.sentTime", "description":"When the broker confirmed the message", "priority":1}"#,
    printcolumn = r#"{"name":"Attempts", "type":"integer", "jsonPath":".status.attempts", "description":"How often delivery was tried", "priority":1}"#,
    printcolumn = r#"{"name":"Age", "type":"date", "jsonPath":".metadata.creationTimestamp", "description":"Since when the message exists"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct FedoraMessageSpec {
    /// The environment whose broker gets the message: `prod` or `stg`.
    pub env: Environment,
    /// The message itself: topic, body, headers and what else consumers see.
    #[serde(deserialize_with = "super::serde::object")]
    pub message: MessageSpec,
    /// Where the client certificate is with which to send, in exactly one of these ways: one Secret
    /// as `secretRef`, the same as `secret_ref`, or all of `caSecretRef`, `certSecretRef` and
    /// `keySecretRef`.
    #[serde(deserialize_with = "super::serde::object")]
    pub authentication: AuthenticationSpec,
    /// Within how many seconds of its creation, or of being resumed if it was suspended, the message
    /// must be sent, or else it is given up. Unset: it is tried until it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::positive_seconds")]
    pub active_deadline_seconds: Option<i64>,
    /// How many times a failed delivery is tried again before the message is given up. Unset: it is
    /// tried until it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::count")]
    pub backoff_limit: Option<u32>,
    /// How many seconds after the message was sent or given up this resource is deleted. Unset: as
    /// the operator's `--default-ttl-seconds-after-finished` says, without which it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::count")]
    pub ttl_seconds_after_finished: Option<u32>,
    /// While true, the message is not sent. The only field of the spec that may change. Default:
    /// false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::boolean")]
    pub suspend: Option<bool>,
}

/// The custom resource definition, as it is installed.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut crd = FedoraMessageDefinition::crd();
    let versions = crd.spec.versions.iter_mut();
    for schema in versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        crd::without_nulls(schema);
        crd::without_line_breaks(schema);
    }
    crd
}

/// One of Fedora's two message buses.
#[derive(
    JsonSchema,
    Clone,
    Copy,
    Debug,
    Deserialize,
    Serialize,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Environment {
    /// Production.
    Prod,
    /// Staging.
    Stg,
}

impl Environment {
    /// Returns the value of `spec.env`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The message itself: topic, body, headers and what else consumers see.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageSpec {
    /// The content: any JSON object. Numbers are sent as the API server keeps them, which is as
    /// 64-bit integers and floats: 1.0 becomes 1, and an integer beyond 64 bits is rounded. Objects
    /// and lists may be nested 128 levels deep. `kubectl apply` drops null values unless it is told
    /// `--server-side`, and the message is then not sent: use that, or `kubectl create`.
    #[schemars(schema_with = "crd::any_object")]
    pub body: Box<RawValue>,
    /// What consumers select messages by, for instance `nice.message`: words separated by single
    /// dots, without white space, control characters, `*` and `#`. At most 255 bytes, together with
    /// the prefix that the operator puts before it.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new("size(bytes(self)) <= 255").message("spec.message.topic must have at most 255 bytes in UTF-8: shorten it"),
        validation = Rule::new("!self.startsWith('.') && !self.endsWith('.') && !self.contains('..')").message("spec.message.topic must be words separated by single dots: remove leading, trailing and doubled dots"),
        validation = Rule::new("!self.contains('*') && !self.contains('#')").message("spec.message.topic must not contain * or #, which are wildcards of subscriptions: name one topic"),
        validation = Rule::new(r"!self.matches('[\\s\\p{Z}\\p{Cc}]')").message("spec.message.topic must not contain white space or control characters: remove them")
    )]
    pub topic: String,
    /// Headers of your own, beside those that the operator sets; at most 1000. Values are strings,
    /// 64-bit integers or booleans, and keep their type. Names that begin with `fedora_messaging` are reserved, but
    /// for the filter headers `fedora_messaging_{user,group,rpm,container,module,flatpak}_NAME`,
    /// whose value is true. `sent-at`, `priority`, `CC` and `BCC` can't be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crd::any_headers")]
    pub headers: BTreeMap<String, Box<RawValue>>,
    /// How important the message is: `Debug`, `Info`, `Warning` or `Error`. Default: `Info`, unless the
    /// operator knows the schema and that has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// The message schema's entry point name, for instance `bodhi.update.request.stable.v1`. If the
    /// operator knows the schema, it refuses a message that doesn't fit; consumers drop it in any case.
    /// Default: `base.message`, which any body fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_.-]+$')").message("spec.message.schema must be the name of an entry point: 1 to 255 letters, digits, dots, dashes and underscores"))]
    pub schema: Option<String>,
    /// The Python package that ships the schema, for instance `bodhi_messages`. Default:
    /// `fedora_messaging` for `base.message`; for other schemas what the operator knows of them, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_.-]+$')").message("spec.message.schemaPackage must be the name of a Python package: 1 to 255 letters, digits, dots, dashes and underscores"))]
    pub schema_package: Option<String>,
    /// The AMQP priority, 0 to 255. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::octet")]
    pub priority: Option<u8>,
}

/// How important the message is: `Debug`, `Info`, `Warning` or `Error`. Default: `Info`, unless the
/// operator knows the schema and that has another.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum Severity {
    /// Of low priority; shown only to those who ask for it.
    Debug,
    /// For information; the default.
    #[default]
    Info,
    /// A problem that people want to know about.
    Warning,
    /// Critical; people should act on it.
    Error,
}

/// Where the client certificate is: in one Secret, or in three with one key each.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.secret_ref) ? 1 : 0) + (has(self.secretRef) ? 1 : 0) + (has(self.caSecretRef) || has(self.certSecretRef) || has(self.keySecretRef) ? 1 : 0) == 1").message("spec.authentication must name the certificate in exactly one way: secretRef, or secret_ref, or all of caSecretRef, certSecretRef and keySecretRef"),
    validation = Rule::new("has(self.caSecretRef) == has(self.certSecretRef) && has(self.certSecretRef) == has(self.keySecretRef)").message("spec.authentication needs all three of caSecretRef, certSecretRef and keySecretRef, or none: add those that are missing")
)]
pub struct AuthenticationSpec {
    /// A Secret that holds the CA, the certificate and the key, as the keys `ca`, `cert`, `key`, or
    /// `ca.crt`, `tls.crt`, `tls.key`, or `cacert.pem`, `cert.pem`, `key.pem`.
    #[serde(
        rename = "secret_ref",
        default,
        deserialize_with = "super::serde::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub secret_ref: Option<SecretReference>,
    /// The same as `secret_ref`, in the usual spelling of Kubernetes.
    #[serde(
        rename = "secretRef",
        default,
        deserialize_with = "super::serde::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub secret_ref_camel: Option<SecretReference>,
    /// The Secret and the key in it that hold the CA certificates which the broker's certificate is
    /// checked against.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyReference>,
    /// The Secret and the key in it that hold the client certificate.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretKeyReference>,
    /// The Secret and the key in it that hold the client certificate's private key.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<SecretKeyReference>,
}

impl AuthenticationSpec {
    /// The Secrets that it names: their names, and their namespaces where it says them.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let whole = [&self.secret_ref, &self.secret_ref_camel].into_iter().flatten();
        let keys = [&self.ca_secret_ref, &self.cert_secret_ref, &self.key_secret_ref].into_iter().flatten();
        let whole = whole.map(|it| (&it.name, &it.namespace));
        whole.chain(keys.map(|it| (&it.name, &it.namespace))).map(|(name, namespace)| (&**name, namespace.as_deref()))
    }

    /// The namespaces that it names.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.secrets().filter_map(|(_, namespace)| namespace)
    }
}

/// A Secret by name.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(schema_with = "crd::secret_name")]
    pub name: String,
    /// Namespace of the Secret. Default: that of the `FedoraMessage`. A Secret in another namespace
    /// is used only if its annotation `apps.fedoraproject.org/allowed-namespaces` names that of the
    /// `FedoraMessage`, in a list separated by commas, or is `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::namespace_name")]
    pub namespace: Option<String>,
}

/// One key of a Secret.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(schema_with = "crd::secret_name")]
    pub name: String,
    /// Key within the Secret's data.
    #[schemars(schema_with = "crd::secret_key")]
    pub key: String,
    /// Namespace of the Secret. Default: that of the `FedoraMessage`. A Secret in another namespace
    /// is used only if its annotation `apps.fedoraproject.org/allowed-namespaces` names that of the
    /// `FedoraMessage`, in a list separated by commas, or is `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::namespace_name")]
    pub namespace: Option<String>,
}

/// What became of the message. Written by the operator alone.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FedoraMessageStatus {
    /// Always `FedoraMessageSent`: what `status`, `reason` and `message` speak of.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// True once the broker confirmed the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<bool>,
    /// What became of the message, in one word, such as `Sent` or `BrokerUnreachable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in a sentence, with what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `FedoraMessageSent`: whether the broker confirmed the message. `Reconciling`: present while
    /// it will be tried again. `Stalled`: present once it was given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the resource that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::int64")]
    pub observed_generation: Option<i64>,
    /// The message's id on the bus: the uid of this resource. Datagrepper finds the message by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// When the broker confirmed the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::time")]
    pub sent_time: Option<DateTime<Utc>>,
    /// The routing key with which the message was or would be published: the configured prefix and
    /// the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<String>,
    /// How often delivery to the broker was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::count")]
    pub attempts: Option<u32>,
    /// When the message is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::time")]
    pub next_attempt_time: Option<DateTime<Utc>>,
    /// How the message was or would be delivered: `direct`, by the operator itself, or `pod`, by a
    /// Pod that runs fedora-messaging's own command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_mode: Option<String>,
    /// When a message that had been suspended was resumed; `activeDeadlineSeconds` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::time")]
    pub start_time: Option<DateTime<Utc>>,
    /// The value of the annotation `apps.fedoraproject.org/retry` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_retry: Option<String>,
}
