//! The promises, and the situations that must occur. A model that does nothing cannot satisfy both.

use stateright::Property;

use crate::fault::Fault;
use crate::possible;
use crate::protocol::Protocol;
use crate::sender::Envelope;
use crate::state::{ActiveJob, ModelState, ObjectUid, OperatorState, Patch, SenderWait, Status, WatchedChange};

pub const NEVER_FALSELY_SENT: &str = "never falsely sent";
pub const NEVER_LOST: &str = "never lost";
pub const NOT_TWICE: &str = "not twice without an excuse";
pub const CAUSED: &str = "an excuse has a cause";
pub const STAYS_SENT: &str = "a sent message stays sent";
pub const ONLY_IN_TERM: &str = "no publish after the term";
pub const ONLY_WITH_SECRET: &str = "no publish with a withdrawn Secret";
pub const ONLY_KNOWN_SENDER: &str = "no publish as an old Sender";
pub const NO_OLD_SENDER: &str = "no old Sender is kept";
pub const ONE_ID: &str = "one id";
pub const ONE_ENVELOPE: &str = "one envelope for each version of the Sender";

type Condition = fn(&Protocol, &ModelState) -> bool;

/// The promises.
const PROMISES: [(&str, Condition); 7] = [
    (NEVER_FALSELY_SENT, |_, state| {
        let sent = state.object.filter(|object| object.status == Status::Sent);
        sent.is_none_or(|object| state.truth[object.uid].confirmed)
    }),
    (NEVER_LOST, |protocol, state| {
        let lacks_sender = protocol.design.names_sender && state.sender.version().is_none();
        let waits = |status| status == Status::Failed && (!state.secret_allowed || lacks_sender);
        let settled = state.object.is_none_or(|object| object.status.is_finished() || waits(object.status));
        settled || has_something_to_do(protocol, state)
    }),
    (NOT_TWICE, |_, state| state.truth.iter().all(|truth| truth.published <= 1 + truth.excuses)),
    (CAUSED, |protocol, state| {
        let causes = [Fault::ConfirmLost, Fault::Crash, Fault::TermEnds, Fault::MachineSuspended, Fault::GraceOver];
        let pod_is_old = protocol.design.by_pods && has_happened(protocol, state, Fault::SenderApplied);
        state.truth.iter().all(|truth| truth.excuses == 0)
            || pod_is_old
            || causes.into_iter().any(|cause| has_happened(protocol, state, cause))
    }),
    (STAYS_SENT, |_, state| !state.truth.iter().any(|truth| truth.went_back)),
    (ONLY_IN_TERM, |_, state| !state.published_after_term),
    (ONLY_WITH_SECRET, |_, state| !state.published_without_secret),
];

/// The promises about Senders. They are not checked in scenarios whose messages name none.
const PROMISES_OF_SENDERS: [(&str, Condition); 4] = [
    (ONLY_KNOWN_SENDER, |_, state| !state.truth.iter().any(|truth| truth.as_old_sender)),
    (NO_OLD_SENDER, |protocol, state| {
        let knows_current = |operator: &OperatorState| operator.senders.known == Some(state.sender);
        state.operators.iter().all(knows_current) || has_something_to_do(protocol, state)
    }),
    (ONE_ID, |_, state| all_pairs(state, |one, other| one.id == other.id)),
    (ONE_ENVELOPE, |_, state| {
        all_pairs(state, |one, other| {
            one.certificate != other.certificate || (one.prefix, one.time) == (other.prefix, other.time)
        })
    }),
];

/// The situations that a scenario can require.
const SITUATIONS: [(&str, Condition); 21] = [
    ("a message is sent", |_, state| status(state) == Some(Status::Sent)),
    ("a message is stopped", |_, state| status(state) == Some(Status::Stopped)),
    ("a failure is recorded, and then the message is sent", |_, state| {
        state.object.is_some_and(|object| object.status == Status::Sent && object.version > 2)
    }),
    ("a message is sent again after a crash", |protocol, state| sent_again_after(protocol, state, Fault::Crash)),
    ("a message is sent again after a lost confirm", |protocol, state| {
        sent_again_after(protocol, state, Fault::ConfirmLost)
    }),
    ("a message is sent again after a takeover", |protocol, state| sent_again_after(protocol, state, Fault::TermEnds)),
    ("another object has the name when a confirmed message is recorded", |_, state| {
        let other = state.object.filter(|object| object.status != Status::Sent).map(|object| object.uid);
        recording(state, 0).any(|patch| patch.status == Status::Sent && other.is_some_and(|uid| uid != patch.uid))
    }),
    ("the message is recorded, and the watch lags", |_, state| {
        let operator = &state.operators[0];
        operator.entries[0].is_some_and(|entry| entry.status == Status::Sent && !entry.is_unrecorded())
            && operator.events.len() > 1
            && operator.events.contains(&WatchedChange::Gone(0))
    }),
    ("a late write reaches a sent message", |_, state| {
        status(state) == Some(Status::Sent) && state.late.iter().any(|patch| patch.status != Status::Sent)
    }),
    ("a message is created while the watch is silent, and sent", |protocol, state| {
        has_happened(protocol, state, Fault::WatchSilent) && status(state) == Some(Status::Sent)
    }),
    ("a message waits, because its Secret was withdrawn", |_, state| {
        !state.secret_allowed && status(state) == Some(Status::Failed)
    }),
    ("a message waits for its Sender", |protocol, state| {
        protocol.design.names_sender && state.sender.version().is_none() && status(state) == Some(Status::Failed)
    }),
    ("a message is sent after it has waited for its Sender", |protocol, state| {
        let others = [Fault::Unreachable, Fault::ConfirmLost, Fault::Crash];
        let waited = state.object.is_some_and(|object| object.status == Status::Sent && object.version > 2);
        waited && !others.into_iter().any(|other| has_happened(protocol, state, other))
    }),
    ("a message is sent again as another version of its Sender", |_, state| {
        status(state) == Some(Status::Sent) && envelopes(state, 0).nth(1).is_some()
    }),
    ("the Sender changes while an attempt without it is in flight", |_, state| {
        state.operators[0].entries[0].is_some_and(|entry| entry.sender_wait == SenderWait::Woken)
    }),
    ("a message is published as a Sender that was withdrawn, because the watch lags", |_, state| {
        let known = state.operators[0].senders.version();
        published_by(state, 0) && state.sender.version().is_none() && known.is_some()
    }),
    ("the other operator sends, and knows an older Sender", |_, state| {
        let known = state.operators.get(1).and_then(|operator| operator.senders.version());
        let latest = envelopes(state, 0).map(|envelope| envelope.certificate).max();
        published_by(state, 1) && known.is_some() && known < latest
    }),
    ("the other operator sends after the first was suspended", |protocol, state| {
        has_happened(protocol, state, Fault::MachineSuspended) && published_by(state, 1)
    }),
    ("the other operator sends", |_, state| published_by(state, 1)),
    ("the other operator sends after a release", |protocol, state| {
        has_happened(protocol, state, Fault::Terminated) && state.holder == Some(1) && published_by(state, 1)
    }),
    ("a former leader records what it sent", |_, state| {
        state.holder == Some(1) && recording(state, 0).any(|patch| patch.status == Status::Sent)
    }),
];

/// Returns the promises and the named situations.
pub fn all(names_sender: bool, situations: &[&str]) -> Vec<Property<Protocol>> {
    let of_senders = PROMISES_OF_SENDERS.into_iter().filter(|_| names_sender);
    let promises = PROMISES.into_iter().chain(of_senders).map(|(name, condition)| Property::always(name, condition));
    let find = |situation: &&str| {
        SITUATIONS.into_iter().find(|(name, _)| name == situation).expect("a situation of this name")
    };
    promises.chain(situations.iter().map(find).map(|(name, condition)| Property::sometimes(name, condition))).collect()
}

/// Returns true if a step is possible without a fault or a change by a user.
fn has_something_to_do(protocol: &Protocol, state: &ModelState) -> bool {
    let mut something = false;
    possible::steps(protocol.design, state, |step| something |= step.fault.is_none());
    something
}

fn status(state: &ModelState) -> Option<Status> {
    state.object.map(|object| object.status)
}

fn has_happened(protocol: &Protocol, state: &ModelState, fault: Fault) -> bool {
    state.faults.left(fault) < protocol.faults.left(fault)
}

fn sent_again_after(protocol: &Protocol, state: &ModelState, fault: Fault) -> bool {
    status(state) == Some(Status::Sent) && has_happened(protocol, state, fault) && state.truth[0].published == 2
}

fn envelopes(state: &ModelState, uid: ObjectUid) -> impl Iterator<Item = &Envelope> {
    state.envelopes.iter().filter(move |envelope| envelope.uid == uid)
}

/// Returns true if the condition holds for any two envelopes of a message.
fn all_pairs(state: &ModelState, condition: impl Fn(&Envelope, &Envelope) -> bool) -> bool {
    state.envelopes.iter().all(|one| envelopes(state, one.uid).all(|other| condition(one, other)))
}

fn recording(state: &ModelState, operator: usize) -> impl Iterator<Item = &Patch> {
    state.operators[operator].jobs.iter().filter_map(|job| match job {
        ActiveJob::Recording(patch) => Some(patch),
        _ => None,
    })
}

fn published_by(state: &ModelState, operator: usize) -> bool {
    state
        .operators
        .get(operator)
        .is_some_and(|operator| operator.jobs.iter().any(|job| matches!(job, ActiveJob::Published(_))))
}

/// Returns true if the name is that of a promise, not of a situation.
pub fn is_promise(name: &str) -> bool {
    PROMISES.iter().chain(&PROMISES_OF_SENDERS).any(|(promise, _)| *promise == name)
}
