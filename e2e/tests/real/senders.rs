//! Senders: set up once, checked before the first message, and used by messages of a topic and a body.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rig::proxy::Direction;
use rig::{Broker, Consumer, Proxy};
use serde_json::{Value, json};

use crate::events::events;
use e2e::cli::Cli;
use e2e::raw::{RawConsumer, unique};
use e2e::{
    Operator, SOON, TestNamespace, audited, by_sender, certificate, config_map, requests, secret, sender, shared,
    wait_soon, with_secret, write_verb,
};

/// The time until a person sees the result of `kubectl apply`.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Returns the client properties of the broker's connections whose `app` contains this text.
fn applications(broker: &Broker, app: &str) -> Vec<Value> {
    let list = ["list_connections", "--formatter", "json", "user", "client_properties"];
    let list: Value = serde_json::from_str(&broker.ctl(&list).expect("a list")).expect("JSON");
    let properties = |connection: &Value| -> BTreeMap<String, Value> {
        let list = connection["client_properties"].as_array().cloned().unwrap_or_default();
        let pair = |property: Value| Some((property[0].as_str()?.to_owned(), property[2].clone()));
        match &connection["client_properties"] {
            Value::Object(all) => all.clone().into_iter().collect(),
            _ => list.into_iter().filter_map(pair).collect(),
        }
    };
    let all = list.as_array().into_iter().flatten().map(properties);
    let ours =
        all.filter(|properties| properties.get("app").is_some_and(|it| it.as_str().is_some_and(|it| it.contains(app))));
    ours.map(|properties| json!(properties)).collect()
}

/// Three Secrets and a ConfigMap with keys of the application's choice, a prefix of its own, and a
/// message of five lines.
#[test]
fn sends_five_line_message() {
    let namespace = TestNamespace::new("five-lines");
    let consumer = Consumer::start(&shared().broker, "org.release-monitoring.five.#").expect("a consumer");
    let certificate = certificate("publisher");
    namespace.apply(&secret("anitya-cert", &[("anitya-cert.pem", &certificate.cert)]));
    namespace.apply(&secret("anitya-key", &[("anitya-key.pem", &certificate.key)]));
    namespace.apply(&config_map("fedora-ca", &[("cacert.pem", &certificate.ca)]));
    let operator = Operator::start(&namespace, &["--prod-topic-prefix", "org.fedoraproject.prod"]);
    namespace.apply(
        "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessageSender
metadata: {name: default}
spec:
  env: prod
  topicPrefix: org.release-monitoring.five
  application: {name: anitya-of-the-test, version: '2.1', url: https://release-monitoring.org, contacts: [a@example.org, b@example.org]}
  authentication:
    certSecretRef: {name: anitya-cert, key: anitya-cert.pem}
    keySecretRef: {name: anitya-key, key: anitya-key.pem}
    caConfigMapRef: {name: fedora-ca, key: cacert.pem}
",
    );
    let status = namespace.wait_for_sender("default", "True", "LoggedIn");
    assert_eq!(
        (&status["user"], &status["broker"]),
        (&json!("publisher"), &json!(format!("localhost:{}", shared().broker.port())))
    );
    let text = status["conditions"][0]["message"].as_str().unwrap_or_default();
    assert!(text.ends_with("with the certificate of publisher, and found the exchange amq.topic"), "{text}");
    let table = namespace.kubectl(&["get", "fmsender"]);
    let columns: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(columns[0], ["NAME", "READY", "ENV", "USER", "EXPIRES", "REASON", "AGE"]);
    assert_eq!(columns[1][..4], ["default", "True", "prod", "publisher"], "{table}");
    assert_eq!(columns[1][5], "LoggedIn", "{table}");

    namespace.create(
        "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessage
metadata: {generateName: project-updated-}
spec:
  message: {topic: project.update, body: {project: bash}}
",
    );
    namespace.wait_for_all_sent();
    let table = namespace.kubectl(&["get", "fmsg", "--no-headers"]);
    assert!(table.contains("   prod   project.update   true   Sent "), "the environment is the Sender's: {table}");
    let received = consumer.wait_for(1, SOON).expect("it is received");
    assert_eq!(received[0]["topic"], "org.release-monitoring.five.project.update");
    assert_eq!(received[0]["body"], json!({"project": "bash"}));
    let mut seen = Vec::new();
    wait_soon("the broker lists the connection", || {
        seen = applications(&shared().broker, "anitya-of-the-test");
        seen.len() == 1
    });
    let properties = json!({
        "app_version": "2.1", "app_url": "https://release-monitoring.org",
        "app_contacts_email": "a@example.org, b@example.org", "product": "fedora-message-operator",
    });
    for (key, value) in properties.as_object().expect("an object") {
        assert_eq!(&seen[0][key], value, "{key}: {seen:#?}");
    }
    assert_eq!(operator.stop(), Some(0));
}

/// The fastest of five counts, because other tests use the same processors.
#[test]
fn is_checked_within_two_seconds() {
    let namespace = TestNamespace::with_publisher("prompt-sender");
    let _operator = Operator::start(&namespace, &[]);
    let took = |name: String| {
        namespace.apply(&sender(&name, ""));
        let begin = Instant::now();
        namespace.wait_for_sender(&name, "True", "LoggedIn");
        begin.elapsed()
    };
    let took: Vec<_> = (0..5).map(|number| took(format!("sender-{number}"))).collect();
    assert!(took.iter().any(|took| *took < AT_ONCE), "{took:?}");
}

/// A Sender that comes after its messages sends them. Each message costs one write more.
#[test]
fn waits_for_default_sender() {
    let namespace = TestNamespace::with_publisher("late-sender");
    let _operator = Operator::start(&namespace, &[]);
    namespace.apply(&by_sender("early", "late.sender", ""));
    let status = namespace.expect_reason("early", "SenderNotFound", &["has no FedoraMessageSender default"]);
    assert_eq!(status["conditions"][1]["message"], "The next attempt is made as soon as the Sender appears or changes");
    assert_eq!(status["attempts"], 0, "it was not tried");
    namespace.apply(&sender("default", ""));
    namespace.wait_for_reason("early", "Sent");
    let count = |verb| requests(&namespace, verb).len();
    assert_eq!((count(write_verb()), count("get")), (2, 0));
}

/// One write and no read for each message, and one connection for all.
#[test]
fn many_messages_share_a_connection() {
    const COUNT: usize = 500;
    let namespace = TestNamespace::with_publisher("shared");
    let consumer = RawConsumer::start(&shared().broker, "shared.by-sender.#");
    namespace.apply(&sender("default", ", application: {name: one-of-many}"));
    let _operator = Operator::start(&namespace, &[]);
    namespace.wait_for_sender("default", "True", "LoggedIn");
    let messages: String =
        (0..COUNT).map(|n| by_sender(&format!("m{n}"), &format!("shared.by-sender.{n}"), "")).collect();
    namespace.create_many(&messages);
    namespace.wait_for_all_sent();
    assert_eq!(unique(&consumer.take(COUNT, SOON)).len(), COUNT);
    wait_soon("the broker lists one connection", || applications(&shared().broker, "one-of-many").len() == 1);
    let count = |verb| requests(&namespace, verb).len();
    assert_eq!((count(write_verb()), count("get")), (COUNT, 0));
}

/// A user who may only create messages learns nothing of Senders that others do not share.
#[test]
fn denied_sender_looks_absent() {
    let (guest, owner) = (TestNamespace::with_publisher("sender-guest"), TestNamespace::with_publisher("sender-owner"));
    let both = format!("{},{}", guest.name, owner.name);
    let _operator = Operator::start(&guest, &["--watch-namespaces", &both]);
    owner.apply(&sender("theirs", ", allowedNamespaces: [somebody]"));
    owner.wait_for_sender("theirs", "True", "LoggedIn");
    let naming = |name: &str, sender: &str| {
        by_sender(name, "denied.sender", &format!(", senderRef: {{name: {sender}, namespace: {}}}", owner.name))
    };
    guest.apply(&naming("denied", "theirs"));
    guest.apply(&naming("absent", "nothing"));
    let texts = ["denied", "absent"].map(|name| {
        let status = guest.wait_for_reason(name, "SenderNotFound");
        let status =
            json!([status["message"], status["conditions"][1]["message"], status["attempts"], status["routingKey"]]);
        status.to_string().replace("theirs", "NAME").replace("nothing", "NAME")
    });
    assert_eq!(texts[0], texts[1]);
    assert!(texts[0].contains("does not exist, or does not allow namespace"), "{}", texts[0]);
    owner.patch_sender("theirs", &json!({"spec": {"allowedNamespaces": ["somebody", guest.name]}}));
    guest.wait_for_reason("denied", "Sent");
    owner.patch_sender("theirs", &json!({"spec": {"allowedNamespaces": []}}));
    let mut number = 0;
    wait_soon("the operator refuses new messages", || {
        number += 1;
        guest.apply(&naming(&format!("again{number}"), "theirs"));
        let decided = || guest.get(&format!("again{number}"))["status"]["reason"].as_str().map(str::to_owned);
        wait_soon("a status", || decided().is_some());
        decided().as_deref() == Some("SenderNotFound")
    });
}

/// Each mistake is known before the first message, with the reason that its messages would have.
#[test]
fn sender_reports_mistakes() {
    let namespace = TestNamespace::new("mistakes");
    let operator = Operator::start(&namespace, &[]);
    for user in ["no-vhost", "stranger", "publisher"] {
        namespace.store_secret(user, &certificate(user));
    }
    let with = |name: &str, secret: &str| with_secret(&sender(name, ""), secret);
    namespace.apply(&(with("vhost", "no-vhost") + &with("user", "stranger") + &with("absent", "nothing")));
    for (name, reason, text) in [
        ("vhost", "VhostRefused", "no-vhost"),
        ("user", "AuthenticationFailed", "stranger"),
        ("absent", "SecretNotFound", "does not exist: create it, for example by kubectl"),
    ] {
        let status = namespace.wait_for_sender(name, "False", reason);
        let message = status["conditions"][0]["message"].as_str().unwrap_or_default();
        assert!(message.contains(text), "{name}: {message}");
        wait_soon("an Event", || events(&namespace, name).iter().any(|(_, other, _)| other == reason));
    }
    // A fix is noticed at once.
    namespace.store_secret("nothing", &certificate("publisher"));
    namespace.wait_for_sender("absent", "True", "LoggedIn");
    namespace.patch_sender("user", &json!({"spec": {"authentication": {"secretRef": {"name": "publisher"}}}}));
    let status = namespace.wait_for_sender("user", "True", "LoggedIn");
    assert_eq!(status["user"], "publisher");
    // A certificate that breaks later, too.
    namespace.kubectl(&["patch", "secret", "nothing", "-p", r#"{"stringData": {"key": "none"}}"#]);
    namespace.wait_for_sender("absent", "False", "SecretInvalid");
    let metrics = operator.http_get("/metrics").expect("metrics").1;
    let ready = |name: &str| {
        format!("fedora_message_operator_sender_ready{{namespace=\"{}\",sender=\"{name}\"}}", namespace.name)
    };
    assert!(metrics.contains(&format!("{} 1", ready("user"))), "{metrics}");
    assert!(metrics.contains(&format!("{} 0", ready("vhost"))), "{metrics}");
}

#[test]
fn reports_missing_exchange() {
    let namespace = TestNamespace::with_publisher("no-exchange");
    namespace.apply(&sender("default", ""));
    let _operator = Operator::start(&namespace, &["--exchange", "amq.nothing"]);
    let status = namespace.wait_for_sender("default", "False", "ExchangeNotFound");
    assert_eq!(status["user"], "publisher", "what is known is shown");
}

/// Messages that wait use what the Sender says now.
#[test]
fn changed_sender_sends_waiting_messages() {
    let namespace = TestNamespace::with_publisher("changed");
    let consumer = RawConsumer::start(&shared().broker, "#.changed.sender.*");
    namespace.apply(&with_secret(&sender("default", ", topicPrefix: old"), "nothing"));
    let _operator = Operator::start(&namespace, &[]);
    for n in 0..20 {
        namespace.apply(&by_sender(&format!("m{n}"), &format!("changed.sender.{n}"), ""));
    }
    let status = namespace.wait_for_reason("m0", "SecretNotFound");
    assert_eq!(status["routingKey"], "old.changed.sender.0");
    namespace.apply(&sender("default", ", topicPrefix: new"));
    namespace.wait_for_all_sent();
    let received = consumer.take(20, SOON);
    let wrong = received.iter().filter(|message| !message.delivery.routing_key.as_str().starts_with("new."));
    assert_eq!((unique(&received).len(), wrong.count()), (20, 0));
}

/// A message in flight ends, others wait, and a new Sender of the name sends them.
#[test]
fn deleted_sender_holds_messages() {
    let broker = Broker::start().expect("a broker");
    let namespace = TestNamespace::new("deleted").with_certificate(&broker, "publisher");
    namespace.apply(&sender("default", ""));
    let _operator = Operator::with_broker(&broker.url(), &namespace, &[]);
    namespace.wait_for_sender("default", "True", "LoggedIn");
    namespace.apply(&by_sender("first", "deleted.sender", ""));
    namespace.wait_for_reason("first", "Sent");
    // The broker takes no bytes while the next message is in flight.
    broker.freeze().expect("the broker is frozen");
    namespace.apply(&by_sender("flying", "deleted.sender", ""));
    namespace.kubectl(&["delete", "fmsender", "default"]);
    broker.thaw().expect("the broker goes on");
    namespace.apply(&by_sender("later", "deleted.sender", ""));
    namespace.wait_for_reason("later", "SenderNotFound");
    wait_soon("the message in flight has an end", || {
        ["Sent", "SenderNotFound"].iter().any(|end| namespace.get("flying")["status"]["reason"] == *end)
    });
    namespace.apply(&sender("default", ""));
    namespace.wait_for_all_sent();
}

/// The first Sender is deleted during its check, and another one with its name is created.
#[test]
fn does_not_mark_namesake_ready() {
    let namespace = TestNamespace::with_publisher("namesake");
    let proxy = Proxy::start(shared().broker.port()).expect("a proxy");
    let _operator = Operator::with_broker(&proxy.url(), &namespace, &[]);
    proxy.stall(&[Direction::Up, Direction::Down]);
    namespace.apply(&sender("default", ""));
    wait_soon("its check begins", || proxy.accepted() > 0);
    namespace.kubectl(&["delete", "fmsender", "default"]);
    namespace.apply(&with_secret(&sender("default", ""), "nothing"));
    namespace.wait_for_sender("default", "False", "SecretNotFound");
    proxy.stall(&[]);
    let is_refusal = |event: &Value| {
        (&event["verb"], &event["objectRef"]["resource"], &event["responseStatus"]["code"])
            == (&json!("patch"), &json!("fedoramessagesenders"), &json!(422))
    };
    wait_soon("the API server refuses the result", || audited(&namespace).iter().any(is_refusal));
    namespace.wait_for_sender("default", "False", "SecretNotFound");
}

/// They have one certificate, and each its own connection, prefix and defaults.
#[test]
fn two_senders_share_a_secret() {
    let namespace = TestNamespace::with_publisher("twins");
    let consumer = Consumer::start(&shared().broker, "#.twin.message").expect("a consumer");
    namespace.apply(&sender("one", ", topicPrefix: one, application: {name: twin-one}, defaults: {severity: Error, priority: 7, ttlSecondsAfterFinished: 0}"));
    namespace.apply(&sender("two", ", topicPrefix: '', application: {name: twin-two}"));
    let _operator = Operator::start(&namespace, &["--prod-topic-prefix", "operators.own"]);
    for name in ["one", "two"] {
        namespace.apply(&by_sender(name, "twin.message", &format!(", senderRef: {{name: {name}}}")));
    }
    let received = consumer.wait_for(2, SOON).expect("both are received");
    let facts: BTreeMap<_, _> = received
        .iter()
        .map(|message| {
            let headers = &message["headers"];
            (message["topic"].to_string(), (headers["fedora_messaging_severity"].clone(), headers["priority"].clone()))
        })
        .collect();
    let expected = [("\"one.twin.message\"", (json!(40), json!(7))), ("\"twin.message\"", (json!(20), json!(0)))];
    assert_eq!(facts, expected.map(|(topic, facts)| (topic.to_owned(), facts)).into());
    wait_soon("both connections", || applications(&shared().broker, "twin-").len() == 2);
    wait_soon("the time to live of the first Sender", || {
        namespace.messages().iter().map(|message| message["metadata"]["name"].clone()).eq([json!("two")])
    });
}

/// Renewal as Fedora does it: the Secret is deleted and created again, while messages come.
#[test]
fn renewal_loses_nothing() {
    let namespace = TestNamespace::with_publisher("renewal");
    let consumer = RawConsumer::start(&shared().broker, "renewal.#");
    namespace.apply(&sender("default", ", defaults: {backoffLimit: 3}"));
    let operator = Operator::start(&namespace, &[]);
    let mut count = 0;
    for _ in 0..3 {
        for _ in 0..30 {
            namespace.create_many(&by_sender(&format!("m{count}"), &format!("renewal.m{count}"), ""));
            count += 1;
        }
        namespace.kubectl(&["delete", "secret", "certs"]);
        namespace.create_many(&by_sender(&format!("m{count}"), &format!("renewal.m{count}"), ""));
        count += 1;
        namespace.store_certificate(&shared().broker, "publisher");
    }
    operator.wait_until(SOON, "all are sent", || namespace.pending().is_some_and(|pending| pending.is_empty()));
    let received = consumer.take(count, SOON);
    assert_eq!(unique(&received).len(), count);
    namespace.wait_for_sender("default", "True", "LoggedIn");
}

/// Certificate and key alone: the CA is the operator's.
#[test]
fn operator_gives_ca() {
    let (namespace, cli) = (TestNamespace::new("own-ca"), Cli::new());
    let certificate = certificate("publisher");
    let ca = cli.file("ca.pem", &certificate.ca);
    namespace.apply(&secret("certs", &[("tls.crt", &certificate.cert), ("tls.key", &certificate.key)]));
    namespace.apply(&sender("default", ""));
    {
        let _operator = Operator::start(&namespace, &[]);
        let status = namespace.wait_for_sender("default", "False", "SecretInvalid");
        let text = status["conditions"][0]["message"].as_str().unwrap_or_default();
        assert!(text.contains(r#"lacks the key "ca.crt" with the broker's CA"#), "{text}");
    }
    let _operator = Operator::start(&namespace, &["--prod-ca-file", &ca.display().to_string()]);
    namespace.wait_for_sender("default", "True", "LoggedIn");
    namespace.apply(&by_sender("m", "own.ca", ""));
    namespace.wait_for_reason("m", "Sent");
}

/// A user who may create messages does not choose certificates.
#[test]
fn requires_sender() {
    let namespace = TestNamespace::with_publisher("required");
    namespace.apply(&sender("default", ""));
    let _operator = Operator::start(&namespace, &["--require-sender"]);
    namespace.apply(&e2e::message("inline", "required.topic", ""));
    let status = namespace.wait_for_reason("inline", "InvalidMessage");
    let text = status["message"].as_str().unwrap_or_default();
    assert!(text.starts_with("spec.authentication is not allowed"), "{text}");
    namespace.apply(&by_sender("m", "required.topic", ""));
    namespace.wait_for_reason("m", "Sent");
}

/// The operator refuses a topic that would have a prefix twice, or that of the other environment.
#[test]
fn refuses_prefix_in_topic() {
    let namespace = TestNamespace::with_publisher("prefixes");
    namespace.apply(
        &(sender("default", "")
            + &sender("own", ", topicPrefix: org.release-monitoring.prod")
            + &sender("none", ", topicPrefix: ''")),
    );
    let prefixes = ["--prod-topic-prefix", "org.fedoraproject.prod", "--stg-topic-prefix", "org.fedoraproject.stg"];
    let _operator = Operator::start(&namespace, &prefixes);
    for (name, sender, topic, right) in [
        ("twice", "default", "org.fedoraproject.prod.a.b", r#"with the topic "a.b""#),
        ("other", "default", "org.fedoraproject.stg.a.b", r#"with the topic "a.b""#),
        ("own", "own", "org.release-monitoring.prod.a.b", r#"with the topic "a.b""#),
        ("none", "none", "org.fedoraproject.stg.a.b", r#"with the topic "org.fedoraproject.prod.a.b""#),
    ] {
        namespace.apply(&by_sender(name, topic, &format!(", senderRef: {{name: {sender}}}")));
        namespace.expect_reason(name, "InvalidMessage", &[right]);
    }
    namespace.apply(&by_sender("full", "org.fedoraproject.prod.a.b", ", senderRef: {name: none}"));
    let status = namespace.wait_for_reason("full", "Sent");
    assert_eq!(status["routingKey"], "org.fedoraproject.prod.a.b");
}

/// `check` with the user's own permissions, and `publish` with manifests alone.
#[test]
fn commands_use_senders() {
    let (namespace, cli, broker) = (TestNamespace::with_publisher("commands"), Cli::new(), &shared().broker);
    namespace.apply(&sender("default", ", topicPrefix: com"));
    let kubeconfig = namespace.kube.kubeconfig().display().to_string();
    let env = [("KUBECONFIG", kubeconfig.as_str()), ("PROD_AMQP_URL", &broker.url())];
    let name = format!("{}/default", namespace.name);
    let sends = format!("FedoraMessageSender {name} sends to prod");
    let login = "login         with the certificate of publisher";
    cli.run(&["check", "--sender", &name], &env)
        .expect(0, &[&sends, login, "amq.topic exists", "topic prefix  com, the Sender's"]);
    let absent = format!("{}/nothing", namespace.name);
    cli.run(&["check", "--sender", &absent], &env)
        .expect(1, &["nothing does not exist: create it, or correct its name"]);
    namespace.kubectl(&["delete", "secret", "certs"]);
    cli.run(&["check", "--sender", &name], &env).expect(1, &["certificate failed: Secret", "does not exist"]);

    let certificate = certificate("publisher");
    let consumer = RawConsumer::start(broker, "com.published");
    let files = certificate.secret_yaml("certs", "default")
        + "\n---"
        + &by_sender("m", "published", "")
        + &sender("default", ", topicPrefix: com");
    let file = cli.file("all.yaml", &files).display().to_string();
    cli.run(&["publish", "-f", &file], &env).expect(0, &["Sent: Message was sent successfully"]);
    assert_eq!(consumer.take(1, SOON).len(), 1);
    let file = cli.file("alone.yaml", &by_sender("m", "published", "")).display().to_string();
    cli.run(&["publish", "-f", &file], &env).expect(
        1,
        &[
            "SenderNotFound: the message names neither",
            "FedoraMessageSender default/default is not in the files: add its manifest",
        ],
    );
}

/// `kubectl apply` says at once what is wrong with a Sender, with the field's name.
#[test]
fn admission_refuses_wrong_senders() {
    let namespace = TestNamespace::new("wrong-senders");
    let long = "é".repeat(128);
    for (spec, expected) in [
        (json!({"env": "prod"}), "spec.authentication: Required value"),
        (json!({"authentication": {"secretRef": {"name": "certs"}}}), "spec.env: Required value"),
        (with_authentication(&json!({})), "spec.authentication must name the certificate in exactly one way"),
        (
            with_authentication(&json!({"certSecretRef": {"name": "a", "key": "b"}})),
            "spec.authentication needs both of certSecretRef and keySecretRef, or none",
        ),
        (
            with_authentication(&json!({
                "secretRef": {"name": "a"}, "caSecretRef": {"name": "a", "key": "b"},
                "caConfigMapRef": {"name": "a", "key": "b"},
            })),
            "spec.authentication must name the CA in at most one way: caSecretRef or caConfigMapRef",
        ),
        (with(&json!({"topicPrefix": "org..a"})), "spec.topicPrefix must be words separated by single dots, or empty"),
        (with(&json!({"topicPrefix": "org.#"})), "spec.topicPrefix must not contain * or #"),
        (with(&json!({"topicPrefix": "org a"})), "spec.topicPrefix must not contain white space"),
        (with(&json!({"allowedNamespaces": ["All"]})), "must be the name of a namespace, or * for all namespaces"),
        (with(&json!({"application": {}})), "spec.application.name: Required value"),
        (with(&json!({"application": {"name": long}})), "must have at most 255 bytes in UTF-8"),
        (with(&json!({"application": {"name": "a\u{7f}"}})), "must not contain control characters"),
        (with(&json!({"application": {"name": "a", "contacts": vec!["a"; 11]}})), "must have at most 10 items"),
        (with(&json!({"defaults": {"priority": 256}})), "should be less than or equal to 255"),
        (with(&json!({"defaults": {"severity": "Bad"}})), r#"supported values: "Debug", "Info", "Warning", "Error""#),
    ] {
        let object = json!({
            "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessageSender",
            "metadata": {"name": "wrong"}, "spec": spec,
        });
        let error = namespace.try_kubectl(&["create", "-f", "-"], &object.to_string()).expect_err("it is refused");
        assert!(error.contains(expected), "{spec}: {error}");
    }
}

/// Returns a correct spec with these fields.
fn with(fields: &Value) -> Value {
    let mut spec = json!({"env": "prod", "authentication": {"secretRef": {"name": "certs"}}});
    spec.as_object_mut().expect("an object").extend(fields.as_object().cloned().unwrap_or_default());
    spec
}

fn with_authentication(authentication: &Value) -> Value {
    with(&json!({"authentication": authentication}))
}
