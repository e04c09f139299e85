//! Parses PEM into [`Credentials`]: a TLS configuration that trusts only the given CA, the user at
//! the broker, and the validity.
//!
//! This needs no connection. Errors quote none of the bytes. Keys are wiped from memory after they
//! are parsed.

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ring::digest::{Context, SHA256};
use rustls_pemfile::Item;
use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring::default_provider};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::pem_diagnostics::missing;
use fedora_message::message::secret::{PemFiles, PemText};
use fedora_message::policy::outcome::{Failure, Reason};
use fedora_message::text::printable;

/// The maximum size of a PEM value in bytes. Real CA bundles have a few hundred thousand.
const MAX_PEM: usize = 1024 * 1024;

/// The maximum length of a printed common name in characters. X.509 allows 64.
const MAX_USER: usize = 255;

/// The operator warns about a certificate this long before it expires, which leaves time to renew
/// it.
const SOON: TimeDelta = TimeDelta::days(21);

/// A SHA-256.
pub type Fingerprint = [u8; 32];

/// A client certificate and the CA to log in to a broker.
pub struct Credentials {
    /// A TLS configuration with the client certificate. It trusts only the given CA.
    pub tls: Arc<ClientConfig>,
    /// The certificate's common name in printable form: the user at the broker.
    pub user: String,
    /// The end of the certificate's validity.
    pub not_after: DateTime<Utc>,
    /// The start of the certificate's validity.
    pub not_before: DateTime<Utc>,
    /// Identifies these credentials: the hash of the client's certificates, its key, and the set of
    /// CAs. Comments, line breaks and the order of the CAs make no difference.
    pub fingerprint: Fingerprint,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The reason why credentials cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A certificate or key cannot be parsed, or the two do not match.
    #[error("{0}")]
    Invalid(String),
    /// The client certificate has expired.
    #[error("the client certificate of {user} in {place} expired on {}: renew it", .at.format("%Y-%m-%d %H:%M:%S UTC"))]
    Expired {
        /// The certificate's common name.
        user: String,
        /// The file or Secret key that contains it.
        place: String,
        /// The end of its validity.
        at: DateTime<Utc>,
    },
    /// The client certificate is not valid yet.
    #[error("the client certificate of {user} in {place} is not valid before {}: check the clocks, or wait", .at.format("%Y-%m-%d %H:%M:%S UTC"))]
    NotYetValid {
        /// The certificate's common name.
        user: String,
        /// The file or Secret key that contains it.
        place: String,
        /// The start of its validity.
        at: DateTime<Utc>,
    },
}

impl CredentialsError {
    /// Returns true if the same PEM has this error `now` too.
    #[must_use]
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        match self {
            Self::Invalid(_) => true,
            Self::Expired { at, .. } => now > *at,
            Self::NotYetValid { at, .. } => now < *at,
        }
    }
}

impl Failure for CredentialsError {
    fn reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::SecretInvalid,
            Self::Expired { .. } => Reason::CertificateExpired,
            Self::NotYetValid { .. } => Reason::TlsFailed,
        }
    }

    fn not_before(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::NotYetValid { at, .. } => Some(*at),
            Self::Invalid(_) | Self::Expired { .. } => None,
        }
    }
}

fn invalid<T>(detail: impl Into<String>) -> Result<T, CredentialsError> {
    Err(CredentialsError::Invalid(detail.into()))
}

impl Credentials {
    /// Parses CA, certificate and key.
    ///
    /// This does not check the validity. Each use calls [`check_validity`](Self::check_validity).
    pub fn from_pem(material: &PemFiles<'_>) -> Result<Self, CredentialsError> {
        let PemFiles { ca, cert, key } = material;
        let chain = certificates(cert)?;
        let leaf = chain
            .first()
            .map(|leaf| parse(leaf, cert))
            .transpose()?
            .ok_or_else(|| CredentialsError::Invalid(no_certificate(cert)))?;
        let user = common_name(&leaf, cert)?;
        let (not_before, not_after) = validity(&leaf);
        let cas = distinct(certificates(ca)?);
        let key_der = private_key(key)?;
        let fingerprint = hash([&hash(der(&cas))[..], &hash(der(&chain)), key_der.secret_der()].into_iter());
        let roots = roots(cas, ca)?;
        let certified = certified(chain, &key_der).map_err(|error| mismatch(&error, &user, cert, key))?;
        let tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| CredentialsError::Invalid(error.to_string()))?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        Ok(Self { tls: Arc::new(tls), user, not_after, not_before, fingerprint })
    }

    /// Returns an error if the certificate is not valid at `now`. The error names its `place`.
    pub fn check_validity(&self, now: DateTime<Utc>, place: &str) -> Result<(), CredentialsError> {
        let (user, place) = (self.user.clone(), place.to_owned());
        if now > self.not_after {
            return Err(CredentialsError::Expired { user, place, at: self.not_after });
        }
        if now < self.not_before {
            return Err(CredentialsError::NotYetValid { user, place, at: self.not_before });
        }
        Ok(())
    }

    /// Returns a warning if the certificate expires soon after `now`. The warning names its
    /// `place`.
    #[must_use]
    pub fn warning(&self, now: DateTime<Utc>, place: &str) -> Option<String> {
        let left = self.not_after - now;
        (left < SOON).then(|| {
            let (user, at, days) = (&self.user, self.not_after.format("%Y-%m-%d %H:%M:%S UTC"), left.num_days());
            format!("Its client certificate, of {user} in {place}, expires on {at}, {}: renew it", in_days(days))
        })
    }
}

/// Formats a number of days from now.
fn in_days(days: i64) -> String {
    match days {
        ..1 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(default_provider()))
}

/// Returns each certificate once, in an order that depends on nothing else.
fn distinct(mut certificates: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
    certificates.dedup();
    certificates
}

fn der<'a>(certificates: &'a [CertificateDer<'_>]) -> impl Iterator<Item = &'a [u8]> {
    certificates.iter().map(AsRef::as_ref)
}

/// Returns an error if the text has no CA certificate that could be trusted.
pub fn check_ca(ca: &PemText<'_>) -> Result<(), CredentialsError> {
    roots(certificates(ca)?, ca).map(drop)
}

/// Trusts the certificates of the CA.
fn roots(certificates: Vec<CertificateDer<'static>>, ca: &PemText<'_>) -> Result<RootCertStore, CredentialsError> {
    if certificates.is_empty() {
        return invalid(no_certificate(ca));
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return invalid(format!("{} contains no valid CA certificate: use the CA of the broker", ca.place));
    }
    Ok(roots)
}

/// Reads all certificates. Ignores PEM blocks of other kinds.
fn certificates(pem: &PemText<'_>) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let certificate = |part| match part {
        PemPart::Certificate(certificate) => Some(certificate),
        PemPart::Key(_) => None,
    };
    Ok(parts(pem)?.into_iter().filter_map(certificate).collect())
}

fn private_key(pem: &PemText<'_>) -> Result<Zeroizing<PrivateKeyDer<'static>>, CredentialsError> {
    if memchr::memmem::find(pem.bytes, b"ENCRYPTED").is_some() {
        return invalid(format!("{} contains an encrypted private key: store it without a passphrase", pem.place));
    }
    let key = |part| match part {
        PemPart::Key(key) => Some(key),
        PemPart::Certificate(_) => None,
    };
    parts(pem)?.into_iter().find_map(key).ok_or_else(|| {
        CredentialsError::Invalid(format!(
            "{}: use the certificate's private key in PEM (PKCS#8, PKCS#1 or SEC1)",
            missing(&pem.place, "usable private key", pem.bytes)
        ))
    })
}

/// A certificate or a key of a PEM text. A key is wiped from memory when it is dropped, used or not.
enum PemPart {
    Certificate(CertificateDer<'static>),
    Key(Zeroizing<PrivateKeyDer<'static>>),
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

/// Combines chain and key if they match.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'_>,
) -> Result<CertifiedKey, tokio_rustls::rustls::Error> {
    use tokio_rustls::rustls::{Error, InconsistentKeys};
    let certified = CertifiedKey::new(chain, any_supported_type(key)?);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(error),
    }
}

/// Reads all certificates and keys. Ignores PEM blocks of other kinds.
fn parts(pem: &PemText<'_>) -> Result<Vec<PemPart>, CredentialsError> {
    if pem.bytes.len() > MAX_PEM {
        return invalid(format!(
            "{} has {} bytes, but must be PEM of at most {MAX_PEM} bytes",
            pem.place,
            pem.bytes.len()
        ));
    }
    let mut text = Cursor::new(pem.bytes);
    let items = rustls_pemfile::read_all(&mut text);
    items.filter_map(|item| item.map(PemPart::new).transpose()).collect::<Result<_, _>>().map_err(|_| {
        CredentialsError::Invalid(format!(
            "{} is not valid PEM: use the unaltered text from -----BEGIN to -----END, with its line breaks",
            pem.place
        ))
    })
}

fn no_certificate(pem: &PemText<'_>) -> String {
    format!("{}: use a PEM certificate (-----BEGIN CERTIFICATE-----)", missing(&pem.place, "certificate", pem.bytes))
}

fn parse<'a>(der: &'a CertificateDer<'_>, pem: &PemText<'_>) -> Result<X509Certificate<'a>, CredentialsError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(_) => invalid(format!("{} contains a malformed certificate: use the client certificate", pem.place)),
    }
}

fn common_name(certificate: &X509Certificate<'_>, pem: &PemText<'_>) -> Result<String, CredentialsError> {
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    match name.map(|name| printable(name, MAX_USER)) {
        Some(name) if !name.trim().is_empty() => Ok(name),
        _ => invalid(format!(
            "{} contains a certificate without a common name, which is the user at the broker: use the client certificate",
            pem.place
        )),
    }
}

fn validity(certificate: &X509Certificate<'_>) -> (DateTime<Utc>, DateTime<Utc>) {
    let time = |seconds, limit| DateTime::from_timestamp(seconds, 0).unwrap_or(limit);
    let validity = certificate.validity();
    (
        time(validity.not_before.timestamp(), DateTime::<Utc>::MIN_UTC),
        time(validity.not_after.timestamp(), DateTime::<Utc>::MAX_UTC),
    )
}

fn mismatch(
    error: &tokio_rustls::rustls::Error,
    user: &str,
    cert: &PemText<'_>,
    key: &PemText<'_>,
) -> CredentialsError {
    use tokio_rustls::rustls::Error;
    CredentialsError::Invalid(match error {
        Error::InconsistentKeys(_) => {
            format!(
                "{} is not the key of the first certificate in {}, which belongs to {user}: use the client certificate with its own key",
                key.place, cert.place
            )
        }
        _ => format!(
            "{} cannot be used with {}: use an RSA key of 2048 to 4096 bits, an ECDSA key on P-256 or P-384, or an Ed25519 key, with its certificate",
            key.place, cert.place
        ),
    })
}

/// Returns the hash of the texts of CA, certificate and key.
#[must_use]
pub fn text_hash(material: &PemFiles<'_>) -> Fingerprint {
    hash([&material.ca, &material.cert, &material.key].into_iter().map(|pem| pem.bytes))
}

/// Returns the hash of these texts at these places.
#[must_use]
pub fn text_hash_with_places(text_hash: &Fingerprint, material: &PemFiles<'_>) -> Fingerprint {
    let places = [&material.ca, &material.cert, &material.key].into_iter().map(|pem| pem.place.as_bytes());
    hash(std::iter::once(text_hash.as_slice()).chain(places))
}

/// The hash includes the length of each part, so different lists never look the same.
pub(super) fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part);
    }
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

#[cfg(test)]
mod tests;
