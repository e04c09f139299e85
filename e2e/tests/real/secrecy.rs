//! Key material stays secret. With all logs at trace level, and with good, bad, rotated and foreign
//! keys, no part of a key is in logs, statuses, Events or the output of commands.

use k8s_openapi::ByteString;
use rig::ClientCert;
use rig::pki::{KeyKind, Request};

use e2e::cli::Cli;
use e2e::raw::RawConsumer;
use e2e::{Operator, SOON, TestNamespace, certificate, message, shared, with_foreign_secret, with_secret};

/// The log level of every crate, also of those that the program's own filter excludes.
const TRACE: &str = "trace,kube_client=trace,lapin=trace,rustls=trace,tokio_rustls=trace,hyper=trace,\
                    hyper_util=trace,tower=trace,h2=trace,amq_protocol=trace,async_rs=trace";

/// Returns parts of a key, in each form in which programs print bytes.
fn fragments(key: &str) -> Vec<String> {
    let lines = key.lines().filter(|line| !line.starts_with("-----") && line.len() >= 16);
    let mut fragments: Vec<String> = lines.map(|line| line[..16].to_owned()).collect();
    let json = |bytes: &[u8]| serde_json::to_string(&ByteString(bytes.to_vec())).expect("base64");
    // The API server sends the PEM text in base64.
    fragments.push(json(key.as_bytes()).trim_matches('"')[60..90].to_owned());
    if let Ok(Some(der)) = rustls_pemfile::private_key(&mut key.as_bytes()) {
        let bytes = der.secret_der();
        let middle = &bytes[bytes.len() / 2..][..8];
        let list =
            |format: fn(&u8) -> String, separator: &str| middle.iter().map(format).collect::<Vec<_>>().join(separator);
        fragments.extend([
            list(u8::to_string, ", "),
            list(u8::to_string, ","),
            list(|byte| format!("{byte:02x}"), ""),
            list(|byte| format!("{byte:02X}"), ""),
            list(|byte| format!("{byte:02x}"), " "),
            list(|byte| format!("0x{byte:02x}"), ", "),
        ]);
    }

    fragments
}

fn assert_secret(source: &str, text: &str, keys: &[String]) {
    let markers = ["PRIVATE KEY", "LS0tLS1CRUdJTiBQUklW", "LS0tLS1CRUdJTiBFQyBQUklW", "LS0tLS1CRUdJTiBSU0Eg"];
    let markers = markers.map(str::to_owned).into_iter();
    for secret in markers.chain(keys.iter().flat_map(|key| fragments(key))) {
        let line = text.lines().find(|line| line.contains(&secret));
        assert!(line.is_none(), "{source} contains {secret:?}: {line:?}");
    }
}

/// The names of the certificates that the broker accepts: one for each kind of key.
const GOOD: [&str; 4] = ["p256", "sec1", "rsa", "pkcs1"];

/// Returns certificates with secret keys, each with the name of its Secret.
fn certificates() -> Vec<(&'static str, ClientCert)> {
    let pki = shared().broker.pki();
    let good = |kind| pki.issue(&Request::client("publisher").key(kind)).expect("a certificate");
    let one = || pki.client("publisher").expect("a certificate");
    let (plain, cut, shifted, swapped) = (one(), one(), one(), one());
    let half = cut.key.len() / 2;
    vec![
        ("p256", good(KeyKind::Ec)),
        ("sec1", good(KeyKind::EcSec1)),
        ("rsa", good(KeyKind::Rsa)),
        ("pkcs1", good(KeyKind::RsaPkcs1)),
        ("cut", ClientCert { key: cut.key[..half].to_owned(), ..cut }),
        ("shifted", ClientCert { key: shifted.key.replace('\n', "\n!"), ..shifted }),
        ("mismatch", ClientCert { key: one().key, ..plain }),
        ("swapped", ClientCert { cert: swapped.key.clone(), key: swapped.cert.clone(), ..swapped }),
        ("expired", pki.issue(&Request::client("publisher").expired()).expect("a certificate")),
        ("unknown", pki.client("nobody-knows-me").expect("a certificate")),
    ]
}

/// Returns the PEM texts of a certificate that hold a key.
fn keys_of(certificate: &ClientCert) -> impl Iterator<Item = String> {
    [certificate.key.clone(), certificate.cert.clone()].into_iter().filter(|pem| pem.contains("KEY"))
}

#[test]
fn operator_hides_keys() {
    let (namespace, owner) = (TestNamespace::new("hush"), TestNamespace::new("hush-owner"));
    let consumer = RawConsumer::start(&shared().broker, "hush.#");
    let arguments = ["--watch-namespaces", &namespace.name, "--leader-elect", "--lease-namespace", &namespace.name];
    let operator = Operator::launch(&shared().kube.kubeconfig(), &shared().broker.url(), &arguments, TRACE);
    operator.wait_ready();
    let mut keys = Vec::new();
    for (name, certificate) in certificates() {
        keys.extend(keys_of(&certificate));
        namespace.store_secret(name, &certificate);
        namespace.apply(&with_secret(&message(name, &format!("hush.{name}"), ""), name));
    }
    let foreign = certificate("publisher");
    keys.push(foreign.key.clone());
    owner.store_secret("certs", &foreign);
    namespace.apply(&with_foreign_secret(&message("foreign", "hush.foreign", ""), "certs", &owner));
    namespace.wait_for_reason_of(&GOOD, "Sent");
    namespace.wait_for_reason_of(&["cut", "shifted", "mismatch", "swapped"], "SecretInvalid");
    namespace.wait_for_reason("expired", "CertificateExpired");
    namespace.wait_for_reason("unknown", "AuthenticationFailed");
    namespace.wait_for_reason("foreign", "SecretNotFound");
    // Rotation: good keys replace the broken ones.
    for name in ["cut", "swapped"] {
        let certificate = certificate("publisher");
        keys.push(certificate.key.clone());
        namespace.store_secret(name, &certificate);
        namespace.wait_for_reason(name, "Sent");
    }
    assert_eq!(consumer.take(6, SOON).len(), 6);
    assert_eq!(operator.stop(), Some(0));

    let log = operator.log();
    assert!(log.contains("TRACE"), "the log has the level trace");
    assert_secret("the log", &log, &keys);
    for kind in ["fmsg", "events", "leases"] {
        let objects = namespace.kubectl(&["get", kind, "-o", "json", "--show-managed-fields"]);
        assert_secret(kind, &objects, &keys);
    }
    let token = std::fs::read_to_string(shared().kube.kubeconfig()).expect("a kubeconfig");
    let token = token.split("token: \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    assert!(!log.contains(token), "the log contains no token of the operator");
}

#[test]
fn commands_hide_keys() {
    let cli = Cli::new();
    let url = shared().broker.url();
    let env = [("RUST_LOG", TRACE), ("RUST_BACKTRACE", "full"), ("PROD_AMQP_URL", url.as_str())];
    let mut keys = Vec::new();
    for (name, certificate) in certificates() {
        keys.extend(keys_of(&certificate));

        let message = message(name, &format!("hushed.{name}"), "");
        let manifest = cli.file("message.yaml", &message).display().to_string();
        let secret = certificate.secret_yaml("certs", "default");
        let key_line = certificate.key.lines().nth(1).unwrap_or_default().to_owned();
        let broken = [
            secret.clone(),
            secret.replace("stringData", "data"),
            secret.replace("stringData", "unknown"),
            secret.replacen(&key_line, &format!("{key_line}\n{key_line}: ["), 1),
            secret.replacen("key: ", "key: [", 1),
            secret.replacen("kind: Secret", "kind: Secret\nkind: Secret", 1),
            format!("{{\"kind\": \"Secret\", \"data\": {{\"key\": {:?}}}", certificate.key),
        ];
        let mut text = String::new();
        for (number, secret) in broken.iter().enumerate() {
            let file = cli.file(&format!("{name}-{number}.yaml"), &format!("{secret}\n---\n{message}"));
            text += &cli.run(&["publish", "-o", "json", "-f", &file.display().to_string()], &env).all();
        }
        for arguments in [["publish", "-f", &manifest], ["check", "--env", "prod"]] {
            let output = cli.run_with(&certificate, &arguments, &env);
            assert_eq!(output.code == 0, GOOD.contains(&name), "{name}: {output:?}");
            text += &output.all();
        }
        assert_secret(&format!("a command with {name}"), &text, &keys);
    }
}
