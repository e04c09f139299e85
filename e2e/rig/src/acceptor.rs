//! A listener that serves each connection on a thread of its own. All of them end with the value.

use std::{
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use anyhow::Result;

use crate::port::Port;

/// A listening port. Dropping it closes its connections and joins all threads.
#[derive(Debug)]
pub(crate) struct Acceptor {
    port: Port,
    clients: Arc<Clients>,
    thread: Option<JoinHandle<()>>,
}

/// The open connections by number. `None` after the end.
#[derive(Debug)]
struct Clients(Mutex<Option<Vec<(usize, TcpStream)>>>);

impl Acceptor {
    /// Listens, and calls `serve` for each connection with its number.
    pub(crate) fn start(address: Ipv4Addr, serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Result<Self> {
        let port = Port::reserve()?;
        let listener = port.listen(address)?;
        let clients = Arc::new(Clients(Mutex::new(Some(Vec::new()))));
        let of_thread = clients.clone();
        let thread = thread::spawn(move || of_thread.accept(&listener, &serve));
        Ok(Self { port, clients, thread: Some(thread) })
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

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<(usize, TcpStream)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts connections until the end, then waits for their threads.
    fn accept(&self, listener: &TcpListener, serve: &(impl Fn(usize, TcpStream) + Sync)) {
        thread::scope(|scope| {
            for number in 0.. {
                let Ok((client, _)) = listener.accept() else { continue };
                let Ok(kept) = client.try_clone() else { continue };
                match &mut *self.lock() {
                    Some(open) => open.push((number, kept)),
                    None => return,
                }
                scope.spawn(move || {
                    serve(number, client);
                    self.lock().iter_mut().for_each(|open| open.retain(|(other, _)| *other != number));
                });
            }
        });
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        for (_, client) in self.clients.lock().take().unwrap_or_default() {
            let _ = client.shutdown(Shutdown::Both);
        }
        // One more connection makes the thread notice the end.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
