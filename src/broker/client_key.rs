//! Combines a client certificate with its private key.
//!
//! The broker judges the certificate, so it is sent as it is. rustls would refuse certificates of
//! version 1 and with unknown extensions, which it can't verify.

use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivateSec1KeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use zeroize::Zeroizing;

use super::credentials::CredentialsError;
use super::public_key::{is_ec, is_same, is_short, split_der, unusable_by_client};
use fedora_message::message::secret::PemFiles;

/// Combines chain and key if the key is that of the first certificate, `leaf`.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    leaf: &X509Certificate<'_>,
    key: &PrivateKeyDer<'_>,
    user: &str,
    PemFiles { cert, key: key_pem, .. }: &PemFiles<'_>,
) -> Result<CertifiedKey, CredentialsError> {
    let (cert, key_pem) = (&cert.place, &key_pem.place);
    let public = leaf.public_key();
    let other_key = || {
        CredentialsError::Invalid(format!(
            "{key_pem} is not the key of the first certificate in {cert}, which belongs to {user}: use the client certificate with its own key"
        ))
    };
    let signing_key = match any_supported_type(key) {
        Ok(signing_key) => signing_key,
        Err(_) => match (unusable_by_client(public), with_public_part(key, &public.subject_public_key.data)) {
            (Some(kind), _) => {
                return Err(CredentialsError::Invalid(format!(
                    "the certificate in {cert} has {kind}, which the operator can't use: get a certificate with an RSA key of 2048, 3072 or 4096 bits and the public exponent 65537, an ECDSA key on P-256 or P-384, or an Ed25519 key"
                )));
            }
            // ring refuses parts that don't belong together.
            (None, Some(completed)) => any_supported_type(&completed).map_err(|_| other_key())?,
            (None, None) if is_short(&public.subject_public_key.data) => {
                return Err(CredentialsError::Invalid(format!(
                    "{key_pem} contains an ECDSA key with the short form of its public part, which the operator can't use: convert it with openssl ec -conv_form uncompressed -in FILE -out NEW"
                )));
            }
            (None, None) => {
                return Err(CredentialsError::Invalid(format!(
                    "{key_pem} contains a private key that is malformed, or that the certificate in {cert} can't have: use the certificate's own key, as openssl pkey -in FILE -out NEW writes it"
                )));
            }
        },
    };
    if !belongs(public, signing_key.as_ref()) {
        return Err(other_key());
    }
    Ok(CertifiedKey::new(chain, signing_key))
}

/// Returns true if the public key is that of the private key, or if the latter does not tell.
fn belongs(public: &SubjectPublicKeyInfo<'_>, key: &dyn SigningKey) -> bool {
    let Some(of_key) = key.public_key() else { return true };
    SubjectPublicKeyInfo::from_der(&of_key)
        .is_ok_and(|(_, of_key)| is_same(&public.subject_public_key.data, &of_key.subject_public_key.data))
}

/// Adds the public part to an ECDSA key that lacks it. ring needs it, and the certificate has it.
fn with_public_part(key: &PrivateKeyDer<'_>, point: &[u8]) -> Option<Zeroizing<PrivateKeyDer<'static>>> {
    let secret = secret_of_ec_key(key).filter(|_| !is_short(point))?;
    // RFC 5915: the version 1, the secret as octets, and the point as bits in the element 1.
    let version = [0x02, 1, 1];
    let bits = element(0x03, &[&[0], point])?;
    let content = [&version[..], &element(0x04, &[secret])?, &element(0xa1, &[&bits])?];
    let key = element(0x30, &content)?;
    Some(Zeroizing::new(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(key.to_vec()))))
}

/// Returns the secret number of an ECDSA key.
fn secret_of_ec_key<'a>(key: &'a PrivateKeyDer<'_>) -> Option<&'a [u8]> {
    let sec1 = match key {
        PrivateKeyDer::Sec1(sec1) => sec1.secret_sec1_der(),
        PrivateKeyDer::Pkcs8(pkcs8) => {
            let (content, _) = split_der(pkcs8.secret_pkcs8_der())?;
            let (_version, rest) = split_der(content)?;
            let (algorithm, rest) = split_der(rest)?;
            if !is_ec(algorithm) {
                return None;
            }
            split_der(rest)?.0
        }
        _ => return None,
    };
    let (content, _) = split_der(sec1)?;
    let (_version, rest) = split_der(content)?;
    Some(split_der(rest)?.0)
}

/// Returns a DER element with this tag and content, if its length fits one byte.
fn element(tag: u8, content: &[&[u8]]) -> Option<Zeroizing<Vec<u8>>> {
    let length = u8::try_from(content.iter().map(|part| part.len()).sum::<usize>()).ok()?;
    let header: &[u8] = if length < 0x80 { &[tag, length] } else { &[tag, 0x81, length] };
    let parts: Vec<&[u8]> = std::iter::once(header).chain(content.iter().copied()).collect();
    Some(Zeroizing::new(parts.concat()))
}
