//! Leader election, step by step: who takes the Lease, and when.

use std::time::Duration;

use crate::cluster::fake_api::{self, Reply};
use crate::cluster::leader_election::{
    Elector, ElectorReports, Leadership, LeaseStep, Moment, Observed, decide, released, taken,
};
use crate::cluster::watch::{WatchMonitor, Watches};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

const ME: &str = "me";

fn time() -> MicroTime {
    MicroTime(Timestamp::UNIX_EPOCH)
}

fn held_by(holder: &str) -> Lease {
    taken(None, "lease", holder, time())
}

/// A Lease that was first seen so at this time.
fn observed(lease: Lease, since: Instant) -> Observed {
    Observed { lease: Some(lease), since: Some(since), ..Observed::default() }
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn what_was_never_read_is_read_first() {
    assert_eq!(decide(&Observed::default(), ME, None, Instant::now()), LeaseStep::Read);
}

#[test]
fn a_lease_that_is_absent_or_released_is_taken_at_once() {
    let now = Instant::now();
    assert_eq!(decide(&Observed { since: Some(now), ..Observed::default() }, ME, None, now), LeaseStep::Take);
    assert_eq!(decide(&observed(released(&held_by("other"), time()), now), ME, None, now), LeaseStep::Take);
}

#[test]
fn foreign_lease_is_taken_only_after_its_duration() {
    let start = Instant::now();
    let observed = observed(held_by("other"), start);
    assert_eq!(decide(&observed, ME, None, after(start, 14)), LeaseStep::WaitUntil(after(start, 15)));
    assert_eq!(decide(&observed, ME, None, after(start, 15)), LeaseStep::Take);
}

#[test]
fn deleted_lease_is_taken_only_after_its_duration() {
    let start = Instant::now();
    let observed = Observed { since: Some(start), deleted_until: Some(after(start, 15)), ..Observed::default() };
    assert_eq!(decide(&observed, ME, None, after(start, 14)), LeaseStep::WaitUntil(after(start, 15)));
    assert_eq!(decide(&observed, ME, None, after(start, 15)), LeaseStep::Take);
}

#[test]
fn ones_own_lease_is_renewed_every_two_seconds() {
    let start = Instant::now();
    let observed = observed(held_by(ME), start);
    assert_eq!(decide(&observed, ME, Some(start), after(start, 1)), LeaseStep::WaitUntil(after(start, 2)));
    assert_eq!(decide(&observed, ME, Some(start), after(start, 2)), LeaseStep::Take);
    assert_eq!(decide(&observed, ME, None, start), LeaseStep::Take, "its answer was lost");
}

#[test]
fn a_lease_counts_how_often_its_holder_changed() {
    let transitions = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
    let first = held_by("other");
    let renewed = taken(Some(&first), "lease", "other", time());
    let mine = taken(Some(&renewed), "lease", ME, time());
    assert_eq!([&first, &renewed, &mine].map(transitions), [Some(0), Some(0), Some(1)]);
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_term_ends_by_itself() {
    let start = Moment::now();
    let leadership = Leadership::Leader { term: 1, until: start + seconds(10) };
    assert!(leadership.holds(start + seconds(9)) && !leadership.holds(start + seconds(10)));
    assert!(!Leadership::Unknown.holds(start) && !Leadership::Follower.holds(start) && Leadership::Always.holds(start));
}

/// Both clocks run while the machine is suspended, and only the wall clock shows that a hypervisor
/// paused it. A wall clock that is set back does not make the term longer.
#[test]
fn a_term_ends_by_each_clock() {
    let start = Moment::now();
    let leadership = Leadership::Leader { term: 1, until: start + seconds(10) };
    let clocks = |boot: u64, wall: u64| Moment { boot: start.boot + seconds(boot), wall: start.wall + seconds(wall) };
    assert!(leadership.holds(clocks(9, 9)));
    assert!(!leadership.holds(clocks(3600, 3600)), "the machine was suspended");
    assert!(!leadership.holds(clocks(1, 3600)), "the machine was paused");
    let set_back = |boot: u64| Moment { wall: start.wall - seconds(3600), ..clocks(boot, 0) };
    assert!(leadership.holds(set_back(9)) && !leadership.holds(set_back(10)));
    assert_eq!(clocks(4, 3).until(start + seconds(10)), seconds(6));
}

#[test]
fn a_leader_may_send_only_in_the_term_that_it_has_begun() {
    let start = Moment::now();
    let leadership = Leadership::Leader { term: 2, until: start + seconds(10) };
    let begun = [None, Some(1), Some(2)];
    assert_eq!(begun.map(|begun| leadership.admits(begun, start + seconds(9))), [false, false, true]);
    assert!(!leadership.admits(Some(2), start + seconds(10)));
    assert!(Leadership::Always.admits(Some(0), start) && !Leadership::Follower.admits(None, start));
}

/// Starts an elector, and returns the receivers of its reports.
fn elect(client: Client) -> (watch::Receiver<Leadership>, watch::Receiver<Option<String>>) {
    let (leadership, led) = watch::channel(Leadership::Unknown);
    let (not_ready_reason, reason) = watch::channel(None);
    let reports = ElectorReports { leadership, not_ready_reason };
    let watches = Watches::new(client, WatchMonitor::default());
    let elector = Elector::new(watches, "default", "lease".to_owned(), ME.to_owned(), reports);
    tokio::spawn(elector.run(std::future::pending()));
    (led, reason)
}

/// The API server accepts the request for a watch, and never answers it.
#[tokio::test(start_paused = true)]
async fn takes_a_free_lease_although_its_watch_is_silent() {
    let held = json!({
        "metadata": {"name": "lease", "resourceVersion": "5"},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15},
    });
    let own = json!({"metadata": {"name": "lease", "resourceVersion": "6"}, "spec": {"holderIdentity": ME}});
    let (client, requests) = fake_api::client([Reply::Json(held), Reply::Silence, Reply::Json(own)]);
    let (mut led, _) = elect(client);
    let leads = led.wait_for(|leadership| leadership.term() == Some(1));
    timeout(Duration::from_secs(20), leads).await.expect("it leads soon after the Lease is free").expect("it reports");
    assert_eq!(requests.take(), ["GET", "watch 5", "PUT"]);
}

/// A Lease in this version, for 20 seconds.
fn lease(version: &str, holder: &str) -> Value {
    json!({
        "metadata": {"name": "lease", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 20},
    })
}

/// The old leader may send until its next renewal fails.
#[tokio::test(start_paused = true)]
async fn deleted_lease_is_created_after_its_duration() {
    let deleted = json!({"type": "DELETED", "object": lease("6", "other")});
    let replies = [Reply::Json(lease("5", "other")), Reply::SilentAfter(vec![deleted]), Reply::Json(lease("7", ME))];
    let (client, requests) = fake_api::client(replies);
    let (mut led, _) = elect(client);
    assert!(timeout(seconds(19), led.wait_for(|leadership| leadership.term().is_some())).await.is_err());
    assert_eq!(requests.take(), ["GET", "watch 5"]);
    let leads = led.wait_for(|leadership| leadership.term() == Some(1));
    timeout(seconds(2), leads).await.expect("it leads soon after the Lease has ended").expect("it reports");
    assert_eq!(requests.take(), ["POST"]);
}

/// The Lease that is there counts, and not the one that was deleted.
#[tokio::test(start_paused = true)]
async fn lease_that_is_created_again_is_taken_once_it_is_free() {
    let events = [("DELETED", lease("6", "other")), ("ADDED", lease("7", ""))];
    let events = events.map(|(kind, lease)| json!({"type": kind, "object": lease}));
    let replies = [Reply::Json(lease("5", "other")), Reply::SilentAfter(events.into()), Reply::Json(lease("8", ME))];
    let (client, requests) = fake_api::client(replies);
    let (mut led, _) = elect(client);
    let leads = led.wait_for(|leadership| leadership.term() == Some(1));
    timeout(seconds(1), leads).await.expect("it leads at once").expect("it reports");
    assert_eq!(requests.take(), ["GET", "watch 5", "PUT"]);
}

/// Each request gets a 404, like those for a Lease that is absent.
#[tokio::test(start_paused = true)]
async fn absent_namespace_is_reported() {
    let message = r#"namespaces "default" not found"#;
    let absent = || Reply::Refusal(json!({"kind": "Status", "reason": "NotFound", "code": 404, "message": message}));
    let own = json!({"metadata": {"name": "lease", "resourceVersion": "6"}, "spec": {"holderIdentity": ME}});
    let (client, requests) = fake_api::client([absent(), absent(), absent(), Reply::Json(own)]);
    let begin = Instant::now();
    let (mut led, mut reason) = elect(client);
    let text = r#"its namespace does not exist: create it, or set --lease-namespace (namespaces "default" not found)"#;
    let reported = reason.wait_for(|reason| reason.as_ref().is_some_and(|reason| reason.ends_with(text)));
    timeout(seconds(1), reported).await.expect("it is not ready").expect("it reports");
    let leads = led.wait_for(|leadership| leadership.term() == Some(1));
    timeout(seconds(20), leads).await.expect("it leads once the namespace is there").expect("it reports");
    assert_eq!(*reason.borrow(), None);
    assert!(begin.elapsed() >= seconds(4), "it pauses after each failure");
    assert_eq!(requests.take(), ["GET", "POST", "POST", "POST"]);
}
