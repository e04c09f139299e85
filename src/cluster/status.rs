//! Writes a status to exactly the object that was published: one request, without a read.
//!
//! The request replaces the status of the version that the watch reported. For an API server that costs less than a
//! patch (docs/decisions/0029). Up to Kubernetes 1.35 it would take labels and annotations from those who own them.
//! There a patch does the same (docs/decisions/0055).
//!
//! If the object has changed since then, only a status that says "sent" is still written. Any other could overwrite a
//! status that says "sent", from another attempt or another operator (docs/decisions/0011). A status that says "sent" is then written by a patch that begins with a test of the uid. An
//! object that was deleted and created again under the same name fails this test, and keeps its own status
//! (docs/decisions/0002).

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::Status;
use kube::{Client, Error};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::client::{FIELD_MANAGER, is_not_found};
use super::inspect::version;
use crate::log_throttle::LogThrottle;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::{API_VERSION, FedoraMessageStatus, KIND, PLURAL};

/// The time after which a write counts as failed. It may still have succeeded. Then the operator repeats it, which
/// changes nothing.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The first version of Kubernetes in which a replaced status takes nothing from the owners of labels, annotations and
/// finalizers. Measured with 1.32.13, 1.33.13, 1.34.4, 1.36.3 and 1.37.2. 1.35.10 has the code of 1.34 there
/// (`GetResetFields` in apiextensions-apiserver's `status_strategy.go`).
const KEEPS_OWNERS: [u32; 2] = [1, 36];
/// Asks for the object's metadata only, without the body.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// The result of a status write, as the metric names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Written {
    /// The object has the status.
    #[strum(to_string = "written")]
    Done,
    /// The object no longer exists. Another may have its name.
    Gone,
    /// Another client has changed or deleted the object since the watch reported it. The watch will report which.
    Changed,
    /// The write failed, and has to be repeated.
    Failed,
    /// The operator may not write it, and has to try again later.
    #[strum(to_string = "failed")]
    Refused,
    /// The object would be too large with the status, so that no write can succeed.
    #[strum(to_string = "too_large")]
    TooLarge,
}

impl Written {
    /// Returns the value of the metric's label `result`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The verb of the request that writes a status to the version that the watch reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteVerb {
    /// Replaces the status, which costs the API server least.
    Update,
    /// Changes the status of that version. The owners of all other fields stay, in each version of Kubernetes.
    Patch,
}

impl WriteVerb {
    /// Returns the best verb for this version of Kubernetes, such as `[1, 34]`.
    fn for_version(version: [u32; 2]) -> Self {
        if version < KEEPS_OWNERS { Self::Patch } else { Self::Update }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Replacement<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: &'a ObjectMeta,
    status: &'a FedoraMessageStatus,
}

#[derive(Serialize)]
struct Operation<'a, V: ?Sized> {
    op: &'static str,
    path: &'static str,
    value: &'a V,
}

/// Returns the maximum number of concurrent writes for this number of messages in flight. A write takes longer than
/// a confirm, and more of them at a time are not faster.
#[must_use]
pub fn at_a_time(in_flight: usize) -> usize {
    (in_flight / 8).max(1)
}

/// Writes statuses.
#[derive(Clone)]
pub struct StatusWriter {
    client: Client,
    permits: Arc<Semaphore>,
    /// Known once the API server has told its version.
    verb: Arc<OnceCell<WriteVerb>>,
    failures: Arc<Mutex<LogThrottle>>,
}

impl StatusWriter {
    /// Creates a writer with at most `at_a_time` concurrent writes. More writes than the API server can work on would
    /// only wait there, in front of all other requests (docs/decisions/0026).
    #[must_use]
    pub fn new(client: Client, at_a_time: usize) -> Self {
        Self { client, permits: Arc::new(Semaphore::new(at_a_time)), verb: Arc::default(), failures: Arc::default() }
    }

    /// Returns the verb for this API server, which is asked for its version before the first write.
    async fn verb(&self) -> WriteVerb {
        let ask = async || match Box::pin(version(&self.client)).await {
            Ok((_, version)) => Ok(WriteVerb::for_version(version)),
            Err(error) if matches!(error.code(), Some(401 | 403 | 404)) => {
                warn!(%error, "the API server does not tell its version, so statuses are written by patches");
                Ok(WriteVerb::Patch)
            }
            // The next write asks again.
            Err(error) => Err(error),
        };
        self.verb.get_or_try_init(ask).await.copied().unwrap_or(WriteVerb::Patch)
    }

    /// Writes the status of `message`.
    pub async fn write(&self, message: &FedoraMessage, status: &FedoraMessageStatus) -> Written {
        let _permit = self.permits.acquire().await;
        let request = match self.verb().await {
            WriteVerb::Update => replacement(message, status),
            WriteVerb::Patch => {
                let version = message.metadata.resource_version.as_deref().unwrap_or_default();
                patch(message, ("/metadata/resourceVersion", version), status)
            }
        };
        match self.send(message, request).await {
            Ok(_) => Written::Done,
            // A sent message stays sent, whatever happened to the object meanwhile.
            Err(Written::Changed) if status.status == Some(true) => {
                Box::pin(self.write_sent(message, status.clone())).await
            }
            Err(written) => written,
        }
    }

    /// Writes a status that says "sent" to the object's current version. If its generation is another one, because the
    /// message was suspended in the meantime, the status names that generation: tools wait until it does.
    async fn write_sent(&self, message: &FedoraMessage, mut status: FedoraMessageStatus) -> Written {
        loop {
            match self.send(message, patch(message, ("/metadata/uid", message.uid()), &status)).await {
                Ok(answer) => match generation(&answer) {
                    Some(generation) if status.observed_generation != Some(generation) => {
                        observe(&mut status, generation);
                    }
                    _ => return Written::Done,
                },
                Err(Written::Changed) => {
                    debug!(uid = message.uid(), "the object is gone, and another has its name");
                    return Written::Gone;
                }
                Err(written) => return written,
            }
        }
    }

    /// Makes the request, and interprets the answer. Returns the object's metadata as JSON if the
    /// write succeeded.
    async fn send(
        &self,
        message: &FedoraMessage,
        request: anyhow::Result<Request<Vec<u8>>>,
    ) -> Result<String, Written> {
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                warn!(%error, "the status can't be put into a request");
                return Err(Written::Failed);
            }
        };
        let method = request.method().clone();
        Err(match timeout(TIMEOUT, self.client.request_text(request)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Error::Api(status))) if is_not_found(&status) => {
                debug!(uid = message.uid(), "the object is gone, and needs no status");
                Written::Gone
            }
            Ok(Err(Error::Api(status))) if is_other_object(&status, &method) => {
                debug!(uid = message.uid(), "the object has changed, or is gone");
                Written::Changed
            }
            Ok(Err(Error::Api(status))) if is_too_large(&status) => {
                warn!(
                    error = status.message,
                    namespace = message.namespace(),
                    name = message.name(),
                    "the status can't be written, because the object would be too large"
                );
                Written::TooLarge
            }
            Ok(Err(Error::Api(status))) => {
                // With its name, such as "403 Forbidden".
                let code =
                    StatusCode::from_u16(status.code).map_or_else(|_| status.code.to_string(), |code| code.to_string());
                self.log_failure(message, &code, &format!("the API server answers {code}: {}", status.message));
                if matches!(status.code, 401 | 403) { Written::Refused } else { Written::Failed }
            }
            Ok(Err(error)) => {
                self.log_failure(message, "no answer", &error.to_string());
                Written::Failed
            }
            Err(_) => {
                self.log_failure(message, "no answer", "the API server does not answer in time");
                Written::Failed
            }
        })
    }

    /// Logs a failure, and one of each kind now and then: all pending messages may have the same one.
    fn log_failure(&self, message: &FedoraMessage, kind: &str, error: &str) {
        let (namespace, name) = (message.namespace(), message.name());
        if self.failures.lock().is_due(kind, Instant::now()) {
            warn!(error, namespace, name, "the status could not be written, and will be written again");
        } else {
            debug!(error, namespace, name, "the status could not be written");
        }
    }
}

/// Returns the generation in an object's metadata.
fn generation(answer: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        generation: Option<i64>,
    }
    serde_json::from_str::<Object>(answer).ok()?.metadata.generation
}

/// Sets the generation that a status describes.
fn observe(status: &mut FedoraMessageStatus, generation: i64) {
    status.observed_generation = Some(generation);
    for condition in &mut status.conditions {
        condition.observed_generation = Some(generation);
    }
}

/// Returns true if the object is not the expected one. A replacement is then a conflict. A patch whose test failed is
/// a 422 without causes; one with causes finds fault with the status itself. A patch that conflicts was overtaken by
/// others again and again, and may succeed later.
pub(super) fn is_other_object(status: &Status, method: &Method) -> bool {
    let without_causes = status.details.as_ref().is_none_or(|details| details.causes.is_empty());
    if *method == Method::PATCH { status.code == 422 && without_causes } else { status.code == 409 }
}

/// Returns true if etcd or the API server refuses the object for its size. The API server passes
/// etcd's errors on as internal errors.
fn is_too_large(status: &Status) -> bool {
    let says = |text| status.message.contains(text);
    status.code == 413 || status.code == 500 && (says("request is too large") || says("message larger than max"))
}

/// Replaces the status of the version that the watch reported. The API server leaves the rest of the object as it is.
fn replacement(message: &FedoraMessage, status: &FedoraMessageStatus) -> anyhow::Result<Request<Vec<u8>>> {
    let object = Replacement { api_version: API_VERSION, kind: KIND, metadata: &message.metadata, status };
    request(Method::PUT, "application/json", message, &object)
}

/// Sets the status, if the object has this value there.
fn patch(
    message: &FedoraMessage,
    (path, value): (&'static str, &str),
    status: &FedoraMessageStatus,
) -> anyhow::Result<Request<Vec<u8>>> {
    let test = Operation { op: "test", path, value };
    let add = Operation { op: "add", path: "/status", value: status };
    request(Method::PATCH, "application/json-patch+json", message, &(test, add))
}

fn request(
    method: Method,
    content: &'static str,
    message: &FedoraMessage,
    body: &impl Serialize,
) -> anyhow::Result<Request<Vec<u8>>> {
    let (namespace, name) = (message.namespace(), message.name());
    let path =
        format!("/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{name}/status?fieldManager={FIELD_MANAGER}");
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, content);
    Ok(request.header(ACCEPT, METADATA_ONLY).body(serde_json::to_vec(body)?)?)
}

#[cfg(test)]
mod tests {
    use fedora_message::fixture::{example, message};
    use serde_json::json;

    use super::*;
    use crate::cluster::fake_api::{Reply, client, refusal};

    fn version_reply(minor: &str) -> Reply {
        let names = ["gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
        let mut info: serde_json::Map<_, _> = names.map(|name| (name.to_owned(), json!(""))).into_iter().collect();
        info.extend([("major".to_owned(), json!("1")), ("minor".to_owned(), json!(minor))]);
        Reply::Json(info.into())
    }

    #[tokio::test]
    async fn verb_follows_version() {
        for (minor, verb) in [("32", "PATCH"), ("35+", "PATCH"), ("36", "PUT"), ("37", "PUT")] {
            let written = || Reply::Json(json!({}));
            let (client, requests) = client([version_reply(minor), written(), written()]);
            let writer = StatusWriter::new(client, 1);
            for expected in [vec!["GET".to_owned(), format!("{verb} metadata")], vec![format!("{verb} metadata")]] {
                assert_eq!(writer.write(&message(&example()), &FedoraMessageStatus::default()).await, Written::Done);
                assert_eq!(requests.take(), expected, "{minor}");
            }
        }
    }

    /// A server that is overloaded is asked again, one that refuses is not.
    #[tokio::test]
    async fn writes_by_patches_while_version_is_unknown() {
        let written = || Reply::Json(json!({}));
        let replies = [refusal(503, "later"), written(), version_reply("37"), written()];
        let asked_again = ["GET", "PATCH metadata", "GET", "PUT metadata"].as_slice();
        let refused = [refusal(403, "no"), written(), written()];
        for (replies, expected) in [
            (replies.into_iter().collect::<Vec<_>>(), asked_again),
            (refused.into_iter().collect(), &["GET", "PATCH metadata", "PATCH metadata"]),
        ] {
            let (client, requests) = client(replies);
            let writer = StatusWriter::new(client, 1);
            for _ in 0..2 {
                assert_eq!(writer.write(&message(&example()), &FedoraMessageStatus::default()).await, Written::Done);
            }
            assert_eq!(requests.take(), expected);
        }
    }

    /// The object is there as long as the API server does not say that its uid is another one.
    #[tokio::test]
    async fn sent_message_is_gone_only_if_its_uid_is() {
        for (code, written) in [(409, Written::Failed), (422, Written::Gone)] {
            let replies = [version_reply("37"), refusal(409, "the object has changed"), refusal(code, "conflict")];
            let writer = StatusWriter::new(client(replies).0, 1);
            let sent = FedoraMessageStatus { status: Some(true), ..FedoraMessageStatus::default() };
            assert_eq!(writer.write(&message(&example()), &sent).await, written);
        }
    }

    /// A proxy's 404 says nothing about the object.
    #[tokio::test]
    async fn only_the_api_server_says_what_is_gone() {
        for (reply, written) in
            [(refusal(404, "not found"), Written::Gone), (Reply::Proxy(404, "404 page not found"), Written::Failed)]
        {
            let writer = StatusWriter::new(client([version_reply("37"), reply]).0, 1);
            assert_eq!(writer.write(&message(&example()), &FedoraMessageStatus::default()).await, written);
        }
    }

    #[tokio::test]
    async fn tells_refusals_from_failures() {
        for (code, text, written) in [
            (500, "etcdserver: request is too large", Written::TooLarge),
            (
                500,
                "rpc error: code = ResourceExhausted desc = trying to send message larger than max",
                Written::TooLarge,
            ),
            (413, "Request entity too large: limit is 3145728", Written::TooLarge),
            (500, "etcdserver: mvcc: database space exceeded", Written::Failed),
            (429, "too many requests", Written::Failed),
            (403, "forbidden", Written::Refused),
        ] {
            let writer = StatusWriter::new(client([version_reply("37"), refusal(code, text)]).0, 1);
            assert_eq!(writer.write(&message(&example()), &FedoraMessageStatus::default()).await, written, "{text}");
        }
    }
}
