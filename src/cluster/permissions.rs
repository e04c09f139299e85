//! The RBAC permissions that the operator needs, in one table: `check --cluster` checks each of them, and a test
//! compares them with the manifests.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::list::{ListError, answer};
use fedora_message::api::v1alpha1::GROUP;

/// The purpose of a permission, and the role that grants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every operator needs it, in each namespace that it watches.
    Always,
    /// An operator with `--leader-elect` needs it, in the Lease's namespace.
    LeaderElection,
    /// An operator with `--delivery-mode` `pod` or `fallback` needs it, in the namespaces of the Secrets.
    Pods,
}

impl Need {
    /// Returns the name of the role.
    #[must_use]
    pub fn role(self) -> &'static str {
        match self {
            Self::Always => "fedora-message-operator",
            Self::LeaderElection => "fedora-message-operator-leader-election",
            Self::Pods => "fedora-message-operator-pods",
        }
    }

    /// Returns the manifest with the role.
    #[must_use]
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Always | Self::LeaderElection => "manifests/base/rbac.yaml",
            Self::Pods => "manifests/components/pods/rbac.yaml",
        }
    }
}

/// A rule, as in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The purpose.
    pub need: Need,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource after a slash.
    pub resource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
}

/// All rules, as in the manifests.
pub const RULES: [Rule; 9] = [
    rule(Need::Always, GROUP, "fedoramessages", &["get", "list", "watch", "delete"]),
    rule(Need::Always, GROUP, "fedoramessages/status", &["update", "patch"]),
    rule(Need::Always, GROUP, "fedoramessagesenders", &["list", "watch"]),
    rule(Need::Always, GROUP, "fedoramessagesenders/status", &["patch"]),
    rule(Need::Always, "", "secrets", &["get", "watch"]),
    rule(Need::Always, "", "configmaps", &["get", "watch"]),
    rule(Need::Always, "events.k8s.io", "events", &["create"]),
    rule(Need::LeaderElection, "coordination.k8s.io", "leases", &["create", "get", "update", "watch"]),
    rule(Need::Pods, "", "pods", &["get", "list", "create", "watch", "delete"]),
];

const fn rule(need: Need, group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Rule {
    Rule { need, group, resource, verbs }
}

impl Rule {
    /// Returns true if the user may do this in a namespace, or in all namespaces. If `name` is given, the permission
    /// is for that object.
    pub async fn allows(
        &self,
        client: &Client,
        verb: &str,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<bool, ListError> {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (self.resource, None),
        };
        // A request to create an object has no name that RBAC could check.
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
        let reviewed = answer(api.create(&PostParams::default(), &review)).await?;
        Ok(reviewed.status.is_some_and(|status| status.allowed))
    }
}

#[cfg(test)]
mod tests;
