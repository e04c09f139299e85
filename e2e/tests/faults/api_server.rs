//! The API server is killed, frozen, full, forgetful and unwilling, in full flow. Whatever it does, one
//! operator sends nothing twice: it remembers what was confirmed.

use std::time::Duration;

use rig::Kube;
use rig::kube::Process;
use serde_json::{Value, json};

use crate::ledger::{Ledger, UNDER_WAY};
use e2e::world::{DEBUG, Operator, install, pause, project, world};

/// An API server of the test's own.
fn start() -> Kube {
    let kube = Kube::start().expect("an API server");
    install(&kube);
    kube
}

/// Messages in flow.
fn in_flow<'a>(kube: &'a Kube, title: &'static str, arguments: &[&str]) -> (Ledger<'a>, Operator) {
    let mut ledger = Ledger::open(kube, &world().broker, title);
    let operator = Operator::on(kube, &world().broker.url(), &ledger.space, arguments);
    ledger.wait_for_flow(&operator, ledger.count / 4);
    (ledger, operator)
}

#[test]
fn killed_and_started_again() {
    let kube = start();
    let (ledger, operator) = in_flow(&kube, "api-killed", &[]);
    kube.kill(Process::ApiServer).expect("it is killed");
    operator.wait_for_words("the status could not be written");
    // Also while it starts it answers, with errors.
    kube.restart(Process::ApiServer).expect("it is started again");
    ledger.close(&world().broker, 0);
}

#[test]
fn stopped_politely_and_started_again() {
    let kube = start();
    let (ledger, operator) = in_flow(&kube, "api-stopped", &[]);
    kube.stop(Process::ApiServer).expect("it is stopped");
    operator.wait_for_words("the status could not be written");
    kube.restart(Process::ApiServer).expect("it is started again");
    ledger.close(&world().broker, 0);
}

#[test]
fn without_its_etcd() {
    let kube = start();
    let (ledger, operator) = in_flow(&kube, "api-alone", &[]);
    kube.kill(Process::Etcd).expect("etcd is killed");
    operator.wait_for_words("the status could not be written");
    kube.restart(Process::Etcd).expect("etcd is started again");
    ledger.close(&world().broker, 0);
}

#[test]
fn away_while_the_operator_is_told_to_stop() {
    let kube = start();
    let (ledger, operator) = in_flow(&kube, "api-quitting", &[]);
    kube.freeze(Process::ApiServer).expect("it is frozen");
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());
    kube.thaw(Process::ApiServer).expect("it goes on");
    let _operator = Operator::on(&kube, &world().broker.url(), &ledger.space, &[]);
    ledger.close(&world().broker, UNDER_WAY);
}

#[test]
fn frozen_and_thawed() {
    let kube = start();
    let (ledger, operator) = in_flow(&kube, "api-frozen", &[]);
    kube.freeze(Process::ApiServer).expect("it is frozen");
    operator.wait_for_words("the API server does not answer in time");
    kube.thaw(Process::ApiServer).expect("it goes on");
    ledger.close(&world().broker, 0);
}

#[test]
fn away_for_longer_than_the_lease() {
    let kube = start();
    let (ledger, operator) = in_flow(&kube, "api-leased", &["--leader-elect", "--lease-namespace", "default"]);
    kube.freeze(Process::ApiServer).expect("it is frozen");
    operator.wait_for_words("not leading any more");
    pause(Duration::from_secs(5));
    kube.thaw(Process::ApiServer).expect("it goes on");
    ledger.close(&world().broker, 0);
}

#[test]
fn full() {
    let kube = start();
    let (ledger, operator) = in_flow(&kube, "api-full", &[]);
    kube.set_space_alarm(true).expect("the alarm is raised");
    operator.wait_for_words("space exceeded");
    pause(Duration::from_secs(3));
    kube.set_space_alarm(false).expect("the alarm is cleared");
    ledger.close(&world().broker, 0);
}

#[test]
fn forgetful() {
    let kube = start();
    let (ledger, operator) = in_flow(&kube, "api-forgetful", &[]);
    operator.freeze();
    // What the operator has seen last is no longer known to anybody: its watch has expired.
    let list = kube.run(&["get", "--raw", "/apis/apps.fedoraproject.org/v1alpha1/fedoramessages?limit=1"]);
    let list: Value = serde_json::from_str(&list.expect("a list")).expect("JSON");
    let compaction = json!({"revision": list["metadata"]["resourceVersion"], "physical": true});
    kube.etcd("/v3/kv/compaction", &compaction.to_string()).expect("the past is forgotten");
    kube.restart(Process::ApiServer).expect("it is started again");
    operator.thaw();
    ledger.close(&world().broker, 0);
}

/// Gives the user `operator` the operator's rights in the ledger's namespace.
fn give_rights(ledger: &Ledger<'_>) {
    let binding = ["create", "rolebinding", "operator", "--clusterrole=fedora-message-operator", "--user=operator"];
    ledger.space.kubectl(&binding, "").expect("the rights are given");
}

/// An operator without an administrator's privileges.
fn unprivileged(kube: &Kube, ledger: &Ledger<'_>) -> Operator {
    kube.apply(&[project("manifests/base/rights.yaml")]).expect("the rights are stored");
    give_rights(ledger);
    let user = kube.kubeconfig_for("operator").expect("the user is known");
    let arguments = ["--watch-namespaces", &ledger.space.name];
    let operator = Operator::launch(&user, &world().broker.url(), &arguments, DEBUG);
    operator.wait_ready();
    operator
}

#[test]
fn overloaded() {
    // Administrators are never told to wait.
    let flags = ["--enable-priority-and-fairness=false", "--max-mutating-requests-inflight=1"];
    let kube = Kube::start_with(&flags).expect("an API server");
    install(&kube);
    let mut ledger = Ledger::open(&kube, &world().broker, "api-overloaded");
    let operator = unprivileged(&kube, &ledger);
    ledger.go_on_creating();
    operator.wait_for_words("429 Too Many Requests");
    ledger.close(&world().broker, 0);
}

#[test]
fn unwilling() {
    let kube = start();
    let mut ledger = Ledger::open(&kube, &world().broker, "api-unwilling");
    let operator = unprivileged(&kube, &ledger);
    operator.wait_for_words("reason=\"Sent\"");
    ledger.go_on_creating();
    ledger.space.kubectl(&["delete", "rolebinding", "operator"], "").expect("the rights are taken away");
    operator.wait_for_words("403 Forbidden");
    give_rights(&ledger);
    ledger.close(&world().broker, 0);
}
