//! The envelope matches the library's, and has the same bytes in every attempt.

use std::collections::BTreeMap;

use crate::message::envelope::{
    CONTENT_ENCODING, CONTENT_TYPE, DELIVERY_MODE, Envelope, MAX_OWN_HEADERS_SIZE, Routing, table_size,
};
use crate::message::outgoing::HeaderValue;
use crate::message::validate::validate;
use serde_json::{Value, json};

use crate::fixture::{UID, decode, example, message, plain_routing, set, text, text_with, valid, with};

/// Returns the headers of a message by name. Each name may occur only once.
fn headers(object: &Value) -> BTreeMap<String, HeaderValue> {
    let valid = valid(object);
    let envelope = Envelope::new(&valid, "amq.topic");
    let headers: BTreeMap<_, _> =
        envelope.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    assert_eq!(headers.len(), envelope.headers.len(), "a header occurs twice");
    headers
}

#[test]
fn builds_the_proposals_example() {
    let message = message(&example());
    let routing = Routing { prod_topic_prefix: "org.fedoraproject.prod".to_owned(), ..plain_routing() };
    let valid = validate(&message, None, &routing).unwrap();
    let envelope = Envelope::new(&valid, &routing.exchange);
    assert_eq!(envelope.exchange, "amq.topic");
    assert_eq!(envelope.routing_key, "org.fedoraproject.prod.nice.message");
    assert_eq!(envelope.message_id.to_string(), UID);
    assert_eq!(envelope.priority, 0);
    assert_eq!(envelope.payload.get(), r#"{"encouragement":"You're doing great!"}"#);
    let mut headers = envelope.headers;
    headers.sort_by_key(|(name, _)| *name);
    assert_eq!(
        headers,
        [
            ("fedora_messaging_schema", text("base.message")),
            ("fedora_messaging_schema_package", text("fedora_messaging")),
            ("fedora_messaging_severity", HeaderValue::Integer(20)),
            ("niceness", text("very")),
            ("priority", HeaderValue::Integer(0)),
            ("sent-at", text("2019-07-30T19:12:22+00:00")),
        ]
    );
}

#[test]
fn constants_match_the_library() {
    assert_eq!((CONTENT_TYPE, CONTENT_ENCODING, DELIVERY_MODE), ("application/json", "utf-8", 2));
}

#[test]
fn severities_match_the_library() {
    assert_eq!(headers(&example())["fedora_messaging_severity"], HeaderValue::Integer(20));
    for (name, number) in [("Debug", 10), ("Info", 20), ("Warning", 30), ("Error", 40)] {
        let headers = headers(&with("/spec/message/severity", name.into()));
        assert_eq!(headers["fedora_messaging_severity"], HeaderValue::Integer(number), "{name}");
    }
}

#[test]
fn sets_priority_twice() {
    for priority in [0, 1, 7, 255] {
        let valid = valid(&with("/spec/message/priority", priority.into()));
        let envelope = Envelope::new(&valid, "amq.topic");
        assert_eq!(envelope.priority, priority);
        assert!(envelope.headers.contains(&("priority", HeaderValue::Integer(priority.into()))));
    }
}

#[test]
fn omits_an_unknown_package() {
    let object = with("/spec/message/schema", "bodhi.update.request.stable.v1".into());
    let of_no_package = headers(&object);
    assert_eq!(of_no_package["fedora_messaging_schema"], text("bodhi.update.request.stable.v1"));
    assert_eq!(of_no_package.get("fedora_messaging_schema_package"), None);
    let of_a_package = headers(&set(object, "/spec/message/schemaPackage", "bodhi_messages".into()));
    assert_eq!(of_a_package["fedora_messaging_schema_package"], text("bodhi_messages"));
}

#[test]
fn formats_sent_at_like_python() {
    for (created, expected) in [
        ("2019-07-30T19:12:22Z", "2019-07-30T19:12:22+00:00"),
        ("2019-07-30T19:12:22.987654Z", "2019-07-30T19:12:22+00:00"),
        ("2019-07-30T21:12:22+02:00", "2019-07-30T19:12:22+00:00"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00+00:00"),
        ("0999-01-02T03:04:05Z", "0999-01-02T03:04:05+00:00"),
    ] {
        assert_eq!(headers(&with("/metadata/creationTimestamp", created.into()))["sent-at"], text(expected));
    }
}

#[test]
fn keeps_the_users_headers() {
    let own = json!({"text": "1", "integer": 1, "boolean": true, "fedora_messaging_rpm_bash": true});
    let headers = headers(&with("/spec/message/headers", own));
    assert_eq!(headers["text"], text("1"));
    assert_eq!(headers["integer"], HeaderValue::Integer(1));
    assert_eq!(headers["boolean"], HeaderValue::Boolean(true));
    assert_eq!(headers["fedora_messaging_rpm_bash"], HeaderValue::Boolean(true));
    assert_eq!(headers.len(), 4 + 5);
}

#[test]
fn sends_the_same_bytes_in_every_attempt() {
    // Between attempts, the API server changes status, resource version and annotations.
    let first = message(&example());
    let later = set(example(), "/metadata/resourceVersion", "8".into());
    let later = set(later, "/metadata/generation", 3.into());
    let later = set(later, "/metadata/annotations/apps.fedoraproject.org~1retry", "now".into());
    let later = message(&set(later, "/status", json!({"attempts": 4, "status": false})));
    let routing = plain_routing();
    let (a, b, c) =
        (validate(&first, None, &routing), validate(&first, None, &routing), validate(&later, None, &routing));
    let envelopes = [a, b, c].map(|valid| format!("{:?}", Envelope::new(&valid.unwrap(), &routing.exchange)));
    assert_eq!(envelopes[0], envelopes[1]);
    assert_eq!(envelopes[0], envelopes[2]);
}

#[test]
fn ignores_the_order_of_headers() {
    let routing = plain_routing();
    let envelopes = [r#"{"b":1,"a":"x","c":true}"#, r#"{"c":true,"b":1,"a":"x"}"#].map(|headers| {
        let message = decode(&text_with("/spec/message/headers", headers));
        let valid = validate(&message, None, &routing).unwrap();
        format!("{:?}", Envelope::new(&valid, &routing.exchange))
    });
    assert_eq!(envelopes[0], envelopes[1]);
}

#[test]
fn computes_the_size_of_a_table() {
    // Name with its length, type, value: as the AMQP 0-9-1 specification lays them out.
    let headers = [("a", text("four")), ("bb", HeaderValue::Integer(1)), ("ccc", HeaderValue::Boolean(true))];
    let size = (1 + 1 + 1 + 4 + 4) + (1 + 2 + 1 + 8) + (1 + 3 + 1 + 1);
    assert_eq!(table_size(headers.iter().map(|(name, value)| (*name, value))), size);
}

#[test]
fn largest_headers_fit_a_frame() {
    let own = "v".repeat(MAX_OWN_HEADERS_SIZE - 1 - 1 - 1 - 4);
    let object = with("/spec/message/headers", json!({"h": own}));
    let object = set(object, "/spec/message/schema", "s".repeat(255).into());
    let object = set(object, "/spec/message/schemaPackage", "p".repeat(255).into());
    let valid = valid(&object);
    let envelope = Envelope::new(&valid, "amq.topic");
    let table = table_size(envelope.headers.iter().map(|(name, value)| (*name, value)));
    // Frame header and end, class with body size and flags, and the properties in their order.
    let frame = (7 + 1)
        + (2 + 2 + 8 + 2)
        + (1 + CONTENT_TYPE.len())
        + (1 + CONTENT_ENCODING.len())
        + (4 + table)
        + (1 + 1)
        + (1 + 36);
    assert!(frame <= 131_072, "{frame}");
    assert_eq!(envelope.properties_size(), frame);
}

#[test]
fn joins_prefix_with_one_dot() {
    for (prefix, expected) in [
        ("", "nice.message"),
        (".", "nice.message"),
        ("org.fedoraproject.prod", "org.fedoraproject.prod.nice.message"),
        ("org.fedoraproject.prod..", "org.fedoraproject.prod.nice.message"),
    ] {
        let routing = Routing { prod_topic_prefix: prefix.to_owned(), ..Routing::default() };
        let key = |env: &str| validate(&message(&with("/spec/env", env.into())), None, &routing).unwrap().routing_key;
        assert_eq!(key("prod"), expected);
        assert_eq!(key("stg"), "nice.message");
    }
}
