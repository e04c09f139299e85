//! A TLS server whose behavior a test defines: AMQP that no broker speaks, or silence.
//!
//! Its port, connections and threads end with the value.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
};

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{acceptor::Acceptor, pki::ClientCert};

/// A client's TLS connection.
pub type Client = StreamOwned<ServerConnection, TcpStream>;

/// A running server.
#[derive(Debug)]
pub struct TlsServer(Acceptor);

impl TlsServer {
    /// Starts a server with this certificate. It requests no client certificate.
    ///
    /// Each connection has its own thread, which calls `serve` and then closes the connection.
    /// Errors of `serve` are expected.
    pub fn start(
        certificate: &ClientCert,
        serve: impl Fn(&mut Client) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let config = Arc::new(config(certificate)?);
        let acceptor = Acceptor::start(Ipv4Addr::LOCALHOST, move |_, socket| {
            // Ignore errors: the client may close at any time.
            let _ = talk(config.clone(), socket, &serve);
        })?;
        Ok(Self(acceptor))
    }

    /// Returns its port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Returns its address as a broker's URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
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

fn talk(config: Arc<ServerConfig>, socket: TcpStream, serve: &impl Fn(&mut Client) -> io::Result<()>) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut client = StreamOwned::new(ServerConnection::new(config)?, socket);
    client.conn.complete_io(&mut client.sock)?;
    serve(&mut client)?;
    client.conn.send_close_notify();
    client.flush()?;
    Ok(())
}
