//! Nothing is left behind: not of what was sent, not of what was deleted, also across namespaces and
//! while no operator runs.

use rig::wait_until;

use crate::cluster::{LATER, cluster, operator, pods, space, wait_for_reason};
use e2e::world::{Operator, SOON, Space, message};

/// Lets messages of one namespace use the certificate of another, and names it.
fn share(secrets: &Space, with: &Space, manifest: &str) -> String {
    let consent = format!("apps.fedoraproject.org/allowed-namespaces={}", with.name);
    secrets.kubectl(&["annotate", "secret", "certs", &consent, "--overwrite"], "").expect("it is annotated");
    manifest.replace("{name: certs}", &format!("{{name: certs, namespace: {}}}", secrets.name))
}

/// An operator for two namespaces, none of whose Pods is taken by a node.
fn stuck(of: &Space, and: &Space) -> Operator {
    let both = format!("{},{}", of.name, and.name);
    let arguments = ["--watch-namespaces", &both, "--pod-node-selector", "disk=fast", "--delivery-mode", "pod"];
    let operator =
        Operator::launch(&cluster().kube.kubeconfig(), &cluster().broker.url(), &arguments, e2e::world::DEBUG);
    operator.wait_ready();
    operator
}

#[test]
fn a_pod_is_where_the_secret_is_and_only_with_consent() {
    let (secrets, messages) = (space("secrets", "publisher"), space("messages", "publisher"));
    let elsewhere = share(&secrets, &messages, &message("hello", "pods.elsewhere", ""));
    let operator = operator(&messages, "pod", &["--pod-node-selector", "disk=fast", "--pod-start-timeout", "600"]);
    messages.apply(&elsewhere).expect("it is accepted");
    wait_until(SOON, "its Pod is there", || pods(&secrets).len() == 1).expect("it is");
    assert!(pods(&messages).is_empty());
    let pod = &pods(&secrets)[0];
    assert_eq!(pod["metadata"]["labels"]["apps.fedoraproject.org/message-namespace"], messages.name.as_str());
    assert!(pod["metadata"]["ownerReferences"].is_null(), "an owner elsewhere is none: {pod:#}");
    operator.stop();

    secrets.kubectl(&["annotate", "secret", "certs", "apps.fedoraproject.org/allowed-namespaces-"], "").expect("it is");
    let _other = crate::cluster::operator(&messages, "pod", &[]);
    messages
        .apply(&share(&secrets, &secrets, &message("denied", "pods.denied", "")).replace("hello", "denied"))
        .expect("it is");
    wait_for_reason(&messages, "denied", "SecretNotFound");
    assert_eq!(pods(&secrets).len(), 1, "no other Pod is made");
}

#[test]
fn what_a_deleted_message_left_is_deleted_also_in_another_namespace() {
    let (secrets, messages) = (space("left-secrets", "publisher"), space("left-messages", "publisher"));
    let operator = stuck(&messages, &secrets);
    let elsewhere = share(&secrets, &messages, &message("elsewhere", "pods.left", ""));
    messages.apply(&(message("here", "pods.left", "") + &elsewhere)).expect("they are accepted");
    wait_until(SOON, "both Pods are there", || pods(&messages).len() == 1 && pods(&secrets).len() == 1)
        .expect("they are");
    operator.kill();
    messages.kubectl(&["delete", "fmsg", "--all"], "").expect("they are deleted");
    // The one in the message's own namespace goes with its owner, without any operator.
    wait_until(LATER, "the Pod here is gone", || pods(&messages).is_empty()).expect("it is");
    assert_eq!(pods(&secrets).len(), 1);
    let _next = stuck(&messages, &secrets);
    wait_until(LATER, "the Pod there is gone", || pods(&secrets).is_empty()).expect("it is");
}

#[test]
fn failed_pods_are_kept_for_a_time_and_found_by_their_label() {
    let space = space("kept", "nice-app");
    let _operator = operator(&space, "pod", &["--keep-failed-pods", "5"]);
    space.apply(&message("forbidden", "evil.kept", "")).expect("it is accepted");
    wait_for_reason(&space, "forbidden", "TopicForbidden");
    let uid = space.get("forbidden")["metadata"]["uid"].take();
    let selector = format!("apps.fedoraproject.org/message-uid={}", uid.as_str().expect("a uid"));
    let logs = space.kubectl(&["logs", "-l", &selector], "").expect("the Pod is there, and its log");
    assert!(logs.contains("Unable to publish message"), "{logs}");
    wait_until(LATER, "it is gone after its time", || pods(&space).is_empty()).expect("it is");
}

#[test]
fn a_namespace_with_messages_in_every_state_is_deleted_at_once() {
    let space = space("vanishing", "nice-app");
    // Some wait for a Pod that no node takes; the others were finished before.
    let operator = operator(&space, "pod", &["--keep-failed-pods", "600"]);
    let absent = message("pending", "nice.vanishing", "").replace("name: certs", "name: absent");
    let held = message("suspended", "nice.vanishing", "").replace("\nspec:\n", "\nspec:\n  suspend: true\n");
    space
        .apply(
            &[message("sent", "nice.vanishing", ""), message("given-up", "evil.vanishing", ""), absent, held].concat(),
        )
        .expect("they are accepted");
    for (name, reason) in
        [("sent", "Sent"), ("given-up", "TopicForbidden"), ("pending", "SecretNotFound"), ("suspended", "Suspended")]
    {
        wait_for_reason(&space, name, reason);
    }
    operator.stop();
    let _operator = crate::cluster::operator(
        &space,
        "pod",
        &["--pod-node-selector", "disk=fast", "--default-ttl-seconds-after-finished", "600"],
    );
    space.apply(&message("under-way", "nice.vanishing", "")).expect("it is accepted");
    wait_until(SOON, "its Pod is there", || pods(&space).len() == 2).expect("it is");
    // Pods that run have 30 s to end; here none does.
    cluster().kube.run(&["delete", "namespace", &space.name, "--timeout=60s"]).expect("it is gone");
    assert!(cluster().kube.run(&["get", "namespace", &space.name]).is_err());
}
