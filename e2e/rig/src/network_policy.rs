//! Network policies as rules of nftables, for the node of a [`Cluster`](crate::Cluster).
//!
//! The rules see the translated addresses and ports of Services, as those of OVN-Kubernetes on OpenShift
//! do. They drop everything that no policy allows.
//!
//! Ready agents need more of the kernel than tests can expect: kube-network-policies 0.8.0 a queue of
//! nftables (`CONFIG_NFT_QUEUE`), and kube-router 2.10.0 the match `set` of iptables
//! (`CONFIG_NETFILTER_XT_MATCH_SET`). kube-router 2.11 can do without, but the Go proxy did not have its
//! module.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// The parts of a policy that [`rules`] knows. All others are errors, so no policy is enforced as
/// something else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    pod_selector: Selector,
    policy_types: Vec<Direction>,
    #[serde(default)]
    ingress: Vec<Rule>,
    #[serde(default)]
    egress: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Direction {
    Ingress,
    Egress,
}

/// Allows these ports of all peers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    ports: Vec<Port>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    port: Number,
    protocol: Protocol,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u16),
    /// The name of a container's port.
    Name(String),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Protocol {
    Tcp,
    Udp,
}

/// The Pods that policies select, and what they allow, as elements of sets of nftables.
#[derive(Debug, Default)]
struct Sets {
    ingress_pods: BTreeSet<String>,
    ingress: BTreeSet<String>,
    egress_pods: BTreeSet<String>,
    egress: BTreeSet<String>,
}

/// Returns a file for `nft -f` that enforces these policies for these Pods, as the API server returns
/// both. It replaces the rules of an earlier file. Without policies, it allows everything.
///
/// Traffic from the node to its own Pods passes, as the kubelet's probes do everywhere.
///
/// # Errors
///
/// If a policy uses anything else than labels of Pods and ports of all peers.
pub fn rules(policies: &[Value], pods: &[Value]) -> Result<String> {
    let mut sets = Sets::default();
    for policy in policies {
        add(&mut sets, policy, pods).with_context(|| {
            let name = &policy["metadata"];
            format!("NetworkPolicy {}/{} can't be enforced here", name["namespace"], name["name"])
        })?;
    }
    Ok(format!(
        "table inet policies
delete table inet policies
table inet policies {{
    set ingress_pods {{ type ipv4_addr; {} }}
    set ingress {{ type ipv4_addr . inet_proto . inet_service; {} }}
    set egress_pods {{ type ipv4_addr; {} }}
    set egress {{ type ipv4_addr . inet_proto . inet_service; {} }}
    chain check {{
        ct direction reply accept
        ip daddr @ingress_pods ip daddr . meta l4proto . th dport != @ingress drop
        ip saddr @egress_pods ip saddr . meta l4proto . th dport != @egress drop
    }}
    chain forward {{ type filter hook forward priority filter; jump check; }}
    chain input {{ type filter hook input priority filter; jump check; }}
}}
",
        elements(&sets.ingress_pods),
        elements(&sets.ingress),
        elements(&sets.egress_pods),
        elements(&sets.egress)
    ))
}

/// nft accepts no empty list of elements.
fn elements(set: &BTreeSet<String>) -> String {
    let list: Vec<_> = set.iter().map(String::as_str).collect();
    if list.is_empty() { String::new() } else { format!("elements = {{ {} }}", list.join(", ")) }
}

fn add(sets: &mut Sets, policy: &Value, pods: &[Value]) -> Result<()> {
    let spec = Spec::deserialize(&policy["spec"])?;
    let namespace = &policy["metadata"]["namespace"];
    let selected = pods.iter().filter(|pod| {
        let labels = &pod["metadata"]["labels"];
        pod["metadata"]["namespace"] == *namespace
            && spec.pod_selector.match_labels.iter().all(|(key, value)| labels[key] == value.as_str())
    });
    for pod in selected {
        let Some(address) = pod["status"]["podIP"].as_str() else { continue };
        for direction in &spec.policy_types {
            let (isolated, allowed, rules) = match direction {
                Direction::Ingress => (&mut sets.ingress_pods, &mut sets.ingress, &spec.ingress),
                Direction::Egress => (&mut sets.egress_pods, &mut sets.egress, &spec.egress),
            };
            isolated.insert(address.to_owned());
            for port in rules.iter().flat_map(|rule| &rule.ports) {
                let protocol = port.protocol.name();
                let numbers = port.numbers(*direction, pod)?;
                allowed.extend(numbers.iter().map(|number| format!("{address} . {protocol} . {number}")));
            }
        }
    }
    Ok(())
}

impl Port {
    /// Returns its numbers. A name means the ports of that name of the Pod's containers.
    fn numbers(&self, direction: Direction, pod: &Value) -> Result<Vec<u64>> {
        let name = match &self.port {
            Number::Number(number) => return Ok(vec![u64::from(*number)]),
            Number::Name(name) if direction == Direction::Ingress => name,
            Number::Name(name) => bail!("the port {name} of other Pods is not known"),
        };
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
        let protocol = self.protocol.name().to_uppercase();
        let ports = ports.filter(|port| port["name"] == name.as_str() && port["protocol"] == protocol.as_str());
        Ok(ports.filter_map(|port| port["containerPort"].as_u64()).collect())
    }
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, app: &str, address: &str) -> Value {
        let ports = json!([{"name": "admin", "containerPort": 8080, "protocol": "TCP"}]);
        json!({
            "metadata": {"namespace": namespace, "labels": {"app": app, "more": "labels"}},
            "spec": {"containers": [{"ports": ports}]},
            "status": {"podIP": address},
        })
    }

    fn policy(spec: &Value) -> Value {
        json!({"metadata": {"namespace": "here", "name": "one"}, "spec": spec})
    }

    #[test]
    fn policy_restricts_selected_pods() {
        let policies = [policy(&json!({
            "podSelector": {"matchLabels": {"app": "operator"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": "admin", "protocol": "TCP"}, {"port": "other", "protocol": "TCP"}]}],
            "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}, {"ports": [{"port": 5671, "protocol": "TCP"}]}],
        }))];
        let mut waiting = pod("here", "operator", "");
        waiting["status"] = json!({});
        let pods = [
            pod("here", "operator", "10.0.0.1"),
            pod("here", "operator", "10.0.0.2"),
            pod("here", "another", "10.0.0.3"),
            pod("elsewhere", "operator", "10.0.0.4"),
            waiting,
        ];
        let rules = rules(&policies, &pods).unwrap();
        for expected in [
            "set ingress_pods { type ipv4_addr; elements = { 10.0.0.1, 10.0.0.2 } }",
            "inet_service; elements = { 10.0.0.1 . tcp . 8080, 10.0.0.2 . tcp . 8080 } }",
            "set egress_pods { type ipv4_addr; elements = { 10.0.0.1, 10.0.0.2 } }",
            "{ 10.0.0.1 . tcp . 5671, 10.0.0.1 . udp . 53, 10.0.0.2 . tcp . 5671, 10.0.0.2 . udp . 53 } }",
        ] {
            assert!(rules.contains(expected), "{expected}: {rules}");
        }
    }

    /// Without rules for a direction, nothing is allowed in it. The other direction stays open.
    #[test]
    fn policy_without_rules_allows_nothing() {
        let policies = [policy(&json!({"podSelector": {}, "policyTypes": ["Ingress"]}))];
        let rules = rules(&policies, &[pod("here", "operator", "10.0.0.1")]).unwrap();
        assert!(rules.contains("set ingress_pods { type ipv4_addr; elements = { 10.0.0.1 } }"), "{rules}");
        assert_eq!(rules.matches("elements").count(), 1, "{rules}");
    }

    #[test]
    fn unknown_fields_are_refused() {
        let port = json!({"port": 53, "protocol": "UDP"});
        let to = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]);
        for (egress, expected) in [
            (json!({"ports": [port], "to": to}), "unknown field `to`"),
            (json!({}), "missing field `ports`"),
            (json!({"ports": [{"protocol": "UDP"}]}), "missing field `port`"),
            (json!({"ports": [{"port": 53, "endPort": 60, "protocol": "UDP"}]}), "unknown field `endPort`"),
            (json!({"ports": [{"port": 53, "protocol": "SCTP"}]}), "unknown variant `SCTP`"),
            (json!({"ports": [{"port": "dns", "protocol": "UDP"}]}), "the port dns of other Pods is not known"),
        ] {
            let policies = [policy(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [egress]}))];
            let error = format!("{:#}", rules(&policies, &[pod("here", "operator", "10.0.0.1")]).unwrap_err());
            assert!(error.contains(expected) && error.contains(r#""here"/"one""#), "{error}");
        }
        let selector = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
        let policies = [policy(&json!({"podSelector": selector, "policyTypes": ["Ingress"]}))];
        assert!(rules(&policies, &[]).is_err());
    }
}
