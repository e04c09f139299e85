//! Reads certificates and private keys from PEM. Errors quote none of the bytes. Keys are wiped from
//! memory after they are parsed.

use std::borrow::Cow;
use std::io::Cursor;

use memchr::memmem;
use rustls_pemfile::Item;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::credentials::CredentialsError;
use super::pem_diagnostics::{Wanted, missing};
use fedora_message::message::secret::PemText;

/// The maximum size of a PEM value in bytes. Real CA bundles have a few hundred thousand.
const MAX_PEM: usize = 1024 * 1024;

/// Windows editors write this before the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Old programs write this label instead of `CERTIFICATE`.
const OLD_LABEL: &[u8] = b" X509 CERTIFICATE-----";

/// The header of an encrypted key in the format that was before PKCS#8.
const ENCRYPTED_HEADER: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// The label of an encrypted key in PKCS#8.
const ENCRYPTED_LABEL: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// A private key, which is wiped from memory when it is dropped.
pub(super) type PrivateKey = Zeroizing<PrivateKeyDer<'static>>;

/// Reads all certificates, at least one. Ignores PEM blocks of other kinds.
pub(super) fn certificates(pem: &PemText<'_>) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let certificate = |part| match part {
        PemPart::Certificate(certificate) => Some(certificate),
        PemPart::Key(_) => None,
    };
    let text = with_new_labels(text(pem)?);
    let parts: Vec<_> = parts(&text).collect::<Result<_, _>>().map_err(|_| malformed(pem))?;
    let certificates: Vec<_> = parts.into_iter().filter_map(certificate).collect();
    if certificates.is_empty() {
        return Err(CredentialsError::Invalid(missing(pem, Wanted::Certificate)));
    }
    Ok(certificates)
}

/// Reads the first private key that is not encrypted. Ignores everything else.
pub(super) fn private_key(pem: &PemText<'_>) -> Result<PrivateKey, CredentialsError> {
    let mut malformed_parts = false;
    for part in parts(text(pem)?) {
        match part {
            Ok(PemPart::Key(key)) => return Ok(key),
            Ok(PemPart::Certificate(_)) => {}
            Err(_) => malformed_parts = true,
        }
    }
    if malformed_parts {
        return Err(malformed(pem));
    }
    if memmem::find(pem.bytes, ENCRYPTED_LABEL).is_some() {
        return Err(encrypted(pem));
    }
    Err(CredentialsError::Invalid(missing(pem, Wanted::PrivateKey)))
}

/// A certificate or a key of a PEM text. A key is wiped from memory when it is dropped, used or not.
enum PemPart {
    Certificate(CertificateDer<'static>),
    Key(PrivateKey),
}

impl PemPart {
    fn new(item: Item) -> Option<Self> {
        let key = match item {
            Item::X509Certificate(certificate) => return Some(Self::Certificate(certificate)),
            Item::Pkcs1Key(key) => PrivateKeyDer::Pkcs1(key),
            Item::Pkcs8Key(key) => PrivateKeyDer::Pkcs8(key),
            Item::Sec1Key(key) => PrivateKeyDer::Sec1(key),
            _ => return None,
        };
        Some(Self::Key(Zeroizing::new(key)))
    }
}

/// Returns the text without a byte order mark, if it is not too long.
fn text<'a>(pem: &PemText<'a>) -> Result<&'a [u8], CredentialsError> {
    if pem.bytes.len() > MAX_PEM {
        let (place, length) = (&pem.place, pem.bytes.len());
        let detail = format!("{place} has {length} bytes, but must be PEM of at most {MAX_PEM} bytes");
        return Err(CredentialsError::Invalid(detail));
    }
    Ok(pem.bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(pem.bytes))
}

/// Replaces the old label of certificates.
fn with_new_labels(text: &[u8]) -> Cow<'_, [u8]> {
    if memmem::find(text, OLD_LABEL).is_none() {
        return Cow::Borrowed(text);
    }
    let mut replaced = Vec::with_capacity(text.len());
    let mut end = 0;
    for start in memmem::find_iter(text, OLD_LABEL) {
        replaced.extend_from_slice(&text[end..start]);
        replaced.extend_from_slice(b" CERTIFICATE-----");
        end = start + OLD_LABEL.len();
    }
    replaced.extend_from_slice(&text[end..]);
    Cow::Owned(replaced)
}

/// Reads certificates and keys. Ignores PEM blocks of other kinds.
fn parts(text: &[u8]) -> impl Iterator<Item = std::io::Result<PemPart>> {
    let mut text = Cursor::new(text);
    let items = std::iter::from_fn(move || rustls_pemfile::read_one(&mut text).transpose());
    items.filter_map(|item| item.map(PemPart::new).transpose())
}

/// Returns the error of PEM whose blocks can't be read.
fn malformed(pem: &PemText<'_>) -> CredentialsError {
    // Its headers are not base64.
    if memmem::find(pem.bytes, ENCRYPTED_HEADER).is_some() {
        return encrypted(pem);
    }
    CredentialsError::Invalid(format!(
        "{} is not valid PEM: use the unaltered text from -----BEGIN to -----END, with its line breaks",
        pem.place
    ))
}

fn encrypted(pem: &PemText<'_>) -> CredentialsError {
    CredentialsError::Invalid(format!(
        "{} contains an encrypted private key: store it without a passphrase, as openssl pkey -in FILE -out NEW writes it",
        pem.place
    ))
}
