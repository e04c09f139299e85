//! Least privilege: the permissions in manifests/base and in manifests/components/pods suffice for
//! Pods, and the operator uses each of them.

use std::collections::BTreeSet;

use rig::wait_until;
use serde_json::Value;

use crate::cluster::{POD_DEADLINE, cluster, namespace, pods, wait_for_reason};
use e2e::{Operator, SOON, message, permissions, project, role_rules, uid, wait_soon, with_foreign_secret};

/// The user who has only these permissions.
const USER: &str = "operator";

/// The operator uses all permissions of manifests/components/pods/rbac.yaml.
#[test]
fn pod_permissions_suffice() {
    let kube = &cluster().kube;
    let files = ["manifests/base/rbac.yaml", "manifests/components/pods/rbac.yaml"].map(project);
    kube.apply(&files).expect("the roles are stored");
    for role in ["fedora-message-operator", "fedora-message-operator-pods"] {
        let (of, to) = (format!("--clusterrole={role}"), format!("--user={USER}"));
        kube.run(&["create", "clusterrolebinding", role, &of, &to]).expect("the role is bound");
    }
    let (messages, secrets) =
        (namespace("permissions-messages", "publisher"), namespace("permissions-secrets", "publisher"));
    secrets.allow(&messages.name);
    let kubeconfig = kube.kubeconfig_for(USER).expect("a user");
    let launch = |arguments: &[&str]| {
        let always = ["--watch-namespaces", &messages.name, "--delivery-mode", "pod"];
        Operator::launch_ready(&kubeconfig, &cluster().broker.url(), &[&always, arguments].concat())
    };
    // A message is deleted while its Pod waits in another namespace.
    let elsewhere = with_foreign_secret(&message("elsewhere", "permissions.elsewhere", ""), "certs", &secrets);
    let operator = launch(&["--pod-node-selector", "disk=fast", "--pod-start-timeout", "600"]);
    messages.apply(&elsewhere);
    wait_soon("a Pod", || pods(&secrets).len() == 1);
    operator.kill();

    // The Pod has lost its label. The next operator finds it by its name.
    let pod = pods(&secrets)[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let label = "apps.fedoraproject.org/message-uid";
    let uid = uid(&messages.get("elsewhere"));
    secrets.kubectl(&["label", "pod", &pod, &format!("{label}-")]);
    let operator = launch(&["--pod-node-selector", "disk=fast", "--pod-start-timeout", "600"]);
    let found_by_name = || {
        let events = kube.audit_events().expect("the audit log is read");
        let mut gets = events.iter().filter(|event| event["user"]["username"] == USER && event["verb"] == "get");
        gets.any(|event| event["objectRef"]["resource"] == "pods" && event["objectRef"]["name"] == pod.as_str())
    };
    operator.wait_until(SOON, "the Pod is found by its name", found_by_name);
    operator.kill();
    secrets.kubectl(&["label", "pod", &pod, &format!("{label}={uid}")]);
    messages.kubectl(&["delete", "fmsg", "elsewhere"]);

    let operator = launch(&[]);
    messages.apply(&message("here", "permissions.here", ""));
    wait_for_reason(&messages, "here", "Sent");
    wait_until(POD_DEADLINE, "no Pod is left", || pods(&secrets).is_empty() && pods(&messages).is_empty())
        .expect("no Pod is left");
    operator.stop();

    let events = kube.audit_events().expect("the audit log is read");
    let requests: Vec<_> = events.iter().filter(|event| event["user"]["username"] == USER).collect();
    let refused: Vec<_> = requests.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used: BTreeSet<_> =
        requests.iter().map(|event| (text(&event["objectRef"]["resource"]), text(&event["verb"]))).collect();
    let granted: BTreeSet<_> = permissions(&role_rules("manifests/components/pods/rbac.yaml")).into_iter().collect();
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:?}");
}
