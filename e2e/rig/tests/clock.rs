//! Tests the clock that a test can set for one process.

use std::{process::Command, time::Duration};

use rig::Clock;

/// Returns the seconds since 1970 that a process reads.
fn seconds(clock: &Clock) -> i64 {
    let output = Command::new("date").arg("+%s").envs(clock.environment()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

#[test]
fn sets_clock_of_process() {
    const HOUR: i64 = 3600;
    let clock = Clock::new().unwrap();
    let correct = seconds(&clock);
    clock.set_forward(Duration::from_hours(1)).unwrap();
    assert!((HOUR..HOUR + 60).contains(&(seconds(&clock) - correct)));
    clock.set_back(Duration::from_hours(1)).unwrap();
    assert!((-HOUR..-HOUR + 60).contains(&(seconds(&clock) - correct)));
}
