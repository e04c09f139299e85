//! Compares installed CRDs and policies with this program's.

#![expect(clippy::disallowed_methods, reason = "tests read files and clocks")]

use crate::api::compare::{AdmissionPolicy, InstalledCrd, crd};
use crate::api::{sender, v1alpha1};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// Returns the `OpenAPI` document of an API server with this program's CRDs.
fn published() -> Value {
    let mut document = json!({"paths": {}, "components": {"schemas": {"other": {}}}});
    publish(&mut document, v1alpha1::definition());
    publish(&mut document, sender::definition());
    document
}

/// Adds a CRD to the `OpenAPI` document of an API server.
fn publish(document: &mut Value, definition: CustomResourceDefinition) {
    let crd = serde_json::to_value(definition).unwrap();
    let version = &crd["spec"]["versions"][0];
    let mut schema = version["schema"]["openAPIV3Schema"].clone();
    whole_numbers(&mut schema);
    let names = &crd["spec"]["names"];
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": "apps.fedoraproject.org", "version": "v1alpha1", "kind": names["kind"]}]);
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    let path = |field: &Value| field["jsonPath"].as_str().unwrap().trim_start_matches('.').to_owned();
    schema["x-kubernetes-selectable-fields"] = selectable.map(|field| json!({"fieldPath": path(field)})).collect();
    let (kind, plural) = (names["kind"].as_str().unwrap(), names["plural"].as_str().unwrap());
    let status = format!("/apis/apps.fedoraproject.org/v1alpha1/namespaces/{{namespace}}/{plural}/{{name}}/status");
    document["paths"][status] = json!({});
    document["components"]["schemas"][format!("org.{kind}")] = schema;
}

/// Writes numbers as the API server does.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            if let Some(whole) = number.to_string().strip_suffix(".0") {
                *value = serde_json::from_str(whole).unwrap();
            }
        }
        _ => {}
    }
}

fn schema(published: &mut Value) -> &mut Value {
    &mut published["components"]["schemas"]["org.FedoraMessage"]
}

fn documents(file: &str) -> Vec<Value> {
    let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn recognizes_its_own_crd() {
    assert_eq!(crd(&published()), InstalledCrd::Same);
    assert_eq!(crd(&Value::Null), InstalledCrd::Absent);
    assert_eq!(crd(&json!({"components": {"schemas": {}}})), InstalledCrd::Absent);
}

#[test]
fn names_what_an_older_crd_lacks() {
    let mut older = published();
    let schema = schema(&mut older);
    for (part, field) in [("spec", "suspend"), ("status", "startTime")] {
        schema["properties"][part]["properties"].as_object_mut().unwrap().remove(field);
    }
    schema["properties"]["status"]["properties"]["conditions"]["items"]["properties"]
        .as_object_mut()
        .unwrap()
        .remove("observedGeneration");
    schema["x-kubernetes-selectable-fields"].as_array_mut().unwrap().remove(1);
    older["paths"] = json!({});
    let InstalledCrd::Older(missing) = crd(&older) else { panic!("{:?}", crd(&older)) };
    let expected = [
        "the field spec.suspend",
        "the field status.conditions[].observedGeneration",
        "the field status.startTime",
        "the selectable field spec.ttlSecondsAfterFinished",
        "the subresource status",
        "FedoraMessageSender: the subresource status",
    ];
    assert_eq!(missing, expected);
}

/// As in a cluster that had an operator without Senders.
#[test]
fn misses_the_senders_crd() {
    let mut older = published();
    older["components"]["schemas"].as_object_mut().unwrap().remove("org.FedoraMessageSender").unwrap();
    assert_eq!(crd(&older), InstalledCrd::Older(vec!["the resource FedoraMessageSender".to_owned()]));
    let mut none = older;
    none["components"]["schemas"].as_object_mut().unwrap().remove("org.FedoraMessage").unwrap();
    assert_eq!(crd(&none), InstalledCrd::Absent);
}

#[test]
fn names_what_an_older_senders_crd_lacks() {
    let mut older = published();
    let sender = &mut older["components"]["schemas"]["org.FedoraMessageSender"]["properties"]["spec"]["properties"];
    sender.as_object_mut().unwrap().remove("topicPrefix").unwrap();
    sender["defaults"]["properties"].as_object_mut().unwrap().remove("severity").unwrap();
    let expected =
        ["defaults.severity", "topicPrefix"].map(|field| format!("FedoraMessageSender: the field spec.{field}"));
    assert_eq!(crd(&older), InstalledCrd::Older(expected.to_vec()));
}

#[test]
fn accepts_other_compatible_crds() {
    let mut newer = published();
    schema(&mut newer)["properties"]["spec"]["properties"]["later"] = json!({"type": "string"});
    assert_eq!(crd(&newer), InstalledCrd::Other);
    let mut other = published();
    schema(&mut other)["properties"]["spec"]["x-kubernetes-validations"] = json!([]);
    assert_eq!(crd(&other), InstalledCrd::Other);
    let mut other = published();
    schema(&mut other).as_object_mut().unwrap().remove("x-kubernetes-validations").expect("rules of the whole object");
    assert_eq!(crd(&other), InstalledCrd::Other);
    let mut newer = published();
    newer["components"]["schemas"]["org.FedoraMessageSender"]["properties"]["spec"]["properties"]["later"] =
        json!({"type": "string"});
    assert_eq!(crd(&newer), InstalledCrd::Other);
}

#[test]
fn ignores_the_api_servers_defaults_in_policies() {
    let [mut policy, _]: [Value; 2] =
        documents("manifests/base/admission-policy.yaml").try_into().expect("a policy and its binding");
    let constraints = &mut policy["spec"]["matchConstraints"];
    constraints["matchPolicy"] = json!("Equivalent");
    constraints["namespaceSelector"] = json!({});
    constraints["objectSelector"] = json!({});
    constraints["resourceRules"][0]["scope"] = json!("*");
    assert!(AdmissionPolicy::MESSAGES.is_same(&policy));
    let mut weaker = policy.clone();
    weaker["spec"]["validations"].as_array_mut().unwrap().pop();
    assert!(!AdmissionPolicy::MESSAGES.is_same(&weaker));
    weaker.clone_from(&policy);
    weaker["spec"]["failurePolicy"] = json!("Ignore");
    assert!(!AdmissionPolicy::MESSAGES.is_same(&weaker));
}

/// These policies apply to fewer requests, or to none.
#[test]
fn detects_narrowed_policies() {
    let [policy, _]: [Value; 2] =
        documents("manifests/base/admission-policy.yaml").try_into().expect("a policy and its binding");
    let selector = json!({"matchLabels": {"a": "b"}});
    for (place, field, value) in [
        ("/spec", "matchConditions", json!([{"name": "never", "expression": "false"}])),
        ("/spec/matchConstraints", "excludeResourceRules", policy["spec"]["matchConstraints"]["resourceRules"].clone()),
        ("/spec/matchConstraints", "namespaceSelector", selector.clone()),
        ("/spec/matchConstraints", "objectSelector", selector),
        ("/spec/matchConstraints", "matchPolicy", json!("Exact")),
        ("/spec/matchConstraints/resourceRules/0", "resourceNames", json!(["a"])),
        ("/spec/matchConstraints/resourceRules/0", "scope", json!("Cluster")),
    ] {
        let mut narrow = policy.clone();
        narrow.pointer_mut(place).unwrap()[field] = value;
        assert!(!AdmissionPolicy::MESSAGES.is_same(&narrow), "{field}");
    }
}

#[test]
fn knows_policy_that_requires_senders() {
    let [policy, binding]: [Value; 2] = documents("manifests/components/require-sender/admission-policy.yaml")
        .try_into()
        .expect("a policy and its binding");
    let own = AdmissionPolicy::REQUIRE_SENDER;
    assert!(own.is_same(&policy) && own.is_enforced_by(&binding));
    assert!(!AdmissionPolicy::MESSAGES.is_same(&policy));
}

#[test]
fn knows_policies_for_pods() {
    let [pods, pods_binding, operator, operator_binding]: [Value; 4] =
        documents("manifests/components/pods/admission-policy.yaml").try_into().expect("two policies with bindings");
    assert!(AdmissionPolicy::PODS.is_same(&pods) && AdmissionPolicy::OPERATOR_PODS.is_same(&operator));
    assert!(!AdmissionPolicy::PODS.is_same(&operator) && !AdmissionPolicy::OPERATOR_PODS.is_same(&pods));
    assert!(
        AdmissionPolicy::PODS.is_enforced_by(&pods_binding)
            && AdmissionPolicy::OPERATOR_PODS.is_enforced_by(&operator_binding)
    );
    assert!(!AdmissionPolicy::PODS.is_enforced_by(&operator_binding));
}

#[test]
fn needs_a_binding_that_denies_everywhere() {
    let [_, mut binding]: [Value; 2] =
        documents("manifests/base/admission-policy.yaml").try_into().expect("a policy and its binding");
    assert!(AdmissionPolicy::MESSAGES.is_enforced_by(&binding));
    binding["spec"]["validationActions"] = json!(["Deny", "Audit"]);
    assert!(AdmissionPolicy::MESSAGES.is_enforced_by(&binding));
    let mut narrow = binding.clone();
    narrow["spec"]["matchResources"] = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}});
    assert!(!AdmissionPolicy::MESSAGES.is_enforced_by(&narrow));
    binding["spec"]["validationActions"] = json!(["Warn"]);
    assert!(!AdmissionPolicy::MESSAGES.is_enforced_by(&binding));
}
