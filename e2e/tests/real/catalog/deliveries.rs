//! Correct messages that a connection, a broker or a limit stops, because of a topic, a user or a
//! flag.

use std::collections::BTreeMap;
use std::thread;

use lapin::types::{AMQPValue, FieldTable};
use rig::broker::Options;
use rig::port::Port;
use rig::proxy::Answer;
use rig::{Broker, Proxy};
use serde::Deserialize;
use serde_json::json;

use super::manifest::{Fields, manifest_with};
use super::text::with_placeholders;
use super::{DELIVERIES, Entry, Outcome, assert_expected, load, outcomes};
use e2e::raw::RawConsumer;
use e2e::{Operator, TestNamespace, shared};

/// A message, its user, and the flags of its operator.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    /// Messages with the same flags share an operator. `{broker}` is the shared broker, `{odd}` the
    /// port of [`odd_broker`]. Nobody listens at `{nobody}`, `{silent}` sends nothing, and `{web}`
    /// speaks HTTP. Without flags, the environment `prod` has the shared broker, and `stg` has
    /// `{nobody}`.
    #[serde(default)]
    operator: Vec<String>,
    /// The common name of the client certificate. An empty name means no Secret.
    #[serde(default = "publisher")]
    user: String,
    #[serde(default)]
    set: Fields,
}

fn publisher() -> String {
    "publisher".to_owned()
}

/// Starts a broker that accepts frames of 8 KiB, with a permanent memory alarm. Its certificate is
/// for 127.0.0.1, and not for localhost.
fn odd_broker() -> Broker {
    let options = Options {
        server_names: vec!["127.0.0.1".to_owned(), "rabbitmq.example".to_owned()],
        address: "127.0.0.1".into(),
        config: "frame_max = 8192\nvm_memory_high_watermark.absolute = 1\n".to_owned(),
        ..Options::default()
    };
    Broker::start_with(&options).expect("a broker")
}

fn name(index: usize) -> String {
    format!("d{index:03}")
}

#[test]
fn reports_failed_deliveries() {
    let entries: Vec<Entry<Input>> = DELIVERIES.into_iter().flat_map(load).collect();
    let (usual, odd, nobody) = (&shared().broker, odd_broker(), Port::reserve().expect("a free port"));
    let [silent, web] = [Answer::Silence, Answer::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())].map(|answer| {
        let proxy = Proxy::start(usual.port()).expect("a proxy");
        proxy.answer(answer);
        proxy
    });
    let places = [
        ("{broker}", format!("localhost:{}", usual.port())),
        ("{odd}", odd.port().to_string()),
        ("{nobody}", format!("127.0.0.1:{}", nobody.number())),
        ("{silent}", format!("localhost:{}", silent.port())),
        ("{web}", format!("localhost:{}", web.port())),
    ];
    let _heard = RawConsumer::start(usual, "heard.#");
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongLongInt(0));
    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let _full = RawConsumer::start_with(usual, "full.#", full);
    let stuck = RawConsumer::start(usual, "stuck.#");
    stuck.suspend(usual);

    let mut by_operator: BTreeMap<&[String], Vec<usize>> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        by_operator.entry(&entry.input.operator).or_default().push(index);
    }
    let outcomes = thread::scope(|scope| {
        let groups = by_operator.into_iter().map(|(flags, group)| {
            let broker = if flags.iter().any(|flag| flag.contains("{odd}")) { &odd } else { usual };
            let (entries, places) = (&entries, &places);
            scope.spawn(move || deliver(broker, flags, entries, group, places))
        });
        let groups: Vec<_> = groups.collect();
        groups.into_iter().flat_map(|group| group.join().expect("no panic")).collect::<Vec<_>>()
    });
    stuck.resume(usual);
    assert_expected(&entries, outcomes);
}

/// Starts an operator for the entries with the same flags, and waits for their outcomes.
fn deliver(
    broker: &Broker,
    flags: &[String],
    entries: &[Entry<Input>],
    group: Vec<usize>,
    places: &[(&str, String)],
) -> Vec<(usize, Outcome)> {
    let namespace = TestNamespace::new("deliveries");
    let mut manifests = String::new();
    for index in &group {
        let Input { user, set, .. } = &entries[*index].input;
        if !user.is_empty() {
            let certificate = broker.client(user).expect("a certificate");
            manifests += &certificate.secret_yaml(&name(*index), &namespace.name);
        }
        let reference = json!({"secretRef": {"name": name(*index)}});
        manifests.extend(["---\n", &manifest_with(&name(*index), reference, set.clone()), "---\n"]);
    }
    let with_places = |flag: &String| places.iter().fold(flag.clone(), |flag, (name, place)| flag.replace(name, place));
    let usual = ["--stg-amqp-url", "amqps://{nobody}/%2Fpubsub"].map(str::to_owned);
    let flags: Vec<String> = if flags.is_empty() { &usual } else { flags }.iter().map(with_places).collect();
    let _operator = Operator::start(&namespace, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    // The operator runs already, so a deadline passes after the first attempt.
    namespace.create(&manifests);
    let here: Vec<_> = group.iter().map(|index| &entries[*index]).collect();
    let outcomes = outcomes::wait(
        &namespace,
        &here,
        |position| name(group[position]),
        |position, message| {
            let name = name(group[position]);
            let (secret, create) = (format!("{}/{name}", namespace.name), format!("-n {} create", namespace.name));
            let generic = format!("generic {name}");
            let secret = [
                (secret.as_str(), "{namespace}/{secret}"),
                (create.as_str(), "-n {namespace} create"),
                (generic.as_str(), "generic {secret}"),
            ];
            let places = places.iter().map(|(name, place)| (place.as_str(), *name));
            with_placeholders(message, &secret.into_iter().chain(places).collect::<Vec<_>>())
        },
    );
    group.into_iter().zip(outcomes).collect()
}
