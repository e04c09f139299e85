//! Messages sent by Pods are those that direct delivery sends.

use rig::wait_until;
use serde_json::{Value, json};

use crate::cluster::{LATER, cluster, operator, pods, space, wait_for_all_sent, wait_for_reason};
use e2e::fidelity::cases::{Case, PREFIX, all, parse};
use e2e::fidelity::stage::{Sent, Stage};
use e2e::raw::RawConsumer;
use e2e::world::{SOON, message};

#[test]
fn a_pod_sends_a_message_and_is_gone_when_its_status_says_so() {
    let space = space("one", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.one");
    let _operator = operator(&space, "pod", &[]);
    space.apply(&message("hello", "pods.one", ", headers: {niceness: very}")).expect("it is accepted");

    let status = wait_for_reason(&space, "hello", "Sent");
    assert_eq!((&status["deliveryMode"], &status["attempts"]), (&json!("pod"), &json!(1)));
    let uid = space.get("hello")["metadata"]["uid"].take();
    let uid = uid.as_str().expect("a uid");
    let words = format!("Message was sent successfully by Pod {}/fedora-message-{uid}-1", space.name);
    assert_eq!(status["message"], words);
    let received = consumer.take(1, SOON);
    assert_eq!(received[0].properties.message_id().as_ref().map(ToString::to_string).as_deref(), Some(uid));
    wait_until(SOON, "the Pod is gone", || pods(&space).is_empty()).expect("it is cleaned up");
}

/// Each message of the fidelity tests whose schema the CLI's image has: by Pods, and by `fallback` whose
/// direct way works. Direct delivery of all is compared in tests/real.
#[test]
fn pods_send_each_message_as_the_library_would() {
    let by_pod = |case: &Case| matches!(case.fields["schema"].as_str(), None | Some("base.message"));
    let cases: Vec<Case> = all("fidelity-pods").into_iter().filter(by_pod).collect();
    assert!(cases.len() >= 70, "{} cases", cases.len());
    let stage = Stage::set(&cluster().broker, "fidelity-pods", cases, Case::kept);
    let mut sent = Vec::<Sent>::new();
    for (mode, went) in [("fallback", "direct"), ("pod", "pod")] {
        let space = space(&format!("fidelity-{mode}"), "publisher");
        let _operator = operator(&space, mode, &["--prod-topic-prefix", PREFIX, "--max-pods", "6"]);
        space.kubectl(&["create", "-f", "-"], &stage.manifests(mode, "")).expect("all are accepted");
        wait_for_all_sent(&space);
        let objects = parse(&space.kubectl(&["get", "fmsg", "-o", "json"], "").expect("kubectl lists"));
        let objects = objects["items"].as_array().expect("a list");
        assert!(objects.iter().all(|object| object["status"]["deliveryMode"] == went), "{mode}");
        sent.extend(objects.iter().map(|object| stage.sent_by_operator(object)));
    }
    stage.compare(&sent);
}

#[test]
fn a_schema_that_the_image_lacks_is_refused_and_one_that_it_has_is_not() {
    let space = space("schemas", "publisher");
    let nice = message("nice", "pods.schemas", ", schema: nice.encouragement.v1, schemaPackage: nice_messages");
    space.apply(&nice).expect("it is accepted");
    space
        .apply(&message("other", "pods.schemas", ", schema: base.message, schemaPackage: other_package"))
        .expect("it is accepted");
    let operator = operator(&space, "pod", &[]);
    let status = wait_for_reason(&space, "nice", "InvalidMessage");
    let words = "Pod delivery can't send the schema nice.encouragement.v1 from the package nice_messages, which the \
                 CLI's image lacks: it would say base.message instead; use direct delivery, or an image with the \
                 package, and name the schema in the operator's --cli-schemas";
    assert_eq!(status["message"], words);
    wait_for_reason(&space, "other", "InvalidMessage");
    assert_eq!(pods(&space), Vec::<Value>::new());
    operator.stop();
}

/// Nearly as large as the broker takes it, 1 MiB, and so in two parts; a character of two bytes is where
/// the first ends.
#[test]
fn a_message_too_large_for_an_annotation_reaches_the_broker_whole() {
    let space = space("large", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, "pods.large");
    let _operator = operator(&space, "pod", &[]);
    let text = "a".repeat(995_000) + &"\u{fc}".repeat(5_000);
    let manifest = json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage", "metadata": {"name": "large"},
        "spec": {
            "env": "prod",
            "message": {"topic": "pods.large", "body": {"text": text}},
            "authentication": {"secretRef": {"name": "certs"}},
        },
    });
    space.post(&manifest.to_string()).expect("it is stored");
    wait_for_reason(&space, "large", "Sent");
    let received = consumer.take(1, SOON);
    let body: Value = serde_json::from_slice(&received[0].data).expect("JSON");
    assert!(body["text"] == text.as_str(), "the text is another");
    let parts = || space.kubectl(&["get", "configmaps", "-l", "apps.fedoraproject.org/message-uid", "-o", "name"], "");
    wait_until(LATER, "its parts are gone", || parts().is_ok_and(|names| names.is_empty()))
        .expect("they go with the Pod");
}
