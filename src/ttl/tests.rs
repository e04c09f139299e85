//! Lists and deletions in several namespaces, with an API server that answers as a test says.

use fedora_message::fixture::at;
use serde_json::{Value, json};

use super::*;
use crate::cluster::fake_api::{self, Reply, refusal};

fn worker(replies: impl IntoIterator<Item = Reply>) -> TtlWorker {
    let (client, _) = fake_api::client(replies);
    let senders = Arc::<Senders>::default();
    senders.set_listed();
    let notes = TtlController::new(None, senders, |_| ()).0;
    let namespaces = ["denied", "apps"].map(str::to_owned).into();
    let (_, leadership) = watch::channel(Leadership::Always);
    TtlWorker { notes, client, namespaces, leadership }
}

/// A list of one message that was sent.
fn sent() -> Value {
    let message = json!({
        "metadata": {"namespace": "apps", "name": "sent", "uid": "u", "resourceVersion": "1"},
        "spec": {"message": {"topic": "a.b", "body": {}}, "ttlSecondsAfterFinished": 1},
        "status": {"status": true, "sentTime": "2026-01-01T12:00:00Z", "reason": "Sent"},
    });
    json!({"metadata": {"resourceVersion": "1"}, "items": [message]})
}

#[tokio::test(start_paused = true)]
async fn denied_namespace_hides_no_other() {
    let forbidden = || refusal(403, "no");
    let one = worker([forbidden(), Reply::Json(sent())]);
    assert!(one.list().await.is_ok(), "it is not made again at once");
    assert_eq!(one.notes.schedule.lock().next_deletion(), Some(at("2026-01-01T12:00:01Z")));
    assert!(worker([forbidden(), forbidden()]).list().await.is_err());
    assert!(worker([Reply::Json(sent()), refusal(500, "no")]).list().await.is_err());
}

/// A message that was given up, and so may be kept after all, or one that was sent.
fn expired(is_final: bool) -> Expired {
    Expired { namespace: "denied".to_owned(), name: "expired".to_owned(), uid: "u".to_owned(), is_final }
}

/// A message that may be kept after all is read before it is deleted.
#[tokio::test(start_paused = true)]
async fn denied_read_pauses_one_namespace() {
    let deletion = worker([refusal(403, "no")]).delete(&expired(false)).await;
    assert!(matches!(&deletion, Deletion::Denied(detail) if detail.contains("to read FedoraMessages")), "{deletion:?}");
}

/// A proxy's 404 says nothing about the object. The first request is a read, or the deletion.
#[tokio::test(start_paused = true)]
async fn only_the_api_server_says_what_is_gone() {
    for is_final in [false, true] {
        let deletion = worker([refusal(404, "not found")]).delete(&expired(is_final)).await;
        assert!(matches!(deletion, Deletion::Gone), "{deletion:?}");
        let deletion = worker([Reply::Proxy(404, "404 page not found")]).delete(&expired(is_final)).await;
        assert!(matches!(deletion, Deletion::Failed(_)), "{deletion:?}");
    }
}
