//! What follows each reason that direct delivery can produce: what is tried again, and when. Their words
//! are in the [catalog](crate::catalog).

use rig::broker::Options;
use rig::pki::{KeyKind, Request};
use rig::port::Port;
use rig::{Broker, ClientCert};
use serde_json::{Value, json};

use e2e::raw::RawConsumer;
use e2e::world::{Operator, SOON, Space, message, world};

/// Waits for a reason, and checks the words and what follows.
fn expect(space: &Space, name: &str, reason: &str, words: &[&str], follows: Option<&str>) -> Value {
    let status = space.wait_for_reason(name, reason);
    let message = status["message"].as_str().expect("a message");
    for part in words {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert_eq!(status["status"], reason == "Sent", "{status:#}");
    let conditions = status["conditions"].as_array().expect("conditions");
    let others: Vec<_> =
        conditions.iter().filter(|c| c["status"] == "True" && c["type"] != "FedoraMessageSent").collect();
    assert_eq!(
        others.iter().map(|c| c["type"].as_str().expect("a type")).collect::<Vec<_>>(),
        follows.into_iter().collect::<Vec<_>>()
    );
    status
}

fn secret(space: &Space, name: &str, certificate: &ClientCert) {
    space.apply(&certificate.secret_yaml(name, &space.name)).expect("the Secret is stored");
}

fn with_secret(manifest: &str, secret: &str) -> String {
    manifest.replace("{name: certs}", &format!("{{name: {secret}}}"))
}

#[test]
fn what_is_wrong_with_secrets_is_said_without_connecting_and_mended_at_once() {
    let space = Space::new("secrets");
    let pki = world().broker.pki();
    let good = pki.client("publisher").expect("a certificate");
    let other = pki.client("publisher").expect("a certificate");
    let expired = pki.issue(&Request::client("publisher").expired()).expect("a certificate");
    // Nobody listens there: whatever is said is said without the broker.
    let port = Port::reserve().expect("a free port");
    let _operator = Operator::on(&world().kube, &format!("amqps://localhost:{}/%2Fpubsub", port.number()), &space, &[]);
    secret(&space, "expired", &expired);
    secret(&space, "mismatch", &ClientCert { key: other.key.clone(), ..good.clone() });
    secret(&space, "garbage", &ClientCert { cert: "garbage".to_owned(), ..good.clone() });
    secret(&space, "swapped", &ClientCert { cert: good.key.clone(), key: good.cert.clone(), ..good.clone() });
    space
        .apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: partial}}\nstringData: {{tls.crt: {:?}, ca.crt: {:?}}}",
            good.cert, good.ca
        ))
        .expect("the Secret is stored");
    let here = &space.name;
    for (name, reason, words) in [
        ("absent", "SecretNotFound", vec![format!("Secret {here}/absent does not exist: create it")]),
        (
            "expired",
            "CertificateExpired",
            vec![format!("certificate of publisher in key \"cert\" of Secret {here}/expired expired on ")],
        ),
        (
            "mismatch",
            "SecretInvalid",
            vec![
                "key \"cert\"".to_owned(),
                "key \"key\"".to_owned(),
                "is not the key of the first certificate".to_owned(),
            ],
        ),
        ("garbage", "SecretInvalid", vec![format!("key \"cert\" of Secret {here}/garbage contains no certificate")]),
        ("swapped", "SecretInvalid", vec!["contains no certificate".to_owned()]),
        (
            "partial",
            "SecretInvalid",
            vec![format!("Secret {here}/partial lacks the key \"tls.key\" with the private key")],
        ),
    ] {
        space.apply(&with_secret(&message(name, "reasons.secret", ""), name)).expect("it is accepted");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let status = expect(&space, name, reason, &words, Some("Reconciling"));
        assert_eq!(status["attempts"], 0, "no broker was tried");
        // Mending the Secret is enough; the next trouble is the missing broker.
        secret(&space, name, &good);
        expect(
            &space,
            name,
            "BrokerUnreachable",
            &["no connection to the broker localhost:", "refused"],
            Some("Reconciling"),
        );
    }
}

#[test]
fn three_secrets_with_one_key_each_are_as_good_as_one() {
    let space = Space::new("three");
    let certificate = world().broker.client("publisher").expect("a certificate");
    for (name, key, pem) in [
        ("fedora-messaging-ca", "cacert.pem", &certificate.ca),
        ("fedora-messaging-crt", "app-cert.pem", &certificate.cert),
        ("fedora-messaging-key", "app-key.pem", &certificate.key),
    ] {
        let manifest =
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{{key}: {pem:?}}}");
        space.apply(&manifest).expect("the Secret is stored");
    }
    let three = "caSecretRef: {name: fedora-messaging-ca, key: cacert.pem}, certSecretRef: {name: fedora-messaging-crt, key: app-cert.pem}, keySecretRef: {name: fedora-messaging-key, key: app-key.pem}";
    let _operator = Operator::start(&space, &[]);
    space
        .apply(&message("three", "three.secrets", "").replace("secretRef: {name: certs}", three))
        .expect("it is accepted");
    expect(&space, "three", "Sent", &[], None);
}

#[test]
fn a_message_larger_than_the_broker_takes_stops_and_no_other_does() {
    let space = Space::new("large");
    space.certificate(&world().broker, "publisher");
    let _operator = Operator::start(&space, &[]);
    let large = message("large", "large.topic", "")
        .replace("{name: large}, topic", &format!("{{text: {}}}, topic", "x".repeat(1_100_000)));
    space.apply(&(large + &message("small", "large.topic", ""))).expect("both are accepted");
    expect(
        &space,
        "large",
        "MessageTooLarge",
        &["body of 1100011 bytes is larger than the broker", "message size"],
        Some("Stalled"),
    );
    expect(&space, "small", "Sent", &[], None);
}

#[test]
fn headers_too_large_for_the_brokers_frames_stop_their_message_and_keep_the_connection() {
    let space = Space::new("frames");
    let options = Options { config: "frame_max = 8192\n".to_owned(), ..Options::default() };
    let broker = Broker::start_with(&options).expect("a broker of its own");
    space.certificate(&broker, "publisher");
    let _operator = Operator::on(&world().kube, &broker.url(), &space, &[]);
    let headers = format!(", headers: {{large: {}}}", "x".repeat(20_000));
    space
        .apply(&(message("large", "frames.topic", &headers) + &message("small", "frames.topic", "")))
        .expect("both are accepted");
    expect(
        &space,
        "large",
        "InvalidMessage",
        &["its headers need a frame of", "accepts at most 8192"],
        Some("Stalled"),
    );
    let status = expect(&space, "small", "Sent", &[], None);
    assert_eq!(status["attempts"], 1, "its connection was not lost");
}

#[test]
fn a_queue_that_is_full_nacks_and_the_message_is_tried_until_there_is_room() {
    let space = Space::new("nacked");
    space.certificate(&world().broker, "publisher");
    let arguments = [("x-max-length", json!(0)), ("x-overflow", json!("reject-publish"))];
    let full = RawConsumer::start_with(&world().broker, "nacked.topic", &arguments);
    let _operator = Operator::start(&space, &[]);
    space.apply(&message("nacked", "nacked.topic", "")).expect("it is accepted");
    expect(&space, "nacked", "Nacked", &["could not store the message (nack)"], Some("Reconciling"));
    drop(full);
    expect(&space, "nacked", "Sent", &["reached nobody"], None);
}

#[test]
fn a_confirm_that_does_not_come_is_waited_for_and_the_message_sent_again_with_the_same_id() {
    let space = Space::new("timeout");
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "timeout.topic");
    consumer.suspend(&world().broker);
    let _operator = Operator::start(&space, &["--confirm-timeout", "1"]);
    space.apply(&message("slow", "timeout.topic", "")).expect("it is accepted");
    expect(
        &space,
        "slow",
        "ConfirmTimeout",
        &["did not confirm the message within 1 s", "same id"],
        Some("Reconciling"),
    );
    consumer.resume(&world().broker);
    let status = expect(&space, "slow", "Sent", &[], None);
    let received = consumer.take(2, SOON);
    for message in &received {
        assert_eq!(
            message.properties.message_id().as_ref().map(ToString::to_string).as_deref(),
            status["messageId"].as_str()
        );
        assert_eq!(message.properties.headers(), received[0].properties.headers());
        assert_eq!(message.data, received[0].data);
    }
}

#[test]
fn a_broker_that_is_away_is_used_as_soon_as_it_is_back_and_one_that_is_blocked_gets_nothing_twice() {
    let space = Space::new("away");
    let broker = Broker::start().expect("a broker of its own");
    space.certificate(&broker, "publisher");
    let consumer = RawConsumer::start(&broker, "away.#");
    let _operator = Operator::on(&world().kube, &broker.url(), &space, &[]);
    broker.set_memory_alarm(true).expect("the alarm is set");
    for n in 0..5 {
        space.apply(&message(&format!("blocked{n}"), "away.topic", "")).expect("it is accepted");
    }
    for n in 0..5 {
        let words = ["accepts no messages at present", "memory"];
        expect(&space, &format!("blocked{n}"), "BrokerBlocked", &words, Some("Reconciling"));
    }
    broker.set_memory_alarm(false).expect("the alarm is cleared");
    for n in 0..5 {
        expect(&space, &format!("blocked{n}"), "Sent", &[], None);
    }
    assert_eq!(consumer.take(5, SOON).len(), 5, "each arrives once");
    drop(consumer);

    broker.kill().expect("the broker is killed");
    for n in 0..5 {
        space.apply(&message(&format!("away{n}"), "away.topic", "")).expect("it is accepted");
        expect(&space, &format!("away{n}"), "BrokerUnreachable", &[], Some("Reconciling"));
    }
    broker.restart().expect("the broker is back");
    for n in 0..5 {
        expect(&space, &format!("away{n}"), "Sent", &[], None);
    }
}

#[test]
fn a_message_is_given_up_by_deadline_and_limit_and_tried_once_more_on_demand() {
    let space = Space::new("limits");
    space.certificate(&world().broker, "publisher");
    let port = Port::reserve().expect("a free port");
    let nowhere = format!("amqps://localhost:{}/%2Fpubsub", port.number());
    let operator = Operator::on(&world().kube, &nowhere, &space, &[]);
    let with = |name: &str, field: &str| {
        message(name, "limits.topic", "").replace("  env: prod", &format!("  env: prod\n  {field}"))
    };
    space.apply(&with("late", "activeDeadlineSeconds: 2")).expect("it is accepted");
    space.apply(&with("often", "backoffLimit: 2")).expect("it is accepted");
    space.apply(&with("never", "suspend: true")).expect("it is accepted");
    expect(
        &space,
        "late",
        "DeadlineExceeded",
        &["spec.activeDeadlineSeconds (2 s)", "no connection to the broker"],
        Some("Stalled"),
    );
    let often = expect(
        &space,
        "often",
        "BackoffLimitExceeded",
        &["spec.backoffLimit (2) retries", "BrokerUnreachable"],
        Some("Stalled"),
    );
    assert_eq!(often["attempts"], 3);
    expect(&space, "never", "Suspended", &["spec.suspend is true"], Some("Reconciling"));

    operator.stop();
    let _operator = Operator::start(&space, &[]);
    for name in ["late", "often"] {
        let retry = ["annotate", "fmsg", name, "apps.fedoraproject.org/retry=1"];
        space.kubectl(&retry, "").expect("a retry is asked for");
        expect(&space, name, "Sent", &[], None);
    }
    let resume = ["patch", "fmsg", "never", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#];
    space.kubectl(&resume, "").expect("it may be resumed");
    expect(&space, "never", "Sent", &[], None);
}

#[test]
fn a_body_nested_thousands_of_levels_deep_stops_alone() {
    let space = Space::new("deep");
    space.certificate(&world().broker, "publisher");
    let operator = Operator::start(&space, &[]);
    for depth in [129, 1000, 9000] {
        let body = r#"{"a":"#.repeat(depth - 1) + "{}" + &"}".repeat(depth - 1);
        let name = format!("deep{depth}");
        let json = format!(
            r#"{{"apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage", "metadata": {{"name": "{name}"}}, "spec": {{"env": "prod", "authentication": {{"secretRef": {{"name": "certs"}}}}, "message": {{"topic": "deep.topic", "body": {body}}}}}}}"#
        );
        space.post(&json).expect("the API server stores it");
        space.apply(&message(&format!("beside{depth}"), "deep.topic", "")).expect("it is accepted");
        expect(&space, &format!("beside{depth}"), "Sent", &[], None);
        let words = format!("nested {depth} levels deep");
        expect_raw(&space, &name, "InvalidMessage", &words);
    }
    operator.stop();
    space.apply(&message("waiting", "deep.topic", "")).expect("it is accepted");
    let _operator = Operator::start(&space, &[]);
    expect(&space, "waiting", "Sent", &[], None);
}

/// Like [`expect`], for an object that is too deep for a JSON parser.
fn expect_raw(space: &Space, name: &str, reason: &str, words: &str) {
    let status = |path: &str| {
        space.kubectl(&["get", "fmsg", name, "-o", &format!("jsonpath={{.status.{path}}}")], "").unwrap_or_default()
    };
    rig::wait_until(SOON, name, || status("reason") == reason)
        .unwrap_or_else(|error| panic!("{error}: {}", status("reason")));
    assert!(status("message").contains(words), "{}", status("message"));
}

#[test]
fn nulls_that_kubectl_dropped_stop_the_message_and_nulls_that_it_kept_are_sent() {
    let space = Space::new("nulls");
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "nulls.topic");
    let _operator = Operator::start(&space, &[]);
    let manifest = |name: &str| {
        message(name, "nulls.topic", "").replace(&format!("body: {{name: {name}}}"), "body: {a: {b: null}, c: [null]}")
    };
    space.kubectl(&["apply", "-f", "-"], &manifest("client")).expect("it is accepted");
    expect(
        &space,
        "client",
        "InvalidMessage",
        &["spec.message.body.a.b", "kubectl apply --server-side"],
        Some("Stalled"),
    );
    let header = message("header", "nulls.topic", ", headers: {lost: null}");
    space.kubectl(&["apply", "-f", "-"], &header).expect("it is accepted");
    expect(&space, "header", "InvalidMessage", &["spec.message.headers.lost"], Some("Stalled"));
    space.kubectl(&["apply", "--server-side", "-f", "-"], &manifest("server")).expect("it is accepted");
    expect(&space, "server", "Sent", &[], None);
    let received = consumer.take(1, SOON);
    let body: Value = serde_json::from_slice(&received[0].data).expect("JSON");
    assert_eq!(body, json!({"a": {"b": null}, "c": [null]}));
}

#[test]
fn every_usual_kind_of_key_logs_in() {
    let space = Space::new("keys");
    let _operator = Operator::start(&space, &[]);
    for (name, kind) in
        [("ec", KeyKind::Ec), ("sec1", KeyKind::EcSec1), ("rsa", KeyKind::Rsa), ("pkcs1", KeyKind::RsaPkcs1)]
    {
        let certificate = world().broker.pki().issue(&Request::client("publisher").key(kind)).expect("a certificate");
        secret(&space, name, &certificate);
        space.apply(&with_secret(&message(name, "keys.topic", ""), name)).expect("it is accepted");
        expect(&space, name, "Sent", &[], None);
    }
}
