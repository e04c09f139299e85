//! The network between operator and broker fails, in every way in which networks do. Every message
//! arrives, none is called sent before, and only what was in flight may come twice.

use std::thread;
use std::time::Duration;

use rig::proxy::{Answer, Direction};
use rig::{Proxy, TlsServer, tls_server};

use crate::ledger::{Ledger, names};
use e2e::raw::RawConsumer;
use e2e::world::{Operator, Space, world};

/// A namespace whose operator reaches the broker through a proxy.
struct Site {
    title: &'static str,
    space: Space<'static>,
    proxy: Proxy,
    consumer: RawConsumer,
    operator: Operator,
}

impl Site {
    fn new(title: &'static str) -> Self {
        let broker = &world().broker;
        let space = Space::new(title);
        space.certificate(broker, "publisher");
        let proxy = Proxy::start(broker.port()).expect("a proxy");
        let consumer = RawConsumer::start(broker, title);
        let operator = Operator::on(&world().kube, &proxy.url(), &space, &[]);
        Self { title, space, proxy, consumer, operator }
    }

    fn ledger(&self) -> Ledger<'_> {
        Ledger::new(&self.space, &self.consumer, self.title)
    }

    /// Waits until each of these messages is said not to reach the broker, with these words.
    fn expect(&self, names: &[String], words: &str) {
        for name in names {
            let status = self.space.wait_for_reason(name, "BrokerUnreachable");
            let said = status["message"].as_str().unwrap_or_default();
            assert!(said.contains(words), "{words:?} is not in {said:?}");
        }
    }

    /// The operator is well, and ends when it is told to.
    fn end(self) {
        assert_eq!(self.operator.stop(), Some(0), "{}", self.operator.log());
    }
}

#[test]
fn a_slow_link_delays_messages_and_repeats_none() {
    let site = Site::new("slow-link");
    site.proxy.delay(Duration::from_millis(150));
    let mut ledger = site.ledger();
    ledger.send(&names("slow", 100));
    assert_eq!(ledger.all_arrive(0), 0);
    assert_eq!(site.proxy.accepted(), 1, "one connection was enough");
    site.end();
}

#[test]
fn a_connection_that_is_cut_before_its_confirms_is_opened_anew_and_repeats_only_what_was_in_flight() {
    let site = Site::new("cut");
    let mut ledger = site.ledger();
    ledger.send(&names("before", 20));
    ledger.all_arrive(0);
    site.consumer.suspend(&world().broker);
    let in_flight = names("during", 20);
    ledger.send(&in_flight);
    site.consumer.wait_for_hand_over(&world().broker);
    site.proxy.answer(Answer::Close);
    site.proxy.cut();
    site.expect(&in_flight, "the broker localhost:");
    site.consumer.resume(&world().broker);
    ledger.no_false_success();
    site.proxy.answer(Answer::Forward);
    ledger.send(&names("after", 20));
    ledger.all_arrive(in_flight.len());
    site.end();
}

/// The client notices by its heartbeat, after 20 seconds.
#[test]
fn a_connection_that_stands_still_is_given_up_by_its_heartbeat_and_opened_anew() {
    let stalls: [(_, Stall); 3] = [
        ("still-up", |proxy| proxy.stall(&[Direction::Up])),
        ("still-down", |proxy| proxy.stall(&[Direction::Down])),
        ("half-open", Proxy::cut_behind),
    ];
    thread::scope(|scope| {
        for (title, stall) in stalls {
            scope.spawn(move || stands_still(title, stall));
        }
    });
}

/// How a connection comes to stand still.
type Stall = fn(&Proxy);

fn stands_still(title: &'static str, stall: Stall) {
    let site = Site::new(title);
    let mut ledger = site.ledger();
    ledger.send(&names("before", 5));
    ledger.all_arrive(0);
    stall(&site.proxy);
    let in_flight = names("during", 10);
    ledger.send(&in_flight);
    site.expect(&in_flight, "the broker localhost:");
    ledger.no_false_success();
    site.proxy.stall(&[]);
    ledger.send(&names("after", 5));
    ledger.all_arrive(in_flight.len());
    site.end();
}

#[test]
fn a_server_that_accepts_and_never_speaks_holds_nobody_for_long() {
    let certificate = world().broker.pki().server(&["localhost"]).expect("a certificate");
    let mute = TlsServer::start(&certificate, tls_server::listen).expect("a server");
    let cases = [
        ("mute-tcp", Answer::Silence, "the broker accepts the connection but doesn't answer for 10 s"),
        ("mute-tls", Answer::Elsewhere(mute.port()), "it does not answer in AMQP for 10 s"),
    ];
    thread::scope(|scope| {
        for (title, answer, words) in cases {
            scope.spawn(move || {
                let site = Site::new(title);
                site.proxy.answer(answer);
                let waiting = names("waiting", 5);
                let mut ledger = site.ledger();
                ledger.send(&waiting);
                site.expect(&waiting, words);
                assert!(site.proxy.accepted() < waiting.len(), "they wait for the same connection");
                site.proxy.answer(Answer::Forward);
                ledger.all_arrive(0);
                site.end();
            });
        }
    });
}
