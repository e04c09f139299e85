//! The catalog of bad inputs: what a user gets wrong, who refuses it, and the exact words that
//! the user then reads. The data are in `testdata/bad-inputs`; its README tells how to add an entry.
//!
//! Here are the entries, and what must hold for all of them. The modules below hand them to the
//! real parts.

mod commands;
mod deliveries;
mod manifest;
mod messages;
mod outcomes;
mod pem;
mod secrets;
mod text;
use strum::VariantArray;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fedora_message::policy::outcome::Reason;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use e2e::world::project;

/// One input, and what becomes of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<Input> {
    /// What is wrong with it; unique among all entries.
    name: String,
    /// What differs from an input that is right.
    input: Input,
    /// Who refuses it.
    refused_by: RefusedBy,
    /// The status' reason, of what is stored.
    reason: Option<String>,
    /// What the user reads, with placeholders for what differs from run to run.
    #[serde(default)]
    words: String,
    /// For what admission refuses: what the operator says where neither schema nor policy do.
    operator: Option<String>,
    /// For what admission refuses: why it can't come to the operator.
    only_admission: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum RefusedBy {
    /// The API server, before anything is stored.
    Admission,
    /// The operator, by looking at the message alone.
    Validation,
    /// The operator, by looking at the Secrets that it names.
    Credentials,
    /// The broker, or the way to it.
    Broker,
    /// The program, by looking at flags, variables and the files they name.
    CommandLine,
    /// `publish`, by looking at manifests.
    Publish,
    /// It is right, and shows where the limit is.
    Nobody,
}

/// What became of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    reason: Option<String>,
    words: String,
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
    fn expected(&self) -> Said {
        Said { reason: self.reason.clone(), words: text::expand(&self.words) }
    }
}

/// Fails with all entries that ended otherwise than the catalog says, each as it would have to
/// stand there.
fn all_as_expected<Input>(entries: &[Entry<Input>], said: impl IntoIterator<Item = (usize, Said)>) {
    let mut wrong = String::new();
    let mut seen = 0;
    for (index, said) in said {
        seen += 1;
        if said != entries[index].expected() {
            tell(&mut wrong, &entries[index].name, "words", &said);
        }
    }
    assert!(wrong.is_empty(), "the catalog says otherwise:\n{wrong}");
    assert_eq!(seen, entries.len(), "each entry was tried");
}

fn tell(wrong: &mut String, name: &str, field: &str, said: &Said) {
    // Writing to a String can't fail.
    let _ = writeln!(wrong, "- name: {name}");
    if let Some(reason) = &said.reason {
        let _ = writeln!(wrong, "  reason: {reason}");
    }
    // A string of JSON is one of YAML.
    let _ = writeln!(wrong, "  {field}: {}", serde_json::Value::from(said.words.as_str()));
}

/// All entries, whatever their inputs are.
fn every_entry() -> Vec<Entry<serde_json::Value>> {
    let files = [&MESSAGES[..], &[SECRETS, CONSENT], &DELIVERIES, &COMMANDS].concat();
    files.into_iter().flat_map(load).collect()
}

#[test]
fn the_catalog_is_large_and_its_names_are_unique() {
    let entries = every_entry();
    let refused = entries.iter().filter(|entry| entry.refused_by != RefusedBy::Nobody).count();
    assert!(refused >= 120, "{refused}");
    let names: BTreeSet<_> = entries.iter().map(|entry| &entry.name).collect();
    assert_eq!(names.len(), entries.len());
}

#[test]
fn every_file_of_the_catalog_is_tried_and_described() {
    let folder = project("testdata/bad-inputs");
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("a README");
    let tried = [&MESSAGES[..], &[SECRETS, CONSENT], &DELIVERIES, &COMMANDS].concat();
    let files = std::fs::read_dir(folder).expect("a folder").flatten().map(|file| file.path());
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name");
        assert!(tried.contains(&name), "{name}");
        assert!(readme.contains(&format!("`{name}.yaml`")), "{name}");
    }
}

/// But for what needs a node that runs Pods: tests/pods/words.rs.
#[test]
fn every_reason_occurs() {
    let entries = every_entry();
    for reason in Reason::VARIANTS.iter().copied().filter(|reason| *reason != Reason::PodFailed) {
        let found = entries.iter().any(|entry| entry.reason.as_deref() == Some(reason.name()));
        assert!(found, "{reason}");
    }
}

#[test]
fn what_admission_refuses_is_refused_by_the_operator_too_or_cannot_come_to_it() {
    for entry in every_entry() {
        let last_reported = usize::from(entry.operator.is_some()) + usize::from(entry.only_admission.is_some());
        assert_eq!(last_reported, usize::from(entry.refused_by == RefusedBy::Admission), "{}", entry.name);
    }
}

/// What follows a colon, a semicolon or a full stop and begins like this is advice.
const ADVICE: &[&str] = &[
    "add",
    "ask",
    "change",
    "check",
    "choose",
    "correct",
    "create",
    "delete",
    "do",
    "flatten",
    "for example",
    "give",
    "kubectl explain",
    "it is sent again",
    "it will take",
    "move",
    "must",
    "name",
    "put",
    "read",
    "remove",
    "rename",
    "renew",
    "send",
    "set",
    "shorten",
    "store",
    "supported values",
    "take",
    "tell",
    "there are",
    "tip",
    "use",
    "wait",
    "write",
];

/// Other people's words, which we can't change, and which name the field and what it must be.
const OTHERS: &[&str] = &[
    "Required value",
    "in body must be of type",
    "in body should be",
    "unknown field",
    "Too many",
    "Too long",
    "is not in 1..",
    "[possible values: ",
    "required arguments were not provided",
    "unexpected argument",
    "unrecognized subcommand",
    "must be no more than",
    "cannot unmarshal number",
    "too large",
];

/// Texts from which a reader can infer what to do.
const NEEDS_NO_ADVICE: &[&str] = &[
    " must be ",
    " must name ",
    " must not contain ",
    " must have at most ",
    " allows at most ",
    " needs all three of ",
    " is missing",
    " lacks the key ",
    ": expected ",
];

/// Whether words tell what to do, or at least what the input must be.
fn advises(words: &str) -> bool {
    let mut parts = words.split([':', ';', '.', ',', '(']).map(str::trim_start);
    let advice = parts.any(|part| {
        let part = part.trim_start_matches("or ").trim_start_matches("and ").to_lowercase();
        let rest = ADVICE.iter().filter_map(|advice| part.strip_prefix(advice));
        rest.into_iter().any(|rest| !rest.starts_with(char::is_alphanumeric))
    });
    advice
        || NEEDS_NO_ADVICE.iter().any(|text| words.contains(text))
        || OTHERS.iter().any(|others| words.contains(others))
}

#[test]
fn every_refusal_says_what_to_do() {
    let refused = every_entry().into_iter().filter(|entry| entry.refused_by != RefusedBy::Nobody);
    let silent: Vec<_> = refused
        .flat_map(|entry| [Some(entry.words), entry.operator].into_iter().flatten())
        .filter(|words| !advises(words))
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

/// Characters that a terminal acts on, or that turn the direction of writing.
fn is_hostile(c: char) -> bool {
    c != '\n'
        && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

#[test]
fn no_words_act_on_a_terminal() {
    for entry in every_entry() {
        for words in [Some(&entry.words), entry.operator.as_ref()].into_iter().flatten() {
            assert!(!words.contains(is_hostile), "{}: {words:?}", entry.name);
        }
    }
}
