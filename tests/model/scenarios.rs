//! The scenarios for the complete design. Each has some kinds of faults, and the last two have all
//! of them. The checker visits every state.

use crate::check::{assert_every_run_ends, assert_holds};
use crate::fault::Fault::{
    self, AnswerLost, ConfirmLost, Crash, Create, Delete, GraceOver, MachineSuspended, Refused, SecretWithdrawn,
    SenderApplied, SenderDeleted, SenderDenied, SenderWatchEnds, SenderWatchSilent, TermEnds, Terminated, Unreachable,
    WatchEnds, WatchSilent, WriteLate, WriteLost,
};
use crate::protocol::Protocol;

const EVERYTHING: [(Fault, u8); 15] = [
    (Create, 1),
    (Delete, 1),
    (Unreachable, 1),
    (Refused, 1),
    (ConfirmLost, 1),
    (WriteLost, 1),
    (AnswerLost, 1),
    (WriteLate, 1),
    (WatchEnds, 1),
    (WatchSilent, 1),
    (SecretWithdrawn, 1),
    (Crash, 1),
    (TermEnds, 1),
    (Terminated, 1),
    (GraceOver, 1),
];

const CHANGES_OF_SENDER: [(Fault, u8); 5] =
    [(SenderApplied, 2), (SenderDenied, 1), (SenderDeleted, 1), (SenderWatchEnds, 1), (SenderWatchSilent, 1)];

/// Checks the promises, and that every run ends.
fn check(name: &str, protocol: &Protocol, at_least: usize) {
    assert_holds(name, protocol, at_least);
    assert_every_run_ends(name, protocol);
}

/// Creates a scenario with the situations that must occur.
fn scenario(operators: usize, faults: &[(Fault, u8)], situations: &'static [&'static str]) -> Protocol {
    Protocol { situations, ..Protocol::new(operators, faults) }
}

#[test]
fn broker_and_writes_fail() {
    let faults = [
        (Create, 1),
        (Unreachable, 1),
        (Refused, 1),
        (ConfirmLost, 1),
        (WriteLost, 1),
        (AnswerLost, 1),
        (WriteLate, 1),
    ];
    let situations = &[
        "a message is sent",
        "a message is stopped",
        "a failure is recorded, and then the message is sent",
        "a message is sent again after a lost confirm",
        "the message is recorded, and the watch lags",
        "a late write reaches a sent message",
    ];
    check("broker and writes", &scenario(1, &faults, situations), 5_000);
}

#[test]
fn object_is_recreated() {
    let faults = [(Create, 2), (Delete, 2), (Unreachable, 1), (WriteLate, 1), (WatchEnds, 1), (AnswerLost, 1)];
    let situations = &["a message is sent", "another object has the name when a confirmed message is recorded"];
    check("deletion", &scenario(1, &faults, situations), 40_000);
}

#[test]
fn operator_crashes() {
    let faults = [(Create, 1), (Delete, 1), (Unreachable, 1), (Crash, 2), (ConfirmLost, 1), (WriteLate, 1)];
    check("crashes", &scenario(1, &faults, &["a message is sent again after a crash"]), 20_000);
}

#[test]
fn leader_releases_lease() {
    let faults = [(Create, 1), (Terminated, 1), (Unreachable, 1), (WriteLate, 1), (WatchEnds, 1)];
    check("release", &scenario(2, &faults, &["the other operator sends after a release"]), 45_000);
}

#[test]
fn leader_is_paused() {
    let faults = [(Create, 1), (TermEnds, 2), (Terminated, 1)];
    let situations = &[
        "the other operator sends",
        "a former leader records what it sent",
        "a message is sent again after a takeover",
    ];
    check("pauses", &scenario(2, &faults, situations), 50_000);
}

#[test]
fn object_is_recreated_during_takeover() {
    let faults = [(Create, 2), (Delete, 1), (TermEnds, 1)];
    let situations = &["the other operator sends", "another object has the name when a confirmed message is recorded"];
    check("deletion and takeover", &scenario(2, &faults, situations), 15_000);
}

#[test]
fn watch_is_silent() {
    let faults = [(Create, 2), (Delete, 1), (WatchSilent, 2), (Unreachable, 1), (AnswerLost, 1)];
    let situations = &["a message is created while the watch is silent, and sent"];
    check("silent watch", &scenario(1, &faults, situations), 13_000);
}

#[test]
fn secret_is_withdrawn() {
    let faults = [(Create, 1), (SecretWithdrawn, 1), (Unreachable, 1), (ConfirmLost, 1), (Crash, 1), (WriteLost, 1)];
    let situations = &["a message is sent", "a message waits, because its Secret was withdrawn"];
    check("withdrawn Secret", &scenario(1, &faults, situations), 4_000);
}

#[test]
fn machine_is_suspended() {
    let faults = [(Create, 1), (MachineSuspended, 2), (Terminated, 1)];
    let situations =
        &["the other operator sends after the first was suspended", "a former leader records what it sent"];
    check("suspended machine", &scenario(2, &faults, situations), 50_000);
}

#[test]
fn pods_send() {
    let faults = [
        (Create, 1),
        (Delete, 1),
        (ConfirmLost, 1),
        (WriteLost, 1),
        (AnswerLost, 1),
        (WriteLate, 1),
        (Crash, 1),
        (WatchEnds, 1),
    ];
    let situations = &["a message is sent", "a message is sent again after a lost confirm"];
    check("Pods", &Protocol { situations, ..Protocol::by_pods(1, &faults) }, 100_000);
}

/// A Pod's end is known to all, so that no takeover and no crash excuses a second one.
#[test]
fn pods_send_during_takeover() {
    let faults = [(Create, 1), (TermEnds, 1), (Terminated, 1), (Crash, 1), (AnswerLost, 1)];
    let situations = &["a message is sent", "a former leader records what it sent"];
    let protocol = Protocol { situations, ..Protocol::by_pods(2, &faults) };
    check("Pods and takeover", &protocol, 240_000);
}

#[test]
fn sender_changes() {
    let faults =
        [(Create, 1), (SenderApplied, 3), (SenderDenied, 1), (SenderDeleted, 1), (ConfirmLost, 1), (WriteLost, 1)];
    let situations = &[
        "a message is sent",
        "a message waits for its Sender",
        "a message is sent after it has waited for its Sender",
        "a message is sent again as another version of its Sender",
        "the Sender changes while an attempt without it is in flight",
        "a message is published as a Sender that was withdrawn, because the watch lags",
    ];
    check("Sender", &scenario(1, &faults, situations).naming_sender(), 70_000);
}

#[test]
fn watch_on_senders_ends() {
    let faults =
        [(Create, 1), (SenderApplied, 2), (SenderDeleted, 1), (SenderWatchEnds, 1), (SenderWatchSilent, 1), (Crash, 1)];
    let situations = &["a message is sent", "a message is sent again as another version of its Sender"];
    check("watch on Senders", &scenario(1, &faults, situations).naming_sender(), 100_000);
}

#[test]
fn sender_changes_during_takeover() {
    let faults = [(Create, 1), (SenderApplied, 2), (TermEnds, 1)];
    let situations = &["the other operator sends, and knows an older Sender", "a former leader records what it sent"];
    check("Sender and takeover", &scenario(2, &faults, situations).naming_sender(), 200_000);
}

/// A Pod that was planned with another version of the Sender proves nothing, so a changed Sender
/// excuses a second publish.
#[test]
fn sender_of_pods_changes() {
    let faults = [(Create, 1), (SenderApplied, 2), (SenderDeleted, 1), (AnswerLost, 1), (Crash, 1)];
    let situations = &[
        "a message is sent",
        "a message waits for its Sender",
        "a message is sent again as another version of its Sender",
    ];
    let protocol = Protocol { situations, ..Protocol::by_pods(1, &faults) };
    check("Sender and Pods", &protocol.naming_sender(), 40_000);
}

#[test]
fn any_faults_with_a_sender() {
    let faults: Vec<_> = EVERYTHING.into_iter().chain(CHANGES_OF_SENDER).collect();
    let mut protocol = Protocol::new(1, &faults).naming_sender();
    protocol.faults = protocol.faults.at_most(4);
    assert_holds("everything, with a Sender", &protocol, 170_000);
}

#[test]
fn any_faults_with_one_operator() {
    let mut protocol = Protocol::new(1, &EVERYTHING);
    protocol.faults = protocol.faults.at_most(5);
    check("everything, one operator", &protocol, 300_000);
}

#[test]
fn any_faults_with_two_operators() {
    let mut protocol = Protocol::new(2, &EVERYTHING);
    protocol.faults = protocol.faults.at_most(4);
    assert_holds("everything, two operators", &protocol, 1_200_000);
}
