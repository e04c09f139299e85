//! The users of one namespace try at once everything that could exhaust the operator. The messages
//! of another namespace are sent as before, and nothing remains afterwards.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rig::{ClientCert, wait_until};
use serde_json::json;

use crate::tenant::{FILES, PEAK, absent, large_secret, latencies};
use e2e::cli::Cli;
use e2e::{
    Operator, SOON, TestNamespace, catalog, message, message_count, message_json, numbered, shared,
    with_foreign_secret, with_secret,
};

/// The messages that the other namespace sends meanwhile.
const NEIGHBORS: usize = 100;
/// Secrets of 1 MiB, and as many ConfigMaps.
const LARGE: usize = 60;
/// The wrong items in one body, and the number of such bodies.
const WRONG: (usize, usize) = (700_000, 6);
/// Clients that read the metrics again and again, and clients that never finish their request.
const CLIENTS: (usize, usize) = (64, 300);
/// A message of the other namespace takes less at the median.
const QUICK: Duration = Duration::from_secs(1);
/// The longest time for a probe, and for 99 of 100 messages, while other tests keep the machine busy.
const SLOW: Duration = Duration::from_secs(4);
/// The memory that may remain, in bytes. The allocator keeps some MiB for each thread.
const REMAINS: usize = 32 << 20;

/// Ends the attack when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn neighbor_is_served_while_tenant_tries_everything() {
    // In CI a tenth: it is the number of kinds that counts, not the size of each.
    let count = message_count(1_000);
    let (tenant, owner) = (TestNamespace::new("tenant"), TestNamespace::new("owner"));
    let neighbor = TestNamespace::with_publisher("neighbor");
    let cli = Cli::new();
    let list = json!({"properties": {"list": {"items": {"type": "string"}}}});
    let catalog = cli.file("catalog.json", &catalog(&[("tenant.list", list)])).display().to_string();
    let start = || {
        let lease = ["--leader-elect", "--lease-namespace", &neighbor.name, "--schema-catalog", &catalog];
        let pods = ["--delivery-mode", "fallback"];
        Operator::with_file_limits(1024, 1024, &[&tenant, &owner, &neighbor], &[&lease[..], &pods].concat())
    };
    let leader = start();
    neighbor.apply(&numbered(10, "before", |_| "tenant.neighbor".to_owned()));
    neighbor.wait_until_sent("before");
    let standby = start();
    let idle = [leader.anonymous(), standby.anonymous()];

    let over = AtomicBool::new(false);
    let goes_on = || !over.load(Ordering::Relaxed);
    let mut slowest = Duration::ZERO;
    let mut files = 0;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS.0 {
            scope.spawn(|| {
                while goes_on() {
                    let client = leader.connect_from_elsewhere().ok();
                    let _ = client.and_then(|client| leader.http_get_by(client, "/metrics"));
                }
            });
        }
        // The threads end also if an assertion fails.
        let _over = Over(&over);
        let _unfinished: Vec<_> = (0..CLIENTS.1).filter_map(|_| unfinished(&leader)).collect();
        scope.spawn(|| attack(&tenant, &owner, count));
        scope.spawn(|| {
            // A Secret that many messages name goes on changing.
            for change in 0.. {
                if !goes_on() {
                    return;
                }
                let secret = json!({"metadata": {"annotations": {"change": change.to_string()}}});
                let _ = tenant.try_kubectl(&["patch", "secret", "busy", "-p", &secret.to_string()], "");
            }
        });
        for n in 0..NEIGHBORS {
            neighbor.create(&message(&format!("good{n}"), "tenant.neighbor", ""));
            for path in ["/livez", "/readyz"] {
                let asked = Instant::now();
                assert_eq!(leader.probe(path), Some(200), "{path}: {}", leader.log());
                slowest = slowest.max(asked.elapsed());
            }
            files = files.max(leader.open_files());
        }
        neighbor.wait_until_sent("good");
    });
    let mut times = latencies(&neighbor);
    times.sort_unstable();
    let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let peak = leader.peak();
    println!("the neighbor's messages took {median:?}, {late:?} at the 99th percentile; a probe {slowest:?} at most");
    println!("{files} files were open, the peak of memory is {} MiB", peak >> 20);
    assert!(files < FILES && peak < PEAK, "{files} files were open, and {peak} bytes were used");
    assert!(median < QUICK && late < SLOW && slowest < SLOW, "{median:?}, {late:?}, {slowest:?}");

    for namespace in [&tenant, &owner] {
        namespace.kubectl(&["delete", "fmsg,secrets,configmaps", "--all", "--wait=false"]);
    }
    let remains = || [leader.anonymous(), standby.anonymous()];
    let gone = || remains().iter().zip(idle).all(|(now, idle)| *now < idle + REMAINS);
    let released = wait_until(SOON, "the memory is released", gone);
    println!("leader and standby: idle {:?} KiB, now {:?} KiB", idle.map(|n| n >> 10), remains().map(|n| n >> 10));
    released.expect("nothing remains");
    neighbor.apply(&message("after", "tenant.neighbor", ""));
    neighbor.wait_for_reason("after", "Sent");
}

/// Begins a request, and never finishes it.
fn unfinished(operator: &Operator) -> Option<std::net::TcpStream> {
    let mut client = operator.connect_from_elsewhere().ok()?;
    client.set_write_timeout(Some(Duration::from_millis(100))).ok()?;
    let _ = client.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(300_000)).as_bytes());
    Some(client)
}

/// Creates what could take files, memory or time.
fn attack(tenant: &TestNamespace, owner: &TestNamespace, count: usize) {
    let publisher = shared().broker.client("publisher").expect("a certificate");
    tenant.kubectl(&["create", "secret", "generic", "busy", "--from-literal=ca=-", "--from-literal=cert=-"]);
    tenant.create(&with_secret(&numbered(count, "busy", |_| "tenant.busy".to_owned()), "busy"));
    tenant.create(&(0..count).map(absent).collect::<String>());
    for n in 0..LARGE {
        let name = format!("large{n}");
        for namespace in [tenant, owner] {
            namespace.create(&large_secret(&name));
        }
        let labels = json!({"apps.fedoraproject.org/message-uid": "x"});
        let data = json!({"message": "x".repeat(1 << 20)});
        let metadata = json!({"name": name, "labels": labels});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
        tenant.create(&map.to_string());
        tenant.create(&with_secret(&message(&format!("own{n}"), "tenant.own", ""), &name));
        tenant.create(&with_foreign_secret(&message(&format!("foreign{n}"), "tenant.foreign", ""), &name, owner));
    }
    for n in 0..WRONG.1 {
        let body = json!({"list": vec![1; WRONG.0]});
        let wrong = json!({"topic": "tenant.wrong", "schema": "tenant.list", "body": body});
        tenant.post(&message_json(&format!("wrong{n}"), &wrong).to_string()).expect("it is accepted");
    }
    let variants = (0..count / 20).map(|n| {
        let name = format!("variant{n}");
        let variant = ClientCert { ca: format!("# {n}\n{}", publisher.ca), ..publisher.clone() };
        let message = with_secret(&message(&name, "tenant.variant", ""), &name);
        format!("{}---{message}", variant.secret_yaml(&name, &tenant.name))
    });
    tenant.create(&variants.collect::<String>());
    wait_until(SOON, "the tenant's own messages are sent", || {
        tenant.sent().is_some_and(|sent| sent.iter().filter(|name| name.starts_with("variant")).count() == count / 20)
    })
    .expect("the tenant's messages are sent too");
}
