//! What may go wrong, or be changed by people: each so many times in a run, so that every run ends.

use std::fmt::{self, Display};

/// Something that is neither the operator's doing nor sure to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chance {
    Create,
    Delete,
    /// The broker can't be reached before anything has left.
    Unreachable,
    /// The broker refuses the message for good.
    Refused,
    /// The broker has the message, and its confirm is lost.
    ConfirmLost,
    /// A status write is lost.
    WriteLost,
    /// A status write succeeds, and its answer is lost.
    AnswerLost,
    /// A status write is carried out long after its writer has given up waiting.
    WriteLate,
    /// The watch ends, and begins anew.
    WatchEnds,
    /// The process ends at once, and another takes its place.
    Crash,
    /// The Lease is not renewed in time: the process was paused, or cut off from the API server.
    TenureEnds,
    /// The process is told to stop.
    Terminated,
    /// It is told to stop, and has to end before all is recorded.
    GraceOver,
}

const COUNT: usize = Chance::GraceOver as usize + 1;

/// How often each may still happen, and how many in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chances {
    each: [u8; COUNT],
    in_all: u8,
}

impl Chances {
    /// Each so many times.
    pub fn of(chances: &[(Chance, u8)]) -> Self {
        let mut all = Self { in_all: chances.iter().map(|(_, times)| times).sum(), ..Self::default() };
        for (chance, times) in chances {
            all.each[*chance as usize] = *times;
        }
        all
    }

    /// The same, but only so many in all.
    pub fn at_most(self, in_all: u8) -> Self {
        Self { in_all, ..self }
    }

    /// Whether it may still happen.
    pub fn allow(&self, chance: Chance) -> bool {
        self.each[chance as usize] > 0 && self.in_all > 0
    }

    /// How often it may still happen.
    pub fn left(&self, chance: Chance) -> u8 {
        self.each[chance as usize]
    }

    /// Uses one up.
    pub fn take(&mut self, chance: Chance) {
        self.each[chance as usize] -= 1;
        self.in_all -= 1;
    }
}

impl Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "the object is created",
            Self::Delete => "the object is deleted",
            Self::Unreachable => "the broker can't be reached",
            Self::Refused => "the broker refuses it for good",
            Self::ConfirmLost => "the broker has it, and the confirm is lost",
            Self::WriteLost => "the write is lost",
            Self::AnswerLost => "the write is carried out, and its answer lost",
            Self::WriteLate => "the write is given up, and still on its way",
            Self::WatchEnds => "the watch ends",
            Self::Crash => "crashes, and another takes its place",
            Self::TenureEnds => "is paused, and its tenure ends",
            Self::Terminated => "is told to stop",
            Self::GraceOver => "has to end before all is recorded",
        })
    }
}
