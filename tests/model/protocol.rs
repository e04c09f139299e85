//! The protocol: the effect of each step.

use stateright::{Model, Property};

use crate::fault::{Fault, FaultBudget};
use crate::mechanism::{Design, Mechanism};
use crate::possible;
use crate::properties;
use crate::sender::{Attempt, Envelope, StoredSender};
use crate::state::{
    ActiveJob, MESSAGES, ModelState, ObjectUid, OperatorState, Patch, Pod, QueueEntry, Role, SenderWait, Status,
    StoredObject, TermState, WatchState, WatchedChange, WriteState,
};
use crate::step::{Step, StepKind};

/// A design in a scenario with a limited number of faults.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub design: Design,
    pub operators: usize,
    pub faults: FaultBudget,
    /// The names of the situations that must occur.
    pub situations: &'static [&'static str],
}

/// The API server's response to a status write.
enum PatchResult {
    Done,
    Gone,
    Changed,
}

impl Model for Protocol {
    type State = ModelState;
    type Action = Step;

    fn init_states(&self) -> Vec<ModelState> {
        let mut operators = vec![OperatorState::default(); self.operators];
        // The first operator starts with the Lease. By symmetry, the choice makes no difference.
        (operators[0].term, operators[0].role) = (TermState::Valid, Role::Leader);
        vec![ModelState {
            object: None,
            created: 0,
            holder: Some(0),
            operators,
            late: Vec::new(),
            pods: Vec::new(),
            late_pods: Vec::new(),
            secret_allowed: true,
            sender: StoredSender::Absent,
            sender_versions: 0,
            faults: self.faults,
            truth: Default::default(),
            envelopes: Vec::new(),
            published_after_term: false,
            published_without_secret: false,
        }]
    }

    fn actions(&self, state: &ModelState, actions: &mut Vec<Step>) {
        possible::steps(self.design, state, |step| actions.push(step));
    }

    fn next_state(&self, last: &ModelState, step: Step) -> Option<ModelState> {
        let mut state = last.clone();
        if let Some(fault) = step.fault {
            state.faults.take(fault);
        }
        match step.operator {
            Some(operator) => self.apply(&mut state, operator, step),
            None => self.outside(&mut state, step),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.design.names_sender, self.situations)
    }
}

impl Protocol {
    /// Creates the complete design in a scenario with these operators and faults.
    pub fn new(operators: usize, faults: &[(Fault, u8)]) -> Self {
        Self { design: Design::default(), operators, faults: FaultBudget::of(faults), situations: &[] }
    }

    /// The same, with messages that are sent by Pods.
    pub fn by_pods(operators: usize, faults: &[(Fault, u8)]) -> Self {
        let mut protocol = Self::new(operators, faults);
        protocol.design.by_pods = true;
        protocol
    }

    /// The same, with messages that name a Sender. It is absent at first.
    pub fn naming_sender(mut self) -> Self {
        self.design.names_sender = true;
        self
    }

    fn outside(&self, state: &mut ModelState, step: Step) {
        match (step.operation, step.fault) {
            (StepKind::ApplyLate(patch), _) => {
                state.late.retain(|late| *late != patch);
                self.patch(state, patch);
            }
            (StepKind::CreateLate(pod), _) => {
                state.late_pods.retain(|late| *late != pod);
                state.create_pod(pod);
            }
            (StepKind::EndPod(pod), fault) => self.end_pod(state, pod, fault),
            (_, Some(Fault::SecretWithdrawn)) => state.secret_allowed = false,
            (_, Some(Fault::SenderDeleted)) => state.set_sender(StoredSender::Absent),
            (_, Some(Fault::SenderDenied)) => state.set_sender(StoredSender::Denied),
            (_, Some(Fault::SenderApplied)) => {
                state.set_sender(StoredSender::Usable(state.sender_versions));
                state.sender_versions += 1;
            }
            (_, Some(Fault::Delete)) => {
                let gone = state.object.take().filter(|object| object.status != Status::Sent);
                if let Some(object) = gone {
                    state.notify(WatchedChange::Gone(object.uid));
                }
            }
            _ => {
                let object = StoredObject { uid: state.created, version: 1, status: Status::None };
                state.created += 1;
                state.object = Some(object);
                state.notify(WatchedChange::Seen(object));
            }
        }
    }

    fn apply(&self, state: &mut ModelState, me: usize, step: Step) {
        match step.operation {
            StepKind::List => list(state, me),
            StepKind::EndSilence => {
                end_watch(&mut state.operators[me]);
                state.operators[me].senders.end();
            }
            StepKind::Receive(event) => receive(&mut state.operators[me], event),
            StepKind::StartAttempt(uid) => self.start_attempt(&mut state.operators[me], uid),
            StepKind::StartRecording(uid) => self.start_recording(&mut state.operators[me], uid),
            StepKind::Publish(attempt) => self.publish(state, me, attempt, step.fault),
            StepKind::Confirm(uid) => self.confirm(state, me, uid, step.fault),
            StepKind::FindPod(attempt) => self.find_pod(state, me, attempt),
            StepKind::CreatePod(attempt) => self.create_pod(state, me, attempt, step.fault),
            StepKind::AwaitPod(uid) => self.await_pod(state, me, uid),
            StepKind::Write(patch) => self.write(state, me, patch, step.fault),
            StepKind::ListSenders => self.list_senders(state, me),
            StepKind::ReceiveSender(sender) => {
                state.operators[me].senders.events.remove(0);
                self.hold_sender(&mut state.operators[me], sender);
            }
            StepKind::WakeMessages => self.wake_messages(&mut state.operators[me]),
            StepKind::Elect => elect(state, me),
            StepKind::Lead => self.lead(&mut state.operators[me]),
            StepKind::Follow => state.operators[me].role = Role::Follower,
            StepKind::Release => end(state, me, true),
            StepKind::Fault | StepKind::ApplyLate(_) | StepKind::CreateLate(_) | StepKind::EndPod(_) => {
                self.apply_fault(state, me, step.fault);
            }
        }
    }

    /// Starts an attempt, which reads the Sender.
    fn start_attempt(&self, operator: &mut OperatorState, uid: ObjectUid) {
        let known = if self.design.names_sender { operator.senders.version() } else { Some(0) };
        let mut sender = known;
        if !self.design.has(Mechanism::ReadSender) {
            operator.first_sender = operator.first_sender.or(known);
            sender = operator.first_sender;
        }
        take(operator, uid, ActiveJob::Attempt(Attempt { uid, sender, is_old: sender != known }));
    }

    /// Lists the Senders. The list is read and delivered in one step.
    fn list_senders(&self, state: &mut ModelState, me: usize) {
        let operator = &mut state.operators[me];
        operator.senders.watch = WatchState::Running;
        let is_missed = state.sender == StoredSender::Absent && operator.senders.known.is_some();
        if !is_missed || self.design.has(Mechanism::DropSender) {
            self.hold_sender(operator, state.sender);
        }
    }

    /// Replaces the Sender that the operator holds.
    fn hold_sender(&self, operator: &mut OperatorState, sender: StoredSender) {
        let changed = operator.senders.known.replace(sender) != Some(sender);
        // Any other wake does nothing, or would only repeat the failure.
        let waits = operator.entries.iter().flatten().any(|entry| entry.sender_wait == SenderWait::Waits)
            || operator.jobs.iter().any(|job| job.lacks_sender());
        operator.senders.wakes = self.design.has(Mechanism::WakeMessages)
            && sender.version().is_some()
            && (operator.senders.wakes || (changed && waits));
    }

    /// Ends the wait of all messages for the Sender.
    fn wake_messages(&self, operator: &mut OperatorState) {
        operator.senders.wakes = false;
        for (uid, entry_slot) in operator.entries.iter_mut().enumerate() {
            let Some(entry) = entry_slot else { continue };
            if entry.busy && !self.design.has(Mechanism::WakeInFlight) {
                continue;
            }
            let in_flight = operator.jobs.iter().any(|job| job.uid() == uid && job.lacks_sender());
            entry.sender_wait = if in_flight { SenderWait::Woken } else { SenderWait::No };
        }
    }

    fn start_recording(&self, operator: &mut OperatorState, uid: ObjectUid) {
        let Some(entry) = operator.entries[uid] else { return };
        take(operator, uid, ActiveJob::Recording(self.patch_of(uid, entry.status, entry.version)));
    }

    /// Creates a patch. It has a version only if the API server tests it.
    fn patch_of(&self, uid: ObjectUid, status: Status, version: u8) -> Patch {
        let tested = status != Status::Sent && self.design.has(Mechanism::VersionTest);
        Patch { uid, status, version: if tested { version } else { 0 } }
    }

    fn publish(&self, state: &mut ModelState, me: usize, attempt: Attempt, fault: Option<Fault>) {
        let (allowed, has_secret) =
            (state.secret_allowed, possible::has_secret(self.design, state, &state.operators[me]));
        let operator = &mut state.operators[me];
        // Nothing else asks for it, and fewer states are checked faster.
        operator.knows_secret |= allowed && !self.design.has(Mechanism::CheckSecret);
        let job = ActiveJob::Attempt(attempt);
        match (fault, attempt.sender) {
            (Some(Fault::Refused), _) => self.finish(operator, job, Status::Stopped, WriteState::Next),
            (None, Some(sender)) if has_secret && possible::fence_is_open(self.design, operator) => {
                replace(operator, job, Some(ActiveJob::Published(attempt.uid)));
                let again = if self.design.has(Mechanism::ReadOnce) { None } else { operator.senders.version() };
                state.published_after_term |= operator.term != TermState::Valid;
                state.published_without_secret |= !allowed;
                state.truth[attempt.uid].as_old_sender |= attempt.is_old;
                self.deliver(state, attempt.uid, sender, again.unwrap_or(sender));
            }
            _ => self.finish(operator, job, Status::Failed, WriteState::Next),
        }
    }

    /// The broker receives a message, with the prefix and the certificate of these versions of the
    /// Sender.
    fn deliver(&self, state: &mut ModelState, uid: ObjectUid, prefix: u8, certificate: u8) {
        let truth = &mut state.truth[uid];
        if self.design.names_sender {
            let id = if self.design.has(Mechanism::IdOfUid) { uid } else { MESSAGES + usize::from(truth.published) };
            let time = if self.design.has(Mechanism::TimeOfCreation) { 0 } else { 1 + truth.published };
            let envelope = Envelope { uid, id, prefix, certificate, time };
            if !state.envelopes.contains(&envelope) {
                state.envelopes.push(envelope);
                state.envelopes.sort_unstable();
            }
        }
        truth.published += 1;
    }

    /// A Pod publishes. If the confirm is lost, the Pod fails.
    fn end_pod(&self, state: &mut ModelState, pod: Pod, fault: Option<Fault>) {
        state.pods.retain(|other| *other != pod);
        self.deliver(state, pod.uid, pod.sender, pod.sender);
        if fault.is_some() {
            state.truth[pod.uid].excuses += 1;
        } else {
            state.truth[pod.uid].confirmed = true;
            state.create_pod(Pod { sent: true, ..pod });
        }
    }

    /// Receives the confirm, or its loss.
    fn confirm(&self, state: &mut ModelState, me: usize, uid: ObjectUid, fault: Option<Fault>) {
        let operator = &mut state.operators[me];
        if fault.is_some() {
            state.truth[uid].excuses += 1;
            return self.finish(operator, ActiveJob::Published(uid), Status::Failed, WriteState::Next);
        }
        state.truth[uid].confirmed = true;
        let patch = self.patch_of(uid, Status::Sent, 0);
        replace(operator, ActiveJob::Published(uid), Some(ActiveJob::Recording(patch)));
    }

    /// Looks for the message's Pods at the API server.
    fn find_pod(&self, state: &mut ModelState, me: usize, attempt: Attempt) {
        let (uid, job) = (attempt.uid, ActiveJob::Attempt(attempt));
        if attempt.sender.is_none() {
            return self.finish(&mut state.operators[me], job, Status::Failed, WriteState::Next);
        }
        let found = state.pods.iter().filter(|pod| pod.uid == uid && self.design.has(Mechanism::FindPods));
        let next = match found.max_by_key(|pod| (Some(pod.sender) == attempt.sender, pod.sent)) {
            Some(pod) if Some(pod.sender) != attempt.sender => return self.discard_pods(state, me, job),
            Some(pod) if pod.sent => ActiveJob::Recording(self.patch_of(uid, Status::Sent, 0)),
            Some(_) => ActiveJob::AwaitingPod(uid),
            None => ActiveJob::CreatingPod(attempt),
        };
        replace(&mut state.operators[me], job, Some(next));
    }

    /// Deletes Pods that were planned with another version of the Sender: they prove nothing.
    fn discard_pods(&self, state: &mut ModelState, me: usize, job: ActiveJob) {
        if possible::fence_is_open(self.design, &state.operators[me]) || !self.design.has(Mechanism::KeepPods) {
            let proves = |pod: &Pod| pod.uid == job.uid() && pod.sent;
            state.truth[job.uid()].excuses += u8::from(state.pods.iter().any(proves));
            state.pods.retain(|pod| pod.uid != job.uid());
        }
        self.finish(&mut state.operators[me], job, Status::Failed, WriteState::Next);
    }

    fn create_pod(&self, state: &mut ModelState, me: usize, attempt: Attempt, fault: Option<Fault>) {
        let (uid, job, operator) = (attempt.uid, ActiveJob::CreatingPod(attempt), &mut state.operators[me]);
        let retries = operator.entries[uid].is_some_and(|entry| entry.status == Status::Failed);
        let pod = Pod { uid, retries, sender: attempt.sender.unwrap_or_default(), sent: false };
        let is_created =
            possible::fence_is_open(self.design, operator) && matches!(fault, None | Some(Fault::AnswerLost));
        if is_created && fault.is_none() {
            replace(operator, job, Some(ActiveJob::AwaitingPod(uid)));
        } else {
            self.finish(operator, job, Status::Failed, WriteState::Next);
        }
        if is_created {
            state.published_after_term |= operator.term != TermState::Valid;
            state.truth[attempt.uid].as_old_sender |= attempt.is_old;
            state.create_pod(pod);
        } else if fault == Some(Fault::WriteLate) && !self.design.has(Mechanism::CreateInTime) {
            state.late_pods.push(pod);
        }
    }

    /// Takes the result of a Pod that has ended, or is gone.
    fn await_pod(&self, state: &mut ModelState, me: usize, uid: ObjectUid) {
        let (job, sent) = (ActiveJob::AwaitingPod(uid), state.pods.iter().any(|pod| pod.uid == uid));
        let operator = &mut state.operators[me];
        if sent {
            replace(operator, job, Some(ActiveJob::Recording(self.patch_of(uid, Status::Sent, 0))));
        } else {
            self.finish(operator, job, Status::Failed, WriteState::Next);
        }
    }

    fn write(&self, state: &mut ModelState, me: usize, patch: Patch, fault: Option<Fault>) {
        let write_state = match fault {
            None => match self.record(state, me, patch) {
                PatchResult::Done | PatchResult::Gone => WriteState::Written,
                PatchResult::Changed => self.refused(&state.operators[me], patch),
            },
            Some(Fault::AnswerLost) => {
                self.patch(state, patch);
                WriteState::Next
            }
            Some(Fault::WriteLate) => {
                state.late.push(patch);
                state.late.sort_unstable();
                WriteState::Next
            }
            Some(_) => WriteState::Next,
        };
        self.finish(&mut state.operators[me], ActiveJob::Recording(patch), patch.status, write_state);
    }

    /// Returns when to retry a refused write: after the watch has delivered another version.
    fn refused(&self, operator: &OperatorState, patch: Patch) -> WriteState {
        let is_newer = operator.entries[patch.uid].is_some_and(|entry| entry.version != patch.version);
        match (self.design.has(Mechanism::RetryWrite), is_newer) {
            (false, _) => WriteState::Written,
            (true, true) => WriteState::Next,
            (true, false) => WriteState::AfterWatch,
        }
    }

    /// Applies a patch. A leader deletes the Pod that is not needed any more.
    fn record(&self, state: &mut ModelState, me: usize, patch: Patch) -> PatchResult {
        let result = self.patch(state, patch);
        let may_delete =
            possible::fence_is_open(self.design, &state.operators[me]) || !self.design.has(Mechanism::KeepPods);
        if patch.status == Status::Sent && may_delete {
            state.pods.retain(|pod| pod.uid != patch.uid);
        }
        result
    }

    /// Applies a patch at the API server.
    fn patch(&self, state: &mut ModelState, patch: Patch) -> PatchResult {
        let Some(object) = state.object.as_mut() else { return PatchResult::Gone };
        let is_sent = patch.status == Status::Sent;
        if self.design.has(Mechanism::UidTest) && object.uid != patch.uid {
            return if is_sent { PatchResult::Gone } else { PatchResult::Changed };
        }
        if self.design.has(Mechanism::VersionTest) && !is_sent && object.version != patch.version {
            return PatchResult::Changed;
        }
        let was_sent = object.status == Status::Sent;
        (object.status, object.version) = (patch.status, object.version + 1);
        let object = *object;
        state.truth[object.uid].went_back |= was_sent && !is_sent;
        match (was_sent, is_sent) {
            (true, true) => {}
            (false, true) => state.notify(WatchedChange::Gone(object.uid)),
            (_, false) => state.notify(WatchedChange::Seen(object)),
        }
        PatchResult::Done
    }

    fn finish(&self, operator: &mut OperatorState, job: ActiveJob, status: Status, write_state: WriteState) {
        replace(operator, job, None);
        let entry_slot = &mut operator.entries[job.uid()];
        let Some(entry) = entry_slot.as_mut() else { return };
        (entry.status, entry.write_state, entry.busy) = (status, write_state, false);
        entry.sender_wait = match entry.sender_wait {
            SenderWait::No if job.lacks_sender() => SenderWait::Waits,
            SenderWait::Woken => SenderWait::No,
            other => other,
        };
        if status != Status::Sent {
            return;
        }
        if write_state == WriteState::Written && !self.design.has(Mechanism::RememberSent) {
            *entry_slot = None;
        } else if write_state != WriteState::Written && !self.design.has(Mechanism::RecordLater) {
            (entry.status, entry.write_state) = (Status::Failed, WriteState::Written);
        }
    }

    fn lead(&self, operator: &mut OperatorState) {
        (operator.role, operator.new_term) = (Role::Leader, false);
        if self.design.has(Mechanism::ListOnTakeover) {
            for entry_slot in &mut operator.entries {
                *entry_slot = entry_slot.filter(|entry| entry.busy || entry.is_unrecorded());
            }
            end_watch(operator);
        }
    }

    fn apply_fault(&self, state: &mut ModelState, me: usize, fault: Option<Fault>) {
        let operator = &mut state.operators[me];
        match fault {
            Some(Fault::WatchEnds) => end_watch(operator),
            Some(Fault::WatchSilent) => {
                operator.watch = WatchState::Silent;
                operator.events.clear();
            }
            Some(Fault::SenderWatchEnds) => operator.senders.end(),
            Some(Fault::SenderWatchSilent) => {
                operator.senders.end();
                operator.senders.watch = WatchState::Silent;
            }
            Some(Fault::MachineSuspended) if !self.design.has(Mechanism::BootClock) => {
                operator.term = TermState::OverUnnoticed;
            }
            Some(Fault::TermEnds | Fault::MachineSuspended) => operator.term = TermState::Over,
            Some(Fault::Terminated) => operator.role = Role::Stopping,
            Some(Fault::GraceOver) => {
                state.excuse(me);
                end(state, me, true);
            }
            _ => {
                state.excuse(me);
                end(state, me, false);
            }
        }
    }
}

fn end_watch(operator: &mut OperatorState) {
    operator.watch = WatchState::Ended;
    operator.events.clear();
}

fn list(state: &mut ModelState, me: usize) {
    let operator = &mut state.operators[me];
    operator.watch = WatchState::Running;
    operator.entries.iter_mut().flatten().for_each(|entry| entry.listed = false);
    let pending = state.object.filter(|object| object.status != Status::Sent);
    operator.events = pending.map(WatchedChange::Seen).into_iter().chain([WatchedChange::Complete]).collect();
}

fn receive(operator: &mut OperatorState, event: WatchedChange) {
    operator.events.remove(0);
    match event {
        WatchedChange::Gone(uid) => operator.entries[uid] = None,
        WatchedChange::Complete => {
            operator.entries.iter_mut().for_each(|entry_slot| *entry_slot = entry_slot.filter(|entry| entry.listed));
        }
        WatchedChange::Seen(object) => observe(&mut operator.entries[object.uid], object),
    }
}

fn observe(entry_slot: &mut Option<QueueEntry>, object: StoredObject) {
    let StoredObject { status, version, .. } = object;
    let new = QueueEntry {
        status,
        write_state: WriteState::Written,
        version,
        busy: false,
        listed: true,
        sender_wait: SenderWait::No,
    };
    let entry = entry_slot.get_or_insert(new);
    if entry.write_state == WriteState::AfterWatch && entry.version != version {
        entry.write_state = WriteState::Next;
    }
    (entry.version, entry.listed) = (version, true);
}

fn take(operator: &mut OperatorState, uid: ObjectUid, job: ActiveJob) {
    if let Some(entry) = &mut operator.entries[uid] {
        entry.busy = true;
    }
    operator.jobs.push(job);
    operator.jobs.sort_unstable();
}

fn replace(operator: &mut OperatorState, job: ActiveJob, by: Option<ActiveJob>) {
    if let Some(at) = operator.jobs.iter().position(|other| *other == job) {
        operator.jobs.remove(at);
    }
    operator.jobs.extend(by);
    operator.jobs.sort_unstable();
}

fn elect(state: &mut ModelState, me: usize) {
    let operator = &state.operators[me];
    // A late renewal, and no other operator took the Lease: the term continues.
    let continues = state.holder == Some(me) && operator.role == Role::Leader && !operator.new_term;
    if let Some(other) = state.holder.filter(|other| *other != me) {
        state.excuse(other);
    }
    state.holder = Some(me);
    let operator = &mut state.operators[me];
    operator.term = TermState::Valid;
    operator.new_term |= !continues;
}

/// Ends the process, loses its memory, and starts another one.
fn end(state: &mut ModelState, me: usize, releases: bool) {
    if releases && state.holder == Some(me) {
        state.holder = None;
    }
    state.operators[me] = OperatorState::default();
}
