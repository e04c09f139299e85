//! What `check --cluster` says of an API server, and what the operator does on one that is not as it should
//! be: it waits, says why, and goes on once somebody has mended it.

use std::path::{Path, PathBuf};

use rig::kube::Process;
use rig::port::Port;
use rig::{Kube, wait_until};
use serde_json::{Value, json};

use e2e::program::{Ran, Shell};
use e2e::world::{DEBUG, Operator, SOON, Space, install, project, world};

/// A user without any rights of its own; by impersonation anybody can be one.
const USER: &str = "checked";

fn check(kubeconfig: &Path, more: &[&str]) -> Ran {
    let kubeconfig = kubeconfig.display().to_string();
    Shell::new().run(&[&["check", "--cluster"], more].concat(), &[("KUBECONFIG", &kubeconfig)])
}

/// The lines that tell of what was found under a name.
fn found<'a>(ran: &'a Ran, what: &str) -> Vec<&'a str> {
    ran.out.lines().filter_map(|line| line.strip_prefix(what)).map(str::trim).collect()
}

/// Waits until it is not ready, for a reason with these words.
fn wait_unready(operator: &Operator, words: &str) {
    let mut last = None;
    wait_until(SOON, &format!("it is not ready: {words}"), || {
        last = operator.ask("/readyz");
        last.as_ref().is_some_and(|(code, text)| *code == 503 && text.contains(words))
    })
    .unwrap_or_else(|error| panic!("{error}: {last:?}\n{}", operator.log()));
    assert_eq!(operator.probe("/livez"), Some(200));
}

fn said(operator: &Operator, words: &str) -> usize {
    operator.log().matches(words).count()
}

/// The program's CRD without a field and a selectable field.
fn older_crd() -> String {
    let text = std::fs::read_to_string(project("crds/fedoramessages.yaml")).expect("a file");
    let mut crd: Value = serde_saphyr::from_str(&text).expect("YAML");
    let version = &mut crd["spec"]["versions"][0];
    version["selectableFields"] = json!([{"jsonPath": ".spec.env"}]);
    let status = &mut version["schema"]["openAPIV3Schema"]["properties"]["status"];
    status["properties"].as_object_mut().expect("properties").remove("startTime");
    crd.to_string()
}

/// Gives a user the rights of the manifests in a namespace.
fn grant(space: &Space, user: &str, manifest: &str, kind: &str, role: &str) {
    let text = std::fs::read_to_string(project(manifest)).expect("a file");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let mut granted = documents.into_iter().find(|it| it["metadata"]["name"] == role).expect("the role is there");
    assert_eq!(granted["kind"], kind);
    granted["kind"] = json!("Role");
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": format!("{role}-{user}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    space.apply(&format!("{granted}\n---\n{binding}\n")).expect("the rights are given");
}

#[test]
fn a_cluster_with_all_that_is_needed_is_described_line_by_line() {
    let ran = check(&world().kube.kubeconfig(), &["--leader-elect", "--delivery-mode", "fallback"]);
    ran.expect(0, &[&format!("{} is Kubernetes v1.", world().kube.url()), "user          admin"]);
    assert_eq!(found(&ran, "CRD"), ["is this program's"]);
    assert_eq!(found(&ran, "policy"), ["is this program's"]);
    assert_eq!(found(&ran, "binding"), ["denies what the policy refuses"]);
    assert_eq!(
        found(&ran, "rights"),
        [
            "list, watch, delete fedoramessages (apps.fedoraproject.org) in all namespaces",
            "update, patch fedoramessages/status (apps.fedoraproject.org) in all namespaces",
            "get, watch secrets in all namespaces",
            "create events (events.k8s.io) in all namespaces",
            "get, create, update, watch leases (coordination.k8s.io) in namespace default",
            "list, create, watch, delete pods in all namespaces",
            "list, create, patch, delete configmaps in all namespaces",
            "get fedoramessages (apps.fedoraproject.org) in all namespaces",
        ]
    );
    assert_eq!(ran.err, "");
}

#[test]
fn all_rights_that_are_missing_are_named_and_only_those_that_the_flags_need() {
    let (space, other) = (Space::new("checked"), Space::new("checked"));
    let kubeconfig = world().kube.kubeconfig();
    let both = format!("{},{}", space.name, other.name);
    let here = ["--as", USER, "--watch-namespaces", &both];
    grant(&space, USER, "manifests/base/rights.yaml", "ClusterRole", "fedora-message-operator");

    let ran = check(&kubeconfig, &here);
    let missing = |verbs: &str, resource: &str, places: &str, role: &str| {
        format!("rights failed: {USER} may not {verbs} {resource} in {places}: bind the role {role} of manifests/")
    };
    let elsewhere = format!("namespace {}", other.name);
    for (verbs, resource) in [
        ("list, watch, delete", "fedoramessages (apps.fedoraproject.org)"),
        ("update, patch", "fedoramessages/status (apps.fedoraproject.org)"),
        ("get, watch", "secrets"),
        ("create", "events (events.k8s.io)"),
    ] {
        ran.expect(1, &[&missing(verbs, resource, &elsewhere, "fedora-message-operator")]);
    }
    assert_eq!(ran.err.lines().count(), 4, "{}", ran.err);

    grant(&other, USER, "manifests/base/rights.yaml", "ClusterRole", "fedora-message-operator");
    check(&kubeconfig, &here).expect(0, &["get, watch secrets in namespaces checked-"]);

    let lease = ["--leader-elect", "--lease-namespace", &space.name];
    let ran = check(&kubeconfig, &[&here[..], &lease].concat());
    let place = format!("namespace {}", space.name);
    let role = "fedora-message-operator-leader-election";
    ran.expect(1, &[&missing("get, create, update, watch", "leases (coordination.k8s.io)", &place, role)]);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    grant(&space, USER, "manifests/base/rights.yaml", "Role", role);
    check(&kubeconfig, &[&here[..], &lease].concat()).expect(0, &[]);

    let ran = check(&kubeconfig, &[&here[..], &["--delivery-mode", "pod"]].concat());
    let places = format!("namespaces {}, {}", space.name, other.name);
    ran.expect(1, &[&missing("list, create, watch, delete", "pods", &places, "fedora-message-operator-pods")]);
    assert_eq!(ran.err.lines().count(), 3, "{}", ran.err);
}

#[test]
fn the_manifests_grant_all_that_is_needed() {
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
        let mut last = None;
        let granted = || last.insert(check(&kube.kubeconfig(), &arguments)).code == 0;
        wait_until(SOON, overlay, granted).unwrap_or_else(|error| panic!("{error}: {last:?}"));
        assert_eq!(found(&last.expect("it ran"), "rights").len(), 5);
    }
}

#[test]
fn who_may_read_neither_crds_nor_policies_can_still_check_the_crd() {
    let space = Space::new("checked-bob");
    grant(&space, "bob", "manifests/base/rights.yaml", "ClusterRole", "fedora-message-operator");
    let bob = world().kube.kubeconfig_for("bob").expect("a user");
    let ran = check(&bob, &["--watch-namespaces", &space.name]);
    ran.expect(0, &["policy        not looked at", "user          bob"]);
    assert_eq!(found(&ran, "CRD"), ["is this program's"]);
    check(&bob, &["--as", "admin"]).expect(1, &["rights failed: the API server says: ", "cannot impersonate"]);
}

#[test]
fn a_namespace_that_does_not_exist_is_named() {
    let ran = check(&world().kube.kubeconfig(), &["--watch-namespaces", "default,typo"]);
    ran.expect(1, &["namespace failed: typo does not exist: correct --watch-namespaces, or create it"]);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn a_broker_and_the_cluster_are_checked_in_one_go() {
    let (shell, world) = (Shell::new(), world());
    let certificate = world.broker.client("publisher").expect("a certificate is issued");
    let kubeconfig = world.kube.kubeconfig().display().to_string();
    let given = ["check", "--cluster", "--env", "prod", "--prod-amqp-url", &world.broker.url()].map(str::to_owned);
    let arguments = [given.to_vec(), shell.certificate(&certificate)].concat();
    shell.run(&arguments, &[("KUBECONFIG", &kubeconfig)]).expect(0, &["is Kubernetes", "amq.topic exists"]);
    let ran = shell.run(&arguments, &[("KUBECONFIG", "/nowhere")]);
    ran.expect(1, &["kubeconfig failed: no cluster: ", "set KUBECONFIG", "amq.topic exists"]);
}

/// A kubeconfig like another, but for a part of its text.
fn changed(shell: &Shell, name: &str, change: impl FnOnce(&str) -> String) -> PathBuf {
    let text = std::fs::read_to_string(world().kube.kubeconfig()).expect("a kubeconfig");
    shell.file(name, &change(&text))
}

#[test]
fn an_api_server_that_can_not_be_asked_is_waited_for_and_named() {
    let (shell, port) = (Shell::new(), Port::reserve().expect("a free port"));
    let nobody = format!("https://127.0.0.1:{}", port.number());
    let away = changed(&shell, "away", |text| text.replace(&world().kube.url(), &nobody));
    check(&away, &[]).expect(
        1,
        &[&format!("API server failed: {nobody}: the API server can't be asked: "), "Connection refused", "check that"],
    );
    let operator = Operator::launch(&away, &world().broker.url(), &[], DEBUG);
    wait_unready(&operator, "the API server can't be asked: Connection refused");
    let elected = Operator::launch(&away, &world().broker.url(), &["--leader-elect"], DEBUG);
    wait_unready(&elected, "the Lease fedora-message-operator could not be read: the API server can't be asked: ");
    assert_eq!((operator.stop(), elected.stop()), (Some(0), Some(0)));
    assert_eq!(said(&elected, "another operator"), 0, "{}", elected.log());

    let stranger = changed(&shell, "stranger", |text| {
        let (before, rest) = text.split_once("token: \"").expect("a token");
        format!("{before}token: \"not{rest}")
    });
    check(&stranger, &[]).expect(1, &["the API server does not know who asks (401): check the user in KUBECONFIG"]);
    let operator = Operator::launch(&stranger, &world().broker.url(), &[], DEBUG);
    wait_unready(&operator, "the API server does not know who asks (401)");
}

#[test]
fn an_operator_without_rights_waits_for_them() {
    let space = Space::new("waiting");
    let bob = world().kube.kubeconfig_for("bob").expect("a user");
    let arguments = ["--watch-namespaces", &space.name];
    let operator = Operator::launch(&bob, &world().broker.url(), &arguments, DEBUG);
    wait_unready(&operator, "the operator has no right to watch FedoraMessages: bind its ServiceAccount");
    wait_unready(&operator, "fedora-message-operator check --cluster tells which rights are missing");
    grant(&space, "bob", "manifests/base/rights.yaml", "ClusterRole", "fedora-message-operator");
    operator.wait_ready();
    assert_eq!(said(&operator, "has no right to watch"), 1, "{}", operator.log());

    let elected =
        [&arguments[..], &["--leader-elect", "--lease-namespace", &space.name, "--lease-name", "of-bob"]].concat();
    let elected = Operator::launch(&bob, &world().broker.url(), &elected, DEBUG);
    wait_unready(&elected, "the Lease of-bob could not be read: the operator has no right to: bind its ServiceAccount");
    grant(&space, "bob", "manifests/base/rights.yaml", "Role", "fedora-message-operator-leader-election");
    elected.wait_ready();
    elected.wait_for_words("leading: messages are sent from here");
    assert_eq!(said(&elected, "could not be read"), 1, "{}", elected.log());
}

#[test]
fn a_cluster_without_the_crd_or_with_an_older_one_is_said_to_be_so_and_waited_for() {
    let kube = Kube::start().expect("an API server");
    let admin = kube.kubeconfig();
    let operator = Operator::launch(&admin, &world().broker.url(), &[], DEBUG);
    let unknown = "the API server does not know FedoraMessages: install the CRD (fedora-message-operator crd | kubectl";
    wait_unready(&operator, unknown);
    let ran = check(&admin, &[]);
    ran.expect(
        1,
        &[
            "CRD failed: the API server does not know FedoraMessages: install it (fedora-message-operator crd |",
            "policy failed: fedoramessages.apps.fedoraproject.org is not installed: kubectl apply",
            "binding failed: fedoramessages.apps.fedoraproject.org is not installed: kubectl apply",
        ],
    );
    assert_eq!(found(&ran, "rights").len(), 4, "{ran:?}");

    kube.apply_text(&older_crd()).expect("it is accepted");
    wait_unready(&operator, "can't select pending FedoraMessages: its CRD is older than the operator");
    assert_eq!(said(&operator, unknown), 1, "{}", operator.log());
    let lacks = "lacks the field status.startTime, the selectable field spec.ttlSecondsAfterFinished, the selectable field status.status, the selectable field status.reason";
    let older =
        || check(&admin, &[]).err.contains(&format!("CRD failed: older than this program, it {lacks}: install"));
    wait_until(SOON, "the check finds the older CRD", older).expect("it does");
    let second = Operator::launch(&admin, &world().broker.url(), &[], DEBUG);
    second.wait_for_words(&format!("the CRD is older than the operator and {lacks}"));
    second.stop();

    install(&kube);
    operator.wait_ready();
    wait_until(SOON, "the check is content", || check(&admin, &[]).code == 0).expect("it is");

    let name = "fedoramessages.apps.fedoraproject.org";
    for (kind, patch, words) in [
        ("validatingadmissionpolicy", r#"{"spec": {"failurePolicy": "Ignore"}}"#, "policy failed: "),
        ("validatingadmissionpolicybinding", r#"{"spec": {"validationActions": ["Warn"]}}"#, "binding failed: "),
    ] {
        kube.run(&["patch", kind, name, "--type=merge", "-p", patch]).expect("it is changed");
        check(&admin, &[]).expect(1, &[words]);
    }

    kube.stop(Process::ApiServer).expect("it is stopped");
    operator.wait_for_words("the API server can't be asked");
    assert_eq!(operator.probe("/readyz"), Some(200), "what is pending is known");
    kube.restart(Process::ApiServer).expect("it is back");
}
