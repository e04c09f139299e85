//! Reads manifests from text: `FedoraMessages`, and the Secrets that they name.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::message::authentication::SecretName;
use crate::message::body::{MAX_DEPTH as MAX_BODY_DEPTH, depth};
use crate::message::incoming::FedoraMessage;
use crate::message::resource::{FedoraMessageSpec, GROUP, KIND, VERSION};

/// The namespace of a manifest that names none.
const DEFAULT_NAMESPACE: &str = "default";
/// The deepest nesting of a document that is read: that of a body, and what it stands in.
const MAX_DEPTH: usize = MAX_BODY_DEPTH + 32;
/// The YAML decoder works by recursion, with much stack for each level.
const STACK: usize = 64 * 1024 * 1024;
/// How many values a YAML document may have.
const MAX_NODES: usize = 2_000_000;

/// What was read.
#[derive(Default)]
pub struct Manifests {
    /// The messages, in the order in which they stand there.
    pub messages: Vec<FedoraMessage>,
    /// The Secrets, by name.
    pub secrets: HashMap<SecretName, Arc<Secret>>,
}

impl Manifests {
    /// Adds all documents of `text`, which came from `place`. The error names the document.
    pub fn add(&mut self, text: &str, place: &str) -> Result<(), String> {
        for (number, document) in (1..).zip(documents(text)) {
            self.add_document(document).map_err(|words| format!("{place}, document {number}: {words}"))?;
        }
        Ok(())
    }

    fn add_document(&mut self, document: &str) -> Result<(), String> {
        if document.trim_start().starts_with('{') {
            return self.add_json(document);
        }
        match from_yaml(document)? {
            Value::Null => Ok(()),
            value => self.add_object(value),
        }
    }

    /// Adds objects in JSON, one or several after one another.
    fn add_json(&mut self, document: &str) -> Result<(), String> {
        if depth(document) > MAX_DEPTH {
            return Err(format!("is nested deeper than {MAX_DEPTH} levels: flatten it"));
        }
        let mut json = serde_json::Deserializer::from_str(document);
        json.disable_recursion_limit();
        json.into_iter::<Value>()
            .try_for_each(|value| self.add_object(value.map_err(|error| format!("is not valid JSON: {error}"))?))
    }

    fn add_object(&mut self, mut object: Value) -> Result<(), String> {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        match (version.as_str(), kind.as_str()) {
            ("v1", "Secret") => self.add_secret(object),
            ("v1", "List") => match object.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items.into_iter().try_for_each(|item| self.add_object(item)),
                _ => Err("is a List without items".to_owned()),
            },
            (version, KIND) if version == format!("{GROUP}/{VERSION}") => self.add_message(object),
            ("", "") => Err(format!("is no manifest: write apiVersion: {GROUP}/{VERSION} and kind: {KIND}")),
            ("", kind) => Err(format!("is a {kind} without apiVersion: add the line")),
            _ => Err(format!(
                "is a {kind} of {version}: only {KIND} of {GROUP}/{VERSION} and Secret of v1 are read here"
            )),
        }
    }

    fn add_secret(&mut self, object: Value) -> Result<(), String> {
        // The decoder's own words could quote the data.
        let mut secret = Secret::deserialize(object)
            .map_err(|_| "is not a valid Secret: data must be base64, stringData must be text".to_owned())?;
        let plain = secret.string_data.take().unwrap_or_default();
        let data = secret.data.get_or_insert_default();
        data.extend(plain.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        let name = secret.metadata.name.clone().ok_or("is a Secret without metadata.name")?;
        let namespace = secret.metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        self.secrets.insert(SecretName { namespace, name }, Arc::new(secret));
        Ok(())
    }

    fn add_message(&mut self, mut object: Value) -> Result<(), String> {
        refuse_unknown_fields(&object)?;
        stand_in_for_the_api_server(&mut object)?;
        let json = object.to_string();
        let message = serde_json::from_str(&json).map_err(|error| format!("can't be read: {error}"))?;
        self.messages.push(message);
        Ok(())
    }
}

/// Decodes a YAML document, on a stack that is large enough for the deepest.
fn from_yaml(document: &str) -> Result<Value, String> {
    let decode = || {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_nodes: MAX_NODES, max_events: 2 * MAX_NODES },
        };
        serde_saphyr::from_str_with_options::<Value>(document, options).map_err(|error| error.to_string())
    };
    let decoded = std::thread::scope(|scope| {
        let decoder = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, decode);
        decoder.map(std::thread::ScopedJoinHandle::join)
    });
    match decoded {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(format!("is not valid YAML: {error}")),
        Ok(Err(_)) => Err("is YAML that can't be read: write it more simply, or as JSON".to_owned()),
        Err(error) => Err(format!("can't be read: {error}")),
    }
}

/// A field that the API server would warn of, and drop.
fn refuse_unknown_fields(object: &Value) -> Result<(), String> {
    let Some(spec) = object.get("spec") else { return Ok(()) };
    let mut unknown = Vec::new();
    let spec = spec.to_string();
    let mut json = serde_json::Deserializer::from_str(&spec);
    // What else is wrong with the spec is said in the message's status.
    let _ =
        serde_ignored::deserialize::<_, _, FedoraMessageSpec>(&mut json, |path| unknown.push(format!("spec.{path}")));
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(format!("has unknown fields: {}; correct or remove them", unknown.join(", ")))
    }
}

/// Fills in what the API server gives to an object that it stores, and drops the status, which is
/// that of another delivery.
fn stand_in_for_the_api_server(object: &mut Value) -> Result<(), String> {
    let fields = object.as_object_mut().ok_or("is no object")?;
    fields.remove("status");
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let metadata = metadata.as_object_mut().ok_or("metadata is no object")?;
    let now = || Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true).into();
    metadata.entry("namespace").or_insert_with(|| DEFAULT_NAMESPACE.into());
    metadata.entry("uid").or_insert_with(|| Uuid::new_v4().to_string().into());
    metadata
        .entry("creationTimestamp")
        .and_modify(|time| {
            if time.is_null() {
                *time = now();
            }
        })
        .or_insert_with(now);
    Ok(())
}

/// The documents of a YAML stream. A line that begins with `---` ends one wherever it stands: YAML
/// forbids it within a document.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let marks = text.match_indices("---").filter(|(start, _)| *start == 0 || text[..*start].ends_with('\n'));
    let mut begin = 0;
    let mut parts = Vec::new();
    for (start, mark) in marks {
        parts.push(&text[begin..start]);
        begin = start + mark.len();
    }
    parts.push(&text[begin..]);
    parts.into_iter().filter(|part| !part.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessage
metadata: {name: hello-world}
spec:
  env: prod
  message: {body: {a: 1}, topic: nice.message}
  authentication: {secret_ref: {name: certs}}
";

    fn read(text: &str) -> Result<Manifests, String> {
        let mut manifests = Manifests::default();
        manifests.add(text, "file").map(|()| manifests)
    }

    #[test]
    fn messages_and_secrets_stand_in_any_order_and_number() {
        let secret =
            "apiVersion: v1\nkind: Secret\nmetadata: {name: certs}\nstringData: {ca: text}\ndata: {cert: dGV4dA==}\n";
        let manifests = read(&format!("---\n{MESSAGE}---\n{secret}---\n# nothing\n--- \n{MESSAGE}")).unwrap();
        assert_eq!(manifests.messages.len(), 2);
        let name = SecretName { namespace: "default".to_owned(), name: "certs".to_owned() };
        let data = manifests.secrets[&name].data.as_ref().unwrap();
        assert_eq!((data["ca"].0.as_slice(), data["cert"].0.as_slice()), (&b"text"[..], &b"text"[..]));
    }

    #[test]
    fn json_is_read_too_one_object_or_many() {
        let object: Value = serde_saphyr::from_str(MESSAGE).unwrap();
        assert_eq!(read(&format!("{object}\n{object}")).unwrap().messages.len(), 2);
        assert_eq!(
            read(&serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [object]}).to_string())
                .unwrap()
                .messages
                .len(),
            1
        );
    }

    #[test]
    fn a_message_has_an_id_of_its_own_unless_it_brings_one() {
        let uid = "8f0c1d5e-7d53-4c0c-9f5b-0d0f64f6b3c1";
        let own = MESSAGE.replace("{name: hello-world}", &format!("{{name: hello-world, uid: {uid}}}"));
        let manifests = read(&format!("{MESSAGE}---\n{MESSAGE}---\n{own}")).unwrap();
        let [a, b, c] = manifests.messages.as_slice() else { panic!("three messages") };
        assert_ne!(a.uid(), b.uid());
        assert_eq!(c.uid(), uid);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, words) in [
            ("kind: Deployment\napiVersion: apps/v1", "file, document 1: is a Deployment of apps/v1"),
            ("{", "file, document 1: is not valid JSON"),
            ("a: [", "file, document 1: is not valid YAML"),
            ("hello: world", "file, document 1: is no manifest"),
            ("kind: Pod", "file, document 1: is a Pod without apiVersion: add the line"),
            (
                &format!("{MESSAGE}---\n{}", MESSAGE.replace("topic:", "topics: x, topic:")),
                "file, document 2: has unknown fields: spec.message.topics",
            ),
            ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {key: '%%%'}", "data must be base64"),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.starts_with(words) || error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_body_may_nest_as_deep_as_is_sent() {
        let body = "{a: ".repeat(127) + "{}" + &"}".repeat(127);
        let yaml = MESSAGE.replace("{a: 1}", &body);
        let json = serde_json::to_string(&from_yaml(&yaml).unwrap()).unwrap();
        for text in [yaml, json] {
            assert!(read(&text).unwrap().messages[0].spec.is_ok());
        }
        for text in ["{a: ".repeat(50_000), "- ".repeat(50_000), r#"{"a":"#.repeat(50_000)] {
            assert!(read(&text).is_err());
        }
    }
}
