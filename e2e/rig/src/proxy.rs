//! A network that fails: a TCP proxy in front of a server on loopback.
//!
//! It delays or loses bytes, cuts connections, stalls in one or both directions, and answers instead of the
//! server. It does so for all clients, or for one of them. Its port, connections and threads end
//! with the value.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::acceptor::Acceptor;

/// The time limit for the connection to the server.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The handling of new connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Forward to the server.
    #[default]
    Forward,
    /// Forward to another server on this port.
    Elsewhere(u16),
    /// Close at once.
    Close,
    /// Keep open, and send nothing.
    Silence,
    /// Send these bytes, then nothing more.
    Say(Vec<u8>),
}

/// The direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// A proxy in front of one server.
#[derive(Debug)]
pub struct Proxy {
    inner: Arc<ProxyInner>,
    acceptor: Acceptor,
}

#[derive(Debug)]
struct ProxyInner {
    server: u16,
    /// The only client with a failing network. `None` means all clients.
    victim: Option<IpAddr>,
    state: Mutex<ProxyState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ProxyState {
    answer: Answer,
    delay: Duration,
    stalled: (bool, bool),
    accepted: usize,
    open: Vec<Pair>,
    ended: bool,
}

/// The sockets of a connection to client and server, or only to the client.
#[derive(Debug)]
struct Pair {
    number: usize,
    client: TcpStream,
    server: Option<TcpStream>,
    /// True if its bytes are lost.
    lost: bool,
}

/// The fate of bytes that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The proxy forwards them.
    Forwarded,
    /// They are lost, and so is the connection's end.
    Lost,
    /// The proxy has ended.
    Ended,
}

impl Proxy {
    /// Starts a proxy that forwards to a port on loopback.
    pub fn start(server: u16) -> Result<Self> {
        Self::listen(Ipv4Addr::LOCALHOST, server, None)
    }

    /// Starts a proxy on all addresses whose faults affect only this client.
    pub fn against(victim: IpAddr, server: u16) -> Result<Self> {
        Self::listen(Ipv4Addr::UNSPECIFIED, server, Some(victim))
    }

    fn listen(address: Ipv4Addr, server: u16, victim: Option<IpAddr>) -> Result<Self> {
        let inner = Arc::new(ProxyInner { server, victim, state: Mutex::default(), changed: Condvar::new() });
        let acceptor = Acceptor::start(address, {
            let inner = inner.clone();
            move |number, client| {
                // Ignore errors: connections fail on purpose.
                let _ = serve(&inner, number, client);
                inner.lock().open.retain(|pair| pair.number != number);
            }
        })?;
        Ok(Self { inner, acceptor })
    }

    /// Returns its port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.acceptor.port()
    }

    /// Returns a broker's URL through this proxy.
    #[must_use]
    pub fn url(&self) -> String {
        self.acceptor.url()
    }

    /// Sets the handling of new connections. Open ones do not change.
    pub fn answer(&self, answer: Answer) {
        self.inner.lock().answer = answer;
    }

    /// Delays all later bytes, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.inner.lock().delay = delay;
    }

    /// Stops to forward in these directions. Connections stay open and accept bytes.
    pub fn stall(&self, directions: &[Direction]) {
        self.inner.lock().stalled = (directions.contains(&Direction::Up), directions.contains(&Direction::Down));
        self.inner.changed.notify_all();
    }

    /// Closes all connections at both ends.
    pub fn cut(&self) {
        for pair in &self.inner.lock().open {
            pair.cut();
        }
    }

    /// Closes all connections only at the server's end, like a firewall that lost the connection.
    pub fn cut_behind(&self) {
        self.stall(&[Direction::Up, Direction::Down]);
        for pair in &self.inner.lock().open {
            pair.server.as_ref().map(|server| server.shutdown(Shutdown::Both));
        }
    }

    /// Loses all bytes of the open connections, in both directions. Neither end notices, not even
    /// when the other one closes the connection. Later connections work. So does a router that has
    /// lost its table.
    pub fn lose_open_connections(&self) {
        for pair in &mut self.inner.lock().open {
            pair.lost = true;
        }
        self.inner.changed.notify_all();
    }

    /// Returns the number of accepted connections.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.inner.lock().accepted
    }

    /// Returns the number of connections that are open at the client's end. During a stall, this
    /// does not notice that a client closes its connection.
    #[must_use]
    pub fn open(&self) -> usize {
        self.inner.lock().open.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.lock().ended = true;
        self.inner.changed.notify_all();
        self.cut();
    }
}

impl ProxyInner {
    fn lock(&self) -> MutexGuard<'_, ProxyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the fate of a connection's bytes is decided.
    fn delay_bytes(&self, number: usize, direction: Direction) -> Fate {
        let mut state = self.lock();
        let arrival = Instant::now() + state.delay;
        loop {
            let lost = state.open.iter().any(|pair| pair.number == number && pair.lost);
            let stalled = if direction == Direction::Up { state.stalled.0 } else { state.stalled.1 };
            let early = arrival.saturating_duration_since(Instant::now());
            if state.ended {
                return Fate::Ended;
            }
            if lost {
                return Fate::Lost;
            }
            state = if stalled {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else if early.is_zero() {
                return Fate::Forwarded;
            } else {
                self.changed.wait_timeout(state, early).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

impl Pair {
    fn cut(&self) {
        for end in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
            // This fails only if the connection has ended already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn serve(inner: &ProxyInner, number: usize, mut client: TcpStream) -> Result<()> {
    client.set_nodelay(true)?;
    let peer = client.peer_addr()?.ip();
    if inner.victim.is_some_and(|victim| victim != peer) {
        join(&client, &connect(inner.server)?, |_| Fate::Forwarded);
        return Ok(());
    }
    let mut state = inner.lock();
    state.accepted += 1;
    let answer = state.answer.clone();
    drop(state);
    let server = match &answer {
        Answer::Forward => Some(connect(inner.server)?),
        Answer::Elsewhere(port) => Some(connect(*port)?),
        Answer::Close => return Ok(()),
        Answer::Silence | Answer::Say(_) => None,
    };
    let mut state = inner.lock();
    if state.ended {
        return Ok(());
    }
    let kept = server.as_ref().map(TcpStream::try_clone).transpose()?;
    state.open.push(Pair { number, client: client.try_clone()?, server: kept, lost: false });
    drop(state);
    if let Answer::Say(bytes) = &answer {
        client.write_all(bytes)?;
    }
    let Some(server) = server else {
        std::io::copy(&mut client, &mut std::io::sink())?;
        return Ok(());
    };
    join(&client, &server, |direction| inner.delay_bytes(number, direction));
    Ok(())
}

/// Forwards bytes in both directions, if `fate` says so.
fn join(client: &TcpStream, server: &TcpStream, fate: impl Fn(Direction) -> Fate + Sync) {
    thread::scope(|scope| {
        scope.spawn(|| pump(server, client, || fate(Direction::Down)));
        pump(client, server, || fate(Direction::Up));
    });
}

fn connect(port: u16) -> Result<TcpStream> {
    let server = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT_WITHIN)
        .context("no server is behind the proxy")?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Forwards bytes in one direction until one side closes, then closes the other side, unless the
/// connection is lost.
fn pump(mut from: &TcpStream, mut to: &TcpStream, fate: impl Fn() -> Fate) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut bytes).unwrap_or_default();
        match fate() {
            Fate::Forwarded if length > 0 && to.write_all(&bytes[..length]).is_ok() => {}
            Fate::Lost if length > 0 => {}
            Fate::Lost => return,
            Fate::Forwarded | Fate::Ended => break,
        }
    }
    let _ = from.shutdown(Shutdown::Read);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::sync::mpsc::{self, Receiver};

    use super::*;

    /// Longer than a byte takes on loopback.
    const SILENCE: Duration = Duration::from_millis(200);

    /// A server that sends back each byte, and reports each connection that has ended.
    fn echo_server() -> Result<(u16, Receiver<()>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (ended, ends) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let ended = ended.clone();
                thread::spawn(move || {
                    let _ = std::io::copy(&mut &stream, &mut &stream);
                    let _ = ended.send(());
                });
            }
        });
        Ok((port, ends))
    }

    fn echo(stream: &mut TcpStream, byte: u8, within: Duration) -> std::io::Result<u8> {
        stream.set_read_timeout(Some(within))?;
        stream.write_all(&[byte])?;
        let mut answer = [0];
        stream.read_exact(&mut answer).map(|()| answer[0])
    }

    #[test]
    fn loses_open_connections_silently() -> Result<()> {
        let (server, ends) = echo_server()?;
        let proxy = Proxy::start(server)?;
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()));
        let mut lost = connect()?;
        assert_eq!(echo(&mut lost, 1, CONNECT_WITHIN)?, 1);
        proxy.lose_open_connections();
        let mut later = connect()?;
        assert_eq!(echo(&mut later, 2, CONNECT_WITHIN)?, 2, "a new connection works");
        let silence = echo(&mut lost, 3, SILENCE).map_err(|error| error.kind());
        assert_eq!(silence, Err(ErrorKind::WouldBlock), "the client hears nothing, not even an end");
        drop(lost);
        assert!(ends.recv_timeout(SILENCE).is_err(), "the server is not told that the client is gone");
        drop(proxy);
        ends.recv_timeout(CONNECT_WITHIN)?;
        Ok(())
    }
}
