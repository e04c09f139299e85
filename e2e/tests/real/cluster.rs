//! `check --cluster`, and the operator on an incomplete API server: it waits, reports the reason,
//! and starts once somebody has fixed it.

use std::path::{Path, PathBuf};

use rig::kube::Process;
use rig::port::Port;
use rig::{Kube, wait_until};
use serde_json::{Value, json};

use e2e::cli::{Cli, Output};
use e2e::{
    DEBUG, Operator, SOON, TestNamespace, certificate, install, project, read, shared, store_pod_policies, wait_soon,
};

/// A user without permissions. The administrator can impersonate every user.
const USER: &str = "checked";

fn check(kubeconfig: &Path, more: &[&str]) -> Output {
    let kubeconfig = kubeconfig.display().to_string();
    Cli::new().run(&[&["check", "--cluster"], more].concat(), &[("KUBECONFIG", &kubeconfig)])
}

/// Repeats the check until it ends with this code and contains these texts. The API server learns of a new
/// role a moment after it has stored it.
fn wait_for_check(kubeconfig: &Path, more: &[&str], code: i64, expected: &[&str]) -> Output {
    let mut last = None;
    wait_until(SOON, "the check has this result", || {
        let output = last.insert(check(kubeconfig, more));
        output.code == code && expected.iter().all(|text| output.all().contains(text))
    })
    .unwrap_or_else(|error| panic!("{error}: {code}, {expected:#?}\n{last:#?}"));
    last.expect("an output")
}

/// Returns the findings under this heading.
fn found<'a>(output: &'a Output, what: &str) -> Vec<&'a str> {
    output.out.lines().filter_map(|line| line.strip_prefix(what)).map(str::trim).collect()
}

/// Waits until the operator is not ready, with this text in the reason.
fn wait_unready(operator: &Operator, expected: &str) {
    let mut last = None;
    wait_until(SOON, &format!("not ready: {expected}"), || {
        last = operator.http_get("/readyz");
        last.as_ref().is_some_and(|(code, text)| *code == 503 && text.contains(expected))
    })
    .unwrap_or_else(|error| panic!("{error}: {last:?}\n{}", operator.log()));
    assert_eq!(operator.probe("/livez"), Some(200));
}

/// Returns the CRD without a field and without some selectable fields.
fn older_crd() -> String {
    let mut crd: Value = serde_saphyr::from_str(&read("crds/fedoramessages.yaml")).expect("YAML");
    let version = &mut crd["spec"]["versions"][0];
    version["selectableFields"] = json!([{"jsonPath": ".spec.env"}]);
    let status = &mut version["schema"]["openAPIV3Schema"]["properties"]["status"];
    status["properties"].as_object_mut().expect("properties").remove("startTime");
    crd.to_string()
}

/// Gives a user the rules of one of the operator's roles in a namespace.
fn grant(namespace: &TestNamespace, user: &str, kind: &str, role: &str) {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&read("manifests/base/rbac.yaml")).expect("YAML");
    let granted = documents.iter().find(|it| it["metadata"]["name"] == role).expect("the role");
    assert_eq!(granted["kind"], kind);
    namespace.grant(user, role, &granted["rules"]);
}

#[test]
fn describes_complete_cluster() {
    store_pod_policies(&shared().kube);
    let output = check(&shared().kube.kubeconfig(), &["--leader-elect", "--delivery-mode", "fallback"]);
    output.expect(0, &[&format!("{} is Kubernetes v1.", shared().kube.url()), "user          admin"]);
    assert_eq!(found(&output, "CRD"), ["is this program's"]);
    let names = ["fedoramessages", "fedora-message-pods", "fedora-message-operator-pods"];
    let lines = |what: &str| names.map(|name| format!("{name}.apps.fedoraproject.org {what}"));
    assert_eq!(found(&output, "policy"), lines("is this program's"));
    assert_eq!(found(&output, "binding"), lines("denies what the policy refuses"));
    assert_eq!(
        found(&output, "permissions"),
        [
            "get, list, watch, delete fedoramessages (apps.fedoraproject.org) in all namespaces",
            "update, patch fedoramessages/status (apps.fedoraproject.org) in all namespaces",
            "list, watch fedoramessagesenders (apps.fedoraproject.org) in all namespaces",
            "patch fedoramessagesenders/status (apps.fedoraproject.org) in all namespaces",
            "get, watch secrets in all namespaces",
            "get, watch configmaps in all namespaces",
            "create events (events.k8s.io) in all namespaces",
            "create, get, update, watch leases (coordination.k8s.io) in namespace default",
            "get, list, create, watch, delete pods in all namespaces",
        ]
    );
    assert_eq!(output.err, "");
}

#[test]
fn required_senders_need_their_policy() {
    let file = "manifests/components/require-sender/admission-policy.yaml";
    let name = "fedoramessages-require-sender.apps.fedoraproject.org";
    let missing = format!("{name} is not installed: kubectl apply --server-side -f {file}");
    check(&shared().kube.kubeconfig(), &["--require-sender"]).expect(1, &[&missing]);
}

/// The check needs only the permissions that the flags require.
#[test]
fn names_missing_permissions() {
    let (namespace, other) = (TestNamespace::new("checked"), TestNamespace::new("checked"));
    let kubeconfig = shared().kube.kubeconfig();
    let both = format!("{},{}", namespace.name, other.name);
    let here = ["--as", USER, "--watch-namespaces", &both];
    grant(&namespace, USER, "ClusterRole", "fedora-message-operator");

    let missing = |verbs: &str, resource: &str, places: &str, role: &str| {
        format!("permissions failed: {USER} may not {verbs} {resource} in {places}: bind the role {role} of manifests/")
    };
    let elsewhere = format!("namespace {}", other.name);
    let expected = [
        ("get, list, watch, delete", "fedoramessages (apps.fedoraproject.org)"),
        ("update, patch", "fedoramessages/status (apps.fedoraproject.org)"),
        ("list, watch", "fedoramessagesenders (apps.fedoraproject.org)"),
        ("patch", "fedoramessagesenders/status (apps.fedoraproject.org)"),
        ("get, watch", "secrets"),
        ("get, watch", "configmaps"),
        ("create", "events (events.k8s.io)"),
    ]
    .map(|(verbs, resource)| missing(verbs, resource, &elsewhere, "fedora-message-operator"));
    let output = wait_for_check(&kubeconfig, &here, 1, &expected.each_ref().map(String::as_str));
    assert_eq!(output.err.lines().count(), 7, "{}", output.err);

    grant(&other, USER, "ClusterRole", "fedora-message-operator");
    wait_for_check(&kubeconfig, &here, 0, &["get, watch secrets in namespaces checked-"]);

    let lease = ["--leader-elect", "--lease-namespace", &namespace.name];
    let output = check(&kubeconfig, &[&here[..], &lease].concat());
    let place = format!("namespace {}", namespace.name);
    let role = "fedora-message-operator-leader-election";
    output.expect(1, &[&missing("create, get, update, watch", "leases (coordination.k8s.io)", &place, role)]);
    assert_eq!(output.err.lines().count(), 1, "{}", output.err);
    grant(&namespace, USER, "Role", role);
    wait_for_check(&kubeconfig, &[&here[..], &lease].concat(), 0, &[]);

    store_pod_policies(&shared().kube);
    let output = check(&kubeconfig, &[&here[..], &["--delivery-mode", "pod"]].concat());
    let places = format!("namespaces {}, {}", namespace.name, other.name);
    output.expect(1, &[&missing("get, list, create, watch, delete", "pods", &places, "fedora-message-operator-pods")]);
    assert_eq!(output.err.lines().count(), 1, "{}", output.err);
}

#[test]
fn manifests_grant_all_permissions() {
    let kube = Kube::start().expect("an API server");
    kube.create_namespace("apps").expect("a namespace is made");
    for (overlay, namespace, more) in [
        ("cluster-wide", "fedora-message-operator", &[][..]),
        ("one-namespace", "apps", &["--watch-namespaces", "apps"]),
    ] {
        let folder = project("manifests/overlays").join(overlay).display().to_string();
        kube.run(&["apply", "--server-side", "-k", &folder]).expect("it is installed");
        let user = format!("system:serviceaccount:{namespace}:fedora-message-operator");
        let arguments = [&["--as", &user, "--leader-elect", "--lease-namespace", namespace], more].concat();
        let output = wait_for_check(&kube.kubeconfig(), &arguments, 0, &[]);
        assert_eq!(found(&output, "permissions").len(), 8);
    }
}

/// The user may read neither CRDs nor policies.
#[test]
fn checks_crd_without_permission() {
    let namespace = TestNamespace::new("checked-bob");
    grant(&namespace, "bob", "ClusterRole", "fedora-message-operator");
    let bob = shared().kube.kubeconfig_for("bob").expect("a user");
    let expected = ["policy        skipped: you are not allowed", "user          bob"];
    let output = wait_for_check(&bob, &["--watch-namespaces", &namespace.name], 0, &expected);
    assert_eq!(found(&output, "CRD"), ["is this program's"]);
    check(&bob, &["--as", "admin"]).expect(1, &["permissions failed: the API server says: ", "cannot impersonate"]);
}

#[test]
fn names_absent_namespace() {
    let output = check(&shared().kube.kubeconfig(), &["--watch-namespaces", "default,typo"]);
    output.expect(1, &["namespace failed: typo does not exist: correct --watch-namespaces, or create it"]);
    assert_eq!(output.err.lines().count(), 1, "{}", output.err);
}

#[test]
fn checks_broker_with_cluster() {
    let (broker, kubeconfig) = (&shared().broker, shared().kube.kubeconfig().display().to_string());
    let certificate = certificate("publisher");
    let arguments = ["check", "--cluster", "--env", "prod", "--prod-amqp-url", &broker.url()];
    let check = |kubeconfig| Cli::new().run_with(&certificate, &arguments, &[("KUBECONFIG", kubeconfig)]);
    check(&kubeconfig).expect(0, &["is Kubernetes", "amq.topic exists"]);
    check("/nowhere").expect(1, &["kubeconfig failed: no cluster: ", "set KUBECONFIG", "amq.topic exists"]);
}

/// Writes a changed copy of the shared kubeconfig.
fn changed(cli: &Cli, name: &str, change: impl FnOnce(&str) -> String) -> PathBuf {
    let text = std::fs::read_to_string(shared().kube.kubeconfig()).expect("a kubeconfig");
    cli.file(name, &change(&text))
}

#[test]
fn waits_for_api_server() {
    let (cli, port) = (Cli::new(), Port::reserve().expect("a free port"));
    let nobody = format!("https://127.0.0.1:{}", port.number());
    let away = changed(&cli, "away", |text| text.replace(&shared().kube.url(), &nobody));
    check(&away, &[]).expect(
        1,
        &[&format!("API server failed: {nobody}: the API server can't be asked: "), "Connection refused", "check that"],
    );
    let operator = Operator::launch(&away, &shared().broker.url(), &[], DEBUG);
    wait_unready(&operator, "the API server can't be asked: Connection refused");
    let elected = Operator::launch(&away, &shared().broker.url(), &["--leader-elect"], DEBUG);
    wait_unready(&elected, "the Lease fedora-message-operator could not be read: the API server can't be asked: ");
    assert_eq!((operator.stop(), elected.stop()), (Some(0), Some(0)));
    assert_eq!(elected.count_in_log("another operator"), 0, "{}", elected.log());

    let stranger = changed(&cli, "stranger", |text| {
        let (before, rest) = text.split_once("token: \"").expect("a token");
        format!("{before}token: \"not{rest}")
    });
    check(&stranger, &[]).expect(1, &["the API server rejected the credentials (401): check the user in KUBECONFIG"]);
    let operator = Operator::launch(&stranger, &shared().broker.url(), &[], DEBUG);
    wait_unready(&operator, "the API server rejected the credentials (401)");
}

#[test]
fn waits_for_permissions() {
    let namespace = TestNamespace::new("waiting");
    let bob = shared().kube.kubeconfig_for("bob").expect("a user");
    let arguments = ["--watch-namespaces", &namespace.name];
    let operator = Operator::launch(&bob, &shared().broker.url(), &arguments, DEBUG);
    wait_unready(&operator, "the operator is not allowed to watch FedoraMessages: bind its ServiceAccount");
    wait_unready(&operator, "fedora-message-operator check --cluster lists missing permissions");
    grant(&namespace, "bob", "ClusterRole", "fedora-message-operator");
    operator.wait_ready();
    for kind in ["FedoraMessages:", "FedoraMessageSenders:"] {
        let text = format!("is not allowed to watch {kind}");
        assert_eq!(operator.count_in_log(&text), 1, "{}", operator.log());
    }

    let elected = [&arguments[..], &["--leader-elect", "--lease-namespace", &namespace.name]].concat();
    let elected = Operator::launch(&bob, &shared().broker.url(), &elected, DEBUG);
    wait_unready(
        &elected,
        "the Lease fedora-message-operator could not be read: the operator is not allowed to do that: bind its ServiceAccount",
    );
    grant(&namespace, "bob", "Role", "fedora-message-operator-leader-election");
    elected.wait_ready();
    elected.wait_for_log("leading: messages are sent from here");
    assert_eq!(elected.count_in_log("could not be read"), 1, "{}", elected.log());
}

/// The CRD is absent, and then older than the operator.
#[test]
fn waits_for_crd() {
    let kube = Kube::start().expect("an API server");
    let admin = kube.kubeconfig();
    let operator = Operator::launch(&admin, &shared().broker.url(), &[], DEBUG);
    let unknown = "the API server does not know FedoraMessages: install the CRD (fedora-message-operator crd | kubectl";
    wait_unready(&operator, unknown);
    let output = check(&admin, &[]);
    output.expect(
        1,
        &[
            "CRD failed: the API server does not know FedoraMessages: install it (fedora-message-operator crd |",
            "policy failed: fedoramessages.apps.fedoraproject.org is not installed: kubectl apply",
            "binding failed: fedoramessages.apps.fedoraproject.org is not installed: kubectl apply",
        ],
    );
    assert_eq!(found(&output, "permissions").len(), 7, "{output:?}");

    kube.apply_text(&older_crd()).expect("it is accepted");
    wait_unready(&operator, "can't select pending FedoraMessages: its CRD is older than the operator");
    assert_eq!(operator.count_in_log(unknown), 1, "{}", operator.log());
    let lacks = "lacks the field status.startTime, the selectable field spec.ttlSecondsAfterFinished, the selectable field status.status, the selectable field status.reason, the resource FedoraMessageSender";
    let older =
        || check(&admin, &[]).err.contains(&format!("CRD failed: older than this program, it {lacks}: install"));
    wait_soon("the check finds the older CRD", older);
    let second = Operator::launch(&admin, &shared().broker.url(), &[], DEBUG);
    second.wait_for_log(&format!("the CRD is older than the operator and {lacks}"));
    second.stop();

    install(&kube);
    operator.wait_ready();
    wait_soon("the check succeeds", || check(&admin, &[]).code == 0);

    let required = "manifests/components/require-sender/admission-policy.yaml";
    kube.apply(&[project(required)]).expect("the policy is accepted");
    wait_soon("the check finds the policy", || check(&admin, &["--require-sender"]).code == 0);

    let name = "fedoramessages.apps.fedoraproject.org";
    for (kind, patch, expected) in [
        ("validatingadmissionpolicy", r#"{"spec": {"failurePolicy": "Ignore"}}"#, "policy failed: "),
        ("validatingadmissionpolicybinding", r#"{"spec": {"validationActions": ["Warn"]}}"#, "binding failed: "),
    ] {
        kube.run(&["patch", kind, name, "--type=merge", "-p", patch]).expect("it is changed");
        check(&admin, &[]).expect(1, &[expected]);
    }

    kube.stop(Process::ApiServer).expect("it is stopped");
    operator.wait_for_log("the API server can't be asked");
    assert_eq!(operator.probe("/readyz"), Some(200), "the operator knows all pending messages");
    kube.restart(Process::ApiServer).expect("it is back");
}
