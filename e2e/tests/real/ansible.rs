//! Ansible runs docs/examples/ansible: the role applies a Sender, and waits until it is ready.

use rig::python::Python;
use rig::{ClientCert, Consumer};
use serde_json::{Value, json};

use e2e::cli::Cli;
use e2e::{Operator, SOON, TestNamespace, by_sender, certificate, project, run, secret, shared};

/// Stores the Secrets that the playbook names.
fn store_secrets(namespace: &TestNamespace, certificate: &ClientCert) {
    for (part, key, pem) in [
        ("cert", "fedora-messaging-release-monitoring.crt", &certificate.cert),
        ("key", "fedora-messaging-release-monitoring.key", &certificate.key),
        ("ca", "fedora-messaging-release-monitoring-ca.crt", &certificate.ca),
    ] {
        namespace.apply(&secret(&format!("release-monitoring-fedora-messaging-{part}"), &[(key, pem)]));
    }
}

/// Runs the playbook as its first lines say, with these variables instead of its own. Returns its
/// output, as result or as error.
fn play(variables: &Value) -> Result<String, String> {
    let (python, cli) = (Python::with_ansible().expect("Ansible is installed"), Cli::new());
    let mut command = python.ansible_playbook(cli.folder()).expect("a command");
    command
        .args(["-i", "localhost,", "-c", "local"])
        .arg(project("docs/examples/ansible/playbook.yml"))
        .args(["-e", "env_short=prod", "-e", &variables.to_string()])
        .env("KUBECONFIG", shared().kube.kubeconfig());
    run(&mut command, "")
}

/// The first run applies the Sender, the second one has nothing to do, and the third one removes what
/// the role does not set any more.
#[test]
fn playbook_applies_sender() {
    let namespace = TestNamespace { name: "release-monitoring".to_owned(), kube: &shared().kube };
    namespace.kube.create_namespace(&namespace.name).expect("a namespace");
    store_secrets(&namespace, &certificate("publisher"));
    let consumer = Consumer::start(&shared().broker, "org.release-monitoring.prod.by.ansible").expect("a consumer");
    let _operator = Operator::start(&namespace, &[]);

    let output = play(&json!({})).unwrap_or_else(|output| panic!("{output}"));
    assert!(output.contains(" changed=1 ") && output.contains(" failed=0 "), "{output}");
    let sender = namespace.get_sender("default");
    let condition = &sender["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Ready"), &json!("True")), "{sender:#}");
    let key =
        |part: &str, key: &str| json!({"name": format!("release-monitoring-fedora-messaging-{part}"), "key": key});
    let mut spec = json!({
        "env": "prod",
        "topicPrefix": "org.release-monitoring.prod",
        "application": {
            "name": "anitya", "url": "https://release-monitoring.org", "contacts": ["admin@example.org"],
        },
        "authentication": {
            "certSecretRef": key("cert", "fedora-messaging-release-monitoring.crt"),
            "keySecretRef": key("key", "fedora-messaging-release-monitoring.key"),
            "caSecretRef": key("ca", "fedora-messaging-release-monitoring-ca.crt"),
        },
    });
    assert_eq!(sender["spec"], spec);
    namespace.apply(&by_sender("m", "by.ansible", ""));
    let status = namespace.wait_for_reason("m", "Sent");
    assert_eq!(status["routingKey"], "org.release-monitoring.prod.by.ansible");
    consumer.wait_for(1, SOON).expect("it is received");

    let output = play(&json!({})).unwrap_or_else(|output| panic!("{output}"));
    assert!(output.contains(" changed=0 "), "{output}");
    let generation = |sender: &Value| sender["metadata"]["generation"].clone();
    assert_eq!(generation(&namespace.get_sender("default")), generation(&sender));

    let output = play(&json!({"fedora_message_sender_application": {}})).unwrap_or_else(|output| panic!("{output}"));
    assert!(output.contains(" changed=1 "), "{output}");
    spec.as_object_mut().expect("an object").remove("application");
    assert_eq!(namespace.get_sender("default")["spec"], spec);
    namespace.wait_for_sender("default", "True", "LoggedIn");
}

/// It says whether the operator is missing, and else what the Sender says.
#[test]
fn play_fails_with_reason() {
    let namespace = TestNamespace::new("broken-play");
    let mut certificate = certificate("publisher");
    certificate.cert = certificate.ca.clone();
    store_secrets(&namespace, &certificate);
    let variables = json!({"fedora_message_sender_namespace": namespace.name, "fedora_message_sender_wait_timeout": 2});
    let output = play(&variables).expect_err("nobody checks the Sender");
    assert!(output.contains("The Sender is not ready. It has no status: does the operator run"), "{output}");

    let _operator = Operator::start(&namespace, &[]);
    let status = namespace.wait_for_sender("default", "False", "SecretInvalid");
    let output = play(&variables).expect_err("the certificate is that of the CA");
    // The message as Ansible shows it, without the quotes at its ends.
    let message = status["conditions"][0]["message"].to_string();
    let message = message.trim_matches('"');
    assert!(message.len() > 20 && output.contains(&format!("The Sender is not ready. {message}")), "{output}");
}
