//! The status of a message when its Pod can't send it: each cause has its own text, and appears
//! soon.

use std::collections::HashMap;

use rig::broker::Options;
use rig::proxy::Answer;
use rig::{Broker, Pki, Proxy};
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{cluster, namespace, operator, operator_at, pods, wait_for_reason};
use e2e::raw::RawConsumer;
use e2e::{Operator, SOON, TestNamespace, message, read, uid, wait_soon, with_secret, with_spec};

/// Returns a message with the certificate in the Secret of its own name.
fn with_own_secret(name: &str, topic: &str) -> String {
    with_secret(&message(name, topic, ""), name)
}

/// Asserts reason and message. `POD` in the message is replaced with the Pod's name.
fn assert_message(namespace: &TestNamespace, name: &str, reason: &str, expected: &str) {
    let status = wait_for_reason(namespace, name, reason);
    let text = status["message"].as_str().expect("a message");
    let attempts = status["attempts"].as_u64().expect("a number");
    let pod = format!("Pod {}/fedora-message-{}-{attempts}", namespace.name, uid(&namespace.get(name)));
    assert_eq!(text, expected.replace("POD", &pod), "{name}");
    assert_eq!(status["deliveryMode"], "pod", "{name}");
}

/// The expected statuses.
#[derive(Deserialize)]
struct Failures {
    refused: Vec<Refusal>,
    stuck: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Refusal {
    name: String,
    reason: String,
    message: String,
}

fn failures() -> Failures {
    serde_saphyr::from_str(&read("testdata/pod-failures.yaml")).expect("YAML")
}

/// The reasons are those of direct delivery.
#[test]
fn reports_broker_refusals() {
    let namespace = namespace("refusals", "nice-app");
    let broker = &cluster().broker;
    let other = Pki::new("other-ca").expect("a CA");
    let client = |cn| broker.client(cn).expect("a certificate");
    namespace.store_secret("unknown", &client("nobody"));
    namespace.store_secret("no-vhost", &client("no-vhost"));
    let mut mistrusting = client("nice-app");
    other.ca().clone_into(&mut mistrusting.ca);
    namespace.store_secret("mistrusting", &mistrusting);
    let mut mistrusted = other.client("nice-app").expect("a certificate");
    broker.pki().ca().clone_into(&mut mistrusted.ca);
    namespace.store_secret("mistrusted", &mistrusted);

    namespace.apply(&message("forbidden", "evil.topic", ""));
    for name in ["unknown", "no-vhost", "mistrusting", "mistrusted"] {
        namespace.apply(&with_own_secret(name, "nice.topic"));
    }
    let _operator = operator(&namespace, "pod", &["--max-pods", "6"]);
    for Refusal { name, reason, message } in failures().refused {
        assert_message(&namespace, &name, &reason, &message);
    }
    let status = wait_for_reason(&namespace, "mistrusted", "TlsFailed");
    assert!(status["message"].as_str().is_some_and(|text| text.contains("alert")), "{status:#}");
}

#[test]
fn reports_bad_messages_without_pod() {
    let namespace = namespace("no-pod", "publisher");
    let three = message("three", "pods.three", "").replace(
        "secretRef: {name: certs}",
        "caSecretRef: {name: certs, key: ca}, certSecretRef: {name: certs, key: cert, namespace: elsewhere}, keySecretRef: {name: certs, key: key}",
    );
    namespace.apply(&(with_own_secret("absent", "pods.absent") + &three));
    let _operator = operator(&namespace, "pod", &[]);
    wait_for_reason(&namespace, "absent", "SecretNotFound");
    wait_for_reason(&namespace, "three", "SecretNotFound");
    assert_eq!(pods(&namespace), Vec::<Value>::new());
}

/// Each cause needs its own settings of the operator, and so its own namespace.
#[test]
fn reports_stuck_pods() {
    let start = |title: &str, arguments: &[&str]| {
        let namespace = namespace(title, "publisher");
        namespace.apply(&message("hello", "pods.stuck", ""));
        let operator = operator(&namespace, "pod", arguments);
        (title.to_owned(), namespace, operator)
    };
    let cases = [
        start("image", &["--pod-start-timeout", "6", "--cli-image", "localhost/absent:1"]),
        start("node", &["--pod-start-timeout", "6", "--pod-node-selector", "disk=fast"]),
        start("memory", &["--pod-resources", r#"{"limits": {"memory": "12Mi"}}"#]),
    ];
    let expected = failures().stuck;
    for (title, namespace, operator) in &cases {
        let status = wait_for_reason(namespace, "hello", "PodFailed");
        let attempts = status["attempts"].as_u64().expect("a number");
        let pod = format!("Pod {}/fedora-message-{}-{attempts}", namespace.name, uid(&namespace.get("hello")));
        let text = status["message"].as_str().expect("a message");
        assert!(
            text.starts_with(&expected[title].replace("POD", &pod)),
            "{}: {text}\n{}",
            namespace.name,
            operator.log()
        );
        assert_eq!(status["conditions"][1]["type"], "Reconciling", "the operator tries again");
    }
}

/// The namespace admits no Pod with an unknown priority class.
#[test]
fn reports_refused_pod() {
    let namespace = namespace("refused", "publisher");
    namespace.apply(&message("hello", "pods.refused", ""));
    let _operator = operator(&namespace, "pod", &["--pod-priority-class", "absent"]);
    let status = wait_for_reason(&namespace, "hello", "PodFailed");
    let text = status["message"].as_str().expect("a message");
    assert!(text.contains("can't be made: ") && text.contains("no PriorityClass with name absent"), "{text}");
}

/// The broker accepts the connection and sends nothing. The CLI would wait for half a minute.
#[test]
fn ends_slow_pod() {
    let namespace = namespace("slow", "publisher");
    cluster();
    let broker = Broker::start_with(&Options {
        server_names: vec!["10.90.0.1".into(), "localhost".into()],
        address: "0.0.0.0".into(),
        ..Options::default()
    })
    .expect("a broker");
    namespace.store_certificate(&broker, "publisher");
    broker.freeze().expect("a signal");
    namespace.apply(&message("hello", "pods.slow", ""));
    let limits = ["--pod-start-timeout", "10", "--pod-run-timeout", "5"];
    let operator = operator_at(&broker.url(), &namespace, "pod", &limits);
    let status = wait_for_reason(&namespace, "hello", "PodFailed");
    let text = status["message"].as_str().expect("a message");
    assert!(text.contains("took too long and was ended (DeadlineExceeded: "), "{text}");

    broker.thaw().expect("a signal");
    wait_for_reason(&namespace, "hello", "Sent");
    // The next Pod has replaced the failed one, and is deleted after its message is sent.
    wait_soon("no Pod is left", || pods(&namespace).is_empty());
    drop(operator);
}

/// The operator can't reach the API server while the only attempt's Pod is there.
#[test]
fn waits_through_outage_of_api_server() {
    let namespace = namespace("outage", "publisher");
    let cluster = cluster();
    let consumer = RawConsumer::start(&cluster.broker, "pods.outage");
    let proxy = Proxy::start(cluster.kube.port()).expect("a proxy");
    let kubeconfig = cluster.kube.kubeconfig_through(&proxy).expect("a kubeconfig");
    // The Pod starts after the outage, on a node with this label.
    let pods = ["--delivery-mode", "pod", "--pod-node-selector", "outage=over", "--pod-start-timeout", "600"];
    let arguments = [&["--watch-namespaces", namespace.name.as_str()], pods.as_slice()].concat();
    let operator = Operator::launch_ready(&kubeconfig, &cluster.broker.url(), &arguments);
    namespace.apply(&with_spec(&message("hello", "pods.outage", ""), "backoffLimit: 0"));
    operator.wait_for_log("-1 is made");

    let before = operator.log().len();
    proxy.answer(Answer::Close);
    proxy.cut();
    operator.wait_for_log_from(before, "-1 can't be watched");
    proxy.answer(Answer::Forward);
    cluster.kube.run(&["label", "node", "--all", "outage=over"]).expect("the label is set");
    wait_for_reason(&namespace, "hello", "Sent");
    assert_eq!(consumer.take(1, SOON).len(), 1);
}
