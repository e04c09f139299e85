//! An API server for unit tests: it answers each request as the test says, without a network.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use http::header::ACCEPT;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::service_fn;

/// How the API server answers one request.
pub(crate) enum Reply {
    /// It answers with this object.
    Json(Value),
    /// It refuses the request with this Status.
    Refusal(Value),
    /// A proxy answers in its place, with this code and text.
    Proxy(u16, &'static str),
    /// It sends these watch events, and ends the request after the given part of the agreed time.
    Events(Vec<Value>, f64),
    /// It sends these watch events, and then nothing more, not even an end.
    SilentAfter(Vec<Value>),
    /// It never answers.
    Silence,
}

/// Returns a refusal with this code, and with the reason that an API server gives for it.
pub(crate) fn refusal(code: u16, message: &str) -> Reply {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        413 => "RequestEntityTooLarge",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    Reply::Refusal(json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": message}))
}

/// The requests that were made: method, path and query.
#[derive(Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<Vec<String>>>);

impl Requests {
    /// Returns the requests since the last call. Each is given as its method, or as `watch` and its
    /// version, and as `metadata` if it is only for that.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// Creates a client of an API server that gives these replies, one after the other, and then is
/// silent.
pub(crate) fn client(replies: impl IntoIterator<Item = Reply>) -> (Client, Requests) {
    let (replies, requests) = (Mutex::new(replies.into_iter().collect::<VecDeque<_>>()), Requests::default());
    let made = requests.clone();
    let service = service_fn(move |request: Request<Body>| {
        made.0.lock().push(describe(&request));
        let reply = replies.lock().pop_front().unwrap_or(Reply::Silence);
        let agreed = parameter(&request, "timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
        async move { Ok::<_, Infallible>(answer(reply, agreed).await) }
    });
    (Client::new(service, "default"), requests)
}

fn parameter<'a>(request: &'a Request<Body>, name: &str) -> Option<&'a str> {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn describe(request: &Request<Body>) -> String {
    let accepts = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let metadata = if accepts.contains("as=PartialObjectMetadata;") { " metadata" } else { "" };
    match parameter(request, "watch") {
        Some(_) => format!("watch{metadata} {}", parameter(request, "resourceVersion").unwrap_or_default()),
        None => format!("{}{metadata}", request.method()),
    }
}

async fn answer(reply: Reply, agreed: f64) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let full = |value: Value| Full::new(Bytes::from(value.to_string())).boxed_unsync();
    let (code, body) = match reply {
        Reply::Json(value) => (200, full(value)),
        Reply::Refusal(status) => {
            let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            (code.unwrap_or(500), full(status))
        }
        Reply::Proxy(code, text) => (code, Full::new(Bytes::from(text)).boxed_unsync()),
        Reply::Events(events, part) => {
            let end = stream::once(sleep(Duration::from_secs_f64(agreed * part))).filter_map(|()| async { None });
            (200, StreamBody::new(lines(events).chain(end)).boxed_unsync())
        }
        Reply::SilentAfter(events) => (200, StreamBody::new(lines(events).chain(stream::pending())).boxed_unsync()),
        Reply::Silence => return std::future::pending().await,
    };
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}

fn lines(events: Vec<Value>) -> impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::iter(events).map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))))
}
