//! `publish` takes the place of the library's command: its configuration, its recorded messages, and
//! messages made of flags.

use std::os::unix::fs::symlink;
use std::process::Command;

use lapin::message::BasicGetMessage;
use rig::consumer::Format;
use rig::python::{Python, config};
use rig::{Broker, Consumer, Pki, Publisher, schemas};
use serde_json::{Value, json};

use e2e::cli::Cli;
use e2e::fidelity::cases::{parse, recorded};
use e2e::raw::{RawConsumer, id};
use e2e::{Operator, SOON, TestNamespace, certificate, message, run, shared, unused_broker_url, wait_soon};

/// The topic prefix of the configuration.
const PREFIX: &str = "org.drop-in.prod";

/// Recorded messages with everything that a line may have.
fn lines() -> Vec<Value> {
    let head = |severity: u8, sent_at: &str| {
        json!({
            "fedora_messaging_schema": "base.message", "fedora_messaging_schema_package": "fedora_messaging",
            "fedora_messaging_severity": severity, "priority": 0, "sent-at": sent_at,
        })
    };
    let mut filtered = head(40, "2019-07-30T19:12:22+00:00");
    filtered["fedora_messaging_user_alice"] = json!(true);
    filtered["fedora_messaging_rpm_kernel"] = json!(true);
    filtered["count"] = json!(3);
    filtered["large"] = json!(5_000_000_000_i64);
    filtered["scratch"] = json!(false);
    filtered["note"] = json!("Grüße \u{1f980}");
    [
        json!({"topic": "drop.plain", "body": {"a": 1}}),
        json!({"topic": "drop.headers", "body": {}, "headers": {"niceness": "very"}}),
        json!({"topic": "drop.recorded", "body": {"deep": {"list": [1, 2.5, null, true, "é \u{2028}", {}]}}, "headers": head(10, "2026-01-01T00:00:00+00:00"), "queue": null, "priority": 0}),
        json!({"topic": "drop.filtered", "body": {"n": 12_345_678_901_234_i64}, "headers": filtered, "queue": "some", "priority": 9}),
        json!({"topic": "drop.severity", "body": {"text": "x".repeat(300_000)}, "headers": {"fedora_messaging_severity": 30}, "priority": null}),
        json!({"topic": "drop.unknown.key", "body": {"a": "b"}, "signature": "none"}),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, mut line)| {
        line["id"] = json!(format!("00000000-0000-4000-8000-00000000000{number}"));
        line
    })
    .collect()
}

/// Writes the configuration of the library for a user of this broker. `more` are lines at its beginning.
fn configured(cli: &Cli, broker: &Broker, user: &str, more: &str) -> String {
    let files = broker.client(user).and_then(|it| it.write(cli.folder(), user)).expect("certificates");
    let url = format!("{}?connection_attempts=3&retry_delay=5", broker.url());
    cli.file("config.toml", &format!("{more}\n{}", config(&url, &files, PREFIX))).display().to_string()
}

/// Returns all that a consumer can see of a message. The time is left out where the line has none.
fn visible(message: &BasicGetMessage, lines: &[Value]) -> Value {
    let properties = &message.properties;
    let mut headers: Value = serde_json::to_value(properties.headers()).expect("JSON");
    let line = lines.iter().find(|line| line["id"] == id(message)).expect("a message of the file");
    if line["headers"]["sent-at"].is_null() {
        headers.as_object_mut().expect("headers").remove("sent-at").expect("the header sent-at");
    }
    json!({
        "routing_key": message.routing_key.as_str(), "exchange": message.exchange.as_str(), "id": id(message),
        "content_type": properties.content_type(), "content_encoding": properties.content_encoding(),
        "delivery_mode": properties.delivery_mode(), "priority": properties.priority(), "headers": headers,
        "user_id": properties.user_id(), "app_id": properties.app_id(), "timestamp": properties.timestamp(),
        "body": serde_json::from_slice::<Value>(&message.data).expect("JSON"),
    })
}

/// Sorts messages by their id.
fn sorted(messages: &[BasicGetMessage], lines: &[Value]) -> Vec<Value> {
    let mut visible: Vec<_> = messages.iter().map(|message| visible(message, lines)).collect();
    visible.sort_by_key(|message| message["id"].to_string());
    visible
}

/// The library's command and ours get the same file and the same configuration.
#[test]
fn recorded_messages_are_those_of_the_library() {
    let (cli, broker, lines) = (Cli::new(), &shared().broker, lines());
    let consumer = RawConsumer::start(broker, &format!("{PREFIX}.drop.#"));
    let conf = configured(&cli, broker, "publisher", "publish_priority = 5\npassive_declares = true\n");
    let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    // The library splits lines at U+2028 too.
    let file = cli.file("messages", &text.replace('\u{2028}', "\\u2028")).display().to_string();

    let mut library = Command::new(Python::get().expect("the library").fedora_messaging());
    library.args(["--conf", &conf, "publish", &file]).env_remove("PYTHONPATH");
    run(&mut library, "").expect("the library publishes");
    let reference = sorted(&consumer.take(lines.len(), SOON), &lines);

    let ours = cli.run(&["publish", "--conf", &conf, &file], &[]);
    ours.expect(0, &["Sent: Message was sent successfully", "note: ", "connection_attempts in amqp_url"]);
    assert_eq!(sorted(&consumer.take(lines.len(), SOON), &lines), reference);

    // By the library's variable, and as kubectl takes files.
    let by_variable = cli.run(&["publish", "-f", &file], &[("FEDORA_MESSAGING_CONF", &conf)]);
    by_variable.expect(0, &[]);
    assert_eq!(sorted(&consumer.take(lines.len(), SOON), &lines), reference);

    // From standard input, through a shell.
    let mut piped = Command::new("sh");
    let script = r#"exec "$PROGRAM" publish --conf "$CONF" - < "$FILE""#;
    piped.args(["-c", script]).env("PROGRAM", e2e::program()).env("CONF", &conf).env("FILE", &file);
    run(&mut piped, "").expect("it publishes");
    assert_eq!(sorted(&consumer.take(lines.len(), SOON), &lines), reference);
}

/// Real messages of Fedora's applications, as a consumer recorded them.
#[test]
fn real_records_are_those_of_the_library() {
    let (cli, broker) = (Cli::new(), &shared().broker);
    let python = Python::with_schemas().expect("the packages are installed");
    let recorder = Consumer::start_with(&python, broker, "#.replayed.#", Format::Json).expect("a consumer");
    let mut original = Publisher::start_with(&python, broker, "publisher", "").expect("a publisher");
    // One of the 24 does not match its schema, so the library refuses it.
    let cases = recorded("replayed");
    let sent = cases.iter().filter(|case| original.publish(&case.reference(&parse(case.written()))).is_ok()).count();
    assert_eq!(sent, cases.len() - 1);
    let lines = recorder.wait_for(sent, SOON).expect("all are received");

    let consumer = RawConsumer::start(broker, "#.replayed.#");
    let conf = configured(&cli, broker, "publisher", "");
    let text = std::fs::read_to_string(&conf).expect("a file").replace(PREFIX, "");
    let conf = cli.file("config.toml", &text).display().to_string();
    let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let file = cli.file("record", &text).display().to_string();
    let mut library = Command::new(python.fedora_messaging());
    library.args(["--conf", &conf, "publish", &file]).env_remove("PYTHONPATH");
    run(&mut library, "").expect("the library publishes");
    let reference = sorted(&consumer.take(sent, SOON), &lines);
    let catalog = schemas::catalog().expect("the catalog is exported").display().to_string();
    cli.run(&["publish", "--conf", &conf, "--schema-catalog", &catalog, &file], &[]).expect(0, &[]);
    assert_eq!(sorted(&consumer.take(sent, SOON), &lines), reference);
}

/// The records of the library's `record` can be sent again.
#[test]
fn sends_a_record_again() {
    let (cli, broker) = (Cli::new(), &shared().broker);
    let received = Consumer::start(broker, &format!("{PREFIX}.again.#")).expect("a consumer");
    let conf = configured(&cli, broker, "publisher", "");
    let publish = ["publish", "--conf", &conf, "--topic", "again.it", "a=b", "--header", "n:int=1"];
    cli.run(&publish, &[]).expect(0, &[]);
    let first = received.wait_for(1, SOON).expect("it is received")[0].clone();
    // A record has the whole topic.
    let record = cli.file("record", &format!("{first}\n")).display().to_string();
    let without_prefix = std::fs::read_to_string(&conf).expect("a file").replace(PREFIX, "");
    let conf = cli.file("plain.toml", &without_prefix).display().to_string();
    cli.run(&["publish", "--conf", &conf, &record], &[]).expect(0, &[]);
    let both = received.wait_for(2, SOON).expect("both are received");
    assert_eq!(both[1], first);
}

/// The library would put the prefix before it once more, and the message would reach nobody.
#[test]
fn refuses_a_record_that_has_the_prefix() {
    let (cli, broker) = (Cli::new(), &shared().broker);
    let conf = configured(&cli, broker, "publisher", "");
    let line = json!({"topic": format!("{PREFIX}.again"), "body": {}}).to_string();
    let file = cli.file("record", &line).display().to_string();
    cli.run(&["publish", "--conf", &conf, &file], &[])
        .expect(1, &["already begins with the prefix", "the topic \"again\""]);
}

#[test]
fn says_what_is_wrong_with_input() {
    let (cli, broker) = (Cli::new(), &shared().broker);
    let conf = configured(&cli, broker, "publisher", "");
    let good = json!({"topic": "a", "body": {}}).to_string();
    let file = |name: &str, text: &str| cli.file(name, text).display().to_string();
    let mixed = file("mixed", &format!("{good}\n{}", message("x", "a.b", "").replace('\n', " ")));
    let manifest = file("manifest", &message("x", "a.b", ""));
    let record = file("record", &good);
    let plain = file("plain.toml", &std::fs::read_to_string(&conf).expect("a file").replace("amqps://", "amqp://"));
    let pretty = file("pretty", "{\n  \"topic\": \"a\",\n  \"body\": {}\n}\n");
    let cases: [(&[&str], &str); 9] = [
        (
            &["--conf", &conf, &pretty],
            "document 1: is a recorded message of fedora-messaging, which must stand on one line",
        ),
        (&["--conf", &conf, &mixed], "mixed, line 2: is no recorded message"),
        (&["--conf", &conf, &record, &manifest], "some files have recorded messages, others manifests"),
        (&["--conf", "absent.toml", &record], "can't read absent.toml"),
        (
            &["--conf", &plain, &record],
            "plain.toml: amqp_url: the URL must begin with amqps://, because messages are sent only over TLS",
        ),
        (&[&record], "there is no certificate to publish with: give the library's configuration"),
        (&["--topic", "a.b", "--env", "prod"], "there is no certificate to publish with"),
        (&["--topic", "a.b", "--conf", &conf, "c"], "c: a field of the body must be KEY=VALUE: add ="),
        (&["--topic", "a.b", "--conf", &conf, "c=1", "c=2"], "the body would have c twice"),
    ];
    for (arguments, problem) in cases {
        cli.run(&[&["publish"], arguments].concat(), &[]).expect(2, &[problem]);
    }
    cli.run(&["publish"], &[]).expect(2, &["required arguments were not provided"]);
    cli.run(&["publish", "--wait", "--topic", "a"], &[]).expect(2, &["--via-cluster"]);
}

#[test]
fn sends_message_of_flags() {
    let (cli, broker) = (Cli::new(), &shared().broker);
    let consumer = Consumer::start(broker, &format!("{PREFIX}.flags.#")).expect("a consumer");
    let conf = configured(&cli, broker, "publisher", "publish_priority = 5");
    let body = cli.file("body.json", r#"{"from": "file", "number": 1.5}"#).display().to_string();
    let fixed = "publish --topic flags.message --header niceness=very --header retries:int=2 --severity warning \
                 text=yes count:int=3 ratio:float=0.5 done:bool=true";
    let others = ["list:json=[1, null]", "--conf", &conf, "--body-file", &body];
    let arguments: Vec<_> = fixed.split(' ').chain(others).collect();
    cli.run(&arguments, &[]).expect(0, &["Sent: Message was sent successfully"]);
    let received = consumer.wait_for(1, SOON).expect("it is received");
    assert_eq!(received[0]["topic"], format!("{PREFIX}.flags.message"));
    let expected = json!({
        "from": "file", "number": 1.5, "text": "yes", "count": 3, "ratio": 0.5, "done": true, "list": [1, null],
    });
    assert_eq!(received[0]["body"], expected);
    let headers = &received[0]["headers"];
    assert_eq!((&headers["niceness"], &headers["retries"]), (&json!("very"), &json!(2)));
    assert_eq!((&headers["fedora_messaging_severity"], &headers["priority"]), (&json!(30), &json!(5)));
}

/// The broker sees the application that the configuration names.
#[test]
fn connects_as_the_application() {
    let (cli, broker) = (Cli::new(), Broker::start().expect("a broker"));
    let conf = configured(&cli, &broker, "publisher", "");
    let application = "app = \"the-drop-in\"\napp_version = \"2.1\"\napp_contacts_email = [\"a@example.org\"]";
    let text = std::fs::read_to_string(&conf).expect("a file").replace("app = \"rig\"", application);
    let conf = cli.file("config.toml", &text).display().to_string();
    cli.run(&["publish", "--conf", &conf, "--topic", "a.b"], &[]).expect(0, &["Sent"]);
    let log = broker.log().expect("a log");
    assert!(log.contains("the-drop-in"), "{log}");
}

/// kubectl stores the message that the flags make, whatever YAML thinks of its texts.
#[test]
fn prints_manifest() {
    let (namespace, cli) = (TestNamespace::new("printed"), Cli::new());
    let words =
        "yes|no|on|y|null|~|0644|0x1f|1_000|1.0|1e3|2001-01-01|| a |a: b|#|é\n\t|'|\"|- a|{|12:30:45|.inf|=|<<|!!int 1";
    let words: Vec<_> = words.split('|').collect();
    let fields: Vec<_> = words.iter().enumerate().map(|(number, word)| format!("k{number}={word}")).collect();
    let keys: Vec<_> = ["yes", "n", "1", "null", "0o7", "a b", "é"].iter().map(|key| format!("{key}=v")).collect();
    let fixed = "publish --print-manifest --topic printed.it --severity error --header h=off --priority 3 --sender app \
                 --env stg x:int=7";
    let arguments: Vec<&str> = fixed.split(' ').chain(fields.iter().chain(&keys).map(String::as_str)).collect();
    // The variable is for other calls.
    let printed = cli.run(&arguments, &[("FEDORA_MESSAGING_CONF", "absent.toml")]);
    assert_eq!((printed.code, printed.err.as_str()), (0, ""), "{printed:?}");
    namespace.try_kubectl(&["create", "-f", "-"], &printed.out).expect("it is created");
    let [stored] = &namespace.messages()[..] else { panic!("one message") };
    assert!(stored["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("printed-it-")), "{stored}");
    let body = stored["spec"]["message"]["body"].as_object().expect("an object");
    for (number, word) in words.iter().enumerate() {
        assert_eq!(body[&format!("k{number}")], *word);
    }
    for key in &keys {
        assert_eq!(body[key.trim_end_matches("=v")], "v");
    }
    assert_eq!((&body["x"], body.len()), (&json!(7), words.len() + keys.len() + 1));
    let spec = &stored["spec"];
    assert_eq!(
        (&spec["env"], &spec["senderRef"]["name"], &spec["message"]["severity"], &spec["message"]["priority"]),
        (&json!("stg"), &json!("app"), &json!("Error"), &json!(3))
    );
    assert_eq!(spec["message"]["headers"], json!({"h": "off"}));
}

#[test]
fn waits_for_the_operator() {
    let (namespace, cli) = (TestNamespace::with_publisher("waits"), Cli::new());
    let kubeconfig = shared().kube.kubeconfig().display().to_string();
    let env = [("KUBECONFIG", kubeconfig.as_str())];
    let publish = |more: &[&str]| {
        let fixed = ["publish", "--via-cluster", "--namespace", &namespace.name, "--topic"];
        cli.run(&[&fixed, more].concat(), &env)
    };
    // Nobody sends it yet.
    let late = publish(&["waits.late", "--wait", "--timeout", "1", "--name", "late"]);
    late.expect(
        1,
        &["note: fedoramessage/late in namespace", "was not sent within 1 s. No operator has looked at it yet"],
    );
    publish(&["waits.alone", "--name", "alone"]).expect(0, &["fedoramessage/alone in namespace", "created"]);
    let created = publish(&["waits.json", "-o", "json"]);
    let line: Value = serde_json::from_str(&created.out).expect("JSON");
    assert!(line["name"].as_str().is_some_and(|name| name.starts_with("waits-json-")), "{created:?}");
    assert_eq!(line["namespace"], namespace.name);

    namespace.apply(&e2e::sender("default", ""));
    let consumer = Consumer::start(&shared().broker, "waits.#").expect("a consumer");
    let _operator = Operator::start(&namespace, &[]);
    let sent = publish(&["waits.now", "a=b", "--wait"]);
    sent.expect(0, &["waits-now-", "Sent: Message was sent successfully"]);
    assert!(sent.err.starts_with("fedora-message-operator: note: fedoramessage/waits-now-"), "{}", sent.err);
    publish(&["waits. no", "--wait"]).expect(1, &["the API server refuses the FedoraMessage", "spec.message.topic"]);
    let given_up = publish(&["waits.body", "--wait", "--sender", "absent", "--timeout", "2"]);
    given_up.expect(1, &["SenderNotFound", "was not sent within 2 s"]);
    namespace.wait_for_reason("late", "Sent");
    assert!(consumer.wait_for(3, SOON).expect("all are received").len() >= 3);
    cli.run(&["publish", "--via-cluster", "--topic", "a.b", "--namespace", "absent"], &env).expect(1, &["namespace"]);
}

/// The user may create messages, but not get them.
#[test]
fn waits_only_with_permission() {
    let (namespace, cli) = (TestNamespace::new("unseen"), Cli::new());
    let create =
        json!([{"apiGroups": ["apps.fedoraproject.org"], "resources": ["fedoramessages"], "verbs": ["create"]}]);
    namespace.grant("alice", "create-messages", &create);
    let kubeconfig = shared().kube.kubeconfig_for("alice").expect("a user").display().to_string();
    let env = [("KUBECONFIG", kubeconfig.as_str())];
    let publish = ["publish", "--via-cluster", "--topic", "unseen.it", "--namespace", &namespace.name];
    wait_soon("alice may create messages", || cli.run(&publish, &env).code == 0);
    let waited = cli.run(&[&publish[..], &["--wait", "--timeout", "86400", "--name", "unseen"]].concat(), &env);
    waited
        .expect(1, &["note: fedoramessage/unseen in namespace", "cannot get resource", "--wait needs the permission"]);
}

/// The dry run shows the message that is sent without it, and sends nothing.
#[test]
fn shows_what_it_would_send() {
    let (cli, broker) = (Cli::new(), &shared().broker);
    let consumer = RawConsumer::start(broker, "shown.#");
    let line = json!({
        "topic": "shown.it", "body": {"a": "é", "n": [1, 2.5]}, "id": "00000000-0000-4000-8000-000000000001",
        "headers": {"h": 1, "sent-at": "2026-01-01T00:00:00+00:00"}, "priority": 4,
    });
    let file = cli.file("record", &line.to_string()).display().to_string();
    let url = broker.url();
    let fixed = ["publish", "--env", "prod", "--prod-amqp-url", &url, &file];
    let shown = cli.run(&[&fixed[..], &["--dry-run", "-o", "json"]].concat(), &[]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""), "{shown:?}");
    let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
    let publisher = certificate("publisher");
    cli.run_with(&publisher, &fixed, &[]).expect(0, &[]);
    let [sent] = &consumer.take(1, SOON)[..] else { panic!("the dry run sends nothing") };
    assert_eq!(shown["routing_key"], sent.routing_key.as_str());
    assert_eq!(shown["body"], serde_json::from_slice::<Value>(&sent.data).expect("JSON"));
    let properties = &shown["properties"];
    assert_eq!(properties["message_id"], id(sent));
    assert_eq!(properties["priority"], json!(sent.properties.priority()));
    assert_eq!(properties["delivery_mode"], json!(sent.properties.delivery_mode()));
    let headers = sent.properties.headers().as_ref().expect("headers");
    let names: Vec<_> = headers.into_iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(properties["headers"].as_object().expect("an object").keys().cloned().collect::<Vec<_>>(), names);

    // Without a broker, and in YAML that can be read again.
    let (_port, nobody) = unused_broker_url();
    let env = [("FEDORA_MESSAGE_PROD_AMQP_URL", nobody.as_str())];
    let text = cli.run(&["publish", "--env", "prod", "--dry-run", &file], &env);
    let read: Value = serde_saphyr::from_str(&text.out).expect("YAML");
    assert_eq!((text.code, &read["body"]), (0, &shown["body"]));
    assert_eq!(read["broker"].as_str().map(|url| url.contains("localhost")), Some(true), "the variable counts");
    let wrong = cli.file("wrong.yaml", &message("wrong", "shown..it", "")).display().to_string();
    cli.run(&["publish", "--dry-run", "-f", &wrong], &[]).expect(1, &["InvalidMessage: spec.message.topic"]);
}

/// Writes the configuration of the library for one of Fedora's brokers.
fn configured_for_fedora(cli: &Cli, host: &str) -> String {
    let files = Pki::new("fedora").and_then(|pki| pki.client("app")).and_then(|it| it.write(cli.folder(), "app"));
    let text = config(&format!("amqps://{host}/%2Fpubsub"), &files.expect("certificates"), "");
    cli.file("config.toml", &text).display().to_string()
}

/// A message for one environment does not go to the broker of the other one.
#[test]
fn environment_agrees_with_configuration() {
    let cli = Cli::new();
    let conf = configured_for_fedora(&cli, "rabbitmq.stg.fedoraproject.org");
    let manifest = cli.file("prod.yaml", &message("prod", "nice.message", "")).display().to_string();
    let shown = |more: &[&str], env: &[(&str, &str)]| cli.run(&[&["publish", "--dry-run"], more].concat(), env);
    let of_flags = ["--topic", "nice.message", "--conf", &conf];
    shown(&of_flags, &[]).expect(0, &["amqps://rabbitmq.stg.fedoraproject.org"]);
    let wrong = "the message is for prod, but would go to rabbitmq.stg.fedoraproject.org:5671, which is Fedora's broker for stg";
    shown(&["-f", &manifest, "--conf", &conf], &[]).expect(1, &["InvalidMessage: ", wrong]);
    let other = ["-f", &manifest, "--conf", &conf, "--prod-amqp-url", "amqps://other"];
    shown(&other, &[]).expect(0, &["amqps://other"]);

    let refused = format!("--env prod and the configuration {conf} ");
    shown(&[&of_flags[..], &["--env", "prod"]].concat(), &[]).expect(2, &[&refused, "or add --prod-amqp-url"]);
    let by_variable = [("FEDORA_MESSAGING_CONF", conf.as_str())];
    shown(&["--topic", "nice.message", "--env", "prod"], &by_variable).expect(2, &[&refused]);
    let both = [&of_flags[..], &["--env", "prod", "--prod-amqp-url", "amqps://other"]].concat();
    shown(&both, &[]).expect(0, &["amqps://other"]);
}

/// Consumers at Fedora's own brokers expect a prefix, so no flag is needed for it.
#[test]
fn fedoras_brokers_have_their_prefix() {
    let cli = Cli::new();
    let shown = |env: &str, more: &[&str]| {
        let fixed = ["publish", "--topic", "nice.message", "--dry-run", "--env", env];
        cli.run(&[&fixed, more].concat(), &[]).out
    };
    assert!(shown("prod", &[]).contains("routing_key: org.fedoraproject.prod.nice.message\n"));
    assert!(shown("stg", &[]).contains("routing_key: org.fedoraproject.stg.nice.message\n"));
    assert!(shown("prod", &["--prod-topic-prefix", ""]).contains("routing_key: nice.message\n"));
    assert!(shown("prod", &["--prod-amqp-url", "amqps://other"]).contains("routing_key: nice.message\n"));

    let conf = configured_for_fedora(&cli, "rabbitmq.fedoraproject.org");
    let noted = cli.run(&["publish", "--topic", "nice.message", "--dry-run", "--conf", &conf], &[]);
    noted.expect(0, &["routing_key: nice.message\n", "consumers expect org.fedoraproject.prod before them"]);
}

/// The flags of one command, for people: `fmsg`, and `kubectl fmsg`.
#[test]
fn has_a_short_name() {
    let cli = Cli::new();
    for name in ["fmsg", "kubectl-fmsg"] {
        let link = cli.folder().join(name);
        symlink(e2e::program(), &link).expect("a link");
        let output = Command::new(&link).args(["publish", "--help"]).output().expect("it runs");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let usage = format!("Usage: {} publish", name.replace('-', " "));
        assert!(help.contains(&usage) && help.contains("[env: FEDORA_MESSAGE_CONCURRENCY"), "{help}");
        let output = Command::new(&link).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "it does not become an operator");
    }
    let kubectl = shared().kube.kubectl_path();
    let path = format!("{}:{}", cli.folder().display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new(kubectl).args(["fmsg", "--version"]).env("PATH", path).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn checks_files_without_a_catalog() {
    let cli = Cli::new();
    let good = cli.file("good.yaml", &message("good", "nice.message", "")).display().to_string();
    let bad = cli.file("bad.yaml", &message("bad", "nice..message", "")).display().to_string();
    let record = json!({"topic": "a.b", "body": {}, "id": "00000000-0000-4000-8000-000000000001"}).to_string();
    let record = cli.file("record", &record).display().to_string();
    cli.run(&["check", "-f", &good, "-f", &good], &[]).expect(0, &["good: valid, not checked against base.message"]);
    cli.run(&["check", "-f", &bad, "-f", &good], &[]).expect(1, &["bad: spec.message.topic", "good: valid"]);
    cli.run(&["check", "-f", &record], &[]).expect(0, &["00000000-0000-4000-8000-000000000001: valid"]);
    let required = ["check", "--require-sender", "-f", &good];
    cli.run(&required, &[]).expect(1, &["good: spec.authentication is not allowed"]);
}
