//! Good and broken certificates and keys, by short names: `{cert:expired}`, `{key|encrypted}`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::SystemTime;

use rig::pki::{DAY, KeyKind, Request};
use rig::{ClientCert, Pki};

use crate::certificates::recipe::pipeline;

/// Makes each certificate once.
pub struct Pems<'a> {
    pki: &'a Pki,
    issued: Mutex<HashMap<String, ClientCert>>,
}

impl<'a> Pems<'a> {
    pub fn new(pki: &'a Pki) -> Self {
        Self { pki, issued: Mutex::default() }
    }

    /// Expands `{PART}`, `{PART:OWNER}` and `{PART:OWNER|CHANGE}`. PART is `ca`, `cert` or `key`.
    pub fn fill(&self, template: &str) -> Vec<u8> {
        let mut filled = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            filled.extend(before.as_bytes());
            let known = ["ca", "cert", "key"]
                .into_iter()
                .find(|part| after.strip_prefix(*part).is_some_and(|more| more.starts_with([':', '|', '}'])));
            match (known, after.split_once('}')) {
                (Some(_), Some((name, after))) if !name.contains(char::is_whitespace) => {
                    filled.extend(self.part(name));
                    rest = after;
                }
                _ => {
                    filled.push(b'{');
                    rest = after;
                }
            }
        }
        filled.extend(rest.as_bytes());
        filled
    }

    fn part(&self, name: &str) -> Vec<u8> {
        let mut parts = name.split('|');
        let (part, owner) =
            parts.next().and_then(|part| part.split_once(':').or(Some((part, "publisher")))).expect("a part");
        let ClientCert { ca, cert, key } = self.certificate(owner);
        let pem = match part {
            "ca" => ca,
            "cert" => cert,
            _ => key,
        };
        parts.fold(pem.into_bytes(), |pem, change| changed(&pem, change))
    }

    fn certificate(&self, owner: &str) -> ClientCert {
        let mut issued = self.issued.lock().expect("no panic");
        issued.entry(owner.to_owned()).or_insert_with(|| self.issue(owner)).clone()
    }

    fn issue(&self, owner: &str) -> ClientCert {
        let publisher = Request::client("publisher");
        let request = match owner {
            "another" => publisher,
            "expired" => publisher.expired(),
            "future" => Request { not_before: SystemTime::now() + DAY, ..publisher },
            "nameless" => Request::client(""),
            "rsa" => publisher.key(KeyKind::Rsa),
            "pkcs1" => publisher.key(KeyKind::RsaPkcs1),
            "sec1" => publisher.key(KeyKind::EcSec1),
            "foreign" => return Pki::new("another-ca").and_then(|pki| pki.client("publisher")).expect("a certificate"),
            "rsa-1024" => return self_signed("rsa:1024"),
            "exponent-3" => return self_signed("rsa:2048 -pkeyopt rsa_keygen_pubexp:3"),
            "p-521" => return self_signed("ec -pkeyopt ec_paramgen_curve:P-521"),
            user => Request::client(user),
        };
        self.pki.issue(&request).expect("a certificate")
    }
}

/// Makes a certificate with a key that the rig's library does not support.
fn self_signed(key: &str) -> ClientCert {
    let request = format!("req -x509 -nodes -subj /CN=publisher -days 9 -keyout /dev/stdout -newkey {key}");
    let both = String::from_utf8(pipeline(&[&request], b"")).expect("PEM");
    let (key, cert) = both.split_at(both.find("-----BEGIN CERTIFICATE").expect("a certificate"));
    ClientCert { ca: cert.to_owned(), cert: cert.to_owned(), key: key.to_owned() }
}

/// Changes a PEM file as people and programs do.
fn changed(pem: &[u8], change: &str) -> Vec<u8> {
    let text = || String::from_utf8(pem.to_vec()).expect("PEM");
    let steps: &[&str] = match change {
        "half" => return pem[..pem.len() / 2].to_vec(),
        "one-line" => return text().replace('\n', " ").into_bytes(),
        "escaped" => return text().replace('\n', "\\n").into_bytes(),
        "json" => return serde_json::to_vec(&text()).expect("JSON"),
        "windows" | "bom" | "indented" | "utf-16" => &[change],
        "no-last-line-break" => &["trimmed"],
        "base64" => &["base64 -A"],
        "der-certificate" => &["x509 -outform DER"],
        "der-key" => &["pkey -outform DER"],
        "old-label" => &["label X509 CERTIFICATE"],
        "trusted" => &["x509 -trustout"],
        "pkcs7" => &["crl2pkcs7 -nocrl -certfile /dev/stdin"],
        "pkcs12" => &["pkcs12 -export -nokeys -passout pass:hush"],
        "no-public" => &["ec -no_public", "pkcs8 -topk8 -nocrypt"],
        "old-encrypted" => &["ec -aes128 -passout pass:hush"],
        "encrypted" => &["pkcs8 -topk8 -passout pass:hush"],
        "public" => &["pkey -pubout"],
        "request" => &["req -new -subj /CN=publisher -key /dev/stdin"],
        other => panic!("unknown change: {other}"),
    };
    pipeline(steps, pem)
}
