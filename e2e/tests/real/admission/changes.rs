//! What may become of a message once it is stored.

use rig::Kube;
use serde_json::{Value, json};

use super::{all, hello, said, with};
use e2e::world::{Space, install, message, project, run};

/// What the API server says of a change, beside the field.
const CANT_CHANGE: &str = "can't be changed";
const MEND: &str = "create another FedoraMessage";

#[test]
fn a_body_of_9000_levels_is_stored_and_the_message_can_still_be_suspended() {
    let space = Space::new("deep");
    let body = r#"{"a":"#.repeat(9000) + "1" + &"}".repeat(9000);
    let manifest = with("spec.message.body", json!("BODY")).to_string().replace(r#""BODY""#, &body);
    space.kubectl(&["create", "-f", "-"], &manifest).expect("it is accepted");
    patch(&space, r#"[{"op": "add", "path": "/spec/suspend", "value": true}]"#).expect("it is suspended");
    let deepest = "/a".repeat(9000);
    let edit = format!(r#"[{{"op": "replace", "path": "/spec/message/body{deepest}", "value": 2}}]"#);
    let words = patch(&space, &edit).expect_err("its deepest value can't be changed");
    assert!(words.contains("spec.message can't be changed"), "{words}");
}

#[test]
fn nothing_of_a_stored_message_may_change_but_suspend() {
    let space = Space::new("immutable");
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
        space.kubectl(&["create", "-f", "-"], &message.to_string()).expect("it is accepted");
    }

    let changes = [
        ("replace", "env", json!("stg"), "spec.env"),
        ("replace", "message/topic", json!("other"), "spec.message"),
        ("replace", "message/body/a/b/0/c/d/0", json!(2), "spec.message"),
        ("replace", "message/body/a/b/0/c/d/0", json!("1"), "spec.message"),
        ("replace", "message/body/a/b/0/c/d/0", json!(true), "spec.message"),
        ("remove", "message/body/a/b/0/c/d/1", Value::Null, "spec.message"),
        ("add", "message/body/a/b/0/c/new", Value::Null, "spec.message"),
        ("replace", "message/headers/h", json!(1), "spec.message"),
        ("add", "message/headers/new", json!("x"), "spec.message"),
        ("remove", "message/headers", Value::Null, "spec.message"),
        ("replace", "message/severity", json!("Error"), "spec.message"),
        ("remove", "message/severity", Value::Null, "spec.message"),
        ("replace", "message/schema", json!("other"), "spec.message"),
        ("remove", "message/schemaPackage", Value::Null, "spec.message"),
        ("replace", "message/priority", json!(2), "spec.message"),
        ("replace", "authentication/secretRef/name", json!("other"), "spec.authentication"),
        ("add", "authentication/secretRef/namespace", json!("other"), "spec.authentication"),
        ("replace", "authentication", json!({"secret_ref": {"name": "certs"}}), "spec.authentication"),
        ("replace", "activeDeadlineSeconds", json!(200), "spec.activeDeadlineSeconds"),
        ("remove", "activeDeadlineSeconds", Value::Null, "spec.activeDeadlineSeconds"),
        ("replace", "backoffLimit", json!(200), "spec.backoffLimit"),
        ("remove", "backoffLimit", Value::Null, "spec.backoffLimit"),
        ("replace", "ttlSecondsAfterFinished", json!(200), "spec.ttlSecondsAfterFinished"),
        ("remove", "ttlSecondsAfterFinished", Value::Null, "spec.ttlSecondsAfterFinished"),
    ];
    all(changes, |(op, path, value, field)| {
        let change = json!([{"op": op, "path": format!("/spec/{path}"), "value": value}]);
        said(patch(&space, &change.to_string()), &[&format!("{field} {CANT_CHANGE}"), MEND])
            .map_err(|words| format!("{change}: {words}"))
    });

    let additions = [
        ("message/severity", json!("Info"), "spec.message"),
        ("message/headers", json!({}), "spec.message"),
        ("activeDeadlineSeconds", json!(1), "spec.activeDeadlineSeconds"),
        ("backoffLimit", json!(0), "spec.backoffLimit"),
        ("ttlSecondsAfterFinished", json!(0), "spec.ttlSecondsAfterFinished"),
    ];
    all(additions, |(path, value, field)| {
        let change = json!([{"op": "add", "path": format!("/spec/{path}"), "value": value}]).to_string();
        let patched = space.kubectl(&["patch", "fmsg", "bare", "--type=json", "-p", &change], "");
        said(patched, &[&format!("{field} {CANT_CHANGE}"), MEND]).map_err(|words| format!("{change}: {words}"))
    });

    for suspend in [r#"{"suspend": true}"#, r#"{"suspend": false}"#, r#"{"suspend": null}"#] {
        patch_merge(&space, &format!(r#"{{"spec": {suspend}}}"#)).expect("suspend may change");
    }
    patch_merge(&space, r#"{"metadata": {"annotations": {"apps.fedoraproject.org/retry": "1"}}}"#)
        .expect("annotations may change");
    assert_eq!(space.get("hello")["spec"], full["spec"]);
}

#[test]
fn a_new_status_is_no_way_around_that() {
    let space = Space::new("around");
    space.kubectl(&["create", "-f", "-"], &hello().to_string()).expect("it is accepted");
    let spec = space.get("hello")["spec"].take();
    for status in [false, true] {
        let change = json!([
            {"op": "add", "path": "/status", "value": {"status": status}},
            {"op": "replace", "path": "/spec/env", "value": "stg"},
        ])
        .to_string();
        said(patch(&space, &change), &["spec.env can't be changed", MEND])
            .expect("of the resource only its spec counts");
        space
            .kubectl(&["patch", "fmsg", "hello", "--subresource=status", "--type=json", "-p", &change], "")
            .expect("of a status nothing else counts");
        let stored = space.get("hello");
        assert_eq!((&stored["spec"], &stored["status"]["status"]), (&spec, &json!(status)));
    }
}

#[test]
fn editing_a_manifest_and_applying_it_again_says_that_the_message_cannot_change() {
    let space = Space::new("edited");
    let manifest = message("hello", "a.topic", "");
    for way in [&["apply", "-f", "-"][..], &["apply", "--server-side", "-f", "-"]] {
        space.kubectl(way, &manifest).expect("it is accepted");
        space.kubectl(way, &manifest).expect("it is accepted again");
        let edited = space.kubectl(way, &manifest.replace("a.topic", "another.topic"));
        said(edited, &["spec.message can't be changed, because the message may have been sent already", MEND])
            .expect("the words");
        space.kubectl(&["delete", "fmsg", "hello"], "").expect("it is deleted");
    }
}

#[test]
fn a_message_from_before_the_policy_can_be_annotated_suspended_and_deleted() {
    let kube = Kube::start().expect("an API server starts");
    kube.apply(&[project("crds/fedoramessages.yaml")]).expect("the CRD is accepted");
    let manifest = with("spec.message.headers", json!({"nothing": null})).to_string();
    let kubectl = |arguments: &[&str], input: &str| {
        let mut command = kube.kubectl();
        command.args(arguments);
        run(command, input)
    };
    kubectl(&["create", "-f", "-"], &manifest).expect("the schema alone lets a null header through");
    let stored = kubectl(&["get", "fmsg", "hello", "-o", "jsonpath={.spec.message.headers}"], "");
    assert_eq!(stored.expect("it is stored"), r#"{"nothing":null}"#, "for the operator to refuse");

    install(&kube);
    let words = kubectl(&["create", "--dry-run=server", "-f", "-"], &manifest.replace("hello", "another"));
    said(words, &[r#"spec.message.headers["nothing"] is null"#]).expect("a new one is refused");
    kubectl(&["annotate", "fmsg", "hello", "apps.fedoraproject.org/retry=1"], "").expect("it is annotated");
    kubectl(&["patch", "fmsg", "hello", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#], "")
        .expect("it is suspended");
    kubectl(&["delete", "fmsg", "hello"], "").expect("it is deleted");
}

fn patch(space: &Space, change: &str) -> Result<String, String> {
    space.kubectl(&["patch", "fmsg", "hello", "--type=json", "-p", change], "")
}

fn patch_merge(space: &Space, change: &str) -> Result<String, String> {
    space.kubectl(&["patch", "fmsg", "hello", "--type=merge", "-p", change], "")
}
