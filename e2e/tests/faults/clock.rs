//! The operator's clock changes while messages wait. No message waits for a time that never comes.

use std::time::Duration;

use rig::Clock;

use crate::ledger::Ledger;
use e2e::{Operator, shared};

/// The change, which is longer than every backoff.
const CHANGE: Duration = Duration::from_hours(12);

/// Changes the clock while messages wait because their queue is full.
fn send_across(title: &'static str, change: impl FnOnce(&Clock)) {
    let clock = Clock::new().expect("a clock");
    let mut ledger = Ledger::open(&shared().kube, &shared().broker, title);
    let operator = Operator::with_clock(&clock, &ledger.namespace);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    ledger.queue.fill(&shared().broker);
    ledger.wait_for_reason("Nacked");
    change(&clock);
    ledger.queue.accept(&shared().broker);
    ledger.close(&shared().broker, 0);
}

#[test]
fn set_back() {
    send_across("clock-back", |clock| clock.set_back(CHANGE).expect("the clock is set"));
}

#[test]
fn set_forward() {
    send_across("clock-forward", |clock| clock.set_forward(CHANGE).expect("the clock is set"));
}
