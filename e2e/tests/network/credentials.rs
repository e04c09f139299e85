//! Secrets come, go, change and break while messages need them. Every message is sent once its Secret
//! is good again, and none is sent with credentials that its owner has taken back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Envelope;
use fedora_message::message::secret::{PemFiles, PemText};
use fedora_message_operator::internals::BrokerError;
use fedora_message_operator::internals::Confirmed;
use fedora_message_operator::internals::Fence;
use fedora_message_operator::internals::{Brokers, IDLE_TIMEOUT, Pool};
use fedora_message_operator::internals::{Credentials, fingerprint};
use rig::pki::Request;
use rig::proxy::Answer;
use rig::{ClientCert, Pki, Proxy, wait_until};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::ledger::{Ledger, names};
use e2e::raw::RawConsumer;
use e2e::world::{Operator, SOON, Space, message, world};

fn publisher() -> ClientCert {
    world().broker.client("publisher").expect("a certificate")
}

fn store(space: &Space, certificate: &ClientCert) {
    space.apply(&certificate.secret_yaml("certs", &space.name)).expect("the Secret is stored");
}

#[test]
fn a_secret_that_is_deleted_and_created_again_delays_messages_and_loses_none() {
    let space = Space::new("recreated");
    let consumer = RawConsumer::start(&world().broker, "recreated");
    let mut ledger = Ledger::new(&space, &consumer, "recreated");
    let _operator = Operator::start(&space, &[]);
    store(&space, &publisher());
    ledger.send(&names("before", 100));
    space.kubectl(&["delete", "secret", "certs"], "").expect("it is deleted");
    ledger.send(&names("between", 20));
    space.wait_for_reason("between-19", "SecretNotFound");
    store(&space, &publisher());
    ledger.all_arrive(0);
}

#[test]
fn a_rotated_secret_opens_a_new_connection_while_the_old_one_awaits_its_confirms() {
    let (space, broker) = (Space::new("rotated"), &world().broker);
    let consumer = RawConsumer::start(broker, "rotated");
    let mut ledger = Ledger::new(&space, &consumer, "rotated");
    let proxy = Proxy::start(broker.port()).expect("a proxy");
    let operator = Operator::on(&world().kube, &proxy.url(), &space, &[]);
    store(&space, &publisher());
    consumer.suspend(broker);
    ledger.send(&names("in-flight", 20));
    consumer.wait_for_hand_over(broker);
    store(&space, &publisher());
    let mut probes = 0..;
    wait_until(SOON, "the new connection is used", || {
        // The operator sees the new Secret at some time, and uses it for the next message.
        let probe = format!("probe-{}", probes.next().unwrap_or_default());
        space.apply(&message(&probe, "rotated.probe", "")).expect("it is accepted");
        space.wait_for_reason(&probe, "Sent");
        space.kubectl(&["delete", "fmsg", &probe], "").expect("it is deleted");
        proxy.accepted() == 2
    })
    .expect("the new connection is used");
    assert_eq!(proxy.open(), 2, "the old connection is kept for its confirms");
    assert!(ledger.reasons().iter().all(String::is_empty), "nothing is known of the old messages yet");
    consumer.resume(broker);
    ledger.all_arrive(0);
    assert_eq!(operator.stop(), Some(0));
}

#[test]
fn messages_wait_for_a_broken_secret_to_be_mended_and_go_at_once() {
    let space = Space::new("broken");
    let (consumer, pki) = (RawConsumer::start(&world().broker, "broken"), world().broker.pki());
    let mut ledger = Ledger::new(&space, &consumer, "broken");
    let _operator = Operator::start(&space, &[]);
    let good = publisher();
    let another_ca = Pki::new("another-ca").expect("a CA").ca().to_owned();
    let expired = pki.issue(&Request::client("publisher").expired()).expect("a certificate");
    for (name, broken, reason) in [
        ("mismatched", ClientCert { key: publisher().key, ..good.clone() }, "SecretInvalid"),
        ("empty", ClientCert { cert: "nothing".to_owned(), ..good.clone() }, "SecretInvalid"),
        ("expired", expired, "CertificateExpired"),
        ("other-ca", ClientCert { ca: another_ca.clone(), ..good.clone() }, "TlsFailed"),
    ] {
        store(&space, &broken);
        let waiting = names(name, 5);
        ledger.send(&waiting);
        for message in &waiting {
            space.wait_for_reason(message, reason);
        }
        ledger.no_false_success();
        store(&space, &good);
        ledger.all_arrive(0);
    }
    // While a broker's CA is replaced, both are trusted.
    store(&space, &ClientCert { ca: another_ca + &good.ca, ..good });
    ledger.send(&names("both-cas", 5));
    ledger.all_arrive(0);
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_used_once_it_is() {
    let space = Space::new("early");
    let consumer = RawConsumer::start(&world().broker, "early");
    let mut ledger = Ledger::new(&space, &consumer, "early");
    let _operator = Operator::start(&space, &[]);
    let mut request = Request::client("publisher");
    request.not_before = SystemTime::now() + Duration::from_secs(15);
    store(&space, &world().broker.pki().issue(&request).expect("a certificate"));
    ledger.send(&names("early", 3));
    let status = space.wait_for_reason("early-0", "TlsFailed");
    assert!(status["message"].as_str().is_some_and(|words| words.contains("is not valid before")), "{status:#}");
    ledger.all_arrive(0);
}

#[test]
fn consent_that_is_taken_back_stops_pending_messages_until_it_is_given_again() {
    let (guest, owner) = (Space::new("consent-guest"), Space::new("consent-owner"));
    owner.certificate(&world().broker, "publisher");
    guest.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "consent");
    let proxy = Proxy::start(world().broker.port()).expect("a proxy");
    proxy.answer(Answer::Close);
    let _operator = Operator::on(&world().kube, &proxy.url(), &guest, &[]);
    let annotate = |annotation: &str| {
        let annotation = format!("apps.fedoraproject.org/allowed-namespaces{annotation}");
        owner.kubectl(&["annotate", "secret", "certs", &annotation], "").expect("the Secret is changed");
    };
    let given = format!("={}", guest.name);
    annotate(&given);
    let pending = names("pending", 5);
    for name in &pending {
        let theirs = format!("{{name: certs, namespace: {}}}", owner.name);
        guest.apply(&message(name, "consent", "").replace("{name: certs}", &theirs)).expect("it is accepted");
    }
    let expect = |reason: &str| pending.iter().for_each(|name| drop(guest.wait_for_reason(name, reason)));
    expect("BrokerUnreachable");
    annotate("-");
    expect("SecretNotFound");
    proxy.answer(Answer::Forward);
    guest.apply(&message("own", "consent", "")).expect("it is accepted");
    guest.wait_for_reason("own", "Sent");
    expect("SecretNotFound");
    assert_eq!(consumer.take(1, SOON).len(), 1, "only the message with a Secret of its own");
    annotate(&given);
    expect("Sent");
    assert_eq!(consumer.take(5, SOON).len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_nobody_uses_any_more_ends_and_the_others_stay() {
    let proxy = Proxy::start(world().broker.port()).expect("a proxy");
    let address = proxy.url().parse().expect("a URL");
    let brokers = Brokers { prod: proxy.url().parse().expect("a URL"), stg: address };
    let pool = Pool::new(brokers, SOON, Fence::always_open(), |_| {});
    let (old, new) = (credentials(&publisher()), credentials(&publisher()));
    publish(&pool, &old, "idle").await.expect("it is confirmed");
    let between = Instant::now();
    publish(&pool, &new, "idle").await.expect("it is confirmed");
    assert_eq!(proxy.open(), 2);
    pool.close_idle(between).await;
    assert_eq!(proxy.open(), 2, "both were used a moment ago");
    pool.close_idle(between + IDLE_TIMEOUT).await;
    wait_until(SOON, "the old connection ends", || proxy.open() == 1).expect("the old connection ends");
    publish(&pool, &new, "idle").await.expect("it is confirmed");
    assert_eq!(proxy.accepted(), 2, "the new connection is still the same");
    pool.close().await;
    wait_until(SOON, "all connections end", || proxy.open() == 0).expect("all connections end");
}

/// Publishes a message with this routing key.
pub async fn publish(pool: &Pool, credentials: &Arc<Credentials>, routing_key: &str) -> Result<Confirmed, BrokerError> {
    let payload = RawValue::from_string("{}".to_owned()).expect("JSON");
    let envelope = Envelope {
        exchange: "amq.topic",
        routing_key,
        message_id: Uuid::new_v4(),
        priority: 0,
        headers: Vec::new(),
        payload: &payload,
    };
    let published = pool.publish(Environment::Prod, credentials, &envelope, || true).await;
    published.map(|confirmed| confirmed.expect("it is wanted"))
}

/// What a certificate becomes once it is read.
pub fn credentials(certificate: &ClientCert) -> Arc<Credentials> {
    let part = |text: &'static str, pem| PemText { place: text.to_owned(), bytes: pem };
    let material = PemFiles {
        ca: part("ca", certificate.ca.as_bytes()),
        cert: part("cert", certificate.cert.as_bytes()),
        key: part("key", certificate.key.as_bytes()),
    };
    Arc::new(Credentials::from_pem(&material, fingerprint(&material)).expect("the certificate is good"))
}
