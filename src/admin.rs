//! Serves `/metrics`, and `/livez` and `/readyz` for the kubelet's probes.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fedora_message::bounds::{
    ADMIN_CONNECTION_TIMEOUT, ADMIN_HEADER_TIMEOUT, MAX_ADMIN_CONNECTIONS, MAX_REQUEST_HEAD, MIN_REPORT_INTERVAL,
};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::controller::ReportRequest;
use crate::metrics::{self, Metrics, Report};

/// The controller's loop turns once a second. It may take this long: closing connections takes two
/// seconds.
const MAX_LOOP_TIME: Duration = Duration::from_secs(10);
/// The time that the controller has to make a report. Without one, a page has only counters.
const REPORT_TIMEOUT: Duration = Duration::from_secs(4);
/// The content type of messages.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers requests about the operator's state. Only the page of metrics needs the controller, once a
/// second at most.
pub struct Admin {
    /// The reason why the pending messages are not listed yet, or `None` when they are.
    pub unlisted: watch::Receiver<Option<String>>,
    /// The reason why the operator can't take part in the election, if there is one.
    pub unelected: watch::Receiver<Option<String>>,
    /// When the controller's loop last turned. Nothing before it begins.
    pub heartbeat: watch::Receiver<Option<Instant>>,
    /// Requests for reports. The controller answers them while its loop runs.
    pub controller: mpsc::Sender<ReportRequest>,
    /// The operator's metrics.
    pub metrics: Arc<Metrics>,
    /// The page of metrics.
    pub page: Page,
}

/// A page that is written again when somebody asks for it and it is old.
#[derive(Default)]
pub struct Page {
    wanted: Notify,
    written: watch::Sender<Option<(Instant, Bytes)>>,
}

/// Binds the address. This comes first, so that an address in use stops the start.
///
/// `[::]` stands for all addresses of both families. A kernel without IPv6 has those of IPv4.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Serves requests until the process ends.
///
/// A probe is answered at once. If there are too many connections, one of the address that has the most
/// is closed: its oldest. So nobody but themselves suffers from clients that come and go without end.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    tokio::spawn(keep_page(admin.clone()));
    let mut connections: VecDeque<(IpAddr, AbortHandle)> = VecDeque::new();
    loop {
        let (stream, client) = match listener.accept().await {
            Ok((stream, address)) => (stream, address.ip()),
            Err(error) => {
                // There are no file descriptors left, or the peer has gone. The next one may succeed.
                debug!(%error, "a probe was not accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        connections.retain(|(_, connection)| !connection.is_finished());
        if connections.len() >= MAX_ADMIN_CONNECTIONS
            && let Some((_, connection)) = surplus(&connections).and_then(|index| connections.remove(index))
        {
            connection.abort();
        }
        let connection = timeout(ADMIN_CONNECTION_TIMEOUT, answer_one(stream, admin.clone()));
        connections.push_back((client, tokio::spawn(connection).abort_handle()));
    }
}

/// Returns the place of the oldest connection of the address that has the most.
fn surplus<T>(connections: &VecDeque<(IpAddr, T)>) -> Option<usize> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for (client, _) in connections {
        *counts.entry(*client).or_default() += 1;
    }
    let (greedy, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    connections.iter().position(|(client, _)| *client == greedy)
}

/// Answers one request, and closes the connection.
async fn answer_one(stream: TcpStream, admin: Arc<Admin>) {
    let service =
        service_fn(async |request: Request<Incoming>| Ok::<_, Infallible>(admin.answer(request.uri().path()).await));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEADER_TIMEOUT)
        .max_buf_size(MAX_REQUEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        debug!(%error, "a probe's connection ended");
    }
}

impl Admin {
    async fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/livez" if self.heartbeat.borrow().is_some_and(|beat| beat.elapsed() > MAX_LOOP_TIME) => {
                response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the controller does not answer")
            }
            "/livez" => response(StatusCode::OK, TEXT, "ok"),
            "/readyz" => match self.not_ready_reason() {
                None => response(StatusCode::OK, TEXT, "ok"),
                Some(not_ready_reason) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, not_ready_reason),
            },
            "/metrics" => {
                let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response(StatusCode::OK, content_type, self.page.read().await)
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
        timeout(REPORT_TIMEOUT, ask).await.ok().flatten()
    }
}

impl Page {
    /// Returns the page if it is new enough, or waits for the next one.
    async fn read(&self) -> Bytes {
        let oldest = Instant::now().checked_sub(MIN_REPORT_INTERVAL);
        let is_new = |page: &Option<(Instant, Bytes)>| page.as_ref().is_some_and(|(at, _)| Some(*at) > oldest);
        let mut written = self.written.subscribe();
        if !is_new(&written.borrow()) {
            self.wanted.notify_one();
        }
        let page = written.wait_for(is_new).await;
        page.ok().and_then(|page| page.as_ref().map(|(_, text)| text.clone())).unwrap_or_default()
    }
}

/// Writes the page of metrics whenever somebody wants it, but not again before it is old. However
/// many clients come and go, the controller makes one report a second.
async fn keep_page(admin: Arc<Admin>) {
    loop {
        admin.page.wanted.notified().await;
        // The loop begins once the leader is known, and only it answers.
        let is_running = admin.heartbeat.borrow().is_some();
        let report = if is_running { admin.report().await } else { None };
        let text = admin.metrics.encode(report.as_ref());
        admin.page.written.send_replace(Some((Instant::now(), text.into())));
        sleep(MIN_REPORT_INTERVAL).await;
    }
}

fn response(code: StatusCode, content_type: HeaderValue, detail: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(detail.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::cluster::watch::WatchMonitor;

    /// Also if messages can't be listed. Before the loop begins, the election may take any time.
    #[tokio::test(start_paused = true)]
    async fn hung_controller_is_not_alive() {
        let (beat, heartbeat) = watch::channel(None);
        let admin = Admin {
            unlisted: watch::channel(Some("it is not allowed".to_owned())).1,
            unelected: watch::channel(None).1,
            heartbeat,
            controller: mpsc::channel(1).0,
            metrics: Arc::new(Metrics::new(WatchMonitor::default(), 0)),
            page: Page::default(),
        };
        advance(2 * MAX_LOOP_TIME).await;
        assert_eq!(admin.answer("/livez").await.status(), StatusCode::OK);
        beat.send_replace(Some(Instant::now()));
        assert_eq!(admin.answer("/livez").await.status(), StatusCode::OK);
        advance(2 * MAX_LOOP_TIME).await;
        assert_eq!(admin.answer("/livez").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn clients_that_hold_most_connections_lose_one() {
        let of = |hosts: &[u8]| {
            let clients = hosts.iter().map(|host| (IpAddr::from([10, 0, 0, *host]), ()));
            surplus(&clients.collect())
        };
        assert_eq!([of(&[1, 2, 3, 2]), of(&[5]), of(&[])], [Some(1), Some(0), None]);
    }
}
