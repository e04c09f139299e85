//! `/livez` and `/readyz`, for the kubelet's probes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch::Receiver;
use tokio::time::sleep;
use tracing::debug;

/// Binds the address, so that one in use is known before anything else is started.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until the process ends. `ready` tells whether all that is pending is known.
pub async fn serve(listener: TcpListener, ready: Receiver<bool>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or the peer has gone: the next may succeed.
                debug!(%error, "a probe was not accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let ready = ready.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, *ready.borrow());
                async move { Ok::<_, Infallible>(answer) }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                debug!(%error, "a probe's connection ended");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, ready: bool) -> Response<Full<Bytes>> {
    let (code, words) = match request.uri().path() {
        "/livez" => (StatusCode::OK, "ok"),
        "/readyz" if ready => (StatusCode::OK, "ok"),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "pending messages have not been listed yet"),
        _ => (StatusCode::NOT_FOUND, "there are /livez and /readyz"),
    };
    let mut response = Response::new(Full::from(words));
    *response.status_mut() = code;
    response
}
