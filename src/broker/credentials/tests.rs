//! PEM texts become credentials, or words that name the place and the mend and quote nothing.

use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use std::io::Write;

use crate::broker::credentials::{Credentials, CredentialsError, fingerprint};
use chrono::TimeDelta;
use fedora_message::message::secret::{Material, Part};
use fedora_message::policy::outcome::{Failure, Reason};
use rig::pki::{KeyKind, Request};
use rig::{ClientCert, Pki};

use fedora_message::fixture::at;

const CA: &str = r#"key "ca" of Secret apps/certs"#;
const CERT: &str = r#"key "cert" of Secret apps/certs"#;
const KEY: &str = r#"key "key" of Secret apps/certs"#;

fn pki() -> Pki {
    Pki::new("a CA").unwrap()
}

fn issued() -> ClientCert {
    pki().client("nice-app").unwrap()
}

fn material<'a>(ca: &'a [u8], cert: &'a [u8], key: &'a [u8]) -> Material<'a> {
    let part = |place: &str, bytes| Part { place: place.to_owned(), bytes };
    Material { ca: part(CA, ca), cert: part(CERT, cert), key: part(KEY, key) }
}

fn read_bytes(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Credentials, CredentialsError> {
    let material = material(ca, cert, key);
    Credentials::from_pem(&material, fingerprint(&material))
}

fn read(ca: &str, cert: &str, key: &str) -> Result<Credentials, CredentialsError> {
    read_bytes(ca.as_bytes(), cert.as_bytes(), key.as_bytes())
}

/// Why these can't be used. No line of any PEM may stand in it.
fn refusal(ca: &str, cert: &str, key: &str) -> String {
    let error = read(ca, cert, key).unwrap_err();
    assert_eq!(error.reason(), Reason::SecretInvalid);
    let detail = error.to_string();
    for line in [ca, cert, key].into_iter().flat_map(str::lines).filter(|line| line.len() > 8) {
        assert!(line.starts_with("-----") || !detail.contains(line), "{detail} quotes {line}");
    }
    detail
}

fn openssl(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_kind_of_key_is_read() {
    let pki = pki();
    for kind in [KeyKind::Ec, KeyKind::EcSec1, KeyKind::Rsa, KeyKind::RsaPkcs1] {
        let ClientCert { ca, cert, key } = pki.issue(&Request::client("nice-app").key(kind)).unwrap();
        let credentials = read(&ca, &cert, &key).unwrap();
        assert_eq!(credentials.user, "nice-app", "{kind:?}");
    }
}

#[test]
fn a_pem_is_read_however_it_was_written() {
    let ClientCert { ca, cert, key } = issued();
    let windows = |text: &str| text.replace('\n', "\r\n");
    let commented = |text: &str| format!("subject=CN = é\nissuer=CN = a CA\n\n{text}\n\ntrailing words\n");
    let trimmed = |text: &str| text.trim_end().to_owned();
    for write in [&windows as &dyn Fn(&str) -> String, &commented, &trimmed] {
        assert!(read(&write(&ca), &write(&cert), &write(&key)).is_ok(), "{}", write("TEXT\n"));
    }
    // Certificate and key in one file, given twice.
    let both = format!("{key}{cert}");
    assert_eq!(read(&ca, &both, &both).unwrap().user, "nice-app");
}

#[test]
fn every_block_of_the_ca_counts() {
    let (ours, other) = (pki(), Pki::new("another CA").unwrap());
    let ClientCert { cert, key, .. } = ours.client("nice-app").unwrap();
    let one = read(ours.ca(), &cert, &key).unwrap();
    let two = read(&format!("{}{}", other.ca(), ours.ca()), &cert, &key).unwrap();
    assert_ne!(one.fingerprint, two.fingerprint);
}

#[test]
fn the_first_certificate_is_the_users_and_others_are_its_chain() {
    let ClientCert { ca, cert, key } = issued();
    let credentials = read(&ca, &format!("{cert}{ca}"), &key).unwrap();
    assert_eq!(credentials.user, "nice-app");
}

#[test]
fn what_is_no_certificate_is_told_by_its_place() {
    let ClientCert { ca, cert, key } = issued();
    let no_certificate = |place: &str, found: &str| {
        format!("{place} {found}: put a PEM certificate there (-----BEGIN CERTIFICATE-----)")
    };
    let not_pem = |place: &str| {
        format!(
            "{place} is not valid PEM: put the text from -----BEGIN to -----END there, unaltered and with its line breaks"
        )
    };
    let no_key = |found: &str| format!("{KEY} {found}: put the certificate's PEM key there (PKCS#8, PKCS#1 or SEC1)");
    let (other, key_instead) = ("holds no certificate", "holds no certificate, but a private key");
    let cut = |pem: &str| pem[..pem.len() / 2].to_owned();
    let garbled = |pem: &str| {
        let (head, tail) = pem.split_at(60);
        format!("{head}%%%%{tail}")
    };
    for (what, [ca, cert, key], expected) in [
        ("an empty CA", ["", &cert, &key], no_certificate(CA, "is empty")),
        ("a CA that is text", ["the CA", &cert, &key], no_certificate(CA, other)),
        ("a CA that is a key", [&key, &cert, &key], no_certificate(CA, key_instead)),
        ("a CA that is cut", [&cut(&ca), &cert, &key], not_pem(CA)),
        ("a CA that is garbled", [&garbled(&ca), &cert, &key], not_pem(CA)),
        ("an empty certificate", [&ca, "", &key], no_certificate(CERT, "is empty")),
        ("a certificate that is a key", [&ca, &key, &key], no_certificate(CERT, key_instead)),
        ("a certificate that is cut", [&ca, &cut(&cert), &key], not_pem(CERT)),
        ("a certificate that is garbled", [&ca, &garbled(&cert), &key], not_pem(CERT)),
        ("an empty key", [&ca, &cert, ""], no_key("is empty")),
        (
            "a key that is a certificate",
            [&ca, &cert, &cert],
            no_key("holds no private key that can be read, but a certificate"),
        ),
        ("a key that is text", [&ca, &cert, "open sesame"], no_key("holds no private key that can be read")),
        ("a key that is cut", [&ca, &cert, &cut(&key)], not_pem(KEY)),
        ("a key that is garbled", [&ca, &cert, &garbled(&key)], not_pem(KEY)),
    ] {
        assert_eq!(refusal(ca, cert, key), expected, "{what}");
    }
}

#[test]
fn pem_around_something_else_is_told_by_its_place() {
    let ClientCert { ca, cert, key } = issued();
    let wrapped = |label: &str| format!("-----BEGIN {label}-----\naGVsbG8gd29ybGQ=\n-----END {label}-----\n");
    let certificate = wrapped("CERTIFICATE");
    assert_eq!(
        refusal(&certificate, &cert, &key),
        format!("{CA} holds no CA certificate that can be read: put the broker's CA there")
    );
    assert_eq!(
        refusal(&ca, &certificate, &key),
        format!("{CERT} holds a certificate that can't be read: put the client certificate there again")
    );
    assert_eq!(
        refusal(&ca, &cert, &wrapped("PRIVATE KEY")),
        format!(
            "{KEY} can't be used with {CERT}: put an RSA key of 2048 to 4096 bits, an ECDSA key on P-256 or P-384, or an Ed25519 key there, and its certificate"
        )
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let ClientCert { ca, cert, key } = issued();
    let der = openssl(&["x509", "-outform", "PEM"], &cert);
    assert!(der.starts_with("-----BEGIN CERTIFICATE-----"));
    let noise: Vec<u8> = (0..=255).cycle().take(4096).collect();
    for material in [[&noise[..], cert.as_bytes(), key.as_bytes()], [ca.as_bytes(), &noise, key.as_bytes()]] {
        assert!(read_bytes(material[0], material[1], material[2]).is_err());
    }
    assert!(read_bytes(ca.as_bytes(), cert.as_bytes(), &noise).is_err());
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let pki = pki();
    let (ours, other) = (pki.client("nice-app").unwrap(), pki.client("nice-app").unwrap());
    assert_eq!(
        refusal(&ours.ca, &ours.cert, &other.key),
        format!(
            "{CERT}, whose first certificate is that of nice-app, and {KEY} don't belong together: put the client certificate and its own key there"
        )
    );
    let rsa = pki.issue(&Request::client("nice-app").key(KeyKind::Rsa)).unwrap();
    assert_eq!(
        refusal(&ours.ca, &ours.cert, &rsa.key),
        format!(
            "{CERT}, whose first certificate is that of nice-app, and {KEY} don't belong together: put the client certificate and its own key there"
        )
    );
}

#[test]
fn an_encrypted_key_is_called_encrypted() {
    let detail = format!("{KEY} holds no private key that can be read: it is encrypted: store it without a passphrase");
    let ClientCert { ca, cert, key } = pki().issue(&Request::client("nice-app").key(KeyKind::Rsa)).unwrap();
    for (what, arguments) in [
        ("PKCS#8", &["pkcs8", "-topk8", "-passout", "pass:hush"][..]),
        ("PKCS#1", &["rsa", "-traditional", "-aes128", "-passout", "pass:hush"]),
    ] {
        let encrypted = openssl(arguments, &key);
        assert!(encrypted.contains("ENCRYPTED"), "{what}");
        assert_eq!(refusal(&ca, &cert, &encrypted), detail, "{what}");
    }
}

#[test]
fn a_certificate_without_a_common_name_has_no_user() {
    let ClientCert { ca, cert, key } = pki().client("").unwrap();
    assert_eq!(
        refusal(&ca, &cert, &key),
        format!(
            "{CERT} holds a certificate without a common name, which would be the user at the broker: use the client \
             certificate"
        )
    );
}

#[test]
fn a_text_too_long_for_any_pem_is_not_read() {
    let ClientCert { ca, cert, key } = issued();
    let long = " ".repeat(1024 * 1024 + 1);
    assert_eq!(
        refusal(&long, &cert, &key),
        format!("{CA} has 1048577 bytes, more than certificates take: put only PEM there")
    );
    assert!(read(&format!("{ca}{}", " ".repeat(1024 * 1024 - ca.len())), &cert, &key).is_ok());
}

#[test]
fn a_certificate_is_used_within_its_time_alone() {
    let day = Duration::from_hours(24);
    let mut request = Request::client("nice-app");
    request.not_before = UNIX_EPOCH + 20_000 * day;
    request.not_after = UNIX_EPOCH + 20_030 * day;
    let ClientCert { ca, cert, key } = pki().issue(&request).unwrap();
    let credentials = read(&ca, &cert, &key).unwrap();
    let (first, last) = (at("2024-10-04T00:00:00Z"), at("2024-11-03T00:00:00Z"));
    assert_eq!((credentials.not_before, credentials.not_after), (first, last));

    let second = TimeDelta::seconds(1);
    for now in [first, first + second, last] {
        assert_eq!(credentials.check_validity(now, CERT), Ok(()));
    }
    let late = credentials.check_validity(last + second, CERT).unwrap_err();
    assert_eq!(late.reason(), Reason::CertificateExpired);
    assert_eq!(
        late.to_string(),
        format!("the client certificate of nice-app in {CERT} expired on 2024-11-03 00:00:00 UTC: put a new one there")
    );
    let early = credentials.check_validity(first - second, CERT).unwrap_err();
    assert_eq!(
        early.to_string(),
        format!(
            "the client certificate of nice-app in {CERT} is not valid before 2024-10-04 00:00:00 UTC: check the \
             clocks, or wait"
        )
    );
}

#[test]
fn an_expired_certificate_can_be_read_so_that_its_date_can_be_told() {
    let ClientCert { ca, cert, key } = pki().issue(&Request::client("nice-app").expired()).unwrap();
    assert!(read(&ca, &cert, &key).is_ok());
}

#[test]
fn debug_output_holds_no_key() {
    let ClientCert { ca, cert, key } = issued();
    let credentials = read(&ca, &cert, &key).unwrap();
    let material = material(ca.as_bytes(), cert.as_bytes(), key.as_bytes());
    let bytes = format!("{:?}", key.as_bytes());
    for output in [format!("{credentials:?}"), format!("{material:?}")] {
        assert!(output.len() < 400, "{output}");
        assert!(!output.contains(&bytes[1..40]), "{output}");
        assert!(key.lines().all(|line| !output.contains(line)), "{output}");
    }
    assert!(format!("{credentials:?}").contains("nice-app"));
}

#[test]
fn credentials_are_the_same_if_and_only_if_all_three_parts_are() {
    let of = |ca: &str, cert: &str, key: &str| fingerprint(&material(ca.as_bytes(), cert.as_bytes(), key.as_bytes()));
    assert_eq!(of("a", "b", "c"), of("a", "b", "c"));
    for other in [("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x"), ("ab", "", "c"), ("a", "bc", ""), ("", "ab", "c")]
    {
        assert_ne!(of("a", "b", "c"), of(other.0, other.1, other.2), "{other:?}");
    }
    // Where they were found is not part of it: the same Secret in two places is one identity.
    let mut elsewhere = material(b"a", b"b", b"c");
    elsewhere.cert.place = "another place".to_owned();
    assert_eq!(fingerprint(&elsewhere), of("a", "b", "c"));
}
