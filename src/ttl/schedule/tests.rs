//! The schedule of the TTL controller, step by step.

use crate::ttl::schedule::{Deletion, Expired, Schedule};
use chrono::{DateTime, TimeDelta, Utc};

use fedora_message::fixture::at;

/// Chance that makes every pause as long as it can be.
const LONG: f64 = 1.0;

fn after(seconds: i64) -> DateTime<Utc> {
    at("2026-01-01T12:00:00Z") + TimeDelta::seconds(seconds)
}

fn expired(namespace: &str, name: &str) -> Expired {
    Expired { namespace: namespace.to_owned(), name: name.to_owned(), uid: format!("uid-of-{name}"), is_final: true }
}

fn take_all(schedule: &mut Schedule, now: DateTime<Utc>) -> Vec<String> {
    std::iter::from_fn(|| schedule.take(now)).map(|expired| expired.name).collect()
}

/// One that has listed all there is, at second 0.
fn listed(capacity: usize) -> Schedule {
    let mut schedule = Schedule::with_capacity(capacity);
    assert!(schedule.begin_list(after(0)), "first of all, all are listed");
    assert!(!schedule.begin_list(after(0)), "once");
    schedule.listed(true, after(0), LONG);
    schedule
}

#[test]
fn takes_each_resource_once_when_due() {
    let mut schedule = listed(10);
    for (name, second) in [("b", 2), ("a", 1), ("b", 2), ("c", 3)] {
        schedule.add(expired("apps", name), after(second));
    }
    assert_eq!(schedule.next(), after(1));
    assert_eq!(take_all(&mut schedule, after(0)), Vec::<String>::new());
    assert_eq!(take_all(&mut schedule, after(2)), ["a", "b"]);
    assert_eq!(take_all(&mut schedule, after(3)), ["c"]);
    assert_eq!((schedule.len(), schedule.next()), (0, after(3_600)), "in an hour all are listed");
    assert!(schedule.begin_list(after(3_600)));
}

#[test]
fn holds_the_first_and_lists_the_others_later() {
    let mut schedule = Schedule::with_capacity(3);
    assert!(schedule.begin_list(after(0)));
    for second in (0..100).rev() {
        schedule.add(expired("apps", &format!("m{second}")), after(second));
    }
    schedule.listed(true, after(0), LONG);
    assert_eq!(schedule.len(), 3);
    assert!(!schedule.begin_list(after(60)), "not while some are held that come first");
    assert_eq!(take_all(&mut schedule, after(60)), ["m0", "m1", "m2"]);
    // A resource that is noted meanwhile does not hide those that are not held.
    schedule.add(expired("apps", "late"), after(1_000));
    assert!(schedule.begin_list(after(60)), "from second 3 on not all are known");

    let mut schedule = listed(1);
    schedule.add(expired("apps", "a"), after(5));
    schedule.add(expired("apps", "b"), after(5));
    assert_eq!(take_all(&mut schedule, after(5)), ["a"]);
    assert!(!schedule.begin_list(after(9)), "lists rest for 10 s");
    assert_eq!(schedule.next(), after(10));
    assert!(schedule.begin_list(after(10)));
}

#[test]
fn failed_list_backs_off() {
    let mut schedule = Schedule::default();
    let mut now = after(0);
    let mut last_reported = Vec::new();
    for pause in [1, 2, 4, 8] {
        assert!(schedule.begin_list(now));
        last_reported.push(schedule.listed(false, now, LONG));
        assert_eq!(schedule.next(), now + TimeDelta::seconds(pause));
        now = schedule.next();
    }
    assert_eq!(last_reported, [true, false, false, false]);
    assert!(schedule.begin_list(now));
    assert!(!schedule.listed(true, now, LONG));
    assert!(schedule.begin_list(now + TimeDelta::hours(1)));
    assert!(schedule.listed(false, now, LONG), "another failure is another story");
}

#[test]
fn failed_deletion_backs_off() {
    let mut schedule = listed(10);
    for name in ["a", "b", "c"] {
        schedule.add(expired("apps", name), after(0));
    }
    let failed = Deletion::Failed("busy".to_owned());
    let [first, second] = [(); 2].map(|()| schedule.take(after(0)).unwrap());
    assert!(schedule.finish(first, &failed, after(0), LONG), "the first failure is logged");
    assert!(!schedule.finish(second, &failed, after(0), LONG), "once, although two requests were in flight");
    assert_eq!(schedule.take(after(0)), None);
    assert_eq!(schedule.next(), after(1));
    let one = schedule.take(after(1)).unwrap();
    assert!(!schedule.finish(one, &failed, after(1), LONG));
    assert_eq!(schedule.take(after(2)), None, "the second pause is two seconds");
    let one = schedule.take(after(3)).unwrap();
    assert!(!schedule.finish(one, &Deletion::Done, after(3), LONG));
    assert_eq!(take_all(&mut schedule, after(3)).len(), 2, "what works again goes on at once");
}

#[test]
fn denied_namespace_blocks_no_other() {
    let mut schedule = listed(3);
    schedule.add(expired("denied", "a"), after(0));
    schedule.add(expired("denied", "b"), after(0));
    let denied = Deletion::Denied("no".to_owned());
    let a = schedule.take(after(0)).unwrap();
    assert!(schedule.finish(a, &denied, after(0), LONG));
    assert_eq!(schedule.take(after(0)), None, "its neighbor is not tried");
    schedule.add(expired("apps", "c"), after(0));
    schedule.add(expired("apps", "d"), after(0));
    assert_eq!(take_all(&mut schedule, after(0)), ["c", "d"], "of too many, those that can go are held");
    let again = schedule.take(after(1)).unwrap();
    assert_eq!(again.namespace, "denied");
    assert!(!schedule.finish(again, &denied, after(1), LONG), "it was logged before");
}

#[test]
fn later_resource_comes_again() {
    let mut schedule = listed(10);
    schedule.add(expired("apps", "a"), after(0));
    let a = schedule.take(after(0)).unwrap();
    schedule.finish(a, &Deletion::Later(after(7)), after(0), LONG);
    assert_eq!((schedule.take(after(6)), schedule.next()), (None, after(7)));
    let a = schedule.take(after(7)).unwrap();
    for end in [Deletion::Gone, Deletion::Kept, Deletion::Done] {
        assert!(!schedule.finish(a.clone(), &end, after(7), LONG));
        assert_eq!(schedule.len(), 0);
    }
}

#[test]
fn clock_set_back_ends_pauses() {
    let mut schedule = listed(10);
    schedule.add(expired("apps", "a"), after(0));
    let a = schedule.take(after(1_000)).unwrap();
    schedule.finish(a, &Deletion::Failed("busy".to_owned()), after(1_000), LONG);
    assert!(schedule.begin_list(after(5)), "and all are listed");
    schedule.add(expired("apps", "b"), after(0));
    assert_eq!(take_all(&mut schedule, after(5)), ["b"]);
}

#[test]
fn term_begins_with_a_list() {
    let mut schedule = listed(10);
    schedule.add(expired("apps", "a"), after(0));
    schedule.begin();
    assert_eq!(schedule.take(after(0)), None);
    assert!(schedule.begin_list(after(0)));
}
