//! Removes one mechanism at a time. The checker then finds the promise that breaks. In the same
//! scenario the complete design breaks no promise.

use crate::check::counterexample;
use crate::fault::Fault::{
    self, AnswerLost, ConfirmLost, Create, Delete, MachineSuspended, Refused, SecretWithdrawn, SenderApplied,
    SenderDeleted, SenderWatchEnds, SenderWatchSilent, TermEnds, Terminated, Unreachable, WatchSilent, WriteLate,
    WriteLost,
};
use crate::mechanism::Mechanism;
use crate::properties::{
    NEVER_FALSELY_SENT, NEVER_LOST, NO_OLD_SENDER, NOT_TWICE, ONE_ENVELOPE, ONE_ID, ONLY_IN_TERM, ONLY_KNOWN_SENDER,
    ONLY_WITH_SECRET, STAYS_SENT,
};
use crate::protocol::Protocol;

fn assert_needed(mechanism: Mechanism, operators: usize, faults: &[(Fault, u8)], promise: &str) {
    assert_needed_in(Protocol::new(operators, faults), mechanism, promise);
}

fn assert_needed_in(mut protocol: Protocol, mechanism: Mechanism, promise: &str) {
    if let Some(found) = counterexample(&protocol) {
        panic!("the complete design\n{}", found.story());
    }
    protocol.design = protocol.design.without(mechanism);
    let found = counterexample(&protocol).unwrap_or_else(|| panic!("without {mechanism:?} no promise is broken"));
    println!("without {mechanism:?}\n{}", found.story());
    assert_eq!(found.promise, promise, "without {mechanism:?}\n{}", found.story());
}

fn assert_needed_with_sender(mechanism: Mechanism, faults: &[(Fault, u8)], promise: &str) {
    assert_needed_in(Protocol::new(1, faults).naming_sender(), mechanism, promise);
}

/// Another object is marked sent.
#[test]
fn needs_uid_test() {
    assert_needed(Mechanism::UidTest, 1, &[(Create, 2), (Delete, 1)], NEVER_FALSELY_SENT);
}

/// A late failure replaces "sent".
#[test]
fn needs_version_test() {
    assert_needed(Mechanism::VersionTest, 1, &[(Create, 1), (Unreachable, 1), (WriteLate, 1)], STAYS_SENT);
}

/// The status never gets the reason of a stopped message.
#[test]
fn needs_retry_write() {
    let faults = [(Create, 1), (Unreachable, 1), (Refused, 1), (AnswerLost, 1)];
    assert_needed(Mechanism::RetryWrite, 1, &faults, NEVER_LOST);
}

/// A lagging watch makes the operator send a message twice.
#[test]
fn needs_remember_sent() {
    assert_needed(Mechanism::RememberSent, 1, &[(Create, 1), (Unreachable, 1)], NOT_TWICE);
}

/// A lost status write makes the operator send a message twice.
#[test]
fn needs_record_later() {
    assert_needed(Mechanism::RecordLater, 1, &[(Create, 1), (WriteLost, 1)], NOT_TWICE);
}

/// A stopping operator never ends, and its message is never marked sent.
#[test]
fn needs_record_without_lease() {
    assert_needed(Mechanism::RecordWithoutLease, 1, &[(Create, 1), (WriteLost, 1), (Terminated, 1)], NEVER_LOST);
}

/// The new leader sends what the former one has sent.
#[test]
fn needs_list_on_takeover() {
    assert_needed(Mechanism::ListOnTakeover, 2, &[(Create, 1), (Terminated, 1)], NOT_TWICE);
}

/// A paused leader publishes after its term.
#[test]
fn needs_fence() {
    assert_needed(Mechanism::Fence, 2, &[(Create, 1), (TermEnds, 1)], ONLY_IN_TERM);
}

/// A leader on a machine that was suspended publishes after its term.
#[test]
fn needs_boot_clock() {
    assert_needed(Mechanism::BootClock, 2, &[(Create, 1), (MachineSuspended, 1)], ONLY_IN_TERM);
}

/// A silent watch never delivers a message.
#[test]
fn needs_end_of_silence() {
    assert_needed(Mechanism::EndSilence, 1, &[(Create, 1), (WatchSilent, 1)], NEVER_LOST);
}

/// The operator sends with a Secret that it remembers.
#[test]
fn needs_secret_check() {
    let faults = [(Create, 1), (Unreachable, 1), (SecretWithdrawn, 1)];
    assert_needed(Mechanism::CheckSecret, 1, &faults, ONLY_WITH_SECRET);
}

/// A former leader overwrites the result of its successor.
#[test]
fn needs_leadership_check() {
    assert_needed(
        Mechanism::LeadershipChecked,
        2,
        &[(Create, 1), (Unreachable, 1), (Refused, 1), (TermEnds, 1)],
        NEVER_LOST,
    );
}

/// A leader sends what another operator has sent between its two terms.
#[test]
fn needs_jobs_end_first() {
    assert_needed(Mechanism::JobsEndFirst, 2, &[(Create, 1), (TermEnds, 1), (Terminated, 1)], NOT_TWICE);
}

/// After a release, the next leader sends again.
#[test]
fn needs_drain() {
    assert_needed(Mechanism::Drain, 2, &[(Create, 1), (Terminated, 1)], NOT_TWICE);
}

/// A paused leader creates a Pod after its term.
#[test]
fn needs_fence_for_pods() {
    assert_needed_in(Protocol::by_pods(2, &[(Create, 1), (TermEnds, 1)]), Mechanism::Fence, ONLY_IN_TERM);
}

/// After a lost answer, an attempt creates another Pod beside the first.
#[test]
fn needs_search_for_pods() {
    assert_needed_in(Protocol::by_pods(1, &[(Create, 1), (AnswerLost, 1)]), Mechanism::FindPods, NOT_TWICE);
}

/// The API server creates a Pod long after the attempt has failed.
#[test]
fn needs_creation_in_time() {
    assert_needed_in(Protocol::by_pods(1, &[(Create, 1), (WriteLate, 1)]), Mechanism::CreateInTime, NOT_TWICE);
}

/// A leader finds no Pod, because a former one has deleted it, and does not know its record yet.
#[test]
fn needs_pods_after_term() {
    let faults = [(Create, 1), (TermEnds, 1)];
    assert_needed_in(Protocol::by_pods(2, &faults), Mechanism::KeepPods, NOT_TWICE);
}

/// The operator sends again with the Sender of the first attempt, although it knows another one.
#[test]
fn needs_read_of_sender() {
    let faults = [(Create, 1), (SenderApplied, 2), (ConfirmLost, 1)];
    assert_needed_with_sender(Mechanism::ReadSender, &faults, ONLY_KNOWN_SENDER);
}

/// A message has the prefix of one version, and the certificate of another.
#[test]
fn needs_one_read() {
    let faults = [(Create, 1), (SenderApplied, 2), (ConfirmLost, 1)];
    assert_needed_with_sender(Mechanism::ReadOnce, &faults, ONE_ENVELOPE);
}

/// The operator never learns that a Sender was deleted while its watch started again.
#[test]
fn needs_drop_of_sender() {
    let faults = [(Create, 1), (SenderApplied, 1), (SenderDeleted, 1), (SenderWatchEnds, 1)];
    assert_needed_with_sender(Mechanism::DropSender, &faults, NO_OLD_SENDER);
}

/// A silent watch never delivers a deletion.
#[test]
fn needs_end_of_silence_for_senders() {
    let faults = [(Create, 1), (SenderApplied, 1), (SenderDeleted, 1), (SenderWatchSilent, 1)];
    assert_needed_with_sender(Mechanism::EndSilence, &faults, NO_OLD_SENDER);
}

/// A message waits for a Sender that is there.
#[test]
fn needs_wake() {
    assert_needed_with_sender(Mechanism::WakeMessages, &[(Create, 1), (SenderApplied, 1)], NEVER_LOST);
}

/// The Sender appears while an attempt without it is in flight, and the message waits for it.
#[test]
fn needs_wake_in_flight() {
    assert_needed_with_sender(Mechanism::WakeInFlight, &[(Create, 1), (SenderApplied, 1)], NEVER_LOST);
}

/// Consumers can't tell that they receive a message again.
#[test]
fn needs_id_of_uid() {
    assert_needed_with_sender(Mechanism::IdOfUid, &[(Create, 1), (SenderApplied, 1), (ConfirmLost, 1)], ONE_ID);
}

/// A message that is sent again has other bytes.
#[test]
fn needs_time_of_creation() {
    let faults = [(Create, 1), (SenderApplied, 1), (ConfirmLost, 1)];
    assert_needed_with_sender(Mechanism::TimeOfCreation, &faults, ONE_ENVELOPE);
}
