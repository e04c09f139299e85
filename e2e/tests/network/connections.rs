//! The network between operator and broker fails, in all usual ways. Every message arrives, none is
//! marked as sent before, and only messages in flight may arrive twice.

use std::thread;
use std::time::Duration;

use rig::proxy::{Answer, Direction};
use rig::{Proxy, TlsServer, tls_server};

use crate::ledger::{Ledger, names};
use e2e::raw::RawConsumer;
use e2e::{Operator, TestNamespace, shared};

/// A namespace whose operator reaches the broker through a proxy.
struct Site {
    title: &'static str,
    namespace: TestNamespace<'static>,
    proxy: Proxy,
    consumer: RawConsumer,
    operator: Operator,
}

impl Site {
    fn new(title: &'static str) -> Self {
        let broker = &shared().broker;
        let namespace = TestNamespace::new(title).with_certificate(broker, "publisher");
        let proxy = Proxy::start(broker.port()).expect("a proxy");
        let consumer = RawConsumer::start(broker, title);
        let operator = Operator::with_broker(&proxy.url(), &namespace, &[]);
        Self { title, namespace, proxy, consumer, operator }
    }

    fn ledger(&self) -> Ledger<'_> {
        Ledger::new(&self.namespace, &self.consumer, self.title)
    }

    /// Waits until each of these messages reports an unreachable broker, with this text.
    fn wait_unreachable(&self, names: &[String], expected: &str) {
        for name in names {
            self.namespace.expect_reason(name, "BrokerUnreachable", &[expected]);
        }
    }

    /// Asserts that the operator ends by itself.
    fn end(self) {
        assert_eq!(self.operator.stop(), Some(0), "{}", self.operator.log());
    }
}

#[test]
fn slow_connection_repeats_nothing() {
    let site = Site::new("slow-link");
    site.proxy.delay(Duration::from_millis(150));
    let mut ledger = site.ledger();
    ledger.create(&names("slow", 100));
    assert_eq!(ledger.wait_for_all(0), 0);
    assert_eq!(site.proxy.accepted(), 1, "one connection is enough");
    site.end();
}

/// The connection is cut before its confirms. Only messages in flight arrive twice.
#[test]
fn reopens_cut_connection() {
    let site = Site::new("cut");
    let mut ledger = site.ledger();
    ledger.create(&names("before", 20));
    ledger.wait_for_all(0);
    site.consumer.suspend(&shared().broker);
    let in_flight = names("during", 20);
    ledger.create(&in_flight);
    site.consumer.wait_for_hand_over(&shared().broker);
    site.proxy.answer(Answer::Close);
    site.proxy.cut();
    site.wait_unreachable(&in_flight, "the broker localhost:");
    site.consumer.resume(&shared().broker);
    ledger.assert_no_false_success();
    site.proxy.answer(Answer::Forward);
    ledger.create(&names("after", 20));
    ledger.wait_for_all(in_flight.len());
    site.end();
}

/// The client detects the stall by its heartbeat, after 20 seconds.
#[test]
fn reopens_stalled_connection() {
    let stalls: [(_, fn(&Proxy)); 3] = [
        ("still-up", |proxy| proxy.stall(&[Direction::Up])),
        ("still-down", |proxy| proxy.stall(&[Direction::Down])),
        ("half-open", Proxy::cut_behind),
    ];
    thread::scope(|scope| {
        for (title, stall) in stalls {
            scope.spawn(move || stall_connection(title, stall));
        }
    });
}

fn stall_connection(title: &'static str, stall: fn(&Proxy)) {
    let site = Site::new(title);
    let mut ledger = site.ledger();
    ledger.create(&names("before", 5));
    ledger.wait_for_all(0);
    stall(&site.proxy);
    let in_flight = names("during", 10);
    ledger.create(&in_flight);
    site.wait_unreachable(&in_flight, "the broker localhost:");
    ledger.assert_no_false_success();
    site.proxy.stall(&[]);
    ledger.create(&names("after", 5));
    ledger.wait_for_all(in_flight.len());
    site.end();
}

#[test]
fn gives_up_silent_server() {
    let certificate = shared().broker.pki().server(&["localhost"]).expect("a certificate");
    let mute = TlsServer::start(&certificate, tls_server::listen).expect("a server");
    let cases = [
        ("mute-tcp", Answer::Silence, "the broker accepts the connection but doesn't answer for 10 s"),
        ("mute-tls", Answer::Elsewhere(mute.port()), "it does not answer in AMQP for 10 s"),
    ];
    thread::scope(|scope| {
        for (title, answer, expected) in cases {
            scope.spawn(move || {
                let site = Site::new(title);
                site.proxy.answer(answer);
                let waiting = names("waiting", 5);
                let mut ledger = site.ledger();
                ledger.create(&waiting);
                site.wait_unreachable(&waiting, expected);
                assert!(site.proxy.accepted() < waiting.len(), "all messages wait for one connection");
                site.proxy.answer(Answer::Forward);
                ledger.wait_for_all(0);
                site.end();
            });
        }
    });
}
