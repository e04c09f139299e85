//! The API server is killed, frozen, full, compacted or refusing while messages flow. Each time,
//! the operator sends no message twice, because it remembers confirmed messages.

use std::fmt::Debug;
use std::time::Duration;

use rig::Kube;
use rig::kube::Process;
use serde_json::{Value, json};

use crate::ledger::{IN_FLIGHT, Ledger};
use e2e::{
    Operator, TestNamespace, install, let_fault_last, message, numbered, project, role_rules, shared, with_spec,
};

/// The operator detects within this time that the API server has lost the recent past.
const RECOVERY: Duration = Duration::from_mins(3);

/// Starts an API server for one test.
fn start() -> Kube {
    let kube = Kube::start().expect("an API server");
    install(&kube);
    kube
}

/// Breaks and repairs the API server while messages flow.
fn survives(title: &'static str, arguments: &[&str], outage: impl FnOnce(&Kube, &Operator)) {
    let kube = start();
    let (ledger, operator) = Ledger::in_flow(&kube, &shared().broker, title, arguments);
    outage(&kube, &operator);
    ledger.close(&shared().broker, 0);
}

/// Ends a process until a status could not be written. The API server answers with errors while it
/// starts.
fn survives_end<E: Debug>(title: &'static str, process: Process, end: fn(&Kube, Process) -> Result<(), E>) {
    survives(title, &[], |kube, operator| {
        end(kube, process).expect("a signal");
        operator.wait_for_log("the status could not be written");
        kube.restart(process).expect("it starts again");
    });
}

#[test]
fn killed() {
    survives_end("api-killed", Process::ApiServer, Kube::kill);
}

#[test]
fn stopped() {
    survives_end("api-stopped", Process::ApiServer, Kube::stop);
}

#[test]
fn without_etcd() {
    survives_end("api-alone", Process::Etcd, Kube::kill);
}

#[test]
fn frozen_while_operator_stops() {
    let kube = start();
    let (ledger, operator) = Ledger::in_flow(&kube, &shared().broker, "api-quitting", &[]);
    kube.freeze(Process::ApiServer).expect("a signal");
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());
    kube.thaw(Process::ApiServer).expect("a signal");
    let _operator = Operator::with_broker(&shared().broker.url(), &ledger.namespace, &[]);
    ledger.close(&shared().broker, IN_FLIGHT);
}

#[test]
fn frozen() {
    survives("api-frozen", &[], |kube, operator| {
        kube.freeze(Process::ApiServer).expect("a signal");
        operator.wait_for_log("the API server does not answer in time");
        kube.thaw(Process::ApiServer).expect("a signal");
    });
}

#[test]
fn frozen_longer_than_lease() {
    survives("api-leased", &["--leader-elect", "--lease-namespace", "default"], |kube, operator| {
        kube.freeze(Process::ApiServer).expect("a signal");
        operator.wait_for_log("not leading any more");
        let_fault_last(Duration::from_secs(5));
        kube.thaw(Process::ApiServer).expect("a signal");
    });
}

#[test]
fn out_of_space() {
    survives("api-full", &[], |kube, operator| {
        kube.set_space_alarm(true).expect("the alarm is raised");
        operator.wait_for_log("space exceeded");
        let_fault_last(Duration::from_secs(3));
        kube.set_space_alarm(false).expect("the alarm is cleared");
    });
}

#[test]
fn compacted() {
    survives("api-forgetful", &[], |kube, operator| {
        operator.freeze();
        // The compaction removes the last version that the operator has seen, so its watch expires.
        let list = kube.run(&["get", "--raw", "/apis/apps.fedoraproject.org/v1alpha1/fedoramessages?limit=1"]);
        let list: Value = serde_json::from_str(&list.expect("a list")).expect("JSON");
        let compaction = json!({"revision": list["metadata"]["resourceVersion"], "physical": true});
        kube.etcd("/v3/kv/compaction", &compaction.to_string()).expect("etcd compacts its history");
        kube.restart(Process::ApiServer).expect("the API server starts again");
        operator.thaw();
    });
}

/// The last version that the operator knows is then in the API server's future.
#[test]
fn restored_from_backup() {
    let kube = start();
    let namespace = TestNamespace::on(&kube, "api-restored").with_certificate(&shared().broker, "publisher");
    namespace.apply(&with_spec(&message("before", "api-restored.before", ""), "suspend: true"));
    kube.back_up().expect("a backup");
    let operator = Operator::start(&namespace, &[]);
    namespace.patch("before", r#"{"spec": {"suspend": false}}"#);
    // Every write moves the version further from that of the backup.
    namespace.apply(&numbered(200, "lost-", |_| "api-restored.lost".to_owned()));
    namespace.wait_for_all_sent();
    kube.restore().expect("the backup is restored");
    namespace.apply(&message("after", "api-restored.after", ""));
    namespace.wait_for_reason_within(RECOVERY, "after", "Sent", || operator.log());
    let before = namespace.wait_for_reason("before", "Suspended");
    assert_eq!(before["status"], false, "it is suspended again, whatever was known of it");
    assert_eq!(namespace.messages().len(), 2);
}

/// Gives the user `operator` the operator's permissions in the ledger's namespace.
fn bind_role(ledger: &Ledger<'_>) {
    let binding = ["create", "rolebinding", "operator", "--clusterrole=fedora-message-operator", "--user=operator"];
    ledger.namespace.kubectl(&binding);
}

/// Starts an operator with its own permissions only.
fn unprivileged(kube: &Kube, ledger: &Ledger<'_>) -> Operator {
    kube.apply(&[project("manifests/base/rbac.yaml")]).expect("the role is stored");
    bind_role(ledger);
    let user = kube.kubeconfig_for("operator").expect("a user");
    let arguments = ["--watch-namespaces", &ledger.namespace.name];
    Operator::launch_ready(&user, &shared().broker.url(), &arguments)
}

#[test]
fn overloaded() {
    // The API server does not limit administrators.
    let flags = ["--enable-priority-and-fairness=false", "--max-mutating-requests-inflight=1"];
    let kube = Kube::start_with(&flags).expect("an API server");
    install(&kube);
    let mut ledger = Ledger::open(&kube, &shared().broker, "api-overloaded");
    let operator = unprivileged(&kube, &ledger);
    ledger.create_rest();
    operator.wait_for_log("429 Too Many Requests");
    ledger.close(&shared().broker, 0);
}

/// An administrator takes the permission for the Secrets away, to stop the use of a certificate.
#[test]
fn secrets_forbidden() {
    let kube = start();
    let namespace = TestNamespace::on(&kube, "api-no-secrets").with_certificate(&shared().broker, "publisher");
    let rules = role_rules("manifests/base/rbac.yaml").into_iter();
    let (secrets, others): (Vec<Value>, Vec<Value>) = rules.partition(|rule| rule["resources"][0] == "secrets");
    namespace.grant("operator", "others", &json!(others));
    namespace.grant("operator", "secrets", &json!(secrets));
    let user = kube.kubeconfig_for("operator").expect("a user");
    let operator = Operator::launch_ready(&user, &shared().broker.url(), &["--watch-namespaces", &namespace.name]);
    namespace.send("before", "api-no-secrets");
    let before = operator.log().len();
    namespace.kubectl(&["delete", "rolebinding", "secrets-operator"]);
    // This ends the open watch.
    kube.restart(Process::ApiServer).expect("the API server starts again");
    operator.wait_for_log_from(before, "WARN fedora_message_operator::cluster::secrets: Secret api-no-secrets");
    let text = "could not be read: the operator is not allowed to read and watch Secrets of this namespace";
    namespace.apply(&message("after", "api-no-secrets", ""));
    namespace.expect_reason("after", "SecretNotFound", &[text]);
    namespace.grant("operator", "secrets", &json!(secrets));
    namespace.wait_for_reason("after", "Sent");
}

#[test]
fn forbidden() {
    let kube = start();
    let mut ledger = Ledger::open(&kube, &shared().broker, "api-unwilling");
    let operator = unprivileged(&kube, &ledger);
    operator.wait_for_log("reason=\"Sent\"");
    ledger.create_rest();
    // There may be some from before the API server knew of the role.
    let before = operator.log().len();
    ledger.namespace.kubectl(&["delete", "rolebinding", "operator"]);
    operator.wait_for_log_from(before, "403 Forbidden");
    bind_role(&ledger);
    ledger.close(&shared().broker, 0);
}
