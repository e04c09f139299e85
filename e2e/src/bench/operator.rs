//! Starts operators, and creates messages for them.

use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::{API_VERSION, PLURAL};
use fedora_message_operator::internals::{PENDING, describe};
use futures::{StreamExt, TryStreamExt, stream};
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, Client};
use rig::{Broker, Kube};
use serde::Serialize;
use serde_json::{Value, json};

use super::Result;
pub use crate::Operator;

/// The operator's default number of concurrent messages.
pub const CONCURRENCY: usize = 64;
/// The operator's number of concurrent status writes with that default.
pub const WRITES: usize = 8;
/// The media type of a JSON patch.
pub const JSON_PATCH: &str = "application/json-patch+json";
/// Requests a response with only the metadata of the object.
pub const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Starts an operator that logs only warnings.
pub fn start(kube: &Kube, broker: &Broker, arguments: &[&str]) -> Operator {
    Operator::launch(&kube.kubeconfig(), &broker.url(), arguments, "warn")
}

/// Converts bytes to MiB.
pub fn mebibytes(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes / 1024).expect("less than 4 TiB")) / 1024.0
}

/// Creates messages.
pub async fn create(client: &Client, messages: impl IntoIterator<Item = Value>) -> Result<Vec<FedoraMessage>> {
    let creations = messages.into_iter().map(async |message| create_one(client, &message).await);
    stream::iter(creations).buffer_unordered(CONCURRENCY).try_collect().await
}

/// Creates one message.
pub async fn create_one(client: &Client, message: &Value) -> Result<FedoraMessage> {
    let namespace = message["metadata"]["namespace"].as_str().unwrap_or_default();
    let path = format!("/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}");
    let request = Request::post(path).header(CONTENT_TYPE, "application/json").body(message.to_string().into())?;
    Ok(client.request(request).await?)
}

/// Returns true if no message is pending in any namespace.
pub async fn is_done(client: &Client) -> kube::Result<bool> {
    let api: Api<FedoraMessage> = Api::all(client.clone());
    Ok(api.list(&ListParams::default().fields(PENDING).limit(1)).await?.items.is_empty())
}

/// Returns a JSON patch of a message's status that tests its uid: the alternative to an update.
pub fn patch(message: &FedoraMessage, status: &impl Serialize) -> Value {
    json!([
        {"op": "test", "path": "/metadata/uid", "value": message.uid()},
        {"op": "add", "path": "/status", "value": status},
    ])
}

/// Sends a request. Returns an error if the response is not a success.
pub async fn send(client: &Client, request: Request<Body>) -> Result<()> {
    let response = client.send(request).await.map_err(|error| describe(&error))?;
    let (code, body) = (response.status(), response.into_body().collect().await?.to_bytes());
    if code.is_success() { Ok(()) } else { Err(String::from_utf8_lossy(&body).into()) }
}
