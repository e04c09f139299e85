//! What the operator has said of the messages of a namespace.
use strum::VariantArray;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fedora_message::policy::outcome::{Reason, Then};
use rig::wait_until;

use super::{Entry, Said};
use e2e::world::{SOON, Space};

/// Between the columns: no words hold it, as no character of theirs is a control character.
const COLUMN: char = '\t';

/// Waits until each message of the namespace that stands for an entry has the status that the
/// catalog says, or for a long time; returns what each status says. `name` gives the message's
/// name, `words` puts placeholders in.
pub fn wait<Input>(
    space: &Space,
    entries: &[&Entry<Input>],
    expected: impl Fn(&Entry<Input>) -> Said,
    name: impl Fn(usize) -> String,
    words: impl Fn(usize, &str) -> String,
) -> Vec<Said> {
    let mut said = Vec::new();
    let as_expected = || {
        let statuses = statuses(space);
        let status = |index| statuses.get(&name(index)).cloned().unwrap_or_default();
        said = (0..entries.len())
            .map(|index| {
                let Said { reason, words: raw } = status(index);
                Said { reason, words: words(index, &raw) }
            })
            .collect();
        entries.iter().zip(&said).all(|(entry, said)| *said == expected(entry))
    };
    // Who is wrong is told by the caller.
    let _ = wait_until(SOON, "every status is as expected", as_expected);
    said
}

/// Reason and words of each message; what follows stands in the conditions, and is checked here.
///
/// Columns and not JSON: a body may be nested deeper than a parser takes.
fn statuses(space: &Space) -> BTreeMap<String, Said> {
    let path = r#"jsonpath={range .items[*]}{.metadata.name}{"\t"}{.status.reason}{"\t"}{.status.conditions[?(@.status=="True")].type}{"\t"}{.status.message}{"\n"}{end}"#;
    let lines = space.kubectl(&["get", "fmsg", "-o", path], "").expect("kubectl lists");
    let mut statuses = BTreeMap::new();
    for line in lines.lines() {
        let [name, reason, follows, words] = line.splitn(4, COLUMN).collect::<Vec<_>>()[..] else {
            panic!("words of more than one line: {line}");
        };
        if reason.is_empty() {
            continue;
        }
        assert_eq!(follows, conditions(reason), "{name}: {reason}: {words}");
        statuses.insert(name.to_owned(), Said { reason: Some(reason.to_owned()), words: words.to_owned() });
    }
    statuses
}

/// The conditions that are true of a message with this reason.
fn conditions(reason: &str) -> &'static str {
    let reason =
        Reason::VARIANTS.iter().copied().find(|known| known.name() == reason).expect("a reason of the contract");
    match reason.then() {
        Then::Done => "FedoraMessageSent",
        Then::Stop => "Stalled",
        Then::Backoff | Then::AwaitSecret | Then::AwaitResume => "Reconciling",
    }
}

/// Many lines as one list, for a failure's words.
pub fn listed(lines: &[&str]) -> String {
    lines.iter().fold(String::new(), |mut all, line| {
        // Writing to a String can't fail.
        let _ = writeln!(all, "  {line}");
        all
    })
}
