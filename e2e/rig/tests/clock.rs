//! A clock that can be set for one process.

use std::{process::Command, time::Duration};

use rig::Clock;

/// The seconds since 1970 that a process sees.
fn seconds(clock: &Clock) -> i64 {
    let output = Command::new("date").arg("+%s").envs(clock.environment()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

#[test]
fn a_process_sees_the_clock_that_it_was_given() {
    const HOUR: i64 = 3600;
    let clock = Clock::new().unwrap();
    let right = seconds(&clock);
    clock.set_forward(Duration::from_hours(1)).unwrap();
    assert!((HOUR..HOUR + 60).contains(&(seconds(&clock) - right)));
    clock.set_back(Duration::from_hours(1)).unwrap();
    assert!((-HOUR..-HOUR + 60).contains(&(seconds(&clock) - right)));
}
