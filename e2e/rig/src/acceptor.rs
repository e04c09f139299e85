//! A port whose connections are accepted on a thread of its own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use crate::port::Port;

/// A port that is listened on. Dropping it awaits the thread, which has been told before that it is to end.
#[derive(Debug)]
pub(crate) struct Acceptor {
    port: Port,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Listens, and has `accept` accept connections; it looks after each whether it is to end.
    pub(crate) fn start(address: Ipv4Addr, accept: impl FnOnce(&TcpListener) + Send + 'static) -> Result<Self> {
        let port = Port::reserve()?;
        let listener = port.listen(address)?;
        Ok(Self { port, thread: Some(thread::spawn(move || accept(&listener))) })
    }

    /// Where clients connect, on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// The same as a broker's URL.
    pub(crate) fn url(&self) -> String {
        format!("amqps://localhost:{}/%2Fpubsub", self.port())
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // One more connection, after which it looks.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
