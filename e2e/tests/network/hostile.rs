//! A broker with a good certificate and bad manners. It can neither end the operator, nor fill its
//! memory, nor speak to people through a status, nor hold up the other environment's messages.

use std::io::{Result, Write};
use std::thread;

use rig::TlsServer;
use rig::tls_server::{Client, listen};
use serde_json::{Value, json};

use crate::amqp::{self, Tune, USUAL, say};
use crate::process::Process;
use e2e::program::Shell;
use e2e::world::{Operator, Space, message, world};

/// How much more memory a hostile broker may cost, in MiB. An honest connection costs 8.
const MEMORY: usize = 64;

/// Text that acts on a terminal, as long as AMQP lets it be.
fn escapes() -> Vec<u8> {
    let mut text = b"\x1b]0;owned\x07\x1b[2J\x1b[31m\r\nstatus: Sent\0\x7f".to_vec();
    text.resize(255, b'x');
    text
}

/// What a broker does with a connection.
type Manners = fn(&mut Client) -> Result<()>;

/// Bad manners, and the reason that follows.
const BAD: [(&str, Manners, &str); 12] = [
    ("garbage", |client| say_and_listen(client, &[0xFF; 4096]), "BrokerUnreachable"),
    ("other-protocol", |client| say_and_listen(client, b"AMQP\x00\x01\x00\x00"), "BrokerUnreachable"),
    // A method frame that is to have 4 GiB, and begins to come.
    (
        "four-gigabytes",
        |client| say_without_end(client, &[1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF], &[0; 65536]),
        "BrokerUnreachable",
    ),
    ("endless", |client| say_without_end(client, &[], &amqp::frame(8, 0, &[]).repeat(1000)), "BrokerUnreachable"),
    ("truncated", |client| say_and_listen(client, &amqp::start()[..12]), "BrokerUnreachable"),
    ("cut-off", |client| say(client, &amqp::start()[..12]), "BrokerUnreachable"),
    ("wrong-channel", |client| say_and_listen(client, &amqp::frame(3, 7, &[0; 100])), "BrokerUnreachable"),
    ("goodbye", |client| close_with(client, 320), "BrokerUnreachable"),
    ("unknown-code", |client| close_with(client, 999), "BrokerUnreachable"),
    (
        "blocked",
        |client| {
            amqp::log_in(client, USUAL)?;
            amqp::read(client)?;
            say_and_listen(client, &amqp::blocked(&escapes()))
        },
        "BrokerBlocked",
    ),
    (
        "endless-later",
        |client| {
            amqp::log_in(client, USUAL)?;
            say_without_end(client, &[], &amqp::frame(3, 0, &[0; 65536]))
        },
        "BrokerUnreachable",
    ),
    // It lets in, and opens no channel.
    (
        "silent-later",
        |client| {
            amqp::log_in(client, USUAL)?;
            listen(client)
        },
        "BrokerUnreachable",
    ),
];

fn say_and_listen(client: &mut Client, bytes: &[u8]) -> Result<()> {
    say(client, bytes)?;
    listen(client)
}

fn say_without_end(client: &mut Client, first: &[u8], more: &[u8]) -> Result<()> {
    client.write_all(first)?;
    loop {
        client.write_all(more)?;
    }
}

fn close_with(client: &mut Client, code: u16) -> Result<()> {
    amqp::greet(client)?;
    amqp::read(client)?;
    say_and_listen(client, &amqp::close(code, &escapes()))
}

#[test]
fn a_broker_that_breaks_the_protocol_is_unreachable_and_disturbs_nobody_else() {
    for some in BAD.chunks(4) {
        thread::scope(|scope| {
            for (name, serve, reason) in some {
                scope.spawn(|| meet(name, *serve, reason));
            }
        });
    }
}

/// A message for a hostile broker, between two for an honest one.
fn meet(name: &str, serve: Manners, reason: &str) {
    let space = Space::new(name);
    let server = start(serve);
    let operator = start_operator(&space, &server);
    let process = Process::of(&operator);
    send(&space, "good-before", "prod");
    space.wait_for_reason("good-before", "Sent");
    let before = process.usage();

    send(&space, "bad", "stg");
    let status = space.wait_for_reason("bad", reason);
    send(&space, "good-after", "prod");
    assert_eq!(space.wait_for_reason("good-after", "Sent")["attempts"], 1);
    let after = process.usage();
    println!("{name}: {before:?} {after:?} {}", status["message"]);
    assert!(after.memory <= before.memory + MEMORY, "{name}: {before:?}, {after:?}");
    assert_plain(&status);
    assert!(!operator.log().contains('\u{1b}'), "{}", operator.log());
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());
}

#[test]
fn a_broker_that_asks_for_odd_limits_is_used_within_reason() {
    let odd = [
        ("no-frame-limit", Tune { frame_max: 0, ..USUAL }),
        ("huge-frames", Tune { frame_max: u32::MAX, ..USUAL }),
        ("tiny-frames", Tune { frame_max: 1, ..USUAL }),
        ("one-channel", Tune { channel_max: 1, ..USUAL }),
        ("no-channel-limit", Tune { channel_max: 0, ..USUAL }),
        ("no-heartbeat", Tune { heartbeat: 0, ..USUAL }),
        ("rare-heartbeat", Tune { heartbeat: u16::MAX, ..USUAL }),
    ];
    for (name, tune) in odd {
        let space = Space::new(name);
        let server = start(move |client| {
            amqp::log_in(client, tune)?;
            amqp::confirm_all(client)
        });
        let operator = start_operator(&space, &server);
        let process = Process::of(&operator);
        let before = process.usage();
        send(&space, "first", "stg");
        send(&space, "second", "stg");
        for message in ["first", "second"] {
            assert_eq!(space.wait_for_reason(message, "Sent")["attempts"], 1, "{name}");
        }
        let after = process.usage();
        println!("{name}: {before:?} {after:?}");
        assert!(after.memory <= before.memory + MEMORY, "{name}: {before:?}, {after:?}");
        assert_eq!(operator.stop(), Some(0), "{name}: {}", operator.log());
    }
}

#[test]
fn what_a_hostile_broker_says_acts_on_no_terminal_through_check_and_publish() {
    let certificate = world().broker.client("publisher").expect("a certificate");
    let shell = Shell::new();
    let file = shell.file("message.yaml", &message("hostile", "hostile", "")).display().to_string();
    for code in [320, 403, 530] {
        let server = start(move |client| close_with(client, code));
        let checked = shell.check(&server.url(), &certificate, &[]);
        let publish = ["publish", "-f", &file, "--prod-amqp-url", &server.url()].map(str::to_owned).to_vec();
        let published = shell.run(&[publish, shell.certificate(&certificate)].concat(), &[]);
        for ran in [checked, published] {
            ran.expect(1, &["status: Sent"]);
            let said = ran.out + &ran.err;
            assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
            assert!(!said.contains("\nstatus: Sent"), "a line of its own: {said}");
        }
    }
}

fn start(serve: impl Fn(&mut Client) -> Result<()> + Send + Sync + 'static) -> TlsServer {
    let certificate = world().broker.pki().server(&["localhost"]).expect("a certificate");
    TlsServer::start(&certificate, serve).expect("a server")
}

/// An operator whose staging broker is this server.
fn start_operator(space: &Space, server: &TlsServer) -> Operator {
    space.certificate(&world().broker, "publisher");
    Operator::start(space, &["--stg-amqp-url", &server.url()])
}

fn send(space: &Space, name: &str, env: &str) {
    let message = json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1",
        "kind": "FedoraMessage",
        "metadata": {"name": name},
        "spec": {
            "env": env,
            "message": {"topic": "hostile", "body": {}},
            "authentication": {"secretRef": {"name": "certs"}},
        },
    });
    space.post(&message.to_string()).expect("it is accepted");
}

/// No text of the status can act on a terminal.
fn assert_plain(status: &Value) {
    match status {
        Value::String(text) => assert!(!text.chars().any(char::is_control), "{text:?}"),
        Value::Array(items) => items.iter().for_each(assert_plain),
        Value::Object(fields) => fields.values().for_each(assert_plain),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
