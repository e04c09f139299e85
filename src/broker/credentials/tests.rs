//! Tests that valid PEM is parsed, and that errors name the place and the fix but quote nothing.

use std::time::{Duration, UNIX_EPOCH};

use crate::broker::credentials::{Credentials, CredentialsError, text_hash};
use chrono::{TimeDelta, Utc};
use fedora_message::message::secret::{PemFiles, PemText};
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

fn material<'a>(ca: &'a [u8], cert: &'a [u8], key: &'a [u8]) -> PemFiles<'a> {
    let part = |place: &str, bytes| PemText { place: place.to_owned(), bytes };
    PemFiles { ca: part(CA, ca), cert: part(CERT, cert), key: part(KEY, key) }
}

fn read_bytes(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Credentials, CredentialsError> {
    Credentials::from_pem(&material(ca, cert, key))
}

fn read(ca: &str, cert: &str, key: &str) -> Result<Credentials, CredentialsError> {
    read_bytes(ca.as_bytes(), cert.as_bytes(), key.as_bytes())
}

/// Returns the error for this PEM, and checks that it quotes no line of it.
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
    String::from_utf8(rig::pki::openssl(arguments, input.as_bytes()).unwrap()).unwrap()
}

#[test]
fn reads_each_kind_of_key() {
    let pki = pki();
    for kind in [KeyKind::Ec, KeyKind::EcSec1, KeyKind::Rsa, KeyKind::RsaPkcs1] {
        let ClientCert { ca, cert, key } = pki.issue(&Request::client("nice-app").key(kind)).unwrap();
        let credentials = read(&ca, &cert, &key).unwrap();
        assert_eq!(credentials.user, "nice-app", "{kind:?}");
    }
}

#[test]
fn reads_pem_with_other_line_ends_and_comments() {
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
fn reads_every_certificate_of_the_ca() {
    let (ours, other) = (pki(), Pki::new("another CA").unwrap());
    let ClientCert { cert, key, .. } = ours.client("nice-app").unwrap();
    let one = read(ours.ca(), &cert, &key).unwrap();
    let two = read(&format!("{}{}", other.ca(), ours.ca()), &cert, &key).unwrap();
    assert_ne!(one.fingerprint, two.fingerprint);
}

/// Comments, line breaks, and the order of the CAs make no other connection. Another certificate, key
/// or CA does.
#[test]
fn fingerprint_covers_contents() {
    let (ours, other) = (pki(), Pki::new("another CA").unwrap());
    let (ClientCert { cert, key, .. }, renewed) = (ours.client("nice-app").unwrap(), ours.client("nice-app").unwrap());
    let of = |ca: &str, cert: &str, key: &str| read(ca, cert, key).unwrap().fingerprint;
    let both = format!("{}{}", ours.ca(), other.ca());
    let one = of(&both, &cert, &key);
    for same in [
        format!("# a comment\n{both}"),
        both.replace('\n', "\r\n"),
        format!("{}{}", other.ca(), ours.ca()),
        format!("{both}{}", ours.ca()),
    ] {
        assert_eq!(of(&same, &format!("\n{cert}\n"), &format!("text\n{key}")), one, "{same}");
    }
    assert_ne!(of(ours.ca(), &cert, &key), one);
    assert_ne!(of(&both, &renewed.cert, &renewed.key), one);
    assert_ne!(of(&both, &format!("{cert}{}", ours.ca()), &key), one);
}

#[test]
fn takes_user_from_first_certificate() {
    let ClientCert { ca, cert, key } = issued();
    let credentials = read(&ca, &format!("{cert}{ca}"), &key).unwrap();
    assert_eq!(credentials.user, "nice-app");
}

#[test]
fn shows_a_common_name_on_one_line() {
    let ClientCert { ca, cert, key } = pki().client("nice\n\u{1b}[31mapp\u{202e}").unwrap();
    assert_eq!(read(&ca, &cert, &key).unwrap().user, "nice  [31mapp ");
}

#[test]
fn names_the_place_of_wrong_pem() {
    let ClientCert { ca, cert, key } = issued();
    let no_certificate =
        |place: &str, found: &str| format!("{place} {found}: use a PEM certificate (-----BEGIN CERTIFICATE-----)");
    let not_pem = |place: &str| {
        format!("{place} is not valid PEM: use the unaltered text from -----BEGIN to -----END, with its line breaks")
    };
    let no_key =
        |found: &str| format!("{KEY} {found}: use the certificate's private key in PEM (PKCS#8, PKCS#1 or SEC1)");
    let (other, key_instead) = ("contains no certificate", "contains no certificate, but a private key");
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
            no_key("contains no usable private key, but a certificate"),
        ),
        ("a key that is text", [&ca, &cert, "open sesame"], no_key("contains no usable private key")),
        ("a key that is cut", [&ca, &cert, &cut(&key)], not_pem(KEY)),
        ("a key that is garbled", [&ca, &cert, &garbled(&key)], not_pem(KEY)),
    ] {
        assert_eq!(refusal(ca, cert, key), expected, "{what}");
    }
}

#[test]
fn names_the_place_of_malformed_pem_content() {
    let ClientCert { ca, cert, key } = issued();
    let wrapped = |label: &str| format!("-----BEGIN {label}-----\naGVsbG8gd29ybGQ=\n-----END {label}-----\n");
    let certificate = wrapped("CERTIFICATE");
    assert_eq!(
        refusal(&certificate, &cert, &key),
        format!("{CA} contains no valid CA certificate: use the CA of the broker")
    );
    assert_eq!(
        refusal(&ca, &certificate, &key),
        format!("{CERT} contains a malformed certificate: use the client certificate")
    );
    assert_eq!(
        refusal(&ca, &cert, &wrapped("PRIVATE KEY")),
        format!(
            "{KEY} contains a private key that is malformed, or that the certificate in {CERT} can't have: use the \
             certificate's own key, as openssl pkey -in FILE -out NEW writes it"
        )
    );
}

#[test]
fn refuses_binary_data() {
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
fn refuses_key_of_another_certificate() {
    let pki = pki();
    let (ours, other) = (pki.client("nice-app").unwrap(), pki.client("nice-app").unwrap());
    assert_eq!(
        refusal(&ours.ca, &ours.cert, &other.key),
        format!(
            "{KEY} is not the key of the first certificate in {CERT}, which belongs to nice-app: use the client certificate with its own key"
        )
    );
    let rsa = pki.issue(&Request::client("nice-app").key(KeyKind::Rsa)).unwrap();
    assert_eq!(
        refusal(&ours.ca, &ours.cert, &rsa.key),
        format!(
            "{KEY} is not the key of the first certificate in {CERT}, which belongs to nice-app: use the client certificate with its own key"
        )
    );
}

#[test]
fn refuses_encrypted_key() {
    let detail = format!(
        "{KEY} contains an encrypted private key: store it without a passphrase, as openssl pkey -in FILE -out NEW \
         writes it"
    );
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

/// The broker may take the user from another name.
#[test]
fn takes_another_name_without_common_name() {
    let pki = pki();
    let user = |certificate: ClientCert| read(&certificate.ca, &certificate.cert, &certificate.key).unwrap().user;
    assert_eq!(user(pki.client("").unwrap()), "a subject without a name");
    assert_eq!(user(pki.client(" ").unwrap()), "a subject without a name");
    let mut named = Request::server(&["app.example.org"]);
    named.cn = String::new();
    assert_eq!(user(pki.issue(&named).unwrap()), "app.example.org");
    let key = openssl(&["genpkey", "-algorithm", "ED25519"], "");
    let subject = "/O=Fedora/OU=apps";
    let cert = openssl(&["req", "-x509", "-key", "/dev/stdin", "-subj", subject], &key);
    assert_eq!(user(ClientCert { ca: pki.ca().to_owned(), cert, key }), "O=Fedora, OU=apps");
}

/// An encrypted key or the word alone does not count beside a key that is open.
#[test]
fn ignores_encrypted_text_beside_a_key() {
    let ClientCert { ca, cert, key } = pki().issue(&Request::client("nice-app").key(KeyKind::Rsa)).unwrap();
    let pkcs8 = openssl(&["pkcs8", "-topk8", "-passout", "pass:hush"], &key);
    let old = openssl(&["rsa", "-traditional", "-aes128", "-passout", "pass:hush"], &key);
    for text in ["# UNENCRYPTED\n", "Bag Attributes\n    friendlyName: ENCRYPTED\n", &pkcs8, &old] {
        for file in [format!("{text}{key}"), format!("{key}{text}")] {
            assert!(read(&ca, &cert, &file).is_ok(), "{text}");
        }
    }
    assert!(refusal(&ca, &cert, &format!("# ENCRYPTED\n{cert}")).contains("no usable private key, but a certificate"));
}

/// All of them are wiped.
#[test]
fn uses_the_first_of_several_keys() {
    let (ClientCert { ca, cert, key }, other) = (issued(), issued());
    assert!(read(&ca, &cert, &format!("{key}{}", other.key)).is_ok());
    assert!(refusal(&ca, &cert, &format!("{}{key}", other.key)).contains("is not the key of the first certificate"));
}

#[test]
fn refuses_oversized_pem() {
    let ClientCert { ca, cert, key } = issued();
    let long = " ".repeat(1024 * 1024 + 1);
    assert_eq!(
        refusal(&long, &cert, &key),
        format!("{CA} has 1048577 bytes, but must be PEM of at most 1048576 bytes")
    );
    assert!(read(&format!("{ca}{}", " ".repeat(1024 * 1024 - ca.len())), &cert, &key).is_ok());
}

#[test]
fn checks_validity_of_certificate() {
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
        format!("the client certificate of nice-app in {CERT} expired on 2024-11-03 00:00:00 UTC: renew it")
    );
    let early = credentials.check_validity(first - second, CERT).unwrap_err();
    assert_eq!((late.not_before(), early.not_before()), (None, Some(first)));
    assert_eq!(
        early.to_string(),
        format!(
            "the client certificate of nice-app in {CERT} is not valid before 2024-10-04 00:00:00 UTC: check the \
             clocks, or wait"
        )
    );
}

/// One CA that lasts is enough, because the broker may use that.
#[test]
fn warns_of_expiry() {
    let ClientCert { ca, cert, key } = issued();
    let key_file = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=short"];
    let short = openssl(&[&key_file[..], &["-days", "10"]].concat(), "");
    let warning = |ca: &str, now| {
        let material = material(ca.as_bytes(), cert.as_bytes(), key.as_bytes());
        Credentials::from_pem(&material).unwrap().warning(now, &material)
    };
    let now = Utc::now();
    assert_eq!(warning(&ca, now), None);
    assert_eq!(warning(&format!("{short}{ca}"), now), None);
    let text = warning(&short, now).unwrap();
    assert!(text.starts_with(&format!("The broker's CA in {CA} expires on 20")), "{text}");
    assert!(text.ends_with(", in 9 days: replace it with the broker's new CA"), "{text}");
    // After ten years, less a day, both expire.
    let text = warning(&ca, now + TimeDelta::days(3640)).unwrap();
    assert!(text.starts_with(&format!("Its client certificate, of nice-app in {CERT}, expires on 20")), "{text}");
    assert!(text.contains(": renew it. The broker's CA in "), "{text}");
}

#[test]
fn reads_expired_certificate() {
    let ClientCert { ca, cert, key } = pki().issue(&Request::client("nice-app").expired()).unwrap();
    assert!(read(&ca, &cert, &key).is_ok());
}

#[test]
fn debug_output_contains_no_key() {
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
fn hash_covers_each_text() {
    let of = |ca: &str, cert: &str, key: &str| text_hash(&material(ca.as_bytes(), cert.as_bytes(), key.as_bytes()));
    assert_eq!(of("a", "b", "c"), of("a", "b", "c"));
    for other in [("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x"), ("ab", "", "c"), ("a", "bc", ""), ("", "ab", "c")]
    {
        assert_ne!(of("a", "b", "c"), of(other.0, other.1, other.2), "{other:?}");
    }
    // The place is not part of it.
    let mut elsewhere = material(b"a", b"b", b"c");
    elsewhere.cert.place = "another place".to_owned();
    assert_eq!(text_hash(&elsewhere), of("a", "b", "c"));
}
