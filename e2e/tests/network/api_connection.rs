//! Connections to the API server die silently: no FIN, no RST, no answer. The operator detects it
//! and goes on over new connections, without a restart.

use std::path::PathBuf;
use std::time::Duration;

use e2e::raw::RawConsumer;
use e2e::{Operator, SOON, TestNamespace, message, shared, with_foreign_secret};
use rig::Proxy;
use rig::proxy::Answer;

/// The operator recovers within this time.
const RECOVERY: Duration = Duration::from_mins(2);
/// A Lease holds for this time after it was last renewed.
const LEASE: Duration = Duration::from_secs(15);

/// A namespace whose operators reach the API server through a proxy.
struct Site {
    namespace: TestNamespace<'static>,
    proxy: Proxy,
    kubeconfig: PathBuf,
    consumer: RawConsumer,
}

impl Site {
    fn new(title: &str) -> Self {
        let kube = &shared().kube;
        let proxy = Proxy::start(kube.port()).expect("a proxy");
        let kubeconfig = kube.kubeconfig_through(&proxy).expect("a kubeconfig");
        let consumer = RawConsumer::start(&shared().broker, &format!("{title}.#"));
        Self { namespace: TestNamespace::new(title), proxy, kubeconfig, consumer }
    }

    /// Starts an operator that sends to this broker, and waits until it is ready.
    fn operator(&self, broker_url: &str, arguments: &[&str]) -> Operator {
        let arguments = [&["--watch-namespaces", &self.namespace.name], arguments].concat();
        Operator::launch_ready(&self.kubeconfig, broker_url, &arguments)
    }

    /// Loses the operators' open connections. The operator stays alive and ready.
    fn lose_connections(&self, operator: &Operator) {
        self.proxy.lose_open_connections();
        assert_eq!((operator.probe("/livez"), operator.probe("/readyz")), (Some(200), Some(200)));
    }

    /// Waits until the message has this reason: as long as a recovery takes.
    fn wait_for_reason(&self, name: &str, reason: &str, operator: &Operator) {
        self.namespace.wait_for_reason_within(RECOVERY, name, reason, || operator.log());
    }
}

fn foreign_secret(name: &str, topic: &str, owner: &TestNamespace) -> String {
    with_foreign_secret(&message(name, topic, ""), "certs", owner)
}

#[test]
fn sends_new_messages_after_silent_loss() {
    let site = Site::new("api-lost-messages");
    site.namespace.store_certificate(&shared().broker, "publisher");
    let operator = site.operator(&shared().broker.url(), &[]);
    site.namespace.send("before", "api-lost-messages.before");
    site.lose_connections(&operator);
    site.namespace.apply(&message("after", "api-lost-messages.after", ""));
    site.wait_for_reason("after", "Sent", &operator);
    assert_eq!(site.consumer.take(2, SOON).len(), 2, "each message once");
}

#[test]
fn uses_new_secrets_after_silent_loss() {
    send_after_loss("api-lost-secret", None, "SecretNotFound");
}

#[test]
fn uses_renewed_secrets_after_silent_loss() {
    send_after_loss("api-lost-renewal", Some("nobody"), "AuthenticationFailed");
}

/// Stores the right Secret after the connections were lost. Before, the message has this reason.
fn send_after_loss(title: &str, user: Option<&str>, reason: &str) {
    let site = Site::new(title);
    if let Some(user) = user {
        site.namespace.store_certificate(&shared().broker, user);
    }
    let operator = site.operator(&shared().broker.url(), &[]);
    site.namespace.apply(&message("waiting", &format!("{title}.waiting"), ""));
    site.namespace.wait_for_reason("waiting", reason);
    site.lose_connections(&operator);
    site.namespace.store_certificate(&shared().broker, "publisher");
    site.wait_for_reason("waiting", "Sent", &operator);
    assert_eq!(site.consumer.take(1, SOON).len(), 1, "the message once");
}

/// The new message and the withdrawn consent are seen in the right order.
#[test]
fn refuses_withdrawn_consent_after_silent_loss() {
    let (site, owner) = (Site::new("api-lost-consent"), TestNamespace::with_publisher("api-lost-owner"));
    owner.allow(&site.namespace.name);
    let operator = site.operator(&shared().broker.url(), &[]);
    site.namespace.apply(&foreign_secret("allowed", "api-lost-consent.allowed", &owner));
    site.namespace.wait_for_reason("allowed", "Sent");
    site.lose_connections(&operator);
    owner.allow("");
    site.namespace.apply(&foreign_secret("denied", "api-lost-consent.denied", &owner));
    site.wait_for_reason("denied", "SecretNotFound", &operator);
    assert_eq!(site.consumer.take(1, SOON).len(), 1, "only the message that was allowed");
}

/// A message that waits for its broker is held against the Secret as it is now.
#[test]
fn refuses_withdrawn_consent_of_a_waiting_message_after_silent_loss() {
    let (site, owner) = (Site::new("api-lost-waiting"), TestNamespace::with_publisher("api-lost-lender"));
    let broker = Proxy::start(shared().broker.port()).expect("a proxy");
    owner.allow(&site.namespace.name);
    let operator = site.operator(&broker.url(), &[]);
    broker.answer(Answer::Close);
    site.namespace.apply(&foreign_secret("waiting", "api-lost-waiting.waiting", &owner));
    site.namespace.wait_for_reason("waiting", "BrokerUnreachable");
    site.lose_connections(&operator);
    owner.allow("");
    site.wait_for_reason("waiting", "SecretNotFound", &operator);
    broker.answer(Answer::Forward);
    site.namespace.apply(&message("own", "api-lost-waiting.own", ""));
    site.namespace.store_certificate(&shared().broker, "publisher");
    site.wait_for_reason("own", "Sent", &operator);
    let topics: Vec<String> =
        site.consumer.take(1, SOON).iter().map(|message| message.routing_key.to_string()).collect();
    assert_eq!(topics, ["api-lost-waiting.own"], "nothing is sent with a withdrawn consent");
}

#[test]
fn replaces_a_lost_leader_after_silent_loss() {
    let site = Site::new("api-lost-leader");
    site.namespace.store_certificate(&shared().broker, "publisher");
    let elect = ["--leader-elect", "--lease-namespace", &site.namespace.name];
    let leader = site.operator(&shared().broker.url(), &elect);
    leader.wait_for_log("leading: messages are sent from here");
    let standby = site.operator(&shared().broker.url(), &elect);
    site.lose_connections(&standby);
    leader.kill();
    site.namespace.apply(&message("orphan", "api-lost-leader.orphan", ""));
    standby.wait_until(LEASE + SOON, "the standby leads", || {
        standby.log().contains("leading: messages are sent from here")
    });
    site.wait_for_reason("orphan", "Sent", &standby);
    assert_eq!(site.consumer.take(1, SOON).len(), 1, "the message once");
}
