//! Least privilege: the permissions in manifests/base/rbac.yaml suffice, and the operator needs
//! each of them.

use std::path::PathBuf;

use rig::Kube;
use serde_json::{Value, json};

use e2e::raw::RawConsumer;
use e2e::{
    DEBUG, Operator, SOON, TestNamespace, install, message, numbered, permissions, project, role_rules, sender, shared,
    wait_soon, with_foreign_secret, with_spec, write_verb,
};

/// The user who has only these permissions.
const USER: &str = "operator";

/// A field of the spec: the operator deletes the message as soon as it is sent.
const EXPIRES: &str = "ttlSecondsAfterFinished: 0";

/// The log text for each missing verb.
const LOG_TEXTS: [(&str, &str, &str); 18] = [
    ("fedoramessages", "get", "is not allowed to read FedoraMessages"),
    ("fedoramessages", "list", "is not allowed to watch FedoraMessages"),
    ("fedoramessages", "watch", "is not allowed to watch FedoraMessages"),
    ("fedoramessages", "delete", "is not allowed to delete FedoraMessages"),
    ("fedoramessages/status", "update", "the status could not be written"),
    ("fedoramessages/status", "patch", "the status could not be written"),
    ("fedoramessagesenders", "list", "is not allowed to watch FedoraMessageSenders"),
    ("fedoramessagesenders", "watch", "is not allowed to watch FedoraMessageSenders"),
    ("fedoramessagesenders/status", "patch", "the status of FedoraMessageSender"),
    ("secrets", "get", "is not allowed to read and watch Secrets"),
    ("secrets", "watch", "is not allowed to read and watch Secrets"),
    ("configmaps", "get", "is not allowed to read and watch ConfigMaps"),
    ("configmaps", "watch", "is not allowed to read and watch ConfigMaps"),
    ("events", "create", "an Event could not be written"),
    ("leases", "create", "could not be written: the operator is not allowed to do that"),
    ("leases", "get", "could not be read: the operator is not allowed to do that"),
    ("leases", "update", "not leading any more"),
    ("leases", "watch", "the Lease can't be watched"),
];

/// Returns the rules without one verb.
fn without(rules: &[Value], resource: &str, verb: &str) -> Vec<Value> {
    let each = rules.iter().flat_map(|rule| {
        let resources = rule["resources"].as_array().cloned().unwrap_or_default();
        resources.into_iter().map(|resource| {
            let mut rule = rule.clone();
            rule["resources"] = json!([resource]);
            rule
        })
    });
    let mut rules: Vec<Value> = each.collect();
    for rule in rules.iter_mut().filter(|rule| rule["resources"][0] == resource) {
        rule["verbs"].as_array_mut().expect("verbs").retain(|other| other != verb);
    }
    rules.retain(|rule| rule["verbs"] != json!([]));
    rules
}

fn user() -> PathBuf {
    shared().kube.kubeconfig_for(USER).expect("a user")
}

fn launch(namespace: &TestNamespace) -> Operator {
    let arguments = ["--watch-namespaces", &namespace.name, "--leader-elect", "--lease-namespace", &namespace.name];
    Operator::launch(&user(), &shared().broker.url(), &arguments, DEBUG)
}

#[test]
fn every_permission_is_needed() {
    // For all namespaces, and for the operator's own.
    let rules = role_rules("manifests/base/rbac.yaml");
    let granted = permissions(&rules);
    let explained: Vec<_> =
        LOG_TEXTS.iter().map(|(resource, verb, _)| (resource.to_string(), verb.to_string())).collect();
    assert_eq!(granted, explained, "each permission has its log text");

    std::thread::scope(|scope| {
        for texts in LOG_TEXTS.chunks(4) {
            let rules = &rules;
            scope.spawn(move || {
                for (resource, verb, expected) in texts {
                    assert_needed(rules, resource, verb, expected);
                }
            });
        }
    });
}

/// Asserts that the operator logs this text without this verb.
fn assert_needed(rules: &[Value], resource: &str, verb: &str, expected: &str) {
    if (resource, verb) == ("fedoramessages/status", "update") && write_verb() == "patch" {
        // Nothing is updated on this version of Kubernetes.
        return;
    }
    let namespace = TestNamespace::new("permissions");
    namespace.grant(USER, "operator", &json!(without(rules, resource, verb)));
    let operator = launch(&namespace);
    // It names a ConfigMap for the CA.
    namespace.apply(&sender("checked", "").replace("certs}}", "certs}, caConfigMapRef: {name: ca, key: ca}}"));
    namespace.apply(&with_spec(&message("warned", "permissions.warned", ""), EXPIRES));
    if (resource, verb) == ("fedoramessages", "get") {
        // The operator reads a message that was given up before it deletes the message.
        let late = with_spec(&message("late", "permissions.late", ""), EXPIRES);
        namespace.apply(&with_spec(&late, "activeDeadlineSeconds: 1"));
        return operator.wait_for_log(expected);
    }
    if (resource, verb) == ("leases", "watch") {
        operator.wait_for_log("leading: messages are sent from here");
        return launch(&namespace).wait_for_log(expected);
    }
    namespace.store_certificate(&shared().broker, "publisher");
    if (resource, verb) == ("fedoramessages/status", "patch") {
        change_in_flight(&namespace);
    }
    operator.wait_for_log(expected);
    if verb == "delete" {
        assert_still_sends(&namespace, &operator, expected);
    }
}

/// Changes a message while it is in flight.
fn change_in_flight(namespace: &TestNamespace) {
    let broker = &shared().broker;
    let consumer = RawConsumer::start(broker, "permissions.changed");
    consumer.suspend(broker);
    namespace.apply(&message("changed", "permissions.changed", ""));
    consumer.wait_for_hand_over(broker);
    namespace.kubectl(&["label", "fmsg/changed", "seen=yes"]);
    consumer.resume(broker);
}

/// Asserts that the operator still sends messages, and logs the text once.
fn assert_still_sends(namespace: &TestNamespace, operator: &Operator, expected: &str) {
    namespace.wait_for_reason("warned", "Sent");
    namespace.apply(&with_spec(&numbered(20, "more", |_| "permissions.more".to_owned()), EXPIRES));
    namespace.wait_for_all_sent();
    operator.wait_for_log("Denied");
    assert_eq!(operator.count_in_log(&format!("now: the operator {expected}")), 1, "{}", operator.log());
}

#[test]
fn permissions_suffice_for_all_namespaces() {
    let kube = Kube::start().expect("an API server");
    install(&kube);
    kube.apply(&[project("manifests/base/rbac.yaml")]).expect("the roles are stored");
    for arguments in [
        ["clusterrolebinding", "operator", "--clusterrole=fedora-message-operator", "--user=operator"].as_slice(),
        &["rolebinding", "operator", "--role=fedora-message-operator-leader-election", "--user=operator"],
    ] {
        kube.run(&[&["create"], arguments].concat()).expect("the role is bound");
    }
    let (namespace, owner) = (TestNamespace::on(&kube, "whole"), TestNamespace::on(&kube, "owner"));
    let consumer = RawConsumer::start(&shared().broker, "whole.#");
    let kubeconfig = kube.kubeconfig_for(USER).expect("a user");
    let arguments = ["--leader-elect", "--lease-namespace", "default"];
    let operator = Operator::launch_ready(&kubeconfig, &shared().broker.url(), &arguments);

    namespace.apply(&message("own", "whole.own", ""));
    namespace.apply(&with_foreign_secret(&message("foreign", "whole.foreign", ""), "certs", &owner));
    namespace.wait_for_reason_of(&["own", "foreign"], "SecretNotFound");
    namespace.store_certificate(&shared().broker, "publisher");
    owner.store_certificate(&shared().broker, "publisher");
    owner.allow(&namespace.name);
    namespace.wait_for_reason_of(&["own", "foreign"], "Sent");
    assert_eq!(consumer.take(2, SOON).len(), 2);
    wait_soon("both Events", || {
        namespace.try_kubectl(&["get", "events", "-o", "name"], "").is_ok_and(|names| names.lines().count() == 2)
    });
    namespace.apply(&with_spec(&message("expiring", "whole.expiring", ""), EXPIRES));
    wait_soon("the message is deleted", || namespace.try_kubectl(&["get", "fmsg", "expiring"], "").is_err());
    assert_eq!(operator.stop(), Some(0));

    let events = kube.audit_events().expect("the audit log is read");
    let requests: Vec<_> = events.iter().filter(|event| event["user"]["username"] == USER).collect();
    let refused: Vec<_> = requests.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let secrets = requests.iter().filter(|event| event["objectRef"]["resource"] == "secrets");
    for request in secrets {
        let uri = request["requestURI"].as_str().expect("a URI");
        let by_name = uri.ends_with("/secrets/certs") || uri.contains("fieldSelector=metadata.name%3Dcerts");
        assert!(by_name && request["verb"] != "list", "the operator reads Secrets by name: {uri}");
    }
}
