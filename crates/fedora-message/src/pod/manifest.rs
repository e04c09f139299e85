//! The Pod that runs the fedora-messaging CLI for one message.
//!
//! It is a pure function of the message and the settings, so that every replica makes the same Pod. The
//! Pod is in the namespace of the Secrets and mounts them, so credentials are never copied. The message
//! is in an annotation, which the Pod reads as a file. The container runs the CLI itself, so that the
//! exit code is the CLI's, and the image needs nothing else (docs/decisions/0043).

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements, Toleration};
use serde_json::{Map, Value, json};

use crate::api::names::SourceKind;
use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::{API_VERSION, KIND};
use crate::bounds::MAX_POD_MESSAGE_BYTES;
use crate::message::authentication::SourceKey;
use crate::message::envelope::Envelope;
use crate::message::outgoing::{BASE_SCHEMA, BASE_SCHEMA_PACKAGE, OutgoingMessage};
use crate::message::secret::{KeyLocations, OperatorCa};
use crate::message::sender::Application;
use crate::pod::cli_message::line;
use crate::policy::outcome::{Failure, Reason};

/// Label on a Pod: the uid of the message's resource. It selects a message's Pods.
pub const UID_LABEL: &str = "apps.fedoraproject.org/message-uid";
/// Label on a Pod: the namespace of the message's resource.
pub const NAMESPACE_LABEL: &str = "apps.fedoraproject.org/message-namespace";
/// Annotation on a Pod: the name of the message's resource, which may be too long for a label.
pub const NAME_ANNOTATION: &str = "apps.fedoraproject.org/message-name";
/// Annotation on a Pod: the number of the attempt that it makes.
pub const ATTEMPT_ANNOTATION: &str = "apps.fedoraproject.org/attempt";
/// Annotation on a Pod: the message, as the CLI reads it.
pub(super) const LINE_ANNOTATION: &str = "apps.fedoraproject.org/message";
/// Annotation on a Pod: the CLI's configuration.
pub(super) const CONFIG_ANNOTATION: &str = "apps.fedoraproject.org/config";
/// Annotation on a Pod: the operator's CA, if the Secrets have none.
pub(super) const CA_ANNOTATION: &str = "apps.fedoraproject.org/ca";
/// The Pod's only container.
pub const CONTAINER: &str = "publish";

/// The administrators' settings for Pods.
#[derive(Clone, Debug)]
pub struct PodSettings {
    /// The image with the CLI.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Secrets with registry credentials, in the Pod's namespace.
    pub image_pull_secrets: Vec<String>,
    /// The container's requests and limits.
    pub resources: ResourceRequirements,
    /// The Pod's priority class.
    pub priority_class: Option<String>,
    /// Labels that the Pod's node must have.
    pub node_selector: Vec<(String, String)>,
    /// The Pod's tolerations.
    pub tolerations: Vec<Toleration>,
    /// Message schemas whose packages are in the image, besides `base.message`.
    pub schemas: Vec<String>,
    /// The number of seconds in which a Pod must start to run.
    pub start_seconds: u32,
    /// The number of seconds that a running Pod may take.
    pub run_seconds: u32,
}

/// The reason why a Pod can't send a message as the operator would send it directly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodPlanError {
    /// The CLI's image lacks the schema, so the CLI would send another one.
    #[error(
        "Pod delivery can't send the schema {schema} from the package {package}, because the CLI's image lacks it and would send base.message instead: use direct delivery, or an image with the package, and name the schema in the operator's --cli-schemas"
    )]
    Schema {
        /// The schema.
        schema: String,
        /// Its package.
        package: String,
    },
    /// A Pod can only mount Secrets of its own namespace.
    #[error(
        "Pod delivery needs all Secrets of a message in one namespace, but they are in {0}: put them together, or use direct delivery"
    )]
    Namespaces(String),
    /// The annotations of a Pod can't hold the message.
    #[error(
        "Pod delivery can't send a message of {0} bytes, because a Pod holds at most {MAX_POD_MESSAGE_BYTES}: send a reference to the data instead, or use direct delivery"
    )]
    TooLarge(usize),
    /// The settings make an invalid Pod.
    #[error("the operator's settings make an invalid Pod ({0}): correct its --pod flags")]
    Settings(String),
}

impl Failure for PodPlanError {
    fn reason(&self) -> Reason {
        match self {
            Self::Schema { .. } | Self::Settings(_) => Reason::Misconfigured,
            Self::Namespaces(_) => Reason::InvalidMessage,
            Self::TooLarge(_) => Reason::MessageTooLarge,
        }
    }
}

/// Returns the name of a message's Pod.
#[must_use]
pub fn name(uid: &str, attempt: u32) -> String {
    format!("fedora-message-{uid}-{attempt}")
}

/// Returns the namespace of a message's Pod, which is the namespace of all its Secrets.
pub fn namespace(message: &OutgoingMessage) -> Result<&str, PodPlanError> {
    let mut all: Vec<_> = message.authentication.sources().map(|source| source.namespace.as_str()).collect();
    all.dedup();
    match all.as_slice() {
        [one] => Ok(one),
        several => Err(PodPlanError::Namespaces(several.join(", "))),
    }
}

/// Checks that the CLI would send the message with its schema.
fn check_cli_schema(message: &OutgoingMessage, settings: &PodSettings) -> Result<(), PodPlanError> {
    let known = match message.schema.as_str() {
        BASE_SCHEMA => message.schema_package.as_deref() == Some(BASE_SCHEMA_PACKAGE),
        schema => settings.schemas.iter().any(|known| known == schema),
    };
    if known {
        return Ok(());
    }
    let package = message.schema_package.as_deref().unwrap_or("that ships it");
    Err(PodPlanError::Schema { schema: message.schema.clone(), package: package.to_owned() })
}

/// The broker, and the certificates to log in to it.
#[derive(Clone, Copy, Debug)]
pub struct PodLogin<'a> {
    /// The broker's URL.
    pub url: &'a str,
    /// The location of the certificates.
    pub keys: &'a KeyLocations,
    /// The operator's CA, for certificates without one.
    pub operator_ca: Option<&'a OperatorCa>,
}

/// Returns the Pod for one attempt.
pub fn plan(
    object: &FedoraMessage,
    message: &OutgoingMessage,
    exchange: &str,
    login: PodLogin<'_>,
    settings: &PodSettings,
    attempt: u32,
) -> Result<Pod, PodPlanError> {
    check_cli_schema(message, settings)?;
    let namespace = namespace(message)?;
    let line = line(&Envelope::new(message, exchange));
    // A Secret can't give the operator's CA to the Pod. It is not secret, so an annotation can.
    let ca = login.operator_ca.filter(|_| login.keys.ca.is_none()).map(|ca| ca.pem.as_str());
    let size = line.len() + ca.map_or(0, str::len);
    if size > MAX_POD_MESSAGE_BYTES {
        return Err(PodPlanError::TooLarge(size));
    }
    let mut metadata = json!({
        "name": name(object.uid(), attempt),
        "namespace": namespace,
        "labels": {
            "app.kubernetes.io/managed-by": "fedora-message-operator",
            UID_LABEL: object.uid(),
            NAMESPACE_LABEL: object.namespace(),
        },
    });
    // Kubernetes has no owners in other namespaces. There, the operator deletes the Pod itself.
    if object.namespace() == namespace {
        metadata["ownerReferences"] = json!([{
            "apiVersion": API_VERSION, "kind": KIND, "name": object.name(), "uid": object.uid(),
        }]);
    }
    metadata["annotations"] = json!({
        NAME_ANNOTATION: object.name(),
        ATTEMPT_ANNOTATION: attempt.to_string(),
        CONFIG_ANNOTATION: config(exchange, login.url, &message.application),
        LINE_ANNOTATION: line,
    });
    if let Some(ca) = ca {
        metadata["annotations"][CA_ANNOTATION] = json!(ca);
    }
    let pod = json!({"metadata": metadata, "spec": spec(settings, login.keys)});
    serde_json::from_value(pod).map_err(|error| PodPlanError::Settings(error.to_string()))
}

/// Returns the CLI's configuration. The topic already has its prefix.
///
/// The log of pika goes to the termination message, because it has the reason for a failed connection.
/// The CLI itself prints a traceback without that reason.
fn config(exchange: &str, url: &str, application: &Application) -> String {
    // TOML and JSON have the same syntax for strings, and for lists of them.
    let (url, exchange) = (json!(url), json!(exchange));
    let properties = client_properties(application);
    format!(
        r#"amqp_url = {url}
publish_exchange = {exchange}
topic_prefix = ""

[tls]
ca_cert = "/certificate/ca"
certfile = "/certificate/cert"
keyfile = "/certificate/key"

[client_properties]
{properties}

[log_config]
version = 1
disable_existing_loggers = true

[log_config.handlers.log]
class = "logging.StreamHandler"

[log_config.handlers.last_words]
class = "logging.FileHandler"
filename = "/dev/termination-log"

[log_config.loggers.pika]
level = "INFO"
handlers = ["last_words"]

[log_config.root]
level = "WARNING"
handlers = ["log"]
"#
    )
}

/// Returns the client properties as lines of TOML.
fn client_properties(Application { name, version, url, contacts, .. }: &Application) -> String {
    let app = Some(("app", json!(name)));
    let version = version.as_ref().map(|version| ("app_version", json!(version)));
    let url = url.as_ref().map(|url| ("app_url", json!(url)));
    let contacts = Some(("app_contacts_email", json!(contacts))).filter(|_| !contacts.is_empty());
    let lines = [app, version, url, contacts].into_iter().flatten().map(|(key, value)| format!("{key} = {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the Pod's spec. It complies with the Pod Security level `restricted`, under any user.
fn spec(settings: &PodSettings, keys: &KeyLocations) -> Value {
    let named = |names: &[String]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    let selector: Map<_, _> = settings.node_selector.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let mut spec = json!({
        "restartPolicy": "Never",
        "activeDeadlineSeconds": settings.start_seconds.saturating_add(settings.run_seconds),
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "imagePullSecrets": named(&settings.image_pull_secrets),
        "nodeSelector": selector,
        "tolerations": settings.tolerations,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": CONTAINER,
            "image": settings.image,
            "imagePullPolicy": settings.image_pull_policy,
            "command": ["fedora-messaging", "--conf", "/message/config.toml", "publish", "/message/line"],
            // The files are UTF-8 with any locale of the image, and the file system is read-only.
            "env": [{"name": "PYTHONUTF8", "value": "1"}, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
            "resources": settings.resources,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": "message", "mountPath": "/message", "readOnly": true},
                {"name": "certificate", "mountPath": "/certificate", "readOnly": true},
            ],
        }],
        "volumes": [
            // The API server's defaults are explicit, so that the stored Pod has the same volumes.
            {"name": "message", "projected": {"defaultMode": 0o644, "sources": [message_source()]}},
            // Readable for any user, because the Pod may get any and has no other.
            {"name": "certificate", "projected": {"defaultMode": 0o444, "sources": certificate_sources(keys)}},
        ],
    });
    if let Some(class) = &settings.priority_class {
        spec["priorityClassName"] = json!(class);
    }
    spec
}

/// Returns the item of a volume that holds an annotation.
fn annotation(key: &str, path: &str) -> Value {
    json!({"path": path, "fieldRef": {"apiVersion": "v1", "fieldPath": format!("metadata.annotations['{key}']")}})
}

fn message_source() -> Value {
    json!({"downwardAPI": {"items": [annotation(CONFIG_ANNOTATION, "config.toml"), annotation(LINE_ANNOTATION, "line")]}})
}

fn certificate_sources(keys: &KeyLocations) -> Vec<Value> {
    let source = |path: &str, SourceKey { source, key }: &SourceKey| {
        let kind = match source.kind {
            SourceKind::Secret => "secret",
            SourceKind::ConfigMap => "configMap",
        };
        json!({kind: {"name": source.name, "items": [{"key": key, "path": path}]}})
    };
    let ca = keys
        .ca
        .as_ref()
        .map_or_else(|| json!({"downwardAPI": {"items": [annotation(CA_ANNOTATION, "ca")]}}), |ca| source("ca", ca));
    vec![ca, source("cert", &keys.cert), source("key", &keys.key)]
}
