//! An operator that ends at any moment leaves its Pods to the next one. A message never has two
//! Pods.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use rig::wait_until;
use serde_json::json;

use crate::cluster::{POD_DEADLINE, cluster, namespace, operator, pods, wait_for_all_sent, wait_for_reason};
use e2e::raw::RawConsumer;
use e2e::{SOON, TestNamespace, message, numbered, wait_soon};

/// Returns the number of Pods for each message of a namespace, from the audit log.
fn created_pods(namespace: &TestNamespace) -> BTreeMap<String, usize> {
    let mut created = BTreeMap::new();
    for event in cluster().kube.audit_events().expect("the audit log") {
        let (object, code) = (&event["objectRef"], event["responseStatus"]["code"].as_u64());
        if event["verb"] == "create"
            && object["resource"] == "pods"
            && object["subresource"].is_null()
            && object["namespace"] == namespace.name.as_str()
            && code == Some(201)
        {
            let name = object["name"].as_str().unwrap_or_default();
            *created.entry(name.rsplit_once('-').map_or("", |(message, _)| message).to_owned()).or_default() += 1;
        }
    }

    created
}

#[test]
fn resumes_pods_after_kill() {
    const MESSAGES: usize = 12;
    let namespace = namespace("killed", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.killed");
    namespace.apply(&numbered(MESSAGES, "m", |_| "pods.killed".to_owned()));
    let sent = || namespace.sent().map_or(0, |names| names.len());
    // Each kill comes after a few more messages: before, while and after their Pods run.
    for round in 0..4 {
        let operator = operator(&namespace, "pod", &["--max-pods", "3"]);
        wait_until(POD_DEADLINE, "some messages are in flight", || !pods(&namespace).is_empty() && sent() >= round * 2)
            .expect("some messages are in flight");
        operator.kill();
    }
    let _last = operator(&namespace, "pod", &["--max-pods", "3"]);
    wait_for_all_sent(&namespace);
    let received = consumer.take(MESSAGES, SOON);
    assert_eq!(received.len(), MESSAGES, "each message once, because no Pod failed");
    let created = created_pods(&namespace);
    assert_eq!(created.len(), MESSAGES);
    assert!(created.values().all(|pods| *pods == 1), "{created:?}");
    wait_until(POD_DEADLINE, "no Pod is left", || pods(&namespace).is_empty()).expect("no Pod is left");
}

/// The leader is frozen while its Pods run, until another operator has sent all messages. When it goes
/// on, it creates no Pod.
#[test]
fn frozen_leader_creates_no_pod() {
    const MESSAGES: usize = 8;
    let namespace = namespace("frozen", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.frozen");
    let elect = ["--max-pods", "2", "--leader-elect", "--lease-namespace", &namespace.name];
    let leader = operator(&namespace, "pod", &elect);
    leader.wait_for_log("leading: messages are sent from here");
    let _next = operator(&namespace, "pod", &elect);
    namespace.apply(&numbered(MESSAGES, "m", |_| "pods.frozen".to_owned()));
    wait_until(POD_DEADLINE, "a Pod", || !pods(&namespace).is_empty()).expect("a Pod");
    leader.freeze();
    wait_for_all_sent(&namespace);
    leader.thaw();
    leader.wait_for_log("not leading any more");
    let received = consumer.take(MESSAGES, SOON);
    assert_eq!(received.len(), MESSAGES, "each message once");
    let created = created_pods(&namespace);
    assert_eq!(created.len(), MESSAGES);
    assert!(created.values().all(|pods| *pods == 1), "{created:?}");
}

/// A former leader records what a Pod has sent. It leaves the Pod to the next leader, which may not
/// know the record yet, and would send the message by another Pod.
#[test]
fn former_leader_deletes_no_pod() {
    /// Longer than a term.
    const PAUSE: Duration = Duration::from_secs(11);
    let namespace = namespace("former", "publisher");
    let former = operator(&namespace, "pod", &["--leader-elect", "--lease-namespace", &namespace.name]);
    former.wait_for_log("leading: messages are sent from here");
    namespace.apply(&message("hello", "pods.former", ""));
    // It knows that its Pod exists. Otherwise it has nothing to record until it leads again.
    former.wait_for_log("-1 is made");
    former.freeze();
    let frozen = Instant::now();
    let has_sent = || pods(&namespace).iter().all(|pod| pod["status"]["phase"] == "Succeeded");
    wait_until(POD_DEADLINE, "the Pod has sent it", has_sent).expect("the Pod has sent it");
    wait_until(SOON, "the term is over", || frozen.elapsed() > PAUSE).expect("the term is over");
    let taken =
        json!({"spec": {"holderIdentity": "the next", "renewTime": Utc::now().format("%FT%T%.6fZ").to_string()}});
    namespace.kubectl(&["patch", "lease", "fedora-message-operator", "--type=merge", "-p", &taken.to_string()]);
    former.thaw();
    wait_for_reason(&namespace, "hello", "Sent");
    assert_eq!(former.stop(), Some(0), "{}", former.log());
    assert_eq!(pods(&namespace).len(), 1, "{}", former.log());
}

#[test]
fn replaces_deleted_pod() {
    let namespace = namespace("vanished", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.vanished");
    // The first Pod fits no node, so that there is time to delete it.
    let operator = operator(&namespace, "pod", &["--pod-node-selector", "disk=fast"]);
    namespace.apply(&message("hello", "pods.vanished", ""));
    wait_soon("a Pod", || pods(&namespace).len() == 1);
    namespace.kubectl(&["delete", "pods", "--all", "--wait=false"]);
    let status = wait_for_reason(&namespace, "hello", "PodFailed");
    let text = status["message"].as_str().expect("a message");
    assert!(
        text.ends_with("was deleted before it reported a result: another Pod sends the message again with the same id"),
        "{text}"
    );
    operator.stop();
    // The Pods of the next operator run. Delete the pending Pod that the first operator may have
    // left.
    namespace.kubectl(&["delete", "pods", "--all"]);
    let _next = crate::cluster::operator(&namespace, "pod", &[]);
    let status = wait_for_reason(&namespace, "hello", "Sent");
    assert!(status["attempts"].as_u64() >= Some(2), "{status:#}");
    assert_eq!(consumer.take(1, SOON).len(), 1);
}
