//! What the operator may have to do in the cluster, in one table: `check --cluster` asks for each of these
//! rights, and a test compares them with the manifests.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::client::explain;
use super::inspect::ask;
use fedora_message::api::v1alpha1::GROUP;

/// What a right is needed for, and with which role it is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// By every operator, in each namespace that it watches.
    Always,
    /// With `--leader-elect`, in the Lease's namespace.
    LeaderElection,
    /// With `--delivery-mode` `pod` or `fallback`, where the Secrets are.
    Pods,
}

impl Need {
    /// The role with these rights.
    #[must_use]
    pub fn role(self) -> &'static str {
        match self {
            Self::Always => "fedora-message-operator",
            Self::LeaderElection => "fedora-message-operator-leader-election",
            Self::Pods => "fedora-message-operator-pods",
        }
    }

    /// The file that it is in.
    #[must_use]
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Always | Self::LeaderElection => "manifests/base/rights.yaml",
            Self::Pods => "manifests/components/pods/rights.yaml",
        }
    }
}

/// A rule, as in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// When it is needed.
    pub need: Need,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource after a slash.
    pub resource: &'static str,
    /// What is done with it.
    pub verbs: &'static [&'static str],
}

/// All rules, as they stand in the manifests.
pub const RULES: [Rule; 8] = [
    rule(Need::Always, GROUP, "fedoramessages", &["list", "watch", "delete"]),
    rule(Need::Always, GROUP, "fedoramessages/status", &["update", "patch"]),
    rule(Need::Always, "", "secrets", &["get", "watch"]),
    rule(Need::Always, "events.k8s.io", "events", &["create"]),
    rule(Need::LeaderElection, "coordination.k8s.io", "leases", &["get", "create", "update", "watch"]),
    rule(Need::Pods, "", "pods", &["list", "create", "watch", "delete"]),
    rule(Need::Pods, "", "configmaps", &["list", "create", "patch", "delete"]),
    rule(Need::Pods, GROUP, "fedoramessages", &["get"]),
];

const fn rule(need: Need, group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Rule {
    Rule { need, group, resource, verbs }
}

impl Rule {
    /// Whether the one who asks may do this in a namespace, or in all; with the object of this `name`, if it
    /// is about one.
    pub async fn allows(
        &self,
        client: &Client,
        verb: &str,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<bool, String> {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (self.resource, None),
        };
        // Nobody knows an object's name before it is created.
        let name = name.filter(|_| verb != "create");
        let attributes = ResourceAttributes {
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            verb: Some(verb.to_owned()),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let reviewed = ask(api.create(&PostParams::default(), &review)).await.map_err(|error| explain(&error))?;
        Ok(reviewed.status.is_some_and(|status| status.allowed))
    }
}

#[cfg(test)]
mod tests;
