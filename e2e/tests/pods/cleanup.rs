//! The operator leaves nothing behind of sent or deleted messages, also across namespaces and
//! across restarts.

use rig::wait_until;
use serde_json::json;

use crate::cluster::{POD_DEADLINE, cluster, namespace, operator, pods, wait_for_reason};
use e2e::{
    DEBUG, Operator, TestNamespace, message, role_rules, uid, wait_soon, with_foreign_secret, with_secret, with_spec,
};

/// Lets messages of one namespace use the certificate of another, and returns a message with it.
fn share(secrets: &TestNamespace, with: &TestNamespace, manifest: &str) -> String {
    secrets.allow(&with.name);
    with_foreign_secret(manifest, "certs", secrets)
}

/// Starts an operator for two namespaces whose Pods fit no node.
fn start_stuck(of: &TestNamespace, and: &TestNamespace) -> Operator {
    let both = format!("{},{}", of.name, and.name);
    let arguments = ["--watch-namespaces", &both, "--pod-node-selector", "disk=fast", "--delivery-mode", "pod"];
    Operator::launch_ready(&cluster().kube.kubeconfig(), &cluster().broker.url(), &arguments)
}

/// The Pod is in the namespace of the Secret.
#[test]
fn pod_needs_consent() {
    let (secrets, messages) = (namespace("secrets", "publisher"), namespace("messages", "publisher"));
    let elsewhere = share(&secrets, &messages, &message("hello", "pods.elsewhere", ""));
    let operator = operator(&messages, "pod", &["--pod-node-selector", "disk=fast", "--pod-start-timeout", "600"]);
    messages.apply(&elsewhere);
    wait_soon("a Pod", || pods(&secrets).len() == 1);
    assert!(pods(&messages).is_empty());
    let pod = &pods(&secrets)[0];
    assert_eq!(pod["metadata"]["labels"]["apps.fedoraproject.org/message-namespace"], messages.name.as_str());
    assert!(pod["metadata"]["ownerReferences"].is_null(), "no owner in another namespace: {pod:#}");
    operator.stop();

    secrets.kubectl(&["annotate", "secret", "certs", "apps.fedoraproject.org/allowed-namespaces-"]);
    let _other = crate::cluster::operator(&messages, "pod", &[]);
    messages.apply(&share(&secrets, &secrets, &message("denied", "pods.denied", "")));
    wait_for_reason(&messages, "denied", "SecretNotFound");
    assert_eq!(pods(&secrets).len(), 1, "no other Pod");
}

/// Also in another namespace.
#[test]
fn deletes_pods_of_deleted_messages() {
    let (secrets, messages) = (namespace("left-secrets", "publisher"), namespace("left-messages", "publisher"));
    let operator = start_stuck(&messages, &secrets);
    let elsewhere = share(&secrets, &messages, &message("elsewhere", "pods.left", ""));
    messages.apply(&(message("here", "pods.left", "") + &elsewhere));
    wait_soon("two Pods", || pods(&messages).len() == 1 && pods(&secrets).len() == 1);
    operator.kill();
    messages.kubectl(&["delete", "fmsg", "--all"]);
    // Kubernetes deletes the Pod in the message's own namespace with its owner.
    wait_until(POD_DEADLINE, "no Pod beside the messages", || pods(&messages).is_empty()).expect("no Pod");
    assert_eq!(pods(&secrets).len(), 1);
    // A user's Pods and ConfigMaps with the operator's label cost it no memory, and are not deleted.
    let foreign = namespace("left-foreign", "publisher");
    foreign.create(&labeled_objects(60));
    let next = start_stuck(&messages, &secrets);
    let idle = next.peak();
    wait_until(POD_DEADLINE, "no Pod beside the Secret", || pods(&secrets).is_empty()).expect("no Pod");
    let grown = next.peak() - idle;
    assert!(grown < 12 << 20, "memory grew by {} KiB", grown >> 10);
    assert_eq!(pods(&foreign).len(), 60);
}

/// Returns so many Pods that fit no node, and `ConfigMaps`, with the operator's label and as large as
/// the API server allows.
fn labeled_objects(number: usize) -> String {
    let text = "a".repeat(250_000);
    let labels = "{apps.fedoraproject.org/message-uid: x}";
    let spec = "{nodeSelector: {disk: fast}, securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, \
                containers: [{name: publish, image: none, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}";
    let objects = |number: usize| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: pod-{number}, labels: {labels}, annotations: {{text: {text}}}}}, spec: {spec}}}\n\
             ---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: config-{number}, labels: {labels}}}, data: {{text: {text}}}}}\n"
        )
    };
    (0..number).map(objects).collect()
}

/// The operator may not list the messages of one namespace. The Pod of such a message is the only proof
/// that it was sent.
#[test]
fn keeps_pods_of_unlisted_namespace() {
    let [secrets, listed, unlisted] =
        ["kept-secrets", "kept-listed", "kept-unlisted"].map(|title| namespace(title, "publisher"));
    secrets.allow(&format!("{},{}", listed.name, unlisted.name));
    let elsewhere = with_foreign_secret(&message("hello", "pods.unlisted", ""), "certs", &secrets);
    let former = operator(&unlisted, "pod", &[]);
    unlisted.apply(&elsewhere);
    former.wait_for_log("-1 is made");
    former.kill();
    let has_sent = || pods(&secrets).iter().all(|pod| pod["status"]["phase"] == "Succeeded");
    wait_until(POD_DEADLINE, "the Pod has sent it", has_sent).expect("the Pod has sent it");
    // The other Pod fits no node, and its message is deleted.
    let stuck = operator(&listed, "pod", &["--pod-node-selector", "disk=fast"]);
    listed.apply(&elsewhere);
    wait_soon("another Pod", || pods(&secrets).len() == 2);
    stuck.kill();
    listed.kubectl(&["delete", "fmsg", "--all"]);

    let rules = ["manifests/base/rbac.yaml", "manifests/components/pods/rbac.yaml"].map(role_rules).concat();
    for namespace in [&secrets, &listed] {
        namespace.grant("bob", "operator", &json!(rules));
    }
    let kube = &cluster().kube;
    let kubeconfig = kube.kubeconfig_for("bob").expect("a user");
    let all = [&secrets, &listed, &unlisted].map(|namespace| namespace.name.as_str()).join(",");
    let arguments = ["--watch-namespaces", &all, "--delivery-mode", "pod"];
    let next = Operator::launch(&kubeconfig, &cluster().broker.url(), &arguments, DEBUG);
    next.wait_until(POD_DEADLINE, "the orphan is deleted", || pods(&secrets).len() == 1);
    let left = pods(&secrets)[0]["metadata"]["labels"]["apps.fedoraproject.org/message-namespace"].clone();
    assert_eq!(left, unlisted.name.as_str());
}

/// A label finds the Pods of a message.
#[test]
fn keeps_failed_pods() {
    let namespace = namespace("kept", "nice-app");
    let _operator = operator(&namespace, "pod", &["--keep-failed-pods", "5"]);
    namespace.apply(&with_spec(&message("forbidden", "evil.kept", ""), "backoffLimit: 0"));
    wait_for_reason(&namespace, "forbidden", "BackoffLimitExceeded");
    let selector = format!("apps.fedoraproject.org/message-uid={}", uid(&namespace.get("forbidden")));
    let logs = namespace.kubectl(&["logs", "-l", &selector]);
    assert!(logs.contains("Unable to publish message"), "{logs}");
    wait_until(POD_DEADLINE, "the failed Pod is deleted", || pods(&namespace).is_empty()).expect("no Pod");
}

/// The namespace has messages in every state.
#[test]
fn namespace_deletion_is_not_blocked() {
    let namespace = namespace("vanishing", "nice-app");
    // The first messages finish, or wait without a Pod. A later one has a Pod that fits no node.
    let operator = operator(&namespace, "pod", &["--keep-failed-pods", "600"]);
    let absent = with_secret(&message("pending", "nice.vanishing", ""), "absent");
    let held = with_spec(&message("suspended", "nice.vanishing", ""), "suspend: true");
    let given_up = with_spec(&message("given-up", "evil.vanishing", ""), "backoffLimit: 0");
    namespace.apply(&[message("sent", "nice.vanishing", ""), given_up, absent, held].concat());
    wait_for_reason(&namespace, "sent", "Sent");
    wait_for_reason(&namespace, "given-up", "BackoffLimitExceeded");
    wait_for_reason(&namespace, "pending", "SecretNotFound");
    wait_for_reason(&namespace, "suspended", "Suspended");
    operator.stop();
    let _operator = crate::cluster::operator(
        &namespace,
        "pod",
        &["--pod-node-selector", "disk=fast", "--default-ttl-seconds-after-finished", "600"],
    );
    namespace.apply(&message("in-flight", "nice.vanishing", ""));
    wait_soon("another Pod", || pods(&namespace).len() == 2);
    // Running Pods have 30 s to end. No Pod runs here.
    cluster().kube.run(&["delete", "namespace", &namespace.name, "--timeout=60s"]).expect("the namespace is deleted");
    assert!(cluster().kube.run(&["get", "namespace", &namespace.name]).is_err());
}
