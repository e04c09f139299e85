//! Pods that other users create or change prove nothing, also without the admission policy. The
//! administrator, whom the policy admits, stands for a user where it is not installed.

use rig::wait_until;
use serde_json::{Value, json};

use crate::cluster::{POD_DEADLINE, cluster, namespace, operator, pods, wait_for_reason};
use e2e::raw::{RawConsumer, id};
use e2e::{SOON, TestNamespace, message, project, uid, wait_soon, with_spec};

const UID: &str = "apps.fedoraproject.org/message-uid";

/// Returns a Pod that ends with exit code 0, and has the label and annotations of a message's Pod of
/// the first attempt.
fn forged(namespace: &TestNamespace, uid: &str, name: &str) -> Value {
    let text = std::fs::read_to_string(project("testdata/pod.json")).expect("a Pod");
    let mut pod: Value = serde_json::from_str(&text).expect("JSON");
    pod["metadata"] = json!({
        "name": name,
        "namespace": namespace.name,
        "labels": {UID: uid, "apps.fedoraproject.org/message-namespace": namespace.name},
        "annotations": {"apps.fedoraproject.org/attempt": "1"},
    });
    let spec = &mut pod["spec"];
    spec["containers"][0]["command"] = json!(["python3", "-c", ""]);
    spec["containers"][0]["volumeMounts"] = json!([]);
    for field in ["volumes", "nodeSelector", "imagePullSecrets", "tolerations"] {
        spec.as_object_mut().expect("a spec").remove(field);
    }
    pod
}

fn has_succeeded(pod: &Value) -> bool {
    pod["status"]["phase"] == "Succeeded"
}

/// The Pods have the message's label, and one of them also has the name of its first attempt.
#[test]
fn forged_pod_proves_nothing() {
    let namespace = namespace("forged", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.forged");
    namespace.apply(&with_spec(&message("hello", "pods.forged", ""), "suspend: true"));
    let uid = uid(&namespace.get("hello"));
    for name in ["other", &format!("fedora-message-{uid}-1")] {
        namespace.create(&forged(&namespace, &uid, name).to_string());
    }
    let succeeded = || pods(&namespace).iter().filter(|pod| has_succeeded(pod)).count() == 2;
    wait_until(POD_DEADLINE, "both Pods have ended", succeeded).expect("both Pods have ended");
    let _operator = operator(&namespace, "pod", &[]);
    namespace.patch("hello", r#"{"spec": {"suspend": false}}"#);
    let status = wait_for_reason(&namespace, "hello", "Sent");
    assert_eq!(status["attempts"], 2, "the first attempt found a Pod that proves nothing: {status:#}");
    let expected = format!("Message was sent successfully by Pod {}/fedora-message-{uid}-2", namespace.name);
    assert_eq!(status["message"], expected);
    let received = consumer.take(1, SOON);
    assert_eq!(received.iter().map(id).collect::<Vec<_>>(), [uid]);
    wait_soon("only the foreign Pod is left", || pods(&namespace).len() == 1);
}

/// The message, which is an annotation, is changed before the Pod runs.
#[test]
fn changed_pod_proves_nothing() {
    let namespace = namespace("changed", "publisher");
    let operator = operator(&namespace, "pod", &["--pod-node-selector", "disk=fast", "--pod-start-timeout", "600"]);
    namespace.apply(&message("hello", "pods.changed", ""));
    wait_soon("a Pod", || pods(&namespace).len() == 1);
    namespace.kubectl(&["annotate", "pods", "--all", "--overwrite", "apps.fedoraproject.org/message="]);
    let status = wait_for_reason(&namespace, "hello", "PodFailed");
    let text = status["message"].as_str().expect("a message");
    let detail = "differs from the one that the operator creates for this message, so its result does not count: another Pod sends the message again with the same id";
    assert!(text.ends_with(detail), "{text}");
    operator.stop();
}
