//! Key material reaches nobody: a full run with every log at trace level, with good, bad, rotated and
//! foreign keys, and not one piece of them in logs, statuses, Events or what the commands print.

use k8s_openapi::ByteString;
use rig::ClientCert;
use rig::pki::{KeyKind, Request};

use e2e::program::Shell;
use e2e::raw::RawConsumer;
use e2e::world::{Operator, SOON, Space, message, world};

/// Every crate, also those that the program's own filter keeps quiet.
const LOUD: &str = "trace,kube_client=trace,lapin=trace,rustls=trace,tokio_rustls=trace,hyper=trace,\
                    hyper_util=trace,tower=trace,h2=trace,amq_protocol=trace,async_rs=trace";

/// What would give a key away, each in the forms that programs print bytes in.
fn traces(key: &str) -> Vec<String> {
    let lines = key.lines().filter(|line| !line.starts_with("-----") && line.len() >= 16);
    let mut traces: Vec<String> = lines.map(|line| line[..16].to_owned()).collect();
    let json = |bytes: &[u8]| serde_json::to_string(&ByteString(bytes.to_vec())).expect("base64");
    // As the API server sends it: base64 of the PEM text.
    traces.push(json(key.as_bytes()).trim_matches('"')[60..90].to_owned());
    if let Ok(Some(der)) = rustls_pemfile::private_key(&mut key.as_bytes()) {
        let bytes = der.secret_der();
        let middle = &bytes[bytes.len() / 2..][..8];
        let list =
            |format: fn(&u8) -> String, separator: &str| middle.iter().map(format).collect::<Vec<_>>().join(separator);
        traces.extend([
            list(u8::to_string, ", "),
            list(u8::to_string, ","),
            list(|byte| format!("{byte:02x}"), ""),
            list(|byte| format!("{byte:02X}"), ""),
            list(|byte| format!("{byte:02x}"), " "),
            list(|byte| format!("0x{byte:02x}"), ", "),
        ]);
    }
    traces
}

fn assert_hushed(what: &str, said: &str, keys: &[String]) {
    for words in ["PRIVATE KEY", "LS0tLS1CRUdJTiBQUklW", "LS0tLS1CRUdJTiBFQyBQUklW", "LS0tLS1CRUdJTiBSU0Eg"] {
        let line = said.lines().find(|line| line.contains(words));
        // The program's own advice speaks of PEM.
        assert!(line.is_none(), "{what} says {words:?}: {line:?}");
    }
    for trace in keys.iter().flat_map(|key| traces(key)) {
        let line = said.lines().find(|line| line.contains(&trace));
        assert!(line.is_none(), "{what} gives {trace:?} of a key away: {line:?}");
    }
}

/// Certificates whose keys must not be seen, each with the name of its Secret.
fn certificates() -> Vec<(&'static str, ClientCert)> {
    let pki = world().broker.pki();
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

#[test]
fn no_key_is_given_away_by_the_operator_at_any_log_level() {
    let (space, owner) = (Space::new("hush"), Space::new("hush-owner"));
    let consumer = RawConsumer::start(&world().broker, "hush.#");
    let arguments = ["--watch-namespaces", &space.name, "--leader-elect", "--lease-namespace", &space.name];
    let operator = Operator::launch(&world().kube.kubeconfig(), &world().broker.url(), &arguments, LOUD);
    operator.wait_ready();
    let mut keys = Vec::new();
    for (name, certificate) in certificates() {
        keys.extend([certificate.key.clone(), certificate.cert.clone()].into_iter().filter(|pem| pem.contains("KEY")));
        space.apply(&certificate.secret_yaml(name, &space.name)).expect("the Secret is stored");
        let manifest = message(name, &format!("hush.{name}"), "");
        space.apply(&manifest.replace("{name: certs}", &format!("{{name: {name}}}"))).expect("it is accepted");
    }
    let foreign = world().broker.client("publisher").expect("a certificate");
    keys.push(foreign.key.clone());
    owner.apply(&foreign.secret_yaml("certs", &owner.name)).expect("the Secret is stored");
    let reference = format!("{{name: certs, namespace: {}}}", owner.name);
    space.apply(&message("foreign", "hush.foreign", "").replace("{name: certs}", &reference)).expect("it is accepted");
    for (name, reason) in [
        ("p256", "Sent"),
        ("sec1", "Sent"),
        ("rsa", "Sent"),
        ("pkcs1", "Sent"),
        ("cut", "SecretInvalid"),
        ("shifted", "SecretInvalid"),
        ("mismatch", "SecretInvalid"),
        ("swapped", "SecretInvalid"),
        ("expired", "CertificateExpired"),
        ("unknown", "AuthenticationFailed"),
        ("foreign", "SecretNotFound"),
    ] {
        space.wait_for_reason(name, reason);
    }
    // Rotated: the broken ones become good ones.
    for name in ["cut", "swapped"] {
        let certificate = world().broker.client("publisher").expect("a certificate");
        keys.push(certificate.key.clone());
        space.apply(&certificate.secret_yaml(name, &space.name)).expect("the Secret is stored");
        space.wait_for_reason(name, "Sent");
    }
    assert_eq!(consumer.take(6, SOON).len(), 6);
    assert_eq!(operator.stop(), Some(0));

    let log = operator.log();
    assert!(log.contains("TRACE"), "the log is as loud as it can be");
    assert_hushed("the log", &log, &keys);
    for kind in ["fmsg", "events", "leases"] {
        let objects = space.kubectl(&["get", kind, "-o", "json", "--show-managed-fields"], "").expect("kubectl lists");
        assert_hushed(kind, &objects, &keys);
    }
    let token = std::fs::read_to_string(world().kube.kubeconfig()).expect("the kubeconfig is there");
    let token = token.split("token: \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    assert!(!log.contains(token), "the operator's own token is not logged");
}

#[test]
fn no_key_is_given_away_by_the_commands() {
    let shell = Shell::new();
    let url = world().broker.url();
    let env = [("RUST_LOG", LOUD), ("RUST_BACKTRACE", "full"), ("PROD_AMQP_URL", url.as_str())];
    let mut keys = Vec::new();
    for (name, certificate) in certificates() {
        keys.extend([certificate.key.clone(), certificate.cert.clone()].into_iter().filter(|pem| pem.contains("KEY")));
        let files = shell.certificate(&certificate);
        let message = message(name, &format!("hushed.{name}"), "");
        let manifest = shell.file("message.yaml", &message).display().to_string();
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
        let mut said = String::new();
        for (number, secret) in broken.iter().enumerate() {
            let file = shell.file(&format!("{name}-{number}.yaml"), &format!("{secret}\n---\n{message}"));
            let ran = shell.run(&["publish", "-o", "json", "-f", &file.display().to_string()], &env);
            said.extend([ran.out, ran.err]);
        }
        let publish = [vec!["publish".to_owned(), "-f".to_owned(), manifest], files.clone()].concat();
        let check = [vec!["check".to_owned(), "--env".to_owned(), "prod".to_owned()], files].concat();
        for arguments in [publish, check] {
            let ran = shell.run(&arguments, &env);
            said.extend([ran.out, ran.err]);
        }
        assert_hushed(&format!("a command that was given {name}"), &said, &keys);
    }
}
