//! The consequences of each reason that direct delivery can produce: which messages the operator
//! tries again, and when. The [catalog](crate::catalog) holds the texts.

use rig::Broker;
use rig::broker::Options;
use serde_json::{Value, json};

use crate::catalog::outcomes::expected_condition;
use e2e::raw::{RawConsumer, unique};
use e2e::{
    Operator, SOON, TestNamespace, certificate, message, message_json, shared, unused_broker_url, wait_soon, with_body,
    with_spec,
};

/// Waits for a reason. Asserts the message of the status, and the condition that follows from the reason.
#[track_caller]
fn assert_status(namespace: &TestNamespace, name: &str, reason: &str, expected: &[&str]) -> Value {
    let status = namespace.expect_reason(name, reason, expected);
    assert_eq!(status["status"], reason == "Sent", "{status:#}");
    let conditions = status["conditions"].as_array().expect("conditions").iter();
    let conditions: Vec<_> = conditions.filter(|c| c["status"] == "True").map(|c| &c["type"]).collect();
    assert_eq!(conditions, [expected_condition(reason)]);
    status
}

/// Each Secret has one key.
#[test]
fn accepts_three_secrets() {
    let namespace = TestNamespace::new("three");
    let certificate = certificate("publisher");
    for (name, key, pem) in [
        ("fedora-messaging-ca", "cacert.pem", &certificate.ca),
        ("fedora-messaging-crt", "app-cert.pem", &certificate.cert),
        ("fedora-messaging-key", "app-key.pem", &certificate.key),
    ] {
        namespace.kubectl(&["create", "secret", "generic", name, &format!("--from-literal={key}={pem}")]);
    }
    let three = "caSecretRef: {name: fedora-messaging-ca, key: cacert.pem}, certSecretRef: {name: fedora-messaging-crt, key: app-cert.pem}, keySecretRef: {name: fedora-messaging-key, key: app-key.pem}";
    let _operator = Operator::start(&namespace, &[]);
    namespace.apply(&message("three", "three.secrets", "").replace("secretRef: {name: certs}", three));
    assert_status(&namespace, "three", "Sent", &[]);
}

/// Headers must fit into one frame. The connection stays open.
#[test]
fn stops_oversized_headers() {
    let options = Options { config: "frame_max = 8192\n".to_owned(), ..Options::default() };
    let broker = Broker::start_with(&options).expect("a broker of its own");
    let namespace = TestNamespace::new("frames").with_certificate(&broker, "publisher");
    let _operator = Operator::with_broker(&broker.url(), &namespace, &[]);
    let headers = format!(", headers: {{large: {}}}", "x".repeat(20_000));
    namespace.apply(&(message("large", "frames.topic", &headers) + &message("small", "frames.topic", "")));
    assert_status(&namespace, "large", "InvalidMessage", &["its headers need a frame of", "accepts at most 8192"]);
    let status = assert_status(&namespace, "small", "Sent", &[]);
    assert_eq!(status["attempts"], 1, "the connection stays open");
}

#[test]
fn resends_after_confirm_timeout() {
    let namespace = TestNamespace::with_publisher("timeout");
    let consumer = RawConsumer::start(&shared().broker, "timeout.topic");
    consumer.suspend(&shared().broker);
    let _operator = Operator::start(&namespace, &["--confirm-timeout", "1"]);
    namespace.apply(&message("slow", "timeout.topic", ""));
    assert_status(&namespace, "slow", "ConfirmTimeout", &["did not confirm the message within 1 s", "same id"]);
    consumer.resume(&shared().broker);
    let status = assert_status(&namespace, "slow", "Sent", &[]);
    let received = consumer.take(2, SOON);
    let ids: Vec<Value> = unique(&received).into_keys().map(Value::from).collect();
    assert_eq!(ids, [status["messageId"].clone()], "all copies are equal");
}

/// A deadline or a backoff limit stops a message. The annotation `retry` and a new value of
/// `suspend` start it again.
#[test]
fn retries_on_demand() {
    let namespace = TestNamespace::with_publisher("limits");
    let (_port, url) = unused_broker_url();
    let operator = Operator::with_broker(&url, &namespace, &[]);
    let with = |name: &str, field: &str| with_spec(&message(name, "limits.topic", ""), field);
    namespace.apply(&with("late", "activeDeadlineSeconds: 10"));
    namespace.apply(&with("often", "backoffLimit: 2"));
    namespace.apply(&with("never", "suspend: true"));
    assert_status(
        &namespace,
        "late",
        "DeadlineExceeded",
        &["activeDeadlineSeconds (10 s)", "no connection to the broker"],
    );
    let often =
        assert_status(&namespace, "often", "BackoffLimitExceeded", &["backoffLimit (2) retries", "BrokerUnreachable"]);
    assert_eq!(often["attempts"], 3);
    assert_status(&namespace, "never", "Suspended", &["spec.suspend is true"]);

    operator.stop();
    let _operator = Operator::start(&namespace, &[]);
    for name in ["late", "often"] {
        let retry = ["annotate", "fmsg", name, "apps.fedoraproject.org/retry=1"];
        namespace.kubectl(&retry);
        assert_status(&namespace, name, "Sent", &[]);
    }
    namespace.patch("never", r#"{"spec":{"suspend":false}}"#);
    assert_status(&namespace, "never", "Sent", &[]);
}

/// The operator starts with a message that is too deep for a JSON parser, and sends others.
#[test]
fn restarts_with_deep_body() {
    let namespace = TestNamespace::with_publisher("deep");
    let operator = Operator::start(&namespace, &[]);
    let body = r#"{"a":"#.repeat(8999) + "{}" + &"}".repeat(8999);
    let json = message_json("deep", &json!({"topic": "deep.topic", "body": "BODY"})).to_string();
    namespace.post(&json.replace(r#""BODY""#, &body)).expect("the API server stores it");
    let reason = || namespace.kubectl(&["get", "fmsg", "deep", "-o", "jsonpath={.status.reason}"]);
    wait_soon("the message is stopped", || reason() == "InvalidMessage");
    operator.stop();
    namespace.apply(&message("waiting", "deep.topic", ""));
    let _operator = Operator::start(&namespace, &[]);
    assert_status(&namespace, "waiting", "Sent", &[]);
}

/// Client-side `kubectl apply` drops nulls. The [catalog](crate::catalog) has the errors that follow.
#[test]
fn server_side_apply_keeps_nulls() {
    let namespace = TestNamespace::with_publisher("nulls");
    let consumer = RawConsumer::start(&shared().broker, "nulls.topic");
    let _operator = Operator::start(&namespace, &[]);
    namespace.apply(&with_body(&message("server", "nulls.topic", ""), "{a: {b: null}, c: [null]}"));
    assert_status(&namespace, "server", "Sent", &[]);
    let received = consumer.take(1, SOON);
    let body: Value = serde_json::from_slice(&received[0].data).expect("JSON");
    assert_eq!(body, json!({"a": {"b": null}, "c": [null]}));
}
