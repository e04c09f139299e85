//! The statuses of all messages in a namespace.

use std::collections::BTreeMap;

use fedora_message::policy::outcome::{Reason, Then};
use rig::wait_until;
use strum::VariantArray;

use super::{Entry, Outcome, assert_expected};
use e2e::{SOON, TestNamespace};

/// The separator of columns. No message contains a control character.
const COLUMN: char = '\t';

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
///
/// The output has columns, because a body may be nested too deeply for a JSON parser.
fn statuses(namespace: &TestNamespace) -> BTreeMap<String, Outcome> {
    let path = r#"jsonpath={range .items[*]}{.metadata.name}{"\t"}{.status.reason}{"\t"}{.status.conditions[?(@.status=="True")].type}{"\t"}{.status.message}{"\n"}{end}"#;
    let lines = namespace.kubectl(&["get", "fmsg", "-o", path]);
    let mut statuses = BTreeMap::new();
    for line in lines.lines() {
        let [name, reason, condition, text] = line.splitn(4, COLUMN).collect::<Vec<_>>()[..] else {
            panic!("a message with more than one line: {line}");
        };
        if reason.is_empty() {
            continue;
        }
        assert_eq!(condition, expected_condition(reason), "{name}: {reason}: {text}");
        statuses.insert(name.to_owned(), Outcome { reason: Some(reason.to_owned()), message: text.to_owned() });
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
        Then::Backoff | Then::BackoffThenStop | Then::AwaitSecret | Then::AwaitResume => "Reconciling",
    }
}
