//! Installation with Helm on an empty cluster, as docs/install.md describes it: the operator becomes
//! available, sends a message, and is upgraded. `tests/real/helm.rs` compares the chart with kustomize.

use rig::{Cluster, Services, helm, services};

use crate::install::{NAMESPACE, check_cluster, import};
use e2e::raw::RawConsumer;
use e2e::{SOON, TestNamespace, message, project, run};

/// Helm succeeds only once the replicas are ready, and the release's Pods are restricted ones.
#[test]
fn releases_send_messages() {
    let programs = services::Programs::get().expect("the programs are there");
    let cluster = Cluster::start().expect("a cluster of its own");
    let _services = Services::start(programs, &cluster).expect("the Services answer");
    import(&cluster);
    let kube = &cluster.kube;
    kube.create_namespace(NAMESPACE).expect("a namespace");
    let level = "pod-security.kubernetes.io/enforce=restricted";
    kube.run(&["label", "namespace", NAMESPACE, level]).expect("the label is set");
    helm(&cluster, &["install"]);
    check_cluster(&cluster);

    let namespace = TestNamespace::on(kube, "apps").with_certificate(&cluster.broker, "publisher");
    let consumer = RawConsumer::start(&cluster.broker, "#.by-helm");
    namespace.apply(&message("installed", "by-helm", ""));
    let sent = namespace.wait_for_reason("installed", "Sent");
    let topics = || consumer.take(1, SOON).iter().map(|message| message.routing_key.to_string()).collect::<Vec<_>>();
    assert_eq!(topics(), ["org.fedoraproject.prod.by-helm"]);

    let more = "brokers.prodTopicPrefix=org.example,podDelivery.mode=fallback";
    helm(&cluster, &["upgrade", "--reset-then-reuse-values", "--set", more]);
    check_cluster(&cluster);
    namespace.apply(&message("upgraded", "by-helm", ""));
    namespace.wait_for_reason("upgraded", "Sent");
    assert_eq!(topics(), ["org.example.by-helm"]);
    assert_eq!(namespace.get("installed")["status"], sent, "no message is sent again");
}

/// Installs or upgrades the release, and waits until it is available.
fn helm(cluster: &Cluster, arguments: &[&str]) {
    let mut helm = helm::command(&cluster.kube).expect("Helm");
    helm.args(arguments).args(["--namespace", NAMESPACE, "--wait", "--timeout=120s", NAMESPACE]);
    if let Err(error) = run(helm.arg(project("charts/fedora-message-operator")), "") {
        let describe = cluster.kube.run(&["-n", NAMESPACE, "describe", "pods"]).unwrap_or_default();
        panic!("{error}\n{describe}");
    }
}
