//! A namespace for each test, and the manifests of messages in it.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rig::{Broker, ClientCert, Kube, wait_for, wait_until};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api;
use crate::shared::{SOON, read, run, shared};

/// The annotation of a Secret that lists the namespaces that may use it.
const CONSENT: &str = "apps.fedoraproject.org/allowed-namespaces";

/// The path of the API of messages.
pub const MESSAGES: &str = "/apis/apps.fedoraproject.org/v1alpha1";
/// The path of the API of Pods, Secrets and Events.
pub const CORE: &str = "/api/v1";

/// A list from the API server.
#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

/// Name and status of a message. Its other fields may be nested too deeply for a JSON value.
#[derive(Deserialize)]
pub struct Summary {
    metadata: Metadata,
    /// The status, or null.
    #[serde(default)]
    pub status: Value,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

impl Summary {
    /// Returns the message's name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }
}

/// A namespace that only one test uses.
pub struct TestNamespace<'a> {
    /// Its name.
    pub name: String,
    /// Its API server.
    pub kube: &'a Kube,
}

impl TestNamespace<'static> {
    /// Creates a namespace on the shared API server.
    pub fn new(title: &str) -> Self {
        Self::on(&shared().kube, title)
    }

    /// Creates a namespace whose Secret `certs` holds a certificate of the shared broker's user
    /// `publisher`.
    pub fn with_publisher(title: &str) -> Self {
        Self::new(title).with_certificate(&shared().broker, "publisher")
    }
}

impl<'a> TestNamespace<'a> {
    /// Creates a namespace on this API server.
    pub fn on(kube: &'a Kube, title: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{title}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        kube.create_namespace(&name).expect("the API server creates the namespace");
        Self { name, kube }
    }

    /// Stores a certificate as [`TestNamespace::store_certificate`] does, and returns the namespace.
    #[must_use]
    pub fn with_certificate(self, broker: &Broker, cn: &str) -> Self {
        self.store_certificate(broker, cn);
        self
    }

    /// Stores a client certificate of the broker's user `cn` as Secret `certs`.
    pub fn store_certificate(&self, broker: &Broker, cn: &str) {
        self.store_secret("certs", &broker.client(cn).expect("a certificate"));
    }

    /// Stores a client certificate as a Secret.
    pub fn store_secret(&self, name: &str, certificate: &ClientCert) {
        self.apply(&certificate.secret_yaml(name, &self.name));
    }

    /// Lets these namespaces use the Secret `certs`.
    #[track_caller]
    pub fn allow(&self, namespaces: &str) {
        self.kubectl(&["annotate", "--overwrite", "secret", "certs", &format!("{CONSENT}={namespaces}")]);
    }

    /// Runs kubectl in the namespace, and returns its output. Panics if kubectl fails.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        accepted(self.try_kubectl(arguments, ""))
    }

    /// Runs kubectl in the namespace with this standard input. The error is the text that a user
    /// reads.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        run(self.kubectl_command().args(arguments), input)
    }

    /// Returns the command kubectl in the namespace, without arguments.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.kube.kubectl();
        command.args(["--namespace", &self.name]);
        command
    }

    /// Applies manifests with server-side apply.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        accepted(self.try_kubectl(&["apply", "--server-side", "-f", "-"], manifests));
    }

    /// Creates resources.
    #[track_caller]
    pub fn create(&self, manifests: &str) {
        accepted(self.try_kubectl(&["create", "-f", "-"], manifests));
    }

    /// Creates many objects quickly: without kubectl, in the order of the manifests. They are YAML, or
    /// JSON without separators.
    #[track_caller]
    pub fn create_many(&self, manifests: &str) {
        if let Err(error) = api::create(self.kube, &self.name, manifests) {
            panic!("{}: {error}", self.name);
        }
    }

    /// Creates a message from JSON that kubectl neither checks nor changes.
    pub fn post(&self, json: &str) -> Result<String, String> {
        let path = self.path(MESSAGES, "fedoramessages");
        self.try_kubectl(&["create", "--raw", &path, "-f", "-"], json)
    }

    /// Changes a message with a JSON merge patch.
    #[track_caller]
    pub fn patch(&self, name: &str, patch: &str) {
        self.kubectl(&["patch", "fmsg", name, "--type=merge", "-p", patch]);
    }

    /// Changes a Sender with a JSON merge patch.
    #[track_caller]
    pub fn patch_sender(&self, name: &str, patch: &Value) {
        self.kubectl(&["patch", "fmsender", name, "--type=merge", "-p", &patch.to_string()]);
    }

    /// Returns a message as it is stored, without its managed fields.
    #[track_caller]
    pub fn get(&self, name: &str) -> Value {
        self.get_object("fedoramessages", name)
    }

    #[track_caller]
    fn get_object(&self, resource: &str, name: &str) -> Value {
        match api::read(self.kube, &self.path(MESSAGES, &format!("{resource}/{name}"))) {
            Ok(object) => without_managed_fields(object),
            Err(error) => panic!("{name} in {}: {error}", self.name),
        }
    }

    /// Returns all objects of a resource of this API, such as `pods` of [`CORE`], without their
    /// managed fields.
    #[track_caller]
    pub fn list(&self, api: &str, resource: &str) -> Vec<Value> {
        match self.try_list(api, resource) {
            Ok(objects) => objects.into_iter().map(without_managed_fields).collect(),
            Err(error) => panic!("{resource} in {}: {error}", self.name),
        }
    }

    /// Returns the wanted part of all objects of a resource.
    pub fn try_list<T: DeserializeOwned>(&self, api: &str, resource: &str) -> Result<Vec<T>, String> {
        api::read(self.kube, &self.path(api, resource)).map(|List { items }| items)
    }

    /// Returns all messages as they are stored.
    #[track_caller]
    pub fn messages(&self) -> Vec<Value> {
        self.list(MESSAGES, "fedoramessages")
    }

    /// Returns the reason of each message. It is empty without a status.
    #[track_caller]
    pub fn reasons(&self) -> Vec<String> {
        let reason = |message: &Value| message["status"]["reason"].as_str().unwrap_or_default().to_owned();
        self.messages().iter().map(reason).collect()
    }

    /// Waits until all messages have this reason.
    pub fn wait_for_reasons(&self, within: Duration, reason: &str) {
        let others = || self.reasons().iter().filter(|other| *other != reason).count();
        wait_until(within, &format!("all messages have reason {reason}"), || others() == 0)
            .unwrap_or_else(|error| panic!("{error}: {} have another", others()));
    }

    /// Returns the Events of a message.
    #[track_caller]
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.list(CORE, &format!("events?fieldSelector=involvedObject.name%3D{name}"))
    }

    /// Returns the names of the messages that are not sent, or `None` if the API server does not
    /// answer.
    pub fn pending(&self) -> Option<Vec<String>> {
        self.selected("status.status!%3Dtrue")
    }

    /// Returns the names of the messages that are sent, or `None` if the API server does not
    /// answer.
    pub fn sent(&self) -> Option<Vec<String>> {
        self.selected("status.status%3Dtrue")
    }

    fn selected(&self, selector: &str) -> Option<Vec<String>> {
        let found = self.try_list::<Summary>(MESSAGES, &format!("fedoramessages?fieldSelector={selector}")).ok()?;
        Some(found.into_iter().map(|message| message.metadata.name).collect())
    }

    /// Returns name and status of all messages.
    pub fn summaries(&self) -> Result<Vec<Summary>, String> {
        self.try_list(MESSAGES, "fedoramessages")
    }

    fn path(&self, api: &str, resource: &str) -> String {
        format!("{api}/namespaces/{}/{resource}", self.name)
    }

    /// Waits until a message's status has this reason, and returns the status.
    pub fn wait_for_reason(&self, name: &str, reason: &str) -> Value {
        self.wait_for_reason_within(SOON, name, reason, String::new)
    }

    /// Like [`TestNamespace::wait_for_reason`], with this deadline. After it, the error ends with
    /// `context`.
    pub fn wait_for_reason_within(
        &self,
        within: Duration,
        name: &str,
        reason: &str,
        context: impl Fn() -> String,
    ) -> Value {
        let mut last = Value::Null;
        wait_for(within, &format!("{name} has reason {reason}"), || {
            last = self.get(name)["status"].take();
            Ok((last["reason"] == reason).then(|| last.clone()))
        })
        .unwrap_or_else(|error| panic!("{error}; the status is {last:#}\n{}", context()))
    }

    /// Applies a message, and waits until it is sent. Returns the status.
    #[track_caller]
    pub fn send(&self, name: &str, topic: &str) -> Value {
        self.apply(&message(name, topic, ""));
        self.wait_for_reason(name, "Sent")
    }

    /// Waits until a message's status has this reason, and asserts that its message contains each of these
    /// texts. Returns the status.
    #[track_caller]
    pub fn expect_reason(&self, name: &str, reason: &str, texts: &[&str]) -> Value {
        let status = self.wait_for_reason(name, reason);
        let message = status["message"].as_str().expect("a message");
        for text in texts {
            assert!(message.contains(text), "{name}: {text:?} is not in {message:?}");
        }
        status
    }

    /// Waits until each of these messages has this reason.
    pub fn wait_for_reason_of(&self, names: &[impl AsRef<str>], reason: &str) {
        for name in names {
            self.wait_for_reason(name.as_ref(), reason);
        }
    }

    /// Returns a Sender as it is stored, without its managed fields.
    #[track_caller]
    pub fn get_sender(&self, name: &str) -> Value {
        self.get_object("fedoramessagesenders", name)
    }

    /// Waits until the condition of a Sender has this status and reason, for its last generation, and
    /// returns its status.
    pub fn wait_for_sender(&self, name: &str, ready: &str, reason: &str) -> Value {
        let mut last = Value::Null;
        wait_for(SOON, &format!("{name} is {ready} with reason {reason}"), || {
            last = self.get_sender(name);
            let (status, condition) = (&last["status"], &last["status"]["conditions"][0]);
            let is_current = status["observedGeneration"] == last["metadata"]["generation"];
            let is_it = condition["status"] == ready && condition["reason"] == reason;
            Ok((is_current && is_it).then(|| status.clone()))
        })
        .unwrap_or_else(|error| panic!("{error}; it is {last:#}"))
    }

    /// Waits until every message is sent.
    pub fn wait_for_all_sent(&self) {
        self.wait_until_sent("");
    }

    /// Waits until every message is sent whose name begins with `prefix`.
    pub fn wait_until_sent(&self, prefix: &str) {
        let pending = || Some(self.pending()?.into_iter().filter(|name| name.starts_with(prefix)).count());
        wait_until(SOON, "all messages are sent", || pending() == Some(0))
            .unwrap_or_else(|error| panic!("{error}: {:?} are pending", pending()));
    }

    /// Gives a user a Role with these rules.
    #[track_caller]
    pub fn grant(&self, user: &str, role: &str, rules: &Value) {
        let api = "rbac.authorization.k8s.io";
        let binding = format!("{role}-{user}");
        let role_object = json!({
            "apiVersion": format!("{api}/v1"), "kind": "Role", "metadata": {"name": role}, "rules": rules,
        });
        let binding = json!({
            "apiVersion": format!("{api}/v1"), "kind": "RoleBinding", "metadata": {"name": binding},
            "roleRef": {"apiGroup": api, "kind": "Role", "name": role},
            "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
        });
        self.apply(&format!("{role_object}\n---\n{binding}\n"));
    }
}

/// Returns the uid of a stored object.
pub fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

/// Removes the managed fields, as kubectl does.
fn without_managed_fields(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    object
}

#[track_caller]
fn accepted(result: Result<String, String>) -> String {
    match result {
        Ok(output) => output,
        Err(error) => panic!("kubectl fails: {error}"),
    }
}

/// Returns the manifest of a message. `more` adds fields to `spec.message` in flow style.
pub fn message(name: &str, topic: &str, more: &str) -> String {
    format!(
        "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessage
metadata: {{name: {name}}}
spec:
  env: prod
  message: {{body: {{name: {name}}}, topic: {topic}{more}}}
  authentication: {{secretRef: {{name: certs}}}}
---
"
    )
}

/// Returns the manifest of a message that is sent as the Sender `default`. `more` adds fields to `spec`,
/// in flow style.
pub fn by_sender(name: &str, topic: &str, more: &str) -> String {
    format!(
        "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessage
metadata: {{name: {name}}}
spec: {{message: {{body: {{name: {name}}}, topic: {topic}}}{more}}}
---
"
    )
}

/// Returns the manifest of a Sender of the environment prod with the Secret `certs`. `more` adds fields
/// to `spec`, in flow style.
pub fn sender(name: &str, more: &str) -> String {
    format!(
        "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessageSender
metadata: {{name: {name}}}
spec: {{env: prod, authentication: {{secretRef: {{name: certs}}}}{more}}}
---
"
    )
}

/// Returns the manifest of a Secret with these keys and values.
pub fn secret(name: &str, data: &[(&str, &str)]) -> String {
    with_data("Secret", name, "stringData", data)
}

/// Returns the manifest of a `ConfigMap` with these keys and values.
pub fn config_map(name: &str, data: &[(&str, &str)]) -> String {
    with_data("ConfigMap", name, "data", data)
}

fn with_data(kind: &str, name: &str, field: &str, data: &[(&str, &str)]) -> String {
    let data: BTreeMap<_, _> = data.iter().copied().collect();
    let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: data});
    format!("{object}\n---\n")
}

/// Returns the manifests of `count` messages with the names `PREFIX0`, `PREFIX1`, ... and these
/// topics.
pub fn numbered(count: usize, prefix: &str, topic: impl Fn(usize) -> String) -> String {
    (0..count).map(|n| message(&format!("{prefix}{n}"), &topic(n), "")).collect()
}

/// Returns a message as JSON, with these fields of `spec.message`.
pub fn message_json(name: &str, message: &Value) -> Value {
    json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1",
        "kind": "FedoraMessage",
        "metadata": {"name": name},
        "spec": {"env": "prod", "message": message, "authentication": {"secretRef": {"name": "certs"}}},
    })
}

/// Adds a field to the spec of each message.
pub fn with_spec(manifests: &str, field: &str) -> String {
    manifests.replace("\nspec:\n", &format!("\nspec:\n  {field}\n"))
}

/// Lets each message name this Secret instead of `certs`.
pub fn with_secret(manifests: &str, name: &str) -> String {
    manifests.replace("{name: certs}", &format!("{{name: {name}}}"))
}

/// Lets each message name the Secret `name` of another namespace instead of `certs`.
pub fn with_foreign_secret(manifests: &str, name: &str, owner: &TestNamespace) -> String {
    with_secret(manifests, &format!("{name}, namespace: {}", owner.name))
}

/// Replaces the body of a message from [`message`].
pub fn with_body(manifest: &str, body: &str) -> String {
    let (before, rest) = manifest.split_once("body: {").expect("a body");
    let (_, after) = rest.split_once('}').expect("the end of the body");
    format!("{before}body: {body}{after}")
}

/// Returns a catalog for `--schema-catalog` with these classes of messages and the schemas of their bodies.
pub fn catalog(schemas: &[(&str, Value)]) -> String {
    let schemas: Vec<Value> = schemas
        .iter()
        .map(|(name, body)| {
            json!({
                "name": name, "package": "own_messages", "distribution": "own-messages", "version": "1",
                "severity": 20, "headers": null, "body": body,
            })
        })
        .collect();
    json!({"format": 1, "library": "3.9.1", "base": {"headers": {}, "body": {}}, "schemas": schemas}).to_string()
}

/// Returns the rules of all roles in a manifest of the project.
#[track_caller]
pub fn role_rules(manifest: &str) -> Vec<Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&read(manifest)).expect("YAML");
    let rules: Vec<Value> = objects.iter().filter_map(|object| object["rules"].as_array().cloned()).flatten().collect();
    assert!(!rules.is_empty(), "{manifest} has no rules");
    rules
}

/// Returns resource and verb of each permission in the rules of a role.
pub fn permissions(rules: &[Value]) -> Vec<(String, String)> {
    let texts = |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).expect("a list of texts") };
    let pairs = rules.iter().flat_map(|rule| {
        let verbs = texts(&rule["verbs"]);
        texts(&rule["resources"])
            .into_iter()
            .flat_map(move |resource| verbs.clone().into_iter().map(move |verb| (resource.clone(), verb)))
    });
    pairs.collect()
}
