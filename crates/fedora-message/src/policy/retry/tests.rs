//! The decision to try a message, in the course of its life.
use strum::VariantArray;

use crate::api::object::FedoraMessage;
use crate::policy::outcome::{GRACE_PERIOD, Outcome, Reason, Then};
use crate::policy::retry::{Decision, deadline, decide, limit};
use crate::state::{Facts, MessageState, Phase};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::fixture::{CREATED, at, example, example_sender, message, message_of, minimal, set, valid_sender, with};

const RETRY: &str = "/metadata/annotations/apps.fedoraproject.org~1retry";

fn after(seconds: i64) -> DateTime<Utc> {
    at(CREATED) + TimeDelta::seconds(seconds)
}

fn outcome(reason: Reason) -> Outcome {
    Outcome { reason, message: format!("{reason} it was") }
}

/// The state after `previous`, when an attempt or a report ended like this.
fn state(message: &FedoraMessage, previous: &MessageState, outcome: &Outcome, now: DateTime<Utc>) -> MessageState {
    let facts = Facts { attempts: attempts(previous, outcome.reason), ..Facts::default() };
    previous.next(message, outcome, &facts, now)
}

/// The number of attempts, with this one.
fn attempts(previous: &MessageState, reason: Reason) -> u32 {
    let tried = matches!(reason.then(), Then::Done | Then::Backoff | Then::BackoffThenStop)
        || reason == Reason::BackoffLimitExceeded;
    previous.attempts + u32::from(tried)
}

/// The first status of a message.
fn first(message: &FedoraMessage, reason: Reason) -> MessageState {
    state(message, &MessageState::default(), &outcome(reason), after(1))
}

/// Does what is decided, where every attempt ends in the same way, until nothing is left to do.
/// Returns the number of attempts and the last state.
fn live(message: &FedoraMessage, from: &MessageState, ends: Reason) -> (u32, MessageState) {
    let (mut made, mut last) = (0, from.clone());
    for second in 1..100 {
        let outcome = match decide(message, &last, after(second)) {
            Decision::Attempt => {
                made += 1;
                limit(message, attempts(&last, ends), outcome(ends))
            }
            Decision::Report(outcome) => outcome,
            Decision::Rest => return (made, last),
        };
        last = state(message, &last, &outcome, after(second));
    }
    panic!("it never rests: {made} attempts, {:?}", last.reason);
}

fn suspended(object: Value) -> Value {
    set(object, "/spec/suspend", true.into())
}

#[test]
fn new_message_is_tried() {
    let message = message(&example());
    assert_eq!(decide(&message, &MessageState::default(), after(0)), Decision::Attempt);
}

#[test]
fn last_reason_decides() {
    let message = message(&example());
    for &reason in Reason::VARIANTS {
        let expected = match reason.then() {
            Then::Done | Then::Stop => Decision::Rest,
            Then::Backoff | Then::BackoffThenStop | Then::AwaitSender | Then::AwaitSecret | Then::AwaitResume => {
                Decision::Attempt
            }
        };
        assert_eq!(decide(&message, &first(&message, reason), after(1_000_000)), expected, "{reason}");
    }
}

#[test]
fn sent_message_rests() {
    let retry = with(RETRY, "please".into());
    for object in [
        example(),
        retry.clone(),
        suspended(retry.clone()),
        set(retry.clone(), "/spec/activeDeadlineSeconds", 1.into()),
        set(retry, "/spec/suspend", false.into()),
    ] {
        let sent = first(&message(&example()), Reason::Sent);
        assert_eq!(decide(&message(&object), &sent, after(1_000_000)), Decision::Rest, "{object}");
    }
}

#[test]
fn suspension_is_reported_once() {
    let message = message(&suspended(example()));
    let expected = Outcome {
        reason: Reason::Suspended,
        message: "Not sent, because spec.suspend is true: set it to false to send the message".to_owned(),
    };
    assert_eq!(decide(&message, &MessageState::default(), after(1)), Decision::Report(expected.clone()));
    let last_reported = state(&message, &MessageState::default(), &expected, after(1));
    assert_eq!(decide(&message, &last_reported, after(2)), Decision::Rest);
}

/// Tools wait until the status names the last generation.
#[test]
fn suspension_after_resumption_is_reported() {
    let held = |generation: i64| message(&set(suspended(example()), "/metadata/generation", generation.into()));
    let last_reported = state(&held(1), &MessageState::default(), &Outcome::suspended(), after(1));
    assert_eq!(decide(&held(3), &last_reported, after(2)), Decision::Report(Outcome::suspended()));
    let reported = state(&held(3), &last_reported, &Outcome::suspended(), after(2));
    assert_eq!(decide(&held(3), &reported, after(3)), Decision::Rest);
}

#[test]
fn suspension_between_attempts_is_reported() {
    let failed = first(&message(&example()), Reason::BrokerUnreachable);
    let message = message(&suspended(example()));
    assert_eq!(decide(&message, &failed, after(2)), Decision::Report(Outcome::suspended()));
}

#[test]
fn resumed_message_is_tried() {
    let held = message(&suspended(example()));
    let last_reported = state(&held, &MessageState::default(), &Outcome::suspended(), after(1));
    for object in [example(), with("/spec/suspend", false.into())] {
        assert_eq!(decide(&message(&object), &last_reported, after(2)), Decision::Attempt);
    }
}

#[test]
fn suspension_revives_nothing() {
    let given_up = first(&message(&example()), Reason::MessageTooLarge);
    assert_eq!(decide(&message(&suspended(example())), &given_up, after(2)), Decision::Rest);
    assert_eq!(decide(&message(&with("/spec/suspend", false.into())), &given_up, after(2)), Decision::Rest);
}

#[test]
fn given_up_at_deadline() {
    let message = message(&with("/spec/activeDeadlineSeconds", 60.into()));
    let failed = first(&message, Reason::BrokerUnreachable);
    let none = MessageState::default();
    for (state, detail) in [
        (&failed, "Not sent within activeDeadlineSeconds (60 s): BrokerUnreachable it was"),
        (
            &none,
            "Not sent within activeDeadlineSeconds (60 s): it was not tried in that time, because no operator \
             was running, or others came first: annotate it to retry",
        ),
    ] {
        assert_eq!(deadline(&message, state, after(0)), Some(after(60)));
        assert_eq!(decide(&message, state, after(59)), Decision::Attempt);
        let given_up = Outcome { reason: Reason::DeadlineExceeded, message: detail.to_owned() };
        for second in [60, 61, 1_000_000] {
            assert_eq!(decide(&message, state, after(second)), Decision::Report(given_up.clone()), "{second}");
        }
    }
}

/// The clock was ahead by a day when the deadline seemed to pass.
#[test]
fn deadline_by_wrong_clock_is_not_final() {
    let message = message(&with("/spec/activeDeadlineSeconds", 100.into()));
    let given_up_at = |time| match decide(&message, &MessageState::default(), time) {
        Decision::Report(outcome) => state(&message, &MessageState::default(), &outcome, time),
        other => panic!("{other:?}"),
    };
    let (day, wrong) = (86_400, given_up_at(after(86_400 + 20)));
    assert_eq!(decide(&message, &wrong, after(day + 21)), Decision::Rest, "the clock is still wrong");
    assert_eq!(decide(&message, &wrong, after(21)), Decision::Attempt, "the deadline is still to come");
    assert_eq!(decide(&message, &wrong, after(100)), Decision::Rest, "the deadline has passed since");
    let by_other_replica = given_up_at(after(100));
    assert_eq!(decide(&message, &by_other_replica, after(99)), Decision::Rest, "clocks are not exact");
}

/// Nobody can recall a message that the broker was handed.
#[test]
fn unanswered_message_is_not_given_up() {
    let object = with("/spec/activeDeadlineSeconds", 60.into());
    let (wanted, held) = (message(&object), message(&suspended(object)));
    let facts = Facts { unanswered: true, ..Facts::default() };
    let unanswered = MessageState::default().next(&wanted, &outcome(Reason::BrokerBlocked), &facts, after(1));
    assert_eq!(decide(&wanted, &unanswered, after(61)), Decision::Attempt, "the broker may answer");
    let Decision::Report(suspended) = decide(&held, &unanswered, after(2)) else { panic!("it is suspended") };
    assert!(suspended.message.ends_with("The broker was handed the message before, and may still deliver it"));
    let lost = state(&wanted, &unanswered, &outcome(Reason::BrokerUnreachable), after(62));
    assert!(matches!(decide(&wanted, &lost, after(63)), Decision::Report(_)), "the deadline counts again");
}

#[test]
fn no_deadline() {
    let message = message(&example());
    let failed = first(&message, Reason::BrokerUnreachable);
    assert_eq!(deadline(&message, &failed, after(0)), None);
    assert_eq!(decide(&message, &failed, DateTime::<Utc>::MAX_UTC), Decision::Attempt);
}

#[test]
fn deadline_beyond_all_time_is_none() {
    for seconds in [i64::MAX, i64::MAX / 1_000, 100_000_000_000_000] {
        let message = message(&with("/spec/activeDeadlineSeconds", seconds.into()));
        assert_eq!(decide(&message, &MessageState::default(), after(1)), Decision::Attempt, "{seconds}");
    }
}

#[test]
fn suspension_stops_deadline() {
    let object = with("/spec/activeDeadlineSeconds", 60.into());
    let (held, resumed) = (message(&suspended(object.clone())), message(&object));
    let none = MessageState::default();

    assert_eq!(decide(&held, &none, after(1_000)), Decision::Report(Outcome::suspended()));
    let last_reported = state(&held, &none, &Outcome::suspended(), after(1_000));

    // Resumed at 2,000 s: the deadline is 60 s later, and stays there from attempt to attempt.
    assert_eq!(decide(&resumed, &last_reported, after(2_000)), Decision::Attempt);
    let failed = state(&resumed, &last_reported, &outcome(Reason::BrokerUnreachable), after(2_000));
    assert_eq!(deadline(&resumed, &failed, after(2_001)), Some(after(2_060)));
    assert_eq!(decide(&resumed, &failed, after(2_059)), Decision::Attempt);
    let again = state(&resumed, &failed, &outcome(Reason::BrokerUnreachable), after(2_059));
    assert_eq!(deadline(&resumed, &again, after(2_059)), Some(after(2_060)));
    let given_up = Outcome::deadline_exceeded(60, Some("BrokerUnreachable it was"));
    assert_eq!(decide(&resumed, &again, after(2_060)), Decision::Report(given_up));

    // Suspended once more before that, the time begins anew.
    let last_reported = state(&held, &again, &Outcome::suspended(), after(2_059));
    assert_eq!(decide(&resumed, &last_reported, after(9_000)), Decision::Attempt);
}

#[test]
fn annotation_gives_one_attempt() {
    let message_with = |value: &str| message(&with(RETRY, value.into()));
    for stopped in [Reason::InvalidMessage, Reason::MessageTooLarge] {
        let given_up = first(&message(&example()), stopped);
        let (attempts, state) = live(&message_with("1"), &given_up, stopped);
        assert_eq!((attempts, state.reason), (1, Some(stopped)));
        assert_eq!(state.observed_retry.as_deref(), Some("1"));
        // The same value again asks for nothing; nor does taking it away; another one does.
        assert_eq!(live(&message_with("1"), &state, stopped).0, 0);
        assert_eq!(live(&message(&example()), &state, stopped).0, 0);
        assert_eq!(live(&message_with("2"), &state, stopped).0, 1);
        assert_eq!(live(&message_with("2"), &state, Reason::Sent).1.phase, Phase::Sent);
    }
}

#[test]
fn empty_annotation_counts() {
    let given_up = first(&message(&example()), Reason::MessageTooLarge);
    assert_eq!(live(&message(&with(RETRY, "".into())), &given_up, Reason::MessageTooLarge).0, 1);
}

#[test]
fn initial_annotation_asks_for_nothing() {
    let message = message(&with(RETRY, "1".into()));
    let (attempts, _) = live(&message, &MessageState::default(), Reason::MessageTooLarge);
    assert_eq!(attempts, 1);
}

#[test]
fn initial_annotation_keeps_deadline() {
    let message = message(&set(with(RETRY, "1".into()), "/spec/activeDeadlineSeconds", 60.into()));
    let given_up = Outcome::deadline_exceeded(60, None);
    assert_eq!(decide(&message, &MessageState::default(), after(61)), Decision::Report(given_up));
}

/// The operator ended between the proof of room for a status and the result.
#[test]
fn deadline_tells_of_attempt_without_result() {
    let message = message(&with("/spec/activeDeadlineSeconds", 1.into()));
    let sending = state(&message, &MessageState::default(), &Outcome::sending(), after(0));
    let Decision::Report(given_up) = decide(&message, &sending, after(9)) else { panic!("its deadline has passed") };
    assert!(given_up.message.contains("so the broker may have it"), "{}", given_up.message);
}

#[test]
fn one_attempt_after_deadline() {
    let object = with("/spec/activeDeadlineSeconds", 1.into());
    let (attempts, given_up) = live(&message(&object), &MessageState::default(), Reason::BrokerUnreachable);
    assert_eq!((attempts, given_up.reason), (0, Some(Reason::DeadlineExceeded)));
    let asked = message(&set(object, RETRY, "1".into()));
    let (attempts, again) = live(&asked, &given_up, Reason::BrokerUnreachable);
    assert_eq!((attempts, again.reason), (1, Some(Reason::DeadlineExceeded)));
    assert_eq!(&*again.message, "Not sent within activeDeadlineSeconds (1 s): BrokerUnreachable it was");
}

#[test]
fn one_attempt_after_backoff_limit() {
    let object = with("/spec/backoffLimit", 2.into());
    let (_, given_up) = live(&message(&object), &MessageState::default(), Reason::Nacked);
    let asked = message(&set(object, RETRY, "1".into()));
    let (attempts, again) = live(&asked, &given_up, Reason::Nacked);
    assert_eq!((attempts, again.reason), (1, Some(Reason::BackoffLimitExceeded)));
}

#[test]
fn retry_waits_for_resumption() {
    let given_up = first(&message(&example()), Reason::MessageTooLarge);
    let asked = with(RETRY, "1".into());
    let (attempts, held) = live(&message(&suspended(asked.clone())), &given_up, Reason::MessageTooLarge);
    assert_eq!((attempts, held.reason), (0, Some(Reason::Suspended)));
    assert_eq!(live(&message(&asked), &held, Reason::MessageTooLarge).0, 1);
}

#[test]
fn backoff_limit_counts_retries() {
    for (retries, attempts) in [(0, 1), (1, 2), (2, 3), (6, 7)] {
        let message = message(&with("/spec/backoffLimit", retries.into()));
        let (made, state) = live(&message, &MessageState::default(), Reason::BrokerUnreachable);
        assert_eq!((made, state.reason), (attempts, Some(Reason::BackoffLimitExceeded)), "{retries}");
        assert_eq!(state.attempts, attempts);
        assert_eq!(
            &*state.message,
            format!(
                "Not sent after backoffLimit ({retries}) retries; the last attempt ended with \
                 BrokerUnreachable: BrokerUnreachable it was"
            )
        );
    }
}

#[test]
fn backoff_limit_changes_only_retried_failures() {
    let message = message(&with("/spec/backoffLimit", 0.into()));
    for &reason in Reason::VARIANTS {
        let limited = limit(&message, 1, outcome(reason));
        let expected = match reason.then() {
            Then::Backoff | Then::BackoffThenStop => Reason::BackoffLimitExceeded,
            Then::Done | Then::Stop | Then::AwaitSender | Then::AwaitSecret | Then::AwaitResume => reason,
        };
        assert_eq!(limited.reason, expected, "{reason}");
    }
}

#[test]
fn senders_limits_apply() {
    let sender = |defaults| valid_sender(&set(example_sender(), "/spec/defaults", defaults));
    let message = message_of(&sender(json!({"backoffLimit": 2})), &minimal());
    let (made, state) = live(&message, &MessageState::default(), Reason::Nacked);
    assert_eq!((made, state.reason), (3, Some(Reason::BackoffLimitExceeded)));

    let message = message_of(&sender(json!({"activeDeadlineSeconds": 10})), &minimal());
    let (_, state) = live(&message, &MessageState::default(), Reason::Nacked);
    assert_eq!(state.reason, Some(Reason::DeadlineExceeded));
}

#[test]
fn no_backoff_limit() {
    let message = message(&example());
    let failed = outcome(Reason::BrokerUnreachable);
    assert_eq!(limit(&message, u32::MAX, failed.clone()), failed);
}

#[test]
fn unreadable_spec_is_tried() {
    let message = message(&with("/spec/env", "dev".into()));
    assert_eq!(live(&message, &MessageState::default(), Reason::InvalidMessage).0, 1);
}

/// The broker refuses the topic from the first second on. The attempts go on after a restart, which
/// keeps only the status.
#[test]
fn refusal_is_final_after_grace_period() {
    let grace = GRACE_PERIOD.num_seconds();
    let message = message(&example());
    let refused = outcome(Reason::TopicForbidden);
    let mut last = MessageState::default();
    for second in [1, 60, grace] {
        assert_eq!(last.then(Reason::TopicForbidden, after(second)), Then::Backoff, "{second}");
        last = state(&message, &last, &refused, after(second));
        assert_eq!((last.is_stalled(), last.awaits(Then::Backoff)), (false, true), "{second}");
        assert_eq!(decide(&message, &last, after(second)), Decision::Attempt);
        last = last.to_status("uid").into();
    }
    assert_eq!(last.then(Reason::TopicForbidden, after(1 + grace)), Then::Stop);
    let final_ = state(&message, &last, &refused, after(1 + grace));
    assert_eq!((final_.is_stalled(), final_.awaits(Then::Stop)), (true, true));
    assert_eq!(decide(&message, &final_, after(1_000_000)), Decision::Rest);
    // A request gives one more attempt.
    let asked = self::message(&with(RETRY, "1".into()));
    assert_eq!(decide(&asked, &final_, after(2 + grace)), Decision::Attempt);
    assert!(state(&asked, &final_, &refused, after(2 + grace)).is_stalled());
    assert_eq!(state(&message, &last, &outcome(Reason::Sent), after(1 + grace)).phase, Phase::Sent);
}

/// The broker was away in between, and may get its permissions after its return.
#[test]
fn other_failure_restarts_grace_period() {
    let message = message(&example());
    let refused = first(&message, Reason::TopicForbidden);
    let away = state(&message, &refused, &outcome(Reason::BrokerUnreachable), after(1_000));
    assert_eq!(away.then(Reason::TopicForbidden, after(1_001)), Then::Backoff);
    let again = state(&message, &away, &outcome(Reason::TopicForbidden), after(1_001));
    assert_eq!(again.forbidden_time, Some(after(1_001)));
}
