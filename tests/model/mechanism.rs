//! What keeps the promises. Each can be taken out, to see which promise falls.

/// One of the things that the design does for safety.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Every patch of a status tests the uid.
    UidTest,
    /// A patch that does not say "sent" tests the resourceVersion.
    VersionTest,
    /// A patch that failed for that is sent again after the watch has told the new version.
    WriteAgain,
    /// What was sent is remembered until the watch reports it gone.
    Memory,
    /// What was confirmed and could not be recorded is recorded later, not sent again.
    RecordLater,
    /// What was confirmed is recorded also by one who does not lead, or was told to stop.
    RecordWithoutLease,
    /// Who begins to lead lists what is pending anew, and forgets what it knew.
    ListOnTakeover,
    /// Nothing is published after the tenure.
    Gate,
    /// After the tenure nothing is given out any more but what is to be recorded as sent.
    TenureAsked,
    /// A term begins, for the gate too, when the hands of the term before have ended.
    HandsEndFirst,
    /// The Lease is released when all that was sent is recorded.
    Drain,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::UidTest,
        Self::VersionTest,
        Self::WriteAgain,
        Self::Memory,
        Self::RecordLater,
        Self::RecordWithoutLease,
        Self::ListOnTakeover,
        Self::Gate,
        Self::TenureAsked,
        Self::HandsEndFirst,
        Self::Drain,
    ];
}

/// The design, whole or without one of its mechanisms.
#[derive(Clone, Copy, Debug, Default)]
pub struct Design {
    without: Option<Mechanism>,
}

impl Design {
    /// All mechanisms but one.
    pub fn without(mechanism: Mechanism) -> Self {
        Self { without: Some(mechanism) }
    }

    pub fn has(self, mechanism: Mechanism) -> bool {
        self.without != Some(mechanism)
    }
}
