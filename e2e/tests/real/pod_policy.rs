//! The admission policies of manifests/components/pods, on an API server without nodes: other users
//! can't create or change the Pods of messages, and the operator's account can create no others.

use std::fs;

use serde_json::{Value, json};

use e2e::{TestNamespace, project, run, store_pod_policies};

const UID_LABEL: &str = "apps.fedoraproject.org/message-uid";
const ACCOUNT: &str = "system:serviceaccount:fedora-message-operator:fedora-message-operator";

/// Returns the Pod of testdata/pod.json in a namespace.
fn planned(namespace: &TestNamespace) -> Value {
    let text = fs::read_to_string(project("testdata/pod.json")).expect("a Pod");
    let mut pod: Value = serde_json::from_str(&text).expect("JSON");
    pod["metadata"]["namespace"] = namespace.name.as_str().into();
    pod["metadata"].as_object_mut().expect("metadata").remove("ownerReferences");
    pod["spec"].as_object_mut().expect("a spec").remove("priorityClassName");
    pod
}

/// Returns an ordinary Pod.
fn ordinary(namespace: &TestNamespace, name: &str) -> Value {
    let mut pod = planned(namespace);
    pod["metadata"] = json!({"name": name, "namespace": namespace.name});
    pod
}

fn with(mut pod: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a path");
    pod.pointer_mut(parent).expect("it is there")[key] = value;
    pod
}

/// Installs the policies, and waits until the API server enforces the one for this user, who may create
/// Pods in the namespace.
fn install(namespace: &TestNamespace, user: &str) {
    store_pod_policies(namespace.kube);
    let forged = with(planned(namespace), "/metadata/name", "probe".into()).to_string();
    e2e::wait_soon("the policies are enforced", || {
        as_user(namespace, user, &["create", "--dry-run=server", "-f", "-"], &forged)
            .is_err_and(|error| error.contains("ValidatingAdmissionPolicy"))
    });
}

/// Runs kubectl in a namespace as a user.
fn as_user(namespace: &TestNamespace, user: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut kubectl = namespace.kubectl_command();
    run(kubectl.args(["--as", user]).args(arguments), input)
}

fn assert_refused(result: Result<String, String>, expected: &str) {
    let error = result.expect_err(expected);
    assert!(error.contains(expected), "{expected}: {error}");
}

/// Grants what the role `edit` allows with Pods, and their statuses.
fn grant_edit(namespace: &TestNamespace, user: &str) {
    let all = ["create", "delete", "get", "list", "patch", "update"];
    let resources = ["pods", "pods/attach", "pods/exec", "pods/ephemeralcontainers", "pods/status"];
    namespace.grant(user, "edit", &json!([{"apiGroups": [""], "resources": resources, "verbs": all}]));
}

#[test]
fn users_cannot_forge_pods() {
    let namespace = TestNamespace::new("pod-policy");
    grant_edit(&namespace, "alice");
    install(&namespace, "alice");
    let pod = planned(&namespace);
    let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
    namespace.create(&pod.to_string());
    let alice = |arguments: &[&str], input: &Value| as_user(&namespace, "alice", arguments, &input.to_string());
    let create = |pod: &Value| alice(&["create", "-f", "-"], pod);
    let refused =
        |result| assert_refused(result, "only the operator may create or change a Pod that sends a FedoraMessage");

    let other = name.replace(&name[name.len() - 2..], "-7");
    refused(create(&ordinary(&namespace, &other)));
    refused(create(&with(ordinary(&namespace, "labeled"), "/metadata/labels", json!({UID_LABEL: "x"}))));
    let pod = format!("pod/{name}");
    let patch = |patch: &str| alice(&["patch", &pod, "--type=strategic", "-p", patch], &Value::Null);
    refused(patch(r#"{"spec": {"containers": [{"name": "publish", "image": "other"}]}}"#));
    refused(alice(&["annotate", &pod, "--overwrite", "apps.fedoraproject.org/message={}"], &Value::Null));
    refused(alice(&["label", &pod, &format!("{UID_LABEL}-")], &Value::Null));
    let patch_status = |patch: &str| {
        let arguments = ["patch", &pod, "--subresource=status", "--type=merge", "-p", patch];
        alice(&arguments, &Value::Null)
    };
    refused(patch_status(
        r#"{"status": {"containerStatuses": [{"name": "publish", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]}}"#,
    ));
    patch_status(r#"{"status": {"message": "other controllers do that"}}"#).expect("another part of the status");
    refused(alice(&["exec", &name, "--", "true"], &Value::Null));
    refused(alice(&["debug", &name, "--image=other", "--target=publish"], &Value::Null));

    create(&ordinary(&namespace, "ordinary")).expect("an ordinary Pod");
    refused(alice(&["label", "pod/ordinary", &format!("{UID_LABEL}=x")], &Value::Null));
    alice(&["label", "pod/ordinary", "app=x"], &Value::Null).expect("another label");
    alice(&["annotate", &pod, "k8s.ovn.org/pod-networks={}"], &Value::Null).expect("another annotation");
    create(&with(ordinary(&namespace, "x"), "/metadata", json!({"generateName": "fedora-message-operator-"})))
        .expect("a name that the API server completes");
    alice(&["delete", &pod, "--grace-period=0", "--force"], &Value::Null).expect("users may delete it");
}

#[test]
fn operator_creates_only_its_pods() {
    const NODE: &str = "may not create Pods with access to their node";
    let namespace = TestNamespace::new("pod-confined");
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]},
        {"apiGroups": ["apps.fedoraproject.org"], "resources": ["fedoramessages/status"], "verbs": ["update"]},
    ]);
    namespace.grant(ACCOUNT, "operator", &rules);
    install(&namespace, ACCOUNT);
    let create = |pod: &Value| as_user(&namespace, ACCOUNT, &["create", "-f", "-"], &pod.to_string());
    // As the plugin for ServiceAccounts sets it. Without it, the API server refuses tokens by itself.
    let pod = with(planned(&namespace), "/spec/serviceAccountName", "default".into());
    let volumes = |token: Value| {
        let projected = json!({"sources": [{"serviceAccountToken": token}]});
        json!([{"name": "certificate", "projected": projected}, {"name": "message", "emptyDir": {}}])
    };
    let init = |capabilities: &[&str]| {
        let context = json!({"runAsUser": 0, "capabilities": {"add": capabilities}});
        json!([{"name": "init", "image": "other", "securityContext": context}])
    };
    let container = |context: Value| json!([{"name": "init", "image": "other", "securityContext": context}]);
    for (pointer, value, expected) in [
        ("/metadata/name", "other".into(), "may only create Pods that send a FedoraMessage"),
        ("/metadata/labels", json!({}), "may only create Pods that send a FedoraMessage"),
        ("/spec/serviceAccountName", "admin".into(), "may not create Pods with the token of a ServiceAccount"),
        ("/spec/automountServiceAccountToken", true.into(), "may not create Pods with the token of a ServiceAccount"),
        ("/spec/volumes", volumes(json!({"path": "token"})), "may not create Pods with the token of a ServiceAccount"),
        (
            "/spec/volumes",
            volumes(json!({"path": "token", "audience": "https://kubernetes.default.svc"})),
            "may not create Pods with the token of a ServiceAccount",
        ),
        ("/spec/hostNetwork", true.into(), NODE),
        ("/spec/containers/0/securityContext/capabilities", json!({"add": ["ALL"]}), NODE),
        ("/spec/initContainers", init(&["NET_ADMIN", "SYS_ADMIN"]), NODE),
        (
            "/spec/volumes",
            json!([{"name": "certificate", "hostPath": {"path": "/"}}, {"name": "message", "emptyDir": {}}]),
            NODE,
        ),
        (
            "/spec/volumes",
            json!([
                {"name": "certificate", "persistentVolumeClaim": {"claimName": "other"}},
                {"name": "message", "emptyDir": {}},
            ]),
            NODE,
        ),
        ("/spec/containers/0/ports", json!([{"containerPort": 80, "hostPort": 80}]), NODE),
        ("/spec/securityContext/sysctls", json!([{"name": "kernel.shm_rmid_forced", "value": "0"}]), NODE),
        ("/spec/securityContext/seLinuxOptions", json!({"type": "spc_t"}), NODE),
        ("/spec/securityContext/seccompProfile", json!({"type": "Unconfined"}), NODE),
        ("/spec/securityContext/appArmorProfile", json!({"type": "Unconfined"}), NODE),
        ("/spec/initContainers", container(json!({"seLinuxOptions": {"type": "spc_t"}})), NODE),
        ("/spec/initContainers", container(json!({"seccompProfile": {"type": "Unconfined"}})), NODE),
        ("/spec/initContainers", container(json!({"appArmorProfile": {"type": "Unconfined"}})), NODE),
    ] {
        assert_refused(create(&with(pod.clone(), pointer, value)), expected);
    }
    // As Istio adds them.
    let meshed = with(pod.clone(), "/spec/initContainers", init(&["NET_ADMIN", "NET_RAW"]));
    let meshed = with(meshed, "/spec/volumes", volumes(json!({"path": "istio-token", "audience": "istio-ca"})));
    as_user(&namespace, ACCOUNT, &["create", "--dry-run=server", "-f", "-"], &meshed.to_string())
        .expect("a Pod in a service mesh");
    create(&pod).expect("the planned Pod");
}
