//! The operator's clock is set while messages wait: none waits for a time that will not come.

use std::time::Duration;

use rig::Clock;

use crate::ledger::Ledger;
use e2e::world::{Operator, world};

/// Longer than any message waits before it is tried again.
const MUCH: Duration = Duration::from_hours(12);

/// Messages that wait since their queue is full, when something happens to the clock.
fn send_across(title: &'static str, change: impl FnOnce(&Clock)) {
    let clock = Clock::new().expect("a clock");
    let mut ledger = Ledger::open(&world().kube, &world().broker, title);
    let operator = Operator::with_clock(&clock, &ledger.space);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    ledger.queue.fill(&world().broker);
    ledger.wait_for_reason("Nacked");
    change(&clock);
    ledger.queue.make_room(&world().broker);
    ledger.close(&world().broker, 0);
}

#[test]
fn set_back() {
    send_across("clock-back", |clock| clock.set_back(MUCH).expect("the clock is set"));
}

#[test]
fn set_forward() {
    send_across("clock-forward", |clock| clock.set_forward(MUCH).expect("the clock is set"));
}
