//! Behavior of a watch when requests end, fail or fall silent.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::cluster::fake_api::{self, Reply, Requests, refusal};

/// Within this time everything happens that waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A silent connection is detected within this time.
const DETECTED: Duration = Duration::from_secs(91);
/// Pauses after a failure last no longer.
const PAUSE: Duration = Duration::from_secs(31);

fn message(version: &str) -> Value {
    json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage",
        "metadata": {"namespace": "apps", "name": "hello", "uid": "u", "resourceVersion": version},
    })
}

fn pod(version: &str) -> Value {
    json!({"metadata": {"namespace": "apps", "name": "hello", "resourceVersion": version}})
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn list(version: &str) -> Reply {
    Reply::Json(json!({"metadata": {"resourceVersion": version}, "items": []}))
}

fn expired() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"})
}

/// A request that ends on time, and has reported nothing.
fn quiet() -> Reply {
    Reply::Events(vec![], 1.0)
}

/// The watch on messages, with its events in short.
struct Messages {
    watch: SelectAll<BoxStream<'static, (usize, Event<FedoraMessage>)>>,
    monitor: WatchMonitor,
    requests: Requests,
}

impl Messages {
    fn new(replies: Vec<Reply>) -> Self {
        let (client, requests) = fake_api::client(replies);
        let watches = Watches::new(client, WatchMonitor::default());
        Self { watch: watches.pending(&[]), monitor: watches.monitor().clone(), requests }
    }

    /// Returns the next event, if it comes in time.
    async fn next(&mut self, within: Duration) -> Option<String> {
        let (_, event) = timeout(within, self.watch.next()).await.ok()??;
        Some(match event {
            Event::Begin => "begin".to_owned(),
            Event::Seen(message) => format!("seen {}", message.metadata.resource_version.unwrap_or_default()),
            Event::Gone(message) => format!("gone {}", message.metadata.resource_version.unwrap_or_default()),
            Event::Complete => "complete".to_owned(),
            Event::Failed(error) => error.to_string(),
        })
    }

    async fn expect(&mut self, within: Duration, events: &[&str]) {
        for event in events {
            assert_eq!(self.next(within).await.as_deref(), Some(*event));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn resumes_from_the_last_version_after_a_regular_end() {
    let changes = vec![event("ADDED", &message("6")), event("DELETED", &message("7"))];
    let bookmark = vec![event("BOOKMARK", &message("9"))];
    let mut replies = vec![list("5"), Reply::Events(changes, 1.0), Reply::Events(bookmark, 1.0)];
    replies.extend((0..5).map(|_| quiet()));
    let mut messages = Messages::new(replies);
    messages.expect(AT_ONCE, &["begin", "complete", "seen 6", "gone 7"]).await;
    assert_eq!(messages.next(3 * DETECTED).await, None, "there is no pause, and no list");
    assert_eq!(messages.requests.take()[..5], ["GET", "watch 5", "watch 7", "watch 9", "watch 9"]);
}

/// A proxy ends quiet requests. They have worked, so the watch does not pause.
#[tokio::test(start_paused = true)]
async fn quiet_requests_are_no_failures() {
    let mut replies = vec![list("5")];
    replies.extend((0..40).map(|_| Reply::Events(vec![], 0.4)));
    let mut messages = Messages::new(replies);
    messages.expect(AT_ONCE, &["begin", "complete"]).await;
    assert_eq!(messages.next(Duration::from_mins(8)).await, None);
    let requests = messages.requests.take().len();
    assert!(requests > 15, "{requests} requests of at most 32 seconds in eight minutes");
}

#[tokio::test(start_paused = true)]
async fn detects_a_silent_connection() {
    let first = vec![event("ADDED", &message("6"))];
    let second = vec![event("ADDED", &message("7"))];
    let mut messages = Messages::new(vec![list("5"), Reply::SilentAfter(first), Reply::SilentAfter(second)]);
    messages.expect(AT_ONCE, &["begin", "complete", "seen 6"]).await;
    messages.expect(DETECTED, &["the API server does not answer"]).await;
    assert_eq!(messages.monitor.silences(), 1);
    messages.expect(PAUSE, &["seen 7"]).await;
    assert_eq!(messages.requests.take(), ["GET", "watch 5", "watch 6"]);
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_for_an_answer_for_ever() {
    let mut messages =
        Messages::new(vec![list("5"), Reply::Silence, Reply::SilentAfter(vec![event("ADDED", &message("6"))])]);
    messages.expect(AT_ONCE, &["begin", "complete"]).await;
    messages.expect(Duration::from_secs(21), &["the API server does not answer"]).await;
    messages.expect(PAUSE, &["seen 6"]).await;
}

#[tokio::test(start_paused = true)]
async fn lists_again_if_the_version_has_expired() {
    let stream = vec![event("ERROR", &expired())];
    let replies = vec![list("5"), Reply::Refusal(expired()), list("6"), Reply::SilentAfter(stream), list("7")];
    let mut messages = Messages::new(replies);
    for _ in 0..2 {
        messages.expect(PAUSE, &["begin", "complete", "the API server says: too old (410)"]).await;
    }
    messages.expect(PAUSE, &["begin", "complete"]).await;
    assert_eq!(messages.requests.take(), ["GET", "watch 5", "GET", "watch 6", "GET"]);
}

#[tokio::test(start_paused = true)]
async fn lists_again_if_a_version_is_missing() {
    let unversioned = json!({"metadata": {"namespace": "apps", "name": "hello"}});
    let stream = Reply::SilentAfter(vec![event("ADDED", &unversioned)]);
    let mut messages = Messages::new(vec![list(""), list("5"), stream, list("6")]);
    let missing = "the API server's answer has no resource version";
    messages.expect(PAUSE, &["begin", missing, "begin", "complete", missing, "begin", "complete"]).await;
}

/// After a restore of etcd the API server accepts a version from the future, and is silent.
#[tokio::test(start_paused = true)]
async fn lists_again_if_the_version_may_be_from_the_future() {
    let cut = Reply::Events(vec![event("ADDED", &message("6"))], 0.5);
    let mut messages = Messages::new(vec![list("5"), cut, quiet(), list("2")]);
    messages.expect(AT_ONCE, &["begin", "complete", "seen 6"]).await;
    messages.expect(2 * DETECTED, &["begin", "complete"]).await;
    assert_eq!(messages.requests.take(), ["GET", "watch 5", "watch 6", "GET"]);
}

/// Watches until the next list is due, which no reply answers.
async fn until_list_is_due() -> Messages {
    let mut replies: Vec<Reply> = (0..60).map(|_| quiet()).collect();
    replies.insert(0, list("5"));
    let mut messages = Messages::new(replies);
    messages.expect(AT_ONCE, &["begin", "complete"]).await;
    messages.expect(Duration::from_mins(22), &["begin"]).await;
    messages
}

#[tokio::test(start_paused = true)]
async fn lists_again_now_and_then() {
    let begin = Instant::now();
    until_list_is_due().await;
    assert!(begin.elapsed() >= Duration::from_mins(10), "{:?}", begin.elapsed());
}

/// A list costs the API server more than the watch, so it may fail alone.
#[tokio::test(start_paused = true)]
async fn goes_on_if_a_due_list_fails() {
    let mut messages = until_list_is_due().await;
    messages.requests.take();
    let failure = messages.next(PAUSE).await.expect("the answer is no list");
    assert!(failure.contains("the API server"), "{failure}");
    assert_eq!(messages.next(PAUSE).await, None, "it watches again");
    assert_eq!(messages.requests.take(), ["GET", "watch 5"]);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_while_requests_fail() {
    let mut messages = Messages::new((0..1_000).map(|_| refusal(500, "not now")).collect());
    let hour = Duration::from_hours(1);
    let begin = Instant::now();
    while begin.elapsed() < hour {
        messages.next(hour).await;
    }
    let requests = messages.requests.take().len();
    // Half a minute at most, and a quarter of it on average.
    assert!((60..900).contains(&requests), "{requests}");
}

/// A list costs the API server far more than the refusal that makes it necessary.
#[tokio::test(start_paused = true)]
async fn pauses_grow_while_versions_expire() {
    let mut messages = Messages::new((0..1_000).flat_map(|_| [list("5"), Reply::Refusal(expired())]).collect());
    let hour = Duration::from_hours(1);
    let begin = Instant::now();
    while begin.elapsed() < hour {
        messages.next(hour).await;
    }
    let lists = messages.requests.take().iter().filter(|request| *request == "GET").count();
    assert!((60..450).contains(&lists), "{lists}");
}

/// Only an event or a bookmark shows that the watch works.
#[tokio::test(start_paused = true)]
async fn pauses_are_short_after_an_event() {
    let works = || Reply::Events(vec![event("BOOKMARK", &message("9")), event("ERROR", &expired())], 1.0);
    let mut messages = Messages::new((0..100).flat_map(|_| [list("5"), works()]).collect());
    for _ in 0..50 {
        let within = Duration::from_secs(2);
        messages.expect(within, &["begin", "complete", "the API server says: too old (410)"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_makes_all_watches_connect_again() {
    let replies = vec![Reply::Json(pod("1")), Reply::SilentAfter(vec![]), list("5"), Reply::SilentAfter(vec![])];
    let (client, requests) = fake_api::client(replies);
    let watches = Watches::new(client, WatchMonitor::default());
    let mut object = watches.object::<Pod>(WatchKind::Pods, "apps", "hello", None);
    object.next().await.expect("the Pod is there");
    assert!(timeout(Duration::from_secs(50), object.next()).await.is_err());
    let mut messages = watches.pending(&[]);
    for _ in 0..2 {
        messages.next().await;
    }
    assert!(timeout(AT_ONCE, messages.next()).await.is_err());
    assert_eq!(requests.take(), ["GET", "watch 1", "GET", "watch 5"]);
    assert!(object.next().await.is_err(), "it is silent");
    let begin = Instant::now();
    let (_, event) = messages.next().await.expect("an event");
    assert!(matches!(event, Event::Failed(ListError::Silent)));
    assert_eq!(begin.elapsed(), Duration::ZERO, "it does not wait for its own end");
}

#[tokio::test(start_paused = true)]
async fn follows_an_object_that_appears_and_goes() {
    let changes = vec![event("ADDED", &pod("6")), event("DELETED", &pod("7"))];
    let not_found = json!({"status": "Failure", "code": 404, "reason": "NotFound"});
    let (client, requests) = fake_api::client(vec![Reply::Refusal(not_found), Reply::SilentAfter(changes)]);
    let watches = Watches::new(client, WatchMonitor::default());
    let mut object = watches.object::<Pod>(WatchKind::Pods, "apps", "hello", None);
    assert!(matches!(object.next().await, Ok(ObjectState::Absent(None))));
    assert!(matches!(object.next().await, Ok(ObjectState::Present(_))));
    assert!(matches!(object.next().await, Ok(ObjectState::Absent(Some(_)))));
    assert_eq!(requests.take(), ["GET", "watch "]);
}

#[tokio::test(start_paused = true)]
async fn reads_an_object_again_after_silence() {
    let replies = vec![Reply::Json(pod("5")), Reply::SilentAfter(vec![]), Reply::Json(pod("8")), quiet()];
    let (client, requests) = fake_api::client(replies);
    let watches = Watches::new(client, WatchMonitor::default());
    let mut object = watches.object::<Pod>(WatchKind::Pods, "apps", "hello", None);
    assert!(matches!(object.next().await, Ok(ObjectState::Present(_))));
    assert_eq!(object.silences_at_read(), 0);
    assert!(matches!(object.next().await, Err(ListError::Silent)));
    assert!(matches!(object.next().await, Ok(ObjectState::Present(_))));
    assert_eq!((object.silences_at_read(), watches.monitor().silences()), (1, 1));
    assert_eq!(requests.take(), ["GET", "watch 5", "GET"]);
}

#[test]
fn long_lists_are_read_again_more_rarely() {
    let now = Instant::now();
    let wait = |took: u64| (read_again_at(Duration::from_secs(took)) - now).as_secs();
    assert!((599..=1201).contains(&wait(1)), "{}", wait(1));
    assert!((2999..=3001).contains(&wait(30)), "{}", wait(30));
}
