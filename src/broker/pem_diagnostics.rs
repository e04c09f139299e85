//! What stands where a certificate or a key should: told by its beginning, and never quoted.

use memchr::memmem::find;

/// What stands in PEM, by the label of its first line. Longer labels first, as others may be in them.
const LABELS: [(&str, &str); 4] = [
    ("CERTIFICATE REQUEST-----", "a certificate request"),
    ("BEGIN PUBLIC KEY-----", "a public key"),
    ("PRIVATE KEY-----", "a private key"),
    ("BEGIN CERTIFICATE-----", "a certificate"),
];

/// Says that `what` is not at `place`, and what is there instead. Nothing is copied: it may be a key.
pub(crate) fn lacks(place: &str, what: &str, bytes: &[u8]) -> String {
    if bytes.trim_ascii().is_empty() {
        return format!("{place} is empty");
    }
    match instead(bytes) {
        Some(found) => format!("{place} holds no {what}, but {found}"),
        None => format!("{place} holds no {what}"),
    }
}

fn instead(bytes: &[u8]) -> Option<&'static str> {
    let holds = |text: &str| find(bytes, text.as_bytes()).is_some();
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        Some("text after a byte order mark")
    } else if holds(" -----BEGIN") || holds("\t-----BEGIN") {
        Some("PEM that is indented")
    } else if let Some((_, found)) = LABELS.iter().find(|(label, _)| holds(label)) {
        Some(found)
    } else if bytes.trim_ascii().starts_with(b"LS0tLS1CRUdJTi") {
        Some("PEM that was encoded in base64 once more")
    } else if is_der(bytes) {
        Some("binary DER")
    } else {
        None
    }
}

/// A sequence, whose length follows in one byte or more.
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
    fn what_is_there_is_told_by_its_beginning() {
        for (bytes, found) in [
            (&b""[..], "it is empty"),
            (b" \n", "it is empty"),
            (b"hello", "it holds no key"),
            (b"\n  -----BEGIN RSA PRIVATE KEY-----\n", "it holds no key, but PEM that is indented"),
            (b"-----BEGIN CERTIFICATE REQUEST-----", "it holds no key, but a certificate request"),
            (b"-----BEGIN PUBLIC KEY-----", "it holds no key, but a public key"),
            (b"-----BEGIN EC PRIVATE KEY-----\n", "it holds no key, but a private key"),
            (b"a comment\n-----BEGIN CERTIFICATE-----\n", "it holds no key, but a certificate"),
            (b"LS0tLS1CRUdJTiBDRVJU", "it holds no key, but PEM that was encoded in base64 once more"),
            (b"\xef\xbb\xbf-----BEGIN CERTIFICATE-----", "it holds no key, but text after a byte order mark"),
            (b"\x30\x82\x01\x00", "it holds no key, but binary DER"),
            (b"\x30\x02ab", "it holds no key, but binary DER"),
            (b"0abc", "it holds no key"),
            (b"\xff\xfe-\0-\0", "it holds no key"),
        ] {
            assert_eq!(lacks("it", "key", bytes), found, "{bytes:?}");
        }
    }
}
