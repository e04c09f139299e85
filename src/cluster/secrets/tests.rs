//! Reads, watches and bounds, with an API server that answers as a test says.

use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::cluster::fake_api::{self, Reply, Requests, refusal};
use crate::cluster::watch::WatchMonitor;
use fedora_message::bounds::MAX_SECRET_BYTES;
use fedora_message::message::authentication::{ClientKeys, SourceKey};

/// The namespace of the Secret, and the namespace of messages that its owner may let use it.
const OWNER: &str = "owner";
const GUEST: &str = "guest";

/// A Secret of this version that allows these namespaces to use it.
fn secret(version: &str, allowed: &str) -> Value {
    let annotations = json!({"apps.fedoraproject.org/allowed-namespaces": allowed});
    let metadata = json!({
        "name": "s", "namespace": OWNER, "uid": "u", "resourceVersion": version, "annotations": annotations
    });
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"ca": "eHg=", "other": "eHg="}})
}

fn name(name: &str) -> SourceName {
    SourceName::secret(OWNER, name)
}

fn authentication() -> Authentication {
    one(name("s"))
}

fn one(name: SourceName) -> Authentication {
    Authentication { client: ClientKeys::One(name), ca: None }
}

fn secrets(replies: impl IntoIterator<Item = Reply>) -> (Secrets, Watches, Requests) {
    let (client, requests) = fake_api::client(replies);
    let watches = Watches::new(client, WatchMonitor::default());
    (Secrets::new(watches.clone(), drop), watches, requests)
}

/// Reads the Secret, and returns its version, or `none`, or the error.
async fn version(secrets: &Secrets, namespace: &str) -> String {
    match secrets.read(&authentication(), namespace).await {
        Ok(read) => match &read[0] {
            Some(secret) => secret.metadata.version.resource_version.clone().unwrap_or_default(),
            None => "none".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn reads_a_secret_again_after_silence() {
    let (secrets, watches, requests) = secrets([
        Reply::Json(secret("1", "")),
        Reply::SilentAfter(vec![]),
        Reply::Json(secret("1", "")),
        Reply::Json(secret("2", "")),
        Reply::SilentAfter(vec![]),
        Reply::Json(secret("2", "")),
    ]);
    for _ in 0..2 {
        assert_eq!(version(&secrets, OWNER).await, "1");
    }
    tokio::task::yield_now().await;
    watches.monitor().report_silence();
    for _ in 0..2 {
        assert_eq!(version(&secrets, OWNER).await, "2");
    }
    let read = |version| ["GET metadata".to_owned(), format!("watch metadata {version}"), "GET".to_owned()];
    assert_eq!(requests.take(), [read(1), read(2)].concat());
}

#[tokio::test(start_paused = true)]
async fn uses_no_old_secret_while_the_api_server_is_silent() {
    let (secrets, watches, _) =
        secrets([Reply::Json(secret("1", "")), Reply::SilentAfter(vec![]), Reply::Json(secret("1", ""))]);
    assert_eq!(version(&secrets, OWNER).await, "1");
    watches.monitor().report_silence();
    let error = version(&secrets, OWNER).await;
    assert!(error.contains("the API server does not answer"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn reads_no_contents_without_consent() {
    let changes = ["guests", GUEST].map(|allowed| json!({"type": "MODIFIED", "object": secret("2", allowed)}));
    let (secrets, _, requests) = secrets([
        Reply::Json(secret("1", "")),
        Reply::Events(vec![], 1.0),
        Reply::Events(changes.into(), 1.0),
        Reply::Json(secret("2", GUEST)),
    ]);
    assert_eq!(version(&secrets, GUEST).await, "none");
    assert_eq!(requests.take(), ["GET metadata", "watch metadata 1"]);
    sleep(Duration::from_secs(81)).await;
    assert_eq!(version(&secrets, GUEST).await, "2");
    assert_eq!(requests.take(), ["watch metadata 1", "GET"]);
}

#[tokio::test(start_paused = true)]
async fn keeps_only_used_keys() {
    let (secrets, ..) =
        secrets([Reply::Json(secret("1", "")), Reply::SilentAfter(vec![]), Reply::Json(secret("1", ""))]);
    let read = secrets.read(&authentication(), OWNER).await.expect("it is read");
    let read = read.first().and_then(Option::as_ref).expect("it is there");
    assert!(read.get("ca").is_some() && read.get("other").is_none());
}

/// A message that names a large value takes no other one's values, whichever is read first.
#[tokio::test(start_paused = true)]
async fn large_value_spoils_no_others() {
    let mut large = secret("1", "");
    large["data"]["bundle"] = json!("eHh4".repeat(MAX_SECRET_BYTES / 3 + 1));
    let contents = (0..3).map(|_| Reply::Json(large.clone()));
    let replies = [Reply::Json(secret("1", "")), Reply::SilentAfter(vec![])].into_iter().chain(contents);
    let (secrets, _, requests) = secrets(replies);
    let bundle = SourceKey { source: name("s"), key: "bundle".to_owned() };
    let with_bundle = Authentication { ca: Some(bundle), ..authentication() };
    for authentication in [with_bundle.clone(), authentication(), with_bundle, authentication()] {
        let read = secrets.read(&authentication, OWNER).await.expect("it is read");
        let read = read[0].as_ref().expect("it is there");
        assert!(read.get("bundle").is_none() && read.get("ca").is_some(), "{authentication:?}");
    }
    let read = requests.take().into_iter().filter(|request| request == "GET").count();
    assert_eq!(read, 1, "the small values are kept, and the large one's size is known");
}

/// The owner may have taken the operator's permission away because of a stolen certificate.
#[tokio::test(start_paused = true)]
async fn forbidden_secret_is_not_used() {
    for code in [401, 403] {
        let (secrets, ..) = secrets([Reply::Json(secret("1", "")), refusal(code, "no")]);
        for namespace in [OWNER, GUEST] {
            let error = version(&secrets, namespace).await;
            assert!(error.starts_with("Secret owner/s could not be read: "), "{error}");
        }
    }
}

/// The watch says that the Secret is there, so nothing wakes a message that did not get it.
#[tokio::test(start_paused = true)]
async fn secret_that_is_not_found_is_read_again() {
    let unreadable = "Secret owner/s could not be read: the API server says: 404 page not found (404)";
    for (reply, first) in [(refusal(404, "not found"), "none"), (Reply::Proxy(404, "404 page not found"), unreadable)] {
        let (secrets, _, requests) =
            secrets([Reply::Json(secret("1", "")), Reply::SilentAfter(vec![]), reply, Reply::Json(secret("1", ""))]);
        assert_eq!(version(&secrets, OWNER).await, first);
        assert!(secrets.next_poll(OWNER, &[name("s")], false).is_some(), "{first}");
        for _ in 0..2 {
            assert_eq!(version(&secrets, OWNER).await, "1");
            assert_eq!(secrets.next_poll(OWNER, &[name("s")], true), None, "a change wakes it");
        }
        assert_eq!(requests.take(), ["GET metadata", "watch metadata 1", "GET", "GET"]);
    }
}

/// The watch is late. Once it says that the Secret is gone, it also wakes the messages when it appears.
#[tokio::test(start_paused = true)]
async fn deleted_secret_is_not_polled() {
    let deleted = json!({"type": "DELETED", "object": secret("2", "")});
    let (secrets, _, requests) = secrets([
        Reply::Json(secret("1", "")),
        Reply::Events(vec![], 1.0),
        refusal(404, "not found"),
        Reply::SilentAfter(vec![deleted]),
    ]);
    assert_eq!(version(&secrets, OWNER).await, "none");
    assert!(secrets.next_poll(OWNER, &[name("s")], false).is_some());
    sleep(Duration::from_secs(81)).await;
    assert_eq!(version(&secrets, OWNER).await, "none");
    assert_eq!(secrets.next_poll(OWNER, &[name("s")], false), None);
    assert_eq!(requests.take(), ["GET metadata", "watch metadata 1", "GET", "watch metadata 1"]);
}

#[tokio::test(start_paused = true)]
async fn unreadable_secret_is_used_for_two_minutes() {
    let begin = [Reply::Json(secret("1", "")), Reply::Events(vec![], 0.0), Reply::Json(secret("1", ""))];
    let (secrets, ..) = secrets(begin.into_iter().chain((0..100).map(|_| refusal(500, "no"))));
    assert_eq!(version(&secrets, OWNER).await, "1");
    sleep(Duration::from_secs(110)).await;
    assert_eq!(version(&secrets, OWNER).await, "1");
    sleep(Duration::from_secs(11)).await;
    let error = version(&secrets, OWNER).await;
    assert!(error.starts_with("Secret owner/s could not be read"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn one_namespace_takes_no_watch_of_others() {
    let (secrets, ..) = secrets([]);
    let named = |number: usize| [name(&number.to_string())];
    for number in 0..=MAX_WATCHED_SECRETS_PER_NAMESPACE {
        let [name] = named(number);
        assert!(secrets.read(&one(name), GUEST).await.is_err());
    }
    let (first, last) = (named(0), named(MAX_WATCHED_SECRETS_PER_NAMESPACE));
    assert_eq!(secrets.exceeded_bound(GUEST, &first), None);
    assert_eq!(secrets.next_poll(GUEST, &first, false), None);
    assert_eq!(
        secrets.exceeded_bound(GUEST, &last).expect("it is beyond the bound"),
        "messages of namespace guest name more than 20 Secrets"
    );
    let polls = [false, false, true];
    let polls = polls.map(|contents| secrets.next_poll(GUEST, &last, contents).expect("nobody wakes it"));
    assert_eq!(polls[0], Instant::now() + MIN_SECRET_POLL);
    assert_eq!(polls[1], polls[0] + SECRET_POLL_GAP);
    assert_eq!(polls[2], polls[1] + SECRET_CONTENTS_POLL_GAP);

    assert!(secrets.read(&one(name("own")), OWNER).await.is_err());
    assert_eq!(secrets.exceeded_bound(OWNER, &[name("own")]), None);
    assert_eq!(secrets.exceeded_bound(OWNER, &[name("own"), name("next")]), None, "it was not looked for yet");
}

#[tokio::test(start_paused = true)]
async fn watches_no_more_than_all_may_have() {
    let (secrets, ..) = secrets([]);
    for number in 0..MAX_WATCHED_SECRETS {
        let namespace = (number / MAX_WATCHED_SECRETS_PER_NAMESPACE).to_string();
        assert!(secrets.watch(&name(&number.to_string()), &namespace).is_some(), "{number}");
    }
    assert!(secrets.watch(&name("more"), GUEST).is_none());
    assert_eq!(
        secrets.exceeded_bound(GUEST, &[name("more")]).expect("it is beyond the bound"),
        "messages name more than 200 Secrets in all"
    );
    assert!(secrets.watch(&name("0"), GUEST).is_some(), "it is watched already");

    sleep(KEEP + Duration::from_secs(1)).await;
    secrets.release(|| Needs { messages: [name("0")].into(), ..Needs::default() });
    assert!(secrets.watch(&name("more"), GUEST).is_some(), "others were not needed any more");
    assert_eq!(secrets.watched.lock().len(), 2);
}
