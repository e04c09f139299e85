//! The broker's name has several addresses, and some of them do not answer.

use std::net::{IpAddr, SocketAddr};

use rig::Resolver;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

use e2e::cli::Cli;
use e2e::{Operator, TestNamespace, certificate, message, shared};

/// An address at which connections are neither accepted nor refused, as behind a firewall that drops
/// packets: the kernel drops them, because the listener's queue is full.
struct BlackHole {
    _runtime: Runtime,
    _queue: (tokio::net::TcpListener, TcpStream),
}

impl BlackHole {
    /// Creates one at this address, on the port of the shared broker.
    fn at(ip: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let address = SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), shared().broker.port());
        let queue = runtime.block_on(async {
            let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }.expect("a socket");
            socket.bind(address).expect("a free port");
            let listener = socket.listen(0).expect("a listener");
            (listener, TcpStream::connect(address).await.expect("the only connection"))
        });
        Self { _runtime: runtime, _queue: queue }
    }
}

#[test]
fn reaches_second_address() {
    let resolver = Resolver::new().expect("a resolver");
    let _holes = [BlackHole::at("127.0.0.2"), BlackHole::at("::1")];
    let (cli, url, certificate) = (Cli::new(), shared().broker.url(), certificate("publisher"));
    let file = cli.file("message.yaml", &message("second", "addresses", "")).display().to_string();
    for first in [&["127.0.0.2"][..], &["::1"], &["127.0.0.3"], &["127.0.0.2", "::1"]] {
        let environment = resolver.environment(&[first, &["127.0.0.1"]].concat());
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let checked = cli.run_with(&certificate, &["check", "--env", "prod", "--prod-amqp-url", &url], &environment);
        checked.expect(0, &["amq.topic exists"]);
        let arguments = ["publish", "-f", &file, "--prod-amqp-url", &url];
        cli.run_with(&certificate, &arguments, &environment).expect(0, &["Sent: "]);
    }
    let namespace = TestNamespace::with_publisher("addresses");
    let environment = resolver.environment(&["127.0.0.2", "127.0.0.1"]);
    let _operator = Operator::with_environment(environment, &namespace);
    assert_eq!(namespace.send("second", "addresses")["attempts"], 1);
}

#[test]
fn names_each_address_that_fails() {
    let resolver = Resolver::new().expect("a resolver");
    let _hole = BlackHole::at("127.0.0.4");
    let environment = resolver.environment(&["127.0.0.4", "127.0.0.5"]);
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let arguments = ["check", "--env", "prod", "--prod-amqp-url", &shared().broker.url()];
    let output = Cli::new().run_with(&certificate("publisher"), &arguments, &environment);
    output.expect(1, &["127.0.0.5: Connection refused", "127.0.0.4: no answer for 10 s", "check the broker, its URL"]);
}
