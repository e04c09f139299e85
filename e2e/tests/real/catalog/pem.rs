//! Good and broken certificates and keys, by short names: `{cert:expired}`, `{key|encrypted}`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::SystemTime;

use rig::pki::{DAY, KeyKind, Request};
use rig::{ClientCert, Pki};

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
            "rsa-1024" => return self_signed(&["-newkey", "rsa:1024"]),
            "exponent-3" => return self_signed(&["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"]),
            "p-521" => return self_signed(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]),
            user => Request::client(user),
        };
        self.pki.issue(&request).expect("a certificate")
    }
}

/// Makes a certificate with a key that the rig's library does not support.
fn self_signed(key: &[&str]) -> ClientCert {
    let arguments = ["req", "-x509", "-nodes", "-subj", "/CN=publisher", "-days", "9", "-keyout", "/dev/stdout"];
    let both = String::from_utf8(openssl(&[&arguments, key].concat(), b"")).expect("PEM");
    let (key, cert) = both.split_at(both.find("-----BEGIN CERTIFICATE").expect("a certificate"));
    ClientCert { ca: cert.to_owned(), cert: cert.to_owned(), key: key.to_owned() }
}

/// Changes a PEM file as people and programs do.
fn changed(pem: &[u8], change: &str) -> Vec<u8> {
    let text = || String::from_utf8(pem.to_vec()).expect("PEM");
    match change {
        "half" => pem[..pem.len() / 2].to_vec(),
        "windows" => text().replace('\n', "\r\n").into_bytes(),
        "bom" => [b"\xef\xbb\xbf", pem].concat(),
        "indented" => text().lines().flat_map(|line| ["  ", line, "\n"]).collect::<String>().into_bytes(),
        "one-line" => text().replace('\n', " ").into_bytes(),
        "escaped" => text().replace('\n', "\\n").into_bytes(),
        "no-last-line-break" => text().trim_end().as_bytes().to_vec(),
        "base64" => openssl(&["base64", "-A"], pem),
        "json" => serde_json::to_vec(&text()).expect("JSON"),
        "der-certificate" => openssl(&["x509", "-outform", "DER"], pem),
        "der-key" => openssl(&["pkey", "-outform", "DER"], pem),
        "old-label" => text().replace(" CERTIFICATE-", " X509 CERTIFICATE-").into_bytes(),
        "utf-16" => text().encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "trusted" => openssl(&["x509", "-trustout"], pem),
        "pkcs7" => openssl(&["crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin"], pem),
        "pkcs12" => openssl(&["pkcs12", "-export", "-nokeys", "-passout", "pass:hush"], pem),
        "no-public" => openssl(&["pkcs8", "-topk8", "-nocrypt"], &openssl(&["ec", "-no_public"], pem)),
        "old-encrypted" => openssl(&["ec", "-aes128", "-passout", "pass:hush"], pem),
        "encrypted" => openssl(&["pkcs8", "-topk8", "-passout", "pass:hush"], pem),
        "public" => openssl(&["pkey", "-pubout"], pem),
        "request" => openssl(&["req", "-new", "-subj", "/CN=publisher", "-key", "/dev/stdin"], pem),
        other => panic!("unknown change: {other}"),
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    rig::pki::openssl(arguments, input).unwrap_or_else(|error| panic!("{error:#}"))
}
