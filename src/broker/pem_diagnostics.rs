//! Detects what a PEM value contains instead of a certificate or a key. Never quotes its bytes.

use memchr::memmem::find;

use fedora_message::message::secret::PemText;

/// The contents that were searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Certificate,
    PrivateKey,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PrivateKey => "usable private key",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Certificate => "use a PEM certificate (-----BEGIN CERTIFICATE-----)",
            Self::PrivateKey => "use the certificate's private key in PEM (PKCS#8, PKCS#1 or SEC1)",
        }
    }
}

/// The contents of a text.
#[derive(Clone, Copy)]
struct Found {
    name: &'static str,
    /// How it is converted to a certificate.
    to_certificate: Option<&'static str>,
    /// How it is converted to a private key.
    to_key: Option<&'static str>,
}

impl Found {
    const fn new(name: &'static str) -> Self {
        Self { name, to_certificate: None, to_key: None }
    }

    const fn to_certificate(self, command: &'static str) -> Self {
        Self { to_certificate: Some(command), ..self }
    }

    const fn to_key(self, command: &'static str) -> Self {
        Self { to_key: Some(command), ..self }
    }

    fn advice(&self, wanted: Wanted) -> String {
        let command = match wanted {
            Wanted::Certificate => self.to_certificate,
            Wanted::PrivateKey => self.to_key,
        };
        command.map_or_else(|| wanted.advice().to_owned(), |command| format!("convert it with {command}"))
    }
}

/// Kinds of PEM by the label of the first line. Longer labels come first because they contain
/// shorter ones.
const LABELS: [(&str, Found); 14] = [
    ("CERTIFICATE REQUEST-----", Found::new("a certificate request")),
    ("BEGIN PUBLIC KEY-----", Found::new("a public key")),
    (
        "BEGIN OPENSSH PRIVATE KEY-----",
        Found::new("a private key in OpenSSH's format").to_key("ssh-keygen -p -N '' -m PKCS8 -f FILE"),
    ),
    ("BEGIN DSA PRIVATE KEY-----", Found::new("a DSA key, which TLS no longer uses")),
    ("PRIVATE KEY-----", Found::new("a private key")),
    ("BEGIN CERTIFICATE-----", Found::new("a certificate")),
    ("BEGIN X509 CERTIFICATE-----", Found::new("a certificate")),
    (
        "BEGIN TRUSTED CERTIFICATE-----",
        Found::new("a certificate in OpenSSL's trusted format").to_certificate("openssl x509 -in FILE -out NEW"),
    ),
    ("BEGIN PKCS7-----", Found::new("a PKCS #7 file").to_certificate("openssl pkcs7 -print_certs -in FILE -out NEW")),
    (
        "BEGIN PKCS #7 SIGNED DATA-----",
        Found::new("a PKCS #7 file").to_certificate("openssl pkcs7 -print_certs -in FILE -out NEW"),
    ),
    ("BEGIN CMS-----", Found::new("a CMS file")),
    ("BEGIN X509 CRL-----", Found::new("a certificate revocation list")),
    ("BEGIN EC PARAMETERS-----", Found::new("only the name of a curve")),
    ("BEGIN PGP ", Found::new("PGP data")),
];

const PKCS12: Found = Found::new("a PKCS #12 file (.p12 or .pfx)")
    .to_certificate("openssl pkcs12 -nokeys -in FILE -out NEW")
    .to_key("openssl pkcs12 -nocerts -nodes -in FILE -out NEW");

const DER: Found = Found::new("binary DER")
    .to_certificate("openssl x509 -inform DER -in FILE -out NEW")
    .to_key("openssl pkey -inform DER -in FILE -out NEW");

const UTF_16: Found = Found::new("text in UTF-16")
    .to_certificate("iconv -f UTF-16 -t UTF-8 FILE")
    .to_key("iconv -f UTF-16 -t UTF-8 FILE");

/// Reports that the text does not contain what is wanted, what it contains instead, and what to do.
///
/// The report quotes none of the bytes, because they may be a key.
pub(super) fn missing(PemText { place, bytes }: &PemText<'_>, wanted: Wanted) -> String {
    if bytes.trim_ascii().is_empty() {
        return format!("{place} is empty: {}", wanted.advice());
    }
    let name = wanted.name();
    match detect(bytes) {
        Some(found) => format!("{place} contains no {name}, but {}: {}", found.name, found.advice(wanted)),
        None => format!("{place} contains no {name}: {}", wanted.advice()),
    }
}

fn detect(bytes: &[u8]) -> Option<Found> {
    let holds = |text: &str| find(bytes, text.as_bytes()).is_some();
    if holds("B\0E\0G\0I\0N") || holds("\0B\0E\0G\0I\0N") {
        Some(UTF_16)
    } else if holds(" -----BEGIN") || holds("\t-----BEGIN") {
        Some(Found::new("indented PEM"))
    } else if let Some((_, found)) = LABELS.iter().find(|(label, _)| holds(label)) {
        Some(*found)
    } else if bytes.trim_ascii().starts_with(b"LS0tLS1CRUdJTi") {
        Some(Found::new("PEM that was base64-encoded twice"))
    } else if is_pkcs12(bytes) {
        Some(PKCS12)
    } else if is_der(bytes) {
        Some(DER)
    } else {
        None
    }
}

/// Returns true if the bytes start like a DER sequence: a tag, and then a length that fits.
fn is_der(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x81 | 0x82, ..] => true,
        [0x30, length, rest @ ..] => rest.len() == usize::from(*length),
        _ => false,
    }
}

/// Returns true if the bytes start like PKCS #12: a sequence that begins with the version 3.
fn is_pkcs12(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x80, 2, 1, 3, ..] | [0x30, 0x81, _, 2, 1, 3, ..] | [0x30, 0x82, _, _, 2, 1, 3, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bytes: &[u8], wanted: Wanted) -> String {
        missing(&PemText { place: "it".to_owned(), bytes }, wanted)
    }

    #[test]
    fn detects_wrong_content() {
        for (bytes, found) in [
            (&b""[..], "it is empty"),
            (b" \n", "it is empty"),
            (b"hello", "it contains no usable private key"),
            (b"\n  -----BEGIN RSA PRIVATE KEY-----\n", "but indented PEM"),
            (b"-----BEGIN CERTIFICATE REQUEST-----", "but a certificate request"),
            (b"-----BEGIN PUBLIC KEY-----", "but a public key"),
            (b"-----BEGIN EC PRIVATE KEY-----\n", "but a private key"),
            (b"a comment\n-----BEGIN CERTIFICATE-----\n", "but a certificate"),
            (b"-----BEGIN TRUSTED CERTIFICATE-----\n", "but a certificate in OpenSSL's trusted format"),
            (b"-----BEGIN X509 CRL-----\n", "but a certificate revocation list"),
            (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "but PGP data"),
            (b"-----BEGIN EC PARAMETERS-----\n", "but only the name of a curve"),
            (b"-----BEGIN DSA PRIVATE KEY-----\n", "but a DSA key, which TLS no longer uses"),
            (b"LS0tLS1CRUdJTiBDRVJU", "but PEM that was base64-encoded twice"),
            (b"0abc", "it contains no usable private key"),
            (b"\xff\xfe-\0-\0", "it contains no usable private key"),
        ] {
            let expected = if found.starts_with("but") {
                format!("it contains no usable private key, {found}")
            } else {
                found.to_owned()
            };
            let advice = Wanted::PrivateKey.advice();
            assert_eq!(report(bytes, Wanted::PrivateKey), format!("{expected}: {advice}"), "{bytes:?}");
        }
    }

    /// A command is named only if it makes what is wanted.
    #[test]
    fn names_the_command_that_converts() {
        let openssh = b"-----BEGIN OPENSSH PRIVATE KEY-----";
        let to_key = "but a private key in OpenSSH's format: convert it with ssh-keygen -p -N '' -m PKCS8 -f FILE";
        assert!(report(openssh, Wanted::PrivateKey).ends_with(to_key));
        assert!(report(openssh, Wanted::Certificate).ends_with(Wanted::Certificate.advice()));
        for (bytes, command) in [
            (
                &b"-----BEGIN PKCS7-----"[..],
                "a PKCS #7 file: convert it with openssl pkcs7 -print_certs -in FILE -out NEW",
            ),
            (b"-----BEGIN TRUSTED CERTIFICATE-----", "trusted format: convert it with openssl x509 -in FILE -out NEW"),
            (b"\x30\x82\x01\x00\x30", "binary DER: convert it with openssl x509 -inform DER -in FILE -out NEW"),
            (b"\x30\x02ab", "binary DER: convert it with openssl x509 -inform DER -in FILE -out NEW"),
            (
                b"\x30\x82\x01\x00\x02\x01\x03",
                "(.p12 or .pfx): convert it with openssl pkcs12 -nokeys -in FILE -out NEW",
            ),
            (b"\xff\xfe-\0B\0E\0G\0I\0N\0", "text in UTF-16: convert it with iconv -f UTF-16 -t UTF-8 FILE"),
            (b"\xfe\xff\0-\0B\0E\0G\0I\0N", "text in UTF-16: convert it with iconv -f UTF-16 -t UTF-8 FILE"),
        ] {
            let text = report(bytes, Wanted::Certificate);
            assert!(text.ends_with(command), "{text}");
        }
    }
}
