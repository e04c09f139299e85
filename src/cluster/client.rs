//! The connection to the API server: kube's own, but with `TCP_NODELAY`, without which the first
//! request on each connection waits some 40 ms for the peer's delayed acknowledgement; and without
//! hidden retries, as everybody here retries in his own way.

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// Who asks, in the API server's audit log and for its priority and fairness.
const NAME: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// A client for the cluster of `KUBECONFIG`, or of the pod's service account. The error says what
/// to do.
pub async fn client() -> Result<Client, String> {
    let mut config = Config::infer().await.map_err(|error| {
        format!("no cluster: {error}; set KUBECONFIG to a kubeconfig file, or run it in a pod with a service account")
    })?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
    build(config).map_err(|error| format!("the cluster's configuration can't be used: {error}; check KUBECONFIG"))
}

fn build(config: Config) -> Result<Client, kube::Error> {
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
    let http: HyperClient<_, Body> = HyperClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
