//! Changes of a stored message.

use std::collections::BTreeMap;

use rig::Kube;
use serde_json::{Value, json};

use super::{all, hello, refused, with};
use e2e::{TestNamespace, install, message, project, read, run};

/// The error for a change, and its advice.
const CANT_CHANGE: &str = "can't be changed";
const ADVICE: &str = "create another FedoraMessage";

/// The body has 9000 levels.
#[test]
fn suspends_deep_message() {
    let namespace = TestNamespace::new("deep");
    let body = r#"{"a":"#.repeat(9000) + "1" + &"}".repeat(9000);
    let manifest = with("spec.message.body", json!("BODY")).to_string().replace(r#""BODY""#, &body);
    namespace.create(&manifest);
    let suspend = json!([{"op": "add", "path": "/spec/suspend", "value": true}]);
    patch(&namespace, "hello", &suspend).expect("it is suspended");
    let deepest = "/a".repeat(9000);
    let edit = json!([{"op": "replace", "path": format!("/spec/message/body{deepest}"), "value": 2}]);
    let error = patch(&namespace, "hello", &edit).expect_err("its deepest value can't be changed");
    assert!(error.contains("spec.message can't be changed"), "{error}");
}

#[test]
fn only_suspend_may_change() {
    let namespace = TestNamespace::new("immutable");
    let mut full = hello();
    full["spec"]["message"] = json!({
        "topic": "nice.message", "body": {"a": {"b": [{"c": {"d": [1, null]}}]}}, "headers": {"h": "1"},
        "severity": "Info", "schema": "a.schema", "schemaPackage": "a_package", "priority": 1
    });
    for limit in ["activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"] {
        full["spec"][limit] = json!(100);
    }
    let mut bare = hello();
    bare["metadata"]["name"] = json!("bare");
    for message in [&full, &bare] {
        namespace.create(&message.to_string());
    }

    let changes: BTreeMap<String, Vec<(Value, String)>> =
        serde_saphyr::from_str(&read("testdata/refused-changes.yaml")).expect("YAML");
    for (name, kind) in [("hello", "replaced_or_removed"), ("bare", "added")] {
        all(&changes[kind], |(change, field)| {
            refused(patch(&namespace, name, &json!([change])), &[&format!("{field} {CANT_CHANGE}"), ADVICE])
                .map_err(|error| format!("{change}: {error}"))
        });
    }

    for suspend in [r#"{"suspend": true}"#, r#"{"suspend": false}"#, r#"{"suspend": null}"#] {
        namespace.patch("hello", &format!(r#"{{"spec": {suspend}}}"#));
    }
    namespace.patch("hello", r#"{"metadata": {"annotations": {"apps.fedoraproject.org/retry": "1"}}}"#);
    assert_eq!(namespace.get("hello")["spec"], full["spec"]);
}

/// A status update cannot change the spec, and a patch of the spec cannot use the status.
#[test]
fn status_update_keeps_spec() {
    let namespace = TestNamespace::new("around");
    namespace.create(&hello().to_string());
    let spec = namespace.get("hello")["spec"].take();
    for status in [false, true] {
        let change = json!([
            {"op": "add", "path": "/status", "value": {"status": status}},
            {"op": "replace", "path": "/spec/env", "value": "stg"},
        ]);
        let answer = patch(&namespace, "hello", &change);
        refused(answer, &["spec.env can't be changed", ADVICE]).expect("a patch of the resource");
        let change = change.to_string();
        namespace.kubectl(&["patch", "fmsg", "hello", "--subresource=status", "--type=json", "-p", &change]);
        let stored = namespace.get("hello");
        assert_eq!((&stored["spec"], &stored["status"]["status"]), (&spec, &json!(status)));
    }
}

#[test]
fn refuses_edited_manifest() {
    let namespace = TestNamespace::new("edited");
    let manifest = message("hello", "a.topic", "");
    for command in [&["apply", "-f", "-"][..], &["apply", "--server-side", "-f", "-"]] {
        namespace.try_kubectl(command, &manifest).expect("it is accepted");
        namespace.try_kubectl(command, &manifest).expect("it is accepted again");
        let edited = namespace.try_kubectl(command, &manifest.replace("a.topic", "another.topic"));
        refused(edited, &["spec.message can't be changed, because the message may have been sent already", ADVICE])
            .expect("the error");
        namespace.kubectl(&["delete", "fmsg", "hello"]);
    }
}

/// The message was stored before the policy, which would refuse it.
#[test]
fn accepts_updates_of_older_messages() {
    let kube = Kube::start().expect("an API server");
    kube.apply(&[project("crds/fedoramessages.yaml")]).expect("the CRD is accepted");
    let manifest = with("spec.message.headers", json!({"nothing": null})).to_string();
    let kubectl = |arguments: &[&str], input: &str| run(kube.kubectl().args(arguments), input);
    kubectl(&["create", "-f", "-"], &manifest).expect("the schema alone lets a null header through");
    let stored = kubectl(&["get", "fmsg", "hello", "-o", "jsonpath={.spec.message.headers}"], "");
    assert_eq!(stored.expect("it is stored"), r#"{"nothing":null}"#, "the operator must refuse it");

    install(&kube);
    let error = kubectl(&["create", "--dry-run=server", "-f", "-"], &manifest.replace("hello", "another"));
    refused(error, &[r#"spec.message.headers["nothing"] is null"#]).expect("a new one is refused");
    kubectl(&["annotate", "fmsg", "hello", "apps.fedoraproject.org/retry=1"], "").expect("it is annotated");
    kubectl(&["patch", "fmsg", "hello", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#], "")
        .expect("it is suspended");
    kubectl(&["delete", "fmsg", "hello"], "").expect("it is deleted");
}

fn patch(namespace: &TestNamespace, name: &str, change: &Value) -> Result<String, String> {
    namespace.try_kubectl(&["patch", "fmsg", name, "--type=json", "-p", &change.to_string()], "")
}
