//! The promises, and what has to be seen at least once so that they are not kept by doing nothing.

use stateright::Property;

use crate::chance::Chance;
use crate::choices;
use crate::protocol::Protocol;
use crate::state::{Event, Hand, Patch, State, Status};

pub const NEVER_FALSELY_SENT: &str = "never falsely sent";
pub const NEVER_LOST: &str = "never lost";
pub const NOT_TWICE: &str = "not twice without an excuse";
pub const CAUSED: &str = "an excuse has a cause";
pub const STAYS_SENT: &str = "what is sent stays sent";
pub const ONLY_IN_TENURE: &str = "nothing is published after the tenure";

type Condition = fn(&Protocol, &State) -> bool;

/// The promises.
const PROMISES: [(&str, Condition); 6] = [
    (NEVER_FALSELY_SENT, |_, state| {
        let sent = state.object.filter(|object| object.status == Status::Sent);
        sent.is_none_or(|object| state.truth[object.uid].confirmed)
    }),
    (NEVER_LOST, |protocol, state| {
        let settled = state.object.is_none_or(|object| object.status.is_finished());
        settled || has_something_to_do(protocol, state)
    }),
    (NOT_TWICE, |_, state| state.truth.iter().all(|truth| truth.published <= 1 + truth.excuses)),
    (CAUSED, |protocol, state| {
        let causes = [Chance::ConfirmLost, Chance::Crash, Chance::TenureEnds, Chance::GraceOver];
        state.truth.iter().all(|truth| truth.excuses == 0)
            || causes.into_iter().any(|cause| has_happened(protocol, state, cause))
    }),
    (STAYS_SENT, |_, state| !state.truth.iter().any(|truth| truth.went_back)),
    (ONLY_IN_TENURE, |_, state| !state.after_tenure),
];

/// What can be seen.
const SIGHTS: [(&str, Condition); 12] = [
    ("a message is sent", |_, state| status(state) == Some(Status::Sent)),
    ("a message is given up", |_, state| status(state) == Some(Status::Stopped)),
    ("a failure is told, and then it is sent", |_, state| {
        state.object.is_some_and(|object| object.status == Status::Sent && object.version > 2)
    }),
    ("a message is sent again after a crash", |protocol, state| sent_again_after(protocol, state, Chance::Crash)),
    ("a message is sent again after a lost confirm", |protocol, state| {
        sent_again_after(protocol, state, Chance::ConfirmLost)
    }),
    ("a message is sent again after a takeover", |protocol, state| {
        sent_again_after(protocol, state, Chance::TenureEnds)
    }),
    ("another has its name when a confirmed one is recorded", |_, state| {
        let other = state.object.filter(|object| object.status != Status::Sent).map(|object| object.uid);
        recording(state, 0).any(|patch| patch.status == Status::Sent && other.is_some_and(|uid| uid != patch.uid))
    }),
    ("it is recorded, and the watch has not told", |_, state| {
        let operator = &state.operators[0];
        operator.entries[0].is_some_and(|entry| entry.status == Status::Sent && !entry.is_unrecorded())
            && operator.events.len() > 1
            && operator.events.contains(&Event::Gone(0))
    }),
    ("a late write meets what is sent", |_, state| {
        status(state) == Some(Status::Sent) && state.late.iter().any(|patch| patch.status != Status::Sent)
    }),
    ("the other one sends", |_, state| published_by(state, 1)),
    ("the other one sends after a release", |protocol, state| {
        has_happened(protocol, state, Chance::Terminated) && state.holder == Some(1) && published_by(state, 1)
    }),
    ("a former leader records what it sent", |_, state| {
        state.holder == Some(1) && recording(state, 0).any(|patch| patch.status == Status::Sent)
    }),
];

/// The promises, and the sights of these names.
pub fn all(sights: &[&str]) -> Vec<Property<Protocol>> {
    let promises = PROMISES.into_iter().map(|(name, condition)| Property::always(name, condition));
    let find = |sight: &&str| SIGHTS.into_iter().find(|(name, _)| name == sight).expect("a sight of this name");
    promises.chain(sights.iter().map(find).map(|(name, condition)| Property::sometimes(name, condition))).collect()
}

/// Whether anything happens if nothing more goes wrong and nobody changes anything.
fn has_something_to_do(protocol: &Protocol, state: &State) -> bool {
    let mut something = false;
    choices::steps(protocol.design, state, |step| something |= step.chance.is_none());
    something
}

fn status(state: &State) -> Option<Status> {
    state.object.map(|object| object.status)
}

fn has_happened(protocol: &Protocol, state: &State, chance: Chance) -> bool {
    state.chances.left(chance) < protocol.chances.left(chance)
}

fn sent_again_after(protocol: &Protocol, state: &State, chance: Chance) -> bool {
    status(state) == Some(Status::Sent) && has_happened(protocol, state, chance) && state.truth[0].published == 2
}

fn recording(state: &State, operator: usize) -> impl Iterator<Item = &Patch> {
    state.operators[operator].hands.iter().filter_map(|hand| match hand {
        Hand::Recording(patch) => Some(patch),
        _ => None,
    })
}

fn published_by(state: &State, operator: usize) -> bool {
    state
        .operators
        .get(operator)
        .is_some_and(|operator| operator.hands.iter().any(|hand| matches!(hand, Hand::Published(_))))
}

/// Whether it is a promise, and not a sight.
pub fn is_promise(name: &str) -> bool {
    PROMISES.iter().any(|(promise, _)| *promise == name)
}
