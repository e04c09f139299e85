//! A Sender is valid, or its wrong field is named. Messages of other namespaces learn nothing about it.

use std::sync::Arc;

use kube::Resource;
use kube::core::ObjectList;
use serde_json::{Map, Value, json};

use crate::api::names::{SenderName, SourceName};
use crate::api::sender::FedoraMessageSender;
use crate::api::v1alpha1::{Environment, Severity};
use crate::fixture::{example_sender, set, valid_sender};
use crate::message::authentication::{Authentication, ClientKeys, SourceKey};
use crate::message::invalid::InvalidMessage;
use crate::message::sender::{Application, FoundSender, Sender, usable};
use crate::policy::outcome::{Failure, Reason};

fn decode(object: &Value) -> FedoraMessageSender {
    serde_json::from_value(object.clone()).unwrap()
}

fn with(pointer: &str, value: Value) -> Value {
    set(example_sender(), pointer, value)
}

fn without(field: &str) -> Value {
    let mut object = example_sender();
    object["spec"].as_object_mut().unwrap().remove(field).unwrap();
    object
}

/// Returns the error of a Sender, or "" if it is valid.
fn refusal(object: &Value) -> String {
    Sender::new(&decode(object)).err().map(|error| error.to_string()).unwrap_or_default()
}

fn secret_key(name: &str, key: &str) -> SourceKey {
    SourceKey { source: SourceName::secret("apps", name), key: key.to_owned() }
}

#[test]
fn reads_the_example() {
    let sender = valid_sender(&example_sender());
    assert_eq!(sender.name, SenderName::new("apps", "default"));
    assert_eq!(sender.environment, Environment::Prod);
    assert_eq!(sender.topic_prefix.as_deref(), Some("org.example.prod"));
    assert_eq!(
        *sender.application,
        Application {
            name: "nice-app".to_owned(),
            version: Some("2.1".to_owned()),
            url: Some("https://nice.example.org".to_owned()),
            contacts: vec!["admin@example.org".to_owned(), "team@example.org".to_owned()],
            is_declared: true,
        }
    );
    let ca = SourceKey { source: SourceName::config_map("apps", "fedora-ca"), key: "cacert.pem".to_owned() };
    let client =
        ClientKeys::Two { cert: secret_key("nice-cert", "nice-cert.pem"), key: secret_key("nice-key", "nice-key.pem") };
    assert_eq!(sender.authentication, Authentication { client, ca: Some(ca) });
    assert_eq!((sender.severity, sender.priority), (None, None));
    assert_eq!(sender.fields.environment, Some(Environment::Prod));
    assert_eq!(sender.fields.ttl_seconds_after_finished, Some(604_800));
    assert_eq!((sender.fields.active_deadline_seconds, sender.fields.backoff_limit), (None, None));
    assert_eq!(sender.fields.sources, sender.authentication.sources().cloned().collect::<Vec<_>>());
}

#[test]
fn reads_all_defaults() {
    let defaults = json!({
        "severity": "Debug", "priority": 0, "activeDeadlineSeconds": 60, "backoffLimit": 0,
        "ttlSecondsAfterFinished": 0,
    });
    let sender = valid_sender(&with("/spec/defaults", defaults));
    assert_eq!((sender.severity, sender.priority), (Some(Severity::Debug), Some(0)));
    assert_eq!(sender.fields.active_deadline_seconds, Some(60));
    assert_eq!((sender.fields.backoff_limit, sender.fields.ttl_seconds_after_finished), (Some(0), Some(0)));
}

/// An unset prefix is the operator's, and an empty one is none.
#[test]
fn keeps_the_topic_prefix() {
    assert_eq!(valid_sender(&without("topicPrefix")).topic_prefix, None);
    for (value, expected) in [
        (json!(null), None),
        (json!(""), Some("")),
        (json!("org.release-monitoring.prod"), Some("org.release-monitoring.prod")),
        (json!("org"), Some("org")),
    ] {
        let sender = valid_sender(&with("/spec/topicPrefix", value.clone()));
        assert_eq!(sender.topic_prefix.as_deref(), expected, "{value}");
    }
}

#[test]
fn application_defaults_to_the_senders_name() {
    let unnamed = valid_sender(&without("application"));
    assert_eq!(*unnamed.application, Application::named("apps/default".to_owned()));
}

#[test]
fn allows_exact_namespaces() {
    for (allowed, namespace, expected) in [
        (json!([]), "apps", true),
        (json!([]), "jobs", false),
        (json!(null), "apps", true),
        (json!(["jobs"]), "jobs", true),
        (json!(["jobs"]), "apps", true),
        (json!(["other", "jobs"]), "jobs", true),
        (json!(["jobs"]), "jobs2", false),
        (json!(["jobs"]), "job", false),
        (json!(["jobs"]), "", false),
        (json!(["*"]), "jobs", true),
        (json!(["other", "*"]), "jobs", true),
    ] {
        let mut object = without("allowedNamespaces");
        if !allowed.is_null() {
            object = set(object, "/spec/allowedNamespaces", allowed.clone());
        }
        assert_eq!(valid_sender(&object).allows(namespace), expected, "{namespace:?} in {allowed}");
    }
}

#[test]
fn allowed_namespace_finds_the_sender() {
    let found: FoundSender = Ok(Arc::new(valid_sender(&example_sender())));
    for namespace in ["apps", "nice-jobs"] {
        let sender = usable(&SenderName::new("apps", "default"), namespace, Some(&found)).unwrap();
        assert_eq!(sender.name, SenderName::new("apps", "default"));
    }
}

/// A user who may only create messages must not learn which Senders exist in other namespaces.
#[test]
fn reports_denied_like_absent() {
    let denied: FoundSender = Ok(Arc::new(valid_sender(&example_sender())));
    let wrong: FoundSender = Err(InvalidMessage("spec.env is missing".to_owned()));
    for found in [None, Some(&denied), Some(&wrong)] {
        let error = usable(&SenderName::new("apps", "default"), "jobs", found).unwrap_err();
        assert_eq!(
            error.to_string(),
            "FedoraMessageSender apps/default does not exist, or does not allow namespace jobs to use it: create it, or let its owner add jobs to its spec.allowedNamespaces"
        );
        assert_eq!(error.reason(), Reason::SenderNotFound);
    }
}

#[test]
fn reports_absence_in_the_same_namespace() {
    let error = usable(&SenderName::new("apps", "nightly"), "apps", None).unwrap_err();
    assert_eq!(error.to_string(), "FedoraMessageSender apps/nightly does not exist: create it");
    assert_eq!(error.reason(), Reason::SenderNotFound);
}

#[test]
fn reports_a_wrong_sender_to_its_namespace() {
    let wrong: FoundSender = Sender::new(&decode(&without("env"))).map(Arc::new);
    let error = usable(&SenderName::new("apps", "default"), "apps", Some(&wrong)).unwrap_err();
    assert_eq!(error.to_string(), "FedoraMessageSender apps/default can't be used: spec.env is missing");
    assert_eq!(error.reason(), Reason::Misconfigured);
}

#[test]
fn names_wrong_fields() {
    let long = |field: &str| format!("spec.application.{field} has 256 bytes in UTF-8, but must have at most 255");
    let many: Vec<_> = (0..11).map(|number| format!("{number}@example.org")).collect();
    for (pointer, value, expected) in [
        ("/spec", json!(null), "spec is missing: add env and authentication".to_owned()),
        ("/spec", json!("prod"), r#"spec is "prod", but must be an object"#.to_owned()),
        ("/spec/env", json!("dev"), r#"spec.env is "dev", but must be prod or stg"#.to_owned()),
        (
            "/spec/topicPrefix",
            json!("a."),
            r#"spec.topicPrefix "a." must be words separated by single dots"#.to_owned(),
        ),
        ("/spec/topicPrefix", json!("."), r#"spec.topicPrefix "." must be words separated by single dots"#.to_owned()),
        (
            "/spec/topicPrefix",
            json!("a.#"),
            r#"spec.topicPrefix "a.#" must not contain * or #, which are wildcards for subscriptions"#.to_owned(),
        ),
        (
            "/spec/topicPrefix",
            json!("a b"),
            r#"spec.topicPrefix "a b" must not contain white space or control characters"#.to_owned(),
        ),
        (
            "/spec/allowedNamespaces",
            json!(["jobs", "job*"]),
            r#"spec.allowedNamespaces has "job*", but may have only names of namespaces, and * for all"#.to_owned(),
        ),
        (
            "/spec/allowedNamespaces",
            json!([""]),
            r#"spec.allowedNamespaces has "", but may have only names of namespaces, and * for all"#.to_owned(),
        ),
        (
            "/spec/defaults/severity",
            json!("Fatal"),
            r#"spec.defaults.severity is "Fatal", but must be one of Debug, Info, Warning, Error"#.to_owned(),
        ),
        (
            "/spec/defaults/priority",
            json!(256),
            "spec.defaults.priority is 256, but must be an integer from 0 to 255".to_owned(),
        ),
        ("/spec/application", json!({}), "spec.application.name is missing".to_owned()),
        ("/spec/application/name", json!(""), "spec.application.name must not be empty".to_owned()),
        ("/spec/application/name", json!("é".repeat(128)), long("name")),
        ("/spec/application/version", json!("1".repeat(256)), long("version")),
        ("/spec/application/url", json!("u".repeat(256)), long("url")),
        ("/spec/application/contacts", json!(["c".repeat(256)]), long("contacts")),
        ("/spec/application/contacts", json!([""]), "spec.application.contacts must not be empty".to_owned()),
        (
            "/spec/application/contacts",
            json!(many),
            "spec.application.contacts has 11 addresses, but may have at most 10".to_owned(),
        ),
        (
            "/spec/application/version",
            json!("2\u{7f}"),
            r#"spec.application.version "2\u{7f}" must not contain control characters"#.to_owned(),
        ),
    ] {
        assert_eq!(refusal(&with(pointer, value.clone())), expected, "{pointer} = {value}");
    }
    for field in ["env", "authentication"] {
        assert_eq!(refusal(&without(field)), format!("spec.{field} is missing"));
    }
}

#[test]
fn explains_its_own_fields() {
    assert_eq!(
        refusal(&with("/spec/env", json!(["prod"]))),
        "spec.env must be a string: see kubectl explain fmsender.spec.env"
    );
}

#[test]
fn needs_one_certificate_location() {
    const REFERENCES: [&str; 5] = ["secretRef", "certSecretRef", "keySecretRef", "caSecretRef", "caConfigMapRef"];
    let mut accepted = Vec::new();
    for combination in 0..32_usize {
        let named = REFERENCES.iter().enumerate().filter(|(bit, _)| combination & (1 << bit) != 0);
        let reference = |field: &str| match field {
            "secretRef" => json!({"name": "certs"}),
            _ => json!({"name": "certs", "key": "one"}),
        };
        let authentication: Map<_, _> = named.map(|(_, field)| ((*field).to_owned(), reference(field))).collect();
        let detail = refusal(&with("/spec/authentication", authentication.clone().into()));
        if detail.is_empty() {
            accepted.push(combination);
        } else {
            let has_client = matches!(combination % 8, 0b001 | 0b110);
            let expected = if has_client {
                "spec.authentication must name the CA in at most one way: caSecretRef or caConfigMapRef"
            } else {
                "spec.authentication must name the certificate in exactly one way: secretRef, or both of certSecretRef and keySecretRef"
            };
            assert_eq!(detail, expected, "{authentication:?}");
        }
    }
    // Each form of the certificate: without a CA, with a Secret for it, and with a ConfigMap.
    assert_eq!(accepted, [0b00001, 0b00110, 0b01001, 0b01110, 0b10001, 0b10110]);
}

#[test]
fn names_wrong_references() {
    let object_name = |field: &str, kind: &str, shown: &str| {
        format!(
            "spec.authentication.{field}.name is {shown:?}, but must be the name of a {kind}: at most 253 lower case letters, digits, dashes and dots"
        )
    };
    let data_key = |field: &str, kind: &str, shown: &str| {
        format!(
            "spec.authentication.{field}.key is {shown:?}, but must be a key of a {kind}: at most 253 letters, digits, dashes, dots and underscores"
        )
    };
    for (field, kind) in [("certSecretRef", "Secret"), ("keySecretRef", "Secret"), ("caConfigMapRef", "ConfigMap")] {
        for bad in ["", "../x", "a/b", "A", "é"] {
            let object = with(&format!("/spec/authentication/{field}/name"), bad.into());
            assert_eq!(refusal(&object), object_name(field, kind, bad));
        }
        for bad in ["", "a/b", "a b", "é"] {
            let object = with(&format!("/spec/authentication/{field}/key"), bad.into());
            assert_eq!(refusal(&object), data_key(field, kind, bad));
        }
    }
    let one = |name: &str| with("/spec/authentication", json!({"secretRef": {"name": name}}));
    assert_eq!(refusal(&one("a/b")), object_name("secretRef", "Secret", "a/b"));
    assert_eq!(refusal(&one("certs")), "");
}

/// A Sender can't reach a Secret of another namespace, whatever its manifest says.
#[test]
fn sources_are_in_its_namespace() {
    let mut object = example_sender();
    for field in ["certSecretRef", "keySecretRef", "caConfigMapRef"] {
        object = set(object, &format!("/spec/authentication/{field}/namespace"), "other".into());
    }
    assert!(valid_sender(&object).authentication.sources().all(|source| source.namespace == "apps"));
}

#[test]
fn wrong_sender_does_not_stop_a_list() {
    let list = json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessageSenderList",
        "metadata": {"resourceVersion": "9"},
        "items": [with("/spec/env", "dev".into()), with("/spec", json!([])), with("/status", json!("Ready")), example_sender()],
    });
    let list: ObjectList<FedoraMessageSender> = serde_json::from_str(&list.to_string()).unwrap();
    let valid: Vec<_> = list.items.iter().map(|item| item.spec.is_ok()).collect();
    assert_eq!(valid, [false, false, true, true]);
    assert!(list.items[2].status.conditions.is_empty());
}

#[test]
fn keeps_the_status() {
    let status = json!({
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Ready", "message": "text",
            "observedGeneration": 1, "lastTransitionTime": "2019-07-30T19:12:22Z",
        }],
        "observedGeneration": 1, "user": "nice-app", "broker": "rabbitmq.example.org:5671",
        "certificateExpirationTime": "2027-01-02T03:04:05Z",
    });
    assert_eq!(serde_json::to_value(decode(&with("/status", status.clone())).status).unwrap(), status);
}

#[test]
fn names_unknown_fields_of_manifests() {
    let object = set(with("/spec/allowedNamespace", "jobs".into()), "/spec/authentication/caSecret", json!({}));
    let metadata = serde_json::from_value(object["metadata"].clone()).unwrap();
    let (sender, unknown) = FedoraMessageSender::from_manifest(metadata, Some(object["spec"].clone()));
    assert!(sender.spec.is_ok());
    assert_eq!(unknown, ["spec.allowedNamespace", "spec.authentication.caSecret"]);
}

#[test]
fn has_its_api_path() {
    assert_eq!(
        FedoraMessageSender::url_path(&(), Some("apps")),
        "/apis/apps.fedoraproject.org/v1alpha1/namespaces/apps/fedoramessagesenders"
    );
    assert_eq!(FedoraMessageSender::kind(&()), "FedoraMessageSender");
}

/// Messages share a connection if the texts are the same, so other texts need another connection. Those
/// of one certificate that nobody declares share one.
#[test]
fn texts_tell_applications_apart() {
    let application = |version: Option<&str>, url: Option<&str>, contacts: &[&str]| Application {
        name: "app".to_owned(),
        version: version.map(str::to_owned),
        url: url.map(str::to_owned),
        contacts: contacts.iter().map(|contact| (*contact).to_owned()).collect(),
        is_declared: true,
    };
    let all = [
        application(None, None, &[]),
        application(Some("a"), None, &[]),
        application(None, Some("a"), &[]),
        application(None, None, &["a"]),
        application(Some("a"), Some("b"), &[]),
        application(Some("b"), Some("a"), &[]),
        application(None, None, &["version", "a"]),
        application(None, None, &["a", "b"]),
        application(None, None, &["b", "a"]),
        Application::named("other".to_owned()),
    ];
    for (index, one) in all.iter().enumerate() {
        for (other_index, other) in all.iter().enumerate() {
            assert_eq!(one.texts().eq(other.texts()), index == other_index, "{one:?} and {other:?}");
        }
    }
    let undeclared = ["apps/certs", "apps/other"].map(|name| Application::named(name.to_owned()));
    assert!(undeclared[0].texts().eq(undeclared[1].texts()));
}
