//! Faults and changes by users. Each happens a limited number of times in a run, so every run ends.

use std::fmt::{self, Display};

/// A fault, or a change by a user. It may happen or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    Create,
    Delete,
    /// The broker is unreachable before the operator has sent anything.
    Unreachable,
    /// The broker refuses the message for good.
    Refused,
    /// The broker has the message, and its confirm is lost.
    ConfirmLost,
    /// A status write is lost.
    WriteLost,
    /// A status write succeeds, and its response is lost.
    AnswerLost,
    /// A status write takes effect long after its writer timed out.
    WriteLate,
    /// The watch ends and starts again.
    WatchEnds,
    /// The connection of the watch dies, and nobody notices: the watch is silent.
    WatchSilent,
    /// The API server refuses to show the Secret, for good.
    SecretWithdrawn,
    /// A user creates the Sender or changes it. It then allows the message's namespace.
    SenderApplied,
    /// The Sender does not allow the message's namespace any more.
    SenderDenied,
    SenderDeleted,
    /// The watch on Senders ends and starts again.
    SenderWatchEnds,
    /// The watch on Senders is silent.
    SenderWatchSilent,
    /// The process ends at once, and another one replaces it.
    Crash,
    /// The process does not renew the Lease in time: it was paused, or lost the API server.
    TermEnds,
    /// The machine is suspended for longer than the term. Some clocks stand still in that time.
    MachineSuspended,
    /// The process receives SIGTERM.
    Terminated,
    /// The drain after SIGTERM takes too long, so the process ends before all results are recorded.
    GraceOver,
}

const COUNT: usize = Fault::GraceOver as usize + 1;

/// Limits how often each fault may still happen, and the total number of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FaultBudget {
    each: [u8; COUNT],
    total: u8,
}

impl FaultBudget {
    /// Allows each fault the given number of times.
    pub fn of(faults: &[(Fault, u8)]) -> Self {
        let mut all = Self { total: faults.iter().map(|(_, times)| times).sum(), ..Self::default() };
        for (fault, times) in faults {
            all.each[*fault as usize] = *times;
        }
        all
    }

    /// Limits the total number of faults.
    pub fn at_most(self, total: u8) -> Self {
        Self { total, ..self }
    }

    /// Returns true if the fault may still happen.
    pub fn allow(&self, fault: Fault) -> bool {
        self.each[fault as usize] > 0 && self.total > 0
    }

    /// Returns how often the fault may still happen.
    pub fn left(&self, fault: Fault) -> u8 {
        self.each[fault as usize]
    }

    /// Counts one occurrence of the fault.
    pub fn take(&mut self, fault: Fault) {
        self.each[fault as usize] -= 1;
        self.total -= 1;
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "the object is created",
            Self::Delete => "the object is deleted",
            Self::Unreachable => "the broker is unreachable",
            Self::Refused => "the broker refuses the message for good",
            Self::ConfirmLost => "the broker has the message, and the confirm is lost",
            Self::WriteLost => "the write is lost",
            Self::AnswerLost => "the write succeeds, and its response is lost",
            Self::WriteLate => "the write times out, and takes effect later",
            Self::WatchEnds => "the watch ends",
            Self::WatchSilent => "the watch becomes silent",
            Self::SecretWithdrawn => "the Secret may not be read any more",
            Self::SenderApplied => "the Sender is created or changed",
            Self::SenderDenied => "the Sender does not allow the namespace any more",
            Self::SenderDeleted => "the Sender is deleted",
            Self::SenderWatchEnds => "the watch on Senders ends",
            Self::SenderWatchSilent => "the watch on Senders becomes silent",
            Self::Crash => "crashes, and another process replaces it",
            Self::TermEnds => "is paused, and its term ends",
            Self::MachineSuspended => "is suspended with its machine, and its term ends",
            Self::Terminated => "receives SIGTERM",
            Self::GraceOver => "ends before all results are recorded",
        })
    }
}
