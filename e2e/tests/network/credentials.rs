//! Secrets appear, change, break and disappear while messages need them. Each message is sent once
//! its Secret is valid, and no message is sent with withdrawn credentials.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Envelope;
use fedora_message_operator::internals::{BrokerError, Brokers, Confirmed, Fence, IDLE_TIMEOUT, Login, Pool};
use rig::pki::Request;
use rig::proxy::Answer;
use rig::{ClientCert, Pki, Proxy};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::ledger::{Ledger, names};
use e2e::raw::{self, RawConsumer};
use e2e::{Operator, SOON, TestNamespace, certificate, message, shared, wait_soon, with_foreign_secret};

fn store(namespace: &TestNamespace, certificate: &ClientCert) {
    namespace.store_secret("certs", certificate);
}

/// No message is lost.
#[test]
fn recreated_secret_delays_messages() {
    let namespace = TestNamespace::new("recreated");
    let consumer = RawConsumer::start(&shared().broker, "recreated");
    let mut ledger = Ledger::new(&namespace, &consumer, "recreated");
    let _operator = Operator::start(&namespace, &[]);
    store(&namespace, &certificate("publisher"));
    ledger.create(&names("before", 100));
    namespace.kubectl(&["delete", "secret", "certs"]);
    ledger.create(&names("between", 20));
    namespace.wait_for_reason("between-19", "SecretNotFound");
    store(&namespace, &certificate("publisher"));
    ledger.wait_for_all(0);
}

/// The old connection waits for its confirms.
#[test]
fn rotated_secret_opens_connection() {
    let (namespace, broker) = (TestNamespace::new("rotated"), &shared().broker);
    let consumer = RawConsumer::start(broker, "rotated");
    let mut ledger = Ledger::new(&namespace, &consumer, "rotated");
    let proxy = Proxy::start(broker.port()).expect("a proxy");
    let operator = Operator::with_broker(&proxy.url(), &namespace, &[]);
    store(&namespace, &certificate("publisher"));
    consumer.suspend(broker);
    ledger.create(&names("in-flight", 20));
    consumer.wait_for_hand_over(broker);
    store(&namespace, &certificate("publisher"));
    let mut probes = 0..;
    wait_soon("the new connection is used", || {
        // The operator sees the new Secret at any time, and uses it for the next message.
        let probe = format!("probe-{}", probes.next().unwrap_or_default());
        namespace.send(&probe, "rotated.probe");
        namespace.kubectl(&["delete", "fmsg", &probe]);
        proxy.accepted() == 2
    });
    assert_eq!(proxy.open(), 2, "the old connection waits for its confirms");
    assert!(namespace.reasons().iter().all(String::is_empty), "the old messages have no result yet");
    consumer.resume(broker);
    ledger.wait_for_all(0);
    assert_eq!(operator.stop(), Some(0));
}

#[test]
fn fixed_secret_sends_messages() {
    let namespace = TestNamespace::new("broken");
    let (consumer, pki) = (RawConsumer::start(&shared().broker, "broken"), shared().broker.pki());
    let mut ledger = Ledger::new(&namespace, &consumer, "broken");
    let _operator = Operator::start(&namespace, &[]);
    let good = certificate("publisher");
    let another_ca = Pki::new("another-ca").expect("a CA").ca().to_owned();
    let expired = pki.issue(&Request::client("publisher").expired()).expect("a certificate");
    for (name, broken, reason) in [
        ("mismatched", ClientCert { key: certificate("publisher").key, ..good.clone() }, "SecretInvalid"),
        ("empty", ClientCert { cert: "nothing".to_owned(), ..good.clone() }, "SecretInvalid"),
        ("expired", expired, "CertificateExpired"),
        ("other-ca", ClientCert { ca: another_ca.clone(), ..good.clone() }, "TlsFailed"),
    ] {
        store(&namespace, &broken);
        let waiting = names(name, 5);
        ledger.create(&waiting);
        for message in &waiting {
            let status = namespace.wait_for_reason(message, reason);
            assert_eq!(status["attempts"] == 0, reason != "TlsFailed", "{name}: {status:#}");
        }
        ledger.assert_no_false_success();
        store(&namespace, &good);
        ledger.wait_for_all(0);
    }
    // During the rotation of a broker's CA, the operator trusts both.
    let ca = format!("# Another:\n{another_ca}subject=CN = x\n\nthe right one:\n{}{another_ca}# end", good.ca);
    store(&namespace, &ClientCert { ca, ..good });
    ledger.create(&names("both-cas", 5));
    ledger.wait_for_all(0);
}

/// The wait is no attempt: even a message without retries is sent.
#[test]
fn waits_for_valid_certificate() {
    let namespace = TestNamespace::new("early");
    let consumer = RawConsumer::start(&shared().broker, "early");
    let mut ledger = Ledger::new(&namespace, &consumer, "early");
    let _operator = Operator::start(&namespace, &[]);
    let mut request = Request::client("publisher");
    // All must be tried before, also on a busy machine.
    request.not_before = SystemTime::now() + Duration::from_mins(1);
    store(&namespace, &shared().broker.pki().issue(&request).expect("a certificate"));
    ledger.create(&names("early", 3));
    namespace.create(&message("once", "early", "").replace("  env:", "  backoffLimit: 0\n  env:"));
    for name in ["early-0", "once"] {
        let status = namespace.expect_reason(name, "TlsFailed", &["is not valid before"]);
        assert_eq!(status["attempts"], 0, "{status:#}");
        let next = status["nextAttemptTime"].as_str().expect("a time").parse::<DateTime<Utc>>().expect("a time");
        assert_eq!(next.timestamp(), DateTime::<Utc>::from(request.not_before).timestamp(), "{status:#}");
    }
    ledger.wait_for_all(0);
}

/// New consent sends them.
#[test]
fn withdrawn_consent_stops_messages() {
    let (guest, owner) =
        (TestNamespace::with_publisher("consent-guest"), TestNamespace::with_publisher("consent-owner"));
    let consumer = RawConsumer::start(&shared().broker, "consent");
    let proxy = Proxy::start(shared().broker.port()).expect("a proxy");
    proxy.answer(Answer::Close);
    let _operator = Operator::with_broker(&proxy.url(), &guest, &[]);
    owner.allow(&guest.name);
    let pending = names("pending", 5);
    for name in &pending {
        guest.apply(&with_foreign_secret(&message(name, "consent", ""), "certs", &owner));
    }
    let expect = |reason: &str| guest.wait_for_reason_of(&pending, reason);
    expect("BrokerUnreachable");
    owner.kubectl(&["annotate", "secret", "certs", "apps.fedoraproject.org/allowed-namespaces-"]);
    expect("SecretNotFound");
    proxy.answer(Answer::Forward);
    guest.send("own", "consent");
    expect("SecretNotFound");
    assert_eq!(consumer.take(1, SOON).len(), 1, "only the message with its own Secret");
    owner.allow(&guest.name);
    expect("Sent");
    assert_eq!(consumer.take(5, SOON).len(), 5);
}

/// Other connections stay open.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn closes_idle_connections() {
    let proxy = Proxy::start(shared().broker.port()).expect("a proxy");
    let address = proxy.url().parse().expect("a URL");
    let brokers = Brokers { prod: proxy.url().parse().expect("a URL"), stg: address };
    let pool = Pool::new(brokers, SOON, Fence::always_open(), |_| {});
    let (old, new) = (login(&certificate("publisher")), login(&certificate("publisher")));
    publish(&pool, &old, "idle").await.expect("a confirm");
    let between = Instant::now();
    publish(&pool, &new, "idle").await.expect("a confirm");
    assert_eq!(proxy.open(), 2);
    pool.close_idle(between).await;
    assert_eq!(proxy.open(), 2, "both connections were used recently");
    pool.close_idle(between + IDLE_TIMEOUT).await;
    wait_soon("the old connection ends", || proxy.open() == 1);
    publish(&pool, &new, "idle").await.expect("a confirm");
    assert_eq!(proxy.accepted(), 2, "the new connection stays open");
    pool.close().await;
    wait_soon("all connections end", || proxy.open() == 0);
}

/// Publishes a message with this routing key.
pub async fn publish(pool: &Pool, login: &Login, routing_key: &str) -> Result<Confirmed, BrokerError> {
    let payload = RawValue::from_string("{}".to_owned()).expect("JSON");
    let envelope = Envelope {
        exchange: "amq.topic",
        routing_key,
        message_id: Uuid::new_v4(),
        priority: 0,
        headers: Vec::new(),
        payload: &payload,
    };
    let published = pool.publish("apps", Environment::Prod, login, &envelope, || false).await;
    published.map(|confirmed| confirmed.expect("not cancelled"))
}

/// Returns the login with a certificate.
pub fn login(certificate: &ClientCert) -> Login {
    Login { credentials: Arc::new(raw::credentials(certificate)), application: Arc::default() }
}
