//! Reads manifests from text: `FedoraMessages`, and the Secrets that they name.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Error as Yaml;
use uuid::Uuid;

use crate::message::authentication::SecretName;
use crate::message::body::{MAX_DEPTH as MAX_BODY_DEPTH, depth};
use crate::message::incoming::FedoraMessage;
use crate::message::resource::{FedoraMessageSpec, GROUP, KIND, VERSION};
use crate::message::secret::Secret;
use crate::message::text::{printable, quoted};

/// The namespace of a manifest that names none.
const DEFAULT_NAMESPACE: &str = "default";
/// The deepest nesting of a document that is read: that of a body, and what it stands in.
const MAX_DEPTH: usize = MAX_BODY_DEPTH + 32;
/// The YAML decoder works by recursion, with much stack for each level.
const STACK: usize = 64 * 1024 * 1024;
/// How many values a YAML document may have.
const MAX_NODES: usize = 2_000_000;
/// How many values aliases may stand for, all together.
const MAX_REPEATED: usize = 20_000;
/// How many times as long as a document its texts may become through aliases.
const MAX_EXPANSION: usize = 16;
/// The longest part of a decoder's words that is passed on, in characters.
const LONGEST_WORDS: usize = 300;
/// The longest kind, version or field of a manifest that is passed on, in characters.
const LONGEST_NAME: usize = 60;
/// How many unknown fields are named.
const MOST_SHOWN: usize = 5;

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
        on_large_stack(|| {
            (1..).zip(documents(text)).try_for_each(|(number, document)| {
                self.add_document(document).map_err(|words| format!("{place}, document {number}: {words}"))
            })
        })
        .unwrap_or_else(|words| Err(format!("{place} can't be read: {words}")))
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
        json.into_iter::<Value>().try_for_each(|value| {
            self.add_object(value.map_err(|error| format!("is not valid JSON: {}: correct it", words(&error)))?)
        })
    }

    fn add_object(&mut self, mut object: Value) -> Result<(), String> {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        match (version.as_str(), kind.as_str()) {
            ("v1", "Secret") => self.add_secret(object),
            ("v1", "List") => match object.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items.into_iter().try_for_each(|item| self.add_object(item)),
                _ => Err("is a List without items: add them".to_owned()),
            },
            (version, KIND) if version == format!("{GROUP}/{VERSION}") => self.add_message(object),
            ("", "") => Err(format!("is no manifest: write apiVersion: {GROUP}/{VERSION} and kind: {KIND}")),
            ("", kind) => Err(format!("is a {} without apiVersion: add the line", printable(kind, LONGEST_NAME))),
            (version, "") => Err(format!("is of {} without kind: add the line", printable(version, LONGEST_NAME))),
            (version, kind) => Err(format!(
                "is a {} of {}: only {KIND} of {GROUP}/{VERSION} and Secret of v1 are read here; remove it",
                printable(kind, LONGEST_NAME),
                printable(version, LONGEST_NAME)
            )),
        }
    }

    fn add_secret(&mut self, object: Value) -> Result<(), String> {
        // The decoder's own words could quote the data.
        let mut secret = KubeSecret::deserialize(object)
            .map_err(|_| "is not a valid Secret: data must be base64; put text under stringData".to_owned())?;
        let plain = secret.string_data.take().unwrap_or_default();
        let data = secret.data.get_or_insert_default();
        data.extend(plain.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        let name = secret.metadata.name.clone().ok_or("is a Secret without metadata.name: add it")?;
        let namespace = secret.metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        self.secrets.insert(SecretName { namespace, name }, Arc::new(secret.into()));
        Ok(())
    }

    fn add_message(&mut self, mut object: Value) -> Result<(), String> {
        refuse_unknown_fields(&object)?;
        stand_in_for_the_api_server(&mut object)?;
        let json = object.to_string();
        let message = serde_json::from_str(&json).map_err(|error| format!("can't be read: {}", words(&error)))?;
        self.messages.push(message);
        Ok(())
    }
}

/// Does `work` on a stack that is large enough for the deepest document. The error is that of the
/// operating system, or a decoder's that gave up.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let done = std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        worker.map(std::thread::ScopedJoinHandle::join)
    });
    match done {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => Err("write it more simply, or as JSON".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What is wrong with a document, and where. The decoder's own words quote its source, which may be a
/// key's, and speak of its options.
fn mistake(error: &serde_saphyr::Error, document: &str) -> String {
    let error = error.without_snippet();
    let mistake = match error {
        Yaml::DuplicateMappingKey { .. } => "a key stands there twice: remove one".to_owned(),
        Yaml::NullIntoString { .. } => "a key is null: put it in quotes".to_owned(),
        Yaml::Budget { .. } => "it is nested too deep, or too large: write it more simply".to_owned(),
        Yaml::UnknownAnchor { .. } => "an alias (*name) has no anchor (&name): write the value out".to_owned(),
        Yaml::AliasError { .. } | Yaml::AliasReplayLimitExceeded { .. } | Yaml::AliasExpansionLimitExceeded { .. } => {
            "its aliases (*name) stand for too much: write the values out".to_owned()
        }
        _ if ["Secret", "PRIVATE KEY"].iter().any(|sign| document.contains(sign)) => "correct it".to_owned(),
        error => format!("{}: correct it", printable(plain(&error.to_string()), LONGEST_WORDS)),
    };
    match error.location() {
        Some(at) => format!("line {}, column {} of this document: {mistake}", at.line(), at.column()),
        None => mistake,
    }
}

/// A decoder's words without the place that they end with.
fn plain(words: &str) -> &str {
    words.split_once(" at line ").map_or(words, |(words, _)| words)
}

/// Decodes a YAML document.
fn from_yaml(document: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_total_scalar_bytes: MAX_EXPANSION * document.len(),
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
        // The lines around a mistake may be those of a private key.
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(document, options)
        .map_err(|error| format!("is not valid YAML: {}", mistake(&error, document)))
}

/// A decoder's words, on one line.
fn words(error: &impl Display) -> String {
    printable(&error.to_string(), LONGEST_WORDS)
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
        return Ok(());
    }
    let shown: Vec<_> = unknown.iter().take(MOST_SHOWN).map(|path| printable(path, LONGEST_NAME)).collect();
    let more = match unknown.len().saturating_sub(MOST_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(format!("has unknown fields: {}{more}; correct or remove them", shown.join(", ")))
}

/// Names that no API server would have, and which are printed as they are.
fn refuse_strange_names(metadata: &Map<String, Value>) -> Result<(), String> {
    const LONGEST: usize = 253;
    let plain =
        |name: &str| name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    for field in ["name", "namespace", "uid"] {
        if let Some(name) = metadata.get(field).and_then(Value::as_str)
            && !plain(name)
        {
            return Err(format!(
                "metadata.{field} is {}, but may have only letters, digits, dashes and dots, and at most {LONGEST} of them",
                quoted(name)
            ));
        }
    }
    Ok(())
}

/// Fills in what the API server gives to an object that it stores, and drops the status, which is
/// that of another delivery.
fn stand_in_for_the_api_server(object: &mut Value) -> Result<(), String> {
    let fields = object.as_object_mut().ok_or("is no object")?;
    fields.remove("status");
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let metadata = metadata.as_object_mut().ok_or("has metadata that are no object: write metadata: {name: NAME}")?;
    refuse_strange_names(metadata)?;
    if let Some(Value::String(time)) = metadata.get("creationTimestamp")
        && time.parse::<DateTime<Utc>>().is_err()
    {
        return Err(format!(
            "metadata.creationTimestamp is {}, but must be a time such as 2026-01-31T12:00:00Z: correct or remove it",
            quoted(time)
        ));
    }
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

/// The documents of a YAML stream. A line that begins with the word `---` ends one wherever it stands:
/// YAML forbids it within a document. `-----BEGIN` is another word.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let is_mark = |start: usize| {
        (start == 0 || text[..start].ends_with('\n')) && !text[start + 3..].starts_with(|c: char| !c.is_whitespace())
    };
    let marks = text.match_indices("---").filter(|(start, _)| is_mark(*start));
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
            assert!(error.starts_with(words) || error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_body_may_nest_as_deep_as_is_sent() {
        let body = "{a: ".repeat(127) + "{}" + &"}".repeat(127);
        let yaml = MESSAGE.replace("{a: 1}", &body);
        let json = serde_json::to_string(&on_large_stack(|| from_yaml(&yaml)).unwrap().unwrap()).unwrap();
        for text in [yaml, json] {
            assert!(read(&text).unwrap().messages[0].spec.is_ok());
        }
        for text in ["{a: ".repeat(50_000), "- ".repeat(50_000), r#"{"a":"#.repeat(50_000)] {
            assert!(read(&text).is_err());
        }
    }
}
