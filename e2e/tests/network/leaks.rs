//! Failed connections leak no thread, no socket and no memory.

use std::time::Duration;

use rig::proxy::Answer;
use rig::{Proxy, TlsServer, tls_server, wait_until};

use crate::amqp;
use crate::process::{Usage, usage};
use e2e::{Operator, SOON, TestNamespace, certificate, message, shared, with_secret};

/// The number of namespaces. Each can have some connections at a time.
const NAMESPACES: usize = 4;
/// The number of certificates of each namespace. Each needs its own connection.
const CERTIFICATES: usize = 50;
/// The number of connections for each slow and each quick failure. A slow one takes ten seconds.
type Counts = (usize, usize);
/// The failures before the first measurement: as many as can be in flight at a time.
const WARM_UP: Counts = (32, 80);
/// The failures before the second measurement: a thousand in all.
const FAILURES: Counts = (24, 240);

/// The threads and files that may remain for a moment after all connections have ended.
const THREADS: usize = 8;
const FILES: usize = 16;
/// The deadline for the next attempt after many refusals. The longest backoff is five minutes.
const LONGEST_BACKOFF: Duration = Duration::from_mins(6);
/// The memory of all connections at a time, in MiB, which the allocator may keep: two environments,
/// eight handshakes each, 8 MiB of buffers. A thousand leaked connections would hold 8,000.
const MEMORY: usize = 2 * 8 * 8;

#[test]
fn failed_connections_leak_nothing() {
    let namespaces = [(); NAMESPACES].map(|()| TestNamespace::new("leaks"));
    let proxy = Proxy::start(shared().broker.port()).expect("a proxy");
    proxy.answer(Answer::Close);
    // The brokers of both environments are behind the proxy.
    let others = namespaces[1..].iter().flat_map(|other| ["--watch-namespaces", &other.name]);
    let operator = Operator::with_broker(&proxy.url(), &namespaces[0], &others.collect::<Vec<_>>());
    for namespace in &namespaces {
        namespace.apply(&(0..CERTIFICATES).map(|n| secret_and_message(namespace, n)).collect::<String>());
    }
    wait_until(2 * SOON, "all connections have failed once", || proxy.accepted() >= NAMESPACES * CERTIFICATES)
        .unwrap_or_else(|error| panic!("{error}: {}", proxy.accepted()));

    let server = shared().broker.pki().server(&["localhost"]).expect("a certificate");
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
    let fail = |(slow_count, quick_count): Counts| {
        for (answers, count) in [(&slow[..], slow_count), (&quick, quick_count)] {
            for answer in answers {
                fail(&proxy, answer, count);
            }
        }
    };
    fail(WARM_UP);
    let before = at_rest(&proxy, &operator, None);
    fail(FAILURES);
    let after = at_rest(&proxy, &operator, Some(before));
    println!("before a thousand failures: {before:?}; after: {after:?}");
    assert!(after.memory <= before.memory + MEMORY, "memory grew: {before:?}, {after:?}");

    proxy.answer(Answer::Forward);
    namespaces[0].wait_for_reason_within(LONGEST_BACKOFF, "m0", "Sent", String::new);
}

fn secret_and_message(namespace: &TestNamespace, n: usize) -> String {
    let name = format!("certs{n}");
    let certificate = certificate("publisher");
    let env = if n.is_multiple_of(2) { "env: prod" } else { "env: stg" };
    let message = with_secret(&message(&format!("m{n}"), "leaks", "").replace("env: prod", env), &name);
    format!("{}---{message}", certificate.secret_yaml(&name, &namespace.name))
}

/// Lets `count` connections fail with this answer.
fn fail(proxy: &Proxy, answer: &Answer, count: usize) {
    proxy.answer(answer.clone());
    let enough = proxy.accepted() + count;
    wait_until(2 * SOON, "connections fail", || proxy.accepted() >= enough)
        .unwrap_or_else(|error| panic!("{error}: {answer:?}"));
}

/// Lets all connections end, and measures the process. If there is an earlier measurement, waits
/// until threads and files are close to it.
fn at_rest(proxy: &Proxy, operator: &Operator, before: Option<Usage>) -> Usage {
    proxy.answer(Answer::Close);
    wait_until(SOON, "the silent connections end", || proxy.open() == 0)
        .unwrap_or_else(|error| panic!("{error}: {}", proxy.open()));
    // Threads end shortly after their connections.
    let settled = || {
        let now = usage(operator);
        before.map_or(now.threads <= 3 * THREADS, |before| {
            now.threads <= before.threads + THREADS && now.files <= before.files + FILES
        })
    };
    wait_until(SOON, "threads and sockets are closed", settled)
        .unwrap_or_else(|error| panic!("{error}: {before:?}, {:?}", usage(operator)));
    usage(operator)
}
