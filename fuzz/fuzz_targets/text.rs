//! Text from elsewhere in our own texts, topics, prefixes, and brokers' URLs.

#![no_main]

use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Routing;
use fedora_message::message::validate::valid_topic;
use fedora_message::text::{printable, quoted};
use fedora_message_operator::internals::BrokerAddress;
use fedora_message_operator_fuzz::memory::within;
use fedora_message_operator_fuzz::rules::{check_error, is_hidden};
use libfuzzer_sys::fuzz_target;

/// The maximum length of a quoted text, in characters. Escaping makes at most ten of each.
const QUOTED: usize = 60;

fuzz_target!(|text: &str| within(text.len(), || {
    let longest = text.len() % 100;
    let (quote, shown) = (quoted(text), printable(text, longest));
    assert!(!quote.contains(is_hidden) && quote.chars().count() <= 10 * QUOTED + 3, "{quote:?}");
    assert!(quote.starts_with('"') && quote.len() > 1 && quote.ends_with('"'), "{quote:?}");
    assert!(!shown.contains(is_hidden) && shown.chars().count() <= longest + 1, "{shown:?}");

    match valid_topic(text) {
        Ok(()) => check_topic(text),
        Err(error) => check_error(&error),
    }
    let (prefix, topic) = text.split_once('\n').unwrap_or(("", text));
    let routing = Routing { prod_topic_prefix: prefix.to_owned(), ..Routing::default() };
    if valid_topic(topic).is_ok() && valid_topic(routing.prefix(Environment::Prod)).is_ok() {
        let key = routing.key(Environment::Prod, topic);
        assert!(key.len() > 255 || valid_topic(&key).is_ok(), "{key:?}");
    }
    // The administrator wrote the URL, so its errors are not checked.
    let _ = text.parse::<BrokerAddress>();
}));

fn check_topic(topic: &str) {
    assert!((1..=255).contains(&topic.len()));
    assert!(!topic.starts_with('.') && !topic.ends_with('.') && !topic.contains(".."));
    assert!(!topic.chars().any(|c| c.is_whitespace() || c.is_control() || c == '*' || c == '#'));
}
