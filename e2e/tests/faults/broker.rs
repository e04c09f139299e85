//! The broker is killed, frozen, stopped, blocked, and closes connections and channels, in full flow.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rig::{Broker, wait_until};

use crate::ledger::{Ledger, UNDER_WAY};
use e2e::world::{Operator, SOON, Space, message, messages, pause, world};

/// Messages in flow through a broker of the test's own.
fn in_flow(title: &'static str) -> (Broker, Ledger<'static>, Operator) {
    let broker = Broker::start().expect("a broker");
    let mut ledger = Ledger::open(&world().kube, &broker, title);
    let operator = Operator::on(&world().kube, &broker.url(), &ledger.space, &[]);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    (broker, ledger, operator)
}

#[test]
fn killed_and_started_again_with_its_queue() {
    let (broker, ledger, _operator) = in_flow("broker-killed");
    broker.kill().expect("it is killed");
    ledger.wait_for_reason("BrokerUnreachable");
    broker.restart().expect("it is started again");
    ledger.close(&broker, UNDER_WAY);
}

#[test]
fn stopped_politely_and_started_again() {
    let (broker, ledger, _operator) = in_flow("broker-stopped");
    broker.stop().expect("it is stopped");
    ledger.wait_for_reason("BrokerUnreachable");
    broker.restart().expect("it is started again");
    ledger.close(&broker, UNDER_WAY);
}

#[test]
fn frozen_for_longer_than_its_heartbeat() {
    let (broker, ledger, _operator) = in_flow("broker-frozen");
    broker.freeze().expect("it is frozen");
    ledger.wait_for_reason("BrokerUnreachable");
    broker.thaw().expect("it goes on");
    ledger.close(&broker, UNDER_WAY);
}

#[test]
fn blocked_by_its_memory_alarm_it_gets_nothing_twice() {
    let (broker, ledger, operator) = in_flow("broker-blocked");
    broker.set_memory_alarm(true).expect("the alarm is raised");
    ledger.wait_for_reason("BrokerBlocked");
    let sent = ledger.sent();
    pause(Duration::from_secs(3));
    assert_eq!(ledger.sent(), sent, "nothing is said to be sent meanwhile");
    assert!(operator.resident() < 64 << 20, "nothing piles up: {} bytes", operator.resident());
    broker.set_memory_alarm(false).expect("the alarm is cleared");
    ledger.close(&broker, 0);
}

#[test]
fn connections_closed_by_an_administrator() {
    const TIMES: usize = 2;
    let (broker, ledger, _operator) = in_flow("broker-closing");
    for _ in 0..TIMES {
        broker.ctl(&["close_all_connections", "by the test"]).expect("all are closed");
    }
    ledger.close(&broker, TIMES * UNDER_WAY);
}

#[test]
fn full_and_with_room_again() {
    let mut ledger = Ledger::open(&world().kube, &world().broker, "full");
    let operator = Operator::start(&ledger.space, &[]);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    ledger.queue.fill(&world().broker);
    ledger.wait_for_reason("Nacked");
    ledger.queue.make_room(&world().broker);
    ledger.close(&world().broker, 0);
}

#[test]
fn back_again_it_is_used_at_once_through_one_connection() {
    let broker = Broker::start().expect("a broker");
    let mut ledger = Ledger::open(&world().kube, &broker, "back");
    ledger.wait_until_created();
    broker.stop().expect("it is stopped");
    let operator = Operator::on(&world().kube, &broker.url(), &ledger.space, &[]);
    let waiting = || operator.log().matches("reason=\"BrokerUnreachable\"").count() >= ledger.count;
    wait_until(SOON, "all wait for the broker", waiting).expect("all wait for the broker");
    let connections = || broker.log().expect("the log is read").matches("accepting AMQP connection").count();
    let before = connections();
    broker.restart().expect("it is started again");
    let back = Instant::now();
    ledger.wait_until_sent();
    let (took, opened) = (back.elapsed(), connections() - before);
    println!("{} messages, {opened} connections, all sent {took:.1?} after the broker's return", ledger.count);
    assert_eq!(opened, 1, "connections");
    assert!(took < SOON, "all sent {took:?} after the broker's return");
    ledger.close(&broker, 0);
}

#[test]
fn a_channel_closed_for_one_message_fails_no_other() {
    let broker = Broker::start().expect("a broker");
    let mut ledger = Ledger::open(&world().kube, &broker, "channels");
    let nice = broker.client("nice-app").expect("a certificate");
    let forbidden = ledger.count / 10;
    let evil = Space::new("evil");
    evil.apply(&nice.secret_yaml("certs", &evil.name)).expect("the Secret is stored");
    // Through the same connection: the same certificate, in two namespaces.
    ledger.space.apply(&nice.secret_yaml("certs", &ledger.space.name)).expect("the Secret is replaced");
    broker
        .ctl(&["set_topic_permissions", "-p", "/pubsub", "nice-app", "amq.topic", "^channels.*", ".*"])
        .expect("the user may publish to the good topics");
    let manifests: String = (0..forbidden).map(|n| message(&format!("evil{n}"), &format!("evil.{n}"), "")).collect();
    evil.kubectl(&["create", "-f", "-"], &manifests).expect("all are accepted");
    ledger.wait_until_created();
    let namespaces = format!("{},{}", ledger.space.name, evil.name);
    let _operator = Operator::on(&world().kube, &broker.url(), &ledger.space, &["--watch-namespaces", &namespaces]);
    ledger.close(&broker, 0);
    let reasons = || evil.kubectl(&["get", "fmsg", "-o", "jsonpath={.items[*].status.reason}"], "");
    wait_until(SOON, "all bad ones are given up", || {
        reasons()
            .is_ok_and(|reasons| reasons.split(' ').filter(|reason| *reason == "TopicForbidden").count() == forbidden)
    })
    .expect("all bad ones are given up");
}

#[test]
fn a_broker_that_is_away_is_asked_by_one_for_all_who_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    // It hangs up on everybody. The thread ends with the process.
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let space = Space::new("away");
    space.certificate(&world().broker, "publisher");
    let waiting = messages(200);
    let manifests: String = (0..waiting).map(|n| message(&format!("m{n}"), "away.topic", "")).collect();
    space.kubectl(&["create", "-f", "-"], &manifests).expect("all are accepted");
    let operator = Operator::on(&world().kube, &format!("amqps://localhost:{port}/%2Fpubsub"), &space, &[]);
    let attempts = || {
        operator.log().matches("reason=\"TlsFailed\"").count()
            + operator.log().matches("reason=\"BrokerUnreachable\"").count()
    };
    wait_until(SOON, "all have been tried more than once", || attempts() > 3 * waiting).expect("all are tried");
    let asked = asked.load(Ordering::Relaxed);
    println!("{waiting} messages, {} attempts, {asked} connections", attempts());
    assert!(asked < 20, "{asked} connections for {waiting} messages that wait");
}
