//! Decodes YAML without trusting it: how much it may stand for is bounded, and no mistake's words quote it.

use serde_json::Value;
use serde_saphyr::Error as Yaml;

use super::MAX_DEPTH;
use fedora_message::text::{MAX_DETAIL, printable};

/// How many values a YAML document may have.
const MAX_NODES: usize = 2_000_000;
/// How many values aliases may stand for, all together.
const MAX_REPEATED: usize = 20_000;
/// How many times as long as a document its texts may become through aliases.
const MAX_EXPANSION: usize = 16;

/// Decodes a YAML document.
pub(crate) fn from_yaml(document: &str) -> Result<Value, String> {
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
        error => format!("{}: correct it", printable(plain(&error.to_string()), MAX_DETAIL)),
    };
    match error.location() {
        Some(at) => format!("line {}, column {} of this document: {mistake}", at.line(), at.column()),
        None => mistake,
    }
}

/// A decoder's words without the place that they end with.
fn plain(detail: &str) -> &str {
    detail.split_once(" at line ").map_or(detail, |(detail, _)| detail)
}
