//! When a resource is deleted: what is sent or given up, after its time, and nothing else ever.
use strum::VariantArray;

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::FedoraMessageStatus;
use crate::policy::outcome::{Outcome, Reason, Then};
use crate::policy::ttl::{Fate, ends_at, fate};
use crate::state::{Facts, next};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::fixture::{at, example, message, set, with};

const RETRY: &str = "/metadata/annotations/apps.fedoraproject.org~1retry";

fn after(seconds: i64) -> DateTime<Utc> {
    at("2026-01-01T12:00:00Z") + TimeDelta::seconds(seconds)
}

/// What follows `previous` when a message ends so at this second.
fn ended(message: &FedoraMessage, previous: &FedoraMessageStatus, reason: Reason, second: i64) -> FedoraMessageStatus {
    let facts = Facts { routing_key: None, attempts: 1, next_attempt: None, delivery_mode: "direct" };
    next(message, previous, &Outcome { reason, message: "words".to_owned() }, &facts, after(second))
}

fn status(message: &FedoraMessage, reason: Reason) -> FedoraMessageStatus {
    ended(message, &FedoraMessageStatus::default(), reason, 0)
}

fn living(seconds: u32) -> Value {
    with("/spec/ttlSecondsAfterFinished", seconds.into())
}

#[test]
fn what_was_sent_or_given_up_is_deleted_after_its_time_and_nothing_else_ever_is() {
    let message = message(&living(60));
    for reason in Reason::VARIANTS.iter().copied() {
        let status = status(&message, reason);
        let finished = matches!(reason.then(), Then::Done | Then::Stop);
        for (second, expected) in [
            (0, Fate::WaitUntil(after(60))),
            (59, Fate::WaitUntil(after(60))),
            (60, Fate::Delete),
            (9_999, Fate::Delete),
        ] {
            let expected = if finished { expected } else { Fate::Keep };
            assert_eq!(fate(&message, &status, None, after(second)), expected, "{reason} after {second} s");
        }
    }
    assert_eq!(fate(&message, &FedoraMessageStatus::default(), Some(0), after(9_999)), Fate::Keep, "no status");
}

#[test]
fn the_specs_time_goes_before_the_default() {
    let sent = |object: &Value| {
        let message = message(object);
        let status = status(&message, Reason::Sent);
        [None, Some(0), Some(60)].map(|default| fate(&message, &status, default, after(1)))
    };
    let wait = |seconds| Fate::WaitUntil(after(seconds));
    assert_eq!(sent(&example()), [Fate::Keep, Fate::Delete, wait(60)]);
    assert_eq!(sent(&living(0)), [Fate::Delete; 3]);
    assert_eq!(sent(&living(5)), [wait(5); 3]);
}

#[test]
fn the_longest_time_ends_somewhen() {
    let message = message(&living(i32::MAX.cast_unsigned()));
    assert_eq!(ends_at(&message, &status(&message, Reason::Sent), None), Some(after(i64::from(i32::MAX))));
}

#[test]
fn a_message_that_is_asked_to_be_tried_again_is_kept_until_it_is_given_up_again() {
    let given_up = status(&message(&living(0)), Reason::TopicForbidden);
    let asked = message(&set(living(0), RETRY, "1".into()));
    assert_eq!(fate(&asked, &given_up, None, after(100)), Fate::Keep);
    let failing = ended(&asked, &given_up, Reason::BrokerUnreachable, 100);
    assert_eq!(fate(&asked, &failing, None, after(200)), Fate::Keep);
    let sent = ended(&asked, &given_up, Reason::Sent, 100);
    assert_eq!(fate(&asked, &sent, None, after(100)), Fate::Delete);
}

#[test]
fn the_time_of_what_was_given_up_again_begins_anew() {
    let given_up = status(&message(&living(60)), Reason::TopicForbidden);
    let asked = message(&set(living(60), RETRY, "1".into()));
    let again = ended(&asked, &given_up, Reason::TopicForbidden, 50);
    assert_eq!(fate(&asked, &again, None, after(60)), Fate::WaitUntil(after(110)));
}

#[test]
fn a_message_that_was_sent_is_deleted_whatever_is_asked_of_it() {
    let asked = message(&set(set(living(0), RETRY, "1".into()), "/spec/suspend", true.into()));
    let sent = status(&message(&living(0)), Reason::Sent);
    assert_eq!(fate(&asked, &sent, None, after(0)), Fate::Delete);
}

#[test]
fn a_status_without_any_time_ends_never() {
    let message = message(&living(0));
    let mut status = status(&message, Reason::Sent);
    status.sent_time = None;
    assert_eq!(fate(&message, &status, None, after(0)), Fate::Delete, "the condition tells it too");
    status.conditions.clear();
    assert_eq!(fate(&message, &status, None, after(9_999)), Fate::Keep);
}

#[test]
fn a_spec_that_can_not_be_read_is_kept() {
    let message = message(&set(living(0), "/spec/env", "dev".into()));
    assert_eq!(fate(&message, &status(&message, Reason::InvalidMessage), Some(0), after(9_999)), Fate::Keep);
}
