//! The worlds that the whole design is checked in: each has some kinds of trouble, the last two have
//! all of them. Every state is looked at.

use crate::chance::Chance::{
    self, AnswerLost, ConfirmLost, Crash, Create, Delete, GraceOver, Refused, TenureEnds, Terminated, Unreachable,
    WatchEnds, WriteLate, WriteLost,
};
use crate::check::{assert_every_run_ends, assert_holds};
use crate::protocol::Protocol;

const EVERYTHING: [(Chance, u8); 13] = [
    (Create, 1),
    (Delete, 1),
    (Unreachable, 1),
    (Refused, 1),
    (ConfirmLost, 1),
    (WriteLost, 1),
    (AnswerLost, 1),
    (WriteLate, 1),
    (WatchEnds, 1),
    (Crash, 1),
    (TenureEnds, 1),
    (Terminated, 1),
    (GraceOver, 1),
];

/// Checks the promises and that every run ends.
fn check(name: &str, protocol: &Protocol, at_least: usize) {
    assert_holds(name, protocol, at_least);
    assert_every_run_ends(name, protocol);
}

/// A world, and what is to be seen in it.
fn world(operators: usize, chances: &[(Chance, u8)], sights: &'static [&'static str]) -> Protocol {
    Protocol { sights, ..Protocol::new(operators, chances) }
}

#[test]
fn the_broker_and_status_writes_fail() {
    let chances = [
        (Create, 1),
        (Unreachable, 1),
        (Refused, 1),
        (ConfirmLost, 1),
        (WriteLost, 1),
        (AnswerLost, 1),
        (WriteLate, 1),
    ];
    let sights = &[
        "a message is sent",
        "a message is given up",
        "a failure is told, and then it is sent",
        "a message is sent again after a lost confirm",
        "it is recorded, and the watch has not told",
        "a late write meets what is sent",
    ];
    check("broker and writes", &world(1, &chances, sights), 5_000);
}

#[test]
fn the_object_is_deleted_and_created_again_at_any_moment() {
    let chances = [(Create, 2), (Delete, 2), (Unreachable, 1), (WriteLate, 1), (WatchEnds, 1), (AnswerLost, 1)];
    let sights = &["a message is sent", "another has its name when a confirmed one is recorded"];
    check("deletion", &world(1, &chances, sights), 40_000);
}

#[test]
fn the_operator_crashes_at_any_moment() {
    let chances = [(Create, 1), (Delete, 1), (Unreachable, 1), (Crash, 2), (ConfirmLost, 1), (WriteLate, 1)];
    check("crashes", &world(1, &chances, &["a message is sent again after a crash"]), 20_000);
}

#[test]
fn the_leader_hands_over_when_it_is_told_to() {
    let chances = [(Create, 1), (Terminated, 1), (Unreachable, 1), (WriteLate, 1), (WatchEnds, 1)];
    check("release", &world(2, &chances, &["the other one sends after a release"]), 45_000);
}

#[test]
fn the_leader_is_paused_until_its_tenure_is_over() {
    let chances = [(Create, 1), (TenureEnds, 2), (Terminated, 1)];
    let sights =
        &["the other one sends", "a former leader records what it sent", "a message is sent again after a takeover"];
    check("pauses", &world(2, &chances, sights), 50_000);
}

#[test]
fn the_object_is_created_again_while_the_other_one_takes_over() {
    let chances = [(Create, 2), (Delete, 1), (TenureEnds, 1)];
    let sights = &["the other one sends", "another has its name when a confirmed one is recorded"];
    check("deletion and takeover", &world(2, &chances, sights), 15_000);
}

#[test]
fn any_four_troubles_meet_one_operator() {
    let mut protocol = Protocol::new(1, &EVERYTHING);
    protocol.chances = protocol.chances.at_most(5);
    check("everything, one operator", &protocol, 150_000);
}

#[test]
fn any_three_troubles_meet_two_operators() {
    let mut protocol = Protocol::new(2, &EVERYTHING);
    protocol.chances = protocol.chances.at_most(4);
    assert_holds("everything, two operators", &protocol, 800_000);
}
