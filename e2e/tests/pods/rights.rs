//! Least privilege: the rights in manifests/base are enough for Pods, and each of them is used.

use std::collections::BTreeSet;

use rig::wait_until;
use serde_json::Value;

use crate::cluster::{LATER, cluster, pods, space, wait_for_reason};
use e2e::world::{DEBUG, Operator, SOON, message, project};

/// The user who has no rights but these.
const USER: &str = "operator";

/// The verbs of a manifest's rules, each with its resource.
fn granted(manifest: &str) -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(project(manifest)).expect("the manifest is there");
    let role: Value = serde_saphyr::from_str(&text).expect("the manifest is YAML");
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().expect("a list").iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let rules = role["rules"].as_array().expect("rules").iter();
    rules
        .flat_map(|rule| {
            let verbs = texts(&rule["verbs"]);
            texts(&rule["resources"])
                .into_iter()
                .flat_map(move |resource| verbs.clone().into_iter().map(move |verb| (resource.clone(), verb)))
        })
        .collect()
}

#[test]
fn pods_are_made_and_cleaned_up_with_these_rights_and_all_of_them_are_used() {
    let kube = &cluster().kube;
    let files = ["manifests/base/rights.yaml", "manifests/components/pods/rights.yaml"].map(project);
    kube.apply(&files).expect("the rights are stored");
    for role in ["fedora-message-operator", "fedora-message-operator-pods"] {
        let (of, to) = (format!("--clusterrole={role}"), format!("--user={USER}"));
        kube.run(&["create", "clusterrolebinding", role, &of, &to]).expect("it is bound");
    }
    let (messages, secrets) = (space("rights-messages", "publisher"), space("rights-secrets", "publisher"));
    let consent = format!("apps.fedoraproject.org/allowed-namespaces={}", messages.name);
    secrets.kubectl(&["annotate", "secret", "certs", &consent], "").expect("it is annotated");
    let kubeconfig = kube.kubeconfig_for(USER).expect("the user is known");
    let launch = |arguments: &[&str]| {
        let always =
            ["--watch-namespaces", &messages.name, "--delivery-mode", "pod", "--cli-image-pull-policy", "Never"];
        let operator = Operator::launch(&kubeconfig, &cluster().broker.url(), &[&always, arguments].concat(), DEBUG);
        operator.wait_ready();
        operator
    };
    let large = |name: &str| {
        let body = format!("body: {{text: {}}}", "a".repeat(300_000));
        message(name, "rights.large", "").replace(&format!("body: {{name: {name}}}"), &body)
    };

    // What is refused leaves no part behind.
    messages.apply(&large("refused")).expect("it is accepted");
    let operator = launch(&["--pod-priority-class", "absent"]);
    wait_for_reason(&messages, "refused", "PodFailed");
    let parts =
        || messages.kubectl(&["get", "configmaps", "-l", "apps.fedoraproject.org/message-uid", "-o", "name"], "");
    wait_until(SOON, "no part is left", || parts().is_ok_and(|names| names.is_empty())).expect("none is");
    operator.stop();
    messages.kubectl(&["delete", "fmsg", "refused"], "").expect("it is deleted");

    // A message is deleted while its Pod waits elsewhere.
    let elsewhere = message("elsewhere", "rights.elsewhere", "")
        .replace("{name: certs}", &format!("{{name: certs, namespace: {}}}", secrets.name));
    let operator = launch(&["--pod-node-selector", "disk=fast", "--pod-start-timeout", "600"]);
    messages.apply(&elsewhere).expect("it is accepted");
    wait_until(SOON, "its Pod is there", || pods(&secrets).len() == 1).expect("it is");
    operator.kill();
    messages.kubectl(&["delete", "fmsg", "elsewhere"], "").expect("it is deleted");

    let operator = launch(&[]);
    messages.apply(&large("large")).expect("it is accepted");
    wait_for_reason(&messages, "large", "Sent");
    wait_until(LATER, "all Pods are gone", || pods(&secrets).is_empty() && pods(&messages).is_empty())
        .expect("they are cleaned up");
    operator.stop();

    let events = kube.audit_events().expect("the audit log is read");
    let requests: Vec<_> = events.iter().filter(|event| event["user"]["username"] == USER).collect();
    // The priority class that does not exist is refused with the same code.
    let refused = |event: &&&Value| {
        let status = &event["responseStatus"];
        status["code"] == 403 && !status["message"].to_string().contains("PriorityClass")
    };
    let refused: Vec<_> = requests.iter().filter(refused).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used: BTreeSet<_> =
        requests.iter().map(|event| (text(&event["objectRef"]["resource"]), text(&event["verb"]))).collect();
    let granted = granted("manifests/components/pods/rights.yaml");
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "granted, and never used: {unused:?}");
}
