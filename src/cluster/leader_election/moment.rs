//! The time by which a term ends.

use std::ops::Add;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// A clock that also runs while the machine is suspended, where the system has one. `Instant` stands
/// still in that time.
#[cfg(target_os = "linux")]
const BOOT: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const BOOT: ClockId = ClockId::Monotonic;

/// A moment on two clocks of this machine.
///
/// The wall clock is the second one, because no other notices that a hypervisor paused the machine.
/// The guest's tools set it afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time since the machine started.
    pub(super) boot: Duration,
    /// The wall clock.
    pub(super) wall: SystemTime,
}

impl Moment {
    /// Returns the current moment. It takes no system call.
    #[must_use]
    pub fn now() -> Self {
        Self { boot: clock_gettime(BOOT).try_into().unwrap_or_default(), wall: SystemTime::now() }
    }

    /// Returns true if neither clock has reached `end`.
    #[must_use]
    pub fn is_before(self, end: Self) -> bool {
        !self.until(end).is_zero()
    }

    /// Returns the time until the first of the clocks reaches `end`.
    #[must_use]
    pub fn until(self, end: Self) -> Duration {
        let wall = end.wall.duration_since(self.wall).unwrap_or_default();
        end.boot.saturating_sub(self.boot).min(wall)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self { boot: self.boot + time, wall: self.wall + time }
    }
}
