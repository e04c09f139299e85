//! The steps, and the operator's functions that implement them.

use std::fmt::{self, Display};

use crate::fault::Fault;
use crate::sender::{Attempt, StoredSender};
use crate::state::{ObjectUid, Patch, Pod, Status, StoredObject, WatchedChange};

/// One step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The operator that takes the step. `None` for users and the API server.
    pub operator: Option<usize>,
    pub operation: StepKind,
    /// The fault in this step, if any.
    pub fault: Option<Fault>,
}

/// The operation of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Only the fault happens.
    Fault,
    ApplyLate(Patch),
    List,
    EndSilence,
    Receive(WatchedChange),
    StartAttempt(ObjectUid),
    StartRecording(ObjectUid),
    Publish(Attempt),
    Confirm(ObjectUid),
    FindPod(Attempt),
    CreatePod(Attempt),
    CreateLate(Pod),
    EndPod(Pod),
    AwaitPod(ObjectUid),
    Write(Patch),
    ListSenders,
    ReceiveSender(StoredSender),
    WakeMessages,
    Elect,
    Lead,
    Follow,
    Release,
}

/// A function of the operator: its file, the type it belongs to, and its name.
pub type Function = (&'static str, &'static str, &'static str);

impl StepKind {
    /// Returns one operation of each kind.
    pub fn all() -> [Self; 25] {
        let patch = Patch { uid: 0, status: Status::Sent, version: 0 };
        let object = StoredObject { uid: 0, status: Status::None, version: 0 };
        let pod = Pod { uid: 0, retries: false, sender: 0, sent: false };
        let attempt = Attempt { uid: 0, sender: Some(0), is_old: false };
        [
            Self::Fault,
            Self::ApplyLate(patch),
            Self::List,
            Self::EndSilence,
            Self::Receive(WatchedChange::Seen(object)),
            Self::Receive(WatchedChange::Gone(0)),
            Self::Receive(WatchedChange::Complete),
            Self::StartAttempt(0),
            Self::StartRecording(0),
            Self::Publish(attempt),
            Self::Confirm(0),
            Self::FindPod(attempt),
            Self::CreatePod(attempt),
            Self::CreateLate(pod),
            Self::EndPod(pod),
            Self::AwaitPod(0),
            Self::Write(patch),
            Self::ListSenders,
            Self::ReceiveSender(StoredSender::Usable(0)),
            Self::ReceiveSender(StoredSender::Absent),
            Self::WakeMessages,
            Self::Elect,
            Self::Lead,
            Self::Follow,
            Self::Release,
        ]
    }

    /// Returns the functions that implement the operation.
    pub fn functions(self) -> &'static [Function] {
        match self {
            Self::Fault | Self::ApplyLate(_) | Self::CreateLate(_) | Self::EndPod(_) => &[],
            Self::List => {
                &[("src/cluster/watch.rs", "", "pending"), ("src/controller/queue/mod.rs", "Queue", "begin_sync")]
            }
            Self::EndSilence => &[("src/cluster/watch/monitor.rs", "WatchMonitor", "report_silence")],
            Self::Receive(WatchedChange::Seen(_)) => &[("src/controller/queue/mod.rs", "Queue", "observe")],
            Self::Receive(WatchedChange::Gone(_)) => &[("src/controller/queue/mod.rs", "Queue", "forget")],
            Self::Receive(WatchedChange::Complete) => &[("src/controller/queue/mod.rs", "Queue", "end_sync")],
            Self::StartAttempt(_) => &[
                ("src/controller/queue/mod.rs", "Queue", "take"),
                ("crates/fedora-message/src/policy/retry.rs", "", "decide"),
                ("src/cluster/senders.rs", "Senders", "find"),
            ],
            Self::StartRecording(_) => &[("src/controller/queue/mod.rs", "Queue", "take")],
            Self::Publish(_) => &[
                ("src/cluster/secrets.rs", "Secrets", "read"),
                ("src/broker/connection.rs", "BrokerConnection", "publish"),
                ("src/fence.rs", "Fence", "pass"),
            ],
            Self::Confirm(_) => {
                &[("src/reconciler.rs", "Reconciler", "reconcile"), ("src/controller/queue/mod.rs", "Queue", "finish")]
            }
            Self::FindPod(_) => &[
                ("src/cluster/pods/mod.rs", "Pods", "next_step"),
                ("crates/fedora-message/src/pod/proof.rs", "", "judge"),
            ],
            Self::CreatePod(_) => &[("src/cluster/pods/mod.rs", "Pods", "create"), ("src/fence.rs", "Fence", "pass")],
            Self::AwaitPod(_) => &[("src/cluster/pods/mod.rs", "Pods", "wait")],
            Self::Write(_) => &[
                ("src/cluster/status.rs", "StatusWriter", "write"),
                ("src/controller/queue/mod.rs", "Queue", "finish"),
            ],
            Self::ListSenders => {
                &[("src/cluster/watch.rs", "Watches", "senders"), ("src/cluster/senders.rs", "Senders", "set_listed")]
            }
            Self::ReceiveSender(StoredSender::Absent) => &[
                ("src/senders/mod.rs", "SenderController", "observe"),
                ("src/cluster/senders.rs", "Senders", "remove"),
            ],
            Self::ReceiveSender(_) => &[
                ("src/senders/mod.rs", "SenderController", "observe"),
                ("src/cluster/senders.rs", "Senders", "insert"),
            ],
            Self::WakeMessages => &[
                ("src/senders/schedule.rs", "CheckSchedule", "take_wakes"),
                ("src/controller/queue/mod.rs", "Queue", "wake_senders"),
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

/// Formats a function with its type.
pub fn path((_, owner, name): &Function) -> String {
    if owner.is_empty() { (*name).to_owned() } else { format!("{owner}::{name}") }
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.operator.map_or("outside", |operator| ["A", "B"][operator]);
        write!(f, "{who:7}  ")?;
        let functions: Vec<_> = self.operation.functions().iter().map(path).collect();
        write!(f, "{}{}", functions.join(" + "), self.operation)?;
        match self.fault {
            Some(fault) if functions.is_empty() => write!(f, "{fault}"),
            Some(fault) => write!(f, ": {fault}"),
            None => Ok(()),
        }
    }
}

/// Formats the operand.
impl Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault
            | Self::List
            | Self::EndSilence
            | Self::Receive(WatchedChange::Complete)
            | Self::ListSenders
            | Self::WakeMessages
            | Self::Elect
            | Self::Lead
            | Self::Follow
            | Self::Release => Ok(()),
            Self::CreateLate(pod) => write!(f, "a late request takes effect: {pod}"),
            Self::EndPod(pod) => write!(f, "{pod} ends"),
            Self::ApplyLate(patch) => write!(f, "a late write takes effect: {patch}"),
            Self::Receive(WatchedChange::Seen(object)) => write!(f, " (#{} {:?})", object.uid, object.status),
            Self::StartAttempt(uid) => write!(f, " (#{uid}, to send)"),
            Self::StartRecording(uid) => write!(f, " (#{uid}, to record)"),
            Self::Receive(WatchedChange::Gone(uid)) | Self::Confirm(uid) | Self::AwaitPod(uid) => {
                write!(f, " (#{uid})")
            }
            Self::Publish(attempt) | Self::FindPod(attempt) | Self::CreatePod(attempt) => write!(f, " ({attempt})"),
            Self::ReceiveSender(sender) => write!(f, " ({sender})"),
            Self::Write(patch) => write!(f, " ({patch})"),
        }
    }
}

impl Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Pod of #{}", if self.retries { "another" } else { "the first" }, self.uid)
    }
}

impl Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {:?}", self.uid, self.status)
    }
}
