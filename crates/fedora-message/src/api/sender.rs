//! The custom resource of a Sender: what an application sets up once, so that its messages are a topic
//! and a body. The CRD is generated from these types.
//!
//! The program decodes Senders into [`FedoraMessageSender`], which can hold one whose spec can't be
//! read. [`Sender::new`](crate::message::sender::Sender::new) checks the values of the fields again.

// Not on the struct: a derive macro copies it without the attribute.
#![expect(clippy::struct_field_names, reason = "they are the names in the resource")]

use chrono::{DateTime, Utc};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{CustomResource, CustomResourceExt, KubeSchema, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::crd;
use super::names::SenderName;
use super::object::{Metadata, decode, unknown_fields};
use super::v1alpha1::{Environment, Severity};

/// Kind of the resource.
pub const KIND: &str = "FedoraMessageSender";
/// Plural name of the resource, as in API paths.
pub const PLURAL: &str = "fedoramessagesenders";
/// Short name of the resource, as `kubectl` takes it.
const SHORT_NAME: &str = "fmsender";

/// The setup of an application that sends messages, made once: its environment, topic prefix and client
/// certificate.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[kube(
    group = "apps.fedoraproject.org",
    version = "v1alpha1",
    kind = "FedoraMessageSender",
    root = "FedoraMessageSenderDefinition",
    plural = "fedoramessagesenders",
    shortname = "fmsender",
    category = "fedora",
    namespaced,
    status = "FedoraMessageSenderStatus",
    doc = "The setup of an application that sends FedoraMessages, made once: its environment, topic prefix and client certificate. A message names it in spec.senderRef, or uses the one that is called default. The operator logs in to the broker with it, and writes the result to the status.",
    printcolumn = r#"{"name":"Ready", "type":"string", "jsonPath":".status.conditions[?(@.type==\"Ready\")].status", "description":"True if the operator logged in to the broker and found the exchange"}"#,
    printcolumn = r#"{"name":"Env", "type":"string", "jsonPath":".spec.env", "description":"The environment whose broker gets the messages"}"#,
    printcolumn = r#"{"name":"User", "type":"string", "jsonPath":".status.user", "description":"The common name of the client certificate, which at Fedora is the user at the broker"}"#,
    printcolumn = r#"{"name":"Expires", "type":"string", "jsonPath":".status.certificateExpirationTime", "description":"The time when the client certificate expires"}"#,
    printcolumn = r#"{"name":"Reason", "type":"string", "jsonPath":".status.conditions[?(@.type==\"Ready\")].reason", "description":"The result of the last check in one word"}"#,
    printcolumn = r#"{"name":"Broker", "type":"string", "jsonPath":".status.broker", "description":"The broker that was checked", "priority":1}"#,
    printcolumn = r#"{"name":"Age", "type":"date", "jsonPath":".metadata.creationTimestamp", "description":"The time since the Sender was created"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct FedoraMessageSenderSpec {
    /// The environment whose broker gets the messages: `prod` or `stg`.
    #[schemars(schema_with = "crd::environment")]
    pub env: Environment,
    /// The prefix of the messages' topics, for instance `org.fedoraproject.prod`. Default: the
    /// operator's prefix for the environment. The empty string stands for no prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::topic_prefix")]
    pub topic_prefix: Option<String>,
    /// The application, as the broker's administrators see it in the list of connections. Default: the
    /// namespace and the name of this resource.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationSpec>,
    /// The location of the client certificate, in the namespace of this resource. Set `secretRef`, or both
    /// of `certSecretRef` and `keySecretRef`. For the CA set at most one of `caSecretRef` and
    /// `caConfigMapRef`. Default for the CA: that in the Secret of `secretRef`, else the operator's.
    #[serde(deserialize_with = "super::serde::object")]
    pub authentication: SenderAuthenticationSpec,
    /// Other namespaces whose messages may use this Sender. `*` stands for all namespaces. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::allowed_namespaces")]
    pub allowed_namespaces: Vec<String>,
    /// Values for messages that do not set them.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub defaults: Option<SenderDefaultsSpec>,
}

/// The application, as the broker's administrators see it in the list of connections.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationSpec {
    /// The name of the application: the client property `app`.
    #[schemars(schema_with = "crd::short_text")]
    pub name: String,
    /// The version of the application: the client property `app_version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::short_text")]
    pub version: Option<String>,
    /// The address of the application's project or service: the client property `app_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::short_text")]
    pub url: Option<String>,
    /// Mail addresses of the people to contact, at most 10: the client property `app_contacts_email`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::contacts")]
    pub contacts: Vec<String>,
}

/// The location of a Sender's client certificate, in the Sender's own namespace.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretRef) != (has(self.certSecretRef) || has(self.keySecretRef))").message("spec.authentication must name the certificate in exactly one way: secretRef, or both of certSecretRef and keySecretRef"),
    validation = Rule::new("has(self.certSecretRef) == has(self.keySecretRef)").message("spec.authentication needs both of certSecretRef and keySecretRef, or none"),
    validation = Rule::new("!has(self.caSecretRef) || !has(self.caConfigMapRef)").message("spec.authentication must name the CA in at most one way: caSecretRef or caConfigMapRef")
)]
pub struct SenderAuthenticationSpec {
    /// A Secret with the certificate, the private key, and usually the CA. Its keys are `ca`, `cert`,
    /// `key`, or `ca.crt`, `tls.crt`, `tls.key`, or `cacert.pem`, `cert.pem`, `key.pem`.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
    /// The Secret and its key with the client certificate.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalKeyReference>,
    /// The Secret and its key with the private key of the client certificate.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<LocalKeyReference>,
    /// The Secret and its key with the CA certificates that verify the broker's certificate.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<LocalKeyReference>,
    /// The `ConfigMap` and its key with the CA certificates that verify the broker's certificate.
    #[serde(default, deserialize_with = "super::serde::optional_object", skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<LocalKeyReference>,
}

/// A Secret by name.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Name of the Secret.
    #[schemars(schema_with = "crd::secret_name")]
    pub name: String,
}

/// One key of a Secret or `ConfigMap`.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalKeyReference {
    /// Name of the Secret or ConfigMap.
    #[schemars(schema_with = "crd::source_name")]
    pub name: String,
    /// Key within its data.
    #[schemars(schema_with = "crd::source_key")]
    pub key: String,
}

/// Values for messages that do not set them.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SenderDefaultsSpec {
    /// The severity of messages that set none: `Debug`, `Info`, `Warning` or `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::severity")]
    pub severity: Option<Severity>,
    /// The AMQP priority of messages that set none, 0 to 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::octet")]
    pub priority: Option<u8>,
    /// The `activeDeadlineSeconds` of messages that set none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::positive_seconds")]
    pub active_deadline_seconds: Option<i64>,
    /// The `backoffLimit` of messages that set none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::count")]
    pub backoff_limit: Option<u32>,
    /// The `ttlSecondsAfterFinished` of messages that set none. It applies while the Sender exists, and as
    /// the Sender is when a message would be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::count")]
    pub ttl_seconds_after_finished: Option<u32>,
}

/// The state of the Sender. Only the operator writes it.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FedoraMessageSenderStatus {
    /// `Ready` is true if the operator logged in to the broker with this Sender and found the exchange.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the resource for which this status was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::int64")]
    pub observed_generation: Option<i64>,
    /// The common name of the client certificate, or else another name of it. At Fedora the common
    /// name is the user at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The host and port of the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// The time when the client certificate expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::time")]
    pub certificate_expiration_time: Option<DateTime<Utc>>,
}

/// Returns the custom resource definition.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    crd::polished(FedoraMessageSenderDefinition::crd())
}

/// A Sender from a list or watch. A spec that can't be read stops neither.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = FedoraMessageSenderDefinition)]
#[serde(from = "RawObject")]
pub struct FedoraMessageSender {
    /// Name, namespace, uid, generation and resource version. The other fields are empty.
    pub metadata: ObjectMeta,
    /// The spec, or what is wrong with it.
    pub spec: Result<FedoraMessageSenderSpec, String>,
    /// The last status.
    pub status: FedoraMessageSenderStatus,
}

impl FedoraMessageSender {
    /// Returns a Sender from a file, and the paths of its unknown fields.
    #[must_use]
    pub fn from_manifest(metadata: Metadata, spec: Option<Value>) -> (Self, Vec<String>) {
        let unknown = spec.as_ref().map(unknown_fields::<FedoraMessageSenderSpec>).unwrap_or_default();
        (RawObject { metadata, spec, status: None }.into(), unknown)
    }

    /// The namespace and name.
    #[must_use]
    pub fn name(&self) -> SenderName {
        let ObjectMeta { namespace, name, .. } = &self.metadata;
        SenderName::new(namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default())
    }
}

/// The parts of a Sender that are decoded.
#[derive(Deserialize)]
struct RawObject {
    metadata: Metadata,
    spec: Option<Value>,
    status: Option<Value>,
}

impl From<RawObject> for FedoraMessageSender {
    fn from(raw: RawObject) -> Self {
        let spec = raw.spec.ok_or_else(|| "spec is missing: add env and authentication".to_owned());
        Self {
            metadata: raw.metadata.into_object(),
            spec: spec.and_then(|spec| decode(&spec.to_string(), SHORT_NAME)),
            status: raw.status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default(),
        }
    }
}
