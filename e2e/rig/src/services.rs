//! Service addresses and DNS for the Pods of a [`Cluster`]: kube-proxy with nftables, and a DNS server
//! behind a Service.
//!
//! Pods then reach the API server at its Service, and the broker by the names of Fedora's brokers.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;

use crate::{
    Cluster, command::output, guard::Guard, kube::proxy_binary, network::NODE, network_policy, node::BROKERS,
    packages::Program,
};

const DNS: &str = include_str!("node/dns.yaml");
/// The address of the DNS server's Service. `node/kubelet.yaml` tells it to Pods.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// The address of the DNS server, which it shares with nothing else.
const DNS_SERVER: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 53);
/// The address of the Service `kubernetes`.
const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

const PROXY: &str = "kube-proxy";
const SERVER: &str = "dnsmasq";
const READY_WITHIN: Duration = Duration::from_mins(1);
const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// Keeps the settings of the machine, and accepts connections on loopback alone.
const PROXY_FLAGS: [&str; 6] = [
    "--proxy-mode=nftables",
    "--hostname-override=node",
    "--cluster-cidr=10.244.0.0/16",
    "--conntrack-max-per-core=0",
    "--healthz-bind-address=127.0.0.1:10256",
    "--metrics-bind-address=127.0.0.1:10249",
];
/// Answers for the names of its command line, and says of all others that they don't exist.
const SERVER_FLAGS: [&str; 8] = [
    "--keep-in-foreground",
    "--conf-file=/dev/null",
    "--pid-file=",
    "--user=root",
    "--no-resolv",
    "--no-hosts",
    "--bind-interfaces",
    "--local=/#/",
];

/// The programs of [`Services`].
#[derive(Debug)]
pub struct Programs {
    proxy: PathBuf,
    nft: Program,
    server: Program,
}

impl Programs {
    /// Finds, downloads or builds them. Call it before a cluster starts: the cluster's network has no
    /// connection to the internet.
    pub fn get() -> Result<Self> {
        let (nft, server) = (Program::find("nft", "nftables")?, Program::find(SERVER, "dnsmasq-base")?);
        Ok(Self { proxy: proxy_binary()?, nft, server })
    }
}

/// Service addresses, DNS and network policies of a cluster. They end with its drop.
#[derive(Debug)]
pub struct Services {
    guard: Guard,
    nft: Program,
}

impl Services {
    /// Starts kube-proxy and the DNS server, and waits until the Services of DNS and of the API server
    /// answer. The calling thread must be in the cluster's network.
    pub fn start(programs: Programs, cluster: &Cluster) -> Result<Self> {
        let services = Self { guard: Guard::new("services")?, nft: programs.nft };
        services.start_server(&programs.server)?;
        let dns = [("DNS_SERVICE", DNS_SERVICE), ("DNS_SERVER", DNS_SERVER)];
        let manifests = dns.iter().fold(DNS.to_owned(), |text, (name, value)| text.replace(name, &value.to_string()));
        cluster.kube.apply_text(&manifests)?;
        let mut proxy = Command::new(programs.proxy);
        proxy.args(PROXY_FLAGS).arg(format!("--kubeconfig={}", cluster.kube.kubeconfig().display()));
        services.nft.offer_to(&mut proxy);
        services.guard.start(PROXY, &proxy)?;
        services.guard.wait_ready(PROXY, READY_WITHIN, || answers(DNS_SERVICE, 53) && answers(API_SERVICE, 443))?;
        Ok(services)
    }

    /// Enforces these network policies for these Pods, as the API server returns both, instead of those
    /// before. Later changes have no effect until the next call.
    ///
    /// # Errors
    ///
    /// If a policy has a field that [`network_policy::rules`] does not know.
    pub fn enforce(&self, policies: &[Value], pods: &[Value]) -> Result<()> {
        let file = self.guard.scratch().join("network-policies.nft");
        fs::write(&file, network_policy::rules(policies, pods)?)?;
        output(self.nft.command().arg("-f").arg(file)).map(drop)
    }

    fn start_server(&self, program: &Program) -> Result<()> {
        let address = format!("{DNS_SERVER}/32");
        output(Command::new("ip").args(["address", "add", &address, "dev", "node0"]))?;
        let mut server = program.command();
        server.args(SERVER_FLAGS).arg(format!("--listen-address={DNS_SERVER}")).arg("--port=5353");
        server.arg(format!("--host-record=kubernetes.default.svc.cluster.local,{API_SERVICE}"));
        server.args(BROKERS.map(|name| format!("--host-record={name},{NODE}")));
        self.guard.start(SERVER, &server)?;
        self.guard.wait_ready(SERVER, READY_WITHIN, || answers(DNS_SERVER, 5353))
    }
}

fn answers(address: Ipv4Addr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), CONNECT_WITHIN).is_ok()
}
