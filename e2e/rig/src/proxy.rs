//! A network that fails: a TCP proxy in front of a server on loopback. It delays, cuts, stands still
//! in one direction or both, and answers in the server's place; for all clients, or for one of them.
//!
//! Everything ends with the value: its port, its connections and its threads.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::acceptor::Acceptor;

/// How long the server behind may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What becomes of new connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// They lead to the server.
    #[default]
    Forward,
    /// They lead to another server, on this port.
    Elsewhere(u16),
    /// They are closed at once.
    Close,
    /// They stay open, and nobody says a word.
    Silence,
    /// They are told these bytes, then nothing more.
    Say(Vec<u8>),
}

/// Which way bytes go.
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
    shared: Arc<Shared>,
    acceptor: Acceptor,
}

#[derive(Debug)]
struct Shared {
    server: u16,
    /// The only client that is served badly; else all are.
    victim: Option<IpAddr>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    answer: Answer,
    delay: Duration,
    stalled: (bool, bool),
    accepted: usize,
    open: Vec<Pair>,
    ended: bool,
}

/// A connection's two ends, or the client's alone.
#[derive(Debug)]
struct Pair {
    number: usize,
    client: TcpStream,
    server: Option<TcpStream>,
}

impl Proxy {
    /// Starts a proxy in front of a port on loopback; it forwards.
    pub fn start(server: u16) -> Result<Self> {
        Self::listen(Ipv4Addr::LOCALHOST, server, None)
    }

    /// Starts one on all addresses, that forwards whatever it is told for everybody but this client.
    pub fn against(victim: IpAddr, server: u16) -> Result<Self> {
        Self::listen(Ipv4Addr::UNSPECIFIED, server, Some(victim))
    }

    fn listen(address: Ipv4Addr, server: u16, victim: Option<IpAddr>) -> Result<Self> {
        let shared = Arc::new(Shared { server, victim, state: Mutex::default(), changed: Condvar::new() });
        let acceptor = Acceptor::start(address, {
            let shared = shared.clone();
            move |listener| accept(listener, &shared)
        })?;
        Ok(Self { shared, acceptor })
    }

    /// Where clients connect, on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.acceptor.port()
    }

    /// A broker's URL by way of this proxy.
    #[must_use]
    pub fn url(&self) -> String {
        self.acceptor.url()
    }

    /// What becomes of connections from now on. Those that are open stay as they are.
    pub fn answer(&self, answer: Answer) {
        self.shared.lock().answer = answer;
    }

    /// How long bytes are on their way from now on, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    /// Forwards nothing more in these directions; connections stay open, and take what is sent.
    pub fn stall(&self, ways: &[Direction]) {
        self.shared.lock().stalled = (ways.contains(&Direction::Up), ways.contains(&Direction::Down));
        self.shared.changed.notify_all();
    }

    /// Ends all connections, at both ends.
    pub fn cut(&self) {
        for pair in &self.shared.lock().open {
            pair.cut();
        }
    }

    /// Ends all connections at the server's end. The client is not told, as when a firewall in between
    /// has forgotten the connection.
    pub fn cut_behind(&self) {
        self.stall(&[Direction::Up, Direction::Down]);
        for pair in &self.shared.lock().open {
            pair.server.as_ref().map(|server| server.shutdown(Shutdown::Both));
        }
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    /// How many of them are open at the client's end, as far as is known: while bytes are held back,
    /// an end that comes after them is not seen.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.lock().open.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        self.cut();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a connection's bytes back until they may go on; false if they never may.
    fn hold(&self, way: Direction) -> bool {
        let mut state = self.lock();
        let arrival = Instant::now() + state.delay;
        loop {
            let stalled = if way == Direction::Up { state.stalled.0 } else { state.stalled.1 };
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
            // It fails only where the connection has ended already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// Accepts connections until the proxy ends, then awaits their ends.
fn accept(listener: &TcpListener, shared: &Shared) {
    thread::scope(|scope| {
        for number in 0.. {
            let Ok((client, peer)) = listener.accept() else { continue };
            let mut state = shared.lock();
            if state.ended {
                return;
            }
            if shared.victim.is_some_and(|victim| victim != peer.ip()) {
                drop(state);
                // It ends with its client or its server.
                scope.spawn(move || connect(shared.server).map(|server| join(&client, &server, |_| true)));
                continue;
            }
            state.accepted += 1;
            let answer = state.answer.clone();
            drop(state);
            scope.spawn(move || {
                // A connection that fails is what this is for.
                let _ = serve(shared, number, client, &answer);
                shared.lock().open.retain(|pair| pair.number != number);
            });
        }
    });
}

fn serve(shared: &Shared, number: usize, mut client: TcpStream, answer: &Answer) -> Result<()> {
    client.set_nodelay(true)?;
    let server = match answer {
        Answer::Forward => Some(connect(shared.server)?),
        Answer::Elsewhere(port) => Some(connect(*port)?),
        Answer::Close => return Ok(()),
        Answer::Silence | Answer::Say(_) => None,
    };
    let mut state = shared.lock();
    if state.ended {
        return Ok(());
    }
    let kept = server.as_ref().map(TcpStream::try_clone).transpose()?;
    state.open.push(Pair { number, client: client.try_clone()?, server: kept });
    drop(state);
    if let Answer::Say(words) = answer {
        client.write_all(words)?;
    }
    let Some(server) = server else {
        std::io::copy(&mut client, &mut std::io::sink())?;
        return Ok(());
    };
    join(&client, &server, |way| shared.hold(way));
    Ok(())
}

/// Carries bytes both ways, each when `may_go` says so.
fn join(client: &TcpStream, server: &TcpStream, may_go: impl Fn(Direction) -> bool + Sync) {
    thread::scope(|scope| {
        scope.spawn(|| pump(server, client, || may_go(Direction::Down)));
        pump(client, server, || may_go(Direction::Up));
    });
}

fn connect(port: u16) -> Result<TcpStream> {
    let server = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT_WITHIN)
        .context("nobody is behind the proxy")?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Carries bytes one way until either end is gone, and passes the end on too.
fn pump(mut from: &TcpStream, mut to: &TcpStream, may_go: impl Fn() -> bool) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut bytes).unwrap_or_default();
        if !may_go() || length == 0 || to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
    let _ = to.shutdown(Shutdown::Write);
}
