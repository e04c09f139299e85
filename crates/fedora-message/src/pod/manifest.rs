//! The Pod that runs the fedora-messaging CLI for one message: a pure function of the message and the
//! settings, so that each operator would make the same.
//!
//! It lives where the Secrets are and mounts them; credentials are never copied. The message is in an
//! annotation, which the Pod reads as a file; a large one is in config maps beside it.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceRequirements, Toleration};
use serde_json::{Map, Value, json};

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::{API_VERSION, KIND};
use crate::message::envelope::Envelope;
use crate::message::secret::KeyLocations;
use crate::message::validate::OutgoingMessage;
use crate::pod::cli_message::line;

/// On what belongs to a message: the uid of its resource. Selects a message's Pods.
pub const UID_LABEL: &str = "apps.fedoraproject.org/message-uid";
/// On what belongs to a message: the namespace of its resource.
pub const NAMESPACE_LABEL: &str = "apps.fedoraproject.org/message-namespace";
/// On a Pod: the name of the message's resource. A label could not hold it.
pub const NAME_ANNOTATION: &str = "apps.fedoraproject.org/message-name";
/// On a Pod: which attempt to send the message it is.
pub const ATTEMPT_ANNOTATION: &str = "apps.fedoraproject.org/attempt";
/// On a Pod: the message, as the CLI reads it.
const LINE_ANNOTATION: &str = "apps.fedoraproject.org/message";
/// On a Pod: the CLI's configuration.
const CONFIG_ANNOTATION: &str = "apps.fedoraproject.org/config";
/// The Pod's only container.
pub const CONTAINER: &str = "publish";

/// The longest line that stands in an annotation, in bytes: the API server takes 256 KiB for all of them.
const LONGEST_IN_ANNOTATION: usize = 240 * 1024;
/// The most that one config map holds, in bytes: the API server takes 1 MiB.
const LARGEST_PART: usize = 1000 * 1000;

/// What administrators choose about Pods.
#[derive(Clone, Debug)]
pub struct PodSettings {
    /// The image with the CLI.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Secrets with registry credentials, in the Pod's namespace.
    pub image_pull_secrets: Vec<String>,
    /// What the container asks for, and may use at most.
    pub resources: ResourceRequirements,
    /// Its priority class.
    pub priority_class: Option<String>,
    /// Labels that its node must have.
    pub node_selector: Vec<(String, String)>,
    /// The taints that it bears.
    pub tolerations: Vec<Toleration>,
    /// Message schemas whose packages are in the image, beside `base.message`.
    pub schemas: Vec<String>,
    /// How many seconds a Pod has to begin to run.
    pub start_seconds: u32,
    /// How many seconds it may run then.
    pub run_seconds: u32,
}

/// A Pod, and what has to be there before it.
#[derive(Clone, Debug)]
pub struct PodPlan {
    /// The Pod.
    pub pod: Pod,
    /// What it mounts of a large message.
    pub parts: Vec<ConfigMap>,
}

/// Why a message can't be sent by a Pod as it would be sent directly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodPlanError {
    /// The CLI would claim another schema.
    #[error(
        "Pod delivery can't send the schema {schema} from the package {package}, which the CLI's image lacks: it would say base.message instead; use direct delivery, or an image with the package, and name the schema in the operator's --cli-schemas"
    )]
    Schema {
        /// The schema.
        schema: String,
        /// Its package.
        package: String,
    },
    /// A Pod mounts Secrets of its own namespace alone.
    #[error(
        "Pod delivery needs all Secrets of a message in one namespace, but they are in {0}: put them together, or use direct delivery"
    )]
    Namespaces(String),
    /// The settings make no Pod.
    #[error("the operator's settings make no Pod ({0}): correct its --pod flags")]
    Settings(String),
}

/// The name of a message's Pod.
#[must_use]
pub fn name(uid: &str, attempt: u32) -> String {
    format!("fedora-message-{uid}-{attempt}")
}

/// The namespace of a message's Pod: that of all its Secrets.
pub fn namespace(message: &OutgoingMessage) -> Result<&str, PodPlanError> {
    let mut all: Vec<_> = message.authentication.secrets().map(|secret| secret.namespace.as_str()).collect();
    all.dedup();
    match all.as_slice() {
        [one] => Ok(one),
        several => Err(PodPlanError::Namespaces(several.join(", "))),
    }
}

/// Whether the CLI would say what the message says of its schema.
fn check_schema(message: &OutgoingMessage, settings: &PodSettings) -> Result<(), PodPlanError> {
    let known = match message.schema.as_str() {
        "base.message" => message.schema_package.as_deref() == Some("fedora_messaging"),
        schema => settings.schemas.iter().any(|known| known == schema),
    };
    if known {
        return Ok(());
    }
    let package = message.schema_package.as_deref().unwrap_or("that ships it");
    Err(PodPlanError::Schema { schema: message.schema.clone(), package: package.to_owned() })
}

/// Makes the Pod for one attempt. `url` is the broker's, `keys` says where the certificate is.
pub fn plan(
    object: &FedoraMessage,
    message: &OutgoingMessage,
    exchange: &str,
    url: &str,
    keys: &KeyLocations,
    settings: &PodSettings,
    attempt: u32,
) -> Result<PodPlan, PodPlanError> {
    check_schema(message, settings)?;
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
    // An owner in another namespace is none; there the operator cleans up itself.
    if object.namespace() == namespace {
        metadata["ownerReferences"] = json!([{
            "apiVersion": API_VERSION, "kind": KIND, "name": object.name(), "uid": object.uid(),
        }]);
    }
    let parts = if line.len() <= LONGEST_IN_ANNOTATION { Vec::new() } else { parts(&line) };
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
    Ok(PodPlan {
        pod: serde_json::from_value(pod).map_err(|error| unfit(&error))?,
        parts: configs.map_err(|error| unfit(&error))?,
    })
}

fn unfit(error: &serde_json::Error) -> PodPlanError {
    PodPlanError::Settings(error.to_string())
}

/// The line in parts of bounded size, none of which cuts a character.
fn parts(line: &str) -> Vec<&str> {
    let mut rest = line;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (part, more) = rest.split_at(rest.floor_char_boundary(LARGEST_PART));
        parts.push(part);
        rest = more;
    }
    parts
}

/// The CLI's configuration. The topic has its prefix already. What pika says of a connection that fails
/// becomes the Pod's last words: the CLI itself prints a traceback without them.
fn config(exchange: &str, url: &str) -> String {
    // The strings of TOML and of JSON are written alike.
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

/// What the Pod runs: passes the Pod Security level `restricted`, under any user.
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
            // Whatever locale the image has, the files are UTF-8; and nothing can be written.
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
            // Readable for whichever user the Pod gets; nobody else is in it.
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
        // Two digits, so that their order by name is their order.
        let items = json!([{"key": "part", "path": format!("part-{number:02}")}]);
        json!({"configMap": {"name": format!("{name}-{number}"), "items": items}})
    };
    std::iter::once(json!({"downwardAPI": {"items": items}})).chain((0..parts).map(part)).collect()
}

fn certificate_sources(keys: &KeyLocations) -> Vec<Value> {
    let source = |path: &str, (secret, key): &(String, String)| json!({"secret": {"name": secret, "items": [{"key": key, "path": path}]}});
    vec![source("ca", &keys.ca), source("cert", &keys.cert), source("key", &keys.key)]
}
