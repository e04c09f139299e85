//! The documents: the API server accepts their examples, and every reason is explained.
//! `tests/docs.rs` checks links, commands, flags and metrics.

use std::fs;

use fedora_message::policy::outcome::Reason;
use serde_json::Value;
use strum::VariantArray;

use crate::monitoring::files;
use e2e::cli::Cli;
use e2e::{MESSAGES, Operator, TestNamespace, certificate, read, yaml_blocks};

/// Each command of kubectl creates them without a warning.
#[test]
fn examples_are_accepted() {
    let namespace = TestNamespace::new("examples");
    let files = files("docs/examples", "yaml");
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let file = file.display().to_string();
        let commands = [&["create"][..], &["apply"], &["apply", "--server-side"]];
        // kubectl applies no generated name.
        let number = if file.ends_with("generated-name.yaml") { 1 } else { commands.len() };
        for command in &commands[..number] {
            let rest = ["--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", &file];
            let answer = namespace.try_kubectl(&[*command, &rest].concat(), "");
            let answer = answer.unwrap_or_else(|error| panic!("{file}: {command:?}: {error}"));
            assert!(answer.contains("created") || answer.contains("applied"), "{file}: {command:?}: {answer}");
        }
    }
}

/// The pages show whole manifests, which the API server accepts.
#[test]
fn pages_show_valid_manifests() {
    let namespace = TestNamespace::new("pages");
    let pages = ["", "docs", "docs/decisions", "docs/runbooks", "charts/fedora-message-operator"];
    let mut shown = 0;
    for page in pages.map(|folder| files(folder, "md")).concat() {
        let text = fs::read_to_string(&page).expect("a page");
        for block in yaml_blocks(&text) {
            if !block.contains("kind: FedoraMessage") || !block.contains("apiVersion:") {
                continue;
            }
            let answer = namespace.try_kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], block);
            answer.unwrap_or_else(|error| panic!("{}: {error}:\n{block}", page.display()));
            shown += 1;
        }
    }
    assert!(shown >= 4, "{shown} manifests");
}

/// The shapes of Fedora's real applications: each sends with its own Secrets, CA and prefix.
#[test]
fn shapes_of_fedora_send() {
    let certificate = certificate("publisher");
    let json = |pem: &str| Value::from(pem).to_string();
    let cli = Cli::new();
    let ca = cli.file("ca.pem", &certificate.ca).display().to_string();
    let files = files("testdata/fedora", "yaml");
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let namespace = TestNamespace::new("fedora");
        let text = fs::read_to_string(&file).expect("a file");
        let (_, objects) = text.split_once("apiVersion").expect("an object");
        let mut manifests = format!("apiVersion{objects}");
        // One certificate serves both applications here.
        for (place, pem) in [
            ("CA_PEM", &certificate.ca),
            ("CERT2_PEM", &certificate.cert),
            ("KEY2_PEM", &certificate.key),
            ("CERT_PEM", &certificate.cert),
            ("KEY_PEM", &certificate.key),
        ] {
            manifests = manifests.replace(place, &json(pem));
        }
        let prefix = ["--prod-topic-prefix", "org.fedoraproject.prod", "--prod-ca-file", &ca];
        let _operator = Operator::start(&namespace, &prefix);
        namespace.apply(&manifests);
        namespace.wait_for_all_sent();
        let messages = namespace.messages();
        assert!(!messages.is_empty(), "{}", file.display());
        for message in &messages {
            let key = message["status"]["routingKey"].as_str().expect("a routing key");
            let topic = message["spec"]["message"]["topic"].as_str().expect("a topic");
            assert!(key.ends_with(topic), "{}: {key}", file.display());
            let known = match file.file_stem().and_then(|stem| stem.to_str()) {
                Some("other-prefix") => key.starts_with("org.release-monitoring.prod."),
                Some("no-prefix") => key == topic,
                _ => key.starts_with("org.fedoraproject.prod."),
            };
            assert!(known, "{}: {key}", file.display());
        }
        let senders = namespace.list(MESSAGES, "fedoramessagesenders");
        for sender in senders {
            namespace.wait_for_sender(sender["metadata"]["name"].as_str().expect("a name"), "True", "LoggedIn");
        }
    }
}

#[test]
fn every_reason_is_documented() {
    let page = read("docs/troubleshooting.md");
    for reason in Reason::VARIANTS {
        assert!(page.contains(&format!("\n| `{reason}` |")), "{reason}");
    }
}
