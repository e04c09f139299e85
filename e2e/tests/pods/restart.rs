//! An operator that ends at any moment leaves its Pods to the next, and there are never two for one
//! message.

use std::collections::BTreeMap;

use rig::wait_until;
use serde_json::Value;

use crate::cluster::{LATER, cluster, operator, pods, space, wait_for_all_sent, wait_for_reason};
use e2e::raw::RawConsumer;
use e2e::world::{SOON, Space, message};

/// How many Pods were made for each message of a namespace, by what the API server has answered.
fn made(space: &Space) -> BTreeMap<String, usize> {
    let mut made = BTreeMap::new();
    for event in cluster().kube.audit_events().expect("the audit log") {
        let (object, code) = (&event["objectRef"], event["responseStatus"]["code"].as_u64());
        if event["verb"] == "create"
            && object["resource"] == "pods"
            && object["subresource"].is_null()
            && object["namespace"] == space.name.as_str()
            && code == Some(201)
        {
            let name = object["name"].as_str().unwrap_or_default();
            *made.entry(name.rsplit_once('-').map_or("", |(message, _)| message).to_owned()).or_default() += 1;
        }
    }
    made
}

#[test]
fn an_operator_killed_again_and_again_takes_up_the_pods_that_it_finds() {
    const MESSAGES: usize = 12;
    let space = space("killed", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.killed");
    let all: String = (0..MESSAGES).map(|number| message(&format!("m{number}"), "pods.killed", "")).collect();
    space.apply(&all).expect("all are accepted");
    let sent = || {
        let json = space.kubectl(&["get", "fmsg", "-o", "json"], "").expect("kubectl lists");
        let list: Value = serde_json::from_str(&json).expect("JSON");
        list["items"].as_array().map_or(0, |all| all.iter().filter(|it| it["status"]["status"] == true).count())
    };
    // Ended when a few more Pods are there than before: before, while and after they run.
    for round in 0..4 {
        let operator = operator(&space, "pod", &["--max-pods", "3"]);
        wait_until(LATER, "some are under way", || !pods(&space).is_empty() && sent() >= round * 2).expect("they are");
        operator.kill();
    }
    let _last = operator(&space, "pod", &["--max-pods", "3"]);
    wait_for_all_sent(&space);
    let received = consumer.take(MESSAGES, SOON);
    assert_eq!(received.len(), MESSAGES, "each was sent once, as no Pod failed");
    let made = made(&space);
    assert_eq!(made.len(), MESSAGES);
    assert!(made.values().all(|pods| *pods == 1), "{made:?}");
    wait_until(LATER, "all Pods are gone", || pods(&space).is_empty()).expect("they are cleaned up");
}

#[test]
fn a_pod_that_vanishes_is_followed_by_another_with_the_same_message() {
    let space = space("vanished", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.vanished");
    // No node takes the first Pod, so that there is time to delete it.
    let operator = operator(&space, "pod", &["--pod-node-selector", "disk=fast"]);
    space.apply(&message("hello", "pods.vanished", "")).expect("it is accepted");
    wait_until(SOON, "its Pod is there", || pods(&space).len() == 1).expect("it is");
    space.kubectl(&["delete", "pods", "--all", "--wait=false"], "").expect("they are deleted");
    let status = wait_for_reason(&space, "hello", "PodFailed");
    let said = status["message"].as_str().expect("a message");
    assert!(
        said.ends_with("was deleted before it reported a result: another Pod sends the message again with the same id"),
        "{said}"
    );
    operator.stop();
    // The next operator's Pods run; the one that nobody takes was left by the first, if it is there.
    space.kubectl(&["delete", "pods", "--all"], "").expect("they are deleted");
    let _next = crate::cluster::operator(&space, "pod", &[]);
    let status = wait_for_reason(&space, "hello", "Sent");
    assert!(status["attempts"].as_u64() >= Some(2), "{status:#}");
    assert_eq!(consumer.take(1, SOON).len(), 1);
}
