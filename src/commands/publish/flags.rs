//! Makes a message of flags.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use serde_json::value::RawValue;

use super::assignment::Assignment;
use super::read_text;
use crate::cli::{MessageArgs, PublishArgs};
use fedora_message::api::v1alpha1::{FedoraMessageSpec, MessageSpec, SenderReference};

/// Returns the message that the flags make, if they name a topic. The error names the flag and its fault.
pub fn spec(arguments: &PublishArgs) -> anyhow::Result<Option<FedoraMessageSpec>> {
    let MessageArgs { topic, body_file, headers, severity, schema, schema_package, priority, sender, .. } =
        &arguments.message;
    let Some(topic) = topic.clone() else { return Ok(None) };
    let parse =
        |text: &String| Assignment::parse(text).map_err(|detail| anyhow!("{text}: a field of the body {detail}"));
    let assigned = arguments.operands.iter().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
    let mut fields = body_file.as_deref().map(read_body).transpose()?.unwrap_or_default();
    add_all(&mut fields, &assigned, "the body")?;
    let mut all_headers = BTreeMap::new();
    add_all(&mut all_headers, headers, "the headers")?;
    let body = serde_json::value::to_raw_value(&fields).context("the body can't be written")?;
    let message = MessageSpec {
        topic,
        body,
        headers: all_headers,
        severity: *severity,
        schema: schema.clone(),
        schema_package: schema_package.clone(),
        priority: *priority,
    };
    let sender_ref = sender.clone().map(|name| SenderReference { name, namespace: None });
    Ok(Some(FedoraMessageSpec { env: arguments.env, sender_ref, ..FedoraMessageSpec::of(message) }))
}

type Fields = BTreeMap<String, Box<RawValue>>;

fn add_all(fields: &mut Fields, assigned: &[Assignment], what: &str) -> anyhow::Result<()> {
    for Assignment { key, value } in assigned {
        ensure!(fields.insert(key.clone(), value.clone()).is_none(), "{what} would have {key} twice: remove one");
    }
    Ok(())
}

fn read_body(file: &Path) -> anyhow::Result<Fields> {
    let (place, text) = read_text(file)?;
    serde_json::from_str(&text).with_context(|| format!("{place} must hold a JSON object"))
}
