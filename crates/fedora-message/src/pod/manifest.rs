//! The Pod that runs the fedora-messaging CLI for one message.
//!
//! It is a pure function of the message and the settings, so that every replica makes the same Pod. The
//! Pod is in the namespace of the Secrets and mounts them, so credentials are never copied. The message
//! is in an annotation, which the Pod reads as a file. A large message is in config maps.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceRequirements, Toleration};
use serde_json::{Map, Value, json};

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::{API_VERSION, KIND};
use crate::message::envelope::Envelope;
use crate::message::outgoing::{BASE_SCHEMA, BASE_SCHEMA_PACKAGE, OutgoingMessage};
use crate::message::secret::KeyLocations;
use crate::pod::cli_message::line;
use crate::policy::outcome::{Failure, Reason};

/// Label on a Pod and its config maps: the uid of the message's resource. It selects a message's Pods.
pub const UID_LABEL: &str = "apps.fedoraproject.org/message-uid";
/// Label on a Pod and its config maps: the namespace of the message's resource.
pub const NAMESPACE_LABEL: &str = "apps.fedoraproject.org/message-namespace";
/// Annotation on a Pod: the name of the message's resource, which may be too long for a label.
pub const NAME_ANNOTATION: &str = "apps.fedoraproject.org/message-name";
/// Annotation on a Pod: the number of the attempt that it makes.
pub const ATTEMPT_ANNOTATION: &str = "apps.fedoraproject.org/attempt";
/// Annotation on a Pod: the message, as the CLI reads it.
const LINE_ANNOTATION: &str = "apps.fedoraproject.org/message";
/// Annotation on a Pod: the CLI's configuration.
const CONFIG_ANNOTATION: &str = "apps.fedoraproject.org/config";
/// The Pod's only container.
pub const CONTAINER: &str = "publish";

/// The maximum size of a message in an annotation, in bytes. The API server allows 256 KiB for all
/// annotations of an object.
const MAX_IN_ANNOTATION: usize = 240 * 1024;
/// The maximum size of the part in one config map, in bytes. The API server allows 1 MiB.
const MAX_PART: usize = 1000 * 1000;

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

/// A Pod, and the config maps that it needs.
#[derive(Clone, Debug)]
pub struct PodPlan {
    /// The Pod.
    pub pod: Pod,
    /// The parts of a large message, which the Pod mounts.
    pub parts: Vec<ConfigMap>,
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
    /// The settings make an invalid Pod.
    #[error("the operator's settings make an invalid Pod ({0}): correct its --pod flags")]
    Settings(String),
}

impl Failure for PodPlanError {
    fn reason(&self) -> Reason {
        match self {
            Self::Schema { .. } | Self::Settings(_) => Reason::Misconfigured,
            Self::Namespaces(_) => Reason::InvalidMessage,
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
    let mut all: Vec<_> = message.authentication.secrets().map(|secret| secret.namespace.as_str()).collect();
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

/// Returns the Pod for one attempt. `url` is the broker's, `keys` locates the certificate.
pub fn plan(
    object: &FedoraMessage,
    message: &OutgoingMessage,
    exchange: &str,
    url: &str,
    keys: &KeyLocations,
    settings: &PodSettings,
    attempt: u32,
) -> Result<PodPlan, PodPlanError> {
    check_cli_schema(message, settings)?;
    let namespace = namespace(message)?;
    let line = line(&Envelope::new(message, exchange));
    let name = name(object.uid(), attempt);
    let mut metadata = json!({
        "name": name,
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
    let parts = if line.len() <= MAX_IN_ANNOTATION { Vec::new() } else { split(&line) };
    let configs = parts.iter().enumerate().map(|(number, part)| {
        let mut metadata = metadata.clone();
        metadata["name"] = json!(format!("{name}-{number}"));
        json!({"metadata": metadata, "immutable": true, "data": {"part": part}})
    });
    let configs = configs.map(serde_json::from_value).collect::<Result<_, _>>();
    let mut annotations = json!({
        NAME_ANNOTATION: object.name(),
        ATTEMPT_ANNOTATION: attempt.to_string(),
        CONFIG_ANNOTATION: config(exchange, url),
    });
    if parts.is_empty() {
        annotations[LINE_ANNOTATION] = json!(line);
    }
    metadata["annotations"] = annotations;
    let pod = json!({"metadata": metadata, "spec": spec(settings, keys, &name, parts.len())});
    Ok(PodPlan { pod: serde_json::from_value(pod).map_err(invalid)?, parts: configs.map_err(invalid)? })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(error: serde_json::Error) -> PodPlanError {
    PodPlanError::Settings(error.to_string())
}

/// Splits the line into parts of bounded size, between characters.
fn split(line: &str) -> Vec<&str> {
    let mut rest = line;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (part, more) = rest.split_at(rest.floor_char_boundary(MAX_PART));
        parts.push(part);
        rest = more;
    }
    parts
}

/// Returns the CLI's configuration. The topic already has its prefix.
///
/// The log of pika goes to the termination message, because it has the reason for a failed connection.
/// The CLI itself prints a traceback without that reason.
fn config(exchange: &str, url: &str) -> String {
    // TOML and JSON have the same syntax for strings.
    let (url, exchange) = (json!(url), json!(exchange));
    format!(
        r#"amqp_url = {url}
publish_exchange = {exchange}
topic_prefix = ""

[tls]
ca_cert = "/certificate/ca"
certfile = "/certificate/cert"
keyfile = "/certificate/key"

[client_properties]
app = "fedora-message-operator"

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

/// Returns the Pod's spec. It complies with the Pod Security level `restricted`, under any user.
fn spec(settings: &PodSettings, keys: &KeyLocations, name: &str, parts: usize) -> Value {
    let command = match parts {
        0 => json!(["fedora-messaging", "--conf", "/message/config.toml", "publish", "/message/line"]),
        _ => json!(["sh", "-c", "cat /message/part-* | fedora-messaging --conf /message/config.toml publish -"]),
    };
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
            "command": command,
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
            {"name": "message", "projected": {"sources": message_sources(name, parts)}},
            // Readable for any user, because the Pod may get any and has no other.
            {"name": "certificate", "projected": {"defaultMode": 0o444, "sources": certificate_sources(keys)}},
        ],
    });
    if let Some(class) = &settings.priority_class {
        spec["priorityClassName"] = json!(class);
    }
    spec
}

fn message_sources(name: &str, parts: usize) -> Vec<Value> {
    let annotation = |key: &str, path: &str| json!({"path": path, "fieldRef": {"fieldPath": format!("metadata.annotations['{key}']")}});
    let mut items = vec![annotation(CONFIG_ANNOTATION, "config.toml")];
    if parts == 0 {
        items.push(annotation(LINE_ANNOTATION, "line"));
    }
    let part = |number: usize| {
        // Two digits, so that the shell's order by name is right.
        let items = json!([{"key": "part", "path": format!("part-{number:02}")}]);
        json!({"configMap": {"name": format!("{name}-{number}"), "items": items}})
    };
    std::iter::once(json!({"downwardAPI": {"items": items}})).chain((0..parts).map(part)).collect()
}

fn certificate_sources(keys: &KeyLocations) -> Vec<Value> {
    let source = |path: &str, (secret, key): &(String, String)| json!({"secret": {"name": secret, "items": [{"key": key, "path": path}]}});
    vec![source("ca", &keys.ca), source("cert", &keys.cert), source("key", &keys.key)]
}
