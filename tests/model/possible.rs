//! Computes the possible steps in a state.

use crate::fault::Fault;
use crate::mechanism::{Design, Mechanism};
use crate::sender::StoredSender;
use crate::state::{
    ActiveJob, MESSAGES, ModelState, ObjectUid, OperatorState, Role, SenderWait, Status, TermState, WatchState,
    WriteState,
};
use crate::step::{Step, StepKind};

/// Passes all possible steps to `add`.
pub fn steps(design: Design, state: &ModelState, mut add: impl FnMut(Step)) {
    let mut offer = |operator, operation, fault: Option<Fault>| {
        if fault.is_none_or(|fault| state.faults.allow(fault)) {
            add(Step { operator, operation, fault });
        }
    };
    match state.object {
        None if state.created < MESSAGES => offer(None, StepKind::Fault, Some(Fault::Create)),
        None => {}
        Some(_) => offer(None, StepKind::Fault, Some(Fault::Delete)),
    }
    offer(None, StepKind::Fault, Some(Fault::SecretWithdrawn));
    if design.names_sender {
        offer(None, StepKind::Fault, Some(Fault::SenderApplied));
        if state.sender != StoredSender::Absent {
            offer(None, StepKind::Fault, Some(Fault::SenderDeleted));
        }
        if state.sender.version().is_some() {
            offer(None, StepKind::Fault, Some(Fault::SenderDenied));
        }
    }
    state.late.iter().for_each(|patch| offer(None, StepKind::ApplyLate(*patch), None));
    state.late_pods.iter().for_each(|pod| offer(None, StepKind::CreateLate(*pod), None));
    for pod in state.pods.iter().filter(|pod| !pod.sent) {
        offer(None, StepKind::EndPod(*pod), None);
        offer(None, StepKind::EndPod(*pod), Some(Fault::ConfirmLost));
    }
    for (me, operator) in state.operators.iter().enumerate() {
        let mut offer = |operation, fault| offer(Some(me), operation, fault);
        watch(design, operator, &mut offer);
        if design.names_sender {
            sender_watch(design, operator, &mut offer);
        }
        queue(design, state, operator, &mut offer);
        operator.jobs.iter().for_each(|job| work(design, state, operator, *job, &mut offer));
        leadership(design, state, me, &mut offer);
        offer(StepKind::Fault, Some(Fault::Crash));
    }
}

/// Returns true if the fence lets the operator write to the broker.
pub fn fence_is_open(design: Design, operator: &OperatorState) -> bool {
    may_lead(design, operator) || !design.has(Mechanism::Fence)
}

/// Returns true if the operator gets the Secret: from the API server, or from its memory.
pub fn has_secret(design: Design, state: &ModelState, operator: &OperatorState) -> bool {
    state.secret_allowed || (operator.knows_secret && !design.has(Mechanism::CheckSecret))
}

/// Returns true if the term is valid by the operator's clock.
fn sees_term(operator: &OperatorState) -> bool {
    operator.term != TermState::Over
}

/// Returns true if the term is valid, and the operator has started it.
fn may_lead(design: Design, operator: &OperatorState) -> bool {
    sees_term(operator) && !(operator.new_term && design.has(Mechanism::JobsEndFirst))
}

fn watch(design: Design, operator: &OperatorState, offer: &mut impl FnMut(StepKind, Option<Fault>)) {
    match operator.watch {
        WatchState::Ended => offer(StepKind::List, None),
        WatchState::Running => {
            offer(StepKind::Fault, Some(Fault::WatchEnds));
            offer(StepKind::Fault, Some(Fault::WatchSilent));
        }
        WatchState::Silent if design.has(Mechanism::EndSilence) => offer(StepKind::EndSilence, None),
        WatchState::Silent => {}
    }
    if let Some(event) = operator.events.first() {
        offer(StepKind::Receive(*event), None);
    }
}

fn sender_watch(design: Design, operator: &OperatorState, offer: &mut impl FnMut(StepKind, Option<Fault>)) {
    match operator.senders.watch {
        WatchState::Ended => offer(StepKind::ListSenders, None),
        WatchState::Running => {
            offer(StepKind::Fault, Some(Fault::SenderWatchEnds));
            offer(StepKind::Fault, Some(Fault::SenderWatchSilent));
        }
        WatchState::Silent if design.has(Mechanism::EndSilence) => offer(StepKind::EndSilence, None),
        WatchState::Silent => {}
    }
    if let Some(event) = operator.senders.events.first() {
        offer(StepKind::ReceiveSender(*event), None);
    }
    if operator.senders.wakes {
        offer(StepKind::WakeMessages, None);
    }
}

/// Offers the jobs that the queue may dequeue. Backoff and Secrets are left to chance: at any
/// moment. Only a changed Sender ends the wait for it.
fn queue(
    design: Design,
    state: &ModelState,
    operator: &OperatorState,
    offer: &mut impl FnMut(StepKind, Option<Fault>),
) {
    let free = |uid: &ObjectUid| operator.entries[*uid].filter(|entry| !entry.busy).map(|entry| (*uid, entry));
    let leads =
        operator.role == Role::Leader && (may_lead(design, operator) || !design.has(Mechanism::LeadershipChecked));
    for (uid, entry) in (0..MESSAGES).filter_map(|uid| free(&uid)) {
        // A retry with a closed fence or without the Secret fails again, which leads to no new state.
        let may_send = fence_is_open(design, operator) && has_secret(design, state, operator);
        let hopeless = entry.status == Status::Failed && !may_send;
        if leads && !entry.status.is_finished() && !hopeless && entry.sender_wait != SenderWait::Waits {
            offer(StepKind::StartAttempt(uid), None);
        }
        let is_free = entry.status == Status::Sent && design.has(Mechanism::RecordWithoutLease);
        if entry.write_state == WriteState::Next && (leads || is_free) {
            offer(StepKind::StartRecording(uid), None);
        }
    }
}

fn work(
    design: Design,
    state: &ModelState,
    operator: &OperatorState,
    job: ActiveJob,
    offer: &mut impl FnMut(StepKind, Option<Fault>),
) {
    match job {
        ActiveJob::Attempt(attempt) if design.by_pods => offer(StepKind::FindPod(attempt), None),
        ActiveJob::CreatingPod(attempt) => {
            offer(StepKind::CreatePod(attempt), None);
            if fence_is_open(design, operator) {
                for fault in [Fault::WriteLost, Fault::AnswerLost, Fault::WriteLate] {
                    offer(StepKind::CreatePod(attempt), Some(fault));
                }
            }
        }
        ActiveJob::AwaitingPod(uid) => {
            if state.pods.iter().all(|pod| pod.uid != uid || pod.sent) {
                offer(StepKind::AwaitPod(uid), None);
            }
        }
        ActiveJob::Attempt(attempt) => {
            offer(StepKind::Publish(attempt), None);
            let may_send = fence_is_open(design, operator) && has_secret(design, state, operator);
            if may_send && attempt.sender.is_some() {
                offer(StepKind::Publish(attempt), Some(Fault::Unreachable));
                offer(StepKind::Publish(attempt), Some(Fault::Refused));
            }
        }
        ActiveJob::Published(uid) => {
            offer(StepKind::Confirm(uid), None);
            offer(StepKind::Confirm(uid), Some(Fault::ConfirmLost));
        }
        ActiveJob::Recording(patch) => {
            offer(StepKind::Write(patch), None);
            for fault in [Fault::WriteLost, Fault::AnswerLost, Fault::WriteLate] {
                offer(StepKind::Write(patch), Some(fault));
            }
        }
    }
}

fn leadership(design: Design, state: &ModelState, me: usize, offer: &mut impl FnMut(StepKind, Option<Fault>)) {
    let operator = &state.operators[me];
    let jobs_first = design.has(Mechanism::JobsEndFirst);
    // An operator takes the Lease only after the holder's term, because the Lease lasts longer.
    let is_free = state.holder.is_none_or(|holder| state.operators[holder].term != TermState::Valid);
    if !sees_term(operator) && is_free {
        offer(StepKind::Elect, None);
    }
    let term_valid = operator.term == TermState::Valid;
    if term_valid {
        offer(StepKind::Fault, Some(Fault::TermEnds));
        offer(StepKind::Fault, Some(Fault::MachineSuspended));
    }
    if operator.role == Role::Leader && (!sees_term(operator) || (operator.new_term && jobs_first)) {
        offer(StepKind::Follow, None);
    }
    let jobs_ended = !jobs_first || operator.jobs.iter().all(|job| job.records_sent());
    if operator.new_term && term_valid && operator.role != Role::Stopping && jobs_ended {
        offer(StepKind::Lead, None);
    }
    if operator.role != Role::Stopping {
        offer(StepKind::Fault, Some(Fault::Terminated));
    } else if operator.is_at_rest() || !design.has(Mechanism::Drain) {
        offer(StepKind::Release, None);
    } else {
        offer(StepKind::Fault, Some(Fault::GraceOver));
    }
}
