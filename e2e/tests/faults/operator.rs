//! The operator is killed, frozen or stopped while messages flow.

use std::time::{Duration, Instant};

use rig::Broker;

use crate::ledger::{IN_FLIGHT, Ledger};
use e2e::{Operator, let_fault_last, shared};

/// Kubernetes kills a container after this grace period.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// Ends three operators, one after another, while messages flow.
fn survives_ends(title: &'static str, end: fn(&Operator), copies: usize) {
    let mut ledger = Ledger::open(&shared().kube, &shared().broker, title);
    for _ in 0..3 {
        let operator = Operator::start(&ledger.namespace, &[]);
        ledger.wait_for_flow(&operator, ledger.count / 8);
        end(&operator);
    }
    let _operator = Operator::start(&ledger.namespace, &[]);
    ledger.close(&shared().broker, copies);
}

#[test]
fn killed() {
    survives_ends("killed", Operator::kill, 3 * IN_FLIGHT);
}

/// The next operator sends no message again.
#[test]
fn stopped() {
    survives_ends("stopped", |operator| assert_eq!(operator.stop(), Some(0), "{}", operator.log()), 0);
}

/// The operator ends within the grace period of Kubernetes.
#[test]
fn stopped_while_broker_is_frozen() {
    let broker = Broker::start().expect("a broker");
    let (mut ledger, operator) = Ledger::in_flow(&shared().kube, &broker, "stuck", &[]);
    broker.freeze().expect("a signal");
    ledger.wait_until_created();
    let pending = ledger.namespace.pending().expect("the API server answers");
    assert!(!pending.is_empty(), "messages are in flight");
    let start = Instant::now();
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());
    assert!(start.elapsed() < GRACE_PERIOD, "the operator ended after {:?}", start.elapsed());
    broker.thaw().expect("a signal");
    let _operator = Operator::with_broker(&broker.url(), &ledger.namespace, &[]);
    ledger.close(&broker, IN_FLIGHT);
}

/// Freezes an operator for this time while messages flow.
fn survives_freeze(title: &'static str, time: Duration, copies: usize) {
    let (ledger, operator) = Ledger::in_flow(&shared().kube, &shared().broker, title, &[]);
    operator.freeze();
    let_fault_last(time);
    operator.thaw();
    ledger.close(&shared().broker, copies);
}

#[test]
fn frozen() {
    survives_freeze("paused", Duration::from_secs(5), 0);
}

/// The broker closes the connection after two heartbeats of ten seconds. The operator sends the messages
/// in flight again.
#[test]
fn frozen_until_connection_is_closed() {
    survives_freeze("forgotten", Duration::from_secs(25), IN_FLIGHT);
}
