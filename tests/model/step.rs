//! The steps, and the functions of the operator that take them.

use std::fmt::{self, Display};

use crate::chance::Chance;
use crate::state::{Event, Object, Patch, Status, Uid};

/// One step: who takes it, what it is, and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// `None`: people, or the API server by itself.
    pub operator: Option<usize>,
    pub act: Act,
    /// Without one, it goes as it should.
    pub chance: Option<Chance>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing: something happens.
    Suffer,
    CarryOut(Patch),
    List,
    Hear(Event),
    TakeToSend(Uid),
    TakeToRecord(Uid),
    Publish(Uid),
    Judge(Uid),
    Write(Patch),
    Elect,
    Lead,
    Follow,
    Release,
}

/// A function of the operator: its file below `src`, what it belongs to, and its name.
pub type Function = (&'static str, &'static str, &'static str);

impl Act {
    /// One of each kind.
    pub fn all() -> [Self; 15] {
        let patch = Patch { uid: 0, status: Status::Sent, version: 0 };
        let object = Object { uid: 0, status: Status::None, version: 0 };
        [
            Self::Suffer,
            Self::CarryOut(patch),
            Self::List,
            Self::Hear(Event::Seen(object)),
            Self::Hear(Event::Gone(0)),
            Self::Hear(Event::Complete),
            Self::TakeToSend(0),
            Self::TakeToRecord(0),
            Self::Publish(0),
            Self::Judge(0),
            Self::Write(patch),
            Self::Elect,
            Self::Lead,
            Self::Follow,
            Self::Release,
        ]
    }

    /// The functions that do this.
    pub fn functions(self) -> &'static [Function] {
        match self {
            Self::Suffer | Self::CarryOut(_) => &[],
            Self::List => {
                &[("src/cluster/watch.rs", "", "pending"), ("src/controller/queue/mod.rs", "Queue", "begin_sync")]
            }
            Self::Hear(Event::Seen(_)) => &[("src/controller/queue/mod.rs", "Queue", "observe")],
            Self::Hear(Event::Gone(_)) => &[("src/controller/queue/mod.rs", "Queue", "forget")],
            Self::Hear(Event::Complete) => &[("src/controller/queue/mod.rs", "Queue", "end_sync")],
            Self::TakeToSend(_) => &[
                ("src/controller/queue/mod.rs", "Queue", "take"),
                ("crates/fedora-message/src/policy/retry.rs", "", "decide"),
            ],
            Self::TakeToRecord(_) => &[("src/controller/queue/mod.rs", "Queue", "take")],
            Self::Publish(_) => {
                &[("src/broker/connection.rs", "BrokerConnection", "publish"), ("src/broker/fence.rs", "Fence", "pass")]
            }
            Self::Judge(_) => {
                &[("src/reconciler.rs", "Reconciler", "reconcile"), ("src/controller/queue/mod.rs", "Queue", "finish")]
            }
            Self::Write(_) => &[
                ("src/cluster/status.rs", "StatusWriter", "write"),
                ("src/controller/queue/mod.rs", "Queue", "finish"),
            ],
            Self::Elect => &[
                ("src/cluster/leader_election.rs", "", "decide"),
                ("src/cluster/leader_election.rs", "Elector", "take"),
            ],
            Self::Lead => &[
                ("src/controller/queue/mod.rs", "Queue", "may_lead"),
                ("src/controller/queue/mod.rs", "Queue", "lead"),
            ],
            Self::Follow => &[("src/controller/queue/mod.rs", "Queue", "follow")],
            Self::Release => &[
                ("src/controller/queue/mod.rs", "Queue", "is_at_rest"),
                ("src/cluster/leader_election.rs", "Elector", "release"),
            ],
        }
    }
}

/// A function as people write it.
pub fn path((_, owner, name): &Function) -> String {
    if owner.is_empty() { (*name).to_owned() } else { format!("{owner}::{name}") }
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.operator.map_or("outside", |operator| ["A", "B"][operator]);
        write!(f, "{who:7}  ")?;
        let functions: Vec<_> = self.act.functions().iter().map(path).collect();
        write!(f, "{}{}", functions.join(" + "), self.act)?;
        match self.chance {
            Some(chance) if functions.is_empty() => write!(f, "{chance}"),
            Some(chance) => write!(f, ": {chance}"),
            None => Ok(()),
        }
    }
}

/// What it is done to.
impl Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suffer
            | Self::List
            | Self::Hear(Event::Complete)
            | Self::Elect
            | Self::Lead
            | Self::Follow
            | Self::Release => Ok(()),
            Self::CarryOut(patch) => write!(f, "a late write is carried out: {patch}"),
            Self::Hear(Event::Seen(object)) => write!(f, " (#{} {:?})", object.uid, object.status),
            Self::TakeToSend(uid) => write!(f, " (#{uid}, to send)"),
            Self::TakeToRecord(uid) => write!(f, " (#{uid}, to record)"),
            Self::Hear(Event::Gone(uid)) | Self::Publish(uid) | Self::Judge(uid) => write!(f, " (#{uid})"),
            Self::Write(patch) => write!(f, " ({patch})"),
        }
    }
}

impl Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {:?}", self.uid, self.status)
    }
}
