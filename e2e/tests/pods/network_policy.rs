//! The `NetworkPolicy` of the manifests, in force on the node.
//!
//! It applies to addresses and ports after a Service's were translated, and DNS listens on port 5353:
//! both as on OpenShift.

use std::net::Ipv4Addr;

use rig::network::NODE;
use rig::services::DNS_SERVICE;
use rig::{Cluster, Services, images};
use serde_json::{Value, json};

use crate::install::{NAMESPACE, check_cluster};
use e2e::fidelity::cases::parse;
use e2e::raw::RawConsumer;
use e2e::{SOON, TestNamespace, message};

/// Ports that Pods of the test listen on: the operator's admin port, and another.
const ADMIN_PORT: u16 = 8080;
const OTHER_PORT: u16 = 9000;
/// Ports that only a translated connection has: those of DNS and of the API server.
const TRANSLATED: [u16; 2] = [5353, 6443];

/// Listens on the ports, and lets the system accept connections.
const LISTEN: &str = "
import signal, socket, sys
listeners = [socket.create_server(('', int(port))) for port in sys.argv[1:]]
signal.pause()
";
/// Connects to all addresses at once, and prints a line for each: `open`, or the error.
const CONNECT: &str = "
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def connect(target):
    try:
        socket.create_connection(target.split(':'), timeout=3).close()
        return 'open'
    except OSError as error:
        return error

with ThreadPoolExecutor() as pool:
    print(*pool.map(connect, sys.argv[1:]), sep='\\n')
";

/// A connection from a Pod.
struct Connection {
    to: String,
    /// True if the policy allows it.
    allowed: bool,
    /// True if it would without the ports that are only seen after translation.
    allowed_untranslated: bool,
}

/// With the policy in force, the operator sends messages. Nothing else can be reached, which can without
/// the policy. `staging_port` is the port of the broker of staging, which the policy does not allow.
///
/// The operator must not have connected to a broker before.
pub fn check(cluster: &Cluster, services: &Services, namespace: &TestNamespace, staging_port: u16) {
    let policies = list(cluster, "networkpolicies");
    assert_eq!(policies.len(), 1, "{policies:#?}");
    let enforce = |policies: &[Value]| services.enforce(policies, &list(cluster, "pods")).expect("rules");
    enforce(&policies);
    let consumer = RawConsumer::start(&cluster.broker, "org.fedoraproject.*.policy.#");
    namespace.apply(&message("allowed", "policy.allowed", ""));
    namespace.apply(&message("refused", "policy.refused", "").replace("env: prod", "env: stg"));
    namespace.wait_for_reason("allowed", "Sent");
    check_cluster(cluster);

    // A Pod that the policy selects, and one that it does not.
    let selected = Pod::start(cluster, NAMESPACE, "fedora-message-operator");
    let other = Pod::start(cluster, "default", "other");
    let connection = |to: String, allowed, allowed_untranslated| Connection { to, allowed, allowed_untranslated };
    let egress = [
        connection("rabbitmq.fedoraproject.org:5671".to_owned(), true, false),
        connection(format!("{NODE}:5671"), true, true),
        connection(format!("{DNS_SERVICE}:53"), true, false),
        connection("10.0.0.1:443".to_owned(), true, false),
        connection(format!("{NODE}:{staging_port}"), false, false),
        connection(format!("{}:{ADMIN_PORT}", other.address), false, false),
    ];
    let ingress = [
        connection(format!("{}:{ADMIN_PORT}", selected.address), true, true),
        connection(format!("{}:{OTHER_PORT}", selected.address), false, false),
    ];
    enforce(&policies);
    selected.assert(cluster, &egress, |connection| connection.allowed);
    other.assert(cluster, &ingress, |connection| connection.allowed);

    let status = namespace.wait_for_reason("refused", "BrokerUnreachable");
    let expected = format!(
        "no connection to the broker rabbitmq.stg.fedoraproject.org:{staging_port}: {NODE}: no answer for 10 s: \
         check the broker, its URL and the network"
    );
    assert_eq!(status["message"], expected);

    // Not for the operator, which would lose the API server.
    let mut probes = list(cluster, "pods");
    probes.retain(|pod| pod["metadata"]["name"] == "probe");
    services.enforce(&without_ports(&policies, &TRANSLATED), &probes).expect("rules");
    selected.assert(cluster, &egress, |connection| connection.allowed_untranslated);

    enforce(&[]);
    selected.assert(cluster, &egress, |_| true);
    other.assert(cluster, &ingress, |_| true);
    namespace.wait_for_reason("refused", "Sent");
    assert_eq!(consumer.take(2, SOON).len(), 2);
    for pod in [selected, other] {
        cluster.kube.run(&["-n", &pod.namespace, "delete", "pod", "probe", "--wait=false"]).expect("it is deleted");
    }
}

/// A Pod that listens and connects.
struct Pod {
    namespace: String,
    address: Ipv4Addr,
}

impl Pod {
    /// Starts one with this name as label, and waits until it is ready.
    fn start(cluster: &Cluster, namespace: &str, app: &str) -> Self {
        let [admin, other] = [ADMIN_PORT, OTHER_PORT].map(|port| port.to_string());
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "probe", "namespace": namespace, "labels": {"app.kubernetes.io/name": app}},
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "dnsConfig": {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "1"}]},
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "probe",
                    "image": images::CLI,
                    "imagePullPolicy": "Never",
                    "command": ["python3", "-c", LISTEN, admin, other],
                    "ports": [{"name": "admin", "containerPort": ADMIN_PORT}],
                    "readinessProbe": {"tcpSocket": {"port": OTHER_PORT}, "periodSeconds": 1},
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }],
            },
        });
        let kube = &cluster.kube;
        kube.apply_text(&pod.to_string()).expect("the Pod is accepted");
        let wait = ["-n", namespace, "wait", "--for=condition=Ready", "pod/probe", "--timeout=60s"];
        kube.run(&wait).expect("the Pod is ready");
        let get = ["-n", namespace, "get", "pod", "probe", "-o", "jsonpath={.status.podIP}"];
        let address = kube.run(&get).expect("the Pod is there").parse().expect("an address");
        Self { namespace: namespace.to_owned(), address }
    }

    /// Asserts which connections from this Pod succeed.
    #[track_caller]
    fn assert(&self, cluster: &Cluster, connections: &[Connection], expected: impl Fn(&Connection) -> bool) {
        let mut exec = vec!["-n", &self.namespace, "exec", "probe", "--", "python3", "-c", CONNECT];
        exec.extend(connections.iter().map(|connection| connection.to.as_str()));
        let output = cluster.kube.run(&exec).expect("the Pod runs the program");
        let open: Vec<_> = output.lines().map(|line| line == "open").collect();
        let expected: Vec<_> = connections.iter().map(expected).collect();
        let targets: Vec<_> = connections.iter().map(|connection| &connection.to).collect();
        assert_eq!(open, expected, "{targets:?}:\n{output}");
    }
}

/// Returns all resources of a kind, of all namespaces.
fn list(cluster: &Cluster, kind: &str) -> Vec<Value> {
    let output = cluster.kube.run(&["get", kind, "--all-namespaces", "-o", "json"]).expect("kubectl lists");
    parse(&output)["items"].as_array_mut().map(std::mem::take).expect("a list")
}

/// Returns the policies without these ports of egress.
fn without_ports(policies: &[Value], ports: &[u16]) -> Vec<Value> {
    let mut policies = policies.to_vec();
    for policy in &mut policies {
        for rule in policy["spec"]["egress"].as_array_mut().expect("rules") {
            let allowed = rule["ports"].as_array_mut().expect("ports");
            allowed.retain(|allowed| !ports.iter().any(|port| allowed["port"] == *port));
        }
    }
    policies
}
