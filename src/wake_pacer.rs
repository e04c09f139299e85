//! Decides how soon messages may be woken again: by a change of a Secret or Sender that they name, or by
//! the end of a broker's alarm. Pure: the time is an argument.

use std::time::Duration;

use fedora_message::bounds::{MAX_SECRET_WAKE_GAP, MIN_SECRET_WAKE_GAP};
use tokio::time::Instant;

/// The pace of the wakes for one object or connection: the first at once, the next ones after a gap that doubles.
#[derive(Debug, Default)]
pub struct WakePacer {
    /// The last wake, and the gap after it.
    last: Option<(Instant, Duration)>,
}

impl WakePacer {
    /// Returns when a change that happens `now` may wake the messages.
    pub fn next(&self, now: Instant) -> Instant {
        self.last.map_or(now, |(last, gap)| now.max(last + gap))
    }

    /// Returns true if nothing was woken for a while, so that the pacer is as good as a new one.
    pub fn is_quiet(&self, now: Instant) -> bool {
        self.last.is_none_or(|(last, gap)| now >= last + 2 * gap)
    }

    /// The messages were woken. `random` from 0 to 1 makes the gap up to half longer, so that many
    /// Secrets that change together don't stay together.
    pub fn woke(&mut self, now: Instant, random: f64) {
        let gap = match self.last {
            Some((last, gap)) if now < last + 2 * gap => (2 * gap).min(MAX_SECRET_WAKE_GAP),
            // It was quiet for a while.
            Some(_) | None => MIN_SECRET_WAKE_GAP,
        };
        self.last = Some((now, gap.mul_f64(1.0 + random / 2.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wakes as often as the pacer allows, and returns the gaps in seconds.
    fn gaps(pacer: &mut WakePacer, start: Instant, random: f64) -> Vec<u64> {
        let mut now = start;
        let mut wake = || {
            let before = now;
            now = pacer.next(now);
            pacer.woke(now, random);
            now.saturating_duration_since(before).as_secs()
        };
        (0..8).map(|_| wake()).collect()
    }

    #[test]
    fn gaps_grow() {
        let start = Instant::now();
        assert_eq!(gaps(&mut WakePacer::default(), start, 0.0), [0, 2, 4, 8, 16, 32, 60, 60]);
        let gaps = gaps(&mut WakePacer::default(), start, 1.0);
        assert!(gaps.iter().all(|gap| *gap <= 90) && gaps[1] == 3, "{gaps:?}");
    }

    #[test]
    fn starts_again_after_quiet() {
        let (mut pacer, start) = (WakePacer::default(), Instant::now());
        gaps(&mut pacer, start, 0.0);
        let later = start + Duration::from_hours(1);
        assert_eq!(gaps(&mut pacer, later, 0.0)[..3], [0, 2, 4]);
    }
}
