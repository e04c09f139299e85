//! Compares the CRDs and the admission policies of a cluster with those of this program.
//!
//! The API server publishes the CRD to everybody as `OpenAPI` v3.

use serde_json::Value;

use crate::api::sender;
use crate::api::v1alpha1::{self, GROUP, KIND, VERSION};

/// The key of CEL rules in a schema.
const RULES: &str = "x-kubernetes-validations";
/// The manifests of the policy for messages.
const MESSAGE_POLICY: &str = include_str!("../../../../manifests/base/admission-policy.yaml");
/// The manifests of the policy that requires Senders.
const REQUIRE_SENDER_POLICY: &str =
    include_str!("../../../../manifests/components/require-sender/admission-policy.yaml");
/// The manifests of the policies for Pods.
const POD_POLICIES: &str = include_str!("../../../../manifests/components/pods/admission-policy.yaml");

/// An admission policy, with a binding of the same name.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionPolicy {
    /// Its name.
    pub name: &'static str,
    /// The file with it and its binding.
    pub file: &'static str,
    manifests: &'static str,
}

impl AdmissionPolicy {
    /// Refuses invalid messages.
    pub const MESSAGES: Self = Self {
        name: "fedoramessages.apps.fedoraproject.org",
        file: "manifests/base/admission-policy.yaml",
        manifests: MESSAGE_POLICY,
    };
    /// Protects the Pods of messages.
    pub const PODS: Self = Self::of_pods("fedora-message-pods.apps.fedoraproject.org");
    /// Confines which Pods the operator creates.
    pub const OPERATOR_PODS: Self = Self::of_pods("fedora-message-operator-pods.apps.fedoraproject.org");

    /// Refuses messages that name a certificate themselves.
    pub const REQUIRE_SENDER: Self = Self {
        name: "fedoramessages-require-sender.apps.fedoraproject.org",
        file: "manifests/components/require-sender/admission-policy.yaml",
        manifests: REQUIRE_SENDER_POLICY,
    };

    const fn of_pods(name: &'static str) -> Self {
        Self { name, file: "manifests/components/pods/admission-policy.yaml", manifests: POD_POLICIES }
    }

    /// Returns true if an installed policy is this one, with an API server's defaults.
    #[must_use]
    pub fn is_same(&self, installed: &Value) -> bool {
        let documents: Vec<Value> = serde_saphyr::from_multiple(self.manifests).unwrap_or_default();
        let mut own = documents.iter().filter(|document| document["metadata"]["name"] == self.name);
        own.next().is_some_and(|own| is_same_policy(&installed["spec"], &own["spec"]))
    }

    /// Returns true if an installed binding enforces the policy in all namespaces.
    #[must_use]
    pub fn is_enforced_by(&self, binding: &Value) -> bool {
        let spec = &binding["spec"];
        let denies = spec["validationActions"].as_array().is_some_and(|all| all.iter().any(|action| action == "Deny"));
        denies && spec["policyName"] == self.name && spec["matchResources"].is_null()
    }
}

/// A cluster's CRD in comparison to this program's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstalledCrd {
    /// The API server does not serve messages, or not in this version.
    Absent,
    /// The CRD lacks these fields or features, so it is older.
    Older(Vec<String>),
    /// The CRD has everything that this program needs. Its descriptions or rules differ, or it has more
    /// fields.
    Other,
    /// The CRD is the same as this program's.
    Same,
}

/// Compares this program's CRDs with the `OpenAPI` document for the group and version of the resources.
#[must_use]
pub fn crd(published: &Value) -> InstalledCrd {
    let (mut missing, mut all_same) = (Vec::new(), true);
    for mine in [v1alpha1::definition(), sender::definition()] {
        let mine = serde_json::to_value(mine).unwrap_or_default();
        let (kind, plural) = (&mine["spec"]["names"]["kind"], &mine["spec"]["names"]["plural"]);
        let Some(installed) = schemas(published).find(|schema| is_of_kind(schema, kind)) else {
            if kind == KIND {
                return InstalledCrd::Absent;
            }
            missing.push(format!("the resource {}", kind.as_str().unwrap_or_default()));
            continue;
        };
        let (lacks, same) = compare(&mine["spec"]["versions"][0], installed);
        // Users know the fields of the first resource without its name.
        let prefix = if kind == KIND { String::new() } else { format!("{}: ", kind.as_str().unwrap_or_default()) };
        missing.extend(lacks.into_iter().map(|lack| format!("{prefix}{lack}")));
        all_same &= same;
        let status = format!("/{}/{{name}}/status", plural.as_str().unwrap_or_default());
        if !published["paths"].as_object().is_some_and(|paths| paths.keys().any(|path| path.ends_with(&status))) {
            missing.push(format!("{prefix}the subresource status"));
        }
    }
    match (missing.is_empty(), all_same) {
        (false, _) => InstalledCrd::Older(missing),
        (true, false) => InstalledCrd::Other,
        (true, true) => InstalledCrd::Same,
    }
}

/// Returns what the installed version of a resource lacks, and true if both are the same.
fn compare(mine: &Value, installed: &Value) -> (Vec<String>, bool) {
    let properties = &mine["schema"]["openAPIV3Schema"]["properties"];
    let mut paths = Vec::new();
    for part in ["spec", "status"] {
        add_missing(&properties[part], &installed["properties"][part], part, &mut paths);
    }
    let mut missing: Vec<_> = paths.into_iter().map(|path| format!("the field {path}")).collect();
    let selectable = texts(&installed["x-kubernetes-selectable-fields"], "fieldPath");
    for path in texts(&mine["selectableFields"], "jsonPath").iter().map(|path| path.trim_start_matches('.')) {
        if !selectable.iter().any(|other| other.trim_start_matches('.') == path) {
            missing.push(format!("the selectable field {path}"));
        }
    }
    let same = ["spec", "status"].iter().all(|part| is_same(&properties[part], &installed["properties"][part]))
        && is_same(&mine["schema"]["openAPIV3Schema"][RULES], &installed[RULES]);
    (missing, same)
}

fn schemas(published: &Value) -> impl Iterator<Item = &Value> {
    published["components"]["schemas"].as_object().into_iter().flat_map(|schemas| schemas.values())
}

fn is_of_kind(schema: &Value, kind: &Value) -> bool {
    let kinds = schema["x-kubernetes-group-version-kind"].as_array();
    kinds.into_iter().flatten().any(|it| it["group"] == GROUP && it["version"] == VERSION && it["kind"] == *kind)
}

/// Adds the paths of the properties that `installed` lacks.
fn add_missing(expected: &Value, installed: &Value, path: &str, missing: &mut Vec<String>) {
    if installed.is_null() {
        missing.push(path.to_owned());
        return;
    }
    for (name, property) in expected["properties"].as_object().into_iter().flatten() {
        add_missing(property, &installed["properties"][name], &format!("{path}.{name}"), missing);
    }
    if expected["items"].is_object() {
        add_missing(&expected["items"], &installed["items"], &format!("{path}[]"), missing);
    }
}

/// Returns true if both are equal. The API server writes a whole number without its fraction.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|it| is_same(value, it)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (one, other) => one == other,
    }
}

fn texts<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().into_iter().flatten().filter_map(|item| item[key].as_str()).collect()
}

/// Returns true if both are equal, except for the defaults that an API server adds. Another field may narrow the
/// policy, as a condition or a selector does.
fn is_same_policy(installed: &Value, own: &Value) -> bool {
    match (installed, own) {
        (Value::Object(installed), Value::Object(own)) => {
            own.keys().all(|key| installed.contains_key(key))
                && installed.iter().all(|(key, value)| {
                    own.get(key).map_or_else(|| is_default(key, value), |own| is_same_policy(value, own))
                })
        }
        (Value::Array(installed), Value::Array(own)) => {
            installed.len() == own.len() && installed.iter().zip(own).all(|(one, own)| is_same_policy(one, own))
        }
        (installed, own) => installed == own,
    }
}

/// Returns true if an API server adds this field to a policy that lacks it.
fn is_default(key: &str, value: &Value) -> bool {
    match key {
        "matchPolicy" => value == "Equivalent",
        "namespaceSelector" | "objectSelector" => value.as_object().is_some_and(serde_json::Map::is_empty),
        "scope" => value == "*",
        _ => false,
    }
}

#[cfg(test)]
mod tests;
