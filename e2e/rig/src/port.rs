//! Reserves free loopback ports, so no other rig gets them. In a network of its own, a server has a
//! port of its choice.
//!
//! The ports are below the kernel's range for outgoing connections. So no outgoing connection takes
//! a port while its server is down between a kill and a restart.

use std::{
    fs,
    fs::File,
    hash::{BuildHasher, RandomState},
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{cache, wait::wait_for};

const RANGE: Range<u16> = 20_000..22_000;
/// The time limit until a reserved port is free.
const BUSY: Duration = Duration::from_secs(5);

/// A reserved port on 127.0.0.1. Its drop releases it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked while the port is reserved. The kernel unlocks it when the process ends.
    _reservation: Option<File>,
}

impl Port {
    /// Reserves a free port.
    pub fn reserve() -> Result<Self> {
        let folder = cache::folder()?.join("ports");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let length = u64::from(RANGE.end - RANGE.start);
        let offset = RandomState::new().hash_one(0) % length;
        let candidates = RANGE.cycle().skip(usize::try_from(offset)?);
        for number in candidates.take(usize::try_from(length)?) {
            let reservation = File::create(folder.join(number.to_string()))?;
            let ours = reservation.try_lock().is_ok();
            if ours && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _reservation: Some(reservation) });
            }
        }
        bail!("no free port on 127.0.0.1 in {RANGE:?}")
    }

    /// Returns this port, for a server that is alone in its [`Network`](crate::network::Network).
    #[must_use]
    pub fn alone(number: u16) -> Self {
        Self { number, _reservation: None }
    }

    /// Returns its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Listens on the port. Waits while the port is in use: a process that just starts has a copy
    /// of every socket for a moment, also of the one that tested the port.
    pub fn listen(&self, address: Ipv4Addr) -> Result<TcpListener> {
        wait_for(BUSY, "the port is free", || match TcpListener::bind((address, self.number)) {
            Ok(listener) => Ok(Some(listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    /// Returns true if a server accepts connections on the port.
    #[must_use]
    pub fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.number));
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    }
}
