//! Which steps are possible in a state.

use crate::chance::Chance;
use crate::mechanism::{Design, Mechanism};
use crate::state::{Hand, MESSAGES, Operator, Record, Role, State, Status, Uid};
use crate::step::{Act, Step};

/// All steps that are possible.
pub fn steps(design: Design, state: &State, mut add: impl FnMut(Step)) {
    let mut offer = |operator, act, chance: Option<Chance>| {
        if chance.is_none_or(|chance| state.chances.allow(chance)) {
            add(Step { operator, act, chance });
        }
    };
    match state.object {
        None if state.created < MESSAGES => offer(None, Act::Suffer, Some(Chance::Create)),
        None => {}
        Some(_) => offer(None, Act::Suffer, Some(Chance::Delete)),
    }
    state.late.iter().for_each(|patch| offer(None, Act::CarryOut(*patch), None));
    for (me, operator) in state.operators.iter().enumerate() {
        let mut offer = |act, chance| offer(Some(me), act, chance);
        listening(operator, &mut offer);
        queue(design, operator, &mut offer);
        operator.hands.iter().for_each(|hand| work(design, operator, *hand, &mut offer));
        leading(design, state, me, &mut offer);
        offer(Act::Suffer, Some(Chance::Crash));
    }
}

/// Whether bytes may leave.
pub fn gate_is_open(design: Design, operator: &Operator) -> bool {
    may_lead(design, operator) || !design.has(Mechanism::Gate)
}

/// Whether the tenure lasts, and its term has begun here.
fn may_lead(design: Design, operator: &Operator) -> bool {
    operator.tenure && !(operator.new_term && design.has(Mechanism::HandsEndFirst))
}

fn listening(operator: &Operator, offer: &mut impl FnMut(Act, Option<Chance>)) {
    if operator.watching {
        offer(Act::Suffer, Some(Chance::WatchEnds));
    } else {
        offer(Act::List, None);
    }
    if let Some(event) = operator.events.first() {
        offer(Act::Hear(*event), None);
    }
}

/// What the queue may give out. When a time has come, or a Secret, is left to chance: at any moment.
fn queue(design: Design, operator: &Operator, offer: &mut impl FnMut(Act, Option<Chance>)) {
    let free = |uid: &Uid| operator.entries[*uid].filter(|entry| !entry.busy).map(|entry| (*uid, entry));
    let leads = operator.role == Role::Leads && (may_lead(design, operator) || !design.has(Mechanism::TenureAsked));
    for (uid, entry) in (0..MESSAGES).filter_map(|uid| free(&uid)) {
        // To try again at a closed gate fails again: nothing new is seen by it.
        let in_vain = entry.status == Status::Failed && !gate_is_open(design, operator);
        if leads && !entry.status.is_finished() && !in_vain {
            offer(Act::TakeToSend(uid), None);
        }
        let is_free = entry.status == Status::Sent && design.has(Mechanism::RecordWithoutLease);
        if entry.record == Record::Next && (leads || is_free) {
            offer(Act::TakeToRecord(uid), None);
        }
    }
}

fn work(design: Design, operator: &Operator, hand: Hand, offer: &mut impl FnMut(Act, Option<Chance>)) {
    match hand {
        Hand::Attempt(uid) => {
            offer(Act::Publish(uid), None);
            if gate_is_open(design, operator) {
                offer(Act::Publish(uid), Some(Chance::Unreachable));
                offer(Act::Publish(uid), Some(Chance::Refused));
            }
        }
        Hand::Published(uid) => {
            offer(Act::Judge(uid), None);
            offer(Act::Judge(uid), Some(Chance::ConfirmLost));
        }
        Hand::Recording(patch) => {
            offer(Act::Write(patch), None);
            for chance in [Chance::WriteLost, Chance::AnswerLost, Chance::WriteLate] {
                offer(Act::Write(patch), Some(chance));
            }
        }
    }
}

fn leading(design: Design, state: &State, me: usize, offer: &mut impl FnMut(Act, Option<Chance>)) {
    let operator = &state.operators[me];
    let hands_first = design.has(Mechanism::HandsEndFirst);
    // A Lease is taken from another only after the other's tenure: its duration is longer.
    let is_free = state.holder.is_none_or(|holder| !state.operators[holder].tenure);
    if !operator.tenure && is_free {
        offer(Act::Elect, None);
    }
    if operator.tenure {
        offer(Act::Suffer, Some(Chance::TenureEnds));
    }
    if operator.role == Role::Leads && (!operator.tenure || (operator.new_term && hands_first)) {
        offer(Act::Follow, None);
    }
    let hands_ended = !hands_first || operator.hands.iter().all(|hand| hand.records_sent());
    if operator.new_term && operator.tenure && operator.role != Role::Stops && hands_ended {
        offer(Act::Lead, None);
    }
    if operator.role != Role::Stops {
        offer(Act::Suffer, Some(Chance::Terminated));
    } else if operator.is_at_rest() || !design.has(Mechanism::Drain) {
        offer(Act::Release, None);
    } else {
        offer(Act::Suffer, Some(Chance::GraceOver));
    }
}
