//! Bad Secrets, and Secrets without consent.

use std::collections::{BTreeMap, BTreeSet};

use fedora_message::bounds::MAX_WATCHED_SECRETS_PER_NAMESPACE;
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::manifest::{Fields, manifest_with};
use super::pem::Pems;
use super::text::{expand, with_placeholders};
use super::{CONSENT, Entry, RefusedBy, SECRETS, load, outcomes};
use e2e::{Operator, TestNamespace, shared};

/// A Secret with the name `{secret}`, and the reference of a message to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The data of the Secret. `None` means no Secret.
    data: Option<BTreeMap<String, String>>,
    /// `spec.authentication`. The default is `secretRef` with the Secret's name.
    authentication: Option<Value>,
}

/// The consent of a Secret's owner.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Consent {
    /// The annotation. `{namespace}` is the namespace of the message.
    allowed_namespaces: Option<String>,
    /// True if the Secret exists.
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
fn reports_bad_secrets() {
    let entries: Vec<Entry<Input>> = load(SECRETS);
    let pems = Pems::new(shared().broker.pki());
    // Few entries name more than one Secret, so all Secrets of a namespace are watched.
    for entries in entries.chunks(MAX_WATCHED_SECRETS_PER_NAMESPACE / 2) {
        assert_reported(entries, &pems);
    }
}

/// Asserts the reports about these entries in a namespace of their own.
fn assert_reported(entries: &[Entry<Input>], pems: &Pems) {
    let namespace = TestNamespace::new("certificates");
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
    namespace.create(&secrets);
    namespace.create(&messages);
    let _operator = Operator::start(&namespace, &[]);
    let placeholders = |index: usize, message: &str| {
        let address = format!("localhost:{}", shared().broker.port());
        let place = format!("{}/{}", namespace.name, name(index));
        let generic = format!("generic {}", name(index));
        with_placeholders(
            message,
            &[
                (&place, "{namespace}/{secret}"),
                (&generic, "generic {secret}"),
                (&namespace.name, "{namespace}"),
                (&address, "{broker}"),
            ],
        )
    };
    outcomes::assert_all(&namespace, entries, name, placeholders);
}

/// A Secret without consent looks absent.
#[test]
fn reports_missing_consent() {
    let (guest, owner) = (TestNamespace::new("invited"), TestNamespace::new("host"));
    let entries: Vec<Entry<Consent>> = load(CONSENT);
    let pems = Pems::new(shared().broker.pki());
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
    owner.create(&secrets);
    guest.create(&messages);
    let _operator = Operator::start(&guest, &[]);
    let placeholders = |index: usize, message: &str| {
        let place = format!("{}/{}", owner.name, name(index));
        with_placeholders(message, &[(&place, "{owner}/{secret}"), (&guest.name, "{namespace}")])
    };
    outcomes::assert_all(&guest, &entries, name, placeholders);

    let refused = entries.iter().filter(|entry| entry.refused_by != RefusedBy::Nobody);
    let messages: BTreeSet<_> = refused.map(|entry| &entry.message).collect();
    assert_eq!(messages.len(), 1, "absent and denied look the same");
}
