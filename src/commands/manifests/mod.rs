//! Reads manifests from text: `FedoraMessages`, and the Senders, Secrets and `ConfigMaps` that they
//! name.

mod json;
mod yaml;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret as KubeSecret};
use memchr::memchr2_iter;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use self::json::JsonObjects;
use self::yaml::read_documents;
use fedora_message::api::names::SenderName;
use fedora_message::api::object::{FedoraMessage, Metadata};
use fedora_message::api::sender::{FedoraMessageSender, KIND as SENDER_KIND};
use fedora_message::api::v1alpha1::{API_VERSION, KIND};
use fedora_message::message::authentication::SourceName;
use fedora_message::message::body::{MAX_DEPTH as MAX_BODY_DEPTH, depth};
use fedora_message::message::secret::Secret;
use fedora_message::message::sender::{FoundSender, Sender, SenderError, usable};
use fedora_message::text::{MAX_DETAIL, MAX_QUOTE, printable, quoted};

/// The namespace of manifests without one.
const DEFAULT_NAMESPACE: &str = "default";
/// The maximum nesting of a document: that of a body, and of the object around it.
const MAX_DEPTH: usize = MAX_BODY_DEPTH + 32;
/// The maximum number of unknown fields that an error names.
const MOST_SHOWN: usize = 5;

/// The content of files.
#[derive(Default)]
pub struct Manifests {
    /// The messages, in the order of the files.
    pub messages: Vec<FedoraMessage>,
    /// The Senders, by name.
    pub senders: HashMap<SenderName, FoundSender>,
    /// The Secrets and `ConfigMaps`, by name.
    pub secrets: HashMap<SourceName, Arc<Secret>>,
}

impl Manifests {
    /// Adds all documents of `text`, which came from `place`. The error message names the document.
    ///
    /// Documents in JSON come first, as the text that stands there: the bytes of a body are those that are sent.
    pub fn add(&mut self, text: &str, place: &str) -> Result<(), String> {
        self.add_documents(text).map_err(|detail| format!("{place}, {detail}"))
    }

    fn add_documents(&mut self, text: &str) -> Result<(), String> {
        let mut objects = JsonObjects::new(text);
        for object in &mut objects {
            let (number, json) = object?;
            let added = not_too_deep(json).and_then(|()| self.add_object(json));
            added.map_err(|detail| in_document(number, &detail))?;
        }
        let (rest, start, first) = objects.rest();
        if rest.is_empty() {
            return Ok(());
        }
        read_documents(rest, text[..start].matches('\n').count(), |index, document| {
            let added = document.and_then(|value| self.add_object(&value.to_string()));
            added.map_err(|detail| in_document(first + index, &detail))
        })
    }

    fn add_object(&mut self, json: &str) -> Result<(), String> {
        let object = match json.as_bytes() {
            [b'{', ..] => {
                decode(json).map_err(|error| format!("is not valid JSON: {}: correct it", describe(&error)))?
            }
            _ => Object::default(),
        };
        let text = |field: &Option<Value>| field.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text(&object.api_version), text(&object.kind));
        match (version.as_str(), kind.as_str()) {
            ("v1", "Secret") => self.add_secret(json),
            ("v1", "List") => match object.items.and_then(|items| decode::<Vec<&RawValue>>(items.get()).ok()) {
                Some(items) => items.into_iter().try_for_each(|item| self.add_object(item.get())),
                None => Err("is a List without items: add them".to_owned()),
            },
            ("v1", "ConfigMap") => self.add_config_map(json),
            (API_VERSION, KIND) => self.add_message(&object),
            (API_VERSION, SENDER_KIND) => self.add_sender(&object),
            ("", "") => Err(format!("is no manifest: write apiVersion: {API_VERSION} and kind: {KIND}")),
            ("", kind) => Err(format!("is a {} without apiVersion: add the line", printable(kind, MAX_QUOTE))),
            (version, "") => Err(format!("is of {} without kind: add the line", printable(version, MAX_QUOTE))),
            (version, kind) => Err(format!(
                "is a {} of {}: only {KIND} and {SENDER_KIND} of {API_VERSION}, and Secret and ConfigMap of v1 are read here; remove it",
                printable(kind, MAX_QUOTE),
                printable(version, MAX_QUOTE)
            )),
        }
    }

    fn add_secret(&mut self, json: &str) -> Result<(), String> {
        // The decoder's error could quote the data.
        let mut secret: KubeSecret = decode(json)
            .map_err(|_| "is not a valid Secret: data must be base64; put text under stringData".to_owned())?;
        let plain = secret.string_data.take().unwrap_or_default();
        let data = secret.data.get_or_insert_default();
        data.extend(plain.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        let name = secret.metadata.name.clone().ok_or("is a Secret without metadata.name: add it")?;
        let namespace = secret.metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        self.secrets.insert(SourceName::secret(namespace, name), Arc::new(secret.into()));
        Ok(())
    }

    fn add_config_map(&mut self, json: &str) -> Result<(), String> {
        let map: ConfigMap = decode(json).map_err(|error| format!("is not a valid ConfigMap: {}", describe(&error)))?;
        let name = map.metadata.name.clone().ok_or("is a ConfigMap without metadata.name: add it")?;
        let namespace = map.metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        self.secrets.insert(SourceName::config_map(namespace, name), Arc::new(map.into()));
        Ok(())
    }

    fn add_sender(&mut self, object: &Object<'_>) -> Result<(), String> {
        let spec = object.spec.map(|spec| decode(spec.get())).transpose().map_err(|error| describe(&error))?;
        let (sender, unknown) = FedoraMessageSender::from_manifest(metadata(object.metadata)?, spec);
        refuse_unknown_fields(&unknown)?;
        if sender.metadata.name.is_none() {
            return Err(format!("is a {SENDER_KIND} without metadata.name: add it"));
        }
        self.senders.insert(sender.name(), Sender::new(&sender).map(Arc::new));
        Ok(())
    }

    /// Returns the Sender that a message names, if it names one.
    #[must_use]
    pub fn sender(&self, message: &FedoraMessage) -> Option<Result<Arc<Sender>, SenderError>> {
        let name = message.summary.sender.as_ref()?;
        Some(usable(name, message.namespace(), self.senders.get(name)))
    }

    /// Adds to each message the fields that its Sender gives. Senders may come after their messages, so
    /// this comes last.
    pub fn resolve(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        for message in &mut messages {
            if let Some(Ok(sender)) = self.sender(message) {
                Arc::make_mut(&mut message.summary).set_sender_fields(Some(sender.fields.clone()));
            }
        }
        self.messages = messages;
    }

    fn add_message(&mut self, object: &Object<'_>) -> Result<(), String> {
        let (message, unknown) = FedoraMessage::from_manifest(metadata(object.metadata)?, object.spec);
        refuse_unknown_fields(&unknown)?;
        self.messages.push(message);
        Ok(())
    }
}

/// Refuses JSON that is nested too deeply: its decoder works by recursion. Counts the depth only if there are enough
/// brackets.
fn not_too_deep(json: &str) -> Result<(), String> {
    if memchr2_iter(b'{', b'[', json.as_bytes()).nth(MAX_DEPTH).is_some() && depth(json) > MAX_DEPTH {
        return Err(format!("is nested deeper than {MAX_DEPTH} levels: flatten it"));
    }
    Ok(())
}

fn in_document(number: usize, detail: &str) -> String {
    format!("document {number}: {detail}")
}

/// The fields that objects of all kinds have.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    api_version: Option<Value>,
    kind: Option<Value>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    /// The text of the spec: the bytes of a body are those that are sent.
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
}

/// Decodes JSON whose depth was checked before.
fn decode<'a, T: Deserialize<'a>>(json: &'a str) -> serde_json::Result<T> {
    let mut json = serde_json::Deserializer::from_str(json);
    json.disable_recursion_limit();
    T::deserialize(&mut json)
}

/// Returns a decoder's message on one line, without the position that it ends with.
fn describe(error: &serde_json::Error) -> String {
    let detail = error.to_string();
    printable(detail.rfind(" at line ").map_or(detail.as_str(), |end| &detail[..end]), MAX_DETAIL)
}

/// Refuses fields that the API server would drop with a warning.
fn refuse_unknown_fields(unknown: &[String]) -> Result<(), String> {
    if unknown.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = unknown.iter().take(MOST_SHOWN).map(|path| printable(path, MAX_QUOTE)).collect();
    let more = match unknown.len().saturating_sub(MOST_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(format!("has unknown fields: {}{more}; correct or remove them", shown.join(", ")))
}

/// Refuses names that no API server accepts, because they are printed as they are.
fn refuse_strange_names(metadata: &Metadata) -> Result<(), String> {
    const LONGEST: usize = 253;
    let plain =
        |name: &str| name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    for (field, name) in [("name", &metadata.name), ("namespace", &metadata.namespace), ("uid", &metadata.uid)] {
        if let Some(name) = name.as_deref().filter(|name| !plain(name)) {
            return Err(format!(
                "metadata.{field} is {}, but may have only letters, digits, dashes and dots, and at most {LONGEST} of them",
                quoted(name)
            ));
        }
    }
    Ok(())
}

/// Returns an object's metadata, with the fields that the API server would add.
fn metadata(json: Option<&RawValue>) -> Result<Metadata, String> {
    let metadata = json.map_or_else(|| Ok(Metadata::default()), read_metadata)?;
    refuse_strange_names(&metadata)?;
    Ok(completed(metadata))
}

/// Adds the fields that the API server would add.
#[must_use]
pub fn completed(mut metadata: Metadata) -> Metadata {
    metadata.namespace.get_or_insert_with(|| DEFAULT_NAMESPACE.to_owned());
    metadata.uid.get_or_insert_with(|| Uuid::new_v4().to_string());
    metadata.creation_timestamp.get_or_insert_with(|| Utc::now().trunc_subsecs(0));
    metadata
}

fn read_metadata(json: &RawValue) -> Result<Metadata, String> {
    if !json.get().starts_with('{') {
        return Err("has metadata that are no object: write metadata: {name: NAME}".to_owned());
    }
    decode(json.get()).map_err(|error| unread_metadata(json.get(), error))
}

/// Describes why metadata can't be read. A position would be relative to the beginning of the metadata.
fn unread_metadata(json: &str, error: serde_json::Error) -> String {
    let object: Map<String, Value> = decode(json).unwrap_or_default();
    match object.get("creationTimestamp") {
        Some(Value::String(time)) if time.parse::<DateTime<Utc>>().is_err() => format!(
            "metadata.creationTimestamp is {}, but must be a time such as 2026-01-31T12:00:00Z: correct or remove it",
            quoted(time)
        ),
        _ => {
            format!("can't be read: {}", describe(&Metadata::deserialize(Value::Object(object)).err().unwrap_or(error)))
        }
    }
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

    fn json() -> String {
        serde_saphyr::from_str::<Value>(MESSAGE).unwrap().to_string()
    }

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
        let name = SourceName::secret("default", "certs");
        let secret = &manifests.secrets[&name];
        assert_eq!((secret.get("ca"), secret.get("cert")), (Some(&b"text"[..]), Some(&b"text"[..])));
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
    fn many_messages_are_read_in_their_order_and_the_first_mistake_is_named() {
        let object = json();
        let numbered = |number: usize| object.replace("hello-world", &format!("message-{number}"));
        let many: Vec<_> = (0..300).map(numbered).collect();
        let messages = read(&many.join("\n")).unwrap().messages;
        let names: Vec<_> = messages.iter().map(FedoraMessage::name).collect();
        assert_eq!(names, (0..many.len()).map(|number| format!("message-{number}")).collect::<Vec<_>>());

        let mistaken = |at: &[(usize, &str)]| {
            let mut documents = many.clone();
            for (number, kind) in at {
                documents[*number] = documents[*number].replace("FedoraMessage", kind);
            }
            read(&documents.join("\n---\n")).err().unwrap()
        };
        let detail = mistaken(&[(105, "Second"), (2, "First")]);
        assert!(detail.starts_with("file, document 3: is a First of"), "{detail}");
    }

    #[test]
    fn what_json_says_of_a_body_is_sent_as_it_stands() {
        let body = r#"{"a": 12345678901234567890123, "b": 1.0, "c": "\u00e9"}"#;
        let json = json().replace(r#"{"a":1}"#, body);
        let messages = read(&json).unwrap().messages;
        assert_eq!(messages[0].spec().unwrap().message.body.get(), body);
    }

    #[test]
    fn json_between_marks_is_sent_as_it_stands() {
        let body = r#"{"a": 12345678901234567890123, "b": "\u00e9"}"#;
        let json = json().replace(r#"{"a":1}"#, body);
        let messages = read(&format!("---\n{json}\n---\n{json} {json}\n---\n{MESSAGE}")).unwrap().messages;
        let specs: Vec<_> = messages.iter().map(|message| message.spec().unwrap()).collect();
        let bodies: Vec<_> = specs.iter().map(|spec| spec.message.body.get()).collect();
        assert_eq!(bodies, [body, body, body, r#"{"a":1}"#]);
    }

    #[test]
    fn errors_tell_the_line_of_the_file() {
        let json = json();
        for (text, detail) in [
            ("a: 1\n", "file, document 1: is no manifest"),
            (&format!("{MESSAGE}---\nb: [\n"), "file, document 2: is not valid YAML: line 10, column 4: "),
            (&format!("{json}\n---\nb: [\n"), "file, document 2: is not valid YAML: line 3, column 4: "),
            (&format!("{json}\n {{\n"), "file, document 1: is not valid JSON: EOF while parsing an object at line 3 "),
            (
                &format!("{json}\n {{a}}"),
                "file, document 1: is not valid JSON: key must be a string at line 2 column 3",
            ),
            (&format!("{json}\nb: 1"), "file, document 1: is not valid JSON: expected value at line 2 column 1"),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.starts_with(detail), "{error}");
        }
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
        for (text, detail) in [
            ("kind: Deployment\napiVersion: apps/v1", "file, document 1: is a Deployment of apps/v1"),
            ("{", "file, document 1: is not valid JSON"),
            ("a: [", "file, document 1: is not valid YAML"),
            ("a: |\n-----BEGIN", "file, document 1: is not valid YAML"),
            ("hello: world", "file, document 1: is no manifest"),
            ("kind: Pod", "file, document 1: is a Pod without apiVersion: add the line"),
            (
                &format!("{MESSAGE}---\n{}", MESSAGE.replace("topic:", "topics: x, topic:")),
                "file, document 2: has unknown fields: spec.message.topics",
            ),
            ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {key: '%%%'}", "data must be base64"),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.starts_with(detail) || error.contains(detail), "{error}");
        }
    }

    #[test]
    fn a_body_may_nest_as_deep_as_is_sent() {
        let body = "{a: ".repeat(127) + "{}" + &"}".repeat(127);
        let yaml = MESSAGE.replace("{a: 1}", &body);
        let body = r#"{"a":"#.repeat(127) + "{}" + &"}".repeat(127);
        let json = json().replace(r#"{"a":1}"#, &body);
        for text in [yaml, json] {
            assert!(read(&text).unwrap().messages[0].spec().is_ok());
        }
        for text in ["{a: ".repeat(50_000), "- ".repeat(50_000), r#"{"a":"#.repeat(50_000)] {
            assert!(read(&text).is_err());
        }
    }
}
