//! Checks that docker-compose.yml runs the broker of the tests: the same files and no override,
//! certificates for its users, and ports that are open only to this machine.

use std::collections::BTreeSet;
use std::fs;

use rig::broker::{CONFIG, DEFINITIONS, PLUGINS, USERS};
use rig::{project, testdata};
use serde_json::{Value, json};

/// Reads `docker-compose.yml`.
fn compose() -> Value {
    let text = fs::read_to_string(project("docker-compose.yml")).expect("a file");
    serde_saphyr::from_str(&text).expect("YAML")
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Reads a file of the tests' broker.
fn file(name: &str) -> String {
    fs::read_to_string(testdata(name)).expect("a file")
}

/// Returns the value of a key in `rabbitmq.conf`.
fn configured(key: &str) -> String {
    let text = file(CONFIG);
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    value.unwrap_or_else(|| panic!("{CONFIG} has no {key}")).to_owned()
}

/// Returns the path in the container of a mounted path of the project.
fn mounted(broker: &Value, place: &str) -> String {
    let mounts = texts(&broker["volumes"]);
    let target = mounts.iter().find_map(|mount| mount.strip_prefix(place)?.strip_prefix(':')?.strip_suffix(":ro,z"));
    target.unwrap_or_else(|| panic!("{place} is not mounted read-only: {mounts:?}")).to_owned()
}

#[test]
fn broker_has_only_the_tests_configuration() {
    let broker = &compose()["services"]["rabbitmq"];
    assert_eq!(mounted(broker, &format!("./testdata/{CONFIG}")), "/etc/rabbitmq/rabbitmq.conf");
    assert_eq!(mounted(broker, &format!("./testdata/{DEFINITIONS}")), configured("load_definitions"));
    let certificates = mounted(broker, "./.certs");
    for (key, certificate) in [("cacertfile", "ca.pem"), ("certfile", "server-cert.pem"), ("keyfile", "server-key.pem")]
    {
        assert_eq!(configured(&format!("ssl_options.{key}")), format!("{certificates}/{certificate}"));
    }
    assert_eq!(texts(&broker["volumes"]).len(), 3, "another mount could override these");
    let known = ["image", "depends_on", "hostname", "ports", "volumes", "configs", "healthcheck"];
    let keys: Vec<_> = broker.as_object().expect("a service").keys().map(String::as_str).collect();
    let other: Vec<_> = keys.into_iter().filter(|key| !known.contains(key)).collect();
    assert_eq!(other, Vec::<&str>::new(), "environment and command could override its configuration");
}

#[test]
fn adds_only_management_plugin() {
    let compose = compose();
    let mounted = json!([{"source": "plugins", "target": "/etc/rabbitmq/enabled_plugins"}]);
    assert_eq!(compose["services"]["rabbitmq"]["configs"], mounted);
    let names = |list: &str| -> BTreeSet<String> {
        let list = list.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix("].")).expect("an Erlang list");
        list.split(',').map(|name| name.trim().to_owned()).collect()
    };
    let mut expected = names(&file(PLUGINS));
    expected.insert("rabbitmq_management".to_owned());
    assert_eq!(names(compose["configs"]["plugins"]["content"].as_str().expect("a list")), expected);
}

#[test]
fn issues_certificates_for_all_users() {
    let definitions: Value = serde_json::from_str(&file(DEFINITIONS)).expect("JSON");
    let users = definitions["users"].as_array().expect("users").iter();
    let users: Vec<_> = users.map(|user| user["name"].as_str().expect("a name")).collect();
    // Only the user of the management page has a password.
    assert_eq!(users, [&USERS[..], &["viewer"]].concat());
    let compose = compose();
    let service = &compose["services"]["certificates"];
    assert_eq!(texts(&service["entrypoint"]), [&["/certificates.sh", "/certs"], &USERS[..]].concat());
    let mounts = texts(&service["volumes"]);
    assert!(mounts.contains(&"./testdata/broker/certificates.sh:/certificates.sh:ro,z"), "{mounts:?}");
    assert!(mounts.contains(&"./.certs:/certs:z"), "{mounts:?}");
    let awaited = &compose["services"]["rabbitmq"]["depends_on"]["certificates"]["condition"];
    assert_eq!(awaited, "service_completed_successfully");
}

#[test]
fn listens_on_loopback() {
    let broker = &compose()["services"]["rabbitmq"];
    let amqp = configured("listeners.ssl.default");
    assert_eq!(texts(&broker["ports"]), [&format!("127.0.0.1:{amqp}:{amqp}"), "127.0.0.1:15672:15672"]);
    let check = texts(&broker["healthcheck"]["test"]);
    assert_eq!(check, ["CMD", "rabbitmq-diagnostics", "-q", "check_port_listener", amqp.as_str()]);
    assert_eq!(configured("listeners.tcp"), "none", "only TLS");
    assert_eq!(configured("auth_mechanisms.1"), "EXTERNAL");
}

/// The values of Fedora's brokers, and RabbitMQ's default for the size of a message.
#[test]
fn limits_are_fedoras() {
    assert_eq!((configured("heartbeat"), configured("channel_max")), ("600".to_owned(), "128".to_owned()));
    assert!(!file(CONFIG).contains("max_message_size"));
}
