//! Messages that are sent as a Sender.

use serde_json::{Value, json};

use crate::api::names::SenderName;
use crate::api::v1alpha1::{Environment, Severity};
use crate::fixture::{example, example_sender, message, minimal, plain_routing, set, valid_sender, with};
use crate::message::envelope::Routing;
use crate::message::invalid::PrepareError;
use crate::message::outgoing::OutgoingMessage;
use crate::message::sender::{Sender, SenderError};
use crate::message::validate::validate;
use crate::policy::outcome::{Failure, Reason};

/// Fedora's prefixes.
fn fedora_routing() -> Routing {
    Routing {
        prod_topic_prefix: "org.fedoraproject.prod".to_owned(),
        stg_topic_prefix: "org.fedoraproject.stg".to_owned(),
        ..plain_routing()
    }
}

fn sent_as(object: &Value, sender: &Sender, routing: &Routing) -> Result<OutgoingMessage, PrepareError> {
    validate(&message(object), Some(Ok(sender)), routing)
}

/// Returns the error of a message, which must have this reason.
fn refusal(object: &Value, sender: Option<Result<&Sender, SenderError>>, reason: Reason) -> String {
    let error = validate(&message(object), sender, &fedora_routing()).unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    error.to_string()
}

/// Returns the example Sender with this prefix.
fn with_prefix(prefix: Option<&str>) -> Sender {
    valid_sender(&set(example_sender(), "/spec/topicPrefix", json!(prefix)))
}

fn of_topic(topic: &str) -> Value {
    set(minimal(), "/spec/message/topic", topic.into())
}

#[test]
fn takes_all_from_the_sender() {
    let default = valid_sender(&example_sender());
    let valid = sent_as(&minimal(), &default, &fedora_routing()).unwrap();
    assert_eq!(valid.environment, Environment::Prod);
    assert_eq!(valid.routing_key, "org.example.prod.nice.message");
    assert_eq!(valid.authentication, default.authentication);
    assert_eq!(valid.application.name, "nice-app");
    assert_eq!((valid.severity, valid.priority), (None, 0));
    assert_eq!(valid.owner, "apps");
}

/// The Sender's Secrets are used on behalf of the Sender's namespace.
#[test]
fn senders_namespace_is_the_owner() {
    let object = set(minimal(), "/metadata/namespace", "nice-jobs".into());
    let object = set(object, "/spec/senderRef", json!({"name": "default", "namespace": "apps"}));
    let valid = sent_as(&object, &valid_sender(&example_sender()), &plain_routing()).unwrap();
    assert_eq!(valid.owner, "apps");
    assert!(valid.authentication.sources().all(|source| source.namespace == "apps"));
}

#[test]
fn environments_must_agree() {
    for (own, of_sender, expected) in [
        (json!(null), "stg", Ok(Environment::Stg)),
        (json!("stg"), "stg", Ok(Environment::Stg)),
        (json!("prod"), "prod", Ok(Environment::Prod)),
        (
            json!("stg"),
            "prod",
            Err(
                "spec.env is stg, but FedoraMessageSender apps/default sends to prod: create another FedoraMessage without spec.env, or with another Sender",
            ),
        ),
        (
            json!("prod"),
            "stg",
            Err(
                "spec.env is prod, but FedoraMessageSender apps/default sends to stg: create another FedoraMessage without spec.env, or with another Sender",
            ),
        ),
    ] {
        let sender = valid_sender(&set(example_sender(), "/spec/env", of_sender.into()));
        let object = set(minimal(), "/spec/env", own.clone());
        let result = sent_as(&object, &sender, &plain_routing()).map(|valid| valid.environment);
        let invalid = result.as_ref().err().map(Failure::reason);
        assert!(invalid.is_none_or(|reason| reason == Reason::InvalidMessage), "{invalid:?}");
        assert_eq!(result.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{own} as {of_sender}");
    }
}

#[test]
fn own_values_go_before_the_senders() {
    for (own, of_sender, expected) in [
        (json!({}), json!({}), (None, 0)),
        (json!({}), json!({"severity": "Warning", "priority": 7}), (Some(Severity::Warning), 7)),
        (json!({"severity": "Debug"}), json!({"severity": "Warning", "priority": 7}), (Some(Severity::Debug), 7)),
        (json!({"priority": 0}), json!({"severity": "Warning", "priority": 7}), (Some(Severity::Warning), 0)),
        (json!({"severity": "Error", "priority": 255}), json!({}), (Some(Severity::Error), 255)),
    ] {
        let mut object = minimal();
        for (field, value) in own.as_object().unwrap() {
            object = set(object, &format!("/spec/message/{field}"), value.clone());
        }
        let sender = valid_sender(&set(example_sender(), "/spec/defaults", of_sender.clone()));
        let valid = sent_as(&object, &sender, &plain_routing()).unwrap();
        assert_eq!((valid.severity, valid.priority), expected, "{own} as {of_sender}");
    }
}

#[test]
fn chooses_the_prefix() {
    let stg = set(example_sender(), "/spec/env", "stg".into());
    let unset = valid_sender(&set(stg, "/spec/topicPrefix", json!(null)));
    for (sender, routing, expected) in [
        (
            with_prefix(Some("org.release-monitoring.prod")),
            fedora_routing(),
            "org.release-monitoring.prod.nice.message",
        ),
        (with_prefix(Some("org.release-monitoring.prod")), plain_routing(), "org.release-monitoring.prod.nice.message"),
        (with_prefix(Some("")), fedora_routing(), "nice.message"),
        (with_prefix(None), fedora_routing(), "org.fedoraproject.prod.nice.message"),
        (with_prefix(None), plain_routing(), "nice.message"),
        (unset, fedora_routing(), "org.fedoraproject.stg.nice.message"),
    ] {
        assert_eq!(sent_as(&minimal(), &sender, &routing).unwrap().routing_key, expected);
    }
}

#[test]
fn refuses_a_topic_with_its_prefix() {
    for (prefix, topic, shown_prefix, right) in [
        (None, "org.fedoraproject.prod.nice.message", "org.fedoraproject.prod", "nice.message"),
        (Some("org.example.prod"), "org.example.prod.nice", "org.example.prod", "nice"),
        // The right topic would be refused too, if the prefix were there three times.
        (Some("a"), "a.a.b", "a", "a.b"),
    ] {
        let detail = refusal(&of_topic(topic), Some(Ok(&with_prefix(prefix))), Reason::InvalidMessage);
        assert_eq!(
            detail,
            format!(
                "spec.message.topic {topic:?} already begins with the prefix {shown_prefix:?}, which the operator adds: create another FedoraMessage with the topic {right:?}"
            )
        );
    }
    let without_sender = with("/spec/message/topic", "org.fedoraproject.prod.nice.message".into());
    let detail = refusal(&without_sender, None, Reason::InvalidMessage);
    assert!(detail.ends_with(r#"create another FedoraMessage with the topic "nice.message""#), "{detail}");
}

#[test]
fn refuses_the_prefix_of_the_other_environment() {
    let detail = |topic: &str, right: &str| {
        format!(
            "spec.message.topic {topic:?} begins with the prefix of stg, but the message is for prod: create another FedoraMessage with the topic {right:?}"
        )
    };
    for (prefix, right) in [
        (None, "nice.message"),
        (Some("org.example.prod"), "nice.message"),
        // Nobody adds a prefix here.
        (Some(""), "org.fedoraproject.prod.nice.message"),
    ] {
        let topic = "org.fedoraproject.stg.nice.message";
        let found = refusal(&of_topic(topic), Some(Ok(&with_prefix(prefix))), Reason::InvalidMessage);
        assert_eq!(found, detail(topic, right), "{prefix:?}");
    }
}

#[test]
fn accepts_topics_that_only_resemble_a_prefix() {
    for (prefix, topic, expected) in [
        (None, "org.fedoraproject.production.x", "org.fedoraproject.prod.org.fedoraproject.production.x"),
        (None, "org.fedoraproject.staging.x", "org.fedoraproject.prod.org.fedoraproject.staging.x"),
        (None, "org.fedoraproject.prod", "org.fedoraproject.prod.org.fedoraproject.prod"),
        (None, "org.fedoraproject", "org.fedoraproject.prod.org.fedoraproject"),
        (None, "nice.org.fedoraproject.prod.x", "org.fedoraproject.prod.nice.org.fedoraproject.prod.x"),
        (Some(""), "org.fedoraproject.prod.nice", "org.fedoraproject.prod.nice"),
        (Some("org.example.prod"), "org.example.production.x", "org.example.prod.org.example.production.x"),
    ] {
        let valid = sent_as(&of_topic(topic), &with_prefix(prefix), &fedora_routing());
        assert_eq!(valid.map(|valid| valid.routing_key).map_err(|error| error.to_string()), Ok(expected.to_owned()));
    }
}

/// An empty prefix begins every topic, so it can't be what tells environments apart.
#[test]
fn accepts_any_topic_without_prefixes() {
    let staging = Routing { stg_topic_prefix: "org.fedoraproject.stg".to_owned(), ..plain_routing() };
    let same = Routing {
        prod_topic_prefix: "org.example".to_owned(),
        stg_topic_prefix: "org.example".to_owned(),
        ..plain_routing()
    };
    for (routing, prefix, topic) in [
        (plain_routing(), None, "org.fedoraproject.stg.x"),
        (staging, None, "nice.x"),
        (same, Some(""), "org.example.x"),
    ] {
        let valid = sent_as(&of_topic(topic), &with_prefix(prefix), &routing).map_err(|error| error.to_string());
        assert_eq!(valid.map(|valid| valid.routing_key), Ok(topic.to_owned()));
    }
}

/// With one prefix inside the other, a topic with the right one is right.
#[test]
fn accepts_the_longer_of_nested_prefixes() {
    let nested = Routing { stg_topic_prefix: "org.fedoraproject".to_owned(), ..fedora_routing() };
    let valid = sent_as(&of_topic("org.fedoraproject.prod.nice"), &with_prefix(Some("")), &nested);
    let key = valid.map(|valid| valid.routing_key).map_err(|error| error.to_string());
    assert_eq!(key, Ok("org.fedoraproject.prod.nice".to_owned()));
}

#[test]
fn certificate_excludes_a_sender() {
    let object = with("/spec/senderRef", json!({"name": "default"}));
    let sender = valid_sender(&example_sender());
    for sender in [None, Some(Ok(&sender))] {
        assert_eq!(
            refusal(&object, sender, Reason::InvalidMessage),
            "spec.authentication and spec.senderRef exclude each other: remove one of them"
        );
    }
}

#[test]
fn certificate_needs_an_environment() {
    let object = with("/spec/env", json!(null));
    assert_eq!(
        refusal(&object, None, Reason::InvalidMessage),
        "spec.env is missing: add prod or stg, which spec.authentication needs"
    );
}

#[test]
fn operator_can_require_a_sender() {
    let routing = Routing { require_sender: true, ..plain_routing() };
    let error = validate(&message(&example()), None, &routing).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidMessage);
    assert_eq!(
        error.to_string(),
        "spec.authentication is not allowed, because the operator requires a FedoraMessageSender: create another FedoraMessage with spec.senderRef, or without it for the Sender default"
    );
    assert!(sent_as(&minimal(), &valid_sender(&example_sender()), &routing).is_ok());
}

#[test]
fn names_the_missing_sender() {
    let reference = |reference: Value| set(minimal(), "/spec/senderRef", reference);
    let no_default = "namespace apps has no FedoraMessageSender default, and the message names neither spec.senderRef nor spec.authentication: create the Sender, or another FedoraMessage that names one";
    let absent = "FedoraMessageSender apps/default does not exist: create it";
    let denied = "FedoraMessageSender infra/default does not exist, or does not allow namespace apps to use it: create it, or let its owner add apps to its spec.allowedNamespaces";
    for (object, sender, expected) in [
        (minimal(), None, no_default),
        (minimal(), Some(SenderError::absent(&SenderName::new("apps", "default"), "apps")), no_default),
        (
            reference(json!({"name": "default"})),
            Some(SenderError::absent(&SenderName::new("apps", "default"), "apps")),
            absent,
        ),
        (
            reference(json!({"name": "default", "namespace": "infra"})),
            Some(SenderError::absent(&SenderName::new("infra", "default"), "apps")),
            denied,
        ),
    ] {
        assert_eq!(refusal(&object, sender.map(Err), Reason::SenderNotFound), expected);
    }
}

#[test]
fn passes_on_what_is_wrong_with_the_sender() {
    let sender = SenderName::new("apps", "default");
    let wrong = SenderError::Invalid { sender: sender.clone(), detail: "spec.env is missing".to_owned() };
    assert_eq!(
        refusal(&minimal(), Some(Err(wrong)), Reason::Misconfigured),
        "FedoraMessageSender apps/default can't be used: spec.env is missing"
    );
    let unreadable = SenderError::Unreadable { sender, detail: "no permission".to_owned() };
    assert_eq!(
        refusal(&minimal(), Some(Err(unreadable)), Reason::SenderNotFound),
        "FedoraMessageSender apps/default could not be read: no permission"
    );
}

/// A message that can never be sent must not wait for a Sender.
#[test]
fn own_errors_go_before_the_senders() {
    for (pointer, value, expected) in [
        ("/spec/message/headers", json!({"CC": "x"}), r#"spec.message.headers["CC"] can't be set"#),
        ("/spec/message/topic", json!("a..b"), "spec.message.topic "),
        ("/spec/message/body", json!([]), "spec.message.body "),
        ("/spec/backoffLimit", json!(u32::MAX), "spec.backoffLimit "),
        ("/metadata/uid", json!("1"), "metadata.uid "),
        ("/metadata/creationTimestamp", json!(null), "metadata.creationTimestamp "),
    ] {
        let detail = refusal(&set(minimal(), pointer, value), None, Reason::InvalidMessage);
        assert!(detail.starts_with(expected), "{detail}");
    }
}

#[test]
fn refuses_invalid_sender_names() {
    let name = |shown: &str| {
        format!(
            "spec.senderRef.name is {shown:?}, but must be the name of a FedoraMessageSender: at most 253 lower case letters, digits, dashes and dots"
        )
    };
    let namespace = |shown: &str| {
        format!(
            "spec.senderRef.namespace is {shown:?}, but must be the name of a namespace: at most 63 lower case letters, digits and dashes"
        )
    };
    for bad in ["", "../../x", "a/b", "a?b", "A", "a_b", "-a", "a..b", "é"] {
        let object = set(minimal(), "/spec/senderRef", json!({"name": bad}));
        assert_eq!(refusal(&object, None, Reason::InvalidMessage), name(bad));
    }
    for bad in ["", "..", "a/b", "a.b", "A", "*"] {
        let object = set(minimal(), "/spec/senderRef", json!({"name": "default", "namespace": bad}));
        assert_eq!(refusal(&object, None, Reason::InvalidMessage), namespace(bad));
    }
}
