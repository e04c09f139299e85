//! Two operators: one leads and sends. The other takes over, and no message is lost or sent twice.

use std::time::{Duration, Instant};

use e2e::raw::{RawConsumer, unique};
use e2e::{DEBUG, Operator, SOON, TestNamespace, message, numbered, shared, wait_soon};

const COUNT: usize = 300;
/// A Lease holds for this time after it was last renewed.
const LEASE: Duration = Duration::from_secs(15);
/// The additional time of a busy machine.
const SLACK: Duration = Duration::from_secs(5);

fn start(namespace: &TestNamespace) -> Operator {
    Operator::start(namespace, &["--leader-elect", "--lease-namespace", &namespace.name])
}

/// Starts a leader, a standby, and a consumer of their messages.
fn pair(title: &str) -> (TestNamespace<'static>, RawConsumer, Operator, Operator) {
    let namespace = TestNamespace::with_publisher(title);
    let consumer = RawConsumer::start(&shared().broker, &format!("{title}.#"));
    let leader = start(&namespace);
    wait_soon("the first operator leads", || leads(&leader));
    let standby = start(&namespace);
    assert_eq!((leads(&standby), standby.probe("/readyz")), (false, Some(200)));
    (namespace, consumer, leader, standby)
}

fn leads(operator: &Operator) -> bool {
    let log = operator.log();
    log.rfind("leading: messages are sent from here") > log.rfind("not leading any more")
}

/// Waits until the standby leads, and returns the time since `since`.
fn takeover(standby: &Operator, since: Instant, within: Duration) -> Duration {
    standby.wait_until(within, "the standby leads", || leads(standby));
    since.elapsed()
}

fn many(title: &str, batch: &str) -> String {
    numbered(COUNT, batch, |n| format!("{title}.{batch}.{n}"))
}

fn assert_each_once(consumer: &RawConsumer, count: usize) {
    let received = consumer.take(count, SOON);
    assert_eq!((unique(&received).len(), received.len()), (count, count), "messages, copies");
}

/// The takeover takes less than two seconds.
#[test]
fn stopped_leader_hands_over() {
    let (namespace, consumer, leader, standby) = pair("handed");
    namespace.create(&many("handed", "m"));
    let first = consumer.take(10, SOON).len();
    let start = Instant::now();
    assert_eq!(leader.stop(), Some(0));
    let took = takeover(&standby, start, SOON);
    assert!(took < Duration::from_secs(2), "the takeover took {took:?}");
    namespace.wait_for_all_sent();
    assert_each_once(&consumer, COUNT - first);
}

/// The takeover waits until the Lease has expired.
#[test]
fn killed_leader_is_replaced() {
    let (namespace, consumer, leader, standby) = pair("replaced");
    let start = Instant::now();
    leader.kill();
    namespace.apply(&message("orphan", "replaced.orphan", ""));
    let took = takeover(&standby, start, LEASE + SLACK);
    assert!(took > LEASE / 2, "the Lease of the old leader still held: {took:?}");
    namespace.wait_for_reason("orphan", "Sent");
    assert_each_once(&consumer, 1);
}

/// After its Lease has expired, the old leader sends nothing. It can lead again later.
#[test]
fn frozen_leader_is_fenced() {
    let (namespace, consumer, leader, standby) = pair("paused");
    namespace.apply(&message("before", "paused.before", ""));
    namespace.wait_for_reason("before", "Sent");
    let start = Instant::now();
    leader.freeze();
    namespace.create(&many("paused", "m"));
    takeover(&standby, start, LEASE + SLACK);
    // The new leader is still sending, and the broker still keeps the old connection.
    leader.thaw();
    namespace.wait_for_all_sent();
    wait_soon("the old leader stops leading", || !leads(&leader));
    assert_each_once(&consumer, COUNT + 1);

    assert_eq!(standby.stop(), Some(0));
    takeover(&leader, Instant::now(), SOON);
    namespace.apply(&message("after", "paused.after", ""));
    namespace.wait_for_reason("after", "Sent");
    assert_each_once(&consumer, 1);
}

/// The operator says that `--lease-namespace` is wrong, and leads once the namespace exists.
#[test]
fn absent_lease_namespace_is_reported() {
    let namespace = TestNamespace::new("no-lease");
    let lease = format!("{}-there", namespace.name);
    let arguments = ["--watch-namespaces", &namespace.name, "--leader-elect", "--lease-namespace", &lease];
    let operator = Operator::launch(&namespace.kube.kubeconfig(), &shared().broker.url(), &arguments, DEBUG);
    let text = format!("its namespace does not exist: create it, or set --lease-namespace (namespaces \"{lease}\"");
    operator.wait_until(SOON, "it is not ready", || {
        operator.http_get("/readyz").is_some_and(|(code, reason)| code == 503 && reason.contains(&text))
    });
    operator.wait_for_log("its namespace does not exist");
    namespace.kube.create_namespace(&lease).expect("a namespace");
    operator.wait_until(SOON, "it leads", || leads(&operator));
    operator.wait_ready();
}
