//! A listener that accepts connections on its own thread.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use crate::port::Port;

/// A listening port. Dropping it joins the thread. The owner must signal the end before.
#[derive(Debug)]
pub(crate) struct Acceptor {
    port: Port,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Listens, and runs `accept` on a thread. After each connection, `accept` must check for the
    /// end.
    pub(crate) fn start(address: Ipv4Addr, accept: impl FnOnce(&TcpListener) + Send + 'static) -> Result<Self> {
        let port = Port::reserve()?;
        let listener = port.listen(address)?;
        Ok(Self { port, thread: Some(thread::spawn(move || accept(&listener))) })
    }

    /// Returns the port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the address as a broker's URL.
    pub(crate) fn url(&self) -> String {
        format!("amqps://localhost:{}/%2Fpubsub", self.port())
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // One more connection makes `accept` check for the end.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
