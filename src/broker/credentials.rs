//! PEM bytes become [`Credentials`]: a TLS configuration that trusts the given CA alone, the user
//! they log in as, and until when. Whatever is wrong is said without connecting, and without
//! quoting any of the bytes. Keys are wiped from memory once they are read.

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

use super::pem_diagnostics::lacks;
use fedora_message::message::secret::{Material, Part};
use fedora_message::policy::outcome::{Failure, Reason};
use fedora_message::text::printable;

/// The longest PEM that is read, in bytes; real CA bundles have a few hundred thousand.
const MAX_PEM: usize = 1024 * 1024;

/// The longest common name that is passed on, in characters. X.509 allows 64.
const LONGEST_USER: usize = 255;

/// So long before its end a certificate is warned about: time enough to get a new one.
pub const SOON: TimeDelta = TimeDelta::days(21);

/// The SHA-256 of CA, certificate and key: two credentials are the same if and only if it is.
pub type Fingerprint = [u8; 32];

/// What it takes to log in to a broker.
pub struct Credentials {
    /// TLS configuration with the client certificate, trusting only the given CA.
    pub tls: Arc<ClientConfig>,
    /// The certificate's common name, for people: the user at the broker.
    pub user: String,
    /// Until when the certificate is valid.
    pub not_after: DateTime<Utc>,
    /// From when on the certificate is valid.
    pub not_before: DateTime<Utc>,
    /// Identifies these credentials.
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

/// Why credentials can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// What should be a certificate or key is none, or they don't belong together.
    #[error("{0}")]
    Invalid(String),
    /// The client certificate is no longer valid.
    #[error("the client certificate of {user} in {place} expired on {}: put a new one there", .at.format("%Y-%m-%d %H:%M:%S UTC"))]
    Expired {
        /// The certificate's common name.
        user: String,
        /// Where the certificate is.
        place: String,
        /// Since when it is invalid.
        at: DateTime<Utc>,
    },
    /// The client certificate is not valid yet.
    #[error("the client certificate of {user} in {place} is not valid before {}: check the clocks, or wait", .at.format("%Y-%m-%d %H:%M:%S UTC"))]
    NotYetValid {
        /// The certificate's common name.
        user: String,
        /// Where the certificate is.
        place: String,
        /// From when on it is valid.
        at: DateTime<Utc>,
    },
}

impl Failure for CredentialsError {
    fn reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::SecretInvalid,
            Self::Expired { .. } => Reason::CertificateExpired,
            Self::NotYetValid { .. } => Reason::TlsFailed,
        }
    }
}

fn invalid<T>(detail: impl Into<String>) -> Result<T, CredentialsError> {
    Err(CredentialsError::Invalid(detail.into()))
}

impl Credentials {
    /// Reads CA, certificate and key, whose [`fingerprint`] is given. Whether the certificate is valid now is asked for each use,
    /// by [`check_validity`](Self::check_validity).
    pub fn from_pem(material: &Material<'_>, fingerprint: Fingerprint) -> Result<Self, CredentialsError> {
        let Material { ca, cert, key } = material;
        let chain = certificates(cert)?;
        let leaf = chain
            .first()
            .map(|leaf| parse(leaf, cert))
            .transpose()?
            .ok_or_else(|| CredentialsError::Invalid(no_certificate(cert)))?;
        let user = common_name(&leaf, cert)?;
        let (not_before, not_after) = validity(&leaf);
        let roots = roots(ca)?;
        let key_der = private_key(key)?;
        let certified = certified(chain, &key_der).map_err(|error| mismatch(&error, &user, cert, key))?;
        let tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| CredentialsError::Invalid(error.to_string()))?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        Ok(Self { tls: Arc::new(tls), user, not_after, not_before, fingerprint })
    }

    /// Whether the certificate is valid at `now`. `place` is where it was found.
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

    /// What to do about a certificate that expires soon after `now`. `place` is where it was found.
    #[must_use]
    pub fn warning(&self, now: DateTime<Utc>, place: &str) -> Option<String> {
        let left = self.not_after - now;
        (left < SOON).then(|| {
            let (user, at, days) = (&self.user, self.not_after.format("%Y-%m-%d %H:%M:%S UTC"), left.num_days());
            format!(
                "Its client certificate, of {user} in {place}, expires on {at}, {}: put a new one there",
                in_days(days)
            )
        })
    }
}

/// A number of days from now, for people.
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

/// Every PEM block of the CA counts; what isn't a certificate among them is passed over.
fn roots(ca: &Part<'_>) -> Result<RootCertStore, CredentialsError> {
    let certificates = certificates(ca)?;
    if certificates.is_empty() {
        return invalid(no_certificate(ca));
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return invalid(format!("{} holds no CA certificate that can be read: put the broker's CA there", ca.place));
    }
    Ok(roots)
}

fn certificates(pem: &Part<'_>) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let certificate = |item| match item {
        Item::X509Certificate(certificate) => Some(certificate),
        // A key, if it is one, is wiped.
        other => key_of(other).and(None),
    };
    Ok(items(pem)?.into_iter().filter_map(certificate).collect())
}

fn private_key(pem: &Part<'_>) -> Result<Zeroizing<PrivateKeyDer<'static>>, CredentialsError> {
    if memchr::memmem::find(pem.bytes, b"ENCRYPTED").is_some() {
        return invalid(format!(
            "{} holds no private key that can be read: it is encrypted: store it without a passphrase",
            pem.place
        ));
    }
    items(pem)?.into_iter().find_map(key_of).ok_or_else(|| {
        CredentialsError::Invalid(format!(
            "{}: put the certificate's PEM key there (PKCS#8, PKCS#1 or SEC1)",
            lacks(&pem.place, "private key that can be read", pem.bytes)
        ))
    })
}

/// A key, which is wiped from memory when it is dropped.
fn key_of(item: Item) -> Option<Zeroizing<PrivateKeyDer<'static>>> {
    let key = match item {
        Item::Pkcs1Key(key) => PrivateKeyDer::Pkcs1(key),
        Item::Pkcs8Key(key) => PrivateKeyDer::Pkcs8(key),
        Item::Sec1Key(key) => PrivateKeyDer::Sec1(key),
        _ => return None,
    };
    Some(Zeroizing::new(key))
}

/// Chain and key, if they belong together.
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

fn items(pem: &Part<'_>) -> Result<Vec<Item>, CredentialsError> {
    if pem.bytes.len() > MAX_PEM {
        return invalid(format!(
            "{} has {} bytes, more than certificates take: put only PEM there",
            pem.place,
            pem.bytes.len()
        ));
    }
    rustls_pemfile::read_all(&mut Cursor::new(pem.bytes)).collect::<Result<_, _>>().map_err(|_| {
        CredentialsError::Invalid(format!(
            "{} is not valid PEM: put the text from -----BEGIN to -----END there, unaltered and with its line breaks",
            pem.place
        ))
    })
}

fn no_certificate(pem: &Part<'_>) -> String {
    format!(
        "{}: put a PEM certificate there (-----BEGIN CERTIFICATE-----)",
        lacks(&pem.place, "certificate", pem.bytes)
    )
}

fn parse<'a>(der: &'a CertificateDer<'_>, pem: &Part<'_>) -> Result<X509Certificate<'a>, CredentialsError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(_) => invalid(format!(
            "{} holds a certificate that can't be read: put the client certificate there again",
            pem.place
        )),
    }
}

fn common_name(certificate: &X509Certificate<'_>, pem: &Part<'_>) -> Result<String, CredentialsError> {
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    match name.map(|name| printable(name, LONGEST_USER)) {
        Some(name) if !name.trim().is_empty() => Ok(name),
        _ => invalid(format!(
            "{} holds a certificate without a common name, which would be the user at the broker: use the client certificate",
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

fn mismatch(error: &tokio_rustls::rustls::Error, user: &str, cert: &Part<'_>, key: &Part<'_>) -> CredentialsError {
    use tokio_rustls::rustls::Error;
    CredentialsError::Invalid(match error {
        Error::InconsistentKeys(_) => {
            format!(
                "{}, whose first certificate is that of {user}, and {} don't belong together: put the client certificate and its own key there",
                cert.place, key.place
            )
        }
        _ => format!(
            "{} can't be used with {}: put an RSA key of 2048 to 4096 bits, an ECDSA key on P-256 or P-384, or an Ed25519 key there, and its certificate",
            key.place, cert.place
        ),
    })
}

/// Identifies credentials by what they are read from. Each part is hashed with its length, so that
/// no two different triples look alike.
#[must_use]
pub fn fingerprint(material: &Material<'_>) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    for part in [&material.ca, &material.cert, &material.key] {
        context.update(&part.bytes.len().to_le_bytes());
        context.update(part.bytes);
    }
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

#[cfg(test)]
mod tests;
