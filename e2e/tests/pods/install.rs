//! Installation on an empty cluster, as docs/install.md describes it: the operator becomes available, is
//! upgraded under load, and leaves nothing behind. It reaches the API server by its Service, and the
//! broker by its name.

use std::net::IpAddr;
use std::path::Path;

use rig::network::NODE;
use rig::{Cluster, Proxy, Services, images, schemas, services};

use crate::network_policy;
use e2e::overlay::{with_component, with_variable};
use e2e::raw::{RawConsumer, unique};
use e2e::{SOON, TestNamespace, message, numbered, project, wait_soon, with_body};

/// The namespaces that the overlays name.
pub const NAMESPACE: &str = "fedora-message-operator";
const APPS: &str = "apps";
const MESSAGES: usize = 2_000;

fn overlay(name: &str) -> String {
    project("manifests/overlays").join(name).display().to_string()
}

/// Imports the image into the node.
pub fn import(cluster: &Cluster) {
    let archive = cluster.node().scratch().join("operator.tar");
    images::operator(&archive).expect("the image is built");
    cluster.import(&archive).expect("the node imports the image");
}

/// Installs an overlay into its namespace, and waits until it is available.
fn install(cluster: &Cluster, folder: &str, namespace: &str) {
    cluster.kube.run(&["apply", "--server-side", "-k", folder]).expect("kubectl installs it");
    wait_for_rollout(cluster, namespace);
}

fn wait_for_rollout(cluster: &Cluster, namespace: &str) {
    let status = ["-n", namespace, "rollout", "status", "deployment/fedora-message-operator", "--timeout=120s"];
    if let Err(error) = cluster.kube.run(&status) {
        let describe = cluster.kube.run(&["-n", namespace, "describe", "pods"]).unwrap_or_default();
        panic!("{error}\n{describe}");
    }
}

/// The operator is installed, upgraded under load and removed.
#[test]
fn installs_cleanly() {
    // The network of the cluster does not reach the internet.
    let catalog = schemas::catalog().expect("the catalog is exported");
    let programs = services::Programs::get().expect("the programs are there");
    let cluster = Cluster::start().expect("a cluster of its own");
    let services = Services::start(programs, &cluster).expect("the Services answer");
    import(&cluster);
    install_for_one_namespace(&cluster);
    // The broker of staging has another port.
    let staging = Proxy::against(IpAddr::V4(NODE), cluster.broker.port()).expect("a proxy");
    let url = format!("amqps://rabbitmq.stg.fedoraproject.org:{}/%2Fpubsub", staging.port());
    let folder = with_variable(&cluster.kube, "cluster-wide", "STG_AMQP_URL", &url);
    install(&cluster, &folder.display().to_string(), NAMESPACE);
    let kube = &cluster.kube;
    let namespace = TestNamespace::on(kube, "apps").with_certificate(&cluster.broker, "publisher");
    network_policy::check(&cluster, &services, &namespace, staging.port());
    send_example(&cluster);
    check_cluster(&cluster);
    check_schemas(&cluster, &namespace, &catalog);
    upgrade_under_load(&cluster, &namespace);
    check_user_roles(&cluster, &namespace);

    kube.run(&["delete", "-k", &overlay("cluster-wide"), "--timeout=60s"]).expect("kubectl removes it");
    let left = ["get", "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy,namespace", "-o", "name"];
    let left = kube.run(&left).expect("kubectl lists");
    let left: Vec<_> = left.lines().filter(|name| name.contains("fedora")).collect();
    assert_eq!(left, Vec::<&str>::new());
}

/// Installs the operator for one namespace that admits only restricted Pods. CRD and policy exist
/// already. The operator has no permissions in other namespaces, and its removal leaves CRD and
/// policy.
fn install_for_one_namespace(cluster: &Cluster) {
    let kube = &cluster.kube;
    let (crds, policy) = (project("crds"), project("manifests/base/admission-policy.yaml"));
    let [crds, policy] = [crds, policy].map(|file| file.display().to_string());
    kube.run(&["apply", "--server-side", "-k", &crds]).expect("the CRDs are installed");
    kube.run(&["apply", "--server-side", "-f", &policy]).expect("the policy is installed");
    let crd = "crd/fedoramessages.apps.fedoraproject.org";
    kube.run(&["wait", "--for=condition=Established", crd, "--timeout=30s"]).expect("the CRD is served");
    kube.create_namespace(APPS).expect("a namespace");
    let level = "pod-security.kubernetes.io/enforce=restricted";
    kube.run(&["label", "namespace", APPS, level]).expect("the label is set");
    install(cluster, &overlay("one-namespace"), APPS);

    let certificate = cluster.broker.client("publisher").expect("a certificate");
    kube.apply_text(&certificate.secret_yaml("certs", APPS)).expect("the Secret is stored");
    let consumer = RawConsumer::start(&cluster.broker, "org.fedoraproject.prod.one.#");
    kube.apply_text(&message("here", "one.namespace", "").replace("{name: here}", "{name: here, namespace: apps}"))
        .expect("it is accepted");
    let sent = ["-n", APPS, "wait", "--for=condition=FedoraMessageSent", "fmsg/here", "--timeout=60s"];
    kube.run(&sent).expect("it is sent");
    assert_eq!(consumer.take(1, SOON).len(), 1);

    let account = format!("--as=system:serviceaccount:{APPS}:fedora-message-operator");
    let may =
        |verb: &str, what: &str, namespace: &str| kube.run(&["auth", "can-i", verb, what, &account, "-n", namespace]);
    for (verb, what) in [("list", "fedoramessages"), ("get", "secrets"), ("create", "events.events.k8s.io")] {
        may(verb, what, APPS).unwrap_or_else(|error| panic!("{verb} {what} here: {error}"));
        assert!(may(verb, what, "default").is_err(), "{verb} {what} elsewhere");
    }
    kube.run(&["delete", "-k", &overlay("one-namespace"), "--timeout=60s"]).expect("kubectl removes it");
    kube.run(&["get", crd]).expect("the CRD stays");
    kube.run(&["delete", "namespace", APPS, "--timeout=60s"]).expect("nothing blocks the deletion");
}

/// Sends the proposal's example in the namespace `default`.
fn send_example(cluster: &Cluster) {
    let certificate = cluster.broker.client("publisher").expect("a certificate");
    let secret = certificate.secret_yaml("fedora-messaging-certs", "default");
    cluster.kube.apply_text(&secret).expect("the Secret is stored");
    let example = project("docs/examples/hello-world.yaml").display().to_string();
    cluster.kube.run(&["apply", "-f", &example]).expect("it is accepted");
    let wait = ["wait", "--for=condition=FedoraMessageSent", "-f", &example, "--timeout=60s"];
    cluster.kube.run(&wait).expect("it is sent");
}

/// Runs `check --cluster` in the Pod, as docs/operations.md describes.
pub fn check_cluster(cluster: &Cluster) {
    let program = ["--", "/fedora-message-operator", "check", "--cluster"];
    let exec = [&["-n", NAMESPACE, "exec", "deploy/fedora-message-operator"][..], &program].concat();
    let output = cluster.kube.run(&exec).expect("the check succeeds");
    assert!(output.contains("CRD           is this program's") && output.contains("permissions "), "{output}");
}

/// With the component and its `ConfigMap`, the operator refuses a message that violates its schema.
fn check_schemas(cluster: &Cluster, namespace: &TestNamespace, catalog: &Path) {
    let kube = &cluster.kube;
    let file = format!("--from-file={}", catalog.display());
    let create = ["-n", NAMESPACE, "create", "configmap", "fedora-message-schemas", &file];
    kube.run(&create).expect("the ConfigMap is stored");
    let folder = with_component(kube, "cluster-wide", "schemas").display().to_string();
    kube.run(&["apply", "--server-side", "-k", &folder]).expect("kubectl installs it");
    wait_for_rollout(cluster, NAMESPACE);
    let invalid = message("invalid", "schemas.pods", ", schema: koji_fedoramessaging.tag.TagV1");
    namespace.apply(&with_body(&invalid, "{build_id: seven}"));
    namespace.expect_reason("invalid", "InvalidMessage", &["does not match schema koji_fedoramessaging.tag.TagV1"]);
}

/// Returns the number of messages of the test that are sent.
fn sent(namespace: &TestNamespace) -> usize {
    namespace.sent().map_or(0, |names| names.iter().filter(|name| name.starts_with('m')).count())
}

/// Restarts the operator twice under load. Each message is sent once.
fn upgrade_under_load(cluster: &Cluster, namespace: &TestNamespace) {
    let consumer = RawConsumer::start(&cluster.broker, "org.fedoraproject.prod.upgrade.#");
    let manifests = numbered(MESSAGES, "m", |_| "upgrade.load".to_owned());
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| namespace.try_kubectl(&["create", "-f", "-"], &manifests));
        for round in 1..=2 {
            let some = || sent(namespace) > round * MESSAGES / 10;
            wait_soon("some messages are sent", some);
            let restart = ["-n", NAMESPACE, "rollout", "restart", "deployment/fedora-message-operator"];
            cluster.kube.run(&restart).expect("kubectl restarts it");
            wait_for_rollout(cluster, NAMESPACE);
        }
        creating.join().expect("the thread ends").expect("all are accepted");
    });
    wait_soon("all messages are sent", || sent(namespace) >= MESSAGES);
    let received = consumer.take(MESSAGES, SOON);
    assert_eq!((received.len(), unique(&received).len()), (MESSAGES, MESSAGES), "each message once");
}

/// Asserts that the role `edit` allows to send messages, and the role `view` to see them.
fn check_user_roles(cluster: &Cluster, namespace: &TestNamespace) {
    for (role, verbs) in [("edit", &["create", "delete", "get"][..]), ("view", &["get", "list"])] {
        let (of, user) = (format!("--clusterrole={role}"), format!("--user=user-{role}"));
        namespace.kubectl(&["create", "rolebinding", role, &of, &user]);
        let may = |verb: &str| {
            let (user, namespace) = (format!("--as=user-{role}"), namespace.name.as_str());
            cluster.kube.run(&["auth", "can-i", verb, "fedoramessages", &user, "-n", namespace]).is_ok()
        };
        for verb in verbs {
            wait_soon(&format!("{role} may {verb}"), || may(verb));
        }
        assert!(role == "edit" || !may("create"), "the role view creates nothing");
    }
}
