//! The operator is killed, frozen or stopped while messages flow.

use std::time::{Duration, Instant};

use rig::Broker;

use crate::ledger::{IN_FLIGHT, Ledger};
use e2e::{Operator, let_fault_last, shared};

/// Kubernetes kills a container after this grace period.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

#[test]
fn killed() {
    const KILLS: usize = 3;
    let mut ledger = Ledger::open(&shared().kube, &shared().broker, "killed");
    for _ in 0..KILLS {
        let operator = Operator::start(&ledger.namespace, &[]);
        ledger.wait_for_flow(&operator, ledger.count / 8);
        operator.kill();
    }
    let _operator = Operator::start(&ledger.namespace, &[]);
    ledger.close(&shared().broker, KILLS * IN_FLIGHT);
}

/// The next operator sends no message again.
#[test]
fn stopped() {
    const STOPS: usize = 3;
    let mut ledger = Ledger::open(&shared().kube, &shared().broker, "stopped");
    for _ in 0..STOPS {
        let operator = Operator::start(&ledger.namespace, &[]);
        ledger.wait_for_flow(&operator, ledger.count / 8);
        assert_eq!(operator.stop(), Some(0), "{}", operator.log());
    }
    let _operator = Operator::start(&ledger.namespace, &[]);
    ledger.close(&shared().broker, 0);
}

/// The operator ends within the grace period of Kubernetes.
#[test]
fn stopped_while_broker_is_frozen() {
    let broker = Broker::start().expect("a broker");
    let mut ledger = Ledger::open(&shared().kube, &broker, "stuck");
    let operator = Operator::with_broker(&broker.url(), &ledger.namespace, &[]);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    broker.freeze().expect("a signal");
    ledger.wait_until_created();
    assert_ne!(ledger.pending(), Some(0), "messages are in flight");
    let start = Instant::now();
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());
    assert!(start.elapsed() < GRACE_PERIOD, "the operator ended after {:?}", start.elapsed());
    broker.thaw().expect("a signal");
    let _operator = Operator::with_broker(&broker.url(), &ledger.namespace, &[]);
    ledger.close(&broker, IN_FLIGHT);
}

#[test]
fn frozen() {
    let mut ledger = Ledger::open(&shared().kube, &shared().broker, "paused");
    let operator = Operator::start(&ledger.namespace, &[]);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    operator.freeze();
    let_fault_last(Duration::from_secs(5));
    operator.thaw();
    ledger.close(&shared().broker, 0);
}

/// The operator sends the messages in flight again.
#[test]
fn frozen_until_connection_is_closed() {
    let mut ledger = Ledger::open(&shared().kube, &shared().broker, "forgotten");
    let operator = Operator::start(&ledger.namespace, &[]);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    operator.freeze();
    // The broker closes the connection after two heartbeats of ten seconds.
    let_fault_last(Duration::from_secs(25));
    operator.thaw();
    ledger.close(&shared().broker, IN_FLIGHT);
}
