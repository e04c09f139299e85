//! Text from elsewhere in our own texts, topics, prefixes, and brokers' URLs.

#![no_main]

use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Routing;
use fedora_message::message::validate::valid_topic;
use fedora_message::text::{printable, quoted};
use fedora_message_operator::internals::BrokerAddress;
use fedora_message_operator_fuzz::memory::within;
use fedora_message_operator_fuzz::rules::{check_error, check_message, is_hidden};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

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
        check_message(&message(topic), None, &routing);
    }
    // The administrator wrote the URL, so its errors are not checked.
    let _ = text.parse::<BrokerAddress>();
}));

/// Returns a valid message of this topic.
fn message(topic: &str) -> FedoraMessage {
    let object = json!({
        "metadata": {
            "name": "a", "namespace": "apps", "uid": "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d",
            "creationTimestamp": "2019-07-30T19:12:22Z",
        },
        "spec": {
            "env": "prod", "message": {"body": {}, "topic": topic},
            "authentication": {"secretRef": {"name": "certs"}},
        },
    });
    serde_json::from_str(&object.to_string()).expect("a message")
}

fn check_topic(topic: &str) {
    assert!((1..=255).contains(&topic.len()));
    assert!(!topic.starts_with('.') && !topic.ends_with('.') && !topic.contains(".."));
    assert!(!topic.chars().any(|c| c.is_whitespace() || c.is_control() || c == '*' || c == '#'));
}
