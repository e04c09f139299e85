//! Hostile inputs that found a fault; the inputs themselves are among fuzz/seeds.

use crate::broker::credentials::Credentials;
use crate::commands::manifests::Manifests;
use fedora_message::message::body::dropped_nulls;
use fedora_message::message::secret::{PemFiles, PemText};
use fedora_message::text::printable;
use rig::{ClientCert, Pki};
use serde_json::{Map, Value, json};

use fedora_message::fixture::{example, set, with};

/// Why a file is not read.
fn refusal(text: &str) -> String {
    format!("{:#}", Manifests::default().add(text, "file").unwrap_err())
}

fn assert_plain(detail: &str) {
    assert!(!detail.contains(|c: char| c.is_control() || c == '\u{202e}'), "{detail:?}");
    assert!(detail.len() < 1_000, "{} bytes: {detail}", detail.len());
}

#[test]
fn a_long_key_above_thousands_of_nulls_costs_little_memory() {
    let key = "k".repeat(100_000);
    let nulls: Map<_, _> = (0..10_000).map(|number| (number.to_string(), Value::Null)).collect();
    let applied = json!({"spec": {"message": {"body": {&key: nulls}}}}).to_string();
    let paths = dropped_nulls(&applied, &json!({&key: {}}).to_string());
    assert_eq!(paths.len(), 10_000);
    assert!(paths.iter().map(String::len).sum::<usize>() < 10_000_000);
}

#[test]
fn a_path_is_cut_between_characters_only() {
    for key in ["é".repeat(1_000), format!("a{}", "é".repeat(1_000))] {
        let applied = json!({"spec": {"message": {"body": {&key: null}, "headers": {&key: null}}}}).to_string();
        assert_eq!(dropped_nulls(&applied, "{}").len(), 2);
    }
}

#[test]
fn words_can_not_change_the_direction_of_writing() {
    assert_eq!(printable("no\u{202e}tnes\u{2066}\u{200f}\u{2028}.", 100), "no tnes   .");
    assert_eq!(printable("שלום é 🦀", 100), "שלום é 🦀");
}

#[test]
fn a_common_name_is_shown_on_one_line() {
    let ClientCert { ca, cert, key } = Pki::new("a CA").unwrap().client("nice\n\u{1b}[31mapp\u{202e}").unwrap();
    let part = |text: &'static str, pem| PemText { place: text.to_owned(), bytes: pem };
    let material = PemFiles {
        ca: part("ca", ca.as_bytes()),
        cert: part("cert", cert.as_bytes()),
        key: part("key", key.as_bytes()),
    };
    let credentials = Credentials::from_pem(&material).unwrap();
    assert_eq!(credentials.user, "nice  [31mapp ");
}

#[test]
fn a_mistake_in_a_secrets_manifest_quotes_nothing_of_it() {
    let ClientCert { key, .. } = Pki::new("a CA").unwrap().client("nice-app").unwrap();
    let block: String = key.lines().flat_map(|line| ["    ", line, "\n"]).collect();
    let manifest = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: certs}}\nstringData:\n  key: |\n{block}");
    for mistake in ["  cert: [\n", " cert: a\n", "  cert: *a\n", "\tcert: a\n", "  cert: .nan\n"] {
        let detail = refusal(&format!("{manifest}{mistake}"));
        assert!(detail.starts_with("file, document 1: is not valid YAML"), "{detail}");
        assert!(key.lines().all(|line| !detail.contains(line)), "{detail}");
        assert_plain(&detail);
    }
}

#[test]
fn aliases_can_not_make_a_small_file_large() {
    let levels =
        (1..9).map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(",")));
    let laughs = std::iter::once("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned()).chain(levels).collect::<String>();
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(50_000), vec!["*a"; 3_000].join(","));
    let fields: Vec<_> = (0..3_000).map(|number| format!("k{number}: v")).collect();
    let uses: Vec<_> = (0..300).map(|number| format!("b{number}: {{<<: *a}}")).collect();
    let merged = format!("a: &a {{{}}}\n{}\n", fields.join(", "), uses.join("\n"));
    for bomb in [laughs, long, merged] {
        let detail = refusal(&bomb);
        assert!(detail.contains("is not valid YAML"), "{detail}");
    }
}

#[test]
fn aliases_are_read_as_kubectl_reads_them() {
    let mut manifests = Manifests::default();
    let text = "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessage
metadata: {name: a}
spec:
  env: prod
  message: {topic: &topic nice.message, body: {first: &list [1, *topic], second: *list}}
  authentication: {secretRef: {name: certs}}
";
    manifests.add(text, "file").unwrap();
    let spec = manifests.messages[0].spec().unwrap();
    assert_eq!(spec.message.body.get(), r#"{"first":[1,"nice.message"],"second":[1,"nice.message"]}"#);
}

#[test]
fn what_a_manifest_says_is_shown_on_one_line() {
    let escape = "\u{1b}[31m\n\u{202e}".repeat(1_000);
    for (pointer, detail) in [
        ("/kind", "is a "),
        ("/apiVersion", "is a FedoraMessage of "),
        ("/metadata/name", "metadata.name is "),
        ("/metadata/namespace", "metadata.namespace is "),
        ("/metadata/uid", "metadata.uid is "),
        ("/metadata/creationTimestamp", "metadata.creationTimestamp is "),
    ] {
        let refusal = refusal(&with(pointer, escape.as_str().into()).to_string());
        assert!(refusal.starts_with(&format!("file, document 1: {detail}")), "{refusal}");
        assert_plain(&refusal);
    }
}

#[test]
fn of_many_unknown_fields_some_are_named() {
    let unknown: Map<_, _> = (0..1_000).map(|number| (format!("a{number:03}\n"), 0.into())).collect();
    let mut spec = example()["spec"].as_object().unwrap().clone();
    spec.extend(unknown);
    assert_eq!(
        refusal(&set(example(), "/spec", spec.into()).to_string()),
        "file, document 1: has unknown fields: spec.a000 , spec.a001 , spec.a002 , spec.a003 , spec.a004  and 995 more; \
         correct or remove them"
    );
}
