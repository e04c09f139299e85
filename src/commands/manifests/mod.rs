//! Reads manifests from text: `FedoraMessages`, and the Senders, Secrets and `ConfigMaps` that they
//! name.

mod json;
mod metadata;
pub mod recorded;
mod scalar;
mod sources;
mod yaml;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use memchr::{memchr2_iter, memmem};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::json::{JsonObjects, Rest};
pub use self::metadata::completed;
use self::metadata::metadata;
use self::recorded::is_record;
use self::sources::{config_map, secret};
use self::yaml::{YamlError, read_documents};
use fedora_message::api::names::{SenderName, SourceName};
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::sender::{FedoraMessageSender, KIND as SENDER_KIND};
use fedora_message::api::v1alpha1::{API_VERSION, KIND};
use fedora_message::message::body::{MAX_DEPTH as MAX_BODY_DEPTH, depth};
use fedora_message::message::secret::Secret;
use fedora_message::message::sender::{FoundSender, Sender, SenderError, usable};
use fedora_message::text::{MAX_DETAIL, MAX_QUOTE, printable};

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
    pub fn add(&mut self, text: &str, place: &str) -> anyhow::Result<()> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut objects = JsonObjects::new(text);
        for (number, object) in &mut objects {
            object.and_then(|json| self.add_json(json)).with_context(|| in_document(place, number))?;
        }
        let Rest { text: rest, start, document, json_error } = objects.rest();
        let lines_before = text[..start].matches('\n').count();
        let read = read_documents(rest, place, lines_before, document, |value| self.add_object(&value.to_string()));
        match (read, json_error) {
            (Err(error), Some(json_error)) if error.is::<YamlError>() => {
                Err(json_error.context(in_document(place, document)))
            }
            (read, _) => read,
        }
    }

    /// Adds an object that stands in the file as JSON.
    fn add_json(&mut self, json: &str) -> anyhow::Result<()> {
        not_too_deep(json)?;
        refuse_lacking_values(json)?;
        self.add_object(json)
    }

    fn add_object(&mut self, json: &str) -> anyhow::Result<()> {
        let (object, unknown) = match json.as_bytes() {
            [b'{', ..] => strictly(json).map_err(|error| invalid_json(&error))?,
            _ => (Object::default(), Vec::new()),
        };
        let text = |field: &Option<Value>| field.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text(&object.api_version), text(&object.kind));
        match (version.as_str(), kind.as_str()) {
            ("v1", "Secret") => {
                let (name, secret) = secret(json)?;
                self.secrets.insert(name, secret);
                Ok(())
            }
            ("v1", "ConfigMap") => {
                let (name, map) = config_map(json)?;
                self.secrets.insert(name, map);
                Ok(())
            }
            ("v1", "List") => match object.items.and_then(|items| decode::<Vec<&RawValue>>(items.get()).ok()) {
                Some(items) => items.into_iter().try_for_each(|item| self.add_object(item.get())),
                None => bail!("is a List without items: add them"),
            },
            (API_VERSION, KIND) => self.add_message(&object, &unknown),
            (API_VERSION, SENDER_KIND) => self.add_sender(&object, &unknown),
            ("", "") if is_record(json) => bail!(
                "is a recorded message of fedora-messaging, which must stand on one line, in a file without manifests: write it so, for example with jq -c ."
            ),
            ("", "") => bail!("is no manifest: write apiVersion: {API_VERSION} and kind: {KIND}"),
            ("", kind) => bail!("is a {} without apiVersion: add the line", printable(kind, MAX_QUOTE)),
            (version, "") => bail!("is of {} without kind: add the line", printable(version, MAX_QUOTE)),
            (version, kind) => bail!(
                "is a {} of {}: only {KIND} and {SENDER_KIND} of {API_VERSION}, and Secret and ConfigMap of v1 are read here; remove it",
                printable(kind, MAX_QUOTE),
                printable(version, MAX_QUOTE)
            ),
        }
    }

    fn add_sender(&mut self, object: &Object<'_>, unknown: &[String]) -> anyhow::Result<()> {
        refuse_unknown_fields(unknown)?;
        let spec = object.spec.map(|spec| decode(spec.get())).transpose().map_err(|error| anyhow!(describe(&error)))?;
        let (sender, unknown) = FedoraMessageSender::from_manifest(metadata(object.metadata, SENDER_KIND)?, spec);
        refuse_unknown_fields(&unknown)?;
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

    fn add_message(&mut self, object: &Object<'_>, unknown: &[String]) -> anyhow::Result<()> {
        refuse_unknown_fields(unknown)?;
        let (message, unknown) = FedoraMessage::from_manifest(metadata(object.metadata, KIND)?, object.spec);
        refuse_unknown_fields(&unknown)?;
        self.messages.push(message);
        Ok(())
    }
}

/// Refuses JSON with half of a surrogate pair, or with a number that no float holds. It is sent as it stands.
fn refuse_lacking_values(json: &str) -> anyhow::Result<()> {
    if !may_lack_a_value(json) {
        return Ok(());
    }
    // The form of the JSON is valid, so this fails only at a value. Only the text tells at which kind.
    let Err(error) = decode::<Value>(json) else { return Ok(()) };
    let is_number = describe(&error) == "number out of range";
    ensure!(!is_number, "has a number that no 64-bit float holds: write a smaller one, or a text");
    bail!("has half of a surrogate pair, such as \\ud800: write the whole character")
}

/// Returns true if JSON has an escape that may be half of a surrogate pair, or a number that may be too large.
fn may_lack_a_value(json: &str) -> bool {
    let json = json.as_bytes();
    let is_exponent = |at: usize| {
        let (before, after) = (at.checked_sub(1).and_then(|at| json.get(at)), json.get(at + 1));
        before.is_some_and(u8::is_ascii_digit) && after.is_some_and(|after| after.is_ascii_digit() || *after == b'+')
    };
    let escapes = ["\\ud", "\\uD"];
    escapes.iter().any(|escape| memmem::find(json, escape.as_bytes()).is_some())
        || memchr2_iter(b'e', b'E', json).any(is_exponent)
}

/// Refuses JSON that is nested too deeply: its decoder works by recursion. Counts the depth only if there are enough
/// brackets.
fn not_too_deep(json: &str) -> anyhow::Result<()> {
    let may_be_too_deep = memchr2_iter(b'{', b'[', json.as_bytes()).nth(MAX_DEPTH).is_some();
    ensure!(!may_be_too_deep || depth(json) <= MAX_DEPTH, "is nested deeper than {MAX_DEPTH} levels: flatten it");
    Ok(())
}

fn in_document(place: &str, number: usize) -> String {
    format!("{place}, document {number}")
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
    /// As the API server does, the reader drops it.
    #[serde(borrow, rename = "status")]
    _status: Option<&'a RawValue>,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
}

/// Decodes JSON whose depth was checked before.
fn decode<'a, T: Deserialize<'a>>(json: &'a str) -> serde_json::Result<T> {
    let mut json = serde_json::Deserializer::from_str(json);
    json.disable_recursion_limit();
    T::deserialize(&mut json)
}

/// Decodes JSON as strictly as the API server. Returns the paths of unknown fields too.
fn strictly<'a, T: Deserialize<'a>>(json: &'a str) -> serde_json::Result<(T, Vec<String>)> {
    let mut unknown = Vec::new();
    let mut json = serde_json::Deserializer::from_str(json);
    json.disable_recursion_limit();
    let value = serde_ignored::deserialize(&mut json, |path| unknown.push(path.to_string()))?;
    Ok((value, unknown))
}

fn invalid_json(error: &serde_json::Error) -> anyhow::Error {
    anyhow!("is not valid JSON: {}: correct it", describe(error))
}

/// Returns a decoder's message on one line, without the position that it ends with.
fn describe(error: &serde_json::Error) -> String {
    let detail = error.to_string();
    printable(detail.rfind(" at line ").map_or(detail.as_str(), |end| &detail[..end]), MAX_DETAIL)
}

/// Refuses fields that the API server would drop with a warning.
fn refuse_unknown_fields(unknown: &[String]) -> anyhow::Result<()> {
    if unknown.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = unknown.iter().take(MOST_SHOWN).map(|path| printable(path, MAX_QUOTE)).collect();
    let more = match unknown.len().saturating_sub(MOST_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    bail!("has unknown fields: {}{more}; correct or remove them", shown.join(", "))
}

#[cfg(test)]
mod tests;
