//! An isolated network: a network namespace with loopback, and an address at which Pods reach
//! servers on their node.
//!
//! It has no connection to the machine's network. So any number of them can have the same
//! addresses.

use std::{fs::File, net::Ipv4Addr, os::fd::AsFd, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::guard::Guard;

const NAME: &str = "network";
const WITHIN: Duration = Duration::from_secs(10);

/// The node's address in its network. Servers for Pods listen there.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);

/// Creates a pair of virtual network devices and uses one of them. A route for Services lets
/// processes connect to their addresses.
const SET_UP: &str = "
set -e
ip link set lo up
ip link add node0 type veth peer name node1
ip addr add 10.90.0.1/24 dev node0
ip link set node0 up
ip link set node1 up
ip route add 10.0.0.0/24 dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
touch ready
exec sleep infinity
";

/// A network namespace. It ends with the last process in it.
#[derive(Debug)]
pub struct Network {
    holder: u32,
    _guard: Guard,
}

impl Network {
    /// Creates a network. Needs root.
    pub fn new() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "only root can create a network namespace: run this as root");
        let guard = Guard::new(NAME)?;
        let mut command = Command::new("unshare");
        command.args(["--net", "bash", "-c", SET_UP]);
        let holder = guard.start(NAME, &command)?;
        let ready = guard.scratch().join("ready");
        guard.wait_ready(NAME, WITHIN, || ready.exists()).context("apt-get install iproute2")?;
        Ok(Self { holder, _guard: guard })
    }

    /// Moves the calling thread into it, with all threads and processes that it starts later.
    pub fn enter(&self) -> Result<()> {
        let path = format!("/proc/{}/ns/net", self.holder);
        let namespace = File::open(&path).with_context(|| format!("the network has ended: {path} does not exist"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .context("this thread cannot enter the network")
    }

    /// Returns the process that holds it: `nsenter --net --target PID` enters it from a shell.
    #[must_use]
    pub fn holder(&self) -> u32 {
        self.holder
    }
}
