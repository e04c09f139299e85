//! Verifies the broker's certificate as OpenSSL does, and says what is wrong with it
//! (docs/decisions/0050).
//!
//! rustls verifies chains and names. Some rules are added. A self-signed certificate that is itself
//! among the given CAs is trusted, also if it is a CA. A CA is no longer trusted once it has expired.
//! A certificate that is no CA, or whose key usage excludes it, issues nothing, and the number of
//! intermediate CAs that a CA allows counts.

use std::fmt::Debug;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::credentials::{Fingerprint, hash, validity};
use super::public_key::{signature_name, split_der, unusable_by_broker};
use fedora_message::text::printable;

/// The maximum length of a printed name in characters.
const MAX_NAME: usize = 255;

/// A CA that allows more intermediate CAs allows any number.
const MAX_INTERMEDIATES: usize = 6;

/// A fault of a broker's certificate, and the action that fixes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BrokerCertificateError {
    #[error(
        "the broker's certificate is of X.509 version 1, which can't name its host: ask the broker's administrators for one of version 3 with the subject alternative name {host}"
    )]
    Version1 { host: String },
    #[error(
        "the broker's certificate has no subject alternative name, and its common name does not count: ask the broker's administrators for one with the subject alternative name {host}"
    )]
    NoName { host: String },
    #[error(
        "the broker's certificate is self-signed, and not among the given CAs: use the CA of the broker, or this certificate as the CA if the broker's administrators gave it to you"
    )]
    SelfSigned,
    #[error(
        "the broker's certificate is itself one of a CA (CA:TRUE): ask the broker's administrators for one with CA:FALSE"
    )]
    Ca,
    #[error(
        "the broker's certificate must not be used by a server, by its key usage or extended key usage: ask the broker's administrators for one with digitalSignature and serverAuth"
    )]
    NotForServers,
    #[error(
        "the broker's certificate is not valid before {}: check the clocks, or wait", .at.format("%Y-%m-%d %H:%M:%S UTC")
    )]
    NotYetValid { at: DateTime<Utc> },
    #[error(
        "the broker sends the certificate of an intermediate CA that has expired: ask the broker's administrators for a certificate from their new CA"
    )]
    IntermediateExpired,
    #[error(
        "the broker's certificate, or that of its issuer, is signed with {algorithm}, which is weak or not supported: ask the broker's administrators for one that is signed with SHA-256 by an RSA key, or with an ECDSA key on P-256 or P-384"
    )]
    Signature { algorithm: String },
    #[error(
        "the broker's certificate has {kind}, which is weak or not supported: ask the broker's administrators for one with an RSA key of 2048 to 8192 bits, or an ECDSA key on P-256 or P-384"
    )]
    Key { kind: String },
    #[error(
        "the CA that issued the broker's certificate has {kind}, which is weak or not supported: ask the broker's administrators for a CA with an RSA key of 2048 to 8192 bits, or an ECDSA key on P-256 or P-384"
    )]
    CaKey { kind: String },
    #[error(
        "the CA that issued the broker's certificate expired on {}: use the broker's new CA", .at.format("%Y-%m-%d %H:%M:%S UTC")
    )]
    CaExpired { at: DateTime<Utc> },
    #[error(
        "the CA that issued the broker's certificate is not valid before {}: check the clocks, or wait", .at.format("%Y-%m-%d %H:%M:%S UTC")
    )]
    CaNotYetValid { at: DateTime<Utc> },
    #[error(
        "the broker's certificate, or that of its issuer, is not acceptable ({detail}): ask the broker's administrators for another"
    )]
    Other { detail: String },
}

impl From<BrokerCertificateError> for TlsError {
    fn from(error: BrokerCertificateError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// Returns what is wrong with the broker's certificate, if this module found it.
pub(super) fn find_error(error: &TlsError) -> Option<&BrokerCertificateError> {
    let TlsError::InvalidCertificate(CertificateError::Other(error)) = error else { return None };
    error.0.downcast_ref()
}

/// Verifies certificates of brokers with the given CAs only.
#[derive(Debug)]
pub(super) struct BrokerVerifier {
    cas: Vec<Ca>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A certificate that is trusted.
#[derive(Debug)]
struct Ca {
    fingerprint: Fingerprint,
    /// Issues certificates of brokers.
    anchor: TrustAnchor<'static>,
    may_issue: bool,
    /// The number of intermediate CAs that it allows, at most [`MAX_INTERMEDIATES`].
    intermediates: usize,
    /// The kind of its key, if that can't verify signatures.
    unusable_key: Option<String>,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
}

impl Ca {
    fn new(der: &CertificateDer<'static>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut store = RootCertStore::empty();
        store.add(der.clone()).ok()?;
        let (not_before, not_after) = validity(&certificate);
        Some(Self {
            fingerprint: fingerprint(der),
            anchor: store.roots.pop()?,
            may_issue: may_issue(&certificate),
            intermediates: allowed_intermediates(&certificate),
            unusable_key: unusable_by_broker(certificate.public_key()),
            not_before,
            not_after,
        })
    }

    fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    fn not_valid(&self, now: DateTime<Utc>) -> BrokerCertificateError {
        if self.not_after < now {
            BrokerCertificateError::CaExpired { at: self.not_after }
        } else {
            BrokerCertificateError::CaNotYetValid { at: self.not_before }
        }
    }
}

impl BrokerVerifier {
    /// Returns a verifier that trusts these certificates, or `None` if none can be parsed.
    pub(super) fn new(cas: &[CertificateDer<'static>], algorithms: WebPkiSupportedAlgorithms) -> Option<Self> {
        let cas: Vec<Ca> = cas.iter().filter_map(Ca::new).collect();
        (!cas.is_empty()).then_some(Self { cas, algorithms })
    }

    /// Returns the end of the validity of the CA that lasts longest.
    pub(super) fn not_after(&self) -> DateTime<Utc> {
        self.cas.iter().map(|ca| ca.not_after).max().unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let (_, details) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        if !may_serve(&details) {
            return Err(BrokerCertificateError::NotForServers.into());
        }
        let today = date(now);
        if is_self_signed(&details) && self.contains(certificate) {
            let (not_before, not_after) = validity(&details);
            if today > not_after {
                return Err(CertificateError::Expired.into());
            }
            if today < not_before {
                return Err(CertificateError::NotValidYet.into());
            }
        } else {
            self.verify_chain(&parsed, intermediates, now, today)?;
        }
        verify_server_name(&parsed, host)
    }

    fn verify_chain(
        &self,
        certificate: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        today: DateTime<Utc>,
    ) -> Result<(), TlsError> {
        let issued_by = |cas: &[&Ca]| self.verify_issuers(cas, certificate, intermediates, now);
        let (valid, others): (Vec<_>, Vec<_>) =
            self.cas.iter().filter(|ca| ca.may_issue).partition(|ca| ca.is_valid(today));
        match issued_by(&valid) {
            Err(error @ TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                issued_by(&others)?;
                let issuer = others.into_iter().find(|ca| issued_by(&[ca]).is_ok());
                Err(issuer.map_or(error, |ca| ca.not_valid(today).into()))
            }
            result => result,
        }
    }

    /// Verifies a chain that ends at one of these CAs. A broker sends its intermediate CAs in order, so
    /// those that a CA does not allow are left out.
    fn verify_issuers(
        &self,
        cas: &[&Ca],
        certificate: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let mut error = CertificateError::UnknownIssuer.into();
        for limit in 0..=MAX_INTERMEDIATES {
            let anchors = cas.iter().filter(|ca| ca.intermediates == limit).map(|ca| ca.anchor.clone());
            let roots = RootCertStore { roots: anchors.collect() };
            if roots.is_empty() {
                continue;
            }
            let length = if limit == MAX_INTERMEDIATES { intermediates.len() } else { limit.min(intermediates.len()) };
            let (algorithms, intermediates) = (self.algorithms.all, &intermediates[..length]);
            match verify_server_cert_signed_by_trust_anchor(certificate, &roots, intermediates, now, algorithms) {
                Ok(()) => return Ok(()),
                Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(other) => error = other,
            }
        }
        Err(error)
    }

    fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        let fingerprint = fingerprint(certificate);
        self.cas.iter().any(|ca| ca.fingerprint == fingerprint)
    }

    /// Returns what the key of the certificate's issuer is, if it can't verify signatures.
    fn unusable_ca_key(&self, certificate: &X509Certificate<'_>) -> Option<String> {
        let (issuer, _) = split_der(certificate.issuer().as_raw())?;
        let mut issuers = self.cas.iter().filter(|ca| ca.anchor.subject.as_ref() == issuer);
        issuers.find_map(|ca| ca.unusable_key.clone())
    }

    /// Replaces the error by what is wrong with the certificate, if that is known.
    fn explain(
        &self,
        error: TlsError,
        certificate: &CertificateDer<'_>,
        host: &ServerName<'_>,
        today: DateTime<Utc>,
    ) -> TlsError {
        use BrokerCertificateError as Reason;
        let (TlsError::InvalidCertificate(reason), Ok((_, details))) = (&error, X509Certificate::from_der(certificate))
        else {
            return error;
        };
        let host = || printable(&host.to_str(), MAX_NAME);
        if details.version() == X509Version::V1 {
            return Reason::Version1 { host: host() }.into();
        }
        let unknown = is_self_signed(&details) && !self.contains(certificate);
        let explained = match reason {
            CertificateError::Other(other) if other.0.is::<Reason>() => None,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                let names = details.subject_alternative_name();
                names.is_ok_and(|names| names.is_none()).then(|| Reason::NoName { host: host() })
            }
            CertificateError::UnknownIssuer | CertificateError::Other(_) if unknown => Some(Reason::SelfSigned),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Some(Reason::NotForServers)
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Some(Reason::NotYetValid { at: validity(&details).0 })
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                (today <= validity(&details).1).then_some(Reason::IntermediateExpired)
            }
            CertificateError::BadSignature => self.unusable_ca_key(&details).map(|kind| Reason::CaKey { kind }),
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { signature_algorithm_id, .. } => {
                let signature = || Reason::Signature { algorithm: signature_name(signature_algorithm_id) };
                Some(self.unusable_ca_key(&details).map_or_else(signature, |kind| Reason::CaKey { kind }))
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
                Some(Reason::Signature { algorithm: signature_name(signature_algorithm_id) })
            }
            CertificateError::Other(_) if details.is_ca() => Some(Reason::Ca),
            CertificateError::Other(other) => Some(Reason::Other { detail: printable(&other.0.to_string(), MAX_NAME) }),
            _ => None,
        };
        explained.map_or(error, TlsError::from)
    }
}

/// Replaces the error of a signature by what the key of the certificate is, if it is a weak one.
fn explain_signature(error: TlsError, certificate: &CertificateDer<'_>) -> TlsError {
    let kind =
        X509Certificate::from_der(certificate).ok().and_then(|(_, details)| unusable_by_broker(details.public_key()));
    kind.map_or(error, |kind| BrokerCertificateError::Key { kind }.into())
}

impl ServerCertVerifier for BrokerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.verify(end_entity, intermediates, server_name, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(|error| self.explain(error, end_entity, server_name, date(now)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms).map_err(|error| explain_signature(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms).map_err(|error| explain_signature(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    hash(std::iter::once(certificate.as_ref()))
}

fn date(time: UnixTime) -> DateTime<Utc> {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == certificate.subject().as_raw()
}

/// Returns true if a certificate may issue others. One of version 1 can't say.
fn may_issue(certificate: &X509Certificate<'_>) -> bool {
    let (Ok(constraints), Ok(usage)) = (certificate.basic_constraints(), certificate.key_usage()) else {
        return false;
    };
    match (constraints.map(|constraints| constraints.value.ca), usage.map(|usage| usage.value.key_cert_sign())) {
        (_, Some(false)) => false,
        (Some(ca), _) => ca,
        (None, Some(true)) => true,
        (None, None) => certificate.version() == X509Version::V1,
    }
}

fn allowed_intermediates(certificate: &X509Certificate<'_>) -> usize {
    let constraints = certificate.basic_constraints().ok().flatten();
    let limit = constraints.and_then(|constraints| constraints.value.path_len_constraint);
    limit.and_then(|limit| usize::try_from(limit).ok()).map_or(MAX_INTERMEDIATES, |limit| limit.min(MAX_INTERMEDIATES))
}

/// Returns true if a TLS server may use a certificate.
fn may_serve(certificate: &X509Certificate<'_>) -> bool {
    let (Ok(usage), Ok(extended)) = (certificate.key_usage(), certificate.extended_key_usage()) else {
        return false;
    };
    let usage = usage.map(|usage| usage.value);
    usage.is_none_or(|usage| usage.digital_signature() || usage.key_encipherment() || usage.key_agreement())
        && extended.is_none_or(|extended| extended.value.server_auth)
}

#[cfg(test)]
mod tests;
