//! The work queue, step by step: what it gives out, and that nothing is sent twice or forgotten.

use chrono::{DateTime, TimeDelta, Utc};
use fedora_message_operator::cluster::queue::{Done, Job, Queue};
use fedora_message_operator::message::authentication::SecretName;
use fedora_message_operator::message::decide::Decision;
use fedora_message_operator::message::outcome::{Outcome, Reason};
use fedora_message_operator::message::resource::{Environment, FedoraMessageStatus};
use fedora_message_operator::message::status::{Facts, next};
use serde_json::{Value, json};

use crate::fixture::{at, example, message, set};

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> DateTime<Utc> {
    at(NOW)
}

fn in_seconds(seconds: i64) -> DateTime<Utc> {
    now() + TimeDelta::seconds(seconds)
}

/// A message of this name, with a uid of its own.
fn named(name: &str) -> Value {
    set(set(example(), "/metadata/name", name.into()), "/metadata/uid", format!("uid-of-{name}").into())
}

fn observe(queue: &mut Queue, object: &Value) {
    queue.observe(0, message(object));
}

fn names(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.message.name()).collect()
}

fn take_all(queue: &mut Queue, now: DateTime<Utc>) -> Vec<Job> {
    std::iter::from_fn(|| queue.take(now)).collect()
}

fn outcome(reason: Reason) -> Outcome {
    Outcome { reason, message: "words".to_owned() }
}

/// Ends a job with a status of this reason.
fn finish(queue: &mut Queue, job: &Job, reason: Reason, written: bool, due: Option<DateTime<Utc>>) {
    let facts = Facts { routing_key: None, attempts: 1, next_attempt: due, delivery_mode: "direct" };
    let status = next(&job.message, &job.status, &outcome(reason), &facts, now());
    queue.finish(job, Done { status, written, due }, now());
}

#[test]
fn a_message_is_given_out_once_until_it_is_finished() {
    let mut queue = Queue::new(8);
    observe(&mut queue, &named("a"));
    let jobs = take_all(&mut queue, now());
    assert_eq!(names(&jobs), ["a"]);
    assert_eq!(jobs[0].decision, Decision::Attempt);
    observe(&mut queue, &named("a"));
    assert!(queue.take(now()).is_none(), "the watch tells of it again while it is under way");
}

#[test]
fn what_was_sent_is_not_given_out_again_however_much_the_watch_lags() {
    let mut queue = Queue::new(8);
    observe(&mut queue, &named("a"));
    let job = queue.take(now()).expect("a job");
    finish(&mut queue, &job, Reason::Sent, true, None);
    observe(&mut queue, &named("a"));
    observe(&mut queue, &set(named("a"), "/metadata/generation", 2.into()));
    queue.begin_sync(0);
    observe(&mut queue, &named("a"));
    queue.end_sync(0);
    assert!(queue.take(in_seconds(1_000_000)).is_none());
    queue.forget("uid-of-a");
    assert_eq!(queue.pending(), 0);
}

#[test]
fn a_status_that_could_not_be_written_is_written_again_and_nothing_is_sent() {
    let mut queue = Queue::new(8);
    observe(&mut queue, &named("a"));
    let job = queue.take(now()).expect("a job");
    finish(&mut queue, &job, Reason::Sent, false, Some(in_seconds(2)));
    assert!(queue.take(in_seconds(1)).is_none());
    let job = queue.take(in_seconds(2)).expect("the write is due");
    assert_eq!((job.decision.clone(), job.unwritten), (Decision::Rest, true));
    assert_eq!(job.status.reason.as_deref(), Some("Sent"));
    queue.finish(&job, Done { status: job.status.clone(), written: true, due: None }, now());
    assert!(queue.take(in_seconds(1_000_000)).is_none());
}

#[test]
fn an_object_created_anew_under_the_same_name_is_another_message() {
    let mut queue = Queue::new(8);
    observe(&mut queue, &named("a"));
    let job = queue.take(now()).expect("a job");
    queue.forget("uid-of-a");
    let anew = set(named("a"), "/metadata/uid", "another".into());
    observe(&mut queue, &anew);
    let second = queue.take(now()).expect("the new one is sent");
    assert_eq!(second.message.uid(), "another");
    finish(&mut queue, &job, Reason::Sent, true, None);
    assert_eq!(queue.pending(), 1, "the new one is still under way");
}

#[test]
fn a_failed_attempt_is_made_again_when_its_time_has_come_or_the_broker_is_back() {
    let mut queue = Queue::new(8);
    for name in ["a", "b"] {
        observe(&mut queue, &named(name));
        let job = queue.take(now()).expect("a job");
        finish(&mut queue, &job, Reason::BrokerUnreachable, true, Some(in_seconds(60)));
    }
    assert_eq!(queue.next_due(), Some(in_seconds(60)));
    assert!(queue.take(in_seconds(59)).is_none());
    queue.wake_environment(Environment::Stg);
    assert!(queue.take(in_seconds(59)).is_none(), "it is the other environment's broker that is back");
    queue.wake_environment(Environment::Prod);
    assert_eq!(take_all(&mut queue, in_seconds(59)).len(), 2);
    assert_eq!(queue.next_due(), None);
}

#[test]
fn a_broker_that_is_back_before_the_failure_is_recorded_is_not_missed() {
    let mut queue = Queue::new(8);
    observe(&mut queue, &named("a"));
    let job = queue.take(now()).expect("a job");
    queue.wake_environment(Environment::Prod);
    finish(&mut queue, &job, Reason::BrokerUnreachable, true, Some(in_seconds(300)));
    assert_eq!(names(&take_all(&mut queue, now())), ["a"]);
}

#[test]
fn a_secret_that_changes_wakes_those_that_name_it() {
    let mut queue = Queue::new(8);
    let own = set(named("own"), "/spec/authentication", json!({"secretRef": {"name": "certs"}}));
    let key = |name: &str| json!({"name": name, "key": "pem", "namespace": "keys"});
    let three = json!({"caSecretRef": key("ca"), "certSecretRef": key("cert"), "keySecretRef": key("key")});
    let three = set(named("three"), "/spec/authentication", three);
    for object in [&own, &three] {
        observe(&mut queue, object);
        let job = queue.take(now()).expect("a job");
        finish(&mut queue, &job, Reason::SecretNotFound, true, None);
    }
    let secret = |namespace: &str, name: &str| SecretName { namespace: namespace.to_owned(), name: name.to_owned() };
    assert!(queue.needs(&secret("apps", "certs")) && !queue.needs(&secret("keys", "certs")));
    queue.wake_secret(&secret("keys", "certs"));
    assert!(queue.take(now()).is_none());
    queue.wake_secret(&secret("apps", "certs"));
    assert_eq!(names(&take_all(&mut queue, now())), ["own"]);
    queue.wake_secret(&secret("keys", "key"));
    assert_eq!(names(&take_all(&mut queue, now())), ["three"]);
}

#[test]
fn what_changes_while_a_message_is_under_way_is_looked_at_after() {
    let mut queue = Queue::new(8);
    observe(&mut queue, &named("a"));
    let job = queue.take(now()).expect("a job");
    let suspended = set(set(named("a"), "/spec/suspend", true.into()), "/metadata/generation", 2.into());
    observe(&mut queue, &suspended);
    finish(&mut queue, &job, Reason::BrokerUnreachable, true, Some(in_seconds(60)));
    let job = queue.take(now()).expect("it is looked at again");
    assert_eq!(job.decision, Decision::Report(Outcome::suspended()));
}

#[test]
fn a_message_that_was_given_up_rests_over_a_restart_until_a_retry_is_asked_for() {
    let mut queue = Queue::new(8);
    observe(&mut queue, &named("a"));
    let job = queue.take(now()).expect("a job");
    let facts = Facts { routing_key: None, attempts: 1, next_attempt: None, delivery_mode: "direct" };
    let status = next(&job.message, &FedoraMessageStatus::default(), &outcome(Reason::TopicForbidden), &facts, now());
    let stored = set(named("a"), "/status", serde_json::to_value(status).unwrap());

    let mut restarted = Queue::new(8);
    observe(&mut restarted, &stored);
    assert!(restarted.take(now()).is_none());
    let annotations = json!({"apps.fedoraproject.org/retry": "1"});
    observe(&mut restarted, &set(stored, "/metadata/annotations", annotations));
    assert_eq!(restarted.take(now()).expect("a retry").decision, Decision::Attempt);
}

#[test]
fn the_deadline_wakes_a_message_that_waits_for_something_else() {
    let mut queue = Queue::new(8);
    let object = set(named("a"), "/spec/activeDeadlineSeconds", 100.into());
    observe(&mut queue, &set(object, "/metadata/creationTimestamp", NOW.into()));
    let job = queue.take(now()).expect("a job");
    finish(&mut queue, &job, Reason::SecretNotFound, true, None);
    assert!(queue.take(in_seconds(99)).is_none());
    let job = queue.take(in_seconds(100)).expect("the deadline has come");
    let Decision::Report(outcome) = job.decision else { panic!("{:?}", job.decision) };
    assert_eq!(outcome.reason, Reason::DeadlineExceeded);
}

#[test]
fn no_more_than_the_width_is_under_way_for_an_environment_and_the_other_is_not_held_up() {
    let mut queue = Queue::new(2);
    for n in 0..5 {
        observe(&mut queue, &named(&format!("prod{n}")));
    }
    let jobs = take_all(&mut queue, now());
    assert_eq!(jobs.len(), 2);
    observe(&mut queue, &set(named("stg"), "/spec/env", "stg".into()));
    assert_eq!(names(&take_all(&mut queue, now())), ["stg"]);
    finish(&mut queue, &jobs[0], Reason::Sent, true, None);
    assert_eq!(take_all(&mut queue, now()).len(), 1);
}

#[test]
fn each_namespace_has_its_turn() {
    let mut queue = Queue::new(100);
    for n in 0..5 {
        observe(&mut queue, &named(&format!("many{n}")));
    }
    observe(&mut queue, &set(named("single"), "/metadata/namespace", "other".into()));
    let jobs = take_all(&mut queue, now());
    let turn = names(&jobs).iter().position(|name| *name == "single");
    assert_eq!(turn, Some(1), "{:?}", names(&jobs));
}

#[test]
fn what_a_new_list_lacks_is_gone_and_what_other_watches_brought_is_not() {
    let mut queue = Queue::new(8);
    queue.begin_sync(0);
    queue.begin_sync(1);
    observe(&mut queue, &named("a"));
    observe(&mut queue, &named("b"));
    queue.observe(1, message(&named("c")));
    queue.end_sync(0);
    queue.end_sync(1);
    assert_eq!(queue.pending(), 3);
    queue.begin_sync(0);
    observe(&mut queue, &named("b"));
    queue.end_sync(0);
    let mut left = take_all(&mut queue, now());
    left.sort_by_key(|job| job.message.name().to_owned());
    assert_eq!(names(&left), ["b", "c"]);
}

#[test]
fn an_unreadable_message_has_its_turn_beside_the_others() {
    let mut queue = Queue::new(1);
    observe(&mut queue, &named("good"));
    observe(&mut queue, &set(named("bad"), "/spec/env", "dev".into()));
    assert_eq!(take_all(&mut queue, now()).len(), 2);
}
