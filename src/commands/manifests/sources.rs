//! Reads Secrets and `ConfigMaps`. An error names the key, and never quotes its value.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret as KubeSecret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{DEFAULT_NAMESPACE, decode, describe, refuse_unknown_fields, strictly};
use fedora_message::api::names::SourceName;
use fedora_message::message::secret::Secret;
use fedora_message::text::{MAX_QUOTE, printable, quoted};

/// Reads a Secret from JSON.
pub(super) fn secret(json: &str) -> anyhow::Result<(SourceName, Arc<Secret>)> {
    const INVALID: &str = "is not a valid Secret";
    let mut fields = Fields::read(json).context(INVALID)?;
    let mut data = fields.take("data", bytes).context(INVALID)?;
    let plain = fields.take("stringData", text).context(INVALID)?;
    data.extend(plain.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
    let secret: KubeSecret = fields.rest(INVALID)?;
    let (namespace, name) = name(&secret.metadata, "Secret")?;
    Ok((SourceName::secret(namespace, name), Arc::new(KubeSecret { data: Some(data), ..secret }.into())))
}

/// Reads a `ConfigMap` from JSON.
pub(super) fn config_map(json: &str) -> anyhow::Result<(SourceName, Arc<Secret>)> {
    const INVALID: &str = "is not a valid ConfigMap";
    let mut fields = Fields::read(json).context(INVALID)?;
    let data = Some(fields.take("data", text).context(INVALID)?);
    let binary_data = Some(fields.take("binaryData", bytes).context(INVALID)?);
    let map: ConfigMap = fields.rest(INVALID)?;
    let (namespace, name) = name(&map.metadata, "ConfigMap")?;
    Ok((SourceName::config_map(namespace, name), Arc::new(ConfigMap { data, binary_data, ..map }.into())))
}

/// The fields of an object that were not read yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn read(json: &str) -> anyhow::Result<Self> {
        decode(json).map(Self).map_err(|error| anyhow!(describe(&error)))
    }

    /// Removes a field with keys and values, and converts the values.
    fn take<T>(
        &mut self,
        field: &str,
        convert: impl Fn(Value) -> Result<T, &'static str>,
    ) -> anyhow::Result<BTreeMap<String, T>> {
        let values = match self.0.remove(field) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(values)) => values,
            Some(_) => bail!("{field} must be an object: write each key and its value below it"),
        };
        let convert = |(key, value): (String, Value)| match convert(value) {
            Ok(value) => Ok((key, value)),
            Err(problem) => bail!("{field}[{}] {problem}", quoted(&key)),
        };
        values.into_iter().map(convert).collect()
    }

    /// Decodes all other fields. An error about a value begins with `invalid`.
    fn rest<T: for<'a> Deserialize<'a>>(self, invalid: &str) -> anyhow::Result<T> {
        let json = Value::Object(self.0).to_string();
        // The decoder's error could quote a misplaced key.
        let (object, unknown) = strictly(&json).map_err(|_| {
            let error = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(&json)).err();
            let path = error.map(|error| error.path().to_string()).unwrap_or_default();
            anyhow!("{invalid}: {} has a value of the wrong type: correct it", printable(&path, MAX_QUOTE))
        })?;
        refuse_unknown_fields(&unknown)?;
        Ok(object)
    }
}

fn text(value: Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Err("is null: write its text, or remove the key"),
        Value::Bool(_) => Err("is true or false, but must be a text: put it in quotes"),
        Value::Number(_) => Err("is a number, but must be a text: put it in quotes"),
        Value::Array(_) | Value::Object(_) => Err("is a list or an object, but must be a text: write the text below |"),
    }
}

/// Decodes base64, which may have line breaks. The API server reads null as empty.
fn bytes(value: Value) -> Result<ByteString, &'static str> {
    let base64 = match value {
        Value::String(base64) => base64,
        Value::Null => return Ok(ByteString::default()),
        _ => return Err("must be base64: encode it, or put it as text under stringData"),
    };
    let decode = |base64: String| serde_json::from_value::<ByteString>(Value::String(base64));
    match decode(base64.replace(['\r', '\n'], "")) {
        Ok(bytes) => Ok(bytes),
        Err(_) if decode(base64.split_whitespace().collect()).is_ok() => {
            Err("is base64 with spaces: remove them, or write its lines below | instead of >")
        }
        Err(_) => Err("must be base64: encode it, or put text under stringData"),
    }
}

fn name(metadata: &ObjectMeta, kind: &str) -> anyhow::Result<(String, String)> {
    let present = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let name = present(&metadata.name).with_context(|| format!("is a {kind} without metadata.name: add it"))?;
    Ok((present(&metadata.namespace).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()), name))
}
