//! Connections that fail leave nothing behind: no thread, no socket, no memory.

use std::time::Duration;

use rig::proxy::Answer;
use rig::{ClientCert, Proxy, TlsServer, tls_server, wait_until};

use crate::amqp;
use crate::process::{Process, Usage};
use e2e::world::{Operator, SOON, Space, message, world};

/// Each has a connection of its own, as each has other bytes in its Secret.
const CREDENTIALS: usize = 200;
/// How many connections fail in a way that takes ten seconds, and in one that takes a moment.
type Counts = (usize, usize);
/// Before the first look: all that can be under way at a time has been.
const WARM_UP: Counts = (32, 80);
/// Before the second: a thousand in all.
const FAILURES: Counts = (24, 240);

/// Most that may be under way when all connections end at once: some threads and sockets.
const THREADS: usize = 8;
const FILES: usize = 16;
/// Within this, a broker that has refused many times is asked once more: every five minutes.
const SELDOM: Duration = Duration::from_mins(6);
/// What all connections hold that are opened at a time, in MiB, and so what the allocator may keep of it: two
/// environments, eight handshakes each, 8 MiB of buffers. A thousand that leak would hold 8,000.
const MEMORY: usize = 2 * 8 * 8;

#[test]
fn a_thousand_connections_that_fail_leave_no_thread_no_socket_and_no_memory() {
    let space = Space::new("leaks");
    let proxy = Proxy::start(world().broker.port()).expect("a proxy");
    proxy.answer(Answer::Close);
    // Both environments' brokers are behind the proxy.
    let operator = Operator::on(&world().kube, &proxy.url(), &space, &[]);
    let process = Process::of(&operator);
    let certificate = world().broker.client("publisher").expect("a certificate");
    let manifests: String = (0..CREDENTIALS).map(|n| secret_and_message(&certificate, &space, n)).collect();
    space.apply(&manifests).expect("all are accepted");
    wait_until(2 * SOON, "all connections have failed once", || proxy.accepted() >= CREDENTIALS)
        .unwrap_or_else(|error| panic!("{error}: {}", proxy.accepted()));

    let server = world().broker.pki().server(&["localhost"]).expect("a certificate");
    let start =
        |serve: fn(&mut tls_server::Client) -> std::io::Result<()>| TlsServer::start(&server, serve).expect("a server");
    let (mute, brief, refusing) = (start(tls_server::listen), start(|_| Ok(())), start(amqp::refuse_login));
    let slow = [Answer::Silence, Answer::Elsewhere(mute.port())];
    let quick = [
        Answer::Close,
        Answer::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        Answer::Elsewhere(brief.port()),
        Answer::Elsewhere(refusing.port()),
    ];
    let fail = |(slowly, quickly): Counts| {
        for (ways, count) in [(&slow[..], slowly), (&quick, quickly)] {
            for way in ways {
                fail(&proxy, way, count);
            }
        }
    };
    fail(WARM_UP);
    let before = at_rest(&proxy, &process, None);
    fail(FAILURES);
    let after = at_rest(&proxy, &process, Some(before));
    println!("before a thousand failures: {before:?}; after: {after:?}");
    assert!(after.memory <= before.memory + MEMORY, "memory grew: {before:?}, {after:?}");

    proxy.answer(Answer::Forward);
    wait_until(SELDOM, "a message is sent", || space.get("m0")["status"]["reason"] == "Sent")
        .unwrap_or_else(|error| panic!("{error}: {:#}", space.get("m0")["status"]));
}

fn secret_and_message(certificate: &ClientCert, space: &Space, n: usize) -> String {
    let name = format!("certs{n}");
    let certificate = ClientCert { ca: format!("# {n}\n{}", certificate.ca), ..certificate.clone() };
    let env = if n.is_multiple_of(2) { "env: prod" } else { "env: stg" };
    let message = message(&format!("m{n}"), "leaks", "")
        .replace("env: prod", env)
        .replace("{name: certs}", &format!("{{name: {name}}}"));
    format!("{}---{message}", certificate.secret_yaml(&name, &space.name))
}

/// Lets `count` connections fail in this way.
fn fail(proxy: &Proxy, way: &Answer, count: usize) {
    proxy.answer(way.clone());
    let enough = proxy.accepted() + count;
    wait_until(2 * SOON, "connections fail", || proxy.accepted() >= enough)
        .unwrap_or_else(|error| panic!("{error}: {way:?}"));
}

/// Lets all connections end, and looks. If there is a look to compare with, waits for as few threads
/// and files.
fn at_rest(proxy: &Proxy, process: &Process, before: Option<Usage>) -> Usage {
    proxy.answer(Answer::Close);
    wait_until(SOON, "the silent connections are given up", || proxy.open() == 0)
        .unwrap_or_else(|error| panic!("{error}: {}", proxy.open()));
    let Some(before) = before else {
        // Threads end a moment after their connections.
        let settled = || process.usage().threads <= 3 * THREADS;
        wait_until(Duration::from_secs(20), "threads end", settled)
            .unwrap_or_else(|error| panic!("{error}: {:?}", process.usage()));
        return process.usage();
    };
    let as_before = || {
        let now = process.usage();
        now.threads <= before.threads + THREADS && now.files <= before.files + FILES
    };
    wait_until(SOON, "threads and sockets are given back", as_before)
        .unwrap_or_else(|error| panic!("{error}: {before:?}, {:?}", process.usage()));
    process.usage()
}
