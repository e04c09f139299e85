//! `amqps://` really is TLS, and nothing is trusted but the given CA.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use rig::broker::Options;
use rig::pki::{KeyKind, Request};
use rig::{Broker, ClientCert, Pki};
use serde_json::Value;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, Stream};

use e2e::program::{Ran, Shell};
use e2e::world::{SOON, message, run, world};

fn certificate() -> ClientCert {
    world().broker.client("publisher").expect("a certificate is issued")
}

/// Publishes one message, and returns the exit code and its status.
fn publish(shell: &Shell, url: &str, certificate: &ClientCert, env: &[(&str, &str)]) -> (i64, Value) {
    let file = shell.file("message.yaml", &message("guarded", "tls.topic", "")).display().to_string();
    let arguments = ["publish", "-o", "json", "-f", &file, "--prod-amqp-url", url].map(str::to_owned).to_vec();
    let ran = shell.run(&[arguments, shell.certificate(certificate)].concat(), env);
    let mut line: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran.code, line["status"].take())
}

#[test]
fn a_broker_of_another_ca_is_refused_even_if_the_system_trusts_it() {
    let (shell, url) = (Shell::new(), world().broker.url());
    let other = Pki::new("another-ca").expect("a CA");
    let certificate = ClientCert { ca: other.ca().to_owned(), ..certificate() };
    let system = shell.file("system.pem", world().broker.pki().ca()).display().to_string();
    for env in [&[][..], &[("SSL_CERT_FILE", system.as_str())]] {
        let (code, status) = publish(&shell, &url, &certificate, env);
        assert_eq!((code, &status["reason"], &status["status"]), (1, &"TlsFailed".into(), &false.into()), "{status}");
        let words = status["message"].as_str().expect("a message");
        assert!(words.contains("not issued by the given CA"), "{words}");
    }
}

#[test]
fn a_broker_of_another_name_is_refused_and_one_that_speaks_only_tls_1_2_is_not() {
    let broker = Broker::start_with(&Options {
        server_names: vec!["rabbitmq.example".to_owned(), "127.0.0.1".to_owned()],
        address: "127.0.0.1".into(),
        config: "ssl_options.versions.1 = tlsv1.2\nssl_options.versions.2 = tlsv1.2".to_owned(),
    })
    .expect("a broker of its own");
    let shell = Shell::new();
    let certificate = broker.client("publisher").expect("a certificate is issued");
    let at = |name| broker.url().replace("rabbitmq.example", name);
    let (code, status) = publish(&shell, &at("localhost"), &certificate, &[]);
    assert_eq!((code, &status["reason"]), (1, &"TlsFailed".into()), "{status}");
    let refused = shell.check(&at("localhost"), &certificate, &[]);
    refused.expect(
        1,
        &[
            "TLS failed: ",
            "rabbitmq.example",
            "use a host name from the broker's certificate in the URL, not localhost",
        ],
    );

    let by_address = at("127.0.0.1");
    shell.check(&by_address, &certificate, &[]).expect(0, &["TLS 1.2 with 127.0.0.1", "amq.topic exists"]);
    let (code, status) = publish(&shell, &by_address, &certificate, &[]);
    assert_eq!((code, &status["reason"]), (0, &"Sent".into()), "{status}");
    // Under TLS 1.2 the broker judges the client's certificate within the handshake.
    let foreign = Pki::new("another-ca").expect("a CA").client("publisher").expect("a certificate is issued");
    let untrusted = shell.check(&by_address, &ClientCert { ca: certificate.ca, ..foreign }, &[]);
    untrusted.expect(1, &["the broker does not trust the issuer of the client certificate of publisher"]);
}

#[test]
fn the_first_bytes_are_those_of_tls_1_3_or_1_2_whatever_the_peer_answers() {
    let (shell, certificate) = (Shell::new(), certificate());
    for answer in [&b""[..], b"AMQP\0\0\x09\x01", b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let (url, recorder) = listen(move |mut stream| {
            let mut hello = vec![0; 5];
            stream.read_exact(&mut hello).expect("the client speaks first");
            let length = u16::from_be_bytes([hello[3], hello[4]]);
            let begin = hello.len();
            hello.resize(begin + usize::from(length), 0);
            stream.read_exact(&mut hello[begin..]).expect("a whole record");
            stream.write_all(answer).expect("the client listens");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // The client may cut the connection short.
            let _ = stream.read_to_end(&mut hello);
            hello
        });
        let ran = shell.check(&url, &certificate, &[]);
        let said = recorder.join().expect("somebody connected");
        assert_eq!(said[..2], [0x16, 3], "a TLS handshake");
        assert_eq!(said[5], 1, "a ClientHello");
        assert_eq!(offered_versions(&said), [0x0304, 0x0303], "TLS 1.3 and 1.2, nothing older");
        assert!(!said.windows(4).any(|bytes| bytes == b"AMQP"), "AMQP in the clear");
        ran.expect(1, &["TLS failed: "]);
        let words =
            if answer.is_empty() { "closed the connection" } else { "does not speak TLS; check the port in the URL" };
        ran.expect(1, &[words]);
    }
}

#[test]
fn an_expired_certificate_of_the_broker_is_the_brokers_fault() {
    let pki = world().broker.pki();
    let expired = pki.issue(&Request::server(&["localhost"]).expired()).expect("a certificate is issued");
    let (url, server) = listen_in_tls(expired.cert, expired.key);
    let ran = Shell::new().check(&url, &certificate(), &[]);
    ran.expect(1, &["TLS failed: ", "the broker's own certificate has expired; tell its administrators"]);
    assert_eq!(server.join().expect("the server ends"), b"", "nothing was said to it");
}

/// As Fedora's CAs are; strict X.509 checks refuse such a CA.
#[test]
fn a_ca_whose_basic_constraints_are_not_critical_is_trusted() {
    let shell = Shell::new();
    shell.file("req.cnf", "[req]\ndistinguished_name = dn\n[dn]\n");
    let folder = shell.folder();
    for arguments in [
        "-keyout ca.key -out ca.pem -subj /CN=ca -addext basicConstraints=CA:TRUE",
        "-keyout key.pem -out cert.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost -CA ca.pem -CAkey ca.key",
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-config", "req.cnf", "-newkey", "rsa:2048", "-nodes"]);
        openssl.args(arguments.split(' ')).current_dir(folder);
        run(openssl, "").expect("a certificate is made");
    }
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"]
        .map(|name| std::fs::read_to_string(folder.join(name)).expect("openssl wrote it"));
    let (url, server) = listen_in_tls(cert, key);
    let ran = shell.check(&url, &ClientCert { ca, ..certificate() }, &[]);
    ran.expect(1, &["TLS 1.3 with localhost", "login failed: ", "the broker closed the connection"]);
    assert!(!ran.err.contains("https://docs.rs"), "words for programmers: {}", ran.err);
    assert_eq!(server.join().expect("the server ends"), b"AMQP\x00\x00\x09\x01");
}

#[test]
fn plain_amqp_is_refused_at_the_command_line() {
    let (shell, certificate) = (Shell::new(), certificate());
    let port = world().broker.port();
    let plain = format!("amqp://localhost:{port}/%2Fpubsub");
    let words = ["the URL must begin with amqps://", "for example amqps://rabbitmq.fedoraproject.org/%2Fpubsub"];
    shell.check(&plain, &certificate, &[]).expect(2, &words);
    for command in [&["run"][..], &["publish", "-f", "x"], &[]] {
        shell.run(&[command, &["--stg-amqp-url", &plain]].concat(), &[]).expect(2, &words);
        shell.run(command, &[("PROD_AMQP_URL", &plain)]).expect(2, &words);
    }
}

#[test]
fn every_certificate_of_a_ca_bundle_counts() {
    let other = || Pki::new("another-ca").expect("a CA").ca().to_owned();
    let good = certificate();
    let bundle = format!("# Two that are not it:\n{}subject=CN = x\n\n{}\nand the one:\n{}", other(), other(), good.ca);
    let bundles = [
        bundle.clone(),
        bundle.replace('\n', "\r\n"),
        format!("{bundle}{}# end", other()),
        bundle.trim_end().to_owned(),
    ];
    let (shell, url) = (Shell::new(), world().broker.url());
    for ca in bundles {
        shell.check(&url, &ClientCert { ca, ..good.clone() }, &[]).expect(0, &["amq.topic exists"]);
    }
}

#[test]
fn every_usual_kind_of_key_is_good_for_check() {
    let (shell, url) = (Shell::new(), world().broker.url());
    for (kind, label) in [
        (KeyKind::Ec, "BEGIN PRIVATE KEY"),
        (KeyKind::EcSec1, "BEGIN EC PRIVATE KEY"),
        (KeyKind::Rsa, "BEGIN PRIVATE KEY"),
        (KeyKind::RsaPkcs1, "BEGIN RSA PRIVATE KEY"),
    ] {
        let request = Request::client("publisher").key(kind);
        let certificate = world().broker.pki().issue(&request).expect("a certificate is issued");
        assert!(certificate.key.contains(label), "{kind:?}");
        let ran: Ran = shell.check(&url, &certificate, &[]);
        ran.expect(0, &["as publisher"]);
    }
}

/// A server that speaks TLS with this certificate; it returns the first bytes that it is told.
fn listen_in_tls(cert: String, key: String) -> (String, JoinHandle<Vec<u8>>) {
    listen(move |mut stream| {
        let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<_, _>>().expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a configuration");
        let mut server = ServerConnection::new(Arc::new(config)).expect("a server");
        let mut said = vec![0; 8];
        // It fails where the client does not like the certificate.
        let length = Stream::new(&mut server, &mut stream).read(&mut said).unwrap_or(0);
        said.truncate(length);
        said
    })
}

/// Listens for one connection, which is given to `serve`; returns the URL and what `serve` returns.
fn listen<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("amqps://localhost:{}/%2Fpubsub", listener.local_addr().expect("an address").port());
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("somebody connects");
        stream.set_read_timeout(Some(SOON)).expect("a deadline");
        serve(stream)
    });
    (url, serving)
}

/// The versions that a `ClientHello` offers, in its extension `supported_versions` (RFC 8446, 4.2.1).
fn offered_versions(record: &[u8]) -> Vec<u16> {
    let u16_at = |at: usize| usize::from(u16::from_be_bytes([record[at], record[at + 1]]));
    // Record header, handshake header, version and random; then three fields that tell their length.
    let session = 5 + 4 + 2 + 32;
    let ciphers = session + 1 + usize::from(record[session]);
    let compressions = ciphers + 2 + u16_at(ciphers);
    let mut extension = compressions + 1 + usize::from(record[compressions]) + 2;
    while u16_at(extension) != 43 {
        extension += 4 + u16_at(extension + 2);
    }
    let list = extension + 5;
    record[list..list + usize::from(record[list - 1])].chunks(2).map(|v| u16::from_be_bytes([v[0], v[1]])).collect()
}
