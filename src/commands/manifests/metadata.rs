//! Reads metadata, and adds what the API server would add.

use anyhow::{anyhow, bail, ensure};
use chrono::{DateTime, SubsecRound, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use memchr::memmem;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{DEFAULT_NAMESPACE, decode, describe, refuse_unknown_fields, strictly};
use fedora_message::api::names::{is_label, is_subdomain};
use fedora_message::api::object::Metadata;
use fedora_message::text::{MAX_QUOTE, printable, quoted};

/// Refuses names that no API server accepts. They are also printed as they are.
fn refuse_strange_names(metadata: &Metadata) -> anyhow::Result<()> {
    let is_uid = |uid: &str| uid.len() <= 253 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let check = |field: &str, name: &Option<String>, is_valid: &dyn Fn(&str) -> bool, characters: &str| {
        let Some(name) = name.as_deref().filter(|name| !is_valid(name)) else { return Ok(()) };
        bail!("metadata.{field} is {}, but must be at most {characters}", quoted(name))
    };
    let in_names = "253 lower-case letters and digits, with dashes and dots between them";
    check("name", &metadata.name, &is_subdomain, in_names)?;
    check("namespace", &metadata.namespace, &is_label, "63 lower-case letters and digits, with dashes between them")?;
    check("uid", &metadata.uid, &is_uid, "253 letters, digits and dashes")
}

/// Returns the metadata of an object of this kind, with the fields that the API server would add.
pub(super) fn metadata(json: Option<&RawValue>, kind: &str) -> anyhow::Result<Metadata> {
    let (mut metadata, generate_name) = json.map_or_else(|| Ok(Default::default()), |json| read(json.get()))?;
    for name in [&mut metadata.name, &mut metadata.namespace] {
        name.take_if(|name| name.is_empty());
    }
    if let (None, Some(prefix)) = (&metadata.name, generate_name.filter(|prefix| !prefix.is_empty())) {
        metadata.name = Some(generated_name(&prefix));
    }
    ensure!(metadata.name.is_some(), "is a {kind} without metadata.name: add it");
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

/// Decodes metadata as strictly as the API server. Returns `generateName` too.
fn read(json: &str) -> anyhow::Result<(Metadata, Option<String>)> {
    ensure!(json.starts_with('{'), "has metadata that are no object: write metadata: {{name: NAME}}");
    let with_texts = memmem::find(json.as_bytes(), b"null").and_then(|_| with_empty_texts(json));
    let json = with_texts.as_deref().unwrap_or(json);
    let (all, unknown) = strictly::<ObjectMeta>(json).map_err(|error| describe_field(json, &error))?;
    refuse_unknown_fields(&unknown.iter().map(|field| format!("metadata.{field}")).collect::<Vec<_>>())?;
    let metadata = decode(json).map_err(|error| describe_field(json, &error))?;
    Ok((metadata, all.generate_name))
}

/// Replaces labels and annotations that are null, which the API server stores as empty texts.
fn with_empty_texts(json: &str) -> Option<String> {
    let mut metadata: Map<String, Value> = decode(json).ok()?;
    for field in ["labels", "annotations"] {
        let values = metadata.get_mut(field).and_then(Value::as_object_mut);
        values.into_iter().flatten().filter(|(_, value)| value.is_null()).for_each(|(_, value)| *value = "".into());
    }
    Some(Value::Object(metadata).to_string())
}

/// Describes why metadata can't be decoded, with the path of the field. A position would be relative to the
/// beginning of the metadata.
fn describe_field(json: &str, error: &serde_json::Error) -> anyhow::Error {
    let mut again = serde_json::Deserializer::from_str(json);
    let again = serde_path_to_error::deserialize::<_, ObjectMeta>(&mut again).err();
    let path = again.map(|error| error.path().to_string()).filter(|path| path != ".").unwrap_or_default();
    let object: Map<String, Value> = decode(json).unwrap_or_default();
    match object.get("creationTimestamp") {
        Some(Value::String(time)) if time.parse::<DateTime<Utc>>().is_err() => anyhow!(
            "metadata.creationTimestamp is {}, but must be a time such as 2026-01-31T12:00:00Z: correct or remove it",
            quoted(time)
        ),
        _ if path.is_empty() => anyhow!("has metadata that can't be read: {}: correct them", describe(error)),
        _ => anyhow!("metadata.{} can't be read: {}: correct it", printable(&path, MAX_QUOTE), describe(error)),
    }
}

/// Returns a name that begins with `prefix`, as the API server would make it.
fn generated_name(prefix: &str) -> String {
    const LONGEST_PREFIX: usize = 58;
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let random = Uuid::new_v4();
    let suffix = random.as_bytes().iter().take(5).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
    let prefix = &prefix[..prefix.floor_char_boundary(LONGEST_PREFIX)];
    prefix.chars().chain(suffix).collect()
}
