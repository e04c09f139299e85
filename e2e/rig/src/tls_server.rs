//! A TLS server whose behavior a test defines: AMQP that no broker speaks, or silence.
//!
//! Its port, connections and threads end with the value.

use std::{
    fmt,
    io::{self, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{acceptor::Acceptor, pki::ClientCert};

/// A client's TLS connection.
pub type Client = StreamOwned<ServerConnection, TcpStream>;

/// Handles a connection.
type Serve = dyn Fn(&mut Client) -> io::Result<()> + Send + Sync;

/// A running server.
pub struct TlsServer {
    state: Arc<ServerState>,
    acceptor: Acceptor,
}

struct ServerState {
    config: Arc<ServerConfig>,
    serve: Box<Serve>,
    sockets: Mutex<Vec<(usize, TcpStream)>>,
    ended: AtomicBool,
}

impl TlsServer {
    /// Starts a server with this certificate. It requests no client certificate.
    ///
    /// Each connection has its own thread, which calls `serve` and then closes the connection.
    /// Errors of `serve` are expected.
    pub fn start(
        certificate: &ClientCert,
        serve: impl Fn(&mut Client) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let state = Arc::new(ServerState {
            config: Arc::new(config(certificate)?),
            serve: Box::new(serve),
            sockets: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let acceptor = Acceptor::start(Ipv4Addr::LOCALHOST, {
            let state = state.clone();
            move |listener| accept(listener, &state)
        })?;
        Ok(Self { state, acceptor })
    }

    /// Returns its port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.acceptor.port()
    }

    /// Returns its address as a broker's URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.acceptor.url()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        for (_, socket) in self.state.lock().iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("port", &self.port()).finish_non_exhaustive()
    }
}

/// Reads and discards bytes until the client closes the connection.
pub fn listen(client: &mut Client) -> io::Result<()> {
    io::copy(client, &mut io::sink()).map(drop)
}

fn config(certificate: &ClientCert) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(certificate.cert.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the server certificate is invalid")
}

impl ServerState {
    fn lock(&self) -> MutexGuard<'_, Vec<(usize, TcpStream)>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections until the server ends, then waits for their threads.
fn accept(listener: &TcpListener, state: &ServerState) {
    thread::scope(|scope| {
        for number in 0.. {
            let Ok((socket, _)) = listener.accept() else { continue };
            let Ok(kept) = socket.try_clone() else { continue };
            let mut sockets = state.lock();
            if state.ended.load(Ordering::SeqCst) {
                return;
            }
            sockets.push((number, kept));
            drop(sockets);
            scope.spawn(move || {
                // Ignore errors: the client may close at any time.
                let _ = serve(state, socket);
                state.lock().retain(|(other, _)| *other != number);
            });
        }
    });
}

fn serve(state: &ServerState, socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut client = StreamOwned::new(ServerConnection::new(state.config.clone())?, socket);
    client.conn.complete_io(&mut client.sock)?;
    (state.serve)(&mut client)?;
    client.conn.send_close_notify();
    client.flush()?;
    Ok(())
}
