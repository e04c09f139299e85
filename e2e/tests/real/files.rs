//! `publish` reads files as kubectl does. Each file of a corpus goes through the real kubectl to the API
//! server, and through the program's reader. Both make the same objects, or both refuse the file. The
//! differences that docs/wire-format.md describes are listed here.

mod corpus;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use fedora_message::api::names::SourceName;
use fedora_message::api::object::FedoraMessage;
use fedora_message::message::envelope::Routing;
use fedora_message::message::validate::validate;
use fedora_message_operator::internals::Manifests;
use k8s_openapi::ByteString;
use rig::Guard;
use serde_json::{Value, json};

use self::corpus::{File, MARK, Source, files, sources};
use e2e::fidelity::cases::{as_stored, parse};
use e2e::{message_json, shared};

/// The files that `publish` refuses and kubectl reads, by a part of the error.
const REFUSED: [&str; 14] = [
    "a key stands there twice",
    "is a number, but no 64-bit integer: put it in quotes",
    "is a number that JSON can't hold",
    "the tag ",
    "put it first",
    "did not find expected",
    "directives such as %YAML",
    "comes more, which kubectl ignores",
    "stands there: write \\u",
    "half of a surrogate pair",
    "a text within {} or [] begins with a colon",
    "a key is an alias of no text",
    "spec.message.priority is 7.0, but must be an integer",
    "is a number with a fraction or exponent, but must be a string",
];

/// The Secrets and `ConfigMaps` that `publish` refuses and kubectl reads, by a part of the error.
const REFUSED_SOURCES: [&str; 2] = ["[\"key\"] is null", "[\"key\"] must be base64"];

/// The files that `publish` reads and kubectl refuses. Their values can't be mistaken.
const ACCEPTED: [&str; 7] = [
    "JSON, JSON, mark, JSON",
    "JSON in YAML with a surrogate pair",
    "JSON in YAML with escapes",
    "a List in a List",
    "a document beside the mark",
    "a tab in a block",
    "an escaped slash",
];

/// An object as it is stored: name, namespace and content.
type Object = (String, String, Value);

/// Runs `kubectl create` with all files, without storing them. Returns the objects of each file by its
/// number, which the label `file` has. A file that is refused has none.
fn by_kubectl(files: &[&str]) -> BTreeMap<usize, Vec<Value>> {
    let folder = Guard::new("files").expect("a folder");
    for (number, text) in files.iter().enumerate() {
        fs::write(folder.scratch().join(format!("{number:05}.yaml")), text).expect("a file");
    }
    let mut kubectl = shared().kube.kubectl();
    let output = kubectl
        .args(["create", "--namespace", "default", "--dry-run=server", "-o", "json", "-f"])
        .arg(folder.scratch())
        .output()
        .expect("kubectl runs");
    let mut stored: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    for object in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>() {
        let object = object.expect("JSON");
        let file = object["metadata"]["labels"]["file"].as_str().and_then(|text| text.strip_prefix('f'));
        stored.entry(file.and_then(|number| number.parse().ok()).expect("the label")).or_default().push(object);
    }
    // A file is also refused if kubectl has read some of its documents.
    let errors = String::from_utf8_lossy(&output.stderr);
    stored.retain(|number, _| !errors.contains(&format!("/{number:05}.yaml")));
    stored
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns the messages that the program reads from a file, or its error.
fn by_publish(text: &str) -> Result<Vec<Object>, String> {
    let mut manifests = Manifests::default();
    manifests.add(text, "file").map_err(|error| format!("{error:#}"))?;
    manifests.messages.iter().map(object).collect()
}

fn object(message: &FedoraMessage) -> Result<Object, String> {
    let routing = Routing { exchange: "amq.topic".to_owned(), ..Routing::default() };
    validate(message, None, &routing).map_err(|error| format!("{error:?}"))?;
    let mut spec = message.spec_json.as_deref().map(parse).unwrap_or_default();
    // The API server drops fields that are null, which is the same as absent.
    for pointer in ["", "/message"] {
        if let Some(Value::Object(fields)) = spec.pointer_mut(pointer) {
            fields.retain(|_, value| !value.is_null());
        }
    }
    Ok((message.name().to_owned(), message.namespace().to_owned(), as_stored(spec)))
}

/// Collects how the results of kubectl and `publish` differ.
#[derive(Default)]
struct Comparison {
    wrong: Vec<String>,
    refused: BTreeSet<&'static str>,
    accepted: BTreeSet<&'static str>,
    /// The files that both read, and that both refuse.
    same: [usize; 2],
}

impl Comparison {
    fn add<T: std::fmt::Debug + PartialEq>(
        &mut self,
        name: &str,
        text: &str,
        kubectl: Option<T>,
        publish: Result<T, String>,
    ) {
        match (kubectl, publish) {
            (Some(stored), Ok(read)) if stored == read => self.same[0] += 1,
            (None, Err(_)) => self.same[1] += 1,
            (Some(stored), Err(error)) => {
                match REFUSED.iter().chain(&REFUSED_SOURCES).find(|part| error.contains(*part)) {
                    Some(part) => _ = self.refused.insert(part),
                    None => self.wrong.push(format!("{name}: kubectl stores {stored:?}, publish says {error}\n{text}")),
                }
            }
            (None, Ok(read)) => match ACCEPTED.iter().find(|known| **known == name) {
                Some(known) => _ = self.accepted.insert(known),
                None => self.wrong.push(format!("{name}: kubectl refuses it, publish reads {read:?}\n{text}")),
            },
            (Some(stored), Ok(read)) => {
                self.wrong.push(format!("{name}: kubectl stores {stored:?}\n  publish reads {read:?}\n{text}"));
            }
        }
    }

    fn finish(&self, refused: &[&str], accepted: &[&str]) {
        println!("{} files are read by both, {} are refused by both", self.same[0], self.same[1]);
        assert!(self.wrong.is_empty(), "{} differences:\n{}", self.wrong.len(), self.wrong.join("\n"));
        assert!(refused.iter().all(|part| self.refused.contains(part)), "only {:?} occur", self.refused);
        assert!(accepted.iter().all(|name| self.accepted.contains(name)), "only {:?} occur", self.accepted);
    }
}

#[test]
fn messages_are_those_of_kubectl() {
    let files: Vec<File> = files();
    let texts: Vec<_> = files.iter().enumerate().map(|(n, file)| file.text.replace(MARK, &format!("f{n}"))).collect();
    let stored = by_kubectl(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let mut comparison = Comparison::default();
    for (number, (file, written)) in files.iter().zip(&texts).enumerate() {
        let kubectl = stored.get(&number).map(|objects| {
            let object = |object: &Value| {
                let metadata = &object["metadata"];
                (text(&metadata["name"]), text(&metadata["namespace"]), as_stored(object["spec"].clone()))
            };
            let objects: Vec<Object> = objects.iter().map(object).collect();
            objects
        });
        comparison.add(&file.name, written, kubectl, by_publish(written));
    }
    comparison.finish(&REFUSED, &ACCEPTED);
    assert!(comparison.same[0] >= 1000 && comparison.same[1] >= 100, "{:?}", comparison.same);
}

/// The name that the API server generates is random, but has the same form.
#[test]
fn names_are_generated() {
    let manifest = |prefix: &str| {
        let mut manifest = message_json("", &json!({"topic": "a", "body": {}}));
        manifest["metadata"] = json!({"generateName": prefix, "labels": {"file": "f0"}});
        manifest.to_string()
    };
    for prefix in ["build-", &"a".repeat(200)] {
        let text = manifest(prefix);
        let stored = by_kubectl(&[&text]);
        let theirs = stored[&0][0]["metadata"]["name"].as_str().expect("a name");
        let objects = by_publish(&text).expect("a message");
        let (ours, _, _) = &objects[0];
        let (prefix, suffix) = ours.split_at(ours.len() - 5);
        assert!(theirs.starts_with(prefix) && theirs.len() == ours.len(), "{ours} and {theirs}");
        assert!(suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{ours}");
    }
}

#[test]
fn secrets_are_those_of_kubectl() {
    let sources: Vec<Source> = sources();
    let texts: Vec<_> =
        sources.iter().enumerate().map(|(n, source)| source.text.replace(MARK, &format!("f{n}"))).collect();
    let stored = by_kubectl(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let mut comparison = Comparison::default();
    for (number, (source, text)) in sources.iter().zip(&texts).enumerate() {
        let kubectl = stored.get(&number).map(|objects| {
            let object = &objects[0];
            let bytes = |field: &str| {
                let value = object[field].get("key").cloned()?;
                Some(serde_json::from_value::<ByteString>(value).expect("base64").0)
            };
            match object["data"]["key"].as_str() {
                Some(text) if source.kind == "ConfigMap" => Some(text.into()),
                _ => bytes("data").or_else(|| bytes("binaryData")),
            }
        });
        let mut manifests = Manifests::default();
        let read = manifests.add(text, "file").map_err(|error| format!("{error:#}")).map(|()| {
            let name = match source.kind {
                "Secret" => SourceName::secret("default", "source"),
                _ => SourceName::config_map("default", "source"),
            };
            manifests.secrets[&name].get("key").map(<[u8]>::to_vec)
        });
        comparison.add(&source.text, text, kubectl, read);
    }
    comparison.finish(&REFUSED_SOURCES, &[]);
}
