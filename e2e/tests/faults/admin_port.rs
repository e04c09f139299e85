//! Clients of the admin port try to exhaust the operator, or to keep it from its work.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Operator, SOON, TestNamespace, latencies, message_count, numbered, program, project, run, shared};

use crate::tenant::{LATE, SLOW, absent, alone, under};

/// A message of another namespace takes less at the median, whatever others do.
const QUICK: Duration = Duration::from_secs(1);
/// A client that sends no request is cut off within this time.
const CUT_OFF: Duration = Duration::from_secs(8);
/// The number of clients that never finish their request.
pub const UNFINISHED: usize = 300;
/// The memory that connections may cost, in bytes.
const MEMORY: usize = 8 << 20;

/// Begins a request of 300 kB on this connection, and never finishes it.
pub fn unfinished(mut client: TcpStream) -> TcpStream {
    client.set_write_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    // The server reads no more than it needs.
    let _ = client.write_all(format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(300_000)).as_bytes());
    client
}

#[track_caller]
fn assert_alive(operator: &Operator) {
    for path in ["/livez", "/readyz"] {
        let begun = Instant::now();
        assert_eq!(operator.probe(path), Some(200), "{path}");
        assert!(begun.elapsed() < SLOW, "{path} took {:?}", begun.elapsed());
    }
}

/// Returns true if the server closes the connection while its client sends this piece again and again.
fn is_cut_off(mut client: TcpStream, piece: &[u8]) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let begun = Instant::now();
    while begun.elapsed() < CUT_OFF {
        if client.write_all(piece).is_err() {
            return true;
        }
        match client.read(&mut [0; 1024]) {
            Ok(0) => return true,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return true,
            Ok(_) | Err(_) => {}
        }
    }
    false
}

#[test]
fn unfinished_requests_take_no_memory() {
    let _alone = alone();
    let namespace = TestNamespace::new("admin");
    let operator = Operator::start(&namespace, &[]);
    let before = operator.resident();
    let clients: Vec<TcpStream> =
        (0..UNFINISHED).map(|_| unfinished(operator.connect().expect("a connection"))).collect();
    assert_alive(&operator);
    let (peak, files) = (operator.peak(), operator.open_files());
    println!("memory before: {} KiB, peak: {} KiB; {files} files are open", before >> 10, peak >> 10);
    assert!(peak < before + MEMORY && files < 120, "{before} bytes before, {peak} after, {files} files");
    drop(clients);
}

#[test]
fn idle_clients_are_cut_off() {
    let namespace = TestNamespace::new("idle");
    let operator = Operator::start(&namespace, &[]);
    let client = || operator.connect().expect("a connection");
    let clients = [
        ("idle", client(), &b""[..]),
        ("slow", client(), &b"a"[..]),
        ("after a request", client(), &b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"[..]),
    ];
    thread::scope(|scope| {
        let cut_off = clients.map(|(name, client, piece)| (name, scope.spawn(|| is_cut_off(client, piece))));
        for (name, cut_off) in cut_off {
            assert!(cut_off.join().expect("it ends"), "{name}");
        }
    });
}

/// Neither other namespaces nor probes wait for clients that fetch the metrics as fast as they can. As
/// in a cluster, the probes come from another address: one that holds too many connections loses some.
#[test]
fn scrapes_delay_nobody() {
    let _alone = alone();
    let (tenant, neighbor) = (TestNamespace::new("tenant"), TestNamespace::with_publisher("neighbor"));
    tenant.create_many(&(0..message_count(500)).map(absent).collect::<String>());
    let operator = Operator::start(&tenant, &["--watch-namespaces", &neighbor.name]);
    tenant.wait_for_reasons(LATE, "SecretNotFound");
    let scrape = || drop(operator.scrape_from_elsewhere());
    under(&[&scrape as &(dyn Fn() + Sync); 64], || {
        for batch in 0..5 {
            let prefix = format!("good{batch}-");
            neighbor.apply(&numbered(5, &prefix, |_| "tenant.neighbor".to_owned()));
            neighbor.wait_until_sent(&prefix);
            assert_alive(&operator);
        }
    });
    let latencies = latencies(&neighbor, "");
    let median = latencies[latencies.len() / 2];
    println!("the neighbor's messages took {median:?} at the median");
    assert!(median < QUICK, "{median:?}");
}

/// Starts the operator with its default address in a network of its own, which `set_up` prepares, and
/// returns the answers of `/livez` at these addresses. `wrapper` runs it.
fn answers(set_up: &str, wrapper: &str, addresses: &[&str]) -> Vec<String> {
    let probes = addresses.iter().map(|address| {
        format!(
            "until exec 3<>/dev/tcp/{address}/8080; do kill -0 $! && sleep 0.1 || exit 1; done 2>/dev/null\n\
             printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3\n"
        )
    });
    let script = format!(
        "set -e\nip link set lo up\n{set_up}\n{wrapper} {} run &\ntrap 'kill $!' EXIT\n{}",
        program().display(),
        probes.collect::<String>()
    );
    let mut command = Command::new("timeout");
    command.args([&SOON.as_secs().to_string(), "unshare", "--net", "bash", "-c", &script]);
    command.env("KUBECONFIG", shared().kube.kubeconfig());
    let output = run(&mut command, "").unwrap_or_else(|error| panic!("{set_up}: {error}"));
    output.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn serves_each_address_family() {
    const OK: &str = "HTTP/1.0 200 OK";
    assert_eq!(answers("", "", &["127.0.0.1", "::1"]), [OK, OK]);
    assert_eq!(answers("ip addr del 127.0.0.1/8 dev lo", "", &["::1"]), [OK]);
    let disabled = "for file in all default lo; do echo 1 > /proc/sys/net/ipv6/conf/$file/disable_ipv6; done";
    assert_eq!(answers(disabled, "", &["127.0.0.1"]), [OK]);
    let without_ipv6 = format!("python3 {}", project("testdata/python/without_ipv6.py").display());
    assert_eq!(answers("", &without_ipv6, &["127.0.0.1"]), [OK]);
}
