//! The output of `check`: the result of each step to a broker, or the failed step with advice.

use std::net::TcpListener;

use rig::broker::Options;
use rig::pki::Request;
use rig::port::Port;
use rig::{Broker, ClientCert, Pki};

use e2e::cli::{Cli, Output};
use e2e::{certificate, message, shared, unused_broker_url};

/// The steps of `check`.
const STEPS: [&str; 6] = ["certificate", "address", "TLS", "login", "virtual host", "exchange"];

/// Returns the steps that `check` reported as done.
fn steps(output: &Output) -> Vec<&str> {
    output.out.lines().map(|line| line.split("  ").next().unwrap_or_default()).collect()
}

/// Asserts that this step failed after `done` successful ones, and the texts of the output.
#[track_caller]
fn assert_failed(output: &Output, done: usize, step: &str, expected: &[&str]) {
    // A bad file is a mistake in the command line.
    output.expect(if step == "certificate" { 2 } else { 1 }, expected);
    assert_eq!(steps(output), STEPS[..done], "{output:?}");
    assert!(output.err.starts_with(&format!("fedora-message-operator: {step} failed: ")), "{}", output.err);
    assert_eq!(output.err.lines().count(), 1, "one sentence: {}", output.err);
}

#[test]
fn reports_each_step() {
    let broker = &shared().broker;
    let output = Cli::new().check(&broker.url(), &certificate("publisher"), &[]);
    output.expect(
        0,
        &[
            "of publisher, valid until 20",
            &format!("localhost:{} answers", broker.port()),
            "TLS 1.3 with localhost",
            "with the certificate of publisher",
            "/pubsub",
            "amq.topic exists",
        ],
    );
    assert_eq!(steps(&output)[..STEPS.len()], STEPS);
    assert_eq!(steps(&output)[STEPS.len()..], ["topic prefix", "not checked"]);
    assert!(
        output.out.contains("none, so topics are sent as they stand (--prod-topic-prefix sets one)"),
        "{}",
        output.out
    );
    assert_eq!(output.err, "");
}

#[test]
fn checks_broker_of_environment() {
    let (cli, (_port, nobody)) = (Cli::new(), unused_broker_url());
    let env = [("PROD_AMQP_URL", nobody.as_str()), ("STG_AMQP_URL", &shared().broker.url())];
    for (name, code) in [("prod", 1), ("stg", 0)] {
        cli.run_with(&certificate("publisher"), &["check", "--env", name], &env).expect(code, &[]);
    }
}

#[test]
fn names_unreachable_address() {
    let (cli, port) = (Cli::new(), Port::reserve().expect("a free port"));
    let refused = cli.check(&format!("amqps://localhost:{}", port.number()), &certificate("publisher"), &[]);
    let place = format!("no connection to the broker localhost:{}: ", port.number());
    assert_failed(&refused, 1, "address", &[&place, "refused", "check the broker, its URL"]);
    let unknown = cli.check("amqps://broker.invalid/%2Fpubsub", &certificate("publisher"), &[]);
    assert_failed(&unknown, 1, "address", &["no connection to the broker broker.invalid:5671: ", "its URL"]);
}

#[test]
fn distinguishes_untrusted_certificates() {
    let (cli, url) = (Cli::new(), shared().broker.url());
    let ours = certificate("publisher");
    let foreign = Pki::new("another-ca").expect("a CA").client("publisher").expect("a certificate");
    let untrusting = cli.check(&url, &ClientCert { ca: foreign.ca.clone(), ..ours.clone() }, &[]);
    assert_failed(&untrusting, 2, "TLS", &["the broker's certificate was not issued by the given CA"]);
    // Under TLS 1.3 the broker checks the client's certificate after its own handshake. It resets
    // the connection if the client has sent data since. Its alert must not be lost then.
    let untrusted = ClientCert { ca: ours.ca, ..foreign };
    for _ in 0..10 {
        let output = cli.check(&url, &untrusted, &[]);
        let expected = "the broker does not trust the issuer of the client certificate of publisher";
        assert_failed(&output, 3, "TLS", &[expected]);
    }
}

#[test]
fn names_refused_step() {
    let (cli, url) = (Cli::new(), shared().broker.url());

    let unknown = cli.check(&url, &certificate("nobody-knows-me"), &[]);
    assert_failed(
        &unknown,
        3,
        "login",
        &["refuses the client certificate of nobody-knows-me", "common name", "administrators"],
    );
    let forbidden = cli.check(&url, &certificate("no-vhost"), &[]);
    let expected = "refuses the virtual host /pubsub to the user no-vhost";
    assert_failed(&forbidden, 4, "virtual host", &[expected, "URL"]);
    let elsewhere = cli.check(&url.replace("%2Fpubsub", "nowhere"), &certificate("admin"), &[]);
    let expected = "refuses the virtual host nowhere to the user admin";
    assert_failed(&elsewhere, 4, "virtual host", &[expected, "URL"]);
    let exchange = cli.check(&url, &certificate("admin"), &["--exchange", "nope"]);

    assert_failed(&exchange, 5, "exchange", &["the exchange nope does not exist", "--exchange"]);
}

/// The plugin for client certificates is not enabled, or its mechanism is not.
#[test]
fn names_missing_mechanism() {
    let config = "auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = AMQPLAIN".to_owned();
    let broker = Broker::start_with(&Options { config, ..Options::default() }).expect("a broker of its own");
    let (cli, certificate) = (Cli::new(), broker.client("publisher").expect("a certificate"));
    let expected = [
        &format!("the broker localhost:{} offers ", broker.port()),
        "PLAIN",
        ", but not EXTERNAL",
        "administrators to enable rabbitmq_auth_mechanism_ssl",
    ];
    assert_failed(&cli.check(&broker.url(), &certificate, &[]), 3, "login", &expected);
    let file = cli.file("message.yaml", &message("refused", "mechanisms", "")).display().to_string();
    let published = cli.run_with(&certificate, &["publish", "-f", &file, "--prod-amqp-url", &broker.url()], &[]);
    published.expect(1, &["AuthenticationFailed: ", expected[0], expected[2], expected[3]]);
}

/// The program opens no connection if a file is wrong.
#[test]
fn checks_files_first() {
    let cli = Cli::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a nonblocking listener");
    let url = format!("amqps://localhost:{}", listener.local_addr().expect("an address").port());
    let good = certificate("publisher");
    let issue = |request: Request| shared().broker.pki().issue(&request).expect("a certificate");
    let other = certificate("publisher").key;
    let with = |cert: &str, key: &str| ClientCert { cert: cert.to_owned(), key: key.to_owned(), ..good.clone() };

    let expired = issue(Request::client("publisher").expired());
    for (name, certificate, expected) in [
        ("expired", expired, ["the client certificate of publisher in ", "-cert.pem expired on 20"]),
        (
            "another's key",
            with(&good.cert, &other),
            ["-key.pem is not the key of the first certificate", "its own key"],
        ),
        ("swapped", with(&good.key, &good.cert), ["-cert.pem contains no certificate", "use a PEM certificate"]),
        ("no CA", ClientCert { ca: String::new(), ..good.clone() }, ["-ca.pem is empty", "use a PEM certificate"]),
    ] {
        let output = cli.check(&url, &certificate, &[]);
        assert!(!output.err.contains("BEGIN PRIVATE KEY"), "{name}");
        assert_failed(&output, 0, "certificate", &expected);
    }
    let given = ["check", "--env", "prod", "--prod-amqp-url", &url, "--ca", "x", "--cert", "y", "--key", "z"];
    cli.run(&given, &[]).expect(2, &["can't read x: No such file"]);
    assert!(listener.accept().is_err(), "no connection");
}
