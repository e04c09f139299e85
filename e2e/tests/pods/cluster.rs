//! The shared cluster, and what its tests say about Pods.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rig::network::NODE;
use rig::{Cluster, wait_until};
use serde_json::Value;

use e2e::world::{Operator, Space, install};

/// How long a Pod may take on a busy machine, with the time that the CLI waits for a broker in it.
pub const LATER: Duration = Duration::from_mins(3);

/// The shared cluster, with CRD and admission policy installed. The calling thread is moved into its
/// network.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| {
        let cluster = Cluster::start().expect("the node is ready");
        install(&cluster.kube);
        cluster
    });
    cluster.enter().expect("this thread is in the cluster's network");
    cluster
}

/// What Pods that work with the cluster are told beside what is in their manifests: where its API server is, as it has
/// no addresses of Services, and its broker, as it is not Fedora's.
pub fn environment(cluster: &Cluster) -> [(&'static str, String); 3] {
    let url = cluster.kube.url();
    let port = url.rsplit(':').next().expect("a port");
    [
        ("KUBERNETES_SERVICE_HOST", NODE.to_string()),
        ("KUBERNETES_SERVICE_PORT", port.to_owned()),
        ("PROD_AMQP_URL", cluster.broker.url()),
    ]
}

/// A namespace in which only restricted Pods are let in, with a certificate of the broker's user.
pub fn space(title: &str, user: &str) -> Space<'static> {
    let cluster = cluster();
    let space = Space::on(&cluster.kube, title);
    let level = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kube.run(&["label", "namespace", &space.name, level]).expect("the namespace is labelled");
    space.certificate(&cluster.broker, user);
    space
}

/// An operator in this delivery mode, for this namespace.
pub fn operator(space: &Space, mode: &str, arguments: &[&str]) -> Operator {
    operator_at(&cluster().broker.url(), space, mode, arguments)
}

/// The same, with another URL of a broker.
pub fn operator_at(broker_url: &str, space: &Space, mode: &str, arguments: &[&str]) -> Operator {
    let arguments = [&["--delivery-mode", mode, "--cli-image-pull-policy", "Never"], arguments].concat();
    Operator::on(&cluster().kube, broker_url, space, &arguments)
}

/// The Pods of a namespace.
pub fn pods(space: &Space) -> Vec<Value> {
    let json = space.kubectl(&["get", "pods", "-o", "json"], "").expect("kubectl lists");
    let list: Value = serde_json::from_str(&json).expect("kubectl prints JSON");
    list["items"].as_array().expect("a list").clone()
}

/// Waits until a message's status has the given reason, for as long as a Pod takes.
pub fn wait_for_reason(space: &Space, name: &str, reason: &str) -> Value {
    let mut last = Value::Null;
    wait_until(LATER, &format!("{name} has reason {reason}"), || {
        last = space.get(name)["status"].take();
        last["reason"] == reason
    })
    .unwrap_or_else(|error| panic!("{error}; the status is {last:#}, the Pods are {:#?}", pods(space)));
    last
}

/// Waits until every message of a namespace is sent, for as long as Pods take.
pub fn wait_for_all_sent(space: &Space) {
    let mut last = 0;
    let mut begin = Instant::now();
    loop {
        let pending = space.kubectl(&["get", "fmsg", "--field-selector", "status.status!=true", "-o", "name"], "");
        let pending = pending.expect("kubectl lists").lines().count();
        if pending == 0 {
            return;
        }
        if pending != last {
            (last, begin) = (pending, Instant::now());
        }
        assert!(begin.elapsed() < LATER, "{pending} messages are not sent: {:#?}", pods(space));
        std::thread::sleep(Duration::from_millis(200));
    }
}
