//! The catalog of bad inputs: mistakes of users, the part that refuses each, and the exact message
//! that the user reads. The data are in `testdata/bad-inputs`. Its README describes how to add an
//! entry.
//!
//! This module reads the entries and tests the rules for all of them. The modules below run them on
//! real parts.

mod commands;
mod deliveries;
mod manifest;
mod messages;
pub mod outcomes;
mod pem;
mod secrets;
pub mod text;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::LazyLock;

use fedora_message::policy::outcome::Reason;
use rig::rabbitmq::RabbitMq;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use strum::VariantArray;

use crate::monitoring::files;
use e2e::{project, read};

/// An input and its expected result.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<Input> {
    /// The mistake. It is unique among all entries.
    name: String,
    /// The difference to a correct input.
    input: Input,
    /// The part that refuses the input.
    refused_by: RefusedBy,
    /// The reason in the status, if the input is stored.
    reason: Option<String>,
    /// The message that the user reads. Placeholders replace parts that differ between runs.
    #[serde(default)]
    message: String,
    /// The message if the broker is RabbitMQ 4, whose reply differs.
    rabbitmq_4: Option<String>,
    /// The operator's message without schema and policy, if admission refuses the input.
    operator: Option<String>,
    /// The reason why the input can't reach the operator, if admission refuses it.
    only_admission: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum RefusedBy {
    /// The API server, before anything is stored.
    Admission,
    /// The operator, when it validates the message.
    Validation,
    /// The operator, when it reads the Secrets.
    Credentials,
    /// The broker, or the connection to it.
    Broker,
    /// The program, when it reads flags, variables and their files.
    CommandLine,
    /// `publish`, when it reads manifests.
    Publish,
    /// The input is correct, and shows a limit.
    Nobody,
}

/// The result of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    reason: Option<String>,
    message: String,
}

/// The files of the catalog, by the kind of their inputs.
const MESSAGES: [&str; 5] = ["spec", "topics", "headers", "body", "authentication"];
const SECRETS: &str = "secrets-and-pem";
const CONSENT: &str = "consent";
const DELIVERIES: [&str; 2] = ["broker-refusals", "retry-and-stop"];
const COMMANDS: [&str; 2] = ["urls-and-flags", "publish-files"];

fn load<Input: DeserializeOwned>(file: &str) -> Vec<Entry<Input>> {
    let path = project("testdata/bad-inputs").join(file).with_extension("yaml");
    let text = std::fs::read_to_string(&path).expect("the file is there");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl<Input> Entry<Input> {
    fn expected(&self) -> Outcome {
        static VERSION: LazyLock<String> =
            LazyLock::new(|| RabbitMq::find().and_then(|found| found.version()).expect("RabbitMQ"));
        let message = self.rabbitmq_4.as_ref().filter(|_| !VERSION.starts_with("3.")).unwrap_or(&self.message);
        Outcome { reason: self.reason.clone(), message: text::expand(message) }
    }
}

/// Asserts the outcomes of all entries. Prints each different one as the catalog would have to
/// state it.
fn assert_expected<Input>(entries: &[Entry<Input>], outcomes: impl IntoIterator<Item = (usize, Outcome)>) {
    let mut wrong = String::new();
    let mut seen = 0;
    for (index, outcome) in outcomes {
        seen += 1;
        if outcome != entries[index].expected() {
            describe(&mut wrong, &entries[index].name, &outcome);
        }
    }
    assert!(wrong.is_empty(), "the catalog differs:\n{wrong}");
    assert_eq!(seen, entries.len(), "each entry has an outcome");
}

fn describe(wrong: &mut String, name: &str, outcome: &Outcome) {
    // Writing to a String can't fail.
    let _ = writeln!(wrong, "- name: {name}");
    if let Some(reason) = &outcome.reason {
        let _ = writeln!(wrong, "  reason: {reason}");
    }
    // A JSON string is also a YAML string.
    let _ = writeln!(wrong, "  message: {}", serde_json::Value::from(outcome.message.as_str()));
}

/// Returns all entries with any kind of input.
fn every_entry() -> Vec<Entry<serde_json::Value>> {
    let files = [&MESSAGES[..], &[SECRETS, CONSENT], &DELIVERIES, &COMMANDS].concat();
    files.into_iter().flat_map(load).collect()
}

/// The catalog has at least 120 refused inputs.
#[test]
fn names_are_unique() {
    let entries = every_entry();
    let refused = entries.iter().filter(|entry| entry.refused_by != RefusedBy::Nobody).count();
    assert!(refused >= 120, "{refused}");
    let names: BTreeSet<_> = entries.iter().map(|entry| &entry.name).collect();
    assert_eq!(names.len(), entries.len());
}

/// The README describes each file.
#[test]
fn files_are_used() {
    let readme = read("testdata/bad-inputs/README.md");
    let tried = [&MESSAGES[..], &[SECRETS, CONSENT], &DELIVERIES, &COMMANDS].concat();
    for file in files("testdata/bad-inputs", "yaml") {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name");
        assert!(tried.contains(&name), "{name}");
        assert!(readme.contains(&format!("`{name}.yaml`")), "{name}");
    }
}

/// tests/pods/failures.rs covers the reason that needs a node, and large.rs the one that needs a large
/// message.
#[test]
fn every_reason_occurs() {
    let entries = every_entry();
    let elsewhere = [Reason::PodFailed, Reason::Sending];
    for reason in Reason::VARIANTS.iter().copied().filter(|reason| !elsewhere.contains(reason)) {
        let found = entries.iter().any(|entry| entry.reason.as_deref() == Some(reason.name()));
        assert!(found, "{reason}");
    }
}

/// The operator also refuses the input, or the input cannot reach it.
#[test]
fn admission_errors_have_operator_errors() {
    for entry in every_entry() {
        let explained = usize::from(entry.operator.is_some()) + usize::from(entry.only_admission.is_some());
        assert_eq!(explained, usize::from(entry.refused_by == RefusedBy::Admission), "{}", entry.name);
    }
}

/// A part of a message that begins like this is advice.
const ADVICE: &str = "add|ask|change|check|choose|convert|correct|create|delete|do|flatten|for example|get|give|kubectl explain|\
                      it is sent again|it will take|move|must|name|put|read|remove|rename|renew|send|set|shorten|\
                      store|supported values|take|tell|there are|tip|use|wait|write";

/// Texts from which a reader can infer the fix.
const NEEDS_NO_ADVICE: &str = " must be | must name | must not contain | must have at most | allows at most | needs \
                               all three of | is missing| lacks the key ";

/// Texts of other programs that name the field and its rule.
const OTHERS: &str = "in body should be|unknown field|[possible values: |required arguments were not provided|\
                      unexpected argument|unrecognized subcommand|cannot be used with|cannot unmarshal number|\
                      too large";

/// Returns true if a message gives advice, or at least the rule for the input.
fn advises(message: &str) -> bool {
    let mut parts = message.split([':', ';', '.', ',', '(']).map(str::trim_start);
    let advice = parts.any(|part| {
        let part = part.trim_start_matches("or ").trim_start_matches("and ").to_lowercase();
        let mut rests = ADVICE.split('|').filter_map(|advice| part.strip_prefix(advice));
        rests.any(|rest| !rest.starts_with(char::is_alphanumeric))
    });
    advice || [NEEDS_NO_ADVICE, OTHERS].iter().any(|texts| texts.split('|').any(|text| message.contains(text)))
}

#[test]
fn refusals_give_advice() {
    let refused = every_entry().into_iter().filter(|entry| entry.refused_by != RefusedBy::Nobody);
    let messages: Vec<_> = refused.flat_map(|entry| [Some(entry.message), entry.operator]).flatten().collect();
    let silent: Vec<_> = messages.iter().filter(|message| !advises(message)).collect();
    assert!(silent.is_empty(), "{silent:#?}");
    for text in [NEEDS_NO_ADVICE, OTHERS].iter().flat_map(|texts| texts.split('|')) {
        assert!(messages.iter().any(|message| message.contains(text)), "no message needs the exception {text:?}");
    }
}

/// Returns true for characters that control a terminal or the direction of writing.
fn is_hostile(c: char) -> bool {
    c != '\n'
        && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

#[test]
fn messages_are_printable() {
    for entry in every_entry() {
        for message in [Some(&entry.message), entry.operator.as_ref()].into_iter().flatten() {
            assert!(!message.contains(is_hostile), "{}: {message:?}", entry.name);
        }
    }
}
