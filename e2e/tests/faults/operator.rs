//! The operator is killed, paused and told to stop, in full flow.

use std::time::{Duration, Instant};

use rig::Broker;

use crate::ledger::{Ledger, UNDER_WAY};
use e2e::world::{Operator, pause, world};

/// After how long Kubernetes kills who was told to stop.
const KUBERNETES_WAITS: Duration = Duration::from_secs(30);

#[test]
fn killed_again_and_again_it_loses_nothing() {
    const KILLS: usize = 3;
    let mut ledger = Ledger::open(&world().kube, &world().broker, "killed");
    for _ in 0..KILLS {
        let operator = Operator::start(&ledger.space, &[]);
        ledger.wait_for_flow(&operator, ledger.count / 8);
        operator.kill();
    }
    let _operator = Operator::start(&ledger.space, &[]);
    ledger.close(&world().broker, KILLS * UNDER_WAY);
}

#[test]
fn told_to_stop_it_ends_in_time_and_the_next_one_sends_nothing_again() {
    const STOPS: usize = 3;
    let mut ledger = Ledger::open(&world().kube, &world().broker, "stopped");
    for _ in 0..STOPS {
        let operator = Operator::start(&ledger.space, &[]);
        ledger.wait_for_flow(&operator, ledger.count / 8);
        assert_eq!(operator.stop(), Some(0), "{}", operator.log());
    }
    let _operator = Operator::start(&ledger.space, &[]);
    ledger.close(&world().broker, 0);
}

#[test]
fn told_to_stop_while_the_broker_is_frozen_it_ends_in_time() {
    let broker = Broker::start().expect("a broker");
    let mut ledger = Ledger::open(&world().kube, &broker, "stuck");
    let operator = Operator::on(&world().kube, &broker.url(), &ledger.space, &[]);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    broker.freeze().expect("it is frozen");
    ledger.wait_until_created();
    assert_ne!(ledger.pending(), Some(0), "messages are under way");
    let last_reported = Instant::now();
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());
    assert!(last_reported.elapsed() < KUBERNETES_WAITS, "it ended after {:?}", last_reported.elapsed());
    broker.thaw().expect("it goes on");
    let _operator = Operator::on(&world().kube, &broker.url(), &ledger.space, &[]);
    ledger.close(&broker, UNDER_WAY);
}

#[test]
fn paused_for_a_while_it_goes_on() {
    let mut ledger = Ledger::open(&world().kube, &world().broker, "paused");
    let operator = Operator::start(&ledger.space, &[]);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    operator.freeze();
    pause(Duration::from_secs(5));
    operator.thaw();
    ledger.close(&world().broker, 0);
}

#[test]
fn paused_until_the_broker_has_given_it_up_it_sends_again_what_was_under_way() {
    let mut ledger = Ledger::open(&world().kube, &world().broker, "forgotten");
    let operator = Operator::start(&ledger.space, &[]);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    operator.freeze();
    // The broker waits for two heartbeats of ten seconds.
    pause(Duration::from_secs(25));
    operator.thaw();
    ledger.close(&world().broker, UNDER_WAY);
}
