//! The work queue, step by step: which jobs it starts, and that no message is sent twice or lost.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fedora_message::api::names::{SenderName, SourceName};
use fedora_message::api::object::SummaryFields;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::fixture::{at, example, message, set};
use fedora_message::policy::outcome::{Outcome, Reason};
use fedora_message::policy::retry::Decision;
use fedora_message::state::{Facts, MessageState};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::compactor::MAX_SMALL_SIZE;
use super::fair_queue::FairQueue;
use super::{Job, MAX_LARGE_BYTES, Next, PodLimits, Queue, Write};
use crate::delivery::NotTried;

const NOW: &str = "2026-01-01T12:00:00Z";

/// The time at which each test begins, and at which the wall clock says [`NOW`].
fn now() -> Instant {
    static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
    *NOW
}

fn in_seconds(seconds: u64) -> Instant {
    now() + Duration::from_secs(seconds)
}

fn wall_clock(time: Instant) -> DateTime<Utc> {
    at(NOW) + (time - now())
}

/// A message of this name, with a uid of its own.
fn named(name: &str) -> Value {
    set(set(example(), "/metadata/name", name.into()), "/metadata/uid", format!("uid-of-{name}").into())
}

fn observe(queue: &mut Queue, object: &Value) {
    queue.observe(0, message(object), now());
}

fn names(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.message.name()).collect()
}

fn take_all(queue: &mut Queue, now: Instant) -> Vec<Job> {
    std::iter::from_fn(|| take(queue, now)).collect()
}

fn outcome(reason: Reason) -> Outcome {
    Outcome { reason, message: "words".to_owned() }
}

/// Ends a job with a state of this reason.
fn finish(queue: &mut Queue, job: &Job, reason: Reason, write: Write, due: Option<Instant>) {
    let facts = Facts { attempts: 1, ..Facts::default() };
    let state = job.state.next(&job.message, &outcome(reason), &facts, wall_clock(now()));
    queue.finish(job, Next::Settled { state, write, due });
}

/// Ends a job whose status is as before.
fn finish_write(queue: &mut Queue, job: &Job, due: Option<Instant>) {
    queue.finish(job, Next::Settled { state: job.state.clone(), write: Write::Done, due });
}

fn take(queue: &mut Queue, now: Instant) -> Option<Job> {
    queue.take(now, wall_clock(now))
}

/// A queue with this concurrency, while it leads.
fn leading(concurrency: usize) -> Queue {
    let mut queue = Queue::new(concurrency, PodLimits::default());
    queue.lead();
    queue
}

/// Returns the first job of this message.
fn start(queue: &mut Queue, object: &Value) -> Job {
    observe(queue, object);
    take(queue, now()).expect("a job")
}

/// A queue that leads, and the job of the message with this name, which is in flight.
fn started(name: &str) -> (Queue, Job) {
    let mut queue = leading(8);
    let job = start(&mut queue, &named(name));
    (queue, job)
}

/// A message whose spec has this many bytes.
fn large(name: &str, size: usize) -> Value {
    let spec = |length: usize| set(named(name), "/spec/message/body", json!({"a": "x".repeat(length)}));
    spec(size - spec(0)["spec"].to_string().len())
}

#[test]
fn one_job_per_message() {
    let mut queue = leading(8);
    observe(&mut queue, &named("a"));
    let jobs = take_all(&mut queue, now());
    assert_eq!(names(&jobs), ["a"]);
    assert_eq!(jobs[0].decision, Decision::Attempt);
    observe(&mut queue, &named("a"));
    assert!(take(&mut queue, now()).is_none(), "the watch reports it again while its job is in flight");
}

#[test]
fn sent_message_is_not_taken_again() {
    let (mut queue, job) = started("a");
    finish(&mut queue, &job, Reason::Sent, Write::Done, None);
    observe(&mut queue, &named("a"));
    observe(&mut queue, &set(named("a"), "/metadata/generation", 2.into()));
    queue.begin_sync(0);
    observe(&mut queue, &named("a"));
    queue.end_sync(0);
    assert!(take(&mut queue, in_seconds(1_000_000)).is_none());
    queue.forget("uid-of-a");
    assert_eq!(queue.pending(), 0);
}

#[test]
fn failed_status_write_is_repeated() {
    let (mut queue, job) = started("a");
    finish(&mut queue, &job, Reason::Sent, Write::RetryAt(in_seconds(2)), None);
    assert!(take(&mut queue, in_seconds(1)).is_none());
    let job = take(&mut queue, in_seconds(2)).expect("the write is due");
    assert_eq!((job.decision.clone(), job.unwritten), (Decision::Rest, true));
    assert_eq!(job.state.reason, Some(Reason::Sent));
    finish_write(&mut queue, &job, None);
    assert!(take(&mut queue, in_seconds(1_000_000)).is_none());
}

/// The object has no room for its status. The status is not written again, and the message is not
/// sent again, also before an operator ends.
#[test]
fn impossible_status_write_is_not_repeated() {
    let mut queue = leading(8);
    for (name, reason) in [("sent", Reason::Sent), ("refused", Reason::InvalidMessage)] {
        let job = start(&mut queue, &named(name));
        finish(&mut queue, &job, reason, Write::Impossible, None);
        assert!(take(&mut queue, in_seconds(1_000_000)).is_none());
        assert!(queue.is_at_rest());
    }
    let annotations = json!({"apps.fedoraproject.org/retry": "1"});
    observe(&mut queue, &set(named("refused"), "/metadata/annotations", annotations));
    let job = take(&mut queue, now()).expect("a retry");
    assert_eq!(job.last_reported, None, "its object says nothing");
}

#[test]
fn deletion_cancels_job() {
    let (mut queue, job) = started("a");
    assert!(!job.is_cancelled());
    queue.forget("uid-of-a");
    assert!(job.is_cancelled());
    queue.finish(&job, Next::NotTried(NotTried::Cancelled));
    assert_eq!((queue.pending(), queue.is_at_rest()), (0, true));

    // A list that lagged behind did not have it, but it is there.
    let job = start(&mut queue, &named("a"));
    queue.forget("uid-of-a");
    observe(&mut queue, &named("a"));
    let second = take(&mut queue, now()).expect("it is new to the queue");
    queue.finish(&job, Next::NotTried(NotTried::Cancelled));
    assert!(!second.is_cancelled());
    assert!(take(&mut queue, now()).is_none(), "its second job is still in flight");
    queue.finish(&second, Next::NotTried(NotTried::Cancelled));
    assert!(take(&mut queue, now()).is_some(), "it is tried");
}

#[test]
fn recreated_object_is_another_message() {
    let (mut queue, job) = started("a");
    queue.forget("uid-of-a");
    let anew = set(named("a"), "/metadata/uid", "another".into());
    observe(&mut queue, &anew);
    let second = take(&mut queue, now()).expect("the new one is sent");
    assert_eq!(second.message.uid(), "another");
    finish(&mut queue, &job, Reason::Sent, Write::Done, None);
    assert_eq!(queue.pending(), 1, "the new one is still under way");
}

#[test]
fn backoff_ends_when_due_or_broker_returns() {
    let mut queue = leading(8);
    for name in ["a", "b"] {
        let job = start(&mut queue, &named(name));
        finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Done, Some(in_seconds(60)));
    }
    assert_eq!(queue.next_due(), Some(in_seconds(60)));
    assert!(take(&mut queue, in_seconds(59)).is_none());
    queue.wake_environment(Environment::Stg);
    assert!(take(&mut queue, in_seconds(59)).is_none(), "it is the other environment's broker that is back");
    queue.wake_environment(Environment::Prod);
    assert_eq!(take_all(&mut queue, in_seconds(59)).len(), 2);
    assert_eq!(queue.next_due(), None);
}

/// Otherwise the recovery of other connections would use up its `backoffLimit`.
#[test]
fn broker_that_is_back_ends_no_answer_of_the_broker() {
    let mut queue = leading(8);
    for (name, reason) in [("full", Reason::Nacked), ("away", Reason::BrokerUnreachable)] {
        let job = start(&mut queue, &named(name));
        finish(&mut queue, &job, reason, Write::Done, Some(in_seconds(60)));
    }
    queue.wake_environment(Environment::Prod);
    assert_eq!(names(&take_all(&mut queue, now())), ["away"]);
}

/// Other Pods may take long.
#[test]
fn message_that_waits_for_a_pod_is_given_up_in_time() {
    let mut queue = Queue::new(8, PodLimits { concurrency: 1, always: true });
    queue.lead();
    let _first = start(&mut queue, &named("first"));
    let object = set(named("late"), "/spec/activeDeadlineSeconds", 60.into());
    observe(&mut queue, &set(object, "/metadata/creationTimestamp", NOW.into()));
    for (seconds, expected) in [(59, None), (60, Some(Reason::DeadlineExceeded))] {
        queue.give_up_late(wall_clock(in_seconds(seconds)));
        let reason = take(&mut queue, in_seconds(seconds)).map(|job| match job.decision {
            Decision::Report(outcome) => outcome.reason,
            decision => panic!("{decision:?}"),
        });
        assert_eq!(reason, expected, "after {seconds} s");
    }
}

/// A status that was not written yet is written before the next attempt.
#[test]
fn untried_message_keeps_its_status_write() {
    let mut queue = leading(8);
    let job = start(&mut queue, &named("a"));
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Queued, Some(in_seconds(60)));
    queue.wake_environment(Environment::Prod);
    let job = take(&mut queue, now()).expect("the broker is back");
    assert_eq!(job.decision, Decision::Attempt);
    queue.finish(&job, Next::NotTried(NotTried::RetryAt(in_seconds(60))));
    let job = take(&mut queue, now()).expect("the status");
    assert_eq!((&job.decision, job.due), (&Decision::Rest, Some(in_seconds(60))));
    finish_write(&mut queue, &job, job.due);
    assert!(take(&mut queue, in_seconds(59)).is_none());
    assert_eq!(take(&mut queue, in_seconds(60)).expect("it is due").decision, Decision::Attempt);
}

/// The Secret appears while a message that was given up is tried once more.
#[test]
fn secret_wakes_message_in_flight() {
    let mut queue = leading(8);
    let object = set(named("a"), "/spec/authentication", json!({"secretRef": {"name": "certs"}}));
    let job = start(&mut queue, &object);
    finish(&mut queue, &job, Reason::InvalidMessage, Write::Done, None);
    let retry = json!({"apps.fedoraproject.org/retry": "1"});
    let job = start(&mut queue, &set(object, "/metadata/annotations", retry));
    queue.wake_secret(&SourceName::secret(job.message.namespace(), "certs"), |_| true);
    finish(&mut queue, &job, Reason::SecretNotFound, Write::Done, None);
    assert!(take(&mut queue, now()).is_some(), "it looks at the Secret again");
}

/// The change comes while the job is in flight. An attempt that it does not concern is not repeated.
#[test]
fn change_repeats_only_attempts_that_it_concerns() {
    type Wake = fn(&mut Queue);
    let broker: Wake = |queue| queue.wake_environment(Environment::Prod);
    let other_broker: Wake = |queue| queue.wake_environment(Environment::Stg);
    let (senders, settings): (Wake, Wake) = (Queue::wake_without_sender, Queue::wake_misconfigured);
    let cases: [(&[Wake], Reason, bool); 9] = [
        (&[broker], Reason::BrokerUnreachable, true),
        (&[broker], Reason::Nacked, false),
        (&[other_broker], Reason::BrokerUnreachable, false),
        (&[senders], Reason::SenderNotFound, true),
        (&[senders], Reason::SecretInvalid, false),
        (&[settings], Reason::Misconfigured, true),
        (&[settings], Reason::Nacked, false),
        (&[senders, settings], Reason::SenderNotFound, true),
        (&[settings, settings], Reason::Nacked, false),
    ];
    for (wakes, reason, repeated) in cases {
        let (mut queue, job) = started("a");
        for wake in wakes {
            wake(&mut queue);
        }
        finish(&mut queue, &job, reason, Write::Done, Some(in_seconds(60)));
        assert_eq!(take(&mut queue, now()).is_some(), repeated, "{reason:?} after {} changes", wakes.len());
    }
}

#[test]
fn job_knows_that_it_was_woken_early() {
    let mut queue = leading(8);
    let job = start(&mut queue, &named("a"));
    assert_eq!(job.woken_early(now()), None, "its first attempt");
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Done, Some(in_seconds(60)));
    queue.wake_environment(Environment::Prod);
    let job = take(&mut queue, in_seconds(1)).expect("the broker is back");
    assert_eq!(job.woken_early(in_seconds(1)), Some((Reason::BrokerUnreachable, in_seconds(60))));
    queue.finish(&job, Next::NotTried(NotTried::RetryAt(in_seconds(60))));
    assert!(take(&mut queue, in_seconds(59)).is_none());
    let job = take(&mut queue, in_seconds(60)).expect("it is due");
    assert_eq!(job.woken_early(in_seconds(60)), None);
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Done, Some(in_seconds(120)));
    let mut object = named("a");
    let retry = json!({"apps.fedoraproject.org/retry": "1"});
    for (path, value) in [("/metadata/generation", json!(2)), ("/metadata/annotations", retry)] {
        object = set(object, path, value);
        observe(&mut queue, &object);
        let job = take(&mut queue, in_seconds(61)).expect("its author wants it now");
        assert_eq!(job.woken_early(in_seconds(61)), None, "{path}");
        finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Done, Some(in_seconds(120)));
    }
}

/// Deadlines may be in the far future.
#[test]
fn nothing_is_due_for_removed_messages() {
    let mut queue = leading(8);
    let wait = |queue: &mut Queue, name: &str| {
        let job = start(queue, &named(name));
        finish(queue, &job, Reason::SecretNotFound, Write::Done, Some(in_seconds(1_000_000)));
    };
    wait(&mut queue, "deleted");
    queue.forget("uid-of-deleted");
    assert_eq!(queue.next_due(), None);
    queue.begin_sync(0);
    wait(&mut queue, "missed");
    queue.begin_sync(0);
    queue.end_sync(0);
    assert_eq!(queue.next_due(), None, "the list did not have it");
    wait(&mut queue, "dropped");
    queue.lead();
    assert_eq!(queue.next_due(), None, "a new list follows");
    wait(&mut queue, "in-deletion");
    observe(&mut queue, &set(named("in-deletion"), "/metadata/deletionTimestamp", NOW.into()));
    assert_eq!((queue.next_due(), queue.pending()), (None, 0));
}

#[test]
fn clock_change_wakes_messages_that_came_too_late() {
    let mut queue = leading(8);
    for (name, reason) in [
        ("expired", Reason::CertificateExpired),
        ("given-up", Reason::DeadlineExceeded),
        ("waits", Reason::SecretNotFound),
    ] {
        let object = set(named(name), "/spec/activeDeadlineSeconds", 100.into());
        let job = start(&mut queue, &set(object, "/metadata/creationTimestamp", NOW.into()));
        let state = job.state.next(&job.message, &outcome(reason), &Facts::default(), wall_clock(in_seconds(3600)));
        queue.finish(&job, Next::Settled { state, write: Write::Done, due: None });
    }
    assert!(take(&mut queue, in_seconds(1)).is_none());
    queue.wake_after_clock_change(wall_clock(in_seconds(1)));
    let mut jobs = take_all(&mut queue, in_seconds(1));
    jobs.sort_by_key(|job| job.message.name().to_owned());
    assert_eq!(names(&jobs), ["expired", "given-up"]);
    assert!(jobs.iter().all(|job| job.decision == Decision::Attempt));

    queue.wake_after_clock_change(wall_clock(in_seconds(100)));
    let late = queue.take(in_seconds(1), wall_clock(in_seconds(100))).expect("its deadline has passed");
    assert_eq!(late.message.name(), "waits");
    assert!(matches!(late.decision, Decision::Report(outcome) if outcome.reason == Reason::DeadlineExceeded));
}

#[test]
fn wake_during_attempt_is_kept() {
    let (mut queue, job) = started("a");
    queue.wake_environment(Environment::Prod);
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Done, Some(in_seconds(300)));
    assert_eq!(names(&take_all(&mut queue, now())), ["a"]);
}

#[test]
fn changed_secret_wakes_its_messages() {
    let mut queue = leading(8);
    let own = set(named("own"), "/spec/authentication", json!({"secretRef": {"name": "certs"}}));
    let key = |name: &str| json!({"name": name, "key": "pem", "namespace": "keys"});
    let three = json!({"caSecretRef": key("ca"), "certSecretRef": key("cert"), "keySecretRef": key("key")});
    let three = set(named("three"), "/spec/authentication", three);
    for object in [&own, &three] {
        let job = start(&mut queue, object);
        finish(&mut queue, &job, Reason::SecretNotFound, Write::Done, None);
    }
    let secret = |namespace: &str, name: &str| SourceName::secret(namespace, name);
    assert_eq!(
        queue.needed_secrets(),
        [("apps", "certs"), ("keys", "ca"), ("keys", "cert"), ("keys", "key")]
            .map(|(namespace, name)| secret(namespace, name))
            .into()
    );
    queue.wake_secret(&secret("keys", "key"), |namespace| namespace != "apps");
    queue.wake_secret(&secret("keys", "certs"), |_| true);
    assert!(take(&mut queue, now()).is_none());
    queue.wake_secret(&secret("apps", "certs"), |_| true);
    assert_eq!(names(&take_all(&mut queue, now())), ["own"]);
    queue.wake_secret(&secret("keys", "key"), |_| true);
    assert_eq!(names(&take_all(&mut queue, now())), ["three"]);
}

/// A message of another namespace learns of the Sender only while it may use it.
#[test]
fn changed_sender_wakes_its_messages() {
    let mut queue = leading(8);
    let of = |name: &str, namespace: &str| {
        let spec = json!({
            "message": {"topic": "nice.message", "body": {}}, "senderRef": {"name": "shared", "namespace": "owner"},
        });
        set(set(named(name), "/spec", spec), "/metadata/namespace", namespace.into())
    };
    for (name, namespace) in [("own", "owner"), ("guest", "guest"), ("stranger", "stranger")] {
        let job = start(&mut queue, &of(name, namespace));
        assert_eq!(job.message.environment(), None, "only the Sender names it");
        finish(&mut queue, &job, Reason::SenderNotFound, Write::Done, None);
    }
    let shared = SenderName::new("owner", "shared");
    let fields = SummaryFields {
        environment: Some(Environment::Stg),
        sources: vec![SourceName::secret("owner", "certs")],
        ..SummaryFields::default()
    };
    let fields = Arc::new(fields);
    let allowed = |_: &SenderName, namespace: &str| (namespace != "stranger").then(|| fields.clone());
    let wake =
        |queue: &mut Queue, name: &SenderName, fields: &dyn Fn(&SenderName, &str) -> Option<Arc<SummaryFields>>| {
            queue.wake_senders(&[name.clone()].into(), fields);
            take_all(queue, now())
        };
    let other = SenderName::new("owner", "other");
    assert!(wake(&mut queue, &other, &allowed).is_empty());
    let jobs = wake(&mut queue, &shared, &allowed);
    let mut woken = names(&jobs);
    woken.sort_unstable();
    assert_eq!(woken, ["guest", "own"]);
    assert!(jobs.iter().all(|job| job.message.environment() == Some(Environment::Stg)));
    assert_eq!(queue.needed_secrets(), [SourceName::secret("owner", "certs")].into());
    for job in &jobs {
        finish(&mut queue, job, Reason::BrokerUnreachable, Write::Done, None);
    }
    queue.wake_secret(&SourceName::secret("owner", "certs"), |namespace| namespace == "owner");
    let jobs = take_all(&mut queue, now());
    assert_eq!(jobs.len(), 2, "the Secret is the Sender's, in its namespace");
    for job in &jobs {
        finish(&mut queue, job, Reason::BrokerUnreachable, Write::Done, None);
    }
    assert_eq!(wake(&mut queue, &shared, &|_, _| None).len(), 2, "those that could use it learn that it is gone");
    assert_eq!(queue.needed_secrets(), HashSet::new());
}

#[test]
fn change_during_job_is_seen_after() {
    let (mut queue, job) = started("a");
    let suspended = set(set(named("a"), "/spec/suspend", true.into()), "/metadata/generation", 2.into());
    observe(&mut queue, &suspended);
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Done, Some(in_seconds(60)));
    let job = take(&mut queue, now()).expect("it is looked at again");
    assert_eq!(job.decision, Decision::Report(Outcome::suspended()));
}

#[test]
fn given_up_message_rests_until_retry() {
    let (_, job) = started("a");
    let facts = Facts { attempts: 1, ..Facts::default() };
    let refused = outcome(Reason::MessageTooLarge);
    let state = MessageState::default().next(&job.message, &refused, &facts, wall_clock(now()));
    let stored = set(named("a"), "/status", serde_json::to_value(state.to_status("uid-of-a")).unwrap());

    let mut restarted = leading(8);
    observe(&mut restarted, &stored);
    assert!(take(&mut restarted, now()).is_none());
    let annotations = json!({"apps.fedoraproject.org/retry": "1"});
    observe(&mut restarted, &set(stored, "/metadata/annotations", annotations));
    assert_eq!(take(&mut restarted, now()).expect("a retry").decision, Decision::Attempt);
}

#[test]
fn deadline_ends_wait_for_secret() {
    let mut queue = leading(8);
    let object = set(named("a"), "/spec/activeDeadlineSeconds", 100.into());
    let job = start(&mut queue, &set(object, "/metadata/creationTimestamp", NOW.into()));
    finish(&mut queue, &job, Reason::SecretNotFound, Write::Done, Some(in_seconds(100)));
    assert!(take(&mut queue, in_seconds(99)).is_none());
    let job = take(&mut queue, in_seconds(100)).expect("the deadline has come");
    let Decision::Report(outcome) = job.decision else { panic!("{:?}", job.decision) };
    assert_eq!(outcome.reason, Reason::DeadlineExceeded);
}

#[test]
fn concurrency_is_per_environment() {
    let mut queue = leading(2);
    for n in 0..5 {
        observe(&mut queue, &named(&format!("prod{n}")));
    }
    let jobs = take_all(&mut queue, now());
    assert_eq!(jobs.len(), 2);
    observe(&mut queue, &set(named("stg"), "/spec/env", "stg".into()));
    assert_eq!(names(&take_all(&mut queue, now())), ["stg"]);
    finish(&mut queue, &jobs[0], Reason::Sent, Write::Done, None);
    assert_eq!(take_all(&mut queue, now()).len(), 1);
}

#[test]
fn namespaces_take_turns() {
    let mut queue = leading(100);
    for n in 0..5 {
        observe(&mut queue, &named(&format!("many{n}")));
    }
    observe(&mut queue, &set(named("single"), "/metadata/namespace", "other".into()));
    let jobs = take_all(&mut queue, now());
    let turn = names(&jobs).iter().position(|name| *name == "single");
    assert_eq!(turn, Some(1), "{:?}", names(&jobs));
}

#[test]
fn list_removes_absent_messages_of_its_scope() {
    let mut queue = leading(8);
    queue.begin_sync(0);
    queue.begin_sync(1);
    observe(&mut queue, &named("a"));
    observe(&mut queue, &named("b"));
    queue.observe(1, message(&named("c")), now());
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
fn unreadable_message_gets_a_job() {
    let mut queue = leading(1);
    observe(&mut queue, &named("good"));
    observe(&mut queue, &set(named("bad"), "/spec/env", "dev".into()));
    assert_eq!(take_all(&mut queue, now()).len(), 2);
}

#[test]
fn failure_is_recorded_before_next_attempt() {
    let (mut queue, job) = started("a");
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Queued, Some(in_seconds(60)));
    let job = take(&mut queue, now()).expect("its status is to be written");
    assert_eq!((job.decision.clone(), job.due, job.last_reported), (Decision::Rest, Some(in_seconds(60)), None));
    finish_write(&mut queue, &job, job.due);
    assert!(take(&mut queue, in_seconds(59)).is_none());
    let job = take(&mut queue, in_seconds(60)).expect("it is tried again");
    assert_eq!((job.decision, job.last_reported), (Decision::Attempt, Some(Reason::BrokerUnreachable)));
}

#[test]
fn failures_take_no_job_from_sendable_messages() {
    let mut queue = leading(16);
    for n in 0..40 {
        observe(&mut queue, &named(&format!("bad{n}")));
    }
    let mut failed = 0;
    while failed < 40 {
        let job = take(&mut queue, now()).expect("a message that was not tried, or a status");
        let write = if job.decision == Decision::Attempt { Write::Queued } else { Write::Done };
        failed += usize::from(write == Write::Queued);
        finish(&mut queue, &job, Reason::SecretInvalid, write, None);
    }
    for n in 0..17 {
        observe(&mut queue, &named(&format!("good{n}")));
    }
    let jobs = take_all(&mut queue, now());
    assert_eq!(jobs.iter().filter(|job| job.decision == Decision::Attempt).count(), 16);
    assert!(jobs.len() <= 16 + 1, "{} failures are recorded at a time while one waits", jobs.len() - 16);
}

#[test]
fn returned_broker_goes_before_status_write() {
    let (mut queue, job) = started("a");
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Queued, Some(in_seconds(60)));
    queue.wake_environment(Environment::Prod);
    let jobs = take_all(&mut queue, now());
    assert_eq!(jobs.iter().map(|job| job.decision.clone()).collect::<Vec<_>>(), [Decision::Attempt]);
}

#[test]
fn failed_status_write_moves_no_attempt() {
    let (mut queue, job) = started("a");
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::RetryAt(in_seconds(2)), Some(in_seconds(60)));
    let job = take(&mut queue, in_seconds(2)).expect("the write is due");
    assert_eq!(job.decision, Decision::Rest);
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::RetryAt(in_seconds(60)), Some(in_seconds(60)));
    assert_eq!(take(&mut queue, in_seconds(60)).expect("the attempt is due").decision, Decision::Attempt);
}

#[test]
fn wall_clock_steps_move_no_attempt() {
    for hours in [-1, 1] {
        let (mut queue, job) = started("a");
        finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Done, Some(in_seconds(60)));
        let stepped = |time| wall_clock(time) + TimeDelta::hours(hours);
        assert!(queue.take(in_seconds(59), stepped(in_seconds(59))).is_none());
        assert!(queue.take(in_seconds(60), stepped(in_seconds(60))).is_some());
    }
}

#[test]
fn forgotten_message_is_not_due() {
    let mut queue = leading(8);
    for uid in ["uid-of-a", "uid-of-b"] {
        let name = uid.strip_prefix("uid-of-").unwrap();
        queue.begin_sync(0);
        let job = start(&mut queue, &named(name));
        finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Done, Some(in_seconds(60)));
    }
    queue.end_sync(0);
    assert_eq!(queue.next_due(), Some(in_seconds(60)), "only the second list's message is left");
    queue.forget("uid-of-b");
    assert_eq!(queue.next_due(), None);
}

#[test]
fn only_leader_sends() {
    let mut queue = Queue::new(8, PodLimits::default());
    observe(&mut queue, &named("a"));
    assert!(take(&mut queue, now()).is_none());
    queue.lead();
    assert!(take(&mut queue, now()).is_none(), "what was known before may have been sent by another since");
    let job = start(&mut queue, &named("a"));
    queue.follow();
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Queued, Some(in_seconds(60)));
    observe(&mut queue, &named("b"));
    assert!(take(&mut queue, in_seconds(1_000_000)).is_none(), "neither messages nor failures");
}

/// Returns the number of uids that wait for a job, with those of messages that are gone.
fn waiting_uids(queue: &Queue) -> usize {
    queue.queues.values().map(FairQueue::len).sum()
}

/// Texts of a single message go with it. Between free memory, they would keep the allocator from giving
/// that back.
#[test]
fn gone_messages_release_their_texts() {
    const COUNT: usize = 2_000;
    let secret = |n: usize| set(named(&n.to_string()), "/spec/authentication/secretRef/name", n.to_string().into());
    let mut queue = leading(COUNT);
    for n in 0..COUNT {
        observe(&mut queue, &secret(n));
    }
    for job in std::iter::from_fn(|| take(&mut queue, now())).collect::<Vec<_>>() {
        finish(&mut queue, &job, Reason::SecretNotFound, Write::Done, None);
    }
    assert!(queue.compactor.len() > COUNT, "{}", queue.compactor.len());
    for n in 0..COUNT - 1 {
        queue.forget(&format!("uid-of-{n}"));
    }
    let (values, capacity) = (queue.compactor.len(), queue.entries.capacity());
    assert!(values < 300 && capacity < 1_000, "{values} values, room for {capacity} entries");
}

/// Messages that others send leave nothing behind, in any order of leading and following.
#[test]
fn gone_messages_leave_nothing() {
    const COUNT: usize = 2_000;
    for leads in [false, true] {
        let mut queue = Queue::new(8, PodLimits::default());
        if leads {
            queue.lead();
        }
        for n in 0..COUNT {
            observe(&mut queue, &named(&n.to_string()));
            queue.forget(&format!("uid-of-{n}"));
        }
        assert!(waiting_uids(&queue) < 100, "{} with {leads}", waiting_uids(&queue));
    }

    let mut queue = leading(8);
    for n in 0..COUNT {
        observe(&mut queue, &named(&n.to_string()));
    }
    let jobs: Vec<_> = std::iter::from_fn(|| take(&mut queue, now())).collect();
    queue.follow();
    for n in 0..COUNT - 100 {
        queue.forget(&format!("uid-of-{n}"));
    }
    assert!(waiting_uids(&queue) < 300, "{}", waiting_uids(&queue));
    for job in &jobs {
        finish(&mut queue, job, Reason::BrokerUnreachable, Write::Queued, Some(in_seconds(60)));
    }
    queue.lead();
    assert_eq!((waiting_uids(&queue), queue.pending(), queue.next_due()), (0, 0, None));
    observe(&mut queue, &named("new"));
    assert_eq!(names(&take_all(&mut queue, now())), ["new"]);
}

#[test]
fn sent_message_is_recorded_after_term() {
    let (mut queue, job) = started("a");
    queue.follow();
    assert!(!queue.is_at_rest());
    finish(&mut queue, &job, Reason::Sent, Write::RetryAt(in_seconds(2)), None);
    assert!(!queue.is_at_rest(), "it is sent and not recorded");
    queue.lead();
    observe(&mut queue, &named("a"));
    queue.follow();
    let job = take(&mut queue, in_seconds(2)).expect("its status is to be written");
    assert_eq!((job.decision.clone(), job.state.reason), (Decision::Rest, Some(Reason::Sent)));
    finish_write(&mut queue, &job, None);
    assert!(queue.is_at_rest());
    assert!(take(&mut queue, in_seconds(1_000_000)).is_none());
}

#[test]
fn job_in_flight_survives_new_term() {
    let (mut queue, job) = started("a");
    queue.follow();
    queue.lead();
    observe(&mut queue, &named("a"));
    assert!(take(&mut queue, now()).is_none());
    finish(&mut queue, &job, Reason::Sent, Write::Done, None);
    assert!(take(&mut queue, now()).is_none());
}

#[test]
fn term_waits_for_jobs_in_flight() {
    let (mut queue, job) = started("a");
    queue.follow();
    assert!(!queue.may_lead());
    queue.forget("uid-of-a");
    assert!(!queue.may_lead(), "another operator has sent it, and the job does not know");
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Queued, None);
    assert!(queue.may_lead());
}

#[test]
fn term_does_not_wait_for_status_writes() {
    let (mut queue, job) = started("a");
    finish(&mut queue, &job, Reason::Sent, Write::RetryAt(in_seconds(2)), None);
    queue.follow();
    take(&mut queue, in_seconds(2)).expect("its status is to be written");
    assert!(queue.may_lead());
}

#[test]
fn pending_by_environment_and_age() {
    let mut queue = leading(8);
    let created = |object: Value, age: i64| {
        set(object, "/metadata/creationTimestamp", (at(NOW) - TimeDelta::seconds(age)).to_rfc3339().into())
    };
    observe(&mut queue, &created(named("new"), 0));
    observe(&mut queue, &created(named("old"), 90));
    observe(&mut queue, &created(set(named("other"), "/spec/env", "stg".into()), 3600));
    observe(&mut queue, &created(set(named("unreadable"), "/spec/env", "nowhere".into()), 60));
    observe(&mut queue, &created(named("held"), 7200));
    let jobs = take_all(&mut queue, now());
    let held = jobs.iter().find(|job| job.message.name() == "held").unwrap();
    finish(&mut queue, held, Reason::Suspended, Write::Done, None);
    let sent = jobs.iter().find(|job| job.message.name() == "new").unwrap();
    let ages = [0, 60, 600].map(TimeDelta::seconds);
    let [prod, stg] = [Environment::Prod, Environment::Stg].map(Some);
    assert_eq!(queue.pending_by_age(wall_clock(now()), ages), [(prod, [2, 1, 0]), (stg, [1, 1, 1]), (None, [1, 1, 0])]);
    finish(&mut queue, sent, Reason::Sent, Write::Done, None);
    assert_eq!(queue.pending_by_age(wall_clock(now()), ages)[0], (prod, [1, 1, 0]));
}

#[test]
fn knows_oldest_message_of_each_namespace() {
    let mut queue = leading(8);
    for (name, namespace, seconds) in [("a", "new", 5), ("b", "old", 90), ("c", "old", 30), ("held", "held", 3600)] {
        let object = set(named(name), "/metadata/namespace", namespace.into());
        let created = wall_clock(now()) - TimeDelta::seconds(seconds);
        observe(&mut queue, &set(object, "/metadata/creationTimestamp", created.to_rfc3339().into()));
    }
    let jobs = take_all(&mut queue, now());
    let held = jobs.iter().find(|job| job.message.name() == "held").unwrap();
    finish(&mut queue, held, Reason::Suspended, Write::Done, None);
    let oldest = |limit| queue.oldest_by_namespace(wall_clock(now()), limit);
    let [old, new] = [("old", 90), ("new", 5)].map(|(name, age)| (name.to_owned(), TimeDelta::seconds(age)));
    assert_eq!(oldest(500), [old.clone(), new]);
    assert_eq!(oldest(1), [old]);
    assert_eq!(oldest(0), []);
}

#[test]
fn message_is_seen_anew_when_its_spec_changes() {
    let mut queue = leading(8);
    let suspended = set(named("a"), "/spec/suspend", true.into());
    queue.observe(0, message(&suspended), now());
    let job = take(&mut queue, now()).expect("a job");
    assert_eq!(job.seen, now());
    finish(&mut queue, &job, Reason::Suspended, Write::Done, None);
    // A list has it as it was.
    queue.observe(0, message(&suspended), in_seconds(30));
    let resumed = set(set(suspended, "/spec/suspend", false.into()), "/metadata/generation", 2.into());
    queue.observe(0, message(&resumed), in_seconds(60));
    assert_eq!(take(&mut queue, in_seconds(60)).expect("a job").seen, in_seconds(60));
}

/// The names of those to work on, each taken and forgotten; and if their specs were left.
fn take_one_by_one(queue: &mut Queue) -> Vec<(String, bool)> {
    let mut jobs = Vec::new();
    while let Some(job) = take(queue, now()) {
        assert_eq!(job.without_spec, job.message.spec_json.is_none());
        jobs.push((job.message.name().to_owned(), job.without_spec));
        queue.finish(&job, Next::NotTried(NotTried::RetryAt(now())));
        queue.forget(job.message.uid());
    }
    jobs
}

#[test]
fn suspension_cancels_job() {
    let (mut queue, job) = started("a");
    let suspended = set(set(named("a"), "/spec/suspend", true.into()), "/metadata/generation", 2.into());
    observe(&mut queue, &suspended);
    assert!(job.is_cancelled());
    queue.finish(&job, Next::NotTried(NotTried::Cancelled));
    let job = take(&mut queue, now()).expect("a job");
    assert_eq!(job.decision, Decision::Report(Outcome::suspended()));
    assert!(!job.is_cancelled());
}

/// In whatever state it is: new, waiting, in flight, or confirmed.
#[test]
fn message_in_deletion_is_gone() {
    let deleting = |name: &str| set(named(name), "/metadata/deletionTimestamp", NOW.into());
    let mut queue = leading(8);
    observe(&mut queue, &deleting("new"));
    assert!(take(&mut queue, now()).is_none());

    let job = start(&mut queue, &named("waiting"));
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Done, Some(in_seconds(60)));
    observe(&mut queue, &deleting("waiting"));
    assert_eq!((queue.pending(), queue.next_due()), (0, None));

    let job = start(&mut queue, &named("in-flight"));
    observe(&mut queue, &deleting("in-flight"));
    assert!(job.is_cancelled());
    finish(&mut queue, &job, Reason::BrokerUnreachable, Write::Queued, None);
    assert!(take(&mut queue, in_seconds(1_000_000)).is_none());

    // A list that has it does not bring it back.
    queue.begin_sync(0);
    observe(&mut queue, &deleting("in-flight"));
    queue.end_sync(0);
    assert!(take(&mut queue, in_seconds(1_000_000)).is_none());
}

#[test]
fn large_specs_have_a_limit() {
    let mut queue = leading(8);
    for (name, size) in [
        ("a", MAX_LARGE_BYTES / 2),
        ("b", MAX_LARGE_BYTES / 2),
        ("large", MAX_SMALL_SIZE + 1),
        ("small", MAX_SMALL_SIZE),
    ] {
        observe(&mut queue, &large(name, size));
    }
    observe(&mut queue, &large("a", MAX_LARGE_BYTES / 2));
    let jobs = take_one_by_one(&mut queue);
    let expected = [("a", false), ("b", false), ("large", true), ("small", false)];
    assert_eq!(jobs, expected.map(|(name, left)| (name.to_owned(), left)));

    observe(&mut queue, &large("later", MAX_SMALL_SIZE + 1));
    assert_eq!(take_one_by_one(&mut queue), [("later".to_owned(), false)], "a permit is free again");
}

#[test]
fn headers_and_annotation_count_as_large() {
    let header = |name: &str| set(named(name), "/spec/message/headers", json!({"large": "x".repeat(MAX_SMALL_SIZE)}));
    let annotation =
        json!({"kubectl.kubernetes.io/last-applied-configuration": format!("null{}", "x".repeat(MAX_SMALL_SIZE))});
    let applied = |name: &str| set(named(name), "/metadata/annotations", annotation.clone());
    let mut queue = leading(8);
    observe(&mut queue, &large("full", MAX_LARGE_BYTES - 3 * MAX_SMALL_SIZE));
    for object in [header("header"), applied("applied"), header("over"), applied("also-over")] {
        observe(&mut queue, &object);
    }
    let expected = [("full", false), ("header", false), ("applied", false), ("over", true), ("also-over", true)];
    assert_eq!(take_one_by_one(&mut queue), expected.map(|(name, left)| (name.to_owned(), left)));
}

#[test]
fn bytes_in_flight_have_a_limit() {
    let mut queue = leading(8);
    for name in ["a", "b", "c", "d"] {
        observe(&mut queue, &large(name, 3 << 20));
    }
    let jobs = take_all(&mut queue, now());
    assert_eq!(names(&jobs), ["a", "b", "c"]);
    finish(&mut queue, &jobs[0], Reason::Sent, Write::Done, None);
    assert_eq!(names(&take_all(&mut queue, now())), ["d"]);
}

#[test]
fn untried_message_is_tried_later() {
    let (mut queue, job) = started("a");
    queue.finish(&job, Next::NotTried(NotTried::RetryAt(in_seconds(2))));
    assert!(take(&mut queue, in_seconds(1)).is_none());
    let job = take(&mut queue, in_seconds(2)).expect("it is time");
    assert_eq!((&job.decision, job.unwritten), (&Decision::Attempt, false));

    observe(&mut queue, &set(named("a"), "/metadata/generation", 2.into()));
    queue.finish(&job, Next::NotTried(NotTried::RetryAt(in_seconds(9))));
    let job = take(&mut queue, now()).expect("it has changed meanwhile");
    assert_eq!(job.message.metadata.generation, Some(2));
}
