//! Parses PEM into [`Credentials`]: a TLS configuration that trusts only the given CA, the user at
//! the broker, and the validity.
//!
//! This needs no connection. Errors quote none of the bytes.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ring::digest::{Context, SHA256};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring::default_provider};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::broker_certificate::BrokerVerifier;
use super::client_key::certified;
use super::pem::{certificates, private_key};
use fedora_message::message::secret::{PemFiles, PemText};
use fedora_message::policy::outcome::{Failure, Reason};
use fedora_message::text::printable;

/// The maximum length of a printed name in characters. X.509 allows 64 for a common name.
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
    /// The certificate's common name in printable form. At Fedora's brokers it is the user. Without
    /// one, the subject or another name that the broker may take for the user.
    pub user: String,
    /// The end of the certificate's validity.
    pub not_after: DateTime<Utc>,
    /// The end of the validity of the CA that lasts longest.
    pub ca_not_after: DateTime<Utc>,
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
        /// The certificate's common name, or another name of it.
        user: String,
        /// The file or Secret key that contains it.
        place: String,
        /// The end of its validity.
        at: DateTime<Utc>,
    },
    /// The client certificate is not valid yet.
    #[error("the client certificate of {user} in {place} is not valid before {}: check the clocks, or wait", .at.format("%Y-%m-%d %H:%M:%S UTC"))]
    NotYetValid {
        /// The certificate's common name, or another name of it.
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

impl Credentials {
    /// Parses CA, certificate and key.
    ///
    /// This does not check the validity. Each use calls [`check_validity`](Self::check_validity).
    pub fn from_pem(material: &PemFiles<'_>) -> Result<Self, CredentialsError> {
        let PemFiles { ca, cert, key } = material;
        let mut chain = certificates(cert)?;
        // RabbitMQ 4 refuses a chain that has a certificate twice in a row.
        chain.dedup();
        let first = chain.first().cloned().ok_or_else(|| malformed(cert))?;
        let leaf = parse(&first, cert)?;
        let user = user(&leaf);
        let (not_before, not_after) = validity(&leaf);
        let cas = distinct(certificates(ca)?);
        let key_der = private_key(key)?;
        let fingerprint = hash([&hash(der(&cas))[..], &hash(der(&chain)), key_der.secret_der()].into_iter());
        let provider = provider();
        let verifier = verifier(&cas, ca, &provider)?;
        let ca_not_after = verifier.not_after();
        let certified = certified(chain, &leaf, &key_der, &user, material)?;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| CredentialsError::Invalid(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        Ok(Self { tls: Arc::new(tls), user, not_after, ca_not_after, not_before, fingerprint })
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

    /// Returns a warning if the certificate, or each CA, expires soon after `now`. The warning names
    /// their places.
    #[must_use]
    pub fn warning(&self, now: DateTime<Utc>, PemFiles { ca, cert, .. }: &PemFiles<'_>) -> Option<String> {
        let (user, cert, ca) = (&self.user, &cert.place, &ca.place);
        let client = expiry(self.not_after, now)
            .map(|expiry| format!("Its client certificate, of {user} in {cert}, expires {expiry}: renew it"));
        let broker = expiry(self.ca_not_after, now)
            .map(|expiry| format!("The broker's CA in {ca} expires {expiry}: replace it with the broker's new CA"));
        let warnings: Vec<String> = client.into_iter().chain(broker).collect();
        (!warnings.is_empty()).then(|| warnings.join(". "))
    }
}

/// Says when a validity ends, if that is soon after `now`.
fn expiry(at: DateTime<Utc>, now: DateTime<Utc>) -> Option<String> {
    let left = at - now;
    (left < SOON).then(|| format!("on {}, {}", at.format("%Y-%m-%d %H:%M:%S UTC"), in_days(left.num_days())))
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
    verifier(&certificates(ca)?, ca, &provider()).map(drop)
}

/// Trusts the certificates of the CA.
fn verifier(
    certificates: &[CertificateDer<'static>],
    ca: &PemText<'_>,
    provider: &CryptoProvider,
) -> Result<BrokerVerifier, CredentialsError> {
    BrokerVerifier::new(certificates, provider.signature_verification_algorithms).ok_or_else(|| {
        CredentialsError::Invalid(format!("{} contains no valid CA certificate: use the CA of the broker", ca.place))
    })
}

fn parse<'a>(der: &'a CertificateDer<'_>, pem: &PemText<'_>) -> Result<X509Certificate<'a>, CredentialsError> {
    X509Certificate::from_der(der).map(|(_, certificate)| certificate).map_err(|_| malformed(pem))
}

fn malformed(pem: &PemText<'_>) -> CredentialsError {
    CredentialsError::Invalid(format!("{} contains a malformed certificate: use the client certificate", pem.place))
}

/// Returns the common name, or else another name from which brokers can take the user.
fn user(certificate: &X509Certificate<'_>) -> String {
    let subject = certificate.subject();
    let is_text = |text: &str| !text.trim().is_empty();
    let common_name =
        subject.iter_common_name().next().and_then(|name| name.as_str().ok()).filter(|name| is_text(name));
    let has_text = subject.iter_attributes().any(|attribute| attribute.as_str().is_ok_and(is_text));
    let name = common_name
        .map(str::to_owned)
        .or_else(|| has_text.then(|| subject.to_string()))
        .or_else(|| alternative_name(certificate));
    name.map(|name| printable(&name, MAX_USER))
        .filter(|name| is_text(name))
        .unwrap_or_else(|| "a subject without a name".to_owned())
}

fn alternative_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??.value;
    names.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        _ => None,
    })
}

/// Returns the first and the last moment at which a certificate is valid.
pub(super) fn validity(certificate: &X509Certificate<'_>) -> (DateTime<Utc>, DateTime<Utc>) {
    let time = |seconds, limit| DateTime::from_timestamp(seconds, 0).unwrap_or(limit);
    let validity = certificate.validity();
    (
        time(validity.not_before.timestamp(), DateTime::<Utc>::MIN_UTC),
        time(validity.not_after.timestamp(), DateTime::<Utc>::MAX_UTC),
    )
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
