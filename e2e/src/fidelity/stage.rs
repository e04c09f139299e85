//! Compares messages with those of the Python library: on the wire, and as the library's consumer
//! reads them. Only id and time may differ.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveDateTime, Utc};
use lapin::message::BasicGetMessage;
use lapin::types::AMQPValue;
use rig::{Broker, Consumer, Publisher, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

use super::cases::{Case, PREFIX, parse};
use crate::SOON;
use crate::raw::{RawConsumer, id};

/// A message that the operator or `publish` has sent.
pub struct Sent {
    /// The index of the case.
    pub case: usize,
    /// The name of the resource.
    name: String,
    /// The id of the message.
    pub id: String,
    /// The valid times of `sent-at`.
    at: RangeInclusive<DateTime<Utc>>,
}

impl Sent {
    /// Creates an entry for a message with this id, from the manifest with this name.
    pub fn new(name: &Value, id: &Value, at: RangeInclusive<DateTime<Utc>>) -> Self {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Self { case: number(name), name: text(name), id: text(id), at }
    }
}

/// All cases, published by the Python library, with two consumers of all messages.
pub struct Stage {
    /// The cases.
    pub cases: Vec<Case>,
    /// The expected body of each case.
    bodies: Vec<Value>,
    /// The ids of the library's messages.
    references: Vec<String>,
    wire: RawConsumer,
    library: Consumer,
}

impl Stage {
    /// Publishes the reference for each case, with the body that `expected` returns.
    pub fn set(broker: &Broker, root: &str, cases: Vec<Case>, expected: impl Fn(&Case) -> &str) -> Self {
        let bodies: Vec<Value> = cases.iter().map(|case| parse(expected(case))).collect();
        let wire = RawConsumer::start(broker, &format!("#.{root}.#"));
        let library = Consumer::start(broker, &format!("#.{root}.#")).expect("a consumer");
        let mut publishers = [("prod", PREFIX), ("stg", "")]
            .map(|(env, prefix)| (env, Publisher::start(broker, "publisher", prefix).expect("a reference publisher")));
        let publish = |(case, body): (&Case, &Value)| {
            let (_, publisher) = publishers.iter_mut().find(|(env, _)| *env == case.env).expect("prod or stg");
            publisher.publish(&case.reference(body)).unwrap_or_else(|error| panic!("{}: {error}", case.name))
        };
        let references = cases.iter().zip(&bodies).map(publish).collect();
        Self { cases, bodies, references, wire, library }
    }

    /// Returns all cases as a stream of JSON, or of YAML with a `separator`. [`number`] reads their
    /// names.
    pub fn manifests(&self, prefix: &str, separator: &str) -> String {
        let manifest =
            |(number, case): (usize, &Case)| separator.to_owned() + &case.manifest(&format!("{prefix}-{number}"));
        self.cases.iter().enumerate().map(manifest).collect()
    }

    /// Reads a message after the operator has sent it.
    pub fn sent_by_operator(&self, object: &Value) -> Sent {
        let metadata = &object["metadata"];
        let created = metadata["creationTimestamp"].as_str().and_then(|time| time.parse().ok()).expect("a time");
        let sent = Sent::new(&metadata["name"], &metadata["uid"], created..=created);
        let stored = &object["spec"]["message"]["body"];
        let name = &self.cases[sent.case].name;
        assert!(*stored == self.bodies[sent.case], "{name}: the API server stores {}", short(stored));
        sent
    }

    /// Compares all sent messages with the reference, and returns the received messages by id.
    pub fn compare(&self, sent: &[Sent]) -> HashMap<String, BasicGetMessage> {
        let count = self.references.len() + sent.len();
        let received = self.wire.take(count, SOON);
        assert_eq!(received.len(), count, "each message once");
        let received: HashMap<_, _> = received.into_iter().map(|message| (id(&message), message)).collect();
        let accepted = self.accepted(count);
        let mut differences = String::new();
        for Sent { case, name, id, at } in sent {
            let reference = &self.references[*case];
            let wire = (received.get(id), received.get(reference));
            let library = (accepted.get(id), accepted.get(reference));
            let found = match (wire, library) {
                ((Some(ours), Some(theirs)), (Some(we), Some(they))) => {
                    [on_the_wire(ours, theirs, at), self.at_consumers(*case, ours, we, they)].concat()
                }
                ((None, _), _) => vec!["was not received under its id".to_owned()],
                (_, (None, _)) => vec!["was not accepted by the library".to_owned()],
                _ => vec!["the library's own message is missing".to_owned()],
            };
            for difference in found {
                let _ = writeln!(differences, "{} ({name}): {difference}", self.cases[*case].name);
            }
        }
        assert!(differences.is_empty(), "\n{differences}{}", self.library.log());
        received
    }

    /// Returns the messages that the library's consumer accepted, by id.
    fn accepted(&self, count: usize) -> HashMap<String, Value> {
        let text = || self.library.text().expect("the consumer prints");
        // The caller reports the messages that the library never accepts.
        let _ = wait_until(SOON, "the library accepts all", || text().lines().count() >= count);
        let messages = text().lines().map(parse).collect::<Vec<_>>();
        messages.into_iter().map(|message| (message["id"].as_str().expect("an id").to_owned(), message)).collect()
    }

    /// Returns the differences between our message and the expected one, or the library's own, for
    /// consumers with the library.
    fn at_consumers(&self, case: usize, wire: &BasicGetMessage, ours: &Value, theirs: &Value) -> Vec<String> {
        let expected = [
            ("body", self.bodies[case].clone()),
            ("severity", self.cases[case].severity().into()),
            ("class", "Message".into()),
        ];
        let payload = parse(std::str::from_utf8(&wire.data).expect("UTF-8"));
        let sent = (payload != self.bodies[case]).then(|| format!("the body sent is {}", short(&payload)));
        let read = expected.into_iter().filter(|(field, value)| ours[field] != *value);
        let read = read.map(|(field, value)| {
            format!("the {field} read by the library is {}, not {}", short(&ours[field]), short(&value))
        });
        let timeless = |message: &Value| {
            let mut message = message.clone();
            message["id"].take();
            message["headers"]["sent-at"].take();
            message
        };
        let other = (timeless(ours) != timeless(theirs))
            .then(|| format!("the library reads {}, and its own as {}", short(ours), short(theirs)));
        sent.into_iter().chain(read).chain(other).collect()
    }
}

/// Returns the differences between two messages on the wire, without ids and times. Checks the form
/// of ids and times.
fn on_the_wire(ours: &BasicGetMessage, theirs: &BasicGetMessage, at: &RangeInclusive<DateTime<Utc>>) -> Vec<String> {
    let (mut ours, mut theirs) = (facets(ours), facets(theirs));
    let mut differences = Vec::new();
    for message in [&ours, &theirs] {
        let id = message.get("message_id").map_or("unset", String::as_str);
        if !Uuid::try_parse(id).is_ok_and(|uuid| uuid.get_version_num() == 4 && uuid.to_string() == id) {
            differences.push(format!("message_id is {id}"));
        }
    }
    let time = |message: &BTreeMap<String, String>| {
        let text = message.get("header sent-at")?.strip_prefix("S ")?.to_owned();
        let text: String = serde_json::from_str(&text).ok()?;
        Some(NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S+00:00").ok()?.and_utc())
    };
    match (time(&ours), time(&theirs)) {
        (Some(time), Some(_)) if at.contains(&time) => {}
        _ => differences.push(format!(
            "sent-at is {:?}, the library's is {:?}",
            ours.get("header sent-at"),
            theirs.get("header sent-at")
        )),
    }
    for may_differ in ["message_id", "header sent-at"] {
        ours.remove(may_differ);
        theirs.remove(may_differ);
    }
    let set: Vec<_> = theirs.keys().filter(|facet| !facet.contains(' ')).map(String::as_str).collect();
    assert_eq!(
        set,
        ["body", "content_encoding", "content_type", "delivery_mode", "exchange", "priority", "routing_key"]
    );
    for facet in ours.keys().chain(theirs.keys().filter(|facet| !ours.contains_key(*facet))) {
        let (our, their) = (ours.get(facet), theirs.get(facet));
        if our != their {
            let show = |value: Option<&String>| value.map_or_else(|| "unset".to_owned(), |value| cut(value));
            differences.push(format!("{facet} is {}, the library's is {}", show(our), show(their)));
        }
    }
    differences
}

/// Returns all properties of a message on the wire as texts, without unset ones. A header has the
/// key `header NAME`, and its value begins with its AMQP type.
fn facets(message: &BasicGetMessage) -> BTreeMap<String, String> {
    let properties = &message.properties;
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    let number = |value: &Option<u8>| value.map(|number| number.to_string());
    let set = [
        ("exchange", Some(message.exchange.to_string())),
        ("routing_key", Some(message.routing_key.to_string())),
        ("content_type", text(properties.content_type())),
        ("content_encoding", text(properties.content_encoding())),
        ("delivery_mode", number(properties.delivery_mode())),
        ("priority", number(properties.priority())),
        ("correlation_id", text(properties.correlation_id())),
        ("reply_to", text(properties.reply_to())),
        ("expiration", text(properties.expiration())),
        ("message_id", text(properties.message_id())),
        ("timestamp", properties.timestamp().map(|time| time.to_string())),
        ("type", text(properties.kind())),
        ("user_id", text(properties.user_id())),
        ("app_id", text(properties.app_id())),
        ("cluster_id", text(properties.cluster_id())),
        ("body", Some(parse(std::str::from_utf8(&message.data).expect("UTF-8")).to_string())),
    ];
    let headers = properties.headers().iter().flat_map(|table| table.inner().iter());
    let headers = headers.map(|(name, value)| (format!("header {name}"), typed(value)));
    set.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).chain(headers).collect()
}

/// Returns a header's value after the letter of its AMQP type.
fn typed(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => format!("S {}", json!(text)),
            Err(error) => format!("S {error}"),
        },
        AMQPValue::LongInt(number) => format!("I {number}"),
        AMQPValue::LongLongInt(number) => format!("l {number}"),
        AMQPValue::Boolean(value) => format!("t {value}"),
        other => format!("{other:?}"),
    }
}

/// Returns the case in a manifest's name.
pub fn number(name: &Value) -> usize {
    let name = name.as_str().expect("a name");
    name.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a name that ends in a number")
}

/// Returns JSON, shortened for people.
fn short(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    const LONGEST: usize = 300;
    let start: String = text.chars().take(LONGEST).collect();
    if start.len() < text.len() { format!("{start}… ({} bytes)", text.len()) } else { start }
}
