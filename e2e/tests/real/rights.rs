//! Least privilege: the rights in manifests/base/rights.yaml are enough, and each of them is needed.

use std::path::PathBuf;

use rig::{Kube, wait_until};
use serde_json::{Value, json};

use e2e::raw::RawConsumer;
use e2e::world::{DEBUG, Operator, SOON, Space, install, message, project, wait_for_all_sent, world};

/// The user who has no rights but these.
const USER: &str = "operator";

/// What the operator complains of when it lacks a verb.
const COMPLAINTS: [(&str, &str, &str); 12] = [
    ("fedoramessages", "list", "no right to watch FedoraMessages"),
    ("fedoramessages", "watch", "no right to watch FedoraMessages"),
    ("fedoramessages", "delete", "is not allowed to delete FedoraMessages"),
    ("fedoramessages/status", "update", "the status could not be written"),
    ("fedoramessages/status", "patch", "the status could not be written"),
    ("secrets", "get", "no right to read and watch Secrets"),
    ("secrets", "watch", "no right to read and watch Secrets"),
    ("events", "create", "an Event could not be written"),
    ("leases", "get", "could not be read: the operator has no right to"),
    ("leases", "create", "could not be written: the operator has no right to"),
    ("leases", "update", "not leading any more"),
    ("leases", "watch", "the Lease can't be watched"),
];

/// The rules of the manifest, for all namespaces and for its own.
fn rules() -> Vec<Value> {
    let text = std::fs::read_to_string(project("manifests/base/rights.yaml")).expect("the manifest is there");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("the manifest is YAML");
    documents.iter().flat_map(|document| document["rules"].as_array().cloned().unwrap_or_default()).collect()
}

/// Gives the user these rules in a namespace.
fn grant(space: &Space, rules: &[Value]) {
    let metadata = json!({"name": "operator"});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
    });
    space.apply(&format!("{role}\n---\n{binding}\n")).expect("the rights are given");
}

/// The rules without one verb.
fn without(rules: &[Value], resource: &str, verb: &str) -> Vec<Value> {
    let mut rules = rules.to_vec();
    for rule in rules.iter_mut().filter(|rule| rule["resources"][0] == resource) {
        rule["verbs"].as_array_mut().expect("verbs").retain(|other| other != verb);
    }
    rules.retain(|rule| rule["verbs"] != json!([]));
    rules
}

fn user() -> PathBuf {
    world().kube.kubeconfig_for(USER).expect("the user is known")
}

fn launch(space: &Space) -> Operator {
    let arguments = ["--watch-namespaces", &space.name, "--leader-elect", "--lease-namespace", &space.name];
    Operator::launch(&user(), &world().broker.url(), &arguments, DEBUG)
}

#[test]
fn every_right_is_one_that_something_needs() {
    let rules = rules();
    let granted: Vec<(String, String)> = rules
        .iter()
        .flat_map(|rule| {
            let texts = |key: &str| -> Vec<String> {
                rule[key].as_array().expect("a list").iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
            };
            let verbs = texts("verbs");
            texts("resources")
                .into_iter()
                .flat_map(move |resource| verbs.clone().into_iter().map(move |verb| (resource.clone(), verb)))
        })
        .collect();
    let explained: Vec<_> =
        COMPLAINTS.iter().map(|(resource, verb, _)| ((*resource).to_owned(), (*verb).to_owned())).collect();
    assert_eq!(granted, explained, "each verb has its complaint, and nothing else is granted");

    std::thread::scope(|scope| {
        for log_throttle in COMPLAINTS.chunks(4) {
            let rules = &rules;
            scope.spawn(move || {
                for (resource, verb, words) in log_throttle {
                    assert_missed(rules, resource, verb, words);
                }
            });
        }
    });
}

/// Without this verb the operator complains in these words.
fn assert_missed(rules: &[Value], resource: &str, verb: &str, words: &str) {
    let space = Space::new("rights");
    grant(&space, &without(rules, resource, verb));
    let operator = launch(&space);
    let mortal = message("warned", "rights.warned", "").replace("\nspec:\n", "\nspec:\n  ttlSecondsAfterFinished: 0\n");
    space.apply(&mortal).expect("it is accepted");
    if (resource, verb) == ("leases", "watch") {
        operator.wait_for_words("leading: messages are sent from here");
        return launch(&space).wait_for_words(words);
    }
    space.certificate(&world().broker, "publisher");
    if (resource, verb) == ("fedoramessages/status", "patch") {
        change_on_its_way(&space);
    }
    operator.wait_for_words(words);
    if verb == "delete" {
        assert_sending_goes_on(&space, &operator, words);
    }
}

/// A message is changed after the operator has taken it, and before it is sent.
fn change_on_its_way(space: &Space) {
    let broker = &world().broker;
    let consumer = RawConsumer::start(broker, "rights.changed");
    consumer.suspend(broker);
    space.apply(&message("changed", "rights.changed", "")).expect("it is accepted");
    consumer.wait_for_hand_over(broker);
    space.kubectl(&["label", "fmsg/changed", "seen=yes"], "").expect("it is changed");
    consumer.resume(broker);
}

/// Messages are sent all the same, and the complaint comes once.
fn assert_sending_goes_on(space: &Space, operator: &Operator, words: &str) {
    space.wait_for_reason("warned", "Sent");
    let more: String = (0..20)
        .map(|n| message(&format!("more{n}"), "rights.more", ""))
        .map(|it| it.replace("\nspec:\n", "\nspec:\n  ttlSecondsAfterFinished: 0\n"))
        .collect();
    space.apply(&more).expect("they are accepted");
    wait_for_all_sent(space);
    operator.wait_for_words("Denied");
    assert_eq!(operator.log().matches(words).count(), 1, "{}", operator.log());
}

#[test]
fn the_whole_job_is_done_with_these_rights_in_all_namespaces() {
    let kube = Kube::start().expect("an API server");
    install(&kube);
    kube.apply(&[project("manifests/base/rights.yaml")]).expect("the rights are stored");
    for arguments in [
        ["clusterrolebinding", "operator", "--clusterrole=fedora-message-operator", "--user=operator"].as_slice(),
        &["rolebinding", "operator", "--role=fedora-message-operator-leader-election", "--user=operator"],
    ] {
        kube.run(&[&["create"], arguments].concat()).expect("the rights are given");
    }
    let (space, owner) = (Space::on(&kube, "whole"), Space::on(&kube, "owner"));
    let consumer = RawConsumer::start(&world().broker, "whole.#");
    let kubeconfig = kube.kubeconfig_for(USER).expect("the user is known");
    let arguments = ["--leader-elect", "--lease-namespace", "default"];
    let operator = Operator::launch(&kubeconfig, &world().broker.url(), &arguments, DEBUG);
    operator.wait_ready();

    let foreign = format!("{{name: certs, namespace: {}}}", owner.name);
    space.apply(&message("own", "whole.own", "")).expect("it is accepted");
    space.apply(&message("foreign", "whole.foreign", "").replace("{name: certs}", &foreign)).expect("it is accepted");
    for name in ["own", "foreign"] {
        space.wait_for_reason(name, "SecretNotFound");
    }
    space.certificate(&world().broker, "publisher");
    owner.certificate(&world().broker, "publisher");
    let consent = format!("apps.fedoraproject.org/allowed-namespaces={}", space.name);
    owner.kubectl(&["annotate", "secret", "certs", &consent], "").expect("the owner consents");
    for name in ["own", "foreign"] {
        space.wait_for_reason(name, "Sent");
    }
    assert_eq!(consumer.take(2, SOON).len(), 2);
    wait_until(SOON, "the Event", || {
        space.kubectl(&["get", "events", "-o", "name"], "").is_ok_and(|names| names.lines().count() == 2)
    })
    .expect("both were warned of");
    let mortal = message("mortal", "whole.mortal", "").replace("\nspec:\n", "\nspec:\n  ttlSecondsAfterFinished: 0\n");
    space.apply(&mortal).expect("it is accepted");
    wait_until(SOON, "it is deleted", || space.kubectl(&["get", "fmsg", "mortal"], "").is_err()).expect("it is");
    assert_eq!(operator.stop(), Some(0));

    let events = kube.audit_events().expect("the audit log is read");
    let requests: Vec<_> = events.iter().filter(|event| event["user"]["username"] == USER).collect();
    let refused: Vec<_> = requests.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let secrets = requests.iter().filter(|event| event["objectRef"]["resource"] == "secrets");
    for request in secrets {
        let uri = request["requestURI"].as_str().expect("a URI");
        let by_name = uri.ends_with("/secrets/certs") || uri.contains("fieldSelector=metadata.name%3Dcerts");
        assert!(by_name && request["verb"] != "list", "a Secret is read by its name: {uri}");
    }
}
