//! Makes the `FedoraMessage` of a message for a cluster.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::MessageArgs;
use crate::commands;
use fedora_message::api::v1alpha1::{API_VERSION, FedoraMessageSpec, KIND};

/// The longest beginning of a generated name. An API server adds five characters, and names of Pods may
/// follow from it.
const LONGEST_PREFIX: usize = 50;

/// The beginning of an error text.
const CANNOT: &str = "the message can't be written as a manifest";

/// Returns a `FedoraMessage` to create. An API server stores its numbers as this value has them: as 64-bit integers and
/// floats.
fn manifest(arguments: &MessageArgs, spec: &FedoraMessageSpec) -> anyhow::Result<Value> {
    let mut metadata = match &arguments.name {
        Some(name) => json!({"name": name}),
        None => json!({"generateName": generate_name(&spec.message.topic)}),
    };
    if let Some(namespace) = &arguments.namespace {
        metadata["namespace"] = json!(namespace);
    }
    let spec = serde_json::to_value(spec).context(CANNOT)?;
    Ok(json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}))
}

/// Prints the manifest.
pub fn print(arguments: &MessageArgs, spec: &FedoraMessageSpec) -> ExitCode {
    match manifest(arguments, spec).and_then(|value| serde_saphyr::to_string(&value).context(CANNOT)) {
        Ok(yaml) => commands::print(yaml),
        Err(error) => commands::misused(&error),
    }
}

/// Returns the manifest as JSON.
pub fn json(arguments: &MessageArgs, spec: &FedoraMessageSpec) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec(&manifest(arguments, spec)?).context(CANNOT)
}

/// Returns the beginning of a name that tells people the topic.
fn generate_name(topic: &str) -> String {
    let mut name = String::new();
    for c in topic.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
        if name.len() == LONGEST_PREFIX {
            break;
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { "message-".to_owned() } else { format!("{name}-") }
}

#[cfg(test)]
mod tests {
    use super::generate_name;

    #[test]
    fn names_follow_topics() {
        let long = "a".repeat(80);
        for (topic, name) in [
            ("nice.message", "nice-message-"),
            ("Fedora_Elections.new", "fedora-elections-new-"),
            ("..é.", "message-"),
            ("a..b", "a-b-"),
            (long.as_str(), &format!("{}-", "a".repeat(50))),
        ] {
            assert_eq!(generate_name(topic), name, "{topic}");
        }
    }
}
