//! The TLS transport of the AMQP client. Its type makes plain TCP impossible, and its deadlines end
//! silent connections.
//!
//! lapin is built without its own TLS. [`TlsTokio`] is its runtime: tokio's, except that a
//! connection *is* a TLS stream (docs/decisions/0005).

use std::error::Error as StdError;
use std::future::{self, Future};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_compat::{Compat, CompatExt};
use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures::stream::FuturesUnordered;
use futures::{AsyncRead, AsyncWrite, Stream, StreamExt};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant as Deadline, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, Error as TlsError, ProtocolVersion};

use super::address::BrokerAddress;
use super::frames::{FrameGuard, PublishCounts, UnconfirmedBytes};
use super::greeting::Greeting;
use crate::fence::Fence;

/// The time limit for the TCP handshake, and for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// An address that has not answered for this time competes with the next one. RFC 8305 recommends
/// this value.
const HEAD_START: Duration = Duration::from_millis(250);
/// The maximum number of addresses of a name that are tried. A cluster of brokers has three to
/// seven nodes.
const MAX_ADDRESSES: usize = 10;

/// An open TLS connection, before any AMQP.
pub struct Transport {
    stream: Compat<TlsSocket>,
    shutdown_handle: ShutdownHandle,
    /// The broker's first bytes, once it has sent them.
    pub greeting: Greeting,
    /// The bytes that were published on it, and wait for their confirm.
    pub unconfirmed: UnconfirmedBytes,
    /// The number of messages that were published on each channel.
    pub published: PublishCounts,
    /// The negotiated TLS version.
    pub version: Option<ProtocolVersion>,
}

/// Shuts down a connection whose stream another thread owns.
///
/// The AMQP client reads on its own thread, which a silent peer would block forever. After the
/// shutdown, that thread reads the end of the stream and exits.
#[derive(Clone, Debug)]
pub struct ShutdownHandle(Arc<StdTcpStream>);

impl ShutdownHandle {
    /// Shuts the connection down in both directions. A second call has no effect.
    pub fn shut_down(&self) {
        // This fails only if the connection has ended already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The step at which opening a transport failed.
#[derive(Clone, Debug)]
pub enum TransportError {
    /// The name cannot be resolved, or the broker does not answer.
    Tcp(Arc<io::Error>),
    /// One side does not accept the other's certificate, or the peer does not speak TLS.
    Tls(Arc<io::Error>),
}

impl TransportError {
    /// Returns the name of the failed step.
    #[must_use]
    pub fn step(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "address",
            Self::Tls(_) => "TLS",
        }
    }
}

impl Transport {
    /// Connects, and authenticates both sides.
    pub async fn open(address: &BrokerAddress, tls: Arc<ClientConfig>, fence: Fence) -> Result<Self, TransportError> {
        let tcp = |error| TransportError::Tcp(Arc::new(error));
        fence.pass().map_err(tcp)?;
        let tls_failed = |error| TransportError::Tls(Arc::new(error));
        let name = ServerName::try_from(address.host.clone()).map_err(|error| tls_failed(io::Error::other(error)))?;
        let stream = connect(address).await.map_err(tcp)?;
        stream.set_nodelay(true).map_err(tcp)?;
        let (stream, shutdown_handle) = with_shutdown_handle(stream).map_err(tcp)?;
        let handshake = TlsConnector::from(tls).connect(name, stream);
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| tls_failed(timed_out("the broker accepts the connection but doesn't answer")))?
            .map_err(tls_failed)?;
        let version = stream.get_ref().1.protocol_version();
        let (greeting, unconfirmed, published) =
            (Greeting::default(), UnconfirmedBytes::default(), PublishCounts::default());
        let frames = FrameGuard::new(unconfirmed.clone(), published.clone());
        let stream = TlsSocket { stream, fence, greeting: greeting.clone(), frames }.compat();
        Ok(Self { stream, shutdown_handle, greeting, unconfirmed, published, version })
    }

    /// Accepts what a consumer gets. Only tests consume messages.
    #[must_use]
    pub fn for_consumers(mut self) -> Self {
        self.stream.get_mut().frames.accept_consumers();
        self
    }

    /// Returns the stream for the AMQP client and the handle to shut it down.
    #[must_use]
    pub fn into_parts(self) -> (Compat<TlsSocket>, ShutdownHandle) {
        (self.stream, self.shutdown_handle)
    }
}

/// A TLS stream that reports the peer's TLS alert if a write fails. It writes only while the fence
/// is open, and reads only frames that the AMQP client can parse safely.
///
/// Under TLS 1.3 a broker that rejects the client's certificate sends an alert after the handshake.
/// Then it resets the connection without reading the client's first bytes.
#[derive(Debug)]
pub struct TlsSocket {
    stream: TlsStream<TcpStream>,
    fence: Fence,
    greeting: Greeting,
    frames: FrameGuard,
}

impl TlsSocket {
    /// Returns the peer's alert, or else `error`. The alert came before the reset, so it can be
    /// read.
    fn alert_or(&mut self, context: &mut Context<'_>, error: io::Error) -> Poll<io::Error> {
        let mut byte = [0];
        match Pin::new(&mut self.stream).poll_read(context, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Err(alert)) if alert.get_ref().is_some_and(<dyn StdError + Send + Sync>::is::<TlsError>) => {
                Poll::Ready(alert)
            }
            Poll::Ready(_) => Poll::Ready(error),
            Poll::Pending => Poll::Pending,
        }
    }

    fn or_alert<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(error)) => self.alert_or(context, error).map(Err),
            written => written,
        }
    }
}

impl tokio::io::AsyncRead for TlsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let bytes = &buffer.filled()[before..];
        self.greeting.record(bytes);
        Poll::Ready(self.frames.check(bytes))
    }
}

impl tokio::io::AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.fence.pass()?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.or_alert(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fence.pass()?;
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.or_alert(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It would write what is left.
        self.fence.pass()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Connects to the first address of the broker that accepts a connection.
async fn connect(broker: &BrokerAddress) -> io::Result<TcpStream> {
    let deadline = Deadline::now() + HANDSHAKE_TIMEOUT;
    let lookup = timeout_at(deadline, lookup_host((broker.host.as_str(), broker.port)));
    let addresses = lookup.await.map_err(|_| timed_out("no answer to the lookup of its name"))??;
    connect_to_first(alternate(addresses).take(MAX_ADDRESSES), deadline).await
}

/// Lets IPv6 and IPv4 addresses alternate, because often all addresses of a family fail. Each family
/// keeps its order.
fn alternate(addresses: impl Iterator<Item = SocketAddr>) -> impl Iterator<Item = SocketAddr> {
    let mut counts = [0, 0];
    let mut ranked: Vec<(usize, SocketAddr)> = addresses
        .map(|address| {
            let count = &mut counts[usize::from(address.is_ipv6())];
            *count += 1;
            (*count, address)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, address)| address)
}

/// Connects to one address after the other, and keeps the first connection ("happy eyeballs", RFC
/// 8305). The next address is tried when the last one fails, or does not answer for [`HEAD_START`].
async fn connect_to_first(
    mut addresses: impl Iterator<Item = SocketAddr>,
    deadline: Deadline,
) -> io::Result<TcpStream> {
    let (mut attempts, mut errors) = (FuturesUnordered::new(), Vec::new());
    loop {
        attempts.extend(addresses.next().map(|address| connect_to(address, deadline)));
        match timeout(HEAD_START, attempts.next()).await {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(error))) => errors.push(error),
            Ok(None) if errors.is_empty() => return Err(io::Error::other("its name has no address")),
            Ok(None) => return Err(io::Error::other(errors.join("; "))),
            // The next address competes.
            Err(_) => {}
        }
    }
}

/// Connects to one address. The error names it.
async fn connect_to(address: SocketAddr, deadline: Deadline) -> Result<TcpStream, String> {
    let connected = timeout_at(deadline, TcpStream::connect(address)).await;
    let connected = connected.unwrap_or_else(|_| Err(timed_out("no answer")));
    connected.map_err(|error| format!("{}: {error}", address.ip()))
}

fn timed_out(detail: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{detail} for {} s", HANDSHAKE_TIMEOUT.as_secs()))
}

/// Creates a second handle to the socket.
fn with_shutdown_handle(stream: TcpStream) -> io::Result<(TcpStream, ShutdownHandle)> {
    let stream = stream.into_std()?;
    let shutdown_handle = ShutdownHandle(Arc::new(stream.try_clone()?));
    Ok((TcpStream::from_std(stream)?, shutdown_handle))
}

/// The async runtime for lapin.
#[derive(Clone, Debug)]
pub struct TlsTokio(Tokio);

impl TlsTokio {
    /// Returns the runtime of the calling task.
    #[must_use]
    pub fn current() -> Runtime<Self> {
        Runtime::new(Self(Tokio::current()))
    }
}

impl RuntimeKit for TlsTokio {}

impl Executor for TlsTokio {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, future: F) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for TlsTokio {
    type TcpStream = Compat<TlsSocket>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    /// Never called, because lapin receives an open connection. This one would have no credentials.
    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        future::ready(Err(io::Error::from(io::ErrorKind::Unsupported)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate() {
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1"];
        let parsed = addresses.map(|address| SocketAddr::new(address.parse().expect("an address"), 5671));
        let order: Vec<String> = alternate(parsed.into_iter()).map(|address| address.ip().to_string()).collect();
        assert_eq!(order, ["10.0.0.1", "2001:db8::1", "10.0.0.2", "10.0.0.3"]);
    }
}
