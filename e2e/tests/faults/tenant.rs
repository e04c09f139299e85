//! The users of one namespace try to take what the messages of others need.

use std::time::Duration;

use rig::wait_until;
use serde_json::json;

use e2e::{Operator, SOON, TestNamespace, message, shared, with_foreign_secret, with_secret};

/// The files that the operator may have open.
const FILES: usize = 400;
/// The memory that foreign Secrets may cost, in bytes. 120 of them have 120 MiB.
const MEMORY: usize = 24 << 20;
/// A message that is beyond the bound of watched Secrets is sent within this time after its Secret
/// has appeared.
const LATE: Duration = Duration::from_mins(2);

/// Waits until all messages of a namespace have this reason.
fn wait_for_reasons(namespace: &TestNamespace, reason: &str) {
    let others = || namespace.messages().into_iter().filter(|message| message["status"]["reason"] != reason).count();
    wait_until(LATE, reason, || others() == 0).unwrap_or_else(|error| panic!("{error}: {} have another", others()));
}

/// Sends a message of another namespace.
fn send(neighbor: &TestNamespace, name: &str) {
    neighbor.apply(&message(name, "tenant.neighbor", ""));
    neighbor.wait_for_reason(name, "Sent");
}

#[test]
fn absent_secrets_take_no_files() {
    const COUNT: usize = 1200;
    let (tenant, neighbor) = (TestNamespace::new("tenant"), TestNamespace::with_publisher("neighbor"));
    let named = |n: usize| with_secret(&message(&format!("m{n}"), "tenant.absent", ""), &format!("absent{n}"));
    tenant.create(&(0..COUNT).map(named).collect::<String>());
    let operator = Operator::with_file_limits(1024, 1024, &[&tenant, &neighbor]);
    wait_for_reasons(&tenant, "SecretNotFound");
    send(&neighbor, "good");
    assert_eq!(operator.probe("/livez"), Some(200));
    let files = operator.open_files();
    assert!(files < FILES, "{files} files are open");

    // The messages beyond the bound say so, and are sent once they have their Secret.
    let bound = format!("messages of namespace {} name more than 20 Secrets", tenant.name);
    let messages = tenant.messages();
    let late = messages.iter().filter(|message| message["status"]["message"].to_string().contains(&bound));
    let late: Vec<&str> = late.filter_map(|message| message["metadata"]["name"].as_str()).collect();
    assert!(late.len() >= COUNT - 20, "{}", late.len());
    let number = late[0].trim_start_matches('m');
    tenant.store_secret(&format!("absent{number}"), &shared().broker.client("publisher").expect("a certificate"));
    let sent = || tenant.get(late[0])["status"]["reason"] == "Sent";
    wait_until(LATE, "a message is sent late", sent).unwrap_or_else(|error| panic!("{error}\n{}", tenant.get(late[0])));
}

#[test]
fn foreign_secrets_take_no_memory() {
    const COUNT: usize = 120;
    let (tenant, owner) = (TestNamespace::new("tenant"), TestNamespace::with_publisher("owner"));
    for n in 0..COUNT {
        let data = json!({"release": "A".repeat(4 << 18)});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("large{n}")}, "data": data,
        });
        owner.create(&secret.to_string());
    }
    let operator = Operator::start(&tenant, &["--watch-namespaces", &owner.name]);
    send(&owner, "before");
    let before = operator.resident();
    let named =
        |n: usize| with_foreign_secret(&message(&format!("m{n}"), "tenant.foreign", ""), &format!("large{n}"), &owner);
    tenant.create(&(0..COUNT).map(named).collect::<String>());
    wait_for_reasons(&tenant, "SecretNotFound");
    let after = operator.peak();
    println!("memory before: {} KiB, peak: {} KiB", before >> 10, after >> 10);
    assert!(after < before + MEMORY, "{before} bytes before, {after} after");
    send(&owner, "after");
    wait_until(SOON, "the probe answers", || operator.probe("/livez") == Some(200)).expect("it lives");
}

#[test]
fn raises_limit_of_files() {
    let namespace = TestNamespace::new("files");
    let operator = Operator::with_file_limits(256, 2048, &[&namespace]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", operator.pid)).expect("the operator runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(files.split_whitespace().collect::<Vec<_>>()[3..5], ["2048", "2048"]);
}
