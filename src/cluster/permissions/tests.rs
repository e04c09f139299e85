//! The table of permissions beside the manifests.

use std::collections::BTreeSet;

use serde_json::Value;

use super::RULES;

fn documents(file: &str) -> Vec<Value> {
    let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn asks_for_the_permissions_of_the_manifests() {
    let mut granted = BTreeSet::new();
    for file in ["manifests/base/rbac.yaml", "manifests/components/pods/rbac.yaml"] {
        for role in documents(file) {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let list = |value: &Value| value.as_array().unwrap().iter().map(text).collect::<Vec<_>>();
            for rule in role["rules"].as_array().unwrap() {
                for group in list(&rule["apiGroups"]) {
                    for resource in list(&rule["resources"]) {
                        for verb in list(&rule["verbs"]) {
                            let role = text(&role["metadata"]["name"]);
                            granted.insert((file.to_owned(), role, group.clone(), resource.clone(), verb));
                        }
                    }
                }
            }
        }
    }
    let asked: BTreeSet<_> = RULES
        .iter()
        .flat_map(|rule| {
            rule.verbs.iter().map(|verb| {
                let (file, role) = (rule.need.manifest().to_owned(), rule.need.role().to_owned());
                (file, role, rule.group.to_owned(), rule.resource.to_owned(), (*verb).to_owned())
            })
        })
        .collect();
    assert_eq!(asked, granted, "src/cluster/permissions.rs and the manifests");
}
