//! When Senders are checked, and their messages woken.

use fedora_message::fixture::{sender, sender_with};
use fedora_message::policy::outcome::Outcome;
use fedora_message::sender_check::SenderResult;
use serde_json::json;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn name(name: &str) -> SenderName {
    SenderName { namespace: "apps".to_owned(), name: name.to_owned() }
}

/// Returns a schedule with this Sender, whose messages were woken.
fn schedule(now: Instant) -> Schedule {
    let mut schedule = Schedule::default();
    schedule.observe(0, sender("apps", "one"), true, now);
    assert_eq!(schedule.take_wakes(now), [name("one")].into());
    schedule
}

/// Ends the check of a Sender with this reason, or with success.
fn finish(schedule: &mut Schedule, reason: Option<Reason>, watched: bool, now: Instant) {
    let result = match reason {
        None => SenderResult::Accepted("fine".to_owned()),
        Some(reason) => SenderResult::Failed(Outcome { reason, message: "no".to_owned() }),
    };
    let finding = Finding { result, ..Finding::default() };
    let written = StatusWrite::Done(sender("apps", "one").into());
    schedule.finish(&name("one"), End { finding, written, watched, poll: || None }, now);
}

/// Returns how long after `now` the next check begins.
fn next(schedule: &mut Schedule, now: Instant) -> Duration {
    let next = schedule.next_time(true).expect("a check is planned");
    assert!(schedule.next_check(next).is_some(), "it begins then");
    next.saturating_duration_since(now)
}

#[test]
fn new_sender_is_checked_at_once() {
    let now = Instant::now();
    let mut schedule = schedule(now);
    assert!(schedule.next_check(now).is_some());
    assert!(schedule.next_check(now).is_none(), "once");
}

#[test]
fn next_check_follows_from_result() {
    for (reason, watched, expected) in [
        (None, true, DAY),
        (None, false, UNWATCHED),
        (Some(Reason::SecretNotFound), true, DAY),
        (Some(Reason::CertificateExpired), true, Duration::from_hours(1)),
        (Some(Reason::Misconfigured), true, DAY),
        (Some(Reason::BrokerUnreachable), true, SECOND),
    ] {
        let now = Instant::now();
        let mut schedule = schedule(now);
        schedule.next_check(now);
        finish(&mut schedule, reason, watched, now);
        let wait = next(&mut schedule, now);
        assert!(wait <= expected && (expected == SECOND || wait == expected), "{reason:?}: {wait:?}");
    }
}

/// A user who changes a Sender again and again does not make the operator log in each time.
#[test]
fn changes_are_paced() {
    let mut now = Instant::now();
    let mut schedule = schedule(now);
    schedule.next_check(now);
    let mut waits = Vec::new();
    for generation in 2..9 {
        finish(&mut schedule, None, true, now);
        let mut changed = sender_with("apps", "one", &json!({"topicPrefix": format!("p{generation}")}));
        changed.metadata.generation = Some(generation);
        schedule.observe(0, changed, false, now);
        let wait = next(&mut schedule, now);
        now += wait;
        waits.push(wait.as_secs());
    }
    assert!(waits[0] <= 3 && waits[6] >= 32 && waits.iter().all(|wait| *wait <= 90), "{waits:?}");
}

/// What changes during a check is checked afterwards.
#[test]
fn change_during_check_is_not_lost() {
    let now = Instant::now();
    let mut schedule = schedule(now);
    schedule.next_check(now);
    schedule.check_where(now, |_, _| true);
    finish(&mut schedule, None, true, now);
    assert!(next(&mut schedule, now) <= 3 * SECOND);
}

#[test]
fn failed_message_checks_its_sender() {
    let now = Instant::now();
    let mut schedule = schedule(now);
    schedule.next_check(now);
    finish(&mut schedule, None, true, now);
    schedule.doubt(&[name("one"), name("other")].into(), now + SECOND);
    assert_eq!(next(&mut schedule, now), DOUBT_GAP, "not after each of many failures");
    finish(&mut schedule, Some(Reason::AuthenticationFailed), true, now);
    schedule.doubt(&[name("one")].into(), now);
    assert!(next(&mut schedule, now) <= SECOND, "the backoff goes on");
}

/// Another Sender of the same name wakes the messages, however fast.
#[test]
fn recreated_sender_wakes_its_messages() {
    let now = Instant::now();
    let mut schedule = schedule(now);
    schedule.remove(&name("one"), now);
    schedule.observe(0, sender("apps", "one"), true, now);
    assert!(schedule.take_wakes(now).is_empty(), "they were woken just now");
    let later = schedule.next_time(false).expect("they are woken again");
    assert_eq!(schedule.take_wakes(later), [name("one")].into());
    assert!(later - now <= 3 * SECOND);
}

#[test]
fn list_finds_missing_senders() {
    let now = Instant::now();
    let mut schedule = schedule(now);
    schedule.observe(1, sender("apps", "two"), true, now);
    assert_eq!(schedule.missing(1, &HashSet::new()), [name("two")]);
    assert_eq!(schedule.missing(1, &[name("two")].into()), []);
    assert!(schedule.is_same(&sender("apps", "one")));
    let mut other = sender("apps", "one");
    other.metadata.uid = Some("other".to_owned());
    assert!(!schedule.is_same(&other));
}
