//! Accepts and refuses certificates of brokers at several times. `e2e/tests/real/certificates.rs` compares more of them
//! with the library.

use std::time::{Duration, SystemTime};

use rig::Pki;
use rig::pki::{DAY, Request};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::*;

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Verifies a broker's certificate at this time.
fn verify(cas: &[&str], certificate: &str, at: SystemTime) -> Result<(), String> {
    let cas: Vec<_> = cas.iter().map(|ca| der(ca)).collect();
    let verifier = BrokerVerifier::new(&cas, default_provider().signature_verification_algorithms).unwrap();
    let now = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let host = ServerName::try_from("localhost").unwrap();
    let result = verifier.verify_server_cert(&der(certificate), &[], &host, &[], now);
    result.map(drop).map_err(|error| find_error(&error).map_or_else(|| error.to_string(), ToString::to_string))
}

/// The CA is valid from 60 days ago, for some ten years.
#[test]
fn checks_validity_of_ca() {
    let (pki, other, now) = (Pki::new("a CA").unwrap(), Pki::new("another CA").unwrap(), SystemTime::now());
    let mut request = Request::server(&["localhost"]);
    (request.not_before, request.not_after) = (now - 100 * DAY, now + 5000 * DAY);
    let certificate = pki.issue(&request).unwrap().cert;
    for (at, expected) in [
        (now, ""),
        (now - 90 * DAY, "the CA that issued the broker's certificate is not valid before "),
        (now + 4000 * DAY, "the CA that issued the broker's certificate expired on "),
        (now - 110 * DAY, "the broker's certificate is not valid before "),
        (now + 6000 * DAY, "invalid peer certificate: certificate expired"),
    ] {
        for cas in [&[pki.ca()][..], &[other.ca(), pki.ca()]] {
            match verify(cas, &certificate, at) {
                Ok(()) => assert_eq!(expected, ""),
                Err(text) => assert!(!expected.is_empty() && text.starts_with(expected), "{text}"),
            }
        }
        assert!(verify(&[other.ca()], &certificate, at).is_err(), "{expected}");
    }
}

/// A renewed CA with the same key takes the place of the old one.
#[test]
fn finds_the_valid_ca() {
    let (pki, now) = (Pki::new("a CA").unwrap(), SystemTime::now());
    let key = pki.key();
    let renewed = rig::pki::openssl(
        &["req", "-x509", "-key", "/dev/stdin", "-subj", "/CN=a CA", "-days", "9999"],
        key.as_bytes(),
    );
    let renewed = String::from_utf8(renewed.unwrap()).unwrap();
    let mut request = Request::server(&["localhost"]);
    request.not_after = now + 9000 * DAY;
    let certificate = pki.issue(&request).unwrap().cert;
    let later = now + 4000 * DAY + Duration::from_secs(1);
    assert!(verify(&[pki.ca()], &certificate, later).is_err());
    assert_eq!(verify(&[pki.ca(), &renewed], &certificate, later), Ok(()));
}
