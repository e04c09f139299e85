//! Certificates and keys as OpenSSL makes them: the program accepts what the Python library accepts,
//! or the table says why not (`testdata/certificates.yaml`).

pub mod recipe;

use std::path::PathBuf;

use rig::broker::Options;
use rig::{Broker, Guard, Pki, Publisher, UnusualServers};
use serde::Deserialize;
use serde_json::{Value, json};

use e2e::cli::Cli;
use e2e::{message, read, shared};
use recipe::{Files, Maker, Recipe};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    clients: Vec<Row>,
    brokers: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default)]
    certificate: Recipe,
    #[serde(default)]
    files: Files,
    /// The program's error message. `None` means that it publishes.
    refused: Option<String>,
    /// The error message if the broker is `RabbitMQ` 4, which then also refuses the library.
    rabbitmq_4: Option<String>,
    /// The difference, if the library does the opposite. docs/certificates.md has the same text.
    differs: Option<String>,
}

fn table() -> Table {
    let mut table: Table = serde_saphyr::from_str(&read("testdata/certificates.yaml")).expect("a table");
    if std::env::var("RABBITMQ").is_ok_and(|version| version == "4.0") {
        for row in table.clients.iter_mut().filter(|row| row.rabbitmq_4.is_some()) {
            (row.refused, row.differs) = (row.rabbitmq_4.take(), None);
        }
    }
    table
}

/// Both programs, with the files that they read.
struct Programs {
    cli: Cli,
    library: Publisher,
    message: PathBuf,
}

impl Programs {
    fn new() -> Self {
        let cli = Cli::new();
        let message = cli.file("message.yaml", &message("certificate", "certificates.message", ""));
        Self { library: Publisher::start(&shared().broker, "publisher", "").expect("a publisher"), cli, message }
    }

    /// Publishes with the library. Returns its error message.
    fn library(&mut self, url: &str, [ca, cert, key]: &[PathBuf; 3]) -> Result<(), String> {
        let tls = json!({"ca_cert": ca, "certfile": cert, "keyfile": key});
        let case = json!({"topic": "certificates.message", "body": {}, "url": url, "tls": tls});
        self.library.publish(&case).map(drop).map_err(|error| error.to_string())
    }

    /// Publishes with the program. Returns its error message, with names in place of paths.
    fn operator(&self, url: &str, files: &[PathBuf; 3]) -> Result<(), String> {
        let [ca, cert, key, file] =
            [&files[0], &files[1], &files[2], &self.message].map(|path| path.display().to_string());
        let arguments = ["publish", "-o", "json", "-f", &file, "--prod-amqp-url", url];
        let output = self.cli.run(&[&arguments[..], &["--ca", &ca, "--cert", &cert, "--key", &key]].concat(), &[]);
        if output.code == 0 {
            return Ok(());
        }
        let status: Value = serde_json::from_str(&output.out).unwrap_or_default();
        let text = status["status"]["message"].as_str().map_or(output.err, str::to_owned);
        let names = [(&*ca, "CA"), (&cert, "CERT"), (&key, "KEY"), (broker(url), "BROKER")];
        let text = text.trim().trim_start_matches("fedora-message-operator: ");
        Err(crate::catalog::text::with_placeholders(text, &names))
    }
}

fn broker(url: &str) -> &str {
    url.trim_start_matches("amqps://").split('/').next().unwrap_or_default()
}

/// Compares the results with the table. Returns a report if they differ from it.
fn compare(row: &Row, operator: &Result<(), String>, library: &Result<(), String>) -> Option<String> {
    let (expected, found) = (row.refused.as_deref().map(normal), operator.as_ref().err().map(|text| normal(text)));
    let differs = operator.is_ok() != library.is_ok();
    let as_expected = expected == found && differs == row.differs.is_some();
    let report = || {
        format!(
            "{}\n  program: {found:?}\n  table: {expected:?}\n  library: {library:?}, differs: {differs}\n",
            row.name
        )
    };
    (!as_expected).then(report)
}

fn normal(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// The broker is a real one.
#[test]
fn client_certificates_as_the_library_takes_them() {
    let broker = &shared().broker;
    let (mut maker, mut programs) = (Maker::new(broker.pki()), Programs::new());
    let mut wrong = Vec::new();
    for row in table().clients {
        let made = maker.make(&row.certificate);
        let files = made.write(&row.files, broker.pki().ca(), programs.cli.folder());
        let library = programs.library(&broker.url(), &files);
        wrong.extend(compare(&row, &programs.operator(&broker.url(), &files), &library));
    }
    assert_none(&wrong);
}

/// The servers only do the handshake. A client has accepted the certificate if it begins AMQP.
#[test]
fn broker_certificates_as_the_library_takes_them() {
    let root = shared().broker.pki();
    let (mut maker, mut programs) = (Maker::new(root), Programs::new());
    let mut servers = UnusualServers::start().expect("servers");
    let client = root.client("publisher").expect("a certificate").write(programs.cli.folder(), "client");
    let client = client.expect("the files are written");
    let mut wrong = Vec::new();
    for row in table().brokers {
        let made = maker.make(&row.certificate);
        let [ca, cert, key] = made.write(&row.files, root.ca(), programs.cli.folder());
        let port = servers.serve(&cert, &key).unwrap_or_else(|error| panic!("{}: {error:#}", row.name));
        let url = format!("amqps://localhost:{port}/%2Fpubsub");
        let files = [ca, client.cert.clone(), client.key.clone()];
        let mut accepted = || servers.accepted(port).expect("a count");
        let library = programs.library(&url, &files);
        let by_library = accepted();
        let operator = programs.operator(&url, &files);
        let by_operator = accepted() - by_library;
        let decision = |result: Result<(), String>, accepted| if accepted > 0 { Ok(()) } else { result };
        wrong.extend(compare(&row, &decision(operator, by_operator), &decision(library, by_library)));
    }
    assert_none(&wrong);
}

/// A RabbitMQ with one certificate after the other gets the texts of the table.
#[test]
fn reports_certificates_of_a_real_broker() {
    let folder = Guard::new("certificates").expect("a folder");
    let rows = table().brokers;
    let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"));
    // The broker's CA exists only after its start.
    let other = Pki::new("unused").expect("a CA");
    let own = Maker::new(&other).make(&row("its own CA").certificate);
    let [_, cert, key] = own.write(&Files::default(), "", folder.scratch());
    let config = format!("ssl_options.certfile = {}\nssl_options.keyfile = {}", cert.display(), key.display());
    let broker = Broker::start_with(&Options { config, ..Options::default() }).expect("a broker of its own");
    let (mut maker, programs) = (Maker::new(broker.pki()), Programs::new());
    let client = broker.client("publisher").expect("a certificate").write(programs.cli.folder(), "client");
    let client = client.expect("the files are written");
    for (name, text) in [
        ("its own CA", "its own CA"),
        ("only a common name", "only a common name"),
        ("X.509 version 1", "X.509 version 1"),
        ("an RSA key of 1024 bits", "an RSA key of 1024 bits"),
        // RabbitMQ does not send a certificate that is signed with an algorithm that no client offers.
        ("signed with SHA-1", "an ECDSA key on P-521"),
    ] {
        let made = maker.make(&row(name).certificate);
        let [ca, ..] = made.write(&Files::default(), "", folder.scratch());
        broker.ctl(&["eval", "ssl:clear_pem_cache()."]).expect("the broker reads its certificate again");
        let result = programs.operator(&broker.url(), &[ca, client.cert.clone(), client.key.clone()]);
        let (found, expected) = (result.err(), row(text).refused.as_deref());
        assert_eq!(found.map(|text| normal(&text)), expected.map(normal), "{name}");
    }
}

/// The broker, not the program, decides which part of a certificate is the user.
#[test]
fn leaves_the_user_to_the_broker() {
    let broker = Broker::start().expect("a broker of its own");
    let (mut maker, programs) = (Maker::new(broker.pki()), Programs::new());
    let set = |name: &str, value: &str| {
        broker.ctl(&["eval", &format!("application:set_env(rabbit, {name}, {value}).")]).expect("it is set");
    };
    set("ssl_cert_login_san_type", "dns");
    for (from, certificate, shown, user) in [
        ("distinguished_name", "{subject: /O=Fedora/CN=app}", "app", "CN=app,O=Fedora"),
        ("distinguished_name", "{subject: /O=Fedora/OU=apps}", "O=Fedora, OU=apps", "OU=apps,O=Fedora"),
        ("subject_alternative_name", "{subject: /}", "localhost", "localhost"),
    ] {
        set("ssl_cert_login_from", from);
        let made = maker.make(&serde_saphyr::from_str(certificate).expect("a recipe"));
        let files = made.write(&Files::default(), "", programs.cli.folder());
        let publish = || programs.operator(&broker.url(), &files);
        let refused = publish().expect_err("the user is unknown");
        assert_eq!(
            refused,
            format!(
                "the broker BROKER refuses the client certificate of {shown} (ACCESS_REFUSED - Login was refused using \
                 authentication mechanism EXTERNAL. For details see the broker logfile.): ask the broker's \
                 administrators to create its user, which at Fedora is the certificate's common name, or use another \
                 certificate"
            )
        );
        broker.ctl(&["add_user", user, "unused"]).expect("a user");
        let refused = publish().expect_err("the user has no permissions");
        assert!(refused.contains(&format!("refuses the virtual host /pubsub to the user {user} (")), "{refused}");
        broker.ctl(&["set_permissions", "-p", "/pubsub", user, "^$", "^amq.topic$", "^$"]).expect("permissions");
        publish().unwrap_or_else(|error| panic!("{user}: {error}"));
    }
}

#[test]
fn differences_are_documented() {
    let table = table();
    assert!(table.clients.len() + table.brokers.len() >= 60);
    let docs = normal(&read("docs/certificates.md"));
    for row in table.clients.iter().chain(&table.brokers) {
        if let Some(differs) = &row.differs {
            assert!(docs.contains(&normal(differs)), "{}: {differs} is not in docs/certificates.md", row.name);
        }
    }
}
