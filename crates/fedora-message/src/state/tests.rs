//! The status says what became of a message, in the proposal's words and in conditions.
use strum::VariantArray;

use crate::api::v1alpha1::FedoraMessageStatus;
use crate::policy::outcome::{Mode, Outcome, Reason, Then};
use crate::state::{Facts, MessageState, Phase, RECONCILING, SENT, STALLED};
use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{UID, at, example, message};

const FACTS: Facts<'_> = Facts {
    routing_key: Some("nice.message"),
    attempts: 1,
    next_attempt: None,
    mode: Some(Mode::Direct),
    unanswered: false,
};

/// The status after a new message's first attempt.
fn first(outcome: &Outcome, facts: &Facts<'_>, now: &str) -> FedoraMessageStatus {
    MessageState::default().next(&message(&example()), outcome, facts, at(now)).to_status(UID)
}

fn after(previous: &MessageState, reason: Reason, now: DateTime<Utc>) -> MessageState {
    let outcome = Outcome { reason, message: format!("{reason} it was") };
    previous.next(&message(&example()), &outcome, &FACTS, now)
}

fn condition<'a>(status: &'a FedoraMessageStatus, type_: &str) -> Option<&'a Condition> {
    let mut found = status.conditions.iter().filter(|condition| condition.type_ == type_);
    let first = found.next();
    assert!(found.next().is_none(), "{type_} is there twice");
    first
}

#[test]
fn sent_status_begins_like_the_proposal() {
    let status = first(&Outcome::sent(true), &FACTS, "2019-07-30T19:12:23Z");
    let yaml = serde_saphyr::to_string(&status).unwrap();
    let proposal = "type: FedoraMessageSent\nstatus: true\nreason: Sent\nmessage: Message was sent successfully\n";
    assert!(yaml.starts_with(proposal), "{yaml}");
}

#[test]
fn sent_status() {
    let status = first(&Outcome::sent(true), &FACTS, "2019-07-30T19:12:23.987654321Z");
    let expected = json!({
        "type": "FedoraMessageSent",
        "status": true,
        "reason": "Sent",
        "message": "Message was sent successfully",
        "conditions": [{
            "type": "FedoraMessageSent", "status": "True", "reason": "Sent",
            "message": "Message was sent successfully",
            "observedGeneration": 1, "lastTransitionTime": "2019-07-30T19:12:23Z",
        }],
        "observedGeneration": 1,
        "messageId": UID,
        "sentTime": "2019-07-30T19:12:23Z",
        "routingKey": "nice.message",
        "attempts": 1,
        "deliveryMode": "direct",
    });
    assert_eq!(serde_json::to_value(&status).unwrap(), expected);
}

#[test]
fn unrouted_message_is_sent() {
    let status = first(&Outcome::sent(false), &FACTS, "2019-07-30T19:12:23Z");
    assert_eq!((status.status, status.reason.as_deref()), (Some(true), Some("Sent")));
    assert_eq!(
        status.message.as_deref(),
        Some("Message was sent successfully, but reached nobody: no queue of the broker is bound to its topic")
    );
}

#[test]
fn failed_status() {
    let outcome = Outcome { reason: Reason::BrokerUnreachable, message: "nobody answers".to_owned() };
    let facts = Facts { attempts: 3, next_attempt: Some(at("2019-07-30T19:13:00.5Z")), ..FACTS };
    let status = first(&outcome, &facts, "2019-07-30T19:12:23.5Z");
    let expected = json!({
        "type": "FedoraMessageSent",
        "status": false,
        "reason": "BrokerUnreachable",
        "message": "nobody answers",
        "conditions": [
            {
                "type": "FedoraMessageSent", "status": "False", "reason": "BrokerUnreachable",
                "message": "nobody answers",
                "observedGeneration": 1, "lastTransitionTime": "2019-07-30T19:12:23Z",
            },
            {
                "type": "Reconciling", "status": "True", "reason": "BrokerUnreachable",
                "message": "The next attempt is at 2019-07-30T19:13:00Z, or once the broker is back",
                "observedGeneration": 1, "lastTransitionTime": "2019-07-30T19:12:23Z",
            },
        ],
        "observedGeneration": 1,
        "messageId": UID,
        "routingKey": "nice.message",
        "attempts": 3,
        "nextAttemptTime": "2019-07-30T19:13:00Z",
        "deliveryMode": "direct",
    });
    assert_eq!(serde_json::to_value(&status).unwrap(), expected);
}

#[test]
fn conditions_for_kstatus() {
    for &reason in Reason::VARIANTS {
        let state = after(&MessageState::default(), reason, at("2019-07-30T19:12:23Z"));
        let status = state.to_status(UID);
        let (reconciling, stalled) = match reason.then() {
            Then::Done => (None, None),
            Then::Stop if reason == Reason::InvalidMessage => (
                None,
                Some(
                    "Given up: delete it, and create a corrected FedoraMessage; if it was refused by mistake, set \
                     the annotation apps.fedoraproject.org/retry to a new value to try it once more",
                ),
            ),
            Then::Stop => (
                None,
                Some("Given up; to try once more, set the annotation apps.fedoraproject.org/retry to a new value"),
            ),
            Then::Backoff if reason == Reason::Sending => (Some("Waits for the broker's answer"), None),
            Then::Backoff => (Some("The next attempt is made once the broker is back"), None),
            Then::BackoffThenStop => (
                Some(
                    "The next attempt is made once the broker is back; the first one after 2019-07-30T19:17:23Z is the last, if the broker still refuses the message",
                ),
                None,
            ),
            Then::AwaitSender => (Some("The next attempt is made as soon as the Sender appears or changes"), None),
            Then::AwaitSecret => (Some("The next attempt is made as soon as the Secret appears or changes"), None),
            Then::AwaitResume => (Some("Waits until spec.suspend is false"), None),
        };
        for (type_, expected) in [(RECONCILING, reconciling), (STALLED, stalled)] {
            let found = condition(&status, type_);
            assert_eq!(found.map(|condition| condition.message.as_str()), expected, "{reason}: {type_}");
            assert!(found.is_none_or(|condition| condition.status == "True" && condition.reason == reason.name()));
        }
        assert_eq!(state.is_stalled(), reason.then() == Then::Stop, "{reason}");
    }
}

#[test]
fn transition_times() {
    let times: Vec<_> = (0..5).map(|minutes| at("2019-07-30T19:12:23Z") + TimeDelta::minutes(minutes)).collect();
    let transition = |status: &FedoraMessageStatus, type_: &str| {
        condition(status, type_).map(|condition| condition.last_transition_time.0.as_second())
    };
    let mut state = MessageState::default();
    // The reason, and since when each condition has been as it is then.
    for (now, (reason, sent, reconciling, stalled)) in times.iter().zip([
        (Reason::BrokerUnreachable, 0, Some(0), None),
        (Reason::SecretNotFound, 0, Some(0), None),
        (Reason::MessageTooLarge, 0, None, Some(2)),
        (Reason::Nacked, 0, Some(3), None),
        (Reason::Sent, 4, None, None),
    ]) {
        state = after(&state, reason, *now);
        let status = state.to_status(UID);
        let second = |index: usize| times[index].timestamp();
        assert_eq!(transition(&status, SENT), Some(second(sent)), "{reason}");
        assert_eq!(transition(&status, RECONCILING), reconciling.map(second), "{reason}");
        assert_eq!(transition(&status, STALLED), stalled.map(second), "{reason}");
    }
}

/// So a large message that has the status "Sending" has room for "Sent".
#[test]
fn sending_needs_more_room_than_sent() {
    let now = at("2019-07-30T19:12:23Z");
    let size = |state: &MessageState| serde_json::to_vec(&state.to_status(UID)).unwrap().len();
    let sending =
        MessageState::default().next(&message(&example()), &Outcome::sending(), &Facts { mode: None, ..FACTS }, now);
    let warned = Outcome::sent(false).with_warning(&"!".repeat(2_000));
    let sent = MessageState::default().next(&message(&example()), &warned, &FACTS, now);
    let shortened = sent.shortened().expect("it was sent");
    assert!(size(&shortened) + 200 < size(&sending), "{} {}", size(&shortened), size(&sending));
    assert!(shortened.is_sent() && sending.shortened().is_none());
    assert!(!sending.is_warning(None), "nobody has to act");
}

#[test]
fn routing_key_is_kept() {
    let now = at("2019-07-30T19:12:23Z");
    let failed = after(&MessageState::default(), Reason::BrokerUnreachable, now);
    let facts = Facts { routing_key: None, ..FACTS };
    let held = failed.next(&message(&example()), &Outcome::suspended(), &facts, now);
    assert_eq!(held.routing_key.as_deref(), Some("nice.message"));
}

#[test]
fn delivery_mode_is_kept() {
    let now = at("2019-07-30T19:12:23Z");
    let mode = |state: &MessageState| state.to_status(UID).delivery_mode;
    let untried = Facts { mode: None, ..FACTS };
    let next = |state: &MessageState, facts| state.next(&message(&example()), &Outcome::suspended(), facts, now);
    let new = next(&MessageState::default(), &untried);
    assert_eq!(mode(&new), None, "it was not tried yet");
    let by_pod = next(&new, &Facts { mode: Some(Mode::Pod), ..FACTS });
    assert_eq!(mode(&next(&by_pod, &untried)).as_deref(), Some("pod"));
}

#[test]
fn next_attempt_time_is_dropped() {
    let now = at("2019-07-30T19:12:23Z");
    let facts = Facts { next_attempt: Some(now), ..FACTS };
    let failed = Outcome { reason: Reason::Nacked, message: String::new() };
    let failed = MessageState::default().next(&message(&example()), &failed, &facts, now);
    assert_eq!(failed.to_status(UID).next_attempt_time, Some(now));
    let sent = after(&failed, Reason::Sent, now);
    assert_eq!(sent.to_status(UID).next_attempt_time, None);
}

/// Any state that the operator may have recorded before.
fn previous() -> impl Strategy<Value = MessageState> {
    proptest::collection::vec((0..Reason::VARIANTS.len(), 0..100_000_i64), 0..3).prop_map(|life| {
        life.into_iter().fold(MessageState::default(), |state, (reason, seconds)| {
            after(&state, Reason::VARIANTS[reason], at("2019-07-30T19:12:23.25Z") + TimeDelta::seconds(seconds))
        })
    })
}

proptest! {
    #[test]
    fn summary_equals_condition(
        previous in previous(),
        reason in proptest::sample::select(Reason::VARIANTS.to_vec()),
        detail in ".*",
        attempts: u32,
        seconds in 0..1_000_000_i64,
    ) {
        let now = at("2019-07-30T19:12:23.75Z") + TimeDelta::seconds(seconds);
        let outcome = Outcome { reason, message: detail };
        let next_attempt = (reason.then() == Then::Backoff).then_some(now);
        let facts = Facts { attempts, next_attempt, ..FACTS };
        let state = previous.next(&message(&example()), &outcome, &facts, now);
        let status = state.to_status(UID);

        let sent = condition(&status, SENT).unwrap();
        prop_assert_eq!(status.type_.as_deref(), Some(sent.type_.as_str()));
        prop_assert_eq!(status.status, Some(sent.status == "True"));
        prop_assert_eq!(status.reason.as_deref(), Some(sent.reason.as_str()));
        prop_assert_eq!(status.message.as_deref(), Some(sent.message.as_str()));
        prop_assert_eq!(status.observed_generation, sent.observed_generation);
        prop_assert_eq!(status.status, Some(reason == Reason::Sent));
        prop_assert_eq!(status.sent_time.is_some(), reason == Reason::Sent);
        prop_assert!(status.conditions.len() <= 2);

        // A status that comes back from the API server is the same.
        let json: Value = serde_json::to_value(&status).unwrap();
        let read = serde_json::from_value::<FedoraMessageStatus>(json).unwrap();
        prop_assert_eq!(&read, &status);
        prop_assert_eq!(MessageState::from(read), state);
    }
}

#[test]
fn new_reason_is_a_warning_once() {
    let warns = |before: Option<Reason>, now: Reason| {
        MessageState { reason: Some(now), ..MessageState::default() }.is_warning(before)
    };
    for (before, now, expected) in [
        (None, Reason::BrokerUnreachable, true),
        (Some(Reason::BrokerUnreachable), Reason::BrokerUnreachable, false),
        (Some(Reason::BrokerUnreachable), Reason::DeadlineExceeded, true),
        (Some(Reason::BrokerUnreachable), Reason::Sent, false),
        (None, Reason::Sent, false),
        (None, Reason::Suspended, false),
        (Some(Reason::Suspended), Reason::SecretNotFound, true),
    ] {
        assert_eq!(warns(before, now), expected, "{before:?} {now}");
    }
    assert!(!MessageState::default().is_warning(None));
}

/// A status that another version of the operator has written.
#[test]
fn unknown_reason_keeps_its_meaning() {
    let mut status = first(&Outcome::sent(true), &FACTS, "2019-07-30T19:12:23Z");
    status.reason = Some("SentByAnotherVersion".to_owned());
    let sent = MessageState::from(status);
    assert_eq!((sent.reason, sent.phase), (None, Phase::Sent));
    let outcome = Outcome { reason: Reason::MessageTooLarge, message: String::new() };
    let mut status = first(&outcome, &FACTS, "2019-07-30T19:12:23Z");
    status.reason = Some("GivenUpByAnotherVersion".to_owned());
    let stalled = MessageState::from(status);
    assert_eq!((stalled.reason, stalled.phase), (None, Phase::Stalled(at("2019-07-30T19:12:23Z"))));
}
