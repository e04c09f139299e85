//! Checks issued certificates with OpenSSL.

use std::process::Command;

use rig::{
    Guard, Pki,
    pki::{KeyKind, Request},
};

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn each_kind_of_key_matches_its_certificate() {
    let guard = Guard::new("pki-test").unwrap();
    let pki = Pki::new("ca").unwrap();
    for (kind, header) in [
        (KeyKind::Ec, "-----BEGIN PRIVATE KEY-----"),
        (KeyKind::EcSec1, "-----BEGIN EC PRIVATE KEY-----"),
        (KeyKind::Rsa, "-----BEGIN PRIVATE KEY-----"),
        (KeyKind::RsaPkcs1, "-----BEGIN RSA PRIVATE KEY-----"),
    ] {
        let issued = pki.issue(&Request::client("nice-app").key(kind)).unwrap();
        assert!(issued.key.starts_with(header), "{kind:?}");
        let files = issued.write(guard.scratch(), "client").unwrap();
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let (ca, cert, key) = (path(&files.ca), path(&files.cert), path(&files.key));
        let of_key = openssl(&["pkey", "-in", &key, "-pubout"]);
        let of_cert = openssl(&["x509", "-in", &cert, "-noout", "-pubkey"]);
        assert_eq!(of_key, of_cert, "{kind:?}");
        let verified = openssl(&["verify", "-CAfile", &ca, "-purpose", "sslclient", &cert]);
        assert!(verified.ends_with("OK\n"), "{verified}");
        // The default form differs between versions of openssl.
        let subject = openssl(&["x509", "-in", &cert, "-noout", "-subject", "-nameopt", "RFC2253"]);
        assert_eq!(subject.trim(), "subject=CN=nice-app");
    }
}
