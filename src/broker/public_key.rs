//! Describes the public keys of certificates that rustls does not support.

use x509_parser::asn1_rs::{Any, FromDer, Oid, oid};
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The smallest public exponent of an RSA key that ring signs with.
const MIN_EXPONENT: u64 = 65537;

/// The kind of all ECDSA keys.
const EC: Oid<'static> = oid!(1.2.840.10045.2.1);

/// Returns what a key is if no client certificate can have it.
pub(super) fn unusable_by_client(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let (bits, exponent) = (rsa.key_size(), rsa.try_exponent().unwrap_or(u64::MAX));
            // ring needs primes whose length is a multiple of 512 bits.
            if !(2048..=4096).contains(&bits) || bits % 1024 != 0 {
                Some(format!("an RSA key of {bits} bits"))
            } else if exponent < MIN_EXPONENT {
                Some(format!("an RSA key with the public exponent {exponent}"))
            } else {
                None
            }
        }
        _ => other(key),
    }
}

/// Returns what a key is if no broker can have it.
pub(super) fn unusable_by_broker(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = rsa.key_size();
            (!(2048..=8192).contains(&bits)).then(|| format!("an RSA key of {bits} bits"))
        }
        _ => other(key),
    }
}

/// Returns what a key is that is neither RSA nor supported.
fn other(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == oid!(1.3.101.112) {
        return None;
    }
    if *algorithm != EC {
        return Some(match algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => "a malformed RSA key".to_owned(),
            "1.2.840.113549.1.1.10" => "an RSA key that is restricted to PSS".to_owned(),
            "1.2.840.10040.4.1" => "a DSA key".to_owned(),
            "1.3.101.113" => "an Ed448 key".to_owned(),
            id => format!("a key of the kind {id}"),
        });
    }
    match key.algorithm.parameters.as_ref().and_then(|curve| curve.clone().oid().ok()) {
        Some(curve) => match curve.to_id_string().as_str() {
            "1.2.840.10045.3.1.7" | "1.3.132.0.34" => None,
            "1.3.132.0.35" => Some("an ECDSA key on P-521".to_owned()),
            "1.3.132.0.10" => Some("an ECDSA key on secp256k1".to_owned()),
            id => Some(format!("an ECDSA key on the curve {id}")),
        },
        None => Some("an ECDSA key whose curve is not given by its name".to_owned()),
    }
}

/// Returns the name of a signature's algorithm, from the value of an `AlgorithmIdentifier`.
pub(super) fn signature_name(algorithm: &[u8]) -> String {
    let Ok((_, id)) = Oid::from_der(algorithm) else { return "an unknown algorithm".to_owned() };
    if id == oid!(1.2.840.10045.4.1) {
        return "ecdsa-with-SHA1".to_owned();
    }
    oid2sn(&id, oid_registry()).map_or_else(|_| id.to_id_string(), str::to_owned)
}

/// Returns true if a point of a curve is in its short form: one coordinate, and whether the other is
/// odd.
pub(super) fn is_short(point: &[u8]) -> bool {
    matches!(point, [2 | 3, ..])
}

/// Returns true if a certificate's public key is that of a private key. The certificate may have the
/// short form of a point.
pub(super) fn is_same(of_certificate: &[u8], of_key: &[u8]) -> bool {
    match (of_certificate, of_key) {
        ([tag @ (2 | 3), x @ ..], [4, both @ ..]) => {
            both.len() == 2 * x.len() && both.starts_with(x) && both.last().is_some_and(|last| last & 1 == tag & 1)
        }
        _ => of_certificate == of_key,
    }
}

/// Returns true if the value of an `AlgorithmIdentifier` is that of an ECDSA key.
pub(super) fn is_ec(algorithm: &[u8]) -> bool {
    Oid::from_der(algorithm).is_ok_and(|(_, id)| id == EC)
}

/// Splits DER into the contents of its first element, and what follows.
pub(super) fn split_der(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, element) = Any::from_der(der).ok()?;
    Some((element.data, rest))
}
