//! The connections to the API server. They are kube's own, with these changes:
//!
//! - `TCP_NODELAY`. Without it the first request on each connection waits some 40 ms for the peer's
//!   delayed acknowledgement.
//! - Idle connections are not used again after a minute, and are closed within the next one.
//! - A connection whose peer is gone is detected: by TCP while it is idle, and by an answer that
//!   does not come. Then all idle connections are discarded, because they probably died at the same
//!   moment.
//! - No hidden retries. Each caller here retries in its own way.
//! - Nothing is written while the fence is closed. It is open for all requests except those that
//!   create Pods (docs/decisions/0012).

use std::error::Error as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use chrono::Utc;
use futures::future::{BoxFuture, FutureExt};
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::{Connect, Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client as HyperClient, Error as HyperError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::client::{Body, ConfigExt};
use kube::config::{InferConfigError, KubeconfigError};
use kube::core::Status;
use kube::{Client, Config};
use parking_lot::Mutex;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tracing::debug;

use crate::fence::Fence;

/// The name of this program in the API server's audit log and in its priority and fairness.
const NAME: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
/// The name of this program in the managed fields of objects.
pub(super) const FIELD_MANAGER: &str = env!("CARGO_PKG_NAME");

/// A connection is not used again after this time without a request. API servers close it after 90
/// seconds, as hyper would by itself. A request that is made at that moment is lost.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// The size in bytes of each buffer of a connection. A watch keeps its buffers, as large as the largest
/// change has made them. hyper alone would let them have 400 KiB.
const MAX_BUFFER: usize = 64 * 1024;
/// TCP asks the peer whether it is there after this time of silence, and then as often in this
/// interval.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A connection is dead after so many questions without an answer.
const KEEPALIVE_RETRIES: u32 = 3;
/// A connection is dead if the peer has not acknowledged bytes for this time. Without it TCP tries
/// for a quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// A caller that gives a request up after this time did not get an answer. The shortest timeout of
/// a caller is longer.
const NO_ANSWER: Duration = Duration::from_secs(4);

/// Discards the idle connections of a client.
pub type Discard = Arc<dyn Fn() + Send + Sync>;

/// Creates a client for the cluster of `KUBECONFIG`, or of the pod's service account, and what
/// discards its idle connections. It writes only while the fence is open.
pub async fn client(fence: Fence) -> anyhow::Result<(Client, Discard)> {
    build(configuration().await?, fence)
}

/// Returns where that cluster is, and as which user to ask.
pub(super) async fn configuration() -> anyhow::Result<Config> {
    let mut config = Config::infer().await.map_err(|error| no_cluster(&error))?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
    Ok(config)
}

/// Returns the same configuration, as another user.
pub(super) fn acting_as(mut config: Config, user: &str) -> Config {
    config.auth_info.impersonate = Some(user.to_owned());
    config
}

/// Creates a client of this configuration.
pub(super) fn build(config: Config, fence: Fence) -> anyhow::Result<(Client, Discard)> {
    let url = config.cluster_url.clone();
    let connected = open(config, fence)
        .map_err(|error| anyhow!("the cluster's configuration can't be used: {error}; check KUBECONFIG"))?;
    debug!(%url, "the cluster");
    Ok(connected)
}

/// Explains why neither a kubeconfig nor a service account names a cluster. The description of a kubeconfig that can't
/// be decoded would quote it, and it may hold a token or a key.
fn no_cluster(error: &InferConfigError) -> anyhow::Error {
    let cause = match error.source().and_then(|source| source.downcast_ref()) {
        Some(KubeconfigError::Parse(mistake)) => match mistake.location() {
            Some(at) => format!("the kubeconfig has a mistake at line {}, column {}", at.line(), at.column()),
            None => "the kubeconfig has a mistake".to_owned(),
        },
        _ => error.to_string(),
    };
    anyhow!("no cluster: {cause}; set KUBECONFIG to a kubeconfig file, or run it in a pod with a service account")
}

/// Creates a client for the cluster that the configuration names.
pub fn connect(config: Config) -> Result<Client, kube::Error> {
    open(config, Fence::always_open()).map(|(client, _)| client)
}

/// Creates a client, and what discards its idle connections.
fn open(config: Config, fence: Fence) -> Result<(Client, Discard), kube::Error> {
    if config.proxy_url.is_some() {
        // It says that proxies are not supported, and which one was configured.
        return Client::try_from(config).map(|client| (client, Arc::new(|| {}) as Discard));
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE / 3));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let connections = Connections::new(connector.map_response(move |stream| Fenced { stream, fence: fence.clone() }));
    let discard = {
        let connections = connections.clone();
        Arc::new(move || connections.discard(&connections.pool()))
    };
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(connections);
    Ok((Client::new(service, config.default_namespace), discard))
}

/// A connection that writes only while the fence is open. A process may be paused at any moment
/// before.
struct Fenced<S> {
    stream: S,
    fence: Fence,
}

impl<S: Read + Unpin> Read for Fenced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Fenced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.fence.pass()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fence.pass()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.fence.pass()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}

impl<S: Connection> Connection for Fenced<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

/// The connections to one API server.
#[derive(Clone)]
struct Connections<C> {
    connector: C,
    pool: Arc<Mutex<Arc<HyperPool<C>>>>,
}

/// Connections that are used again.
type HyperPool<C> = HyperClient<C, Body>;

impl<C: Connect + Clone + Send + Sync + 'static> Connections<C> {
    fn new(connector: C) -> Self {
        let pool = Arc::new(Mutex::new(new_pool(connector.clone())));
        Self { connector, pool }
    }

    fn pool(&self) -> Arc<HyperPool<C>> {
        self.pool.lock().clone()
    }

    /// Discards the idle connections of this pool, unless that has happened. Requests in flight are
    /// not disturbed.
    fn discard(&self, pool: &Arc<HyperPool<C>>) {
        let mut current = self.pool.lock();
        if Arc::ptr_eq(&current, pool) {
            *current = new_pool(self.connector.clone());
        }
    }
}

fn new_pool<C: Connect + Clone + Send + Sync + 'static>(connector: C) -> Arc<HyperPool<C>> {
    let mut builder = HyperClient::builder(TokioExecutor::new());
    // Without a timer, old connections are not used again, but stay open.
    builder.pool_idle_timeout(IDLE_TIMEOUT).pool_timer(TokioTimer::new()).http1_max_buf_size(MAX_BUFFER);
    Arc::new(builder.build(connector))
}

impl<C: Connect + Clone + Send + Sync + 'static> Service<Request<Body>> for Connections<C> {
    type Response = Response<Incoming>;
    type Error = HyperError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let pool = self.pool();
        let answer = pool.request(request);
        let unanswered = Unanswered { connections: self.clone(), pool, since: Some(Instant::now()) };
        async move {
            let answer = answer.await;
            unanswered.end();
            answer
        }
        .boxed()
    }
}

/// A request without an answer. If the caller gives it up, the idle connections are discarded.
struct Unanswered<C: Connect + Clone + Send + Sync + 'static> {
    connections: Connections<C>,
    pool: Arc<HyperPool<C>>,
    since: Option<Instant>,
}

impl<C: Connect + Clone + Send + Sync + 'static> Unanswered<C> {
    /// The answer has come, or an error.
    fn end(mut self) {
        self.since = None;
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Drop for Unanswered<C> {
    fn drop(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= NO_ANSWER) {
            debug!("the API server does not answer: idle connections are discarded");
            self.connections.discard(&self.pool);
        }
    }
}

/// Describes what the API server answers, or what keeps it from being asked.
#[must_use]
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "the API server rejected the credentials (401): check the user in KUBECONFIG, or the pod's ServiceAccount"
                .to_owned()
        }
        kube::Error::Api(status) => format!("the API server says: {} ({})", status.message, status.code),
        cause => format!("the API server can't be asked: {}", root(cause)),
    }
}

/// Describes the same, and says what to do.
#[must_use]
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(_) => describe(error),
        _ => format!(
            "{}: check that it runs, and the network between; outside a Pod also its address in KUBECONFIG",
            describe(error)
        ),
    }
}

/// Returns true if the API server says that there is no such object.
///
/// The code alone does not prove it: a proxy answers 404 too, and so does an API server without this
/// API. kube's `Status::is_not_found` (5.0) accepts both.
pub(crate) fn is_not_found(status: &Status) -> bool {
    status.code == 404 && status.reason == "NotFound"
}

/// Returns the time as objects have it.
pub(super) fn now() -> MicroTime {
    MicroTime(Timestamp::from_microsecond(Utc::now().timestamp_micros()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Returns what is at the bottom of an error. If there is no connection, that is what the operating
/// system or TLS says.
fn root(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
