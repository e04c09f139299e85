//! The Pod that sends a message: its CLI message, its manifest, and the meaning of its status.

#![expect(clippy::disallowed_methods, reason = "tests read files and clocks")]

use std::collections::BTreeMap;

use crate::bounds::MAX_POD_MESSAGE_BYTES;
use crate::message::envelope::Envelope;
use crate::message::secret::{KeyLocations, OperatorCa};
use crate::message::validate::validate;
use crate::pod::cli_message::line;
use crate::pod::manifest::{PodLogin, PodPlanError, PodSettings, plan};
use crate::pod::proof::{Finding, does_same, judge};
use crate::pod::status::{PodState, late, look, vanished};
use crate::policy::outcome::{Failure, Reason};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::fixture::{
    UID, decode, example, example_sender, message, minimal, plain_routing, set, text_with, valid_sender, with,
};

/// The characters at which Python ends a line, in text mode or in `str.splitlines`.
const LINE_ENDS: [char; 10] =
    ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
const URL: &str = "amqps://rabbitmq.fedoraproject.org:5671/%2Fpubsub";

fn settings() -> PodSettings {
    PodSettings {
        image: "localhost/fedora-messaging:3.9.1".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        image_pull_secrets: vec!["registry".to_owned()],
        resources: serde_json::from_value(json!({"limits": {"memory": "128Mi"}})).unwrap(),
        priority_class: None,
        node_selector: vec![("disk".to_owned(), "fast".to_owned())],
        tolerations: Vec::new(),
        schemas: vec!["nice.encouragement.v1".to_owned()],
        start_seconds: 60,
        run_seconds: 30,
    }
}

fn planned(object: &Value, settings: &PodSettings, attempt: u32) -> Result<Pod, PodPlanError> {
    let object = message(object);
    let valid = validate(&object, None, &plain_routing()).unwrap();
    let keys = KeyLocations::find(&valid.authentication, &[None]);
    let login = PodLogin { url: URL, keys: &keys, operator_ca: None };
    plan(&object, &valid, "amq.topic", login, settings, attempt)
}

/// Returns the first Pod of a message that is sent as this Sender. The operator has this CA.
fn planned_as(object: &Value, sender: &Value, operator_ca: Option<&str>) -> Result<Pod, PodPlanError> {
    let object = message(object);
    let valid = validate(&object, Some(Ok(&valid_sender(sender))), &plain_routing()).unwrap();
    let keys = KeyLocations::find(&valid.authentication, &[]);
    let operator_ca =
        operator_ca.map(|pem| OperatorCa { place: "the operator's file".to_owned(), pem: pem.to_owned() });
    let login = PodLogin { url: URL, keys: &keys, operator_ca: operator_ca.as_ref() };
    plan(&object, &valid, "amq.topic", login, &settings(), 1)
}

/// Returns the example Sender without a CA.
fn sender_without_ca() -> Value {
    set(example_sender(), "/spec/authentication/caConfigMapRef", json!(null))
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref().unwrap();
    annotations.get(&format!("apps.fedoraproject.org/{name}")).map(String::as_str)
}

/// Returns the sources of the Pod's volume with the certificate, by the name of the mounted file.
fn certificate_sources(pod: &Pod) -> BTreeMap<String, Value> {
    let pod = serde_json::to_value(pod).unwrap();
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == "certificate").unwrap();
    let sources = volume["projected"]["sources"].as_array().unwrap();
    let path = |source: &Value| {
        let (_, projection) = source.as_object().unwrap().iter().next().unwrap();
        projection["items"][0]["path"].as_str().unwrap().to_owned()
    };
    sources.iter().map(|source| (path(source), source.clone())).collect()
}

fn line_of(text: &str) -> String {
    let object = decode(text);
    line(&Envelope::new(&validate(&object, None, &plain_routing()).unwrap(), "amq.topic"))
}

#[test]
fn line_has_everything_that_the_envelope_has() {
    let object = set(with("/spec/message/severity", "Warning".into()), "/spec/message/priority", 3.into());
    let line: Value = serde_json::from_str(&line_of(&object.to_string())).unwrap();
    assert_eq!(
        line,
        json!({
            "topic": "nice.message",
            "id": UID,
            "priority": 3,
            "headers": {
                "fedora_messaging_schema": "base.message",
                "fedora_messaging_schema_package": "fedora_messaging",
                "fedora_messaging_severity": 30,
                "niceness": "very",
                "priority": 3,
                "sent-at": "2019-07-30T19:12:22+00:00",
            },
            "body": {"encouragement": "You're doing great!"},
        })
    );
}

#[test]
fn line_has_no_line_ends_of_strings() {
    // The last four are control characters that end no line.
    for end in LINE_ENDS.into_iter().chain(['\0', '\t', '\u{7f}', '\u{9f}']) {
        let text = format!("a{end}b");
        let object =
            set(with("/spec/message/body/text", text.clone().into()), "/spec/message/body/x", end.to_string().into());
        let line = line_of(&object.to_string());
        assert!(!line.contains(LINE_ENDS), "{end:?}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["body"]["text"], text.as_str());
    }
}

#[test]
fn line_has_no_line_ends_between_tokens() {
    let line = line_of(&text_with("/spec/message/body", "{\n\t\"a\":\r\n [1,\n2]\n}"));
    assert!(!line.contains(LINE_ENDS));
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["body"], json!({"a": [1, 2]}));
}

/// Compares the whole Pod with a golden file, so that every change is visible. `UPDATE_GOLDEN=1`
/// writes the file.
#[test]
fn matches_the_golden_pod() {
    let pod = planned(&with("/spec/authentication/secret_ref/namespace", "apps".into()), &settings(), 1).unwrap();
    let pod = serde_json::to_value(&pod).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/pod.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, serde_json::to_string_pretty(&pod).unwrap() + "\n").unwrap();
    }
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(pod, golden, "see testdata/pod.json");
}

#[test]
fn pod_in_another_namespace_has_no_owner() {
    let elsewhere = planned(&example(), &settings(), 1).unwrap();
    assert_eq!(elsewhere.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(elsewhere.metadata.owner_references, None);
    assert_eq!(elsewhere.metadata.labels.unwrap()["apps.fedoraproject.org/message-namespace"], "apps");
}

#[test]
fn pod_name_contains_the_attempt() {
    let names = [1, 2].map(|attempt| planned(&example(), &settings(), attempt).unwrap().metadata.name.unwrap());
    assert_eq!(names, [format!("fedora-message-{UID}-1"), format!("fedora-message-{UID}-2")]);
}

#[test]
fn refuses_a_message_that_no_annotation_holds() {
    let planned = |size: usize| planned(&with("/spec/message/body/text", "a".repeat(size).into()), &settings(), 1);
    let line = |pod: &Pod| pod.metadata.annotations.as_ref().unwrap()["apps.fedoraproject.org/message"].len();
    let largest = MAX_POD_MESSAGE_BYTES - line(&planned(0).unwrap());
    let annotations = planned(largest).unwrap().metadata.annotations.unwrap();
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(size <= 256 * 1024, "the API server refuses {size} bytes of annotations");
    let error = planned(largest + 1).unwrap_err();
    assert_eq!(error.reason(), Reason::MessageTooLarge);
    assert_eq!(
        error.to_string(),
        "Pod delivery can't send a message of 245761 bytes, because a Pod holds at most 245760: send a reference to the data instead, or use direct delivery"
    );
}

#[test]
fn refuses_a_schema_that_the_image_lacks() {
    let nice = |schema: &str| with("/spec/message/schema", schema.into());
    assert!(planned(&nice("nice.encouragement.v1"), &settings(), 1).is_ok(), "the image has its package");
    let error = planned(&nice("other.v1"), &settings(), 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Pod delivery can't send the schema other.v1 from the package that ships it, because the CLI's image lacks it and would send base.message instead: use direct delivery, or an image with the package, and name the schema in the operator's --cli-schemas"
    );
}

#[test]
fn refuses_secrets_in_several_namespaces() {
    let secret = |namespace: &str, key: &str| json!({"name": "certs", "namespace": namespace, "key": key});
    let three = json!({
        "caSecretRef": secret("apps", "ca"),
        "certSecretRef": secret("default", "cert"),
        "keySecretRef": secret("default", "key"),
    });
    let error = planned(&with("/spec/authentication", three), &settings(), 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Pod delivery needs all Secrets of a message in one namespace, but they are in apps, default: put them together, or use direct delivery"
    );
}

#[test]
fn mounts_a_config_map() {
    let pod = planned_as(&minimal(), &example_sender(), Some("another CA")).unwrap();
    let sources = certificate_sources(&pod);
    let expected = [
        ("ca", json!({"configMap": {"name": "fedora-ca", "items": [{"key": "cacert.pem", "path": "ca"}]}})),
        ("cert", json!({"secret": {"name": "nice-cert", "items": [{"key": "nice-cert.pem", "path": "cert"}]}})),
        ("key", json!({"secret": {"name": "nice-key", "items": [{"key": "nice-key.pem", "path": "key"}]}})),
    ];
    assert_eq!(sources, expected.map(|(path, source)| (path.to_owned(), source)).into());
    assert_eq!(annotation(&pod, "ca"), None, "the Sender's own CA is used");
}

#[test]
fn mounts_the_operators_ca() {
    let pod = planned_as(&minimal(), &sender_without_ca(), Some("a CA\n")).unwrap();
    assert_eq!(annotation(&pod, "ca"), Some("a CA\n"));
    let field = json!({"apiVersion": "v1", "fieldPath": "metadata.annotations['apps.fedoraproject.org/ca']"});
    assert_eq!(certificate_sources(&pod)["ca"], json!({"downwardAPI": {"items": [{"path": "ca", "fieldRef": field}]}}));
    let config = annotation(&pod, "config").unwrap();
    assert!(config.contains("ca_cert = \"/certificate/ca\""), "{config}");
}

/// Also the CA has to fit into the annotations.
#[test]
fn refuses_a_message_that_leaves_no_space_for_the_ca() {
    let planned = |size: usize, ca: &str| {
        let object = set(minimal(), "/spec/message/body/text", "a".repeat(size).into());
        planned_as(&object, &sender_without_ca(), Some(ca))
    };
    let line = annotation(&planned(0, "").unwrap(), "message").unwrap().len();
    let ca = "c".repeat(20_000);
    let largest = MAX_POD_MESSAGE_BYTES - line - ca.len();
    assert!(planned(largest, &ca).is_ok());
    let error = planned(largest + 1, &ca).unwrap_err();
    assert_eq!(error.reason(), Reason::MessageTooLarge);
}

#[test]
fn sends_client_properties() {
    let properties = |pod: &Pod| {
        let config = annotation(pod, "config").unwrap();
        let (_, rest) = config.split_once("[client_properties]\n").unwrap();
        rest.split_once("\n\n").unwrap().0.to_owned()
    };
    let of_sender = planned_as(&minimal(), &example_sender(), None).unwrap();
    assert_eq!(
        properties(&of_sender),
        r#"app = "nice-app"
app_version = "2.1"
app_url = "https://nice.example.org"
app_contacts_email = ["admin@example.org","team@example.org"]"#
    );
    let quotes = set(example_sender(), "/spec/application", json!({"name": "a \"quote\" \\ é"}));
    assert_eq!(properties(&planned_as(&minimal(), &quotes, None).unwrap()), r#"app = "a \"quote\" \\ é""#);
    let of_secret = planned(&example(), &settings(), 1).unwrap();
    assert_eq!(properties(&of_secret), r#"app = "default/fedora-messaging-certs""#);
}

/// The longest texts of an application leave space for the largest message.
#[test]
fn largest_application_fits() {
    let text = "\"".repeat(255);
    let application = json!({"name": text, "version": text, "url": text, "contacts": vec![text.clone(); 10]});
    let sender = set(sender_without_ca(), "/spec/application", application);
    let planned = |size: usize| {
        planned_as(&set(minimal(), "/spec/message/body/text", "a".repeat(size).into()), &sender, None).unwrap()
    };
    let line = annotation(&planned(0), "message").unwrap().len();
    let annotations = planned(MAX_POD_MESSAGE_BYTES - line).metadata.annotations.unwrap();
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(size <= 256 * 1024, "the API server refuses {size} bytes of annotations");
}

#[test]
fn pod_runs_in_the_senders_namespace() {
    let object = set(minimal(), "/metadata/namespace", "nice-jobs".into());
    let object = set(object, "/spec/senderRef", json!({"name": "default", "namespace": "apps"}));
    let pod = planned_as(&object, &example_sender(), None).unwrap();
    assert_eq!(pod.metadata.namespace.as_deref(), Some("apps"));
    assert_eq!(pod.metadata.owner_references, None);
}

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"namespace": "apps", "name": "p"},
        "spec": {"containers": [{"name": "publish", "image": "cli:1"}]},
        "status": status,
    }))
    .unwrap()
}

/// Returns a Pod whose container has ended.
fn ended(exit_code: i32, reason: &str, detail: &str) -> Pod {
    let terminated = json!({"exitCode": exit_code, "reason": reason, "message": detail});
    let phase = if exit_code == 0 { "Succeeded" } else { "Failed" };
    pod(&json!({"phase": phase, "containerStatuses": [container(&json!({"terminated": terminated}))]}))
}

fn container(state: &Value) -> Value {
    json!({"name": "publish", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn failure(pod: &Pod) -> (Reason, String) {
    match look(pod) {
        PodState::Failed(outcome) => (outcome.reason, outcome.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn exit_code_0_means_sent() {
    assert_eq!(look(&ended(0, "Completed", "")), PodState::Sent);
    // Also if the Pod was evicted before its status was read.
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "containerStatuses": [
        container(&json!({"terminated": {"exitCode": 0}}))
    ]});
    assert_eq!(look(&pod(&evicted)), PodState::Sent);
}

/// Source: fedora-messaging's exit codes, and its output with a real broker (e2e/tests/pods/failures.rs).
#[test]
fn maps_exit_codes_and_output_to_reasons() {
    for (code, detail, reason) in [
        (1, "pika.exceptions.ProbableAuthenticationError: (403)", Reason::AuthenticationFailed),
        (1, "NOT_ALLOWED - access to vhost '/pubsub' refused", Reason::VhostRefused),
        (1, "ssl.SSLError: [SSL] certificate verify failed", Reason::TlsFailed),
        (1, "ModuleNotFoundError: No module named 'x'", Reason::PodFailed),
        (2, "Error: Unable to validate message: ...", Reason::InvalidMessage),
        (111, "Unable to connect to the message broker: ...", Reason::BrokerUnreachable),
        (111, "PRECONDITION_FAILED - message size 9 is larger", Reason::MessageTooLarge),
        (121, "PRECONDITION_FAILED - message size 9 is larger", Reason::MessageTooLarge),
        (121, "ACCESS_REFUSED - access to topic 'x'", Reason::TopicForbidden),
        (121, "NOT_FOUND - no exchange 'x'", Reason::ExchangeNotFound),
        (121, "ACCESS_REFUSED - access to exchange 'x'", Reason::ExchangeNotFound),
        (121, "ACCESS_REFUSED - cannot publish to internal exchange 'x'", Reason::ExchangeNotFound),
        (121, "ACCESS_REFUSED - access to topic 'x' refused for user 'y', backend z", Reason::BrokerUnreachable),
        (121, "The message was NACKed", Reason::Nacked),
        (121, "NACK", Reason::Nacked),
        (126, "exec format error", Reason::PodFailed),
    ] {
        assert_eq!(failure(&ended(code, "Error", detail)).0, reason, "{code} {detail}");
    }
}

#[test]
fn describes_a_failure_of_the_cli() {
    let (_, detail) = failure(&ended(111, "Error", "Traceback:\n  File\nConnection refused\n\n"));
    assert_eq!(
        detail,
        "Pod apps/p ended with exit code 111 (Connection refused): check that the broker runs, its URL, and the network between it and the Pod"
    );
    let (_, detail) = failure(&ended(7, "Error", ""));
    assert_eq!(detail, "Pod apps/p ended with exit code 7 (no output): see its log with kubectl logs");
    let (_, detail) = failure(&ended(3, "Error", &("\u{1b}[31m\u{202e}".to_owned() + &"x".repeat(10_000))));
    assert!(detail.chars().count() < 600 && !detail.contains(['\u{1b}', '\u{202e}']), "{detail}");
}

#[test]
fn describes_a_pod_that_kubernetes_ended() {
    let killed = container(&json!({"terminated": {"exitCode": 137, "reason": "Error"}}));
    for (reason, what) in [
        ("Evicted", "was evicted from its node"),
        ("DeadlineExceeded", "took too long and was ended"),
        ("NodeLost", "was ended"),
    ] {
        let status =
            json!({"phase": "Failed", "reason": reason, "message": "it says why.", "containerStatuses": [killed]});
        let detail =
            format!("Pod apps/p {what} ({reason}: it says why): another Pod sends the message again with the same id");
        assert_eq!(failure(&pod(&status)), (Reason::PodFailed, detail));
    }
    let (reason, detail) = failure(&ended(137, "OOMKilled", ""));
    assert_eq!(reason, Reason::PodFailed);
    assert!(detail.contains("more memory than its limit"), "{detail}");
}

#[test]
fn describes_a_pod_that_does_not_start() {
    let waiting = |reason: &str, message: &str| {
        pod(&json!({"phase": "Pending", "containerStatuses": [
            container(&json!({"waiting": {"reason": reason, "message": message}}))
        ]}))
    };
    let unscheduled = pod(&json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    ]}));
    let unseen = pod(&Value::Null);
    for (pod, detail) in [
        (waiting("ErrImagePull", "not found"), "its image cli:1 can't be pulled (ErrImagePull: not found): check"),
        (waiting("InvalidImageName", ""), "its image cli:1 can't be pulled (InvalidImageName: ): check"),
        (waiting("ContainerCreating", ""), "its volumes or its network are not ready (ContainerCreating): check"),
        (waiting("CreateContainerError", "x"), "its container can't be started (CreateContainerError: x)"),
        (unscheduled, "it can't be scheduled (0/3 nodes are available): check"),
        (pod(&json!({"phase": "Pending"})), "it is not scheduled yet"),
        (unseen, "it has no status yet"),
    ] {
        let state = look(&pod);
        assert!(matches!(state, PodState::Starting(_)), "{detail}: {state:?}");
        let outcome = late(&pod, 60, &state);
        assert_eq!(outcome.reason, Reason::PodFailed);
        let begin = format!("Pod apps/p did not run within 60 s: {detail}");
        assert!(outcome.message.starts_with(&begin), "{}", outcome.message);
    }
}

#[test]
fn describes_a_deleted_pod() {
    let outcome = vanished(&pod(&Value::Null));
    assert_eq!(outcome.reason, Reason::PodFailed);
    assert_eq!(
        outcome.message,
        "Pod apps/p was deleted before it reported a result: another Pod sends the message again with the same id"
    );
}

/// Somebody deletes the Pod, or its deadline passes. The Pod's own status gives the reason a moment later.
#[test]
fn waits_for_the_pods_reason_after_a_kill() {
    let killed = container(&json!({"terminated": {"exitCode": 143, "reason": "Error"}}));
    assert_eq!(look(&pod(&json!({"phase": "Running", "containerStatuses": [killed]}))), PodState::Running);
}

#[test]
fn ignores_other_containers() {
    let mut other = container(&json!({"terminated": {"exitCode": 0}}));
    other["name"] = json!("sidecar");
    let publish = container(&json!({"running": {}}));
    assert_eq!(look(&pod(&json!({"phase": "Running", "containerStatuses": [other, publish]}))), PodState::Running);
}

/// Returns the planned Pod of an attempt, as the API server stores it, with this change of its JSON.
fn stored(attempt: u32, change: impl Fn(&mut Value)) -> Pod {
    let mut pod = serde_json::to_value(planned(&example(), &settings(), attempt).unwrap()).unwrap();
    let container = &mut pod["spec"]["containers"][0];
    container["terminationMessagePath"] = "/dev/termination-log".into();
    container["resources"]["requests"] = json!({"memory": "128Mi"});
    container["securityContext"]["runAsUser"] = 1_000_680_000.into();
    pod["metadata"]["annotations"]["openshift.io/scc"] = "restricted-v2".into();
    pod["spec"]["tolerations"] = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]);
    pod["spec"]["serviceAccountName"] = "default".into();
    change(&mut pod);
    serde_json::from_value(pod).unwrap()
}

/// Returns a change that sets one value of a Pod, and ends its container with this exit code.
fn set_and_end(pointer: &'static str, value: Value, exit_code: Option<i32>) -> impl Fn(&mut Value) {
    move |pod| {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match pod.pointer_mut(parent).unwrap() {
            Value::Array(list) => list.push(value.clone()),
            object => object[key.replace("~1", "/")] = value.clone(),
        }
        if let Some(code) = exit_code {
            pod["status"] = serde_json::to_value(ended(code, "", "").status).unwrap();
        }
    }
}

#[test]
fn planned_pod_counts() {
    let plan = planned(&example(), &settings(), 1).unwrap();
    let same = |exit_code| stored(1, set_and_end("/metadata/uid", "1".into(), exit_code));
    assert_eq!(judge(&same(None), &plan, 0), Finding::Unfinished);
    assert_eq!(judge(&same(Some(0)), &plan, 0), Finding::Sent);
    assert_eq!(judge(&same(Some(0)), &plan, 3), Finding::Sent, "also if the attempt was recorded as a failure");
    assert!(matches!(judge(&same(Some(111)), &plan, 0), Finding::Failed(_)));
    assert_eq!(judge(&same(Some(111)), &plan, 1), Finding::Old);
}

/// A user who may create Pods in the namespace knows the uid, the name and the plan.
#[test]
fn other_pod_proves_nothing() {
    let plan = planned(&example(), &settings(), 1).unwrap();
    let secret = json!({"name": "other", "secret": {"secretName": "other"}});
    let sidecar = json!({"name": "sidecar", "image": "other"});
    for (pointer, value) in [
        ("/spec/containers/0/image", "other".into()),
        ("/spec/containers/0/command", json!(["true"])),
        ("/spec/containers/0/args", json!(["--help"])),
        ("/spec/containers/0/env", json!([{"name": "PYTHONPATH", "value": "/other"}])),
        ("/spec/containers/0/lifecycle", json!({"postStart": {"exec": {"command": ["true"]}}})),
        ("/spec/containers/-", sidecar.clone()),
        ("/spec/initContainers", json!([sidecar])),
        ("/spec/ephemeralContainers", json!([sidecar])),
        ("/spec/volumes/-", secret),
        ("/metadata/annotations/apps.fedoraproject.org~1message", "".into()),
        ("/metadata/annotations/apps.fedoraproject.org~1config", "".into()),
    ] {
        for exit_code in [None, Some(0), Some(2)] {
            let pod = stored(1, set_and_end(pointer, value.clone(), exit_code));
            assert!(!does_same(&plan, &pod), "{pointer}");
            assert!(matches!(judge(&pod, &plan, 0), Finding::Altered(_)), "{pointer} {exit_code:?}");
            let is_old = judge(&pod, &plan, 1) == Finding::Old;
            assert_eq!(is_old, exit_code.is_some(), "{pointer} {exit_code:?}");
        }
    }
}

/// With another CA, the Pod may have sent the message to another broker.
#[test]
fn pod_with_another_ca_proves_nothing() {
    let planned = |ca: &str| planned_as(&minimal(), &sender_without_ca(), Some(ca)).unwrap();
    let plan = planned("a CA");
    assert!(does_same(&plan, &planned("a CA")));
    let mut other = planned("another CA");
    assert!(!does_same(&plan, &other));
    other.status = ended(0, "", "").status;
    assert!(matches!(judge(&other, &plan, 0), Finding::Altered(_)));

    let mut without = planned("a CA");
    without.metadata.annotations.as_mut().unwrap().remove("apps.fedoraproject.org/ca");
    assert!(!does_same(&plan, &without));
}

#[test]
fn pod_of_another_name_is_foreign() {
    let plan = planned(&example(), &settings(), 1).unwrap();
    for (pointer, value) in [
        ("/metadata/name", "other".into()),
        ("/metadata/name", format!("fedora-message-{UID}-2").into()),
        ("/metadata/labels", json!({})),
        ("/metadata/annotations", json!({"apps.fedoraproject.org/attempt": "4294967296"})),
    ] {
        let pod = stored(1, set_and_end(pointer, value, Some(0)));
        assert_eq!(judge(&pod, &plan, 0), Finding::Foreign, "{pointer}");
    }
}
