//! What a user reads when a Pod can't send a message: each cause in its own words, and soon.

use rig::broker::Options;
use rig::{Broker, Pki, wait_until};
use serde_json::Value;

use crate::cluster::{cluster, operator, operator_at, pods, space, wait_for_reason};
use e2e::world::{SOON, Space, message};

/// A message of this name, with the certificate in the Secret of the same name.
fn with_own_secret(name: &str, topic: &str) -> String {
    message(name, topic, "").replace("secretRef: {name: certs}", &format!("secretRef: {{name: {name}}}"))
}

fn uid(space: &Space, name: &str) -> String {
    space.get(name)["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

/// Checks reason and words, in which `POD` stands for the Pod's name.
fn assert_words(space: &Space, name: &str, reason: &str, words: &str) {
    let status = wait_for_reason(space, name, reason);
    let said = status["message"].as_str().expect("a message");
    let attempts = status["attempts"].as_u64().expect("a number");
    let pod = format!("Pod {}/fedora-message-{}-{attempts}", space.name, uid(space, name));
    assert_eq!(said, words.replace("POD", &pod), "{name}");
    assert_eq!(status["deliveryMode"], "pod", "{name}");
}

#[test]
fn what_the_broker_refuses_is_said_as_with_direct_delivery() {
    let space = space("refusals", "nice-app");
    let broker = &cluster().broker;
    let store = |name: &str, certificate: &rig::ClientCert| {
        cluster().kube.apply_text(&certificate.secret_yaml(name, &space.name)).expect("the Secret is stored");
    };
    let other = Pki::new("other-ca").expect("an authority");
    let client = |cn| broker.client(cn).expect("a certificate");
    store("unknown", &client("nobody"));
    store("no-vhost", &client("no-vhost"));
    let mut mistrusting = client("nice-app");
    other.ca().clone_into(&mut mistrusting.ca);
    store("mistrusting", &mistrusting);
    let mut mistrusted = other.client("nice-app").expect("a certificate");
    broker.pki().ca().clone_into(&mut mistrusted.ca);
    store("mistrusted", &mistrusted);

    space.apply(&message("forbidden", "evil.topic", "")).expect("it is accepted");
    for name in ["unknown", "no-vhost", "mistrusting", "mistrusted"] {
        space.apply(&with_own_secret(name, "nice.topic")).expect("it is accepted");
    }
    let body = format!("body: {{text: {}}}", "a".repeat(1_100_000));
    let large = message("large", "nice.topic", "").replace("body: {name: large}", &body);
    space.apply(&large).expect("it is accepted");
    let _operator = operator(&space, "pod", &["--max-pods", "6"]);
    assert_words(
        &space,
        "forbidden",
        "TopicForbidden",
        "POD ended with exit code 121 ((403): \"ACCESS_REFUSED - access to topic 'evil.topic' in exchange 'amq.topic' in vhost '/pubsub' refused for user 'nice-app'\"): choose a topic the user may publish to, or ask the broker's administrators for permission",
    );
    assert_words(
        &space,
        "unknown",
        "AuthenticationFailed",
        "POD ended with exit code 1 (ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. For details see the broker logfile.'): ask the broker's administrators to create the certificate's user, or use another certificate",
    );
    assert_words(
        &space,
        "no-vhost",
        "VhostRefused",
        "POD ended with exit code 1 (ConnectionClosedByBroker: (530) \"NOT_ALLOWED - access to vhost '/pubsub' refused for user 'no-vhost'\"): check the path of the broker's URL, or ask its administrators for access",
    );
    assert_words(
        &space,
        "mistrusting",
        "TlsFailed",
        "POD ended with exit code 1 (Error([('SSL routines', '', 'certificate verify failed')])): check the CA and the certificate, and the name in the broker's URL",
    );
    let status = wait_for_reason(&space, "large", "MessageTooLarge");
    let words = "(406): 'PRECONDITION_FAILED - message size 1100012 is larger than configured max size 1048576'): send a reference to the data instead";
    assert!(status["message"].as_str().is_some_and(|said| said.ends_with(words)), "{status:#}");
    let status = wait_for_reason(&space, "mistrusted", "TlsFailed");
    assert!(status["message"].as_str().is_some_and(|words| words.contains("alert")), "{status:#}");
}

#[test]
fn what_is_wrong_with_secrets_and_messages_is_said_without_a_pod() {
    let space = space("no-pod", "publisher");
    let three = message("three", "pods.three", "").replace(
        "secretRef: {name: certs}",
        "caSecretRef: {name: certs, key: ca}, certSecretRef: {name: certs, key: cert, namespace: elsewhere}, keySecretRef: {name: certs, key: key}",
    );
    space.apply(&(with_own_secret("absent", "pods.absent") + &three)).expect("they are accepted");
    let _operator = operator(&space, "pod", &[]);
    wait_for_reason(&space, "absent", "SecretNotFound");
    wait_for_reason(&space, "three", "SecretNotFound");
    assert_eq!(pods(&space), Vec::<Value>::new());
}

/// Each by an operator whose settings make it so, in a namespace of its own.
#[test]
fn what_holds_a_pod_up_is_said_within_a_deadline() {
    let start = |title: &str, arguments: &[&str]| {
        let space = space(title, "publisher");
        space.apply(&message("hello", "pods.stuck", "")).expect("it is accepted");
        let operator = operator(&space, "pod", arguments);
        (space, operator)
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
    for ((space, operator), words) in &cases {
        let status = wait_for_reason(space, "hello", "PodFailed");
        let attempts = status["attempts"].as_u64().expect("a number");
        let pod = format!("Pod {}/fedora-message-{}-{attempts}", space.name, uid(space, "hello"));
        let said = status["message"].as_str().expect("a message");
        assert!(said.starts_with(&words.replace("POD", &pod)), "{}: {said}\n{}", space.name, operator.log());
        assert_eq!(status["conditions"][1]["type"], "Reconciling", "it is tried again");
    }
}

/// A Pod that can't be made is said so; here the namespace lets no Pod in whose class does not exist.
#[test]
fn a_pod_that_the_api_server_refuses_is_said_so() {
    let space = space("refused", "publisher");
    space.apply(&message("hello", "pods.refused", "")).expect("it is accepted");
    let _operator = operator(&space, "pod", &["--pod-priority-class", "absent"]);
    let status = wait_for_reason(&space, "hello", "PodFailed");
    let said = status["message"].as_str().expect("a message");
    assert!(said.contains("can't be made: ") && said.contains("no PriorityClass with name absent"), "{said}");
}

/// The broker accepts the connection and says nothing; the CLI would wait for half a minute.
#[test]
fn a_pod_that_takes_too_long_is_ended_and_said_so() {
    let space = space("slow", "publisher");
    cluster();
    let broker = Broker::start_with(&Options {
        server_names: vec!["10.90.0.1".into(), "localhost".into()],
        address: "0.0.0.0".into(),
        ..Options::default()
    })
    .expect("a broker of its own");
    let certificate = broker.client("publisher").expect("a certificate");
    cluster().kube.apply_text(&certificate.secret_yaml("certs", &space.name)).expect("the Secret is stored");
    broker.freeze().expect("it stands still");
    space.apply(&message("hello", "pods.slow", "")).expect("it is accepted");
    let limits = ["--pod-start-timeout", "10", "--pod-run-timeout", "5"];
    let operator = operator_at(&broker.url(), &space, "pod", &limits);
    let status = wait_for_reason(&space, "hello", "PodFailed");
    let said = status["message"].as_str().expect("a message");
    assert!(said.contains("took too long and was ended (DeadlineExceeded: "), "{said}");

    broker.thaw().expect("it goes on");
    wait_for_reason(&space, "hello", "Sent");
    // The one that failed made room for the next, and that is not needed any more.
    wait_until(SOON, "no Pod is left", || pods(&space).is_empty()).expect("all are gone");
    drop(operator);
}
