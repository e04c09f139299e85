//! The transport that the AMQP client is given: TLS by its type, so that nothing can make it plain
//! TCP, with deadlines that end a connection for good.
//!
//! lapin is built without TLS of its own. [`TlsTokio`] is its runtime: tokio's, except that a
//! connection *is* a TLS stream (docs/decisions/0005).

use std::error::Error as StdError;
use std::future::{Future, ready};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_compat::{Compat, CompatExt};
use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures::{AsyncRead, AsyncWrite, Stream};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, Error as TlsError, ProtocolVersion};

use super::address::BrokerAddress;
use super::fence::Fence;

/// How long TCP and TLS may take, each.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// An open TLS connection, before any AMQP.
pub struct Transport {
    stream: Compat<TlsSocket>,
    shutdown_handle: ShutdownHandle,
    /// What was negotiated.
    pub version: Option<ProtocolVersion>,
}

/// Ends a connection from outside, whoever holds its stream.
///
/// The AMQP client reads on a thread of its own, and a peer that says nothing would hold it there
/// for good. When the socket is shut down the thread sees the end and leaves.
#[derive(Debug)]
pub struct ShutdownHandle(StdTcpStream);

impl ShutdownHandle {
    /// Shuts the connection down, in both directions. Doing so twice does no harm.
    pub fn shut_down(&self) {
        // It fails only where the connection has ended already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Where opening a transport failed.
#[derive(Clone, Debug)]
pub enum TransportError {
    /// The name can't be resolved, or nobody answers there.
    Tcp(Arc<io::Error>),
    /// The peers don't accept each other, or the peer doesn't speak TLS.
    Tls(Arc<io::Error>),
}

impl TransportError {
    /// The step that failed, for people.
    #[must_use]
    pub fn step(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "address",
            Self::Tls(_) => "TLS",
        }
    }
}

impl Transport {
    /// Connects, and proves both ends to each other.
    pub async fn open(address: &BrokerAddress, tls: Arc<ClientConfig>, gate: Fence) -> Result<Self, TransportError> {
        let tcp = |error| TransportError::Tcp(Arc::new(error));
        gate.pass().map_err(tcp)?;
        let tls_failed = |error| TransportError::Tls(Arc::new(error));
        let name = ServerName::try_from(address.host.clone()).map_err(|error| tls_failed(io::Error::other(error)))?;
        let connect = TcpStream::connect((address.host.as_str(), address.port));
        let stream =
            timeout(HANDSHAKE_TIMEOUT, connect).await.map_err(|_| tcp(timed_out("no answer")))?.map_err(tcp)?;
        stream.set_nodelay(true).map_err(tcp)?;
        let (stream, shutdown_handle) = plugged(stream).map_err(tcp)?;
        let handshake = TlsConnector::from(tls).connect(name, stream);
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| tls_failed(timed_out("the broker accepts the connection but doesn't answer")))?
            .map_err(tls_failed)?;
        let version = stream.get_ref().1.protocol_version();
        Ok(Self { stream: TlsSocket { stream, gate }.compat(), shutdown_handle, version })
    }

    /// The stream for the AMQP client, and the plug to end it by.
    #[must_use]
    pub fn into_parts(self) -> (Compat<TlsSocket>, ShutdownHandle) {
        (self.stream, self.shutdown_handle)
    }
}

/// A TLS stream which, when it can't write any more, gives the peer's last words as the error.
///
/// Under TLS 1.3 a broker that does not accept the client's certificate says so in an alert after the
/// handshake, and then resets the connection, because it did not read what we had begun to write.
///
/// It writes only while the gate is open.
#[derive(Debug)]
pub struct TlsSocket {
    stream: TlsStream<TcpStream>,
    gate: Fence,
}

impl TlsSocket {
    /// The peer's alert, or else `error`. The alert came before the reset, so it is there to be read.
    fn last_words(&mut self, context: &mut Context<'_>, error: io::Error) -> Poll<io::Error> {
        let mut byte = [0];
        match Pin::new(&mut self.stream).poll_read(context, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Err(alert)) if alert.get_ref().is_some_and(<dyn StdError + Send + Sync>::is::<TlsError>) => {
                Poll::Ready(alert)
            }
            Poll::Ready(_) => Poll::Ready(error),
            Poll::Pending => Poll::Pending,
        }
    }

    fn with_last_words<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(error)) => self.last_words(context, error).map(Err),
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.gate.pass()?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.with_last_words(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gate.pass()?;
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.with_last_words(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn timed_out(detail: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{detail} for {} s", HANDSHAKE_TIMEOUT.as_secs()))
}

/// Makes a second handle to the socket.
fn plugged(stream: TcpStream) -> io::Result<(TcpStream, ShutdownHandle)> {
    let stream = stream.into_std()?;
    let shutdown_handle = ShutdownHandle(stream.try_clone()?);
    Ok((TcpStream::from_std(stream)?, shutdown_handle))
}

/// The runtime for lapin.
#[derive(Clone, Debug)]
pub struct TlsTokio(Tokio);

impl TlsTokio {
    /// The runtime of the task that calls this.
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

    /// Never called: the one connection is handed over open. It would be without credentials.
    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        ready(Err(io::Error::from(io::ErrorKind::Unsupported)))
    }
}
