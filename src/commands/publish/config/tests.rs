//! Reads the keys of a `config.toml`, and names the others.

use super::*;

const FEDORA: &str = r#"
# As Fedora's applications have it.
amqp_url = "amqps://bodhi:@rabbitmq.fedoraproject.org/%2Fpubsub?connection_attempts=3&retry_delay=5"
passive_declares = true
publish_exchange = "amq.topic"
topic_prefix = "org.fedoraproject.prod."

[tls]
ca_cert = "/etc/fedora-messaging/cacert.pem"
keyfile = "/etc/fedora-messaging/bodhi.key"
certfile = "/etc/fedora-messaging/bodhi.crt"

[client_properties]
app = "bodhi"
app_url = "https://bodhi.fedoraproject.org"
app_contacts_email = ["bodhi@example.org"]
information = "https://fedora-messaging.readthedocs.io/en/stable/"

[exchanges."amq.topic"]
type = "topic"
[queues.bodhi]
durable = true
[qos]
prefetch_size = 0
[log_config]
version = 1
"#;

fn refusal(text: &str) -> String {
    format!("{:#}", Configuration::parse(text).unwrap_err())
}

fn with(line: &str) -> String {
    FEDORA.replacen("passive_declares = true", line, 1)
}

#[test]
fn reads_configuration_of_an_application() {
    let configuration = Configuration::parse(&with("publish_priority = 3")).unwrap();
    assert_eq!(configuration.address.url(), "amqps://rabbitmq.fedoraproject.org:5671/%2Fpubsub");
    assert_eq!(configuration.topic_prefix, "org.fedoraproject.prod");
    assert_eq!(configuration.exchange.as_deref(), Some("amq.topic"));
    assert_eq!(configuration.priority, Some(3));
    let files = ["cacert.pem", "bodhi.crt", "bodhi.key"].map(|file| Path::new("/etc/fedora-messaging").join(file));
    assert_eq!(configuration.certificate, files);
    let application = configuration.application.unwrap();
    assert_eq!(
        application.texts().collect::<Vec<_>>(),
        ["bodhi", "", "https://bodhi.fedoraproject.org", "bodhi@example.org"]
    );
    assert_eq!(configuration.notes, ["connection_attempts in amqp_url", "retry_delay in amqp_url"]);
}

#[test]
fn names_keys_without_effect() {
    let text = with("shade = 1").replace("[tls]", "[tls]\nversion = 1").replace("app =", "team = 1\napp =");
    let notes = Configuration::parse(&text).unwrap().notes;
    for key in ["tls.version", "client_properties.team", "shade"] {
        assert!(notes.iter().any(|note| note == key), "{key}: {notes:?}");
    }
}

/// The library lowers the names of keys.
#[test]
fn keys_may_have_capitals() {
    let text = FEDORA.replace("topic_prefix", "TOPIC_PREFIX");
    assert_eq!(Configuration::parse(&text).unwrap(), Configuration::parse(FEDORA).unwrap());
}

#[test]
fn one_contact_may_be_a_text() {
    let text = FEDORA.replace(r#"["bodhi@example.org"]"#, r#""bodhi@example.org""#);
    assert_eq!(Configuration::parse(&text).unwrap(), Configuration::parse(FEDORA).unwrap());
}

#[test]
fn says_which_key_is_wrong() {
    for (text, problem) in [
        (FEDORA.replace("amqps://", "amqp://"), "amqp_url: the URL must begin with amqps://"),
        (FEDORA.replace("amqp_url", "amqp_uri"), "amqp_url is missing: add the broker's"),
        (FEDORA.replace("keyfile", "key"), "tls.keyfile is missing: name the file"),
        (FEDORA.replace("[tls]", "[ssl]"), "tls.ca_cert is missing"),
        (FEDORA.replace("\"org.fedoraproject.prod.\"", "1"), "topic_prefix must be a text: put it in quotes"),
        (FEDORA.replace("org.fedoraproject.prod.", "org fedora"), "topic_prefix: the prefix \"org fedora\" must not"),
        (with("publish_priority = 256"), "publish_priority must be a whole number from 0 to 255"),
        (with("publish_priority = true"), "publish_priority must be a whole number"),
        (FEDORA.replace("app = \"bodhi\"", "app = \"\""), "client_properties.app must not be empty"),
        (FEDORA.replace("[\"bodhi@example.org\"]", "[1]"), "client_properties.app_contacts_email must be a list of"),
        ("tls = 1\namqp_url = \"amqps://a\"".to_owned(), "tls must be a section: write [tls]"),
    ] {
        let refusal = refusal(&text);
        assert!(refusal.starts_with(problem), "{refusal}");
    }
}

#[test]
fn quotes_no_password() {
    for text in ["a = 1\namqp_url = \"amqps://me:hunter2@broker", "amqp_url = \"amqp://me:hunter2@broker\""] {
        assert!(!refusal(text).contains("hunter2"), "{}", refusal(text));
    }
    assert!(refusal("a = 1\nb = \"c").starts_with("line 2 is not valid TOML: "), "{}", refusal("a = 1\nb = \"c"));
}
