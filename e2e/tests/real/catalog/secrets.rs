//! What is wrong with the Secrets that messages name, and whether they may be used.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::manifest::{Fields, manifest_with};
use super::pem::Pems;
use super::text::{expand, with_placeholders};
use super::{CONSENT, Entry, RefusedBy, SECRETS, all_as_expected, load, outcomes};
use e2e::world::{Operator, Space, world};

/// A Secret, by the name `{secret}`, and how a message names it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    /// What is in it; there is no Secret where this is absent.
    data: Option<BTreeMap<String, String>>,
    /// `spec.authentication`, if it is not `secretRef` with the Secret's name.
    authentication: Option<Value>,
}

/// Whom the Secret's owner lets use it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Consent {
    /// The annotation, if there is one: `{namespace}` is the message's.
    allowed_namespaces: Option<String>,
    /// Whether there is a Secret at all.
    #[serde(default = "yes")]
    exists: bool,
}

fn yes() -> bool {
    true
}

fn name(index: usize) -> String {
    format!("s{index:03}")
}

fn secret(name: &str, annotation: Option<&str>, data: &BTreeMap<String, Vec<u8>>) -> String {
    let data: BTreeMap<_, _> = data.iter().map(|(key, bytes)| (key, ByteString(bytes.clone()))).collect();
    let annotations: BTreeMap<_, _> =
        annotation.map(|value| ("apps.fedoraproject.org/allowed-namespaces", value)).into_iter().collect();
    let metadata = json!({"name": name, "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}).to_string() + "\n"
}

#[test]
fn what_is_wrong_with_a_secret_is_said_in_these_words() {
    let space = Space::new("certificates");
    let entries: Vec<Entry<Input>> = load(SECRETS);
    let pems = Pems::new(world().broker.pki());
    let (mut secrets, mut messages) = (String::new(), String::new());
    for (index, entry) in entries.iter().enumerate() {
        let Input { data, authentication } = &entry.input;
        let name = name(index);
        if let Some(data) = data {
            let data = data.iter().map(|(key, text)| (expand(key), pems.fill(&expand(text)))).collect();
            secrets += &secret(&name, None, &data);
        }
        let authentication = authentication.clone().unwrap_or(json!({"secretRef": {"name": "{secret}"}})).to_string();
        let authentication: Value = serde_json::from_str(&authentication.replace("{secret}", &name)).expect("JSON");
        messages += &manifest_with(&name, authentication, Fields::new());
    }
    space.kubectl(&["create", "-f", "-"], &secrets).expect("they are stored");
    space.kubectl(&["create", "-f", "-"], &messages).expect("they are accepted");
    let _operator = Operator::start(&space, &[]);
    let all: Vec<_> = entries.iter().collect();
    let words = |index: usize, words: &str| {
        let address = format!("localhost:{}", world().broker.port());
        let place = format!("{}/{}", space.name, name(index));
        let generic = format!("generic {}", name(index));
        with_placeholders(
            words,
            &[
                (&place, "{namespace}/{secret}"),
                (&generic, "generic {secret}"),
                (&space.name, "{namespace}"),
                (&address, "{broker}"),
            ],
        )
    };
    let said = outcomes::wait(&space, &all, Entry::expected, name, words);
    all_as_expected(&entries, said.into_iter().enumerate());
}

#[test]
fn without_its_owners_consent_a_secret_looks_absent_in_these_words() {
    let (guest, owner) = (Space::new("invited"), Space::new("host"));
    let entries: Vec<Entry<Consent>> = load(CONSENT);
    let pems = Pems::new(world().broker.pki());
    let data: BTreeMap<_, _> =
        ["ca", "cert", "key"].map(|key| (key.to_owned(), pems.fill(&format!("{{{key}}}")))).into();
    let (mut secrets, mut messages) = (String::new(), String::new());
    for (index, entry) in entries.iter().enumerate() {
        let namespaces = entry.input.allowed_namespaces.as_ref();
        let namespaces = namespaces.map(|namespaces| {
            namespaces
                .replace("{NAMESPACE}", &guest.name.to_uppercase())
                .replace("{namespace}", &guest.name)
                .replace("{beginning}", &guest.name[..guest.name.len() - 1])
        });
        if entry.input.exists {
            secrets += &secret(&name(index), namespaces.as_deref(), &data);
        }
        let reference = json!({"secretRef": {"name": name(index), "namespace": owner.name}});
        messages += &manifest_with(&name(index), reference, Fields::new());
    }
    owner.kubectl(&["create", "-f", "-"], &secrets).expect("they are stored");
    guest.kubectl(&["create", "-f", "-"], &messages).expect("they are accepted");
    let _operator = Operator::start(&guest, &[]);
    let all: Vec<_> = entries.iter().collect();
    let words = |index: usize, words: &str| {
        let place = format!("{}/{}", owner.name, name(index));
        with_placeholders(words, &[(&place, "{owner}/{secret}"), (&guest.name, "{namespace}")])
    };
    let said = outcomes::wait(&guest, &all, Entry::expected, name, words);
    all_as_expected(&entries, said.into_iter().enumerate());

    let refused = entries.iter().filter(|entry| entry.refused_by != RefusedBy::Nobody);
    let words: BTreeSet<_> = refused.map(|entry| &entry.words).collect();
    assert_eq!(words.len(), 1, "absent and denied look the same");
}
