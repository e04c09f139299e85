//! Installed as the README says, on an empty cluster: it becomes available, is upgraded under load, and
//! leaves nothing behind.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use rig::{Cluster, images, schemas, wait_until};

use crate::cluster::environment;
use e2e::overlay::with_component;
use e2e::raw::RawConsumer;
use e2e::world::{SOON, Space, message, project};

/// The namespaces that the overlays name.
const NAMESPACE: &str = "fedora-message-operator";
const APPS: &str = "apps";
const MESSAGES: usize = 2_000;

fn overlay(name: &str) -> String {
    project("manifests/overlays").join(name).display().to_string()
}

/// Gives the node the image.
fn import(cluster: &Cluster) {
    let archive = cluster.node().scratch().join("operator.tar");
    images::operator(&archive).expect("the image is built");
    cluster.import(&archive).expect("the node has it");
}

/// Installs an overlay into its namespace, and waits until it is available.
fn install(cluster: &Cluster, name: &str, namespace: &str) {
    let kube = &cluster.kube;
    kube.run(&["apply", "--server-side", "-k", &overlay(name)]).expect("it is installed");
    let env = environment(cluster).map(|(name, value)| format!("{name}={value}"));
    let set = ["-n", namespace, "set", "env", "deployment/fedora-message-operator", &env[0], &env[1], &env[2]];
    kube.run(&set).expect("it is configured");
    await_rollout(cluster, namespace);
}

fn await_rollout(cluster: &Cluster, namespace: &str) {
    let status = ["-n", namespace, "rollout", "status", "deployment/fedora-message-operator", "--timeout=120s"];
    if let Err(error) = cluster.kube.run(&status) {
        let describe = cluster.kube.run(&["-n", namespace, "describe", "pods"]).unwrap_or_default();
        panic!("{error}\n{describe}");
    }
}

#[test]
fn it_is_installed_upgraded_under_load_and_removed() {
    // From where the cluster is, nothing can be fetched.
    let catalog = schemas::catalog().expect("the catalog is exported");
    let cluster = Cluster::start().expect("a cluster of its own");
    import(&cluster);
    for_one_namespace(&cluster);
    install(&cluster, "cluster-wide", NAMESPACE);
    let kube = &cluster.kube;
    let space = Space::on(kube, "apps");
    space.certificate(&cluster.broker, "publisher");
    send_the_example(&cluster);
    ask_it_whether_all_is_in_order(&cluster);
    check_schemas(&cluster, &space, &catalog);
    upgrade_under_load(&cluster, &space);
    roles_of_users(&cluster, &space);

    kube.run(&["delete", "-k", &overlay("cluster-wide"), "--timeout=60s"]).expect("it is removed");
    let left = ["get", "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy,namespace", "-o", "name"];
    let left = kube.run(&left).expect("kubectl lists");
    let left: Vec<_> = left.lines().filter(|name| name.contains("fedora")).collect();
    assert_eq!(left, Vec::<&str>::new());
}

/// In a namespace that lets in restricted Pods alone, on a cluster where somebody else has installed CRD and policy:
/// messages are sent there, and nothing may be done anywhere else. Removed, it leaves these two.
fn for_one_namespace(cluster: &Cluster) {
    let kube = &cluster.kube;
    let files = ["crds/fedoramessages.yaml", "manifests/base/admission-policy.yaml"]
        .map(|file| project(file).display().to_string());
    kube.run(&["apply", "--server-side", "-f", &files[0], "-f", &files[1]]).expect("somebody has installed them");
    let crd = "crd/fedoramessages.apps.fedoraproject.org";
    kube.run(&["wait", "--for=condition=Established", crd, "--timeout=30s"]).expect("the CRD is served");
    kube.create_namespace(APPS).expect("the namespace is made");
    let level = "pod-security.kubernetes.io/enforce=restricted";
    kube.run(&["label", "namespace", APPS, level]).expect("it is labelled");
    install(cluster, "one-namespace", APPS);

    let certificate = cluster.broker.client("publisher").expect("a certificate is issued");
    kube.apply_text(&certificate.secret_yaml("certs", APPS)).expect("the Secret is stored");
    let consumer = RawConsumer::start(&cluster.broker, "one.#");
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
    kube.run(&["delete", "-k", &overlay("one-namespace"), "--timeout=60s"]).expect("it is removed");
    kube.run(&["get", crd]).expect("the CRD stays");
    kube.run(&["delete", "namespace", APPS, "--timeout=60s"]).expect("nothing holds the namespace");
}

/// The example of the README, with its Secret, in the namespace that it names.
fn send_the_example(cluster: &Cluster) {
    let certificate = cluster.broker.client("publisher").expect("a certificate is issued");
    let secret = certificate.secret_yaml("fedora-messaging-certs", "default");
    cluster.kube.apply_text(&secret).expect("the Secret is stored");
    let example = project("docs/examples/hello-world.yaml").display().to_string();
    cluster.kube.run(&["apply", "-f", &example]).expect("it is accepted");
    let wait = ["wait", "--for=condition=FedoraMessageSent", "-f", &example, "--timeout=60s"];
    cluster.kube.run(&wait).expect("it is sent");
}

/// As docs/operations.md says.
fn ask_it_whether_all_is_in_order(cluster: &Cluster) {
    let program = ["--", "/fedora-message-operator", "check", "--cluster"];
    let exec = [&["-n", NAMESPACE, "exec", "deploy/fedora-message-operator"][..], &program].concat();
    let said = cluster.kube.run(&exec).expect("all is in order");
    assert!(said.contains("CRD           is this program's") && said.contains("rights "), "{said}");
}

/// With the component and its `ConfigMap`, a message that does not fit its schema is refused.
fn check_schemas(cluster: &Cluster, space: &Space, catalog: &Path) {
    let kube = &cluster.kube;
    let file = format!("--from-file={}", catalog.display());
    let create = ["-n", NAMESPACE, "create", "configmap", "fedora-message-schemas", &file];
    kube.run(&create).expect("the ConfigMap is stored");
    let folder = with_component(kube, "cluster-wide", "schemas").display().to_string();
    kube.run(&["apply", "--server-side", "-k", &folder]).expect("it is installed");
    await_rollout(cluster, NAMESPACE);
    let misfit = message("misfit", "schemas.pods", ", schema: koji_fedoramessaging.tag.TagV1")
        .replace("body: {name: misfit}", "body: {build_id: seven}");
    space.apply(&misfit).expect("it is accepted");
    let status = space.wait_for_reason("misfit", "InvalidMessage");
    let said = status["message"].as_str().expect("a message");
    assert!(said.contains("does not fit schema koji_fedoramessaging.tag.TagV1"), "{said}");
}

/// How many messages of the test say that they are sent.
fn sent(space: &Space) -> usize {
    let sent = ["get", "fmsg", "--field-selector", "status.status=true", "-o", "name"];
    space.kubectl(&sent, "").map_or(0, |names| names.lines().filter(|name| name.contains("/m")).count())
}

/// Each message is sent once while one operator after the other ends and another takes over.
fn upgrade_under_load(cluster: &Cluster, space: &Space) {
    let consumer = RawConsumer::start(&cluster.broker, "upgrade.#");
    let mut manifests = String::new();
    for number in 0..MESSAGES {
        let _ = write!(manifests, "{}", message(&format!("m{number}"), "upgrade.load", ""));
    }
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| space.kubectl(&["create", "-f", "-"], &manifests));
        for round in 1..=2 {
            let some = || sent(space) > round * MESSAGES / 10;
            wait_until(SOON, "some are sent", some).expect("they are");
            let restart = ["-n", NAMESPACE, "rollout", "restart", "deployment/fedora-message-operator"];
            cluster.kube.run(&restart).expect("it is rolled");
            await_rollout(cluster, NAMESPACE);
        }
        creating.join().expect("the thread ends").expect("all are accepted");
    });
    wait_until(SOON, "all are sent", || sent(space) >= MESSAGES).expect("they are");
    let received = consumer.take(MESSAGES, SOON);
    let ids: HashSet<_> = received.iter().map(|message| message.properties.message_id().clone()).collect();
    assert_eq!((received.len(), ids.len()), (MESSAGES, MESSAGES), "each was sent once");
}

/// Who may edit the namespace may send messages, who may view it may see them.
fn roles_of_users(cluster: &Cluster, space: &Space) {
    for (role, verbs) in [("edit", &["create", "delete", "get"][..]), ("view", &["get", "list"])] {
        let (of, user) = (format!("--clusterrole={role}"), format!("--user=user-{role}"));
        space.kubectl(&["create", "rolebinding", role, &of, &user], "").expect("it is bound");
        let may = |verb: &str| {
            let (user, namespace) = (format!("--as=user-{role}"), space.name.as_str());
            cluster.kube.run(&["auth", "can-i", verb, "fedoramessages", &user, "-n", namespace]).is_ok()
        };
        for verb in verbs {
            wait_until(SOON, &format!("{role} may {verb}"), || may(verb)).expect("the role has it");
        }
        assert!(role == "edit" || !may("create"), "who may only view creates nothing");
    }
}
