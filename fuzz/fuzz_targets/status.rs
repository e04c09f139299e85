//! The next status after any previous status, from any writer.

#![no_main]

use arbitrary::Arbitrary;
use chrono::{DateTime, Utc};
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::FedoraMessageStatus;
use fedora_message::policy::outcome::{Outcome, Reason, Then};
use fedora_message::policy::retry::{Decision, deadline, decide, limit};
use fedora_message::state::{Facts, MessageState, Phase, RECONCILING, SENT, STALLED};
use fedora_message_operator_fuzz::memory::within;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use strum::VariantArray;

#[derive(Arbitrary, Debug)]
struct Input {
    previous: Previous,
    reason: u8,
    message: String,
    attempts: u32,
    now: u32,
    later: u16,
    next_attempt: Option<u32>,
    retry: Option<String>,
    created: Option<u32>,
    deadline: Option<i64>,
    limit: Option<u32>,
    suspend: Option<bool>,
}

#[derive(Arbitrary, Debug)]
struct Previous {
    status: Option<bool>,
    reason: Option<Word>,
    message: Option<String>,
    conditions: Vec<(Word, Word, i64)>,
    attempts: Option<u32>,
    start_time: Option<i64>,
    observed_retry: Option<String>,
}

/// A word with a meaning in a status, or any other text.
#[derive(Arbitrary, Debug)]
enum Word {
    Reason(u8),
    Type(u8),
    Truth(bool),
    Other(String),
}

fuzz_target!(|input: Input| {
    let (Some(message), Some(previous)) = (input.message(), input.previous.status()) else { return };
    within(0, || check(&input, &message, &previous.into()));
});

fn check(input: &Input, message: &FedoraMessage, previous: &MessageState) {
    let now = time(input.now);
    let outcome = Outcome { reason: reason(input.reason), message: input.message.clone() };
    let outcome = limit(message, input.attempts, outcome);
    let facts = Facts {
        routing_key: None,
        attempts: input.attempts,
        next_attempt: input.next_attempt.map(time),
        ..Facts::default()
    };
    let _ = (decide(message, previous, now), deadline(message, previous, now));
    let first = previous.next(message, &outcome, &facts, now);
    let status = first.to_status(message.uid());
    check_status(&status, previous.then(outcome.reason, now));
    let json = serde_json::to_string(&status).expect("a status can be written");
    let read = serde_json::from_str::<FedoraMessageStatus>(&json).expect("and read");
    assert_eq!(read, status);
    assert_eq!(MessageState::from(read), first);

    let later = now + chrono::TimeDelta::seconds(input.later.into());
    let again = first.next(message, &outcome, &facts, later);
    // A message that was given up again was tried in between, and its time to live counts from here.
    let stops = first.then(outcome.reason, later) == Then::Stop;
    let expected = if stops { Phase::Stalled(later) } else { first.phase };
    assert_eq!(
        (again.phase, again.sent_changed),
        (expected, first.sent_changed),
        "a condition that stays has not changed"
    );
    check_decision(message, &first, later);
}

/// Checks that the summary and the conditions agree.
fn check_status(status: &FedoraMessageStatus, then: Then) {
    let find = |kind: &str| status.conditions.iter().filter(|condition| condition.type_ == kind).collect::<Vec<_>>();
    let [sent] = find(SENT)[..] else { panic!("no condition {SENT}, or two") };
    assert_eq!((status.type_.as_deref(), status.status), (Some(SENT), Some(then == Then::Done)));
    assert_eq!(sent.status, if then == Then::Done { "True" } else { "False" });
    assert_eq!((Some(&sent.reason), Some(&sent.message)), (status.reason.as_ref(), status.message.as_ref()));
    assert_eq!(status.sent_time.is_some(), then == Then::Done);
    assert_eq!(find(STALLED).len(), usize::from(then == Then::Stop));
    assert_eq!(find(RECONCILING).len(), usize::from(!matches!(then, Then::Done | Then::Stop)));
    assert!(status.conditions.len() <= 2);
}

/// Checks that a sent message is never tried again, and a given-up message only on request.
fn check_decision(message: &FedoraMessage, state: &MessageState, now: DateTime<Utc>) {
    let decision = decide(message, state, now);
    // The retry annotation was acted on when this state was recorded.
    assert!(!state.is_finished() || decision == Decision::Rest, "{decision:?} after {state:?}");
}

fn reason(number: u8) -> Reason {
    Reason::VARIANTS[usize::from(number) % Reason::VARIANTS.len()]
}

fn time(seconds: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds.into(), 0).unwrap_or_default()
}

impl Input {
    fn message(&self) -> Option<FedoraMessage> {
        let annotations = self.retry.as_ref().map(|retry| json!({"apps.fedoraproject.org/retry": retry}));
        let object = json!({
            "metadata": {
                "name": "a", "namespace": "apps", "uid": "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d", "generation": 1,
                "creationTimestamp": self.created.map(time), "annotations": annotations,
            },
            "spec": {
                "env": "prod",
                "message": {"body": {}, "topic": "nice.message"},
                "authentication": {"secretRef": {"name": "certs"}},
                "activeDeadlineSeconds": self.deadline, "backoffLimit": self.limit, "suspend": self.suspend,
            },
        });
        serde_json::from_str(&object.to_string()).ok()
    }
}

impl Previous {
    fn status(&self) -> Option<FedoraMessageStatus> {
        let at = |seconds: i64| DateTime::from_timestamp(seconds, 0).map(|at| at.to_rfc3339());
        let conditions: Vec<Value> = self
            .conditions
            .iter()
            .map(|(kind, status, seconds)| {
                json!({
                    "type": kind.text(), "status": status.text(), "reason": "", "message": "",
                    "lastTransitionTime": at(*seconds),
                })
            })
            .collect();
        let status = json!({
            "status": self.status, "reason": self.reason.as_ref().map(Word::text), "message": self.message,
            "conditions": conditions, "attempts": self.attempts, "startTime": self.start_time.map(at), "forbiddenTime": self.start_time.map(at),
            "observedRetry": self.observed_retry,
        });
        serde_json::from_value(status).ok()
    }
}

impl Word {
    fn text(&self) -> String {
        match self {
            Self::Reason(number) => reason(*number).name().to_owned(),
            Self::Type(number) => [SENT, STALLED, RECONCILING][usize::from(*number) % 3].to_owned(),
            Self::Truth(truth) => (if *truth { "True" } else { "False" }).to_owned(),
            Self::Other(text) => text.clone(),
        }
    }
}
