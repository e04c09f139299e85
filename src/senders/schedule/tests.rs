//! When Senders are checked, and their messages woken.

use fedora_message::fixture::{sender, sender_with};
use fedora_message::policy::outcome::Outcome;
use fedora_message::sender_check::SenderResult;
use serde_json::json;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn name(name: &str) -> SenderName {
    SenderName::new("apps", name)
}

/// Returns a schedule with this Sender, whose messages were woken.
fn schedule(now: Instant) -> CheckSchedule {
    let mut schedule = CheckSchedule::default();
    schedule.observe(0, sender("apps", "one"), true, now);
    assert_eq!(schedule.take_wakes(now), [name("one")].into());
    schedule
}

/// Returns another Sender of the same name.
fn other() -> FedoraMessageSender {
    let mut other = sender("apps", "one");
    other.metadata.uid = Some("other".to_owned());
    other
}

/// Ends the check of a Sender with this reason, or with success.
fn finish(schedule: &mut CheckSchedule, reason: Option<Reason>, now: Instant) {
    let result = match reason {
        None => SenderResult::Accepted("fine".to_owned()),
        Some(reason) => SenderResult::Failed(Outcome { reason, message: "no".to_owned() }),
    };
    finish_with(schedule, SenderFinding { result, ..SenderFinding::default() }, now);
}

fn finish_with(schedule: &mut CheckSchedule, finding: SenderFinding, now: Instant) {
    let uid = sender("apps", "one").metadata.uid;
    schedule.finish(&name("one"), CheckEnd { uid, finding, status: StatusWrite::Same, poll: || None }, now, Utc::now());
}

/// Returns how long after `now` the next check begins.
fn next(schedule: &mut CheckSchedule, now: Instant) -> Duration {
    let next = schedule.next_time(true).expect("a check is planned");
    assert!(matches!(schedule.next_check(next), Some(DueCheck::Check(_))), "it begins then");
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
    let hour = Duration::from_hours(1) + Duration::from_millis(1);
    for (reason, expected) in [
        (None, None),
        (Some(Reason::SecretNotFound), None),
        (Some(Reason::CertificateExpired), Some(hour)),
        (Some(Reason::Misconfigured), None),
        (Some(Reason::BrokerUnreachable), Some(2 * SECOND)),
    ] {
        let now = Instant::now();
        let mut schedule = schedule(now);
        schedule.next_check(now);
        finish(&mut schedule, reason, now);
        if let Some(expected) = expected {
            assert!(next(&mut schedule, now) <= expected, "{reason:?}");
            continue;
        }
        let look = schedule.next_time(true).expect("a look");
        assert_eq!(look, now + LOOK, "{reason:?}");
        assert!(matches!(schedule.next_check(look), Some(DueCheck::Look(_))), "{reason:?}");
    }
}

/// While changes of its Secrets are noticed, a Sender is checked once a day, and when its certificate
/// expires.
#[test]
fn looks_end_in_a_check() {
    let hour = Duration::from_hours(1);
    for (valid, expected) in [(48 * hour, (23, 24)), (5 * hour + hour / 2, (5, 5)), (hour / 2, (0, 0))] {
        let now = Instant::now();
        let mut schedule = schedule(now);
        schedule.next_check(now);
        let result = SenderResult::Accepted("fine".to_owned());
        let finding = SenderFinding { result, expires: Some(Utc::now() + valid), ..SenderFinding::default() };
        finish_with(&mut schedule, finding, now);
        for looks in 0.. {
            let at = schedule.next_time(true).expect("it goes on");
            match schedule.next_check(at).expect("its time has come") {
                DueCheck::Look(_) => schedule.put_back(&name("one"), at),
                DueCheck::Check(_) => {
                    assert_eq!((looks, (at - now).as_secs() / 3600), expected);
                    break;
                }
            }
        }
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
        finish(&mut schedule, None, now);
        let mut changed = sender_with("apps", "one", &json!({"topicPrefix": format!("p{generation}")}));
        changed.metadata.generation = Some(generation);
        schedule.observe(0, changed, false, now);
        let wait = next(&mut schedule, now);
        now += wait;
        waits.push(wait.as_secs());
    }
    assert!(waits[0] <= 3 && waits[6] >= 32 && waits.iter().all(|wait| *wait <= 90), "{waits:?}");
}

/// A user who changes a Sender every second for a minute waits no longer than a minute afterwards.
#[test]
fn pace_does_not_run_away() {
    let begin = Instant::now();
    let mut schedule = schedule(begin);
    schedule.next_check(begin);
    finish(&mut schedule, None, begin);
    let mut checks = 0;
    for second in 0..60 {
        let now = begin + second * SECOND;
        schedule.check_where(now, |_, _| true);
        if schedule.next_check(now).is_some() {
            checks += 1;
            finish(&mut schedule, None, now);
        }
    }
    let now = begin + 60 * SECOND;
    schedule.check_where(now, |_, _| true);
    assert!(next(&mut schedule, now) <= 90 * SECOND);
    assert!((3..=8).contains(&checks), "{checks}");
}

/// A user who creates and deletes Senders in a loop does not make the operator log in all the time.
#[test]
fn new_senders_are_paced() {
    let (mut schedule, now) = (CheckSchedule::default(), Instant::now());
    for number in 0..3 * MAX_SENDERS_PER_NAMESPACE {
        schedule.observe(0, sender("apps", &number.to_string()), true, now);
    }
    schedule.observe(0, sender("neighbor", "default"), true, now);
    let count = |schedule: &mut CheckSchedule, at| std::iter::from_fn(|| schedule.next_check(at)).count();
    assert_eq!(count(&mut schedule, now), MAX_SENDERS_PER_NAMESPACE + 1);
    assert_eq!(count(&mut schedule, now + 100 * SECOND), 50);
}

/// Nothing makes the loop turn while no check may begin.
#[test]
fn waits_while_no_check_may_begin() {
    let now = Instant::now();
    let mut schedule = schedule(now);
    assert_eq!(schedule.next_time(false), None);
    schedule.begin_term(now);
    assert!(schedule.next_check(now).is_none(), "pending messages go first");
    assert_eq!(schedule.next_time(true), Some(now + HEAD_START));
    schedule.remove(&name("one"), now);
    let wake = schedule.next_time(false).expect("its messages are woken");
    assert!(schedule.take_wakes(wake - Duration::from_millis(1)).is_empty() && !schedule.take_wakes(wake).is_empty());
}

/// The end of the check of a Sender that was replaced says nothing of the new one. A watch reports that the
/// old one is gone, a list does not.
#[test]
fn replaced_sender_is_checked_anew() {
    for is_seen_gone in [true, false] {
        let now = Instant::now();
        let mut schedule = schedule(now);
        schedule.next_check(now);
        if is_seen_gone {
            schedule.remove(&name("one"), now);
        }
        schedule.observe(0, other(), is_seen_gone, now);
        finish(&mut schedule, None, now);
        assert!(matches!(schedule.next_check(now), Some(DueCheck::Check(_))), "{is_seen_gone}");
        assert!(schedule.next_check(now).is_none(), "once");
    }
}

/// A change during a check leads to another check.
#[test]
fn change_during_check_is_not_lost() {
    let now = Instant::now();
    let mut schedule = schedule(now);
    schedule.next_check(now);
    schedule.check_where(now, |_, _| true);
    finish(&mut schedule, None, now);
    assert!(next(&mut schedule, now) <= 3 * SECOND);
}

#[test]
fn failed_message_checks_its_sender() {
    let now = Instant::now();
    let mut schedule = schedule(now);
    schedule.next_check(now);
    finish(&mut schedule, None, now);
    schedule.request(&[name("one"), name("other")].into(), now + SECOND);
    assert_eq!(next(&mut schedule, now), REQUEST_GAP, "not after each of many failures");
    finish(&mut schedule, Some(Reason::AuthenticationFailed), now);
    schedule.request(&[name("one")].into(), now);
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
    assert!(!schedule.is_same(&other()));
}
