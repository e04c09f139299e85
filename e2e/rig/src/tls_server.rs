//! A server that speaks TLS as the broker would, and behind it whatever a test wants: AMQP that no
//! broker speaks, or nothing.
//!
//! Everything ends with the value: its port, its connections and its threads.

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

/// A client's connection, in TLS.
pub type Client = StreamOwned<ServerConnection, TcpStream>;

/// What a server does with a connection.
type Serve = dyn Fn(&mut Client) -> io::Result<()> + Send + Sync;

/// A running server.
pub struct TlsServer {
    shared: Arc<Shared>,
    acceptor: Acceptor,
}

struct Shared {
    config: Arc<ServerConfig>,
    serve: Box<Serve>,
    sockets: Mutex<Vec<(usize, TcpStream)>>,
    ended: AtomicBool,
}

impl TlsServer {
    /// Starts a server with this certificate, which asks clients for none. Each connection is given to
    /// `serve` on a thread of its own, and closed when that returns; an error is the end it expects.
    pub fn start(
        certificate: &ClientCert,
        serve: impl Fn(&mut Client) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            config: Arc::new(config(certificate)?),
            serve: Box::new(serve),
            sockets: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let acceptor = Acceptor::start(Ipv4Addr::LOCALHOST, {
            let shared = shared.clone();
            move |listener| accept(listener, &shared)
        })?;
        Ok(Self { shared, acceptor })
    }

    /// Its port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.acceptor.port()
    }

    /// Its URL, as if it were a broker.
    #[must_use]
    pub fn url(&self) -> String {
        self.acceptor.url()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for (_, socket) in self.shared.lock().iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("port", &self.port()).finish_non_exhaustive()
    }
}

/// Reads and drops what the client says, until it ends the connection.
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
        .context("no certificate for a server")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<(usize, TcpStream)>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections until the server ends, then awaits their ends.
fn accept(listener: &TcpListener, shared: &Shared) {
    thread::scope(|scope| {
        for number in 0.. {
            let Ok((socket, _)) = listener.accept() else { continue };
            let Ok(kept) = socket.try_clone() else { continue };
            let mut sockets = shared.lock();
            if shared.ended.load(Ordering::SeqCst) {
                return;
            }
            sockets.push((number, kept));
            drop(sockets);
            scope.spawn(move || {
                // Its client may leave at any time.
                let _ = serve(shared, socket);
                shared.lock().retain(|(other, _)| *other != number);
            });
        }
    });
}

fn serve(shared: &Shared, socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut client = StreamOwned::new(ServerConnection::new(shared.config.clone())?, socket);
    client.conn.complete_io(&mut client.sock)?;
    (shared.serve)(&mut client)?;
    client.conn.send_close_notify();
    client.flush()?;
    Ok(())
}
