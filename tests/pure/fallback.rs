//! Which way a message goes in the delivery mode `fallback`.

use fedora_message_operator::broker::errors::BrokerError;
use fedora_message_operator::broker::pool::Trouble;
use fedora_message_operator::delivery::{Way, may_help, way};
use fedora_message_operator::message::outcome::Reason;

fn broker() -> String {
    "rabbitmq.example:5671".to_owned()
}

fn unreachable() -> BrokerError {
    BrokerError::Unreachable { broker: broker(), words: "Connection refused".to_owned() }
}

fn unconfirmed() -> BrokerError {
    BrokerError::ConfirmTimeout { broker: broker(), seconds: 30 }
}

fn trouble(failures: u32, error: BrokerError) -> Trouble {
    Trouble { failures, error, ask_again: false }
}

#[test]
fn a_connection_that_works_is_used() {
    assert_eq!(way(None, 1), Way::Direct);
}

#[test]
fn pods_are_tried_after_so_many_failures_in_a_row() {
    assert_eq!(way(Some(&trouble(2, unreachable())), 3), Way::Direct);
    assert_eq!(way(Some(&trouble(3, unreachable())), 3), Way::Pod(unreachable()));
    assert_eq!(way(Some(&trouble(1_000, unreachable())), 3), Way::Pod(unreachable()));
}

#[test]
fn what_a_pod_would_meet_too_is_no_reason_for_one() {
    let words = || "words".to_owned();
    let blocked = BrokerError::Blocked { broker: broker(), words: words() };
    let vhost = BrokerError::Vhost { broker: broker(), vhost: "/".to_owned(), user: words(), words: words() };
    for error in [blocked, vhost] {
        assert_eq!(way(Some(&trouble(1_000, error)), 1), Way::Direct);
    }
}

/// The one that asks may go both ways; so the others don't ask.
#[test]
fn a_broker_that_does_not_confirm_is_asked_by_one_message() {
    let one = Trouble { ask_again: true, ..trouble(5, unconfirmed()) };
    assert_eq!(way(Some(&one), 3), Way::Direct);
    assert_eq!(way(Some(&trouble(5, unconfirmed())), 3), Way::Pod(unconfirmed()));
}

#[test]
fn pods_may_help_where_the_contract_says_so() {
    let may: Vec<Reason> = Reason::ALL.into_iter().filter(|reason| may_help(*reason)).collect();
    let expected = [Reason::BrokerUnreachable, Reason::TlsFailed, Reason::AuthenticationFailed, Reason::ConfirmTimeout];
    assert_eq!(may.len(), expected.len());
    assert!(expected.iter().all(|reason| may.contains(reason)), "{may:?}");
}
