//! The custom resource's spec and status. The CRD is generated from them, with its admission rules and
//! the texts of `kubectl explain`.
//!
//! The program decodes resources into [`FedoraMessage`](crate::api::object::FedoraMessage).
//! [`validate`](crate::message::validate) checks the values of the fields again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use strum::{EnumString, FromRepr, IntoStaticStr, VariantArray};

use super::crd;

/// API group of the resource.
pub const GROUP: &str = "apps.fedoraproject.org";
/// API version of the resource.
pub const VERSION: &str = "v1alpha1";
/// Group and version, as in manifests and API paths.
pub const API_VERSION: &str = "apps.fedoraproject.org/v1alpha1";
/// Kind of the resource.
pub const KIND: &str = "FedoraMessage";
/// Plural name of the resource, as in API paths.
pub const PLURAL: &str = "fedoramessages";
/// Annotation: a new value makes the operator try a message again that it has given up.
pub const RETRY_ANNOTATION: &str = "apps.fedoraproject.org/retry";

/// Annotation: `"true"` keeps a sent message that sets no time to live, whatever the default is.
pub const IGNORE_DEFAULT_TTL_ANNOTATION: &str = "apps.fedoraproject.org/ignore-default-ttl";

/// The message, and the Sender or the client certificate to send it with. Only `suspend` can be changed,
/// because the message may have been sent already.
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
    doc = "A message for Fedora's message bus. The operator publishes it to the RabbitMQ broker of its environment, as the fedora-messaging library would, and writes the result to the status.",
    validation = crd::only_suspend_changes(),
    validation = crd::suspend_stays_after_end(),
    selectable = ".spec.env",
    selectable = ".spec.ttlSecondsAfterFinished",
    selectable = ".status.status",
    selectable = ".status.reason",
    printcolumn = r#"{"name":"Env", "type":"string", "jsonPath":".status.env", "description":"The environment whose broker gets the message, from the spec or the Sender"}"#,
    printcolumn = r#"{"name":"Topic", "type":"string", "jsonPath":".spec.message.topic", "description":"The topic, without the configured prefix"}"#,
    printcolumn = r#"{"name":"Sent", "type":"boolean", "jsonPath":".status.status", "description":"True if the broker confirmed the message"}"#,
    printcolumn = r#"{"name":"Reason", "type":"string", "jsonPath":".status.reason", "description":"The result of the last attempt in one word"}"#,
    printcolumn = r#"{"name":"Sender", "type":"string", "jsonPath":".spec.senderRef.name", "description":"The FedoraMessageSender that the message names", "priority":1}"#,
    printcolumn = r#"{"name":"Message-ID", "type":"string", "jsonPath":".status.messageId", "description":"The message's id on the bus", "priority":1}"#,
    printcolumn = r#"{"name":"Sent-Time", "type":"string", "jsonPath":".status.sentTime", "description":"When the broker confirmed the message", "priority":1}"#,
    printcolumn = r#"{"name":"Attempts", "type":"integer", "jsonPath":".status.attempts", "description":"The number of delivery attempts", "priority":1}"#,
    printcolumn = r#"{"name":"Age", "type":"date", "jsonPath":".metadata.creationTimestamp", "description":"The time since the message was created"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.authentication) || !has(self.senderRef)").message("spec.authentication and spec.senderRef exclude each other: remove one of them"),
    validation = Rule::new("!has(self.authentication) || has(self.env)").message("spec.env is missing: add prod or stg, which spec.authentication needs")
)]
pub struct FedoraMessageSpec {
    /// The environment whose broker gets the message: `prod` or `stg`. Default: that of the Sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::environment")]
    pub env: Option<Environment>,
    /// The message itself: topic, body, headers and everything else that consumers see.
    #[serde(deserialize_with = "super::serde::object")]
    pub message: MessageSpec,
    /// The location of the client certificate, instead of a Sender. Set exactly one of these: `secretRef`
    /// for one Secret, its other spelling `secret_ref`, or all of `caSecretRef`, `certSecretRef` and
    /// `keySecretRef`.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub authentication: Option<AuthenticationSpec>,
    /// The `FedoraMessageSender` to send the message as. Default, unless `authentication` is set: the
    /// Sender `default` of the message's namespace.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub sender_ref: Option<SenderReference>,
    /// The number of seconds in which the message must be sent, or else the operator gives it up. They
    /// count from its creation, or from its resumption if it was suspended.
    /// Default: the Sender's, else no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::positive_seconds")]
    pub active_deadline_seconds: Option<i64>,
    /// The number of retries after a failed delivery, before the operator gives the message up.
    /// Default: the Sender's, else no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::count")]
    pub backoff_limit: Option<u32>,
    /// The number of seconds after which a sent or given-up message is deleted. Default: the Sender's,
    /// else for a sent message the operator's `--default-ttl-seconds-after-finished`, else never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::count")]
    pub ttl_seconds_after_finished: Option<u32>,
    /// If true, the message is not sent. This is the only field of the spec that can be changed, until
    /// the message is sent or given up. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::boolean")]
    pub suspend: Option<bool>,
}

impl FedoraMessageSpec {
    /// Returns the spec of this message, for the Sender `default`.
    #[must_use]
    pub fn of(message: MessageSpec) -> Self {
        Self {
            env: None,
            message,
            authentication: None,
            sender_ref: None,
            active_deadline_seconds: None,
            backoff_limit: None,
            ttl_seconds_after_finished: None,
            suspend: None,
        }
    }
}

/// Returns the custom resource definition.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    crd::polished(FedoraMessageDefinition::crd())
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

/// A value for each environment.
#[derive(Clone, Debug, Default)]
pub struct PerEnvironment<T> {
    /// The value for production.
    pub prod: T,
    /// The value for staging.
    pub stg: T,
}

impl<T> PerEnvironment<T> {
    /// Returns the value for an environment.
    #[must_use]
    pub fn of(&self, environment: Environment) -> &T {
        match environment {
            Environment::Prod => &self.prod,
            Environment::Stg => &self.stg,
        }
    }
}

/// The message itself: topic, body, headers and everything else that consumers see.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageSpec {
    /// The content: any JSON object. The API server stores numbers as 64-bit integers and floats: 1.0
    /// becomes 1, and an integer beyond 64 bits is rounded. Objects and lists may be nested 128 levels
    /// deep. `kubectl apply` without `--server-side` drops null values, and the operator then does not
    /// send the message. For a body with null values, use `--server-side` or `kubectl create`.
    #[schemars(schema_with = "crd::any_object")]
    pub body: Box<RawValue>,
    /// The topic, by which consumers select messages, for instance `nice.message`. It consists of words
    /// separated by single dots, without white space, control characters, `*` and `#`. It may have at
    /// most 255 bytes, together with the prefix that the operator adds.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new("size(bytes(self)) <= 255").message("spec.message.topic must have at most 255 bytes in UTF-8"),
        validation = Rule::new("!self.startsWith('.') && !self.endsWith('.') && !self.contains('..')").message("spec.message.topic must be words separated by single dots"),
        validation = Rule::new("!self.contains('*') && !self.contains('#')").message("spec.message.topic must not contain * or #, which are wildcards for subscriptions"),
        validation = Rule::new(r"!self.matches('[\\s\\p{Z}\\p{Cc}]')").message("spec.message.topic must not contain white space or control characters")
    )]
    pub topic: String,
    /// Additional headers, at most 1000. Values are strings, 64-bit integers or booleans, and keep their
    /// type. Names that begin with `fedora_messaging` are reserved, except for the filter headers
    /// `fedora_messaging_{user,group,rpm,container,module,flatpak}_NAME`, whose value must be true.
    /// `sent-at`, `priority`, `CC` and `BCC` can't be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crd::any_headers")]
    pub headers: BTreeMap<String, Box<RawValue>>,
    /// The severity of the message: `Debug`, `Info`, `Warning` or `Error`. Default: the Sender's, else the
    /// severity of the schema if the operator knows it, else `Info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// The entry point name of the message schema, for instance `bodhi.update.request.stable.v1`.
    /// Consumers drop a message that does not match its schema. If the operator knows the schema, it
    /// refuses such a message. Default: `base.message`, which any body matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_.-]+$')").message("spec.message.schema must be the name of an entry point: 1 to 255 letters, digits, dots, dashes and underscores"))]
    pub schema: Option<String>,
    /// The Python package that ships the schema, for instance `bodhi_messages`. Default:
    /// `fedora_messaging` for `base.message`. For other schemas, the package if the operator knows it,
    /// else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_.-]+$')").message("spec.message.schemaPackage must be the name of a Python package: 1 to 255 letters, digits, dots, dashes and underscores"))]
    pub schema_package: Option<String>,
    /// The AMQP priority, 0 to 255. Default: the Sender's, else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::octet")]
    pub priority: Option<u8>,
}

/// The severity of the message: `Debug`, `Info`, `Warning` or `Error`. Default: the Sender's, else the
/// severity of the schema if the operator knows it, else `Info`.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, FromRepr)]
#[repr(u8)]
pub enum Severity {
    /// Low: shown only on request.
    Debug = 10,
    /// Information. This is the default.
    #[default]
    Info = 20,
    /// A problem that people want to know about.
    Warning = 30,
    /// Critical: people should act on it.
    Error = 40,
}

impl Severity {
    /// Returns the library's number for it. [`from_repr`](Self::from_repr) does the reverse.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// The location of the client certificate: one Secret, or one key in each of three Secrets.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.secret_ref) ? 1 : 0) + (has(self.secretRef) ? 1 : 0) + (has(self.caSecretRef) || has(self.certSecretRef) || has(self.keySecretRef) ? 1 : 0) == 1").message("spec.authentication must name the certificate in exactly one way: secretRef, or secret_ref, or all of caSecretRef, certSecretRef and keySecretRef"),
    validation = Rule::new("has(self.caSecretRef) == has(self.certSecretRef) && has(self.certSecretRef) == has(self.keySecretRef)").message("spec.authentication needs all three of caSecretRef, certSecretRef and keySecretRef, or none")
)]
pub struct AuthenticationSpec {
    /// A Secret with the CA, the certificate and the private key. Its keys are `ca`, `cert`, `key`, or
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
    /// The Secret and its key with the CA certificates that verify the broker's certificate.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyReference>,
    /// The Secret and its key with the client certificate.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretKeyReference>,
    /// The Secret and its key with the private key of the client certificate.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<SecretKeyReference>,
}

impl AuthenticationSpec {
    /// Returns the names of the Secrets, each with its namespace if that is given.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let whole = [&self.secret_ref, &self.secret_ref_camel].into_iter().flatten();
        let keys = [&self.ca_secret_ref, &self.cert_secret_ref, &self.key_secret_ref].into_iter().flatten();
        let whole = whole.map(|it| (&it.name, &it.namespace));
        whole.chain(keys.map(|it| (&it.name, &it.namespace))).map(|(name, namespace)| (&**name, namespace.as_deref()))
    }
}

/// A `FedoraMessageSender` by name.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SenderReference {
    /// Name of the Sender.
    #[schemars(schema_with = "crd::sender_name")]
    pub name: String,
    /// Namespace of the Sender. Default: the namespace of the `FedoraMessage`. A Sender in another
    /// namespace must list the message's namespace in its `spec.allowedNamespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::namespace_name")]
    pub namespace: Option<String>,
}

/// A Secret by name.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(schema_with = "crd::secret_name")]
    pub name: String,
    /// Namespace of the Secret. Default: the namespace of the `FedoraMessage`. The owner of a Secret in
    /// another namespace must allow its use: the annotation `apps.fedoraproject.org/allowed-namespaces`
    /// on the Secret lists the allowed namespaces, separated by commas, or is `*`.
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
    /// Namespace of the Secret. Default: the namespace of the `FedoraMessage`. The owner of a Secret in
    /// another namespace must allow its use: the annotation `apps.fedoraproject.org/allowed-namespaces`
    /// on the Secret lists the allowed namespaces, separated by commas, or is `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::namespace_name")]
    pub namespace: Option<String>,
}

/// The state of the message. Only the operator writes it.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FedoraMessageStatus {
    /// Always `FedoraMessageSent`. `status`, `reason` and `message` belong to this condition.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// True if the broker has confirmed the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<bool>,
    /// The result of the last attempt in one word, such as `Sent` or `BrokerUnreachable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The result of the last attempt in a sentence, with advice if something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `FedoraMessageSent` is true if the broker has confirmed the message. `Reconciling` is present
    /// while the operator will try again. `Stalled` is present after the operator has given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the resource for which this status was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::int64")]
    pub observed_generation: Option<i64>,
    /// The environment whose broker gets the message, from the spec or the Sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::environment")]
    pub env: Option<Environment>,
    /// The message's id on the bus, which is the uid of this resource. Datagrepper finds the message
    /// by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The time when the broker confirmed the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::time")]
    pub sent_time: Option<DateTime<Utc>>,
    /// The routing key of the message: the configured prefix and the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<String>,
    /// The number of delivery attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::count")]
    pub attempts: Option<u32>,
    /// The time of the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::time")]
    pub next_attempt_time: Option<DateTime<Utc>>,
    /// The delivery mode: `direct` if the operator sends the message itself, `pod` if a Pod sends it
    /// with fedora-messaging's own command. It is missing until the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_mode: Option<String>,
    /// The time when a suspended message was resumed. `activeDeadlineSeconds` counts from this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::time")]
    pub start_time: Option<DateTime<Utc>>,
    /// The time since which the broker has refused the topic in every attempt. The operator gives the
    /// message up after five minutes of refusals, because permissions may come after the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::time")]
    pub forbidden_time: Option<DateTime<Utc>>,
    /// The value of the annotation `apps.fedoraproject.org/retry` that the operator has acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_retry: Option<String>,
}
