//! A hostile broker with a valid certificate. It can neither end the operator, nor fill its memory,
//! nor control a terminal through a status, nor delay messages of the other environment.

use std::io::{Result, Write};
use std::thread;
use std::time::Duration;

use rig::tls_server::{Client, listen};
use rig::{TlsServer, wait_until};
use serde_json::{Value, json};

use crate::amqp::{self, DEFAULT, Tune, send};
use crate::process::usage;
use e2e::cli::Cli;
use e2e::{Operator, SOON, TestNamespace, certificate, message, message_json, shared};

/// The messages to the honest broker, after the hostile one has answered.
const OTHERS: usize = 10;
/// The maximum number of attempts with the hostile broker, until the others are sent.
const ATTEMPTS: u64 = 20;
/// The additional memory that a hostile broker may cost, in MiB. An honest connection costs 8.
const MEMORY: usize = 64;

/// Returns a text that controls a terminal, with the maximum length of AMQP.
fn escapes() -> Vec<u8> {
    let mut text = b"\x1b]0;owned\x07\x1b[2J\x1b[31m\r\nstatus: Sent\0\x7f".to_vec();
    text.resize(255, b'x');
    text
}

/// The behavior of a broker on a connection.
type Behavior = fn(&mut Client) -> Result<()>;

/// Hostile behavior, and the expected reason.
const HOSTILE: [(&str, &str, Behavior); 21] = [
    ("garbage", "BrokerUnreachable", |client| send_and_listen(client, &[0xFF; 4096])),
    ("other-protocol", "BrokerUnreachable", |client| send_and_listen(client, b"AMQP\x00\x01\x00\x00")),
    // The first part of a method frame with a length of 4 GiB.
    ("four-gigabytes", "BrokerUnreachable", |client| {
        client.write_all(&[1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF])?;
        amqp::repeat(client, &[0; 65536])
    }),
    ("endless", "BrokerUnreachable", |client| amqp::repeat(client, &amqp::frame(8, 0, &[]).repeat(1000))),
    // To parse it by recursion would overflow the stack.
    ("deep-table", "BrokerUnreachable", |client| send_and_listen(client, &amqp::deep_start())),
    ("truncated", "BrokerUnreachable", |client| send_and_listen(client, &amqp::start()[..12])),
    ("cut-off", "BrokerUnreachable", |client| send(client, &amqp::start()[..12])),
    ("wrong-channel", "BrokerUnreachable", |client| send_and_listen(client, &amqp::frame(3, 7, &[0; 100]))),
    ("goodbye", "BrokerUnreachable", |client| close_with(client, 320)),
    ("unknown-code", "BrokerUnreachable", |client| close_with(client, 999)),
    ("blocked", "BrokerBlocked", |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::read(client)?;
        send_and_listen(client, &amqp::blocked(&escapes()))
    }),
    ("blocked-at-once", "BrokerBlocked", |client| {
        amqp::log_in_during_alarm(client)?;
        listen(client)
    }),
    ("endless-later", "BrokerUnreachable", |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::repeat(client, &amqp::frame(3, 0, &[0; 65536]))
    }),
    ("endless-return", "BrokerUnreachable", |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::return_endlessly(client)
    }),
    ("return-again", "BrokerUnreachable", |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::return_again(client)
    }),
    ("return-confirmed", "Sent", |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::return_after_confirm(client)
    }),
    ("endless-flow", "BrokerUnreachable", |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::flow_endlessly(client)
    }),
    ("endless-cancel", "BrokerUnreachable", |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::cancel_endlessly(client)
    }),
    ("endless-deliver", "BrokerUnreachable", |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::deliver_endlessly(client)
    }),
    // The broker accepts the login, and opens no channel.
    ("silent-later", "BrokerUnreachable", |client| {
        amqp::log_in(client, DEFAULT)?;
        listen(client)
    }),
    // Each end of an alarm may let waiting messages be sent.
    ("alarms", "BrokerBlocked", |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::repeat(client, &amqp::short_alarm().repeat(1000))
    }),
];

fn send_and_listen(client: &mut Client, bytes: &[u8]) -> Result<()> {
    send(client, bytes)?;
    listen(client)
}

fn close_with(client: &mut Client, code: u16) -> Result<()> {
    amqp::greet(client)?;
    amqp::read(client)?;
    send_and_listen(client, &amqp::close(code, &escapes()))
}

/// Other messages are not disturbed.
#[test]
fn contains_protocol_violations() {
    for batch in HOSTILE.chunks(4) {
        thread::scope(|scope| {
            for (name, reason, serve) in batch {
                scope.spawn(|| meet(name, *serve, reason));
            }
        });
    }
}

/// Sends a message to a hostile broker, between messages to an honest one.
fn meet(name: &str, serve: Behavior, reason: &str) {
    let namespace = TestNamespace::new(name);
    let server = start(serve);
    let operator = start_operator(&namespace, &server);
    post(&namespace, "good-before", "prod");
    namespace.wait_for_reason("good-before", "Sent");
    let before = usage(&operator);

    post(&namespace, "bad", "stg");
    let status = namespace.wait_for_reason("bad", reason);
    for n in 0..OTHERS {
        let name = format!("good-after{n}");
        post(&namespace, &name, "prod");
        assert_eq!(namespace.wait_for_reason(&name, "Sent")["attempts"], 1);
    }
    let after = usage(&operator);
    println!("{name}: {before:?} {after:?} {}", status["message"]);
    assert!(after.memory <= before.memory + MEMORY, "{name}: {before:?}, {after:?}");
    assert_plain(&status);
    let attempts = namespace.get("bad")["status"]["attempts"].as_u64();
    assert!(attempts.is_some_and(|attempts| attempts <= ATTEMPTS), "{name}: {attempts:?} attempts");
    assert!(!operator.log().contains('\u{1b}'), "{}", operator.log());
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());
}

#[test]
fn accepts_odd_limits() {
    let odd = [
        ("no-frame-limit", Tune { frame_max: 0, ..DEFAULT }),
        ("huge-frames", Tune { frame_max: u32::MAX, ..DEFAULT }),
        ("tiny-frames", Tune { frame_max: 1, ..DEFAULT }),
        ("one-channel", Tune { channel_max: 1, ..DEFAULT }),
        ("no-channel-limit", Tune { channel_max: 0, ..DEFAULT }),
        ("no-heartbeat", Tune { heartbeat: 0, ..DEFAULT }),
        ("rare-heartbeat", Tune { heartbeat: u16::MAX, ..DEFAULT }),
    ];
    for (name, tune) in odd {
        let namespace = TestNamespace::new(name);
        let server = start(move |client| {
            amqp::log_in(client, tune)?;
            amqp::confirm_all(client)
        });
        let operator = start_operator(&namespace, &server);
        let before = usage(&operator);
        post(&namespace, "first", "stg");
        post(&namespace, "second", "stg");
        for message in ["first", "second"] {
            assert_eq!(namespace.wait_for_reason(message, "Sent")["attempts"], 1, "{name}");
        }
        let after = usage(&operator);
        println!("{name}: {before:?} {after:?}");
        assert!(after.memory <= before.memory + MEMORY, "{name}: {before:?}, {after:?}");
        assert_eq!(operator.stop(), Some(0), "{name}: {}", operator.log());
    }
}

/// The time for the confirm begins at the end of the alarm. The message is published once.
#[test]
fn confirm_may_come_late_after_alarm() {
    let namespace = TestNamespace::new("late-confirm");
    let (alarm, later) = (Duration::from_millis(1900), Duration::from_millis(700));
    let server = start(move |client| {
        amqp::log_in(client, DEFAULT)?;
        amqp::confirm_after_alarm(client, alarm, later)
    });
    namespace.store_certificate(&shared().broker, "publisher");
    let _operator = Operator::start(&namespace, &["--stg-amqp-url", &server.url(), "--confirm-timeout", "2"]);
    post(&namespace, "late", "stg");
    assert_eq!(namespace.wait_for_reason("late", "Sent")["attempts"], 1);
}

/// A connection whose channels are used up is replaced. The broker never answers that it is closed.
#[test]
fn replaced_connections_end() {
    const REPLACED: usize = 40;
    let namespace = TestNamespace::new("replaced");
    let server = start(|client| {
        amqp::log_in(client, Tune { channel_max: 1, ..DEFAULT })?;
        amqp::confirm_all(client)
    });
    let operator = start_operator(&namespace, &server);
    let send = |name: &str| {
        post(&namespace, name, "stg");
        namespace.wait_for_reason(name, "Sent");
    };
    send("first");
    let before = usage(&operator);
    for n in 0..REPLACED {
        send(&format!("message{n}"));
    }
    let ended = || {
        let now = usage(&operator);
        now.threads < before.threads + REPLACED / 4 && now.files < before.files + REPLACED / 4
    };
    wait_until(SOON, "the replaced connections end", ended)
        .unwrap_or_else(|error| panic!("{error}: {before:?}, {:?}", usage(&operator)));
}

#[test]
fn commands_escape_hostile_texts() {
    let certificate = certificate("publisher");
    let cli = Cli::new();
    let file = cli.file("message.yaml", &message("hostile", "hostile", "")).display().to_string();
    for code in [320, 403, 530] {
        let server = start(move |client| close_with(client, code));
        let checked = cli.check(&server.url(), &certificate, &[]);
        let published = cli.run_with(&certificate, &["publish", "-f", &file, "--prod-amqp-url", &server.url()], &[]);
        for output in [checked, published] {
            output.expect(1, &["status: Sent"]);
            let text = output.all();
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
            assert!(!text.contains("\nstatus: Sent"), "a separate line: {text}");
        }
    }
}

fn start(serve: impl Fn(&mut Client) -> Result<()> + Send + Sync + 'static) -> TlsServer {
    let certificate = shared().broker.pki().server(&["localhost"]).expect("a certificate");
    TlsServer::start(&certificate, serve).expect("a server")
}

/// Starts an operator whose staging broker is this server.
fn start_operator(namespace: &TestNamespace, server: &TlsServer) -> Operator {
    namespace.store_certificate(&shared().broker, "publisher");
    Operator::start(namespace, &["--stg-amqp-url", &server.url()])
}

fn post(namespace: &TestNamespace, name: &str, env: &str) {
    let mut message = message_json(name, &json!({"topic": "hostile", "body": {}}));
    message["spec"]["env"] = json!(env);
    namespace.post(&message.to_string()).expect("the API server accepts it");
}

/// Asserts that no text of the status can control a terminal.
fn assert_plain(status: &Value) {
    match status {
        Value::String(text) => assert!(!text.chars().any(char::is_control), "{text:?}"),
        Value::Array(items) => items.iter().for_each(assert_plain),
        Value::Object(fields) => fields.values().for_each(assert_plain),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
