//! What the model knows at one moment: the API server's objects, each operator's memory, the Lease,
//! what is on its way between them, and what was really done.

use crate::chance::Chances;

/// How many objects a run may see: one, and the one that is created again under its name.
pub const MESSAGES: usize = 2;

/// An object's identity. All objects of the model have the same name, one after the other.
pub type Uid = usize;

/// What an object's status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Nothing yet.
    None,
    /// An attempt failed, and another follows.
    Failed,
    /// It was given up, for a reason.
    Stopped,
    /// The broker confirmed it.
    Sent,
}

impl Status {
    /// Whether no attempt follows.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Stopped | Self::Sent)
    }
}

/// An object in the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    pub uid: Uid,
    /// The resourceVersion: one more with every change.
    pub version: u8,
    pub status: Status,
}

/// A status on its way to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Patch {
    pub uid: Uid,
    pub status: Status,
    /// The version that was known when the status was given out to be written.
    pub version: u8,
}

/// What a watch tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Seen(Object),
    Gone(Uid),
    Complete,
}

/// Whether the API server has what an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    Written,
    /// It is to be written.
    Next,
    /// The object was changed by somebody else: to be written once the watch has told.
    AfterNews,
}

/// What a work queue knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub status: Status,
    pub record: Record,
    pub version: u8,
    pub busy: bool,
    /// Whether the latest list told of it.
    pub listed: bool,
}

impl Entry {
    /// Whether it was sent, and its object does not say so yet.
    pub fn is_unrecorded(self) -> bool {
        self.status == Status::Sent && self.record != Record::Written
    }
}

/// Somebody at work on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hand {
    /// Given out, and nothing has left yet.
    Attempt(Uid),
    /// The broker has it; its confirm is on the way.
    Published(Uid),
    /// The status is on its way.
    Recording(Patch),
}

impl Hand {
    pub fn uid(self) -> Uid {
        match self {
            Self::Attempt(uid) | Self::Published(uid) => uid,
            Self::Recording(patch) => patch.uid,
        }
    }

    /// Whether it only records what was sent.
    pub fn records_sent(self) -> bool {
        matches!(self, Self::Recording(patch) if patch.status == Status::Sent)
    }
}

/// What the loop believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// It sends nothing.
    #[default]
    Follows,
    /// It sends, if it may.
    Leads,
    /// It was told to stop: it records what was sent, and ends.
    Stops,
}

/// One operator's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operator {
    pub entries: [Option<Entry>; MESSAGES],
    /// Kept in order, so that the same hands are the same state.
    pub hands: Vec<Hand>,
    /// What the watch has not told yet, in the API server's order.
    pub events: Vec<Event>,
    /// Whether the watch runs. If not, it begins with a list.
    pub watching: bool,
    pub role: Role,
    /// Whether its tenure lasts. Only time ends it.
    pub tenure: bool,
    /// Whether it leads anew, and the loop has not begun to.
    pub new_term: bool,
}

impl Operator {
    /// Whether nobody is at work, and all that was sent is recorded.
    pub fn is_at_rest(&self) -> bool {
        self.hands.is_empty() && !self.entries.iter().flatten().any(|entry| entry.is_unrecorded())
    }

    /// Whether it would be forgotten that it published this message, if it ended now.
    fn alone_knows(&self, uid: Uid) -> bool {
        let in_hand = |hand: &Hand| match hand {
            Hand::Attempt(_) => false,
            Hand::Published(other) => *other == uid,
            Hand::Recording(patch) => patch.uid == uid && patch.status == Status::Sent,
        };
        self.hands.iter().any(in_hand) || self.entries[uid].is_some_and(Entry::is_unrecorded)
    }
}

/// What was really done, which no operator can look at. The properties are about this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Truth {
    /// How often the broker got the message.
    pub published: u8,
    /// Whether it confirmed it.
    pub confirmed: bool,
    /// How often something happened after which nobody could know that it was published.
    pub excuses: u8,
    /// Whether its status said "sent", and then something else.
    pub went_back: bool,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub object: Option<Object>,
    pub created: usize,
    /// Who is written in the Lease.
    pub holder: Option<usize>,
    pub operators: Vec<Operator>,
    /// Writes that their writers have given up waiting for, and that may still be carried out.
    pub late: Vec<Patch>,
    /// What may still go wrong or change.
    pub chances: Chances,
    pub truth: [Truth; MESSAGES],
    /// Whether an operator published after its tenure.
    pub after_tenure: bool,
}

impl State {
    /// The API server tells all watches about an object.
    pub fn tell(&mut self, event: Event) {
        for operator in self.operators.iter_mut().filter(|operator| operator.watching) {
            operator.events.push(event);
        }
    }

    /// What this operator alone knows to be published may be published again from now on.
    pub fn excuse(&mut self, operator: usize) {
        for uid in 0..MESSAGES {
            let recorded = self.object.is_some_and(|object| object.uid == uid && object.status == Status::Sent);
            if !recorded && self.operators[operator].alone_knows(uid) {
                self.truth[uid].excuses += 1;
            }
        }
    }
}
