//! Detects what a PEM value contains instead of a certificate or a key. Never quotes its bytes.

use memchr::memmem::find;

/// Kinds of PEM by the label of the first line. Longer labels come first because they contain
/// shorter ones.
const LABELS: [(&str, &str); 4] = [
    ("CERTIFICATE REQUEST-----", "a certificate request"),
    ("BEGIN PUBLIC KEY-----", "a public key"),
    ("PRIVATE KEY-----", "a private key"),
    ("BEGIN CERTIFICATE-----", "a certificate"),
];

/// Reports that `place` does not contain `what`, and what it contains instead.
///
/// The report quotes none of the bytes, because they may be a key.
pub(crate) fn missing(place: &str, what: &str, bytes: &[u8]) -> String {
    if bytes.trim_ascii().is_empty() {
        return format!("{place} is empty");
    }
    match detect(bytes) {
        Some(found) => format!("{place} contains no {what}, but {found}"),
        None => format!("{place} contains no {what}"),
    }
}

fn detect(bytes: &[u8]) -> Option<&'static str> {
    let holds = |text: &str| find(bytes, text.as_bytes()).is_some();
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        Some("text after a byte order mark")
    } else if holds(" -----BEGIN") || holds("\t-----BEGIN") {
        Some("indented PEM")
    } else if let Some((_, found)) = LABELS.iter().find(|(label, _)| holds(label)) {
        Some(found)
    } else if bytes.trim_ascii().starts_with(b"LS0tLS1CRUdJTi") {
        Some("PEM that was base64-encoded twice")
    } else if is_der(bytes) {
        Some("binary DER")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_wrong_content() {
        for (bytes, found) in [
            (&b""[..], "it is empty"),
            (b" \n", "it is empty"),
            (b"hello", "it contains no key"),
            (b"\n  -----BEGIN RSA PRIVATE KEY-----\n", "it contains no key, but indented PEM"),
            (b"-----BEGIN CERTIFICATE REQUEST-----", "it contains no key, but a certificate request"),
            (b"-----BEGIN PUBLIC KEY-----", "it contains no key, but a public key"),
            (b"-----BEGIN EC PRIVATE KEY-----\n", "it contains no key, but a private key"),
            (b"a comment\n-----BEGIN CERTIFICATE-----\n", "it contains no key, but a certificate"),
            (b"LS0tLS1CRUdJTiBDRVJU", "it contains no key, but PEM that was base64-encoded twice"),
            (b"\xef\xbb\xbf-----BEGIN CERTIFICATE-----", "it contains no key, but text after a byte order mark"),
            (b"\x30\x82\x01\x00", "it contains no key, but binary DER"),
            (b"\x30\x02ab", "it contains no key, but binary DER"),
            (b"0abc", "it contains no key"),
            (b"\xff\xfe-\0-\0", "it contains no key"),
        ] {
            assert_eq!(missing("it", "key", bytes), found, "{bytes:?}");
        }
    }
}
