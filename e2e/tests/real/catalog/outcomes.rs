//! The statuses of all messages in a namespace.

use std::collections::BTreeMap;

use fedora_message::policy::outcome::{Reason, Then};
use rig::wait_until;
use strum::VariantArray;

use super::{Entry, Outcome, assert_expected};
use e2e::{SOON, TestNamespace};

/// Waits until each message has the expected status, or until a deadline. Returns all statuses.
///
/// `name` returns the message's name, `with_placeholders` puts placeholders into its text.
pub(super) fn wait<Input>(
    namespace: &TestNamespace,
    entries: &[&Entry<Input>],
    name: impl Fn(usize) -> String,
    with_placeholders: impl Fn(usize, &str) -> String,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let as_expected = || {
        let statuses = statuses(namespace);
        let status = |index| statuses.get(&name(index)).cloned().unwrap_or_default();
        outcomes = (0..entries.len())
            .map(|index| {
                let Outcome { reason, message } = status(index);
                Outcome { reason, message: with_placeholders(index, &message) }
            })
            .collect();
        entries.iter().zip(&outcomes).all(|(entry, outcome)| *outcome == entry.expected())
    };
    // The caller reports differences.
    let _ = wait_until(SOON, "every status is as expected", as_expected);

    outcomes
}

/// Waits until each message has the expected status, and asserts this. See [`wait`].
pub(super) fn assert_all<Input>(
    namespace: &TestNamespace,
    entries: &[Entry<Input>],
    name: impl Fn(usize) -> String,
    with_placeholders: impl Fn(usize, &str) -> String,
) {
    let all: Vec<_> = entries.iter().collect();
    assert_expected(entries, wait(namespace, &all, name, with_placeholders).into_iter().enumerate());
}

/// Returns reason and text of each message, and asserts the conditions that follow from the reason.
fn statuses(namespace: &TestNamespace) -> BTreeMap<String, Outcome> {
    let mut statuses = BTreeMap::new();
    for message in namespace.summaries().expect("a list") {
        let (name, status) = (message.name().to_owned(), &message.status);
        let Some(reason) = status["reason"].as_str() else { continue };
        let text = status["message"].as_str().unwrap_or_default().to_owned();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let met: Vec<_> = conditions.filter(|it| it["status"] == "True").map(|it| &it["type"]).collect();
        assert_eq!(met, [expected_condition(reason)], "{name}: {reason}: {text}");
        statuses.insert(name, Outcome { reason: Some(reason.to_owned()), message: text });
    }
    statuses
}

/// Returns the condition that is true for a message with this reason.
pub fn expected_condition(reason: &str) -> &'static str {
    let reason =
        Reason::VARIANTS.iter().copied().find(|known| known.name() == reason).expect("a reason of the contract");
    match reason.then() {
        Then::Done => "FedoraMessageSent",
        Then::Stop => "Stalled",
        // No test waits for the end of the grace period.
        Then::Backoff | Then::BackoffThenStop | Then::AwaitSender | Then::AwaitSecret | Then::AwaitResume => {
            "Reconciling"
        }
    }
}
