//! Decodes YAML without trusting it: the size of its values is bounded, and no error quotes key material.

use std::thread::{self, Builder};

use serde_json::Value;
use serde_saphyr::Error as Yaml;

use super::MAX_DEPTH;
use fedora_message::text::{MAX_DETAIL, printable};

/// The maximum number of values in a YAML document.
const MAX_NODES: usize = 2_000_000;
/// The maximum number of values that all aliases of a document stand for.
const MAX_REPEATED: usize = 20_000;
/// The maximum length of a document's strings with all aliases, as a multiple of the file's length.
const MAX_EXPANSION: usize = 16;

/// The decoder works by recursion, and takes much stack for each level.
const STACK: usize = 64 * 1024 * 1024;

/// Calls `handle` with each document that is not empty, and stops at the first error. `lines_before` is the
/// number of lines before `text` in its file.
pub(crate) fn read_documents(
    text: &str,
    lines_before: usize,
    handle: impl FnMut(usize, Result<Value, String>) -> Result<(), String> + Send,
) -> Result<(), String> {
    thread::scope(|scope| {
        let read = || read_on_this_stack(text, lines_before, handle);
        let thread = Builder::new().stack_size(STACK).spawn_scoped(scope, read);
        let thread = thread.map_err(|error| format!("can't be read: {error}"))?;
        thread.join().map_err(|_| "can't be read: write it more simply, or as JSON".to_owned())?
    })
}

fn read_on_this_stack(
    text: &str,
    lines_before: usize,
    mut handle: impl FnMut(usize, Result<Value, String>) -> Result<(), String>,
) -> Result<(), String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_total_scalar_bytes: MAX_EXPANSION * text.len(),
            max_reader_input_bytes: None,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
        // The lines around the error may be those of a private key.
        with_snippet: false,
    };
    let mut bytes = text.as_bytes();
    for (index, document) in serde_saphyr::read_with_options(&mut bytes, options).enumerate() {
        handle(index, document.map_err(|error| describe(&error, text, lines_before)))?;
    }
    Ok(())
}

/// Returns what is wrong with a document, and where. The decoder's own message quotes its source, which may be a
/// key, and names its options.
fn describe(error: &serde_saphyr::Error, text: &str, lines_before: usize) -> String {
    let error = error.without_snippet();
    let detail = match error {
        Yaml::DuplicateMappingKey { .. } => "a key stands there twice: remove one".to_owned(),
        Yaml::NullIntoString { .. } => "a key is null: put it in quotes".to_owned(),
        Yaml::Budget { .. } => "it is nested too deep, or too large: write it more simply".to_owned(),
        Yaml::UnknownAnchor { .. } => "an alias (*name) has no anchor (&name): write the value out".to_owned(),
        Yaml::AliasError { .. } | Yaml::AliasReplayLimitExceeded { .. } | Yaml::AliasExpansionLimitExceeded { .. } => {
            "its aliases (*name) stand for too much: write the values out".to_owned()
        }
        _ if ["Secret", "PRIVATE KEY"].iter().any(|sign| text.contains(sign)) => "correct it".to_owned(),
        error => format!("{}: correct it", printable(without_position(&error.to_string()), MAX_DETAIL)),
    };
    match error.location() {
        Some(at) => {
            format!("is not valid YAML: line {}, column {}: {detail}", at.line() + lines_before as u64, at.column())
        }
        None => format!("is not valid YAML: {detail}"),
    }
}

/// Cuts the position off a decoder's message, which ends with it.
fn without_position(detail: &str) -> &str {
    detail.split_once(" at line ").map_or(detail, |(detail, _)| detail)
}
