//! The route of a message in the delivery mode `fallback`.

use std::time::Instant;

use strum::VariantArray;

use super::{Route, may_help, route};
use crate::broker::errors::BrokerError;
use crate::broker::pool::Failures;
use fedora_message::policy::outcome::Reason;

fn broker() -> String {
    "rabbitmq.example:5671".to_owned()
}

fn unreachable() -> BrokerError {
    BrokerError::Unreachable { broker: broker(), detail: "Connection refused".to_owned() }
}

fn failures(count: u32, error: BrokerError) -> Failures {
    Failures { count, error, last: Instant::now() }
}

#[test]
fn a_connection_that_works_is_used() {
    assert_eq!(route(None, 1), Route::Direct);
}

#[test]
fn pods_are_tried_after_so_many_failures_in_a_row() {
    assert_eq!(route(Some(&failures(2, unreachable())), 3), Route::Direct);
    assert_eq!(route(Some(&failures(3, unreachable())), 3), Route::Pod(unreachable()));
    assert_eq!(route(Some(&failures(1_000, unreachable())), 3), Route::Pod(unreachable()));
    let unconfirmed = || BrokerError::ConfirmTimeout { broker: broker(), seconds: 30 };
    assert_eq!(route(Some(&failures(5, unconfirmed())), 3), Route::Pod(unconfirmed()));
}

#[test]
fn what_a_pod_would_meet_too_is_no_reason_for_one() {
    let detail = || "words".to_owned();
    let blocked = BrokerError::Blocked { broker: broker(), detail: detail() };
    let vhost =
        BrokerError::Vhost { broker: broker(), vhost: "/".to_owned(), user: detail(), detail: detail(), advice: "" };
    for error in [blocked, vhost] {
        assert_eq!(route(Some(&failures(1_000, error)), 1), Route::Direct);
    }
}

#[test]
fn pods_may_help_where_the_contract_says_so() {
    let may: Vec<Reason> = Reason::VARIANTS.iter().copied().filter(|reason| may_help(*reason)).collect();
    let expected = [Reason::BrokerUnreachable, Reason::TlsFailed, Reason::AuthenticationFailed, Reason::ConfirmTimeout];
    assert_eq!(may.len(), expected.len());
    assert!(expected.iter().all(|reason| may.contains(reason)), "{may:?}");
}
