//! A network that fails: a TCP proxy in front of a server on loopback.
//!
//! It delays bytes, cuts connections, stalls in one or both directions, and answers instead of the
//! server. It does so for all clients, or for one of them. Its port, connections and threads end
//! with the value.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
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
            move |listener| accept(listener, &inner)
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

    /// Waits until a connection's bytes may be forwarded. Returns false if the proxy ends first.
    fn delay_bytes(&self, direction: Direction) -> bool {
        let mut state = self.lock();
        let arrival = Instant::now() + state.delay;
        loop {
            let stalled = if direction == Direction::Up { state.stalled.0 } else { state.stalled.1 };
            let early = arrival.saturating_duration_since(Instant::now());
            if state.ended {
                return false;
            }
            state = if stalled {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else if early.is_zero() {
                return true;
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

/// Accepts connections until the proxy ends, then waits for their threads.
fn accept(listener: &TcpListener, inner: &ProxyInner) {
    thread::scope(|scope| {
        for number in 0.. {
            let Ok((client, peer)) = listener.accept() else { continue };
            let mut state = inner.lock();
            if state.ended {
                return;
            }
            if inner.victim.is_some_and(|victim| victim != peer.ip()) {
                drop(state);
                // The thread ends with its client or its server.
                scope.spawn(move || connect(inner.server).map(|server| join(&client, &server, |_| true)));
                continue;
            }
            state.accepted += 1;
            let answer = state.answer.clone();
            drop(state);
            scope.spawn(move || {
                // Ignore errors: connections fail on purpose.
                let _ = serve(inner, number, client, &answer);
                inner.lock().open.retain(|pair| pair.number != number);
            });
        }
    });
}

fn serve(inner: &ProxyInner, number: usize, mut client: TcpStream, answer: &Answer) -> Result<()> {
    client.set_nodelay(true)?;
    let server = match answer {
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
    state.open.push(Pair { number, client: client.try_clone()?, server: kept });
    drop(state);
    if let Answer::Say(bytes) = answer {
        client.write_all(bytes)?;
    }
    let Some(server) = server else {
        std::io::copy(&mut client, &mut std::io::sink())?;
        return Ok(());
    };
    join(&client, &server, |direction| inner.delay_bytes(direction));
    Ok(())
}

/// Forwards bytes in both directions, after `may_forward` allows it.
fn join(client: &TcpStream, server: &TcpStream, may_forward: impl Fn(Direction) -> bool + Sync) {
    thread::scope(|scope| {
        scope.spawn(|| pump(server, client, || may_forward(Direction::Down)));
        pump(client, server, || may_forward(Direction::Up));
    });
}

fn connect(port: u16) -> Result<TcpStream> {
    let server = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT_WITHIN)
        .context("no server is behind the proxy")?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Forwards bytes in one direction until one side closes, then closes the other side.
fn pump(mut from: &TcpStream, mut to: &TcpStream, may_forward: impl Fn() -> bool) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut bytes).unwrap_or_default();
        if !may_forward() || length == 0 || to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
    let _ = to.shutdown(Shutdown::Write);
}
