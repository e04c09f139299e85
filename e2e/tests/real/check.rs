//! What `check` says: what it found on the way to a broker, or which step failed and what to do.

use std::net::TcpListener;

use rig::pki::Request;
use rig::port::Port;
use rig::{ClientCert, Pki};

use e2e::program::{Ran, Shell};
use e2e::world::world;

fn certificate(user: &str) -> ClientCert {
    world().broker.client(user).expect("a certificate is issued")
}

/// The steps that `check` reported as gone.
fn steps(ran: &Ran) -> Vec<&str> {
    ran.out.lines().map(|line| line.split("  ").next().unwrap_or_default()).collect()
}

/// Checks that the given step failed, the others before it went well, and what was said.
#[track_caller]
fn failed(ran: &Ran, gone: &[&str], step: &str, words: &[&str]) {
    // Files are part of the command line.
    ran.expect(if step == "certificate" { 2 } else { 1 }, words);
    assert_eq!(steps(ran), gone, "{ran:?}");
    assert!(ran.err.starts_with(&format!("fedora-message-operator: {step} failed: ")), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "one sentence: {}", ran.err);
}

#[test]
fn a_good_way_is_described_step_by_step() {
    let broker = &world().broker;
    let ran = Shell::new().check(&broker.url(), &certificate("publisher"), &[]);
    ran.expect(
        0,
        &[
            "of publisher, valid until 20",
            &format!("localhost:{} answers", broker.port()),
            "TLS 1.3 with localhost",
            "as publisher",
            "/pubsub",
            "amq.topic exists",
        ],
    );
    assert_eq!(steps(&ran), ["certificate", "address", "TLS", "login", "virtual host", "exchange"]);
    assert_eq!(ran.err, "");
}

#[test]
fn the_environment_decides_which_broker_is_checked() {
    let (shell, nowhere) = (Shell::new(), Port::reserve().expect("a free port"));
    let nowhere = format!("amqps://localhost:{}/%2Fpubsub", nowhere.number());
    let good = world().broker.url();
    let certificate = shell.certificate(&certificate("publisher"));
    for (env, code) in [("prod", 1), ("stg", 0)] {
        let arguments = [vec!["check".to_owned(), "--env".to_owned(), env.to_owned()], certificate.clone()].concat();
        shell.run(&arguments, &[("PROD_AMQP_URL", &nowhere), ("STG_AMQP_URL", &good)]).expect(code, &[]);
    }
}

#[test]
fn an_address_that_nobody_answers_at_is_named() {
    let (shell, port) = (Shell::new(), Port::reserve().expect("a free port"));
    let refused = shell.check(&format!("amqps://localhost:{}", port.number()), &certificate("publisher"), &[]);
    let place = format!("no connection to the broker localhost:{}: ", port.number());
    failed(&refused, &["certificate"], "address", &[&place, "refused", "check the broker, its URL"]);
    let unknown = shell.check("amqps://broker.invalid/%2Fpubsub", &certificate("publisher"), &[]);
    failed(&unknown, &["certificate"], "address", &["no connection to the broker broker.invalid:5671: ", "its URL"]);
}

#[test]
fn certificates_that_one_side_does_not_trust_are_told_apart() {
    let (shell, url) = (Shell::new(), world().broker.url());
    let ours = certificate("publisher");
    let foreign = Pki::new("another-ca").expect("a CA").client("publisher").expect("a certificate is issued");
    let untrusting = shell.check(&url, &ClientCert { ca: foreign.ca.clone(), ..ours.clone() }, &[]);
    failed(
        &untrusting,
        &["certificate", "address"],
        "TLS",
        &["the broker's certificate was not issued by the given CA"],
    );
    // Under TLS 1.3 the broker looks at the client's certificate only when its own handshake is over, and
    // resets the connection if it was told something since: its words must not be lost then.
    let untrusted = ClientCert { ca: ours.ca, ..foreign };
    for _ in 0..10 {
        let ran = shell.check(&url, &untrusted, &[]);
        let words = "the broker does not trust the issuer of the client certificate of publisher";
        failed(&ran, &["certificate", "address", "TLS"], "TLS", &[words]);
    }
}

#[test]
fn what_the_broker_refuses_is_told_by_its_step() {
    let (shell, url) = (Shell::new(), world().broker.url());
    let before_login = ["certificate", "address", "TLS"];
    let unknown = shell.check(&url, &certificate("nobody-knows-me"), &[]);
    failed(&unknown, &before_login, "login", &["refuses the user nobody-knows-me", "common name", "administrators"]);
    let forbidden = shell.check(&url, &certificate("no-vhost"), &[]);
    let words = "refuses the virtual host /pubsub to the user no-vhost";
    failed(&forbidden, &[&before_login[..], &["login"]].concat(), "virtual host", &[words, "URL"]);
    let elsewhere = shell.check(&url.replace("%2Fpubsub", "nowhere"), &certificate("admin"), &[]);
    let words = "refuses the virtual host nowhere to the user admin";
    failed(&elsewhere, &[&before_login[..], &["login"]].concat(), "virtual host", &[words, "URL"]);
    let exchange = shell.check(&url, &certificate("admin"), &["--exchange", "nope"]);
    let gone = [&before_login[..], &["login", "virtual host"]].concat();
    failed(&exchange, &gone, "exchange", &["the exchange nope does not exist", "--exchange"]);
}

#[test]
fn what_is_wrong_with_the_files_is_said_without_connecting() {
    let shell = Shell::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let url = format!("amqps://localhost:{}", listener.local_addr().expect("an address").port());
    let good = certificate("publisher");
    let issue = |request: Request| world().broker.pki().issue(&request).expect("a certificate is issued");
    let other = certificate("publisher").key;
    let with = |cert: &str, key: &str| ClientCert { cert: cert.to_owned(), key: key.to_owned(), ..good.clone() };

    let expired = issue(Request::client("publisher").expired());
    for (name, certificate, words) in [
        ("expired", expired, ["the client certificate of publisher in ", "-cert.pem expired on 20"]),
        (
            "another's key",
            with(&good.cert, &other),
            ["-key.pem is not the key of the first certificate", "its own key"],
        ),
        ("swapped", with(&good.key, &good.cert), ["-cert.pem contains no certificate", "use a PEM certificate"]),
        ("no CA", ClientCert { ca: String::new(), ..good.clone() }, ["-ca.pem is empty", "use a PEM certificate"]),
    ] {
        let ran = shell.check(&url, &certificate, &[]);
        assert!(!ran.err.contains("BEGIN PRIVATE KEY"), "{name}");
        failed(&ran, &[], "certificate", &words);
    }
    let given = ["check", "--env", "prod", "--prod-amqp-url", &url, "--ca", "x", "--cert", "y", "--key", "z"];
    shell.run(&given, &[]).expect(2, &["can't read x: No such file"]);
    assert!(listener.accept().is_err(), "nobody connected");
}
