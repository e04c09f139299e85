//! The status of a message when its Pod can't send it: each cause has its own text, and appears
//! soon.

use rig::broker::Options;
use rig::{Broker, Pki};
use serde_json::Value;

use crate::cluster::{cluster, namespace, operator, operator_at, pods, wait_for_reason};
use e2e::{TestNamespace, message, wait_soon, with_body, with_secret};

/// Returns a message with the certificate in the Secret of its own name.
fn with_own_secret(name: &str, topic: &str) -> String {
    with_secret(&message(name, topic, ""), name)
}

fn uid(namespace: &TestNamespace, name: &str) -> String {
    namespace.get(name)["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

/// Asserts reason and message. `POD` in the message is replaced with the Pod's name.
fn assert_message(namespace: &TestNamespace, name: &str, reason: &str, expected: &str) {
    let status = wait_for_reason(namespace, name, reason);
    let text = status["message"].as_str().expect("a message");
    let attempts = status["attempts"].as_u64().expect("a number");
    let pod = format!("Pod {}/fedora-message-{}-{attempts}", namespace.name, uid(namespace, name));
    assert_eq!(text, expected.replace("POD", &pod), "{name}");
    assert_eq!(status["deliveryMode"], "pod", "{name}");
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
    let body = format!("{{text: {}}}", "a".repeat(1_100_000));
    namespace.apply(&with_body(&message("large", "nice.topic", ""), &body));
    let _operator = operator(&namespace, "pod", &["--max-pods", "6"]);
    assert_message(
        &namespace,
        "forbidden",
        "TopicForbidden",
        "POD ended with exit code 121 ((403): \"ACCESS_REFUSED - access to topic 'evil.topic' in exchange 'amq.topic' in vhost '/pubsub' refused for user 'nice-app'\"): choose a topic the user may publish to, or ask the broker's administrators for permission",
    );
    assert_message(
        &namespace,
        "unknown",
        "AuthenticationFailed",
        "POD ended with exit code 1 (ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. For details see the broker logfile.'): ask the broker's administrators to create the certificate's user, or use another certificate",
    );
    assert_message(
        &namespace,
        "no-vhost",
        "VhostRefused",
        "POD ended with exit code 1 (ConnectionClosedByBroker: (530) \"NOT_ALLOWED - access to vhost '/pubsub' refused for user 'no-vhost'\"): check the path of the broker's URL, or ask its administrators for access",
    );
    assert_message(
        &namespace,
        "mistrusting",
        "TlsFailed",
        "POD ended with exit code 1 (Error([('SSL routines', '', 'certificate verify failed')])): check the CA and the certificate, and the name in the broker's URL",
    );
    let status = wait_for_reason(&namespace, "large", "MessageTooLarge");
    let expected = "(406): 'PRECONDITION_FAILED - message size 1100012 is larger than configured max size 1048576'): send a reference to the data instead";
    assert!(status["message"].as_str().is_some_and(|text| text.ends_with(expected)), "{status:#}");
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
        (namespace, operator)
    };
    let cases = [
        (
            start("image", &["--pod-start-timeout", "6", "--cli-image", "localhost/absent:1"]),
            "POD did not run within 6 s: its image localhost/absent:1 can't be pulled (ErrImageNeverPull: Container image \"localhost/absent:1\" is not present with pull policy of Never): check the operator's --cli-image and its pull flags",
        ),
        (
            start("node", &["--pod-start-timeout", "6", "--pod-node-selector", "disk=fast"]),
            "POD did not run within 6 s: it can't be scheduled (0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
        (
            start("memory", &["--pod-resources", r#"{"limits": {"memory": "12Mi"}}"#]),
            "POD needed more memory than its limit and was ended: raise the limit in the operator's --pod-resources",
        ),
    ];
    for ((namespace, operator), expected) in &cases {
        let status = wait_for_reason(namespace, "hello", "PodFailed");
        let attempts = status["attempts"].as_u64().expect("a number");
        let pod = format!("Pod {}/fedora-message-{}-{attempts}", namespace.name, uid(namespace, "hello"));
        let text = status["message"].as_str().expect("a message");
        assert!(text.starts_with(&expected.replace("POD", &pod)), "{}: {text}\n{}", namespace.name, operator.log());
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
