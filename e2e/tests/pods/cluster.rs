//! The shared cluster, and functions for Pods.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rig::network::NODE;
use rig::{Cluster, wait_until};
use serde_json::Value;

use e2e::{CORE, Operator, TestNamespace, install, project};

/// The deadline for a Pod on a busy machine. It includes the time that the CLI waits for a broker.
pub const POD_DEADLINE: Duration = Duration::from_mins(3);

/// Returns the shared cluster, with CRD and admission policies installed. Moves the calling thread
/// into its network.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| {
        let cluster = Cluster::start().expect("the node is ready");
        install(&cluster.kube);
        let policies = project("manifests/components/pods/admission-policy.yaml");
        cluster.kube.apply(&[policies]).expect("the policies are stored");
        cluster
    });
    cluster.enter().expect("this thread is in the cluster's network");
    cluster
}

/// Returns the environment of Pods in the cluster: the address of its API server, because it has no
/// Service addresses, and the URL of its broker.
pub fn environment(cluster: &Cluster) -> [(&'static str, String); 3] {
    let url = cluster.kube.url();
    let port = url.rsplit(':').next().expect("a port");
    [
        ("KUBERNETES_SERVICE_HOST", NODE.to_string()),
        ("KUBERNETES_SERVICE_PORT", port.to_owned()),
        ("PROD_AMQP_URL", cluster.broker.url()),
    ]
}

/// Creates a namespace that admits only restricted Pods, with a certificate of the broker's user.
pub fn namespace(title: &str, user: &str) -> TestNamespace<'static> {
    let cluster = cluster();
    let namespace = TestNamespace::on(&cluster.kube, title).with_certificate(&cluster.broker, user);
    let level = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kube.run(&["label", "namespace", &namespace.name, level]).expect("the label is set");
    namespace
}

/// Starts an operator in this delivery mode for a namespace.
pub fn operator(namespace: &TestNamespace, mode: &str, arguments: &[&str]) -> Operator {
    operator_at(&cluster().broker.url(), namespace, mode, arguments)
}

/// Like [`operator`], with this URL of the broker.
pub fn operator_at(broker_url: &str, namespace: &TestNamespace, mode: &str, arguments: &[&str]) -> Operator {
    let arguments = [&["--delivery-mode", mode], arguments].concat();
    Operator::with_broker(broker_url, namespace, &arguments)
}

/// Returns the Pods of a namespace.
pub fn pods(namespace: &TestNamespace) -> Vec<Value> {
    namespace.list(CORE, "pods")
}

/// Like [`TestNamespace::wait_for_reason`], with the deadline for a Pod.
pub fn wait_for_reason(namespace: &TestNamespace, name: &str, reason: &str) -> Value {
    let context = || format!("the Pods are {:#?}", pods(namespace));
    namespace.wait_for_reason_within(POD_DEADLINE, name, reason, context)
}

/// Waits until every message of a namespace is sent. The deadline starts again with each sent
/// message.
pub fn wait_for_all_sent(namespace: &TestNamespace) {
    let mut progress = (0, Instant::now());
    wait_until(Duration::MAX, "all messages are sent", || {
        let pending = namespace.pending().expect("the API server answers").len();
        if pending != progress.0 {
            progress = (pending, Instant::now());
        }
        assert!(progress.1.elapsed() < POD_DEADLINE, "{pending} messages are not sent: {:#?}", pods(namespace));
        pending == 0
    })
    .expect("all messages are sent");
}
