//! The connection to the API server: kube's own, but with `TCP_NODELAY`, without which the first
//! request on each connection waits some 40 ms for the peer's delayed acknowledgement; with idle connections
//! closed before the API server closes them; and without hidden retries, as everybody here retries in his own way.

use std::error::Error as _;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{InferConfigError, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};
use tracing::debug;

/// Who asks, in the API server's audit log and for its priority and fairness.
const NAME: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// After this time without a request a connection is not used again. API servers close it after 90 seconds, as hyper
/// would by itself: a request that is made at that moment is lost.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// A client for the cluster of `KUBECONFIG`, or of the pod's service account. The error says what
/// to do.
pub async fn client() -> Result<Client, String> {
    build(configuration().await?)
}

/// Where that cluster is, and who asks.
pub(crate) async fn configuration() -> Result<Config, String> {
    let mut config = Config::infer().await.map_err(|error| {
        let detail = no_cluster(&error);
        format!("no cluster: {detail}; set KUBECONFIG to a kubeconfig file, or run it in a pod with a service account")
    })?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
    Ok(config)
}

/// The same, but as another user.
pub(crate) fn acting_as(mut config: Config, user: &str) -> Config {
    config.auth_info.impersonate = Some(user.to_owned());
    config
}

/// A client of this configuration; the error says what to do.
pub(crate) fn build(config: Config) -> Result<Client, String> {
    let url = config.cluster_url.clone();
    let client = connect(config)
        .map_err(|error| format!("the cluster's configuration can't be used: {error}; check KUBECONFIG"))?;
    debug!(%url, "the cluster");
    Ok(client)
}

/// Why there is no cluster. What is said of a kubeconfig that can't be decoded would quote it, and there
/// may be a token or a key in it.
fn no_cluster(error: &InferConfigError) -> String {
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(KubeconfigError::Parse(mistake)) => match mistake.location() {
            Some(at) => format!("the kubeconfig has a mistake at line {}, column {}", at.line(), at.column()),
            None => "the kubeconfig has a mistake".to_owned(),
        },
        _ => error.to_string(),
    }
}

/// A client for the cluster that the configuration names.
pub fn connect(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        // It says that proxies are not supported, and which one was configured.
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http: HyperClient<_, Body> =
        HyperClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

/// What the API server says, or what keeps it from being asked: without the answer's other parts.
#[must_use]
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "the API server does not know who asks (401): check the user in KUBECONFIG, or the pod's ServiceAccount"
                .to_owned()
        }
        kube::Error::Api(status) => format!("the API server says: {} ({})", status.message, status.code),
        cause => format!("the API server can't be asked: {}", root(cause)),
    }
}

/// The same, with what to do for the one who runs the operator.
#[must_use]
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(_) => describe(error),
        _ => format!("{}: check that it runs, its address in KUBECONFIG, and the network between", describe(error)),
    }
}

/// What is at the bottom of an error: of no connection, what the operating system or TLS says.
fn root(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
