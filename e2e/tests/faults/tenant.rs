//! The users of one namespace try to take what the messages of others need.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fedora_message::bounds::{MAX_CONNECTIONS_PER_NAMESPACE, MAX_WATCHED_SECRETS_PER_NAMESPACE};
use parking_lot::{Mutex, MutexGuard};
use rig::{ClientCert, Pki, Proxy, wait_until};
use serde_json::{Value, json};

use e2e::{
    Operator, SOON, TestNamespace, catalog, certificate, latencies, message, message_json, numbered, process_status,
    shared, with_foreign_secret, with_secret,
};

/// The files that the operator may have open.
pub const FILES: usize = 400;
/// The memory that the operator may take, in bytes.
pub const PEAK: usize = 160 << 20;
/// The memory that 120 Secrets of 1 MiB may cost, in bytes. While one is decoded it takes some 4
/// MiB, four are at a time, and the allocator keeps as much for each thread.
const MEMORY: usize = 48 << 20;
/// The threads of the runtime that come and go.
const THREADS: usize = 8;
/// All messages are tried within this time.
pub const LATE: Duration = Duration::from_mins(2);
/// The longest time for the slowest messages and for a probe, while other tests keep the machine busy.
pub const SLOW: Duration = Duration::from_secs(4);

/// Waits for the other tests here that measure times or take all cores, and keeps them waiting until
/// the guard is dropped.
pub fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock()
}

/// Runs `work` while each of the attacks is repeated on a thread of its own.
pub fn under<T>(attacks: &[&(dyn Fn() + Sync)], work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for attack in attacks {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    attack();
                }
            });
        }
        // The threads end also if an assertion fails.
        let result = catch_unwind(AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Returns a message that names a Secret of its own name.
pub fn absent(number: usize) -> String {
    let name = format!("absent{number}");
    with_secret(&message(&name, "tenant.absent", ""), &name)
}

/// Returns a Secret of 1 MiB.
pub fn large_secret(name: &str) -> String {
    let data = json!({"release": "A".repeat(4 << 18)});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}).to_string()
}

#[test]
fn absent_secrets_take_no_files() {
    const COUNT: usize = 1200;
    let _alone = alone();
    let (tenant, neighbor) = (TestNamespace::new("tenant"), TestNamespace::with_publisher("neighbor"));
    tenant.create_many(&(0..COUNT).map(absent).collect::<String>());
    let operator = Operator::with_file_limits(1024, 1024, &[&tenant, &neighbor], &[]);
    // Meanwhile the operator tries the tenant's messages, and looks for their Secrets again and again.
    for batch in 0..10 {
        let prefix = format!("good{batch}-");
        neighbor.apply(&numbered(10, &prefix, |_| "tenant.neighbor".to_owned()));
        neighbor.wait_until_sent(&prefix);
    }
    tenant.wait_for_reasons(LATE, "SecretNotFound");
    neighbor.send("late", "tenant.neighbor");
    let latencies = latencies(&neighbor, "");
    let (median, slow) = (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100 - 1]);
    println!("the neighbor's messages took {median:?}, and {slow:?} at the 99th percentile");
    assert!(slow < SLOW, "{slow:?}");
    assert_eq!(operator.probe("/livez"), Some(200));
    let (files, peak) = (operator.open_files(), operator.peak());
    println!("{files} files are open, the peak of memory is {} MiB", peak >> 20);
    assert!(files < FILES && peak < PEAK, "{files} files are open, and {peak} bytes were used");
}

/// The messages beyond the bound of watched Secrets say so, and are sent once they have theirs.
#[test]
fn secrets_beyond_the_bound_are_found() {
    let tenant = TestNamespace::new("tenant");
    let count = MAX_WATCHED_SECRETS_PER_NAMESPACE + 10;
    tenant.create_many(&(0..count).map(absent).collect::<String>());
    let _operator = Operator::start(&tenant, &[]);
    tenant.wait_for_reasons(LATE, "SecretNotFound");
    let bound = format!("messages of namespace {} name more than 20 Secrets", tenant.name);
    let late =
        tenant.messages().into_iter().filter(|message| message["status"]["message"].to_string().contains(&bound));
    let late: Vec<String> =
        late.map(|message| message["metadata"]["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(late.len(), 10);
    let certificate = certificate("publisher");
    for name in &late {
        tenant.store_secret(name, &certificate);
    }
    tenant.wait_for_reason_of(&late, "Sent");
}

/// Neither without consent nor, in their own namespace, without a certificate in them.
#[test]
fn large_secrets_take_no_memory() {
    const COUNT: usize = 120;
    let (tenant, owner) = (TestNamespace::new("tenant"), TestNamespace::with_publisher("owner"));
    owner.create_many(&(0..COUNT).map(|n| large_secret(&format!("large{n}"))).collect::<String>());
    let operator = Operator::start(&tenant, &["--watch-namespaces", &owner.name]);
    owner.send("before", "tenant.neighbor");
    let before = operator.resident();
    let named =
        |n: usize| with_foreign_secret(&message(&format!("m{n}"), "tenant.foreign", ""), &format!("large{n}"), &owner);
    tenant.create_many(&(0..COUNT).map(named).collect::<String>());
    tenant.wait_for_reasons(LATE, "SecretNotFound");
    let after = operator.peak();
    println!("memory before: {} KiB, peak: {} KiB", before >> 10, after >> 10);
    assert!(after < before + MEMORY, "{before} bytes before, {after} after");
    owner.send("after", "tenant.neighbor");

    let own = |n: usize| with_secret(&message(&format!("m{n}"), "tenant.own", ""), &format!("large{n}"));
    owner.create_many(&(0..COUNT).map(own).collect::<String>());
    let decided = || owner.messages().iter().filter(|message| message["status"]["reason"] == "SecretInvalid").count();
    wait_until(LATE, "all are tried", || decided() == COUNT).unwrap_or_else(|error| panic!("{error}: {}", decided()));
    let after = operator.peak();
    println!("peak with own Secrets: {} KiB", after >> 10);
    assert!(after < before + MEMORY, "{before} bytes before, {after} after");
    wait_until(SOON, "the probe answers", || operator.probe("/livez") == Some(200)).expect("it lives");
}

/// Each watch would hold a change of its Secret, with all labels.
#[test]
fn labels_take_no_memory() {
    let _alone = alone();
    let labels: serde_json::Map<_, _> = (0..45_000).map(|number| (format!("l{number}"), json!(""))).collect();
    let labeled =
        |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}});
    let secrets: Vec<_> = (0..MAX_WATCHED_SECRETS_PER_NAMESPACE).map(|number| format!("labeled{number}")).collect();
    let namespaces = ["labels", "more-labels", "other-labels"].map(TestNamespace::new);
    for namespace in &namespaces {
        namespace.create_many(&secrets.iter().map(|name| labeled(name).to_string()).collect::<String>());
    }
    let neighbor = TestNamespace::with_publisher("neighbor");
    let watched = namespaces.iter().map(|namespace| namespace.name.as_str()).collect::<Vec<_>>().join(",");
    let operator = Operator::start(&neighbor, &["--watch-namespaces", &watched]);
    neighbor.send("before", "tenant.neighbor");
    let before = operator.resident();
    for namespace in &namespaces {
        let named = |name: &String| with_secret(&message(name, "tenant.labels", ""), name);
        namespace.create_many(&secrets.iter().map(named).collect::<String>());
    }
    for namespace in &namespaces {
        namespace.wait_for_reasons(LATE, "SecretNotFound");
        namespace.expect_reason(&secrets[0], "SecretNotFound", &["its metadata have more than 512 KiB"]);
        namespace.kubectl(&["annotate", "secrets", "--all", "changed=now"]);
    }
    neighbor.send("after", "tenant.neighbor");
    let after = operator.peak();
    println!("memory before: {} KiB, peak: {} KiB", before >> 10, after >> 10);
    assert!(after < before + MEMORY, "{before} bytes before, {after} after");
}

/// Creates messages that violate a schema of [`wrong_catalog`] as often as they can, two for each.
pub fn create_wrong_messages(tenant: &TestNamespace) {
    let list = |item: Value, count: usize| json!({"a": vec![item; count]});
    for round in 0..2 {
        for (schema, body) in [
            ("items", list(json!(1), 700_000)),
            ("alternatives", list(json!(1), 700_000)),
            ("members", list(json!({}), 49_000)),
            ("nested", list(json!({"a": 1}), 170_000)),
        ] {
            let message = json!({"topic": "tenant.wrong", "schema": schema, "body": body});
            tenant.post(&message_json(&format!("{schema}{round}"), &message).to_string()).expect("it is stored");
        }
    }
}

/// Returns a catalog of schemas that each item of a long list violates.
pub fn wrong_catalog() -> String {
    let text = json!({"items": {"type": "string"}});
    let members = json!({"items": {"required": ["b", "c", "d"]}});
    let alternatives = json!({"anyOf": [text, {"items": {"type": "boolean"}}, {"items": {"type": "null"}}]});
    let rules = [("items", text), ("alternatives", alternatives), ("members", members.clone()), ("nested", members)];
    catalog(&rules.map(|(name, rules)| (name, json!({"properties": {"a": rules}}))))
}

/// Neither do bodies that violate a schema hundreds of thousands of times.
#[test]
fn violations_take_no_memory() {
    let (tenant, neighbor) = (TestNamespace::new("tenant"), TestNamespace::with_publisher("neighbor"));
    let file = tenant.kube.guard().scratch().join(format!("{}.json", tenant.name));
    std::fs::write(&file, wrong_catalog()).expect("a catalog");
    let file = file.to_string_lossy();
    create_wrong_messages(&tenant);
    // It prepares them at the same time.
    let operator = Operator::start(&neighbor, &["--watch-namespaces", &tenant.name, "--schema-catalog", &file]);
    neighbor.apply(&numbered(10, "good", |_| "tenant.neighbor".to_owned()));
    neighbor.wait_for_all_sent();
    tenant.wait_for_reasons(LATE, "InvalidMessage");
    let slowest = *latencies(&neighbor, "").last().expect("a message");
    let peak = operator.peak();
    println!("peak {} MiB; the neighbor's slowest message took {slowest:?}", peak >> 20);
    assert!(peak < PEAK, "{peak} bytes were used");
}

/// Returns the number of attempts that ended with this reason.
fn attempts(operator: &Operator, reason: &str) -> usize {
    let (_, page) = operator.http_get("/metrics").expect("metrics");
    let lines = page.lines().filter(|line| line.contains("_attempts_total") && line.contains(reason));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).sum()
}

/// A Secret that goes on changing does not keep all messages that name it busy.
#[test]
fn changes_of_a_secret_wake_rarely() {
    const COUNT: usize = 500;
    const CHANGES: usize = 20;
    let tenant = TestNamespace::new("tenant");
    tenant.kubectl(&["create", "secret", "generic", "certs", "--from-literal=ca=-", "--from-literal=cert=-"]);
    tenant.create_many(&numbered(COUNT, "m", |_| "tenant.woken".to_owned()));
    let operator = Operator::start(&tenant, &[]);
    tenant.wait_for_reasons(LATE, "SecretInvalid");
    assert_eq!(attempts(&operator, "SecretInvalid"), COUNT);
    for n in 0..CHANGES {
        tenant.kubectl(&["annotate", "--overwrite", "secret", "certs", &format!("change={n}")]);
    }
    tenant.kubectl(&["delete", "secret", "certs"]);
    tenant.store_certificate(&shared().broker, "publisher");
    tenant.wait_for_all_sent();
    let attempts = attempts(&operator, "SecretInvalid");
    assert!(attempts <= COUNT * CHANGES / 2, "{attempts} attempts of {COUNT} messages for {CHANGES} changes");
}

/// Returns a Secret, and a message that names it.
pub fn secret_and_message(certificate: &ClientCert, tenant: &TestNamespace, number: usize) -> String {
    let name = format!("own{number}");
    let message = with_secret(&message(&name, "tenant.own", ""), &name);
    format!("{}---{message}", certificate.secret_yaml(&name, &tenant.name))
}

/// 500 Secrets hold the same certificate, key and CAs. The texts around them differ, and the order of
/// the CAs.
#[test]
fn variants_of_a_certificate_share_a_connection() {
    const COUNT: usize = 500;
    let (tenant, broker) = (TestNamespace::new("tenant"), &shared().broker);
    let certificate = certificate("publisher");
    let other = Pki::new("another CA").expect("a CA").ca().to_owned();
    let variant = |n: usize| {
        let [first, second] = if n.is_multiple_of(2) { [&certificate.ca, &other] } else { [&other, &certificate.ca] };
        let variant = ClientCert { ca: format!("# {n}\n{first}{second}"), ..certificate.clone() };
        secret_and_message(&variant, &tenant, n)
    };
    let proxy = Proxy::start(broker.port()).expect("a proxy");
    let _operator = Operator::with_broker(&proxy.url(), &tenant, &[]);
    tenant.create_many(&(0..COUNT).map(variant).collect::<String>());
    tenant.wait_for_all_sent();
    assert_eq!(proxy.accepted(), 1);
}

/// The tenant's messages are sent in turn, over as many connections as one namespace may have.
#[test]
fn many_certificates_take_few_connections() {
    const COUNT: usize = 100;
    let _alone = alone();
    let (tenant, neighbor) = (TestNamespace::new("tenant"), TestNamespace::with_publisher("neighbor"));
    let issue = || certificate("publisher");
    let operator = Operator::with_file_limits(1024, 1024, &[&tenant, &neighbor], &[]);
    neighbor.send("before", "tenant.neighbor");
    let (files, threads) = (operator.open_files(), process_status(operator.pid, "Threads:"));
    tenant.create_many(&(0..COUNT).map(|n| secret_and_message(&issue(), &tenant, n)).collect::<String>());
    for batch in 0..5 {
        let prefix = format!("good{batch}-");
        neighbor.apply(&numbered(10, &prefix, |_| "tenant.neighbor".to_owned()));
        neighbor.wait_until_sent(&prefix);
    }
    tenant.wait_for_all_sent();
    let retried = tenant.messages().iter().filter(|message| message["status"]["attempts"] != 1).count();
    assert_eq!(retried, 0, "messages wait for a connection without an attempt");
    let slow = *latencies(&neighbor, "").last().expect("a message");
    println!("the slowest of the neighbor's messages took {slow:?}");
    assert!(slow < SLOW, "{slow:?}");
    let more = process_status(operator.pid, "Threads:").saturating_sub(threads);
    println!("{} files and {more} threads more are open", operator.open_files().saturating_sub(files));
    assert!(operator.open_files() < FILES);
    assert!(more <= MAX_CONNECTIONS_PER_NAMESPACE + THREADS, "{more} more threads");
}

#[test]
fn raises_limit_of_files() {
    let namespace = TestNamespace::new("files");
    let operator = Operator::with_file_limits(256, 2048, &[&namespace], &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", operator.pid)).expect("the operator runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(files.split_whitespace().collect::<Vec<_>>()[3..5], ["2048", "2048"]);
}
