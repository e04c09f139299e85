//! Writes a status to exactly the object that was published: one request, without a read.
//!
//! It replaces the status of the version that the watch told of, which costs an API server less than a patch
//! (docs/decisions/0029). If the object has changed since, a status that does not say "sent" is not written: it must
//! never take the place of one that does, which another attempt, or another operator, has written
//! (docs/decisions/0011). One that says "sent" is then written all the same, by a patch that begins with a test of the
//! uid: an object that was deleted and created again under the same name fails it, and keeps its own status
//! (docs/decisions/0002).

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::client::Body;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::{API_VERSION, FedoraMessageStatus, KIND, PLURAL};

/// How long a write may take before it counts as failed. It may have succeeded all the same; it is
/// then repeated, which changes nothing.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The answer's metadata are enough: not the body all over again.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// Who writes, in the resource's managed fields.
const FIELD_MANAGER: &str = "fedora-message-operator";

/// The result of a status write, as the metric names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Written {
    /// The object has the status.
    #[strum(to_string = "written")]
    Yes,
    /// The object does not exist any more; another may have its name.
    Gone,
    /// Not over what somebody else has changed since, or over nothing: the watch will tell which.
    Changed,
    /// Not now. It has to be written again.
    #[strum(to_string = "failed")]
    No,
}

impl Written {
    /// Returns the value of the metric's label `result`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why there is no request.
type Unfit = Box<dyn std::error::Error + Send + Sync>;

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

/// How many statuses are written at a time where so many messages are under way: a write takes longer than a
/// confirm, and gains nothing by company.
#[must_use]
pub fn at_a_time(under_way: usize) -> usize {
    (under_way / 8).max(1)
}

/// Writes statuses.
#[derive(Clone)]
pub struct StatusWriter {
    client: Client,
    turns: Arc<Semaphore>,
}

impl StatusWriter {
    /// Writes through this client, so many at a time. More than the API server has work for only wait there, before
    /// whatever else it is asked for (docs/decisions/0026).
    #[must_use]
    pub fn new(client: Client, at_a_time: usize) -> Self {
        Self { client, turns: Arc::new(Semaphore::new(at_a_time)) }
    }

    /// Writes the status of `message`.
    pub async fn write(&self, message: &FedoraMessage, status: &FedoraMessageStatus) -> Written {
        let _turn = self.turns.acquire().await;
        write(&self.client, message, status).await
    }
}

async fn write(client: &Client, message: &FedoraMessage, status: &FedoraMessageStatus) -> Written {
    match send(client, message, replacement(message, status)).await {
        // What was sent stays sent, whatever happened to the object meanwhile.
        Written::Changed if status.status == Some(true) => match send(client, message, patch(message, status)).await {
            Written::Changed => {
                debug!(uid = message.uid(), "the object is gone, and another has its name");
                Written::Gone
            }
            written => written,
        },
        written => written,
    }
}

/// Makes the request, and understands the answer.
async fn send(client: &Client, message: &FedoraMessage, request: Result<Request<Body>, Unfit>) -> Written {
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            warn!(%error, "the status can't be put into a request");
            return Written::No;
        }
    };
    match timeout(TIMEOUT, answer(client, request)).await {
        Ok(Ok(Answer { code, .. })) if code.is_success() => Written::Yes,
        Ok(Ok(answer)) if answer.says_gone() => {
            debug!(uid = message.uid(), "the object is gone, and needs no status");
            Written::Gone
        }
        Ok(Ok(answer)) if answer.says_changed() => {
            debug!(uid = message.uid(), "the object has changed, or is gone");
            Written::Changed
        }
        Ok(Ok(Answer { code, refusal })) => {
            not_now(message, &format!("the API server answers {code}: {}", refusal.message))
        }
        Ok(Err(error)) => not_now(message, &error.to_string()),
        Err(_) => not_now(message, "the API server does not answer in time"),
    }
}

/// What the API server says.
pub(crate) struct Answer {
    /// Yes or no.
    pub code: StatusCode,
    /// Why not.
    pub refusal: Refusal,
}

/// The part of a `Status` object that tells why a request was refused.
#[derive(Default, Deserialize)]
pub(crate) struct Refusal {
    /// In words.
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    details: Details,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<IgnoredAny>,
}

impl Answer {
    /// Whether no object has the name.
    fn says_gone(&self) -> bool {
        self.code == StatusCode::NOT_FOUND
    }

    /// Whether the object is not the one that was meant. A replacement is then a conflict; a test of a patch that
    /// failed is a 422 without causes, where one with causes finds fault with the status itself.
    fn says_changed(&self) -> bool {
        self.code == StatusCode::CONFLICT
            || self.code == StatusCode::UNPROCESSABLE_ENTITY && self.refusal.details.causes.is_empty()
    }
}

fn not_now(message: &FedoraMessage, error: &str) -> Written {
    warn!(
        error,
        namespace = message.namespace(),
        name = message.name(),
        "the status could not be written, and will be written again"
    );
    Written::No
}

/// The status of the version that the watch told of. An API server leaves everything else of the object as it is.
fn replacement(message: &FedoraMessage, status: &FedoraMessageStatus) -> Result<Request<Body>, Unfit> {
    let object = Replacement { api_version: API_VERSION, kind: KIND, metadata: &message.metadata, status };
    request(Method::PUT, "application/json", message, &object)
}

/// The status of whatever version the object has by now.
fn patch(message: &FedoraMessage, status: &FedoraMessageStatus) -> Result<Request<Body>, Unfit> {
    let uid = Operation { op: "test", path: "/metadata/uid", value: message.uid() };
    let add = Operation { op: "add", path: "/status", value: status };
    request(Method::PATCH, "application/json-patch+json", message, &(uid, add))
}

fn request(
    method: Method,
    content: &'static str,
    message: &FedoraMessage,
    body: &impl Serialize,
) -> Result<Request<Body>, Unfit> {
    let (namespace, name) = (message.namespace(), message.name());
    let path =
        format!("/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{name}/status?fieldManager={FIELD_MANAGER}");
    Ok(Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, content)
        .header(ACCEPT, METADATA_ONLY)
        .body(Body::from(serde_json::to_vec(body)?))?)
}

/// Sends the request and reads the answer to its end, so that the connection is used again. A
/// success is not looked into.
pub(crate) async fn answer(client: &Client, request: Request<Body>) -> Result<Answer, kube::Error> {
    let response = client.send(request).await?;
    let code = response.status();
    let mut body = response.into_body();
    if code.is_success() {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        return Ok(Answer { code, refusal: Refusal::default() });
    }
    let text = body.collect().await?.to_bytes();
    Ok(Answer { code, refusal: serde_json::from_slice(&text).unwrap_or_default() })
}
