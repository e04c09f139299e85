//! Takes out one mechanism at a time: the checker finds how a promise is broken then, and which. In the
//! same world the whole design breaks none.

use crate::chance::Chance::{
    self, AnswerLost, Create, Delete, Refused, TenureEnds, Terminated, Unreachable, WriteLate, WriteLost,
};
use crate::check::counterexample;
use crate::mechanism::{Design, Mechanism};
use crate::properties::{NEVER_FALSELY_SENT, NEVER_LOST, NOT_TWICE, ONLY_IN_TENURE, STAYS_SENT};
use crate::protocol::Protocol;

fn assert_needed(mechanism: Mechanism, operators: usize, chances: &[(Chance, u8)], promise: &str) {
    let mut protocol = Protocol::new(operators, chances);
    if let Some(found) = counterexample(&protocol) {
        panic!("the whole design\n{}", found.story());
    }
    protocol.design = Design::without(mechanism);
    let found = counterexample(&protocol).unwrap_or_else(|| panic!("without {mechanism:?} no promise is broken"));
    println!("without {mechanism:?}\n{}", found.story());
    assert_eq!(found.promise, promise, "without {mechanism:?}\n{}", found.story());
}

#[test]
fn without_the_uid_test_another_object_is_marked_sent() {
    assert_needed(Mechanism::UidTest, 1, &[(Create, 2), (Delete, 1)], NEVER_FALSELY_SENT);
}

#[test]
fn without_the_version_test_a_late_failure_takes_the_place_of_sent() {
    assert_needed(Mechanism::VersionTest, 1, &[(Create, 1), (Unreachable, 1), (WriteLate, 1)], STAYS_SENT);
}

#[test]
fn without_another_write_after_a_failed_version_test_nobody_is_told_why_a_message_stopped() {
    let chances = [(Create, 1), (Unreachable, 1), (Refused, 1), (AnswerLost, 1)];
    assert_needed(Mechanism::WriteAgain, 1, &chances, NEVER_LOST);
}

#[test]
fn without_the_memory_of_what_was_sent_a_watch_that_lags_sends_it_twice() {
    assert_needed(Mechanism::Memory, 1, &[(Create, 1), (Unreachable, 1)], NOT_TWICE);
}

#[test]
fn without_the_memory_of_what_was_confirmed_a_lost_write_sends_it_twice() {
    assert_needed(Mechanism::RecordLater, 1, &[(Create, 1), (WriteLost, 1)], NOT_TWICE);
}

#[test]
fn without_the_right_to_record_one_who_stops_never_ends_and_its_message_is_not_marked_sent() {
    assert_needed(Mechanism::RecordWithoutLease, 1, &[(Create, 1), (WriteLost, 1), (Terminated, 1)], NEVER_LOST);
}

#[test]
fn without_a_new_list_who_takes_over_sends_what_the_other_one_has_sent() {
    assert_needed(Mechanism::ListOnTakeover, 2, &[(Create, 1), (Terminated, 1)], NOT_TWICE);
}

#[test]
fn without_the_gate_a_paused_leader_publishes_after_its_tenure() {
    assert_needed(Mechanism::Gate, 2, &[(Create, 1), (TenureEnds, 1)], ONLY_IN_TENURE);
}

#[test]
fn without_a_look_at_the_tenure_a_former_leader_writes_over_what_its_successor_found() {
    assert_needed(
        Mechanism::TenureAsked,
        2,
        &[(Create, 1), (Unreachable, 1), (Refused, 1), (TenureEnds, 1)],
        NEVER_LOST,
    );
}

#[test]
fn without_an_end_of_the_hands_of_its_first_term_a_leader_sends_what_was_sent_between_its_terms() {
    assert_needed(Mechanism::HandsEndFirst, 2, &[(Create, 1), (TenureEnds, 1), (Terminated, 1)], NOT_TWICE);
}

#[test]
fn without_the_drain_a_release_makes_the_next_one_send_again() {
    assert_needed(Mechanism::Drain, 2, &[(Create, 1), (Terminated, 1)], NOT_TWICE);
}
