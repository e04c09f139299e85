//! Serves `/metrics`, and `/livez` and `/readyz` for the kubelet's probes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::controller::ReportRequest;
use crate::metrics::{self, Metrics, Report};

/// The time that the controller has to answer. One round of its loop takes microseconds. Closing connections takes
/// two seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// The content type of messages.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers requests about the operator's state.
pub struct Admin {
    /// The reason why the pending messages are not listed yet, or `None` when they are.
    pub unlisted: watch::Receiver<Option<String>>,
    /// The reason why the operator can't take part in the election, if there is one.
    pub unelected: watch::Receiver<Option<String>>,
    /// Requests for reports. The controller answers them when it has listed all pending messages.
    pub controller: mpsc::Sender<ReportRequest>,
    /// The operator's metrics.
    pub metrics: Arc<Metrics>,
}

/// Binds the address. This comes first, so that an address in use stops the start.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves requests until the process ends.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // There are no file descriptors left, or the peer has gone. The next one may succeed.
                debug!(%error, "a probe was not accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(async |request: Request<Incoming>| {
                Ok::<_, Infallible>(admin.answer(request.uri().path()).await)
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                debug!(%error, "a probe's connection ended");
            }
        });
    }
}

impl Admin {
    async fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let listed = self.unlisted.borrow().is_none();
        match path {
            "/livez" if listed && self.report().await.is_none() => {
                response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the controller does not answer")
            }
            "/livez" => response(StatusCode::OK, TEXT, "ok"),
            "/readyz" => match self.not_ready_reason() {
                None => response(StatusCode::OK, TEXT, "ok"),
                Some(not_ready_reason) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, not_ready_reason),
            },
            "/metrics" => {
                let report = if listed { self.report().await } else { None };
                let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response(StatusCode::OK, content_type, self.metrics.encode(report.as_ref()))
            }
            _ => response(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /livez and /readyz"),
        }
    }

    /// Returns the reason why the operator is not ready, if there is one.
    fn not_ready_reason(&self) -> Option<String> {
        self.unelected.borrow().clone().or_else(|| self.unlisted.borrow().clone())
    }

    /// Returns the controller's report, or `None` if the controller does not answer.
    async fn report(&self) -> Option<Report> {
        let ask = async {
            let (question, answer) = oneshot::channel();
            self.controller.send(question).await.ok()?;
            answer.await.ok()
        };
        timeout(PATIENCE, ask).await.ok().flatten()
    }
}

fn response(code: StatusCode, content_type: HeaderValue, detail: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(detail.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
