//! The mechanisms that keep the promises. A test removes each one to see which promise breaks.

use strum::VariantNames;

/// A safety mechanism of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantNames)]
pub enum Mechanism {
    /// Every patch of a status tests the uid.
    UidTest,
    /// A patch that does not say "sent" tests the resourceVersion.
    VersionTest,
    /// The operator retries a write with a failed version test after the watch delivers the new
    /// version.
    RetryWrite,
    /// The queue keeps the entry of a sent message until the watch reports that it is gone.
    RememberSent,
    /// A confirmed message whose status write failed is recorded later, not sent again.
    RecordLater,
    /// An operator also records confirmed messages when it is not the leader, or is stopping.
    RecordWithoutLease,
    /// A new leader drops its queue and lists all pending messages.
    ListOnTakeover,
    /// The fence blocks each publish after the term.
    Fence,
    /// The term ends by a clock that also runs while the machine is suspended.
    BootClock,
    /// A watch that is silent for too long is ended, and starts again.
    EndSilence,
    /// Each attempt asks if the Secret may be read. An earlier answer is not enough.
    CheckSecret,
    /// After the term the queue dequeues only status writes for sent messages.
    LeadershipChecked,
    /// A term starts, also for the fence, only after the jobs of the previous term have ended.
    JobsEndFirst,
    /// The leader releases the Lease only after it has recorded all sent messages.
    Drain,
    /// An attempt lists the message's Pods before it creates one.
    FindPods,
    /// The API server creates a Pod before the attempt ends, or never.
    CreateInTime,
    /// No Pod is deleted after the term.
    KeepPods,
    /// Each attempt reads the Sender that the operator holds. No earlier attempt's is used.
    ReadSender,
    /// An attempt takes everything from one read of the Sender.
    ReadOnce,
    /// A list of Senders drops a Sender that it does not have.
    DropSender,
    /// A changed Sender wakes its messages.
    WakeMessages,
    /// A wake during an attempt is kept for its end.
    WakeInFlight,
    /// The message id is the object's uid.
    IdOfUid,
    /// The header `sent-at` has the time of the object's creation.
    TimeOfCreation,
}

/// The complete design, or the design without one mechanism.
#[derive(Clone, Copy, Debug, Default)]
pub struct Design {
    without: Option<Mechanism>,
    /// True if Pods send the messages.
    pub by_pods: bool,
    /// True if the messages name a Sender.
    pub names_sender: bool,
}

impl Design {
    /// Removes a mechanism.
    pub fn without(self, mechanism: Mechanism) -> Self {
        Self { without: Some(mechanism), ..self }
    }

    pub fn has(self, mechanism: Mechanism) -> bool {
        self.without != Some(mechanism)
    }
}
