//! Pods send the same messages as direct delivery.

use fedora_message::bounds::MAX_POD_MESSAGE_BYTES;
use serde_json::{Value, json};

use crate::cluster::{cluster, namespace, operator, pods, wait_for_all_sent, wait_for_reason};
use e2e::cli::Cli;
use e2e::fidelity::cases::{Case, PREFIX, SENDERS, all, half_by_sender, recorded};
use e2e::fidelity::stage::{Sent, Stage};
use e2e::raw::{RawConsumer, id};
use e2e::{SOON, by_sender, config_map, message, message_json, secret, sender, uid, wait_soon};

/// The operator deletes the Pod afterwards.
#[test]
fn sends_by_pod() {
    let namespace = namespace("one", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.one");
    let _operator = operator(&namespace, "pod", &[]);
    namespace.apply(&message("hello", "pods.one", ", headers: {niceness: very}"));

    let status = wait_for_reason(&namespace, "hello", "Sent");
    assert_eq!((&status["deliveryMode"], &status["attempts"]), (&json!("pod"), &json!(1)));
    let uid = uid(&namespace.get("hello"));
    let expected = format!("Message was sent successfully by Pod {}/fedora-message-{uid}-1", namespace.name);
    assert_eq!(status["message"], expected);
    let received = consumer.take(1, SOON);
    assert_eq!(id(&received[0]), uid);
    wait_soon("no Pod is left", || pods(&namespace).is_empty());
}

/// Compares all messages that Pods can send, and the bodies of real messages. A Pod needs a message that
/// is not too large, and has a schema of the CLI's image. They go by Pods, and by `fallback` with a direct
/// connection. `tests/real` compares direct delivery.
#[test]
fn pods_match_library() {
    let by_pod = |case: &Case| {
        let is_in_image = matches!(case.fields["schema"].as_str(), None | Some("base.message"));
        is_in_image && case.stored().len() < MAX_POD_MESSAGE_BYTES / 2
    };
    let mut cases: Vec<Case> = all("fidelity-pods").into_iter().filter(by_pod).collect();
    // The image has no packages of schemas.
    let real = recorded("fidelity-pods").into_iter().map(|case| Case { fields: json!({}), ..case });
    cases.extend(real.filter(by_pod));
    assert!(cases.len() >= 94, "{} cases", cases.len());
    let stage = Stage::set(&cluster().broker, "fidelity-pods", cases, Case::stored);
    let mut sent = Vec::<Sent>::new();
    for (mode, expected) in [("fallback", "direct"), ("pod", "pod")] {
        let namespace = namespace(&format!("fidelity-{mode}"), "publisher");
        let _operator = operator(&namespace, mode, &["--prod-topic-prefix", PREFIX, "--max-pods", "6"]);
        namespace.apply(SENDERS);
        namespace.create(&half_by_sender(&stage.manifests(mode, "")));
        wait_for_all_sent(&namespace);
        let objects = namespace.messages();
        assert!(objects.iter().all(|object| object["status"]["deliveryMode"] == expected), "{mode}");
        sent.extend(objects.iter().map(|object| stage.sent_by_operator(object)));
    }
    stage.compare(&sent);
}

/// The CA is in a ConfigMap, or only the operator has it. The Pods mount it all the same. The operator
/// does not log in itself.
#[test]
fn sends_by_sender() {
    let (namespace, cli) = (namespace("senders", "publisher"), Cli::new());
    let certificate = cluster().broker.client("publisher").expect("a certificate");
    let consumer = RawConsumer::start(&cluster().broker, "by-pod.pods.sender.*");
    let own = cli.file("ca.pem", &certificate.ca).display().to_string();
    namespace.apply(&secret("pair", &[("app.crt", &certificate.cert), ("app.key", &certificate.key)]));
    namespace.apply(&config_map("ca", &[("ca.pem", &certificate.ca)]));
    let pair = "{certSecretRef: {name: pair, key: app.crt}, keySecretRef: {name: pair, key: app.key}";
    for (name, ca) in [("map", ", caConfigMapRef: {name: ca, key: ca.pem}}"), ("operator", "}")] {
        let spec = format!(", topicPrefix: by-pod, application: {{name: app-{name}, contacts: [a@example.org]}}");
        let sender = sender(name, &spec).replace("{secretRef: {name: certs}}", &format!("{pair}{ca}"));
        namespace.apply(&sender);
        namespace.apply(&by_sender(name, &format!("pods.sender.{name}"), &format!(", senderRef: {{name: {name}}}")));
    }
    let _operator = operator(&namespace, "pod", &["--prod-ca-file", &own]);
    for name in ["map", "operator"] {
        wait_for_reason(&namespace, name, "Sent");
        let status = namespace.wait_for_sender(name, "True", "CertificateValid");
        assert_eq!(status["user"], "publisher");
    }
    assert_eq!(consumer.take(2, SOON).len(), 2);
}

#[test]
fn refuses_schemas_outside_image() {
    let namespace = namespace("schemas", "publisher");
    let nice = message("nice", "pods.schemas", ", schema: nice.encouragement.v1, schemaPackage: nice_messages");
    namespace.apply(&nice);
    namespace.apply(&message("other", "pods.schemas", ", schema: base.message, schemaPackage: other_package"));
    let operator = operator(&namespace, "pod", &[]);
    let status = wait_for_reason(&namespace, "nice", "Misconfigured");
    let expected = "Pod delivery can't send the schema nice.encouragement.v1 from the package nice_messages, because the CLI's image lacks it and would send base.message instead: use direct delivery, or an image with the \
                 package, and name the schema in the operator's --cli-schemas";
    assert_eq!(status["message"], expected);
    wait_for_reason(&namespace, "other", "Misconfigured");
    assert_eq!(pods(&namespace), Vec::<Value>::new());
    operator.stop();
}

/// The image has neither a shell nor `cat`. A message with 240 KiB is sent, and for a larger one no Pod
/// is created.
#[test]
fn large_message_needs_only_cli() {
    let namespace = namespace("large", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.large");
    let _operator = operator(&namespace, "pod", &[]);
    let store = |name: &str, text: &str| {
        let manifest = message_json(name, &json!({"topic": "pods.large", "body": {"text": text}}));
        namespace.post(&manifest.to_string()).expect("the API server stores it");
    };
    store("too-large", &"a".repeat(245_760));
    let status = wait_for_reason(&namespace, "too-large", "MessageTooLarge");
    let text = status["message"].as_str().expect("a message");
    let advice = "because a Pod holds at most 245760: send a reference to the data instead, or use direct delivery";
    assert!(text.starts_with("Pod delivery can't send a message of 246") && text.ends_with(advice), "{text}");
    assert_eq!(pods(&namespace), Vec::<Value>::new());

    let text = "a".repeat(235_000) + &"\u{fc}".repeat(5_000);
    store("large", &text);
    wait_for_reason(&namespace, "large", "Sent");
    let received = consumer.take(1, SOON);
    assert_eq!(received.len(), 1, "the message that is too large is not sent");
    let body: Value = serde_json::from_slice(&received[0].data).expect("JSON");
    assert!(body["text"] == text.as_str(), "the text differs");
}
