//! What a cluster has installed, beside what this program brings: the CRD as the API server publishes it
//! to everybody (`OpenAPI` v3), and the admission policy with its binding.

use serde_json::Value;

use crate::api::v1alpha1::{GROUP, KIND, PLURAL, VERSION, definition};

/// The policy and its binding, as they are in the manifests.
const POLICY: &str = include_str!("../../../../manifests/base/admission-policy.yaml");
/// The name of both.
pub const POLICY_NAME: &str = "fedoramessages.apps.fedoraproject.org";

/// A cluster's CRD, beside this program's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstalledCrd {
    /// The API server does not serve the resource, or not in this version.
    Absent,
    /// It lacks these things, so it is older.
    Older(Vec<String>),
    /// It has all that this program needs, but other descriptions, rules, or more fields.
    Other,
    /// It is this program's.
    Same,
}

/// Compares what the API server publishes for the group and version of the resource.
#[must_use]
pub fn crd(published: &Value) -> InstalledCrd {
    let Some(installed) = schemas(published).find(|schema| is_ours(schema)) else { return InstalledCrd::Absent };
    let mine = serde_json::to_value(definition()).unwrap_or_default();
    let mine = &mine["spec"]["versions"][0];
    let properties = &mine["schema"]["openAPIV3Schema"]["properties"];
    let mut lacks = Vec::new();
    for part in ["spec", "status"] {
        lacking(&properties[part], &installed["properties"][part], part, &mut lacks);
    }
    let mut lacks: Vec<_> = lacks.into_iter().map(|path| format!("the field {path}")).collect();
    let selectable = texts(&installed["x-kubernetes-selectable-fields"], "fieldPath");
    for path in texts(&mine["selectableFields"], "jsonPath").iter().map(|path| path.trim_start_matches('.')) {
        if !selectable.iter().any(|other| other.trim_start_matches('.') == path) {
            lacks.push(format!("the selectable field {path}"));
        }
    }
    let status = format!("/{PLURAL}/{{name}}/status");
    if !published["paths"].as_object().is_some_and(|paths| paths.keys().any(|path| path.ends_with(&status))) {
        lacks.push("the subresource status".to_owned());
    }
    let same = ["spec", "status"].iter().all(|part| is_same(&properties[part], &installed["properties"][part]));
    match (lacks.is_empty(), same) {
        (false, _) => InstalledCrd::Older(lacks),
        (true, false) => InstalledCrd::Other,
        (true, true) => InstalledCrd::Same,
    }
}

fn schemas(published: &Value) -> impl Iterator<Item = &Value> {
    published["components"]["schemas"].as_object().into_iter().flat_map(|schemas| schemas.values())
}

fn is_ours(schema: &Value) -> bool {
    let kinds = schema["x-kubernetes-group-version-kind"].as_array();
    kinds.into_iter().flatten().any(|it| it["group"] == GROUP && it["version"] == VERSION && it["kind"] == KIND)
}

/// Adds the paths of the properties that are `wanted` and not there.
fn lacking(wanted: &Value, there: &Value, path: &str, lacks: &mut Vec<String>) {
    if there.is_null() {
        lacks.push(path.to_owned());
        return;
    }
    for (name, property) in wanted["properties"].as_object().into_iter().flatten() {
        lacking(property, &there["properties"][name], &format!("{path}.{name}"), lacks);
    }
    if wanted["items"].is_object() {
        lacking(&wanted["items"], &there["items"], &format!("{path}[]"), lacks);
    }
}

/// Whether both say the same; the API server writes a whole number without its fraction.
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

/// Whether an installed policy says all that this program's does.
#[must_use]
pub fn is_same_policy(installed: &Value) -> bool {
    let documents: Vec<Value> = serde_saphyr::from_multiple(POLICY).unwrap_or_default();
    documents.first().is_some_and(|mine| includes(&installed["spec"], &mine["spec"]))
}

/// Whether an installed binding lets the policy refuse messages, wherever they are.
#[must_use]
pub fn enforces(binding: &Value) -> bool {
    let spec = &binding["spec"];
    let denies = spec["validationActions"].as_array().is_some_and(|all| all.iter().any(|action| action == "Deny"));
    denies && spec["policyName"] == POLICY_NAME && spec["matchResources"].is_null()
}

/// Whether `there` says all that is `wanted`; the API server adds its defaults.
fn includes(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| there.get(key).is_some_and(|there| includes(there, value)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| includes(there, wanted))
        }
        (there, wanted) => there == wanted,
    }
}

#[cfg(test)]
mod tests;
