//! The wait for a Pod while the API server fails.

use fedora_message::pod::manifest::{ATTEMPT_ANNOTATION, CONTAINER};
use serde_json::{Value, json};

use super::*;
use crate::cluster::fake_api::{self, Reply, Requests, refusal};
use crate::cluster::watch::WatchMonitor;

const LIMITS: Limits = Limits { start: 60, run: 60 };
const PLACE: &str = "apps/fedora-message-u-1";

/// Returns the message's Pod in this version, with this state of its container.
fn pod(version: &str, state: &Value) -> Value {
    json!({
        "metadata": {
            "namespace": "apps", "name": "fedora-message-u-1", "uid": "p", "resourceVersion": version,
            "labels": {UID_LABEL: "u"}, "annotations": {ATTEMPT_ANNOTATION: "1"},
        },
        "status": {"containerStatuses": [{
            "name": CONTAINER, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }]},
    })
}

fn starting() -> Value {
    pod("1", &json!({}))
}

fn sent() -> Value {
    pod("2", &json!({"terminated": {"exitCode": 0}}))
}

/// Sends a message whose Pod is not there yet, with these replies after the list.
async fn send(replies: impl IntoIterator<Item = Reply>) -> (Result<String, String>, Requests) {
    let list = Reply::Json(json!({"metadata": {"resourceVersion": "1"}, "items": []}));
    let (client, requests) = fake_api::client(std::iter::once(list).chain(replies));
    let pods = Pods::new(Watches::new(client.clone(), WatchMonitor::default()), client, Duration::ZERO);
    let plan: Pod = serde_json::from_value(starting()).unwrap();
    let result = pods.send(&plan, 0, LIMITS).await;
    (result.map_err(|outcome| outcome.message), requests)
}

#[tokio::test(start_paused = true)]
async fn waits_after_error() {
    for code in [410, 429, 500, 503] {
        let replies = [Reply::Json(starting()), refusal(code, "no"), refusal(code, "no"), Reply::Json(sent())];
        let (result, requests) = send(replies).await;
        assert_eq!(result.as_deref(), Ok(PLACE), "{code}");
        assert_eq!(requests.take(), ["GET", "POST", "watch 1", "GET", "GET"], "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_nothing_without_permission() {
    for code in [401, 403] {
        let (result, _) = send([Reply::Json(starting()), refusal(code, "no")]).await;
        assert!(result.unwrap_err().starts_with(&format!("Pod {PLACE} can't be watched: ")), "{code}");
    }
}

/// Until the Pod has ended by itself. It may have sent the message, so it is not deleted.
#[tokio::test(start_paused = true)]
async fn outage_ends_the_wait() {
    let begin = Instant::now();
    let outage = (0..1000).map(|_| refusal(503, "no"));
    let (result, requests) = send(std::iter::once(Reply::Json(starting())).chain(outage)).await;
    assert_eq!(result, Err(format!("Pod {PLACE} can't be watched: the API server says: no (503)")));
    assert_eq!(begin.elapsed().as_secs(), u64::from(LIMITS.start + LIMITS.run + SLACK));
    let requests = requests.take();
    assert!(requests.len() < 100 && !requests.contains(&"DELETE".to_owned()), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn finds_pod_after_lost_answer() {
    for lost in [Reply::Silence, refusal(500, "no"), refusal(504, "no")] {
        let (result, _) = send([lost, refusal(503, "no"), Reply::Json(sent())]).await;
        assert_eq!(result.as_deref(), Ok(PLACE));
    }
}

/// The API server creates the Pod after it was asked for it.
#[tokio::test(start_paused = true)]
async fn finds_late_pod_after_lost_answer() {
    let added = Reply::SilentAfter(vec![json!({"type": "ADDED", "object": sent()})]);
    let (result, _) = send([Reply::Silence, refusal(404, "no"), added]).await;
    assert_eq!(result.as_deref(), Ok(PLACE));
}

#[tokio::test(start_paused = true)]
async fn counts_no_other_pod_after_lost_answer() {
    let mut other = sent();
    other["spec"] = json!({"containers": [{"name": CONTAINER, "image": "other"}]});
    let (result, _) = send([Reply::Silence, Reply::Json(other)]).await;
    let expected = format!("Pod {PLACE} can't be made: there is another Pod of that name. Delete it");
    assert_eq!(result, Err(expected));
}

#[tokio::test(start_paused = true)]
async fn fails_without_pod() {
    for (refused, took) in [(refusal(403, "no"), 0), (refusal(500, "no"), CREATE_TIMEOUT.as_secs())] {
        let begin = Instant::now();
        let (result, _) = send([refused, refusal(404, "no")]).await;
        assert!(result.unwrap_err().starts_with(&format!("Pod {PLACE} can't be made: ")));
        assert_eq!(begin.elapsed().as_secs(), took);
    }
}
