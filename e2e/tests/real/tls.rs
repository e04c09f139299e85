//! `amqps://` is TLS, and the program trusts only the given CA.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

use rig::broker::Options;
use rig::pki::Request;
use rig::{Broker, ClientCert, Pki, TlsServer};
use serde_json::Value;

use e2e::cli::Cli;
use e2e::{SOON, certificate, message, run, shared};

/// Publishes one message. Returns the exit code and the status.
fn publish(cli: &Cli, url: &str, certificate: &ClientCert, env: &[(&str, &str)]) -> (i64, Value) {
    let file = cli.file("message.yaml", &message("guarded", "tls.topic", "")).display().to_string();
    let arguments = ["publish", "-o", "json", "-f", &file, "--prod-amqp-url", url];
    let output = cli.run_with(certificate, &arguments, env);
    let mut line: Value = serde_json::from_str(&output.out).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.code, line["status"].take())
}

/// The system's trust store makes no difference.
#[test]
fn refuses_other_ca() {
    let (cli, url) = (Cli::new(), shared().broker.url());
    let other = Pki::new("another-ca").expect("a CA");
    let certificate = ClientCert { ca: other.ca().to_owned(), ..certificate("publisher") };
    let system = cli.file("system.pem", shared().broker.pki().ca()).display().to_string();
    for env in [&[][..], &[("SSL_CERT_FILE", system.as_str())]] {
        let (code, status) = publish(&cli, &url, &certificate, env);
        assert_eq!((code, &status["reason"], &status["status"]), (1, &"TlsFailed".into(), &false.into()), "{status}");
        let text = status["message"].as_str().expect("a message");
        assert!(text.contains("not issued by the given CA"), "{text}");
    }
}

/// With the right name, the program also accepts a broker that supports only TLS 1.2.
#[test]
fn refuses_other_name() {
    let broker = Broker::start_with(&Options {
        server_names: vec!["rabbitmq.example".to_owned(), "127.0.0.1".to_owned()],
        address: "127.0.0.1".into(),
        config: "ssl_options.versions.1 = tlsv1.2\nssl_options.versions.2 = tlsv1.2".to_owned(),
        ..Options::default()
    })
    .expect("a broker of its own");
    let cli = Cli::new();
    let certificate = broker.client("publisher").expect("a certificate");
    let at = |name| broker.url().replace("rabbitmq.example", name);
    let (code, status) = publish(&cli, &at("localhost"), &certificate, &[]);
    assert_eq!((code, &status["reason"]), (1, &"TlsFailed".into()), "{status}");
    let refused = cli.check(&at("localhost"), &certificate, &[]);
    refused.expect(
        1,
        &[
            "TLS failed: ",
            "rabbitmq.example",
            "use a host name from the broker's certificate in the URL, not localhost",
        ],
    );

    let by_address = at("127.0.0.1");
    cli.check(&by_address, &certificate, &[]).expect(0, &["TLS 1.2 with 127.0.0.1", "amq.topic exists"]);
    let (code, status) = publish(&cli, &by_address, &certificate, &[]);
    assert_eq!((code, &status["reason"]), (0, &"Sent".into()), "{status}");
    // Under TLS 1.2 the broker checks the client's certificate during the handshake.
    let foreign = Pki::new("another-ca").expect("a CA").client("publisher").expect("a certificate");
    let untrusted = cli.check(&by_address, &ClientCert { ca: certificate.ca, ..foreign }, &[]);
    untrusted.expect(1, &["the broker does not trust the issuer of the client certificate of publisher"]);
}

/// The peer answers nothing, AMQP or HTTP.
#[test]
fn offers_tls_1_3_or_1_2() {
    let (cli, certificate) = (Cli::new(), certificate("publisher"));
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
            // The client may close the connection.
            let _ = stream.read_to_end(&mut hello);
            hello
        });
        let output = cli.check(&url, &certificate, &[]);
        let sent = recorder.join().expect("a connection");
        assert_eq!(sent[..2], [0x16, 3], "a TLS handshake");
        assert_eq!(sent[5], 1, "a ClientHello");
        assert_eq!(offered_versions(&sent), [0x0304, 0x0303], "TLS 1.3 and 1.2, nothing older");
        assert!(!sent.windows(4).any(|bytes| bytes == b"AMQP"), "AMQP without TLS");
        output.expect(1, &["TLS failed: "]);
        let expected =
            if answer.is_empty() { "closed the connection" } else { "does not speak TLS; check the port in the URL" };
        output.expect(1, &[expected]);
    }
}

#[test]
fn reports_expired_broker_certificate() {
    let pki = shared().broker.pki();
    let expired = pki.issue(&Request::server(&["localhost"]).expired()).expect("a certificate");
    let (server, received) = listen_in_tls(&expired);
    let output = Cli::new().check(&server.url(), &certificate("publisher"), &[]);
    output.expect(1, &["TLS failed: ", "the broker's own certificate has expired; tell its administrators"]);
    drop(server);
    assert_eq!(received.iter().next(), None, "the client sends nothing");
}

/// Fedora's CAs have basic constraints that are not critical. Strict X.509 checks refuse such a CA.
#[test]
fn trusts_ca_without_critical_constraints() {
    let cli = Cli::new();
    cli.file("req.cnf", "[req]\ndistinguished_name = dn\n[dn]\n");
    let folder = cli.folder();
    for arguments in [
        "-keyout ca.key -out ca.pem -subj /CN=ca -addext basicConstraints=CA:TRUE",
        "-keyout key.pem -out cert.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost -CA ca.pem -CAkey ca.key",
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-config", "req.cnf", "-newkey", "rsa:2048", "-nodes"]);
        openssl.args(arguments.split(' ')).current_dir(folder);
        run(&mut openssl, "").expect("a certificate is made");
    }
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"]
        .map(|name| std::fs::read_to_string(folder.join(name)).expect("openssl wrote it"));
    let (server, received) = listen_in_tls(&ClientCert { ca: ca.clone(), cert, key });
    let output = cli.check(&server.url(), &ClientCert { ca, ..certificate("publisher") }, &[]);
    output.expect(1, &["TLS 1.3 with localhost", "login failed: ", "the broker closed the connection"]);
    assert!(!output.err.contains("https://docs.rs"), "advice for programmers: {}", output.err);
    drop(server);
    assert_eq!(received.iter().next(), Some(b"AMQP\x00\x00\x09\x01".to_vec()));
}

/// The broker ends the connection before it logs the client in, with TLS's goodbye or without.
#[test]
fn names_closed_connection() {
    let pki = shared().broker.pki();
    let server = pki.server(&["localhost"]).expect("a certificate");
    let ends: [fn() -> io::Result<()>; 2] = [|| Ok(()), || Err(io::Error::other("no goodbye"))];
    for end in ends {
        let server = TlsServer::start(&server, move |client| {
            client.read_exact(&mut [0; 8])?;
            end()
        });
        let output = Cli::new().check(&server.expect("a server").url(), &certificate("publisher"), &[]);
        output.expect(1, &["login failed: ", ": the broker closed the connection: check the broker, its URL"]);
    }
}

#[test]
fn refuses_plain_amqp() {
    let (cli, certificate) = (Cli::new(), certificate("publisher"));
    let port = shared().broker.port();
    let plain = format!("amqp://localhost:{port}/%2Fpubsub");
    let expected = ["the URL must begin with amqps://", "for example amqps://rabbitmq.fedoraproject.org/%2Fpubsub"];
    cli.check(&plain, &certificate, &[]).expect(2, &expected);
    for command in [&["run"][..], &["publish", "-f", "x"], &[]] {
        cli.run(&[command, &["--stg-amqp-url", &plain]].concat(), &[]).expect(2, &expected);
        cli.run(command, &[("PROD_AMQP_URL", &plain)]).expect(2, &expected);
    }
}

#[test]
fn accepts_ca_bundles() {
    let other = || Pki::new("another-ca").expect("a CA").ca().to_owned();
    let good = certificate("publisher");
    let bundle = format!("# Two others:\n{}subject=CN = x\n\n{}\nand the right one:\n{}", other(), other(), good.ca);
    let bundles = [
        bundle.clone(),
        bundle.replace('\n', "\r\n"),
        format!("{bundle}{}# end", other()),
        bundle.trim_end().to_owned(),
    ];
    let (cli, url) = (Cli::new(), shared().broker.url());
    for ca in bundles {
        cli.check(&url, &ClientCert { ca, ..good.clone() }, &[]).expect(0, &["amq.topic exists"]);
    }
}

/// Starts a TLS server with this certificate, and returns it with the first bytes that it receives.
fn listen_in_tls(certificate: &ClientCert) -> (TlsServer, Receiver<Vec<u8>>) {
    let (sender, received) = mpsc::channel();
    let server = TlsServer::start(certificate, move |client| {
        let mut bytes = [0; 8];
        let length = client.read(&mut bytes)?;
        sender.send(bytes[..length].to_vec()).expect("the test runs");
        Err(io::Error::other("no goodbye"))
    });
    (server.expect("a server"), received)
}

/// Listens for one connection and passes it to `serve`. Returns the URL and the result of `serve`.
fn listen<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("amqps://localhost:{}/%2Fpubsub", listener.local_addr().expect("an address").port());
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a deadline");
        serve(stream)
    });
    (url, serving)
}

/// Returns the versions in the extension `supported_versions` of a `ClientHello` (RFC 8446, 4.2.1).
fn offered_versions(record: &[u8]) -> Vec<u16> {
    let u16_at = |at: usize| usize::from(u16::from_be_bytes([record[at], record[at + 1]]));
    // Record header, handshake header, version and random. Three fields with their lengths follow.
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
