//! The users of one namespace try at once everything that could exhaust the operator. The messages
//! of another namespace are sent as before, and nothing remains afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fedora_message::pod::manifest::UID_LABEL;
use rig::{ClientCert, wait_until};
use serde_json::json;

use crate::admin_port::{UNFINISHED, unfinished};
use crate::tenant::{
    FILES, PEAK, absent, alone, create_wrong_messages, large_secret, secret_and_message, under, wrong_catalog,
};
use e2e::cli::Cli;
use e2e::{
    Operator, SOON, TestNamespace, certificate, latencies, message, message_count, numbered, with_foreign_secret,
    with_secret,
};

/// The messages that the other namespace sends meanwhile.
const NEIGHBORS: usize = 100;
/// Secrets of 1 MiB, and as many ConfigMaps.
const LARGE: usize = 60;
/// Pods with the operator's label.
const PODS: usize = 200;
/// The clients that read the metrics again and again.
const SCRAPERS: usize = 16;
/// A message of the other namespace takes less at the median.
const QUICK: Duration = Duration::from_secs(1);
/// The longest time for a probe, and for 99 of 100 messages, while other tests keep the machine busy.
const SLOW: Duration = Duration::from_secs(4);
/// Messages of each kind, if `FAULTS_MESSAGES` does not set another number.
const MESSAGES: usize = 500;
/// The memory that may remain, in bytes, beyond that of an idle operator.
const REMAINS: usize = 5 << 20;
/// A large run takes longer. The last memory goes back with unused connections, after six minutes.
const LATER: Duration = Duration::from_mins(10);

#[test]
fn neighbor_is_served_while_tenant_tries_everything() {
    let alone = alone();
    let count = message_count(MESSAGES);
    let patience = if count > MESSAGES { LATER } else { SOON };
    let (tenant, owner) = (TestNamespace::new("tenant"), TestNamespace::new("owner"));
    let neighbor = TestNamespace::with_publisher("neighbor");
    let cli = Cli::new();
    let catalog = cli.file("catalog.json", &wrong_catalog()).display().to_string();
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

    let scrape = || drop(leader.scrape_from_elsewhere());
    let changes = AtomicUsize::new(0);
    // A Secret that many messages name goes on changing.
    let change = || {
        let number = changes.fetch_add(1, Ordering::Relaxed).to_string();
        let secret = json!({"metadata": {"annotations": {"change": number}}});
        let _ = tenant.try_kubectl(&["patch", "secret", "busy", "-p", &secret.to_string()], "");
    };
    let mut attacks = vec![&scrape as &(dyn Fn() + Sync); SCRAPERS];
    attacks.push(&change);
    let _unfinished: Vec<_> =
        (0..UNFINISHED).filter_map(|_| leader.connect_from_elsewhere().ok().map(unfinished)).collect();
    let (mut slowest, mut files) = (Duration::ZERO, 0);
    under(&attacks, || {
        thread::scope(|scope| {
            scope.spawn(|| create_everything(&tenant, &owner, count, patience));
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
    });
    let times = latencies(&neighbor, "");
    let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let peak = leader.peak();
    println!("the neighbor's messages took {median:?}, {late:?} at the 99th percentile; a probe {slowest:?} at most");
    println!("{files} files were open, the peak of memory is {} MiB", peak >> 20);
    assert!(files < FILES && peak < PEAK, "{files} files were open, and {peak} bytes were used");
    assert!(median < QUICK && late < SLOW && slowest < SLOW, "{median:?}, {late:?}, {slowest:?}");
    drop(alone);

    for namespace in [&tenant, &owner] {
        namespace.kubectl(&["delete", "fmsg,secrets,configmaps,pods", "--all", "--wait=false"]);
    }
    let remains = || [leader.anonymous(), standby.anonymous()];
    let gone = || remains().iter().zip(idle).all(|(now, idle)| *now < idle + REMAINS);
    let released = wait_until(LATER, "the memory is released", gone);
    println!("leader and standby: idle {:?} KiB, now {:?} KiB", idle.map(|n| n >> 10), remains().map(|n| n >> 10));
    released.expect("nothing remains");
    neighbor.apply(&message("after", "tenant.neighbor", ""));
    neighbor.wait_for_reason("after", "Sent");
}

/// Creates what could take files, memory or time. The messages that can be sent, are.
fn create_everything(tenant: &TestNamespace, owner: &TestNamespace, count: usize, patience: Duration) {
    let publisher = certificate("publisher");
    tenant.kubectl(&["create", "secret", "generic", "busy", "--from-literal=ca=-", "--from-literal=cert=-"]);
    tenant.create_many(&with_secret(&numbered(count, "busy", |_| "tenant.busy".to_owned()), "busy"));
    tenant.create_many(&(0..count).map(absent).collect::<String>());
    let names = || (0..LARGE).map(|n| format!("large{n}"));
    let secrets: String = names().map(|name| large_secret(&name)).collect();
    owner.create_many(&secrets);
    tenant.create_many(&secrets);
    tenant.create_many(&names().map(|name| large_map(&name)).collect::<String>());
    tenant.create_many(&(0..PODS).map(labeled_pod).collect::<String>());
    tenant
        .create_many(&names().map(|name| with_secret(&message(&name, "tenant.large", ""), &name)).collect::<String>());
    let foreign =
        |name: String| with_foreign_secret(&message(&format!("foreign-{name}"), "tenant.foreign", ""), &name, owner);
    tenant.create_many(&names().map(foreign).collect::<String>());
    create_wrong_messages(tenant);
    let variants = (0..count / 10).map(|n| {
        let variant = ClientCert { ca: format!("# {n}\n{}", publisher.ca), ..publisher.clone() };
        secret_and_message(&variant, tenant, n)
    });
    tenant.create_many(&variants.collect::<String>());
    let sent = || tenant.sent().map(|sent| sent.iter().filter(|name| name.starts_with("own")).count());
    wait_until(patience, "the tenant's own messages are sent", || sent() == Some(count / 10))
        .expect("the tenant's messages are sent too");
}

/// Returns a ConfigMap of 1 MiB, with the operator's label.
fn large_map(name: &str) -> String {
    let metadata = json!({"name": name, "labels": {UID_LABEL: "x"}});
    let data = json!({"message": "x".repeat(1 << 20)});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}).to_string()
}

/// Returns a Pod with the operator's label, and as much text as a Pod may have.
fn labeled_pod(number: usize) -> String {
    let annotations = json!({"note": "x".repeat(250 << 10)});
    let metadata = json!({"name": format!("pod{number}"), "labels": {UID_LABEL: "x"}, "annotations": annotations});
    let spec = json!({"containers": [{"name": "c", "image": "localhost/none"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string()
}
