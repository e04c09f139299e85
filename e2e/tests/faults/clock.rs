//! The operator's clock changes while messages wait. No message waits for a time that never comes.

use std::time::{Duration, SystemTime};

use rig::Clock;
use rig::pki::Request;

use crate::ledger::Ledger;
use e2e::{Operator, SOON, TestNamespace, message, shared, with_spec};

/// The change, which is longer than every backoff.
const CHANGE: Duration = Duration::from_hours(12);

/// Changes the clock while messages wait because their queue is full.
fn send_across(title: &'static str, change: impl FnOnce(&Clock)) {
    let clock = Clock::new().expect("a clock");
    let mut ledger = Ledger::open(&shared().kube, &shared().broker, title);
    let operator = Operator::with_environment(clock.environment(), &ledger.namespace);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    ledger.queue.fill(&shared().broker);
    ledger.wait_for_reason("Nacked");
    change(&clock);
    ledger.queue.accept(&shared().broker);
    ledger.close(&shared().broker, 0);
}

/// The clock is ahead for a while, so that a certificate seems to have expired, and a deadline seems
/// to have passed.
#[test]
fn set_right() {
    let (clock, namespace) = (Clock::new().expect("a clock"), TestNamespace::new("clock-right"));
    let mut request = Request::client("publisher");
    request.not_after = SystemTime::now() + CHANGE / 2;
    namespace.store_secret("certs", &shared().broker.pki().issue(&request).expect("a certificate"));
    let operator = Operator::with_environment(clock.environment(), &namespace);
    clock.set_forward(CHANGE).expect("the clock is set");
    namespace.apply(&message("expired", "clock-right.expired", ""));
    let late = message("late", "clock-right.late", "");
    namespace.apply(&with_spec(&late, "activeDeadlineSeconds: 3600"));
    namespace.wait_for_reason("expired", "CertificateExpired");
    namespace.wait_for_reason("late", "DeadlineExceeded");
    clock.set_back(Duration::ZERO).expect("the clock is set");
    operator.wait_until(SOON, "both messages are sent", || namespace.sent().is_some_and(|sent| sent.len() == 2));
}

#[test]
fn set_back() {
    send_across("clock-back", |clock| clock.set_back(CHANGE).expect("the clock is set"));
}

#[test]
fn set_forward() {
    send_across("clock-forward", |clock| clock.set_forward(CHANGE).expect("the clock is set"));
}
