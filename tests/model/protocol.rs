//! The protocol: which steps are possible, and what each of them changes.

use stateright::{Model, Property};

use crate::chance::{Chance, Chances};
use crate::choices;
use crate::mechanism::{Design, Mechanism};
use crate::properties;
use crate::state::{Entry, Event, Hand, Object, Operator, Patch, Record, Role, State, Status, Uid};
use crate::step::{Act, Step};

/// A design, in a world where so much may happen.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub design: Design,
    pub operators: usize,
    pub chances: Chances,
    /// What is to be seen at least once, by name.
    pub sights: &'static [&'static str],
}

/// What the API server answers to a status write.
enum Answer {
    Done,
    Gone,
    Changed,
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut operators = vec![Operator::default(); self.operators];
        // It has the Lease already: whose it is first makes no difference.
        (operators[0].tenure, operators[0].role) = (true, Role::Leads);
        vec![State {
            object: None,
            created: 0,
            holder: Some(0),
            operators,
            late: Vec::new(),
            chances: self.chances,
            truth: Default::default(),
            after_tenure: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        choices::steps(self.design, state, |step| actions.push(step));
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        if let Some(chance) = step.chance {
            state.chances.take(chance);
        }
        match step.operator {
            Some(operator) => self.act(&mut state, operator, step),
            None => self.outside(&mut state, step),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.sights)
    }
}

impl Protocol {
    /// The whole design, in a world with so many operators where so much may happen.
    pub fn new(operators: usize, chances: &[(Chance, u8)]) -> Self {
        Self { design: Design::default(), operators, chances: Chances::of(chances), sights: &[] }
    }

    fn outside(&self, state: &mut State, step: Step) {
        match (step.act, step.chance) {
            (Act::CarryOut(patch), _) => {
                state.late.retain(|late| *late != patch);
                self.patch(state, patch);
            }
            (_, Some(Chance::Delete)) => {
                let gone = state.object.take().filter(|object| object.status != Status::Sent);
                if let Some(object) = gone {
                    state.tell(Event::Gone(object.uid));
                }
            }
            _ => {
                let object = Object { uid: state.created, version: 1, status: Status::None };
                state.created += 1;
                state.object = Some(object);
                state.tell(Event::Seen(object));
            }
        }
    }

    fn act(&self, state: &mut State, me: usize, step: Step) {
        match step.act {
            Act::List => list(state, me),
            Act::Hear(event) => hear(&mut state.operators[me], event),
            Act::TakeToSend(uid) => take(&mut state.operators[me], uid, Hand::Attempt(uid)),
            Act::TakeToRecord(uid) => self.take_to_record(&mut state.operators[me], uid),
            Act::Publish(uid) => self.publish(state, me, uid, step.chance),
            Act::Judge(uid) => self.judge(state, me, uid, step.chance),
            Act::Write(patch) => self.write(state, me, patch, step.chance),
            Act::Elect => elect(state, me),
            Act::Lead => self.lead(&mut state.operators[me]),
            Act::Follow => state.operators[me].role = Role::Follows,
            Act::Release => end(state, me, true),
            Act::Suffer | Act::CarryOut(_) => suffer(state, me, step.chance),
        }
    }

    fn take_to_record(&self, operator: &mut Operator, uid: Uid) {
        let Some(entry) = operator.entries[uid] else { return };
        take(operator, uid, Hand::Recording(self.patch_of(uid, entry.status, entry.version)));
    }

    /// What is known of the version matters only where it is tested.
    fn patch_of(&self, uid: Uid, status: Status, version: u8) -> Patch {
        let tested = status != Status::Sent && self.design.has(Mechanism::VersionTest);
        Patch { uid, status, version: if tested { version } else { 0 } }
    }

    fn publish(&self, state: &mut State, me: usize, uid: Uid, chance: Option<Chance>) {
        let operator = &mut state.operators[me];
        match chance {
            Some(Chance::Refused) => self.finish(operator, Hand::Attempt(uid), Status::Stopped, Record::Next),
            Some(_) => self.finish(operator, Hand::Attempt(uid), Status::Failed, Record::Next),
            None if !choices::gate_is_open(self.design, operator) => {
                self.finish(operator, Hand::Attempt(uid), Status::Failed, Record::Next);
            }
            None => {
                replace(operator, Hand::Attempt(uid), Some(Hand::Published(uid)));
                state.truth[uid].published += 1;
                state.after_tenure |= !operator.tenure;
            }
        }
    }

    /// The confirm is there, or will never be.
    fn judge(&self, state: &mut State, me: usize, uid: Uid, chance: Option<Chance>) {
        let operator = &mut state.operators[me];
        if chance.is_some() {
            state.truth[uid].excuses += 1;
            return self.finish(operator, Hand::Published(uid), Status::Failed, Record::Next);
        }
        state.truth[uid].confirmed = true;
        let patch = self.patch_of(uid, Status::Sent, 0);
        replace(operator, Hand::Published(uid), Some(Hand::Recording(patch)));
    }

    fn write(&self, state: &mut State, me: usize, patch: Patch, chance: Option<Chance>) {
        let record = match chance {
            None => match self.patch(state, patch) {
                Answer::Done | Answer::Gone => Record::Written,
                Answer::Changed => self.refused(&state.operators[me], patch),
            },
            Some(Chance::AnswerLost) => {
                self.patch(state, patch);
                Record::Next
            }
            Some(Chance::WriteLate) => {
                state.late.push(patch);
                state.late.sort_unstable();
                Record::Next
            }
            Some(_) => Record::Next,
        };
        self.finish(&mut state.operators[me], Hand::Recording(patch), patch.status, record);
    }

    /// Until the watch brings another version, to write again would fail again.
    fn refused(&self, operator: &Operator, patch: Patch) -> Record {
        let told = operator.entries[patch.uid].is_some_and(|entry| entry.version != patch.version);
        match (self.design.has(Mechanism::WriteAgain), told) {
            (false, _) => Record::Written,
            (true, true) => Record::Next,
            (true, false) => Record::AfterNews,
        }
    }

    /// The API server gets a patch.
    fn patch(&self, state: &mut State, patch: Patch) -> Answer {
        let Some(object) = state.object.as_mut() else { return Answer::Gone };
        let final_ = patch.status == Status::Sent;
        if self.design.has(Mechanism::UidTest) && object.uid != patch.uid {
            return if final_ { Answer::Gone } else { Answer::Changed };
        }
        if self.design.has(Mechanism::VersionTest) && !final_ && object.version != patch.version {
            return Answer::Changed;
        }
        let was_sent = object.status == Status::Sent;
        (object.status, object.version) = (patch.status, object.version + 1);
        let object = *object;
        state.truth[object.uid].went_back |= was_sent && !final_;
        match (was_sent, final_) {
            (true, true) => {}
            (false, true) => state.tell(Event::Gone(object.uid)),
            (_, false) => state.tell(Event::Seen(object)),
        }
        Answer::Done
    }

    fn finish(&self, operator: &mut Operator, hand: Hand, status: Status, record: Record) {
        replace(operator, hand, None);
        let slot = &mut operator.entries[hand.uid()];
        let Some(entry) = slot.as_mut() else { return };
        (entry.status, entry.record, entry.busy) = (status, record, false);
        if status != Status::Sent {
            return;
        }
        if record == Record::Written && !self.design.has(Mechanism::Memory) {
            *slot = None;
        } else if record != Record::Written && !self.design.has(Mechanism::RecordLater) {
            (entry.status, entry.record) = (Status::Failed, Record::Written);
        }
    }

    fn lead(&self, operator: &mut Operator) {
        (operator.role, operator.new_term) = (Role::Leads, false);
        if self.design.has(Mechanism::ListOnTakeover) {
            for slot in &mut operator.entries {
                *slot = slot.filter(|entry| entry.busy || entry.is_unrecorded());
            }
            operator.watching = false;
            operator.events.clear();
        }
    }
}

fn list(state: &mut State, me: usize) {
    let operator = &mut state.operators[me];
    operator.watching = true;
    operator.entries.iter_mut().flatten().for_each(|entry| entry.listed = false);
    let pending = state.object.filter(|object| object.status != Status::Sent);
    operator.events = pending.map(Event::Seen).into_iter().chain([Event::Complete]).collect();
}

fn hear(operator: &mut Operator, event: Event) {
    operator.events.remove(0);
    match event {
        Event::Gone(uid) => operator.entries[uid] = None,
        Event::Complete => operator.entries.iter_mut().for_each(|slot| *slot = slot.filter(|entry| entry.listed)),
        Event::Seen(object) => observe(&mut operator.entries[object.uid], object),
    }
}

fn observe(slot: &mut Option<Entry>, object: Object) {
    let Object { status, version, .. } = object;
    let new = Entry { status, record: Record::Written, version, busy: false, listed: true };
    let entry = slot.get_or_insert(new);
    if entry.record == Record::AfterNews && entry.version != version {
        entry.record = Record::Next;
    }
    (entry.version, entry.listed) = (version, true);
}

fn take(operator: &mut Operator, uid: Uid, hand: Hand) {
    if let Some(entry) = &mut operator.entries[uid] {
        entry.busy = true;
    }
    operator.hands.push(hand);
    operator.hands.sort_unstable();
}

fn replace(operator: &mut Operator, hand: Hand, by: Option<Hand>) {
    if let Some(at) = operator.hands.iter().position(|other| *other == hand) {
        operator.hands.remove(at);
    }
    operator.hands.extend(by);
    operator.hands.sort_unstable();
}

fn elect(state: &mut State, me: usize) {
    let operator = &state.operators[me];
    // Renewed late, and nobody was faster: the term goes on.
    let goes_on = state.holder == Some(me) && operator.role == Role::Leads && !operator.new_term;
    if let Some(other) = state.holder.filter(|other| *other != me) {
        state.excuse(other);
    }
    state.holder = Some(me);
    let operator = &mut state.operators[me];
    operator.tenure = true;
    operator.new_term |= !goes_on;
}

fn suffer(state: &mut State, me: usize, chance: Option<Chance>) {
    let operator = &mut state.operators[me];
    match chance {
        Some(Chance::WatchEnds) => {
            operator.watching = false;
            operator.events.clear();
        }
        Some(Chance::TenureEnds) => operator.tenure = false,
        Some(Chance::Terminated) => operator.role = Role::Stops,
        Some(Chance::GraceOver) => {
            state.excuse(me);
            end(state, me, true);
        }
        _ => {
            state.excuse(me);
            end(state, me, false);
        }
    }
}

/// The process ends, with its memory, and another takes its place.
fn end(state: &mut State, me: usize, releases: bool) {
    if releases && state.holder == Some(me) {
        state.holder = None;
    }
    state.operators[me] = Operator::default();
}
