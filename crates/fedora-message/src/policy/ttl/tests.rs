//! When a resource is deleted: what is sent or given up, after its time, and nothing else ever.
use strum::VariantArray;

use crate::api::deployment_tool::DeploymentTool;
use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::IGNORE_DEFAULT_TTL_ANNOTATION;
use crate::policy::outcome::{Outcome, Reason, Then};
use crate::policy::ttl::{Expiry, expires_at, expiry, warning};
use crate::state::{Facts, MessageState};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::fixture::{at, example, example_sender, message, message_of, minimal, set, valid_sender, with};

const RETRY: &str = "/metadata/annotations/apps.fedoraproject.org~1retry";

fn after(seconds: i64) -> DateTime<Utc> {
    at("2026-01-01T12:00:00Z") + TimeDelta::seconds(seconds)
}

/// The state after `previous`, when a message ends with this reason at this second.
fn ended(message: &FedoraMessage, previous: &MessageState, reason: Reason, second: i64) -> MessageState {
    let facts = Facts { attempts: 1, ..Facts::default() };
    previous.next(message, &Outcome { reason, message: "text".to_owned() }, &facts, after(second))
}

fn state(message: &FedoraMessage, reason: Reason) -> MessageState {
    ended(message, &MessageState::default(), reason, 0)
}

fn living(seconds: u32) -> Value {
    with("/spec/ttlSecondsAfterFinished", seconds.into())
}

#[test]
fn only_finished_messages_expire() {
    let message = message(&living(60));
    for &reason in Reason::VARIANTS {
        let state = state(&message, reason);
        let finished = matches!(reason.then(), Then::Done | Then::Stop);
        for (second, expected) in [
            (0, Expiry::WaitUntil(after(60))),
            (59, Expiry::WaitUntil(after(60))),
            (60, Expiry::Delete),
            (9_999, Expiry::Delete),
        ] {
            let expected = if finished { expected } else { Expiry::Keep };
            assert_eq!(expiry(&message, &state, None, after(second)), expected, "{reason} after {second} s");
        }
    }
    assert_eq!(expiry(&message, &MessageState::default(), Some(0), after(9_999)), Expiry::Keep, "no status");
}

#[test]
fn own_ttl_goes_before_default() {
    let sent = |object: &Value| {
        let message = message(object);
        let state = state(&message, Reason::Sent);
        [None, Some(0), Some(60)].map(|default| expiry(&message, &state, default, after(1)))
    };
    let wait = |seconds| Expiry::WaitUntil(after(seconds));
    assert_eq!(sent(&example()), [Expiry::Keep, Expiry::Delete, wait(60)]);
    assert_eq!(sent(&living(0)), [Expiry::Delete; 3]);
    assert_eq!(sent(&living(5)), [wait(5); 3]);
}

#[test]
fn senders_ttl_goes_before_default() {
    let sender = valid_sender(&set(example_sender(), "/spec/defaults", json!({"ttlSecondsAfterFinished": 60})));
    let own = set(minimal(), "/spec/ttlSecondsAfterFinished", 5.into());
    for (object, seconds) in [(minimal(), 60), (own, 5)] {
        let message = message_of(&sender, &object);
        for reason in [Reason::Sent, Reason::MessageTooLarge] {
            let state = state(&message, reason);
            assert_eq!(expires_at(&message, &state, Some(0)), Some(after(seconds)), "{reason}");
        }
    }
}

/// A sent message whose Sender was deleted has the operator's time to live.
#[test]
fn default_applies_without_a_sender() {
    let message = message(&minimal());
    assert_eq!(expires_at(&message, &state(&message, Reason::Sent), Some(60)), Some(after(60)));
}

/// Each object with the marks of the tool that would create it again.
fn managed() -> [(Value, DeploymentTool); 8] {
    let marked = |field: &str, name: &str, value: &str| {
        let mut object = minimal();
        object["metadata"][field] = json!({name: value});
        object
    };
    [
        (marked("annotations", "argocd.argoproj.io/tracking-id", "app:group/kind:ns/name"), DeploymentTool::ArgoCd),
        (marked("labels", "argocd.argoproj.io/instance", "app"), DeploymentTool::ArgoCd),
        (marked("labels", "app.kubernetes.io/instance", "app"), DeploymentTool::ArgoCd),
        (marked("labels", "kustomize.toolkit.fluxcd.io/name", "app"), DeploymentTool::Flux),
        (marked("labels", "helm.toolkit.fluxcd.io/name", "app"), DeploymentTool::Flux),
        (marked("labels", "app.kubernetes.io/managed-by", "Helm"), DeploymentTool::Helm),
        (marked("annotations", "meta.helm.sh/release-name", "app"), DeploymentTool::Helm),
        (
            set(
                marked("annotations", "meta.helm.sh/release-name", "app"),
                "/metadata/labels/app.kubernetes.io~1instance",
                "app".into(),
            ),
            DeploymentTool::Helm,
        ),
    ]
}

/// A tool would create the resource again, and the message would be sent again, for ever.
#[test]
fn default_spares_what_a_tool_would_create_again() {
    let sender = valid_sender(&set(example_sender(), "/spec/defaults", json!({"ttlSecondsAfterFinished": 60})));
    for (object, tool) in managed() {
        for message in [message(&object), message_of(&sender, &object)] {
            assert_eq!(message.summary.tool, Some(tool), "{object}");
            assert_eq!(expires_at(&message, &state(&message, Reason::Sent), Some(60)), None, "{object}");
        }
        let own = message(&set(object, "/spec/ttlSecondsAfterFinished", 5.into()));
        assert_eq!(expires_at(&own, &state(&own, Reason::Sent), Some(60)), Some(after(5)), "what it says itself holds");
        assert!(warning(&own).is_some_and(|text| text.contains(&tool.to_string())));
    }
}

#[test]
fn message_opts_out_of_default() {
    let annotated =
        |value: &str| set(minimal(), "/metadata/annotations", json!({IGNORE_DEFAULT_TTL_ANNOTATION: value}));
    let end = |object: &Value| {
        let message = message(object);
        expires_at(&message, &state(&message, Reason::Sent), Some(60))
    };
    assert_eq!(end(&annotated("true")), None);
    assert_eq!(end(&annotated("false")), Some(after(60)));
    assert_eq!(end(&set(annotated("true"), "/spec/ttlSecondsAfterFinished", 5.into())), Some(after(5)));
}

#[test]
fn labels_of_others_are_no_marks() {
    for labels in [json!({}), json!({"app.kubernetes.io/managed-by": "kustomize", "app": "argocd"})] {
        let message = message(&set(living(5), "/metadata/labels", labels));
        assert_eq!(message.summary.tool, None);
        assert_eq!(warning(&message), None);
    }
}

/// A message that was given up because of an administrator's mistake is still there afterwards.
#[test]
fn default_applies_to_sent_messages() {
    let given_up = |object: &Value| {
        let message = message(object);
        expiry(&message, &state(&message, Reason::InvalidMessage), Some(0), after(9_999))
    };
    assert_eq!(given_up(&example()), Expiry::Keep);
    assert_eq!(given_up(&living(60)), Expiry::Delete);
}

#[test]
fn longest_ttl() {
    let message = message(&living(i32::MAX.cast_unsigned()));
    assert_eq!(expires_at(&message, &state(&message, Reason::Sent), None), Some(after(i64::from(i32::MAX))));
}

#[test]
fn retry_request_stops_expiry() {
    let given_up = state(&message(&living(0)), Reason::MessageTooLarge);
    let asked = message(&set(living(0), RETRY, "1".into()));
    assert_eq!(expiry(&asked, &given_up, None, after(100)), Expiry::Keep);
    let failing = ended(&asked, &given_up, Reason::BrokerUnreachable, 100);
    assert_eq!(expiry(&asked, &failing, None, after(200)), Expiry::Keep);
    let sent = ended(&asked, &given_up, Reason::Sent, 100);
    assert_eq!(expiry(&asked, &sent, None, after(100)), Expiry::Delete);
}

#[test]
fn ttl_restarts_when_given_up_again() {
    let given_up = state(&message(&living(60)), Reason::MessageTooLarge);
    let asked = message(&set(living(60), RETRY, "1".into()));
    let again = ended(&asked, &given_up, Reason::MessageTooLarge, 50);
    assert_eq!(expiry(&asked, &again, None, after(60)), Expiry::WaitUntil(after(110)));
}

#[test]
fn sent_message_expires_despite_retry() {
    let asked = message(&set(set(living(0), RETRY, "1".into()), "/spec/suspend", true.into()));
    let sent = state(&message(&living(0)), Reason::Sent);
    assert_eq!(expiry(&asked, &sent, None, after(0)), Expiry::Delete);
}

#[test]
fn status_without_times_never_expires() {
    let message = message(&living(0));
    let mut state = state(&message, Reason::Sent);
    state.sent_time = None;
    assert_eq!(expiry(&message, &state, None, after(0)), Expiry::Delete, "the condition tells it too");
    state.sent_changed = None;
    assert_eq!(expiry(&message, &state, None, after(9_999)), Expiry::Keep);
}

#[test]
fn unreadable_spec_never_expires() {
    let message = message(&set(living(0), "/spec/env", "dev".into()));
    assert_eq!(expiry(&message, &state(&message, Reason::InvalidMessage), Some(0), after(9_999)), Expiry::Keep);
}

#[test]
fn resource_in_deletion_is_not_deleted_again() {
    let deleting = message(&set(living(0), "/metadata/deletionTimestamp", "2026-01-01T12:00:00Z".into()));
    assert_eq!(expiry(&deleting, &state(&deleting, Reason::Sent), None, after(9_999)), Expiry::Keep);
}
