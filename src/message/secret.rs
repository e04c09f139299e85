//! Which bytes of which Secrets are the certificate, and whether a message may use them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use super::authentication::{Authentication, SecretKey, SecretName};
use super::outcome::{Failure, Reason};

/// On a Secret: the namespaces, separated by commas, whose messages may use it; or `*`.
pub const CONSENT_ANNOTATION: &str = "apps.fedoraproject.org/allowed-namespaces";

/// The sets of keys under which CA, certificate and key are looked for, in this order.
const KEY_SETS: [[&str; 3]; 3] =
    [["ca", "cert", "key"], ["ca.crt", "tls.crt", "tls.key"], ["cacert.pem", "cert.pem", "key.pem"]];

/// CA, certificate and key as they were found.
#[derive(Clone, Debug)]
pub struct Material<'a> {
    /// CA certificates.
    pub ca: Part<'a>,
    /// Client certificate.
    pub cert: Part<'a>,
    /// Private key.
    pub key: Part<'a>,
}

/// One PEM text, and where it was found.
#[derive(Clone)]
pub struct Part<'a> {
    /// For error messages: `key "cert" of Secret apps/certs`, or a file's name.
    pub place: String,
    /// The text.
    pub bytes: &'a [u8],
}

impl std::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Why a Secret can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Absent, or without consent. Which of the two it is must not be told to somebody who may
    /// only create messages.
    #[error(
        "Secret {secret} does not exist, or does not allow namespace {namespace} to use it: create it, or let its owner add {namespace} to its annotation {CONSENT_ANNOTATION}"
    )]
    Denied {
        /// The Secret.
        secret: SecretName,
        /// The message's namespace.
        namespace: String,
    },
    /// Absent from the message's own namespace.
    #[error(
        "Secret {0} does not exist: create it with the client certificate, for example with kubectl create secret generic"
    )]
    Absent(SecretName),
    /// Not read, for reasons of the API server.
    #[error("Secret {secret} could not be read: {words}")]
    Unread {
        /// The Secret.
        secret: SecretName,
        /// What the API server said, and what to do.
        words: String,
    },
    /// Lacks a key.
    #[error("Secret {secret} lacks {missing}: add it")]
    Incomplete {
        /// The Secret.
        secret: SecretName,
        /// What is missing.
        missing: String,
    },
}

impl Failure for SecretError {
    fn reason(&self) -> Reason {
        match self {
            Self::Denied { .. } | Self::Absent(_) | Self::Unread { .. } => Reason::SecretNotFound,
            Self::Incomplete { .. } => Reason::SecretInvalid,
        }
    }
}

/// Finds CA, certificate and key for a message in `namespace`.
///
/// `secrets` holds what is stored under each of [`Authentication::secrets`], in that order.
pub fn select<'a>(
    authentication: &Authentication,
    namespace: &str,
    secrets: &'a [Option<Arc<Secret>>],
) -> Result<Material<'a>, SecretError> {
    let mut found = authentication
        .secrets()
        .zip(secrets)
        .map(|(name, secret)| usable(name, secret.as_deref(), namespace))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    match (authentication, found.next(), found.next(), found.next()) {
        (Authentication::One(name), Some(secret), None, None) => all_in_one(name, secret),
        (Authentication::Three { ca, cert, key }, Some(a), Some(b), Some(c)) => {
            Ok(Material { ca: one_key(ca, a)?, cert: one_key(cert, b)?, key: one_key(key, c)? })
        }
        // Fewer Secrets than names: a caller's mistake, which must not be a message's loss.
        (Authentication::One(secret) | Authentication::Three { ca: SecretKey { secret, .. }, .. }, ..) => {
            Err(SecretError::Absent(secret.clone()))
        }
    }
}

fn usable<'a>(name: &SecretName, secret: Option<&'a Secret>, namespace: &str) -> Result<&'a Secret, SecretError> {
    let own = name.namespace == namespace;
    match secret {
        Some(secret) if own || consents(secret, namespace) => Ok(secret),
        None if own => Err(SecretError::Absent(name.clone())),
        _ => Err(SecretError::Denied { secret: name.clone(), namespace: namespace.to_owned() }),
    }
}

/// Whether a Secret's owner lets messages of `namespace` use it.
fn consents(secret: &Secret, namespace: &str) -> bool {
    let annotation = secret.metadata.annotations.as_ref().and_then(|all| all.get(CONSENT_ANNOTATION));
    annotation.is_some_and(|list| list.split(',').map(str::trim).any(|allowed| allowed == "*" || allowed == namespace))
}

fn all_in_one<'a>(name: &SecretName, secret: &'a Secret) -> Result<Material<'a>, SecretError> {
    let missing = |keys: &[&'static str; 3]| -> Vec<&'static str> {
        keys.iter().copied().filter(|key| bytes(secret, key).is_none()).collect()
    };
    // The first complete set; if there is none, the most complete one tells what to add.
    let best = KEY_SETS.iter().min_by_key(|keys| missing(keys).len()).unwrap_or(&KEY_SETS[0]);
    let part = |key: &str| part(name, key, bytes(secret, key));
    match (part(best[0]), part(best[1]), part(best[2])) {
        (Ok(ca), Ok(cert), Ok(key)) => Ok(Material { ca, cert, key }),
        _ if missing(best).len() == best.len() => Err(SecretError::Incomplete {
            secret: name.clone(),
            missing: r#"the keys "ca", "cert" and "key" (or "ca.crt", "tls.crt" and "tls.key", or "cacert.pem", "cert.pem" and "key.pem")"#
                .to_owned(),
        }),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Err(error),
    }
}

fn one_key<'a>(name: &SecretKey, secret: &'a Secret) -> Result<Part<'a>, SecretError> {
    part(&name.secret, &name.key, bytes(secret, &name.key))
}

fn part<'a>(name: &SecretName, key: &str, bytes: Option<&'a [u8]>) -> Result<Part<'a>, SecretError> {
    let place = || format!("key {key:?} of Secret {name}");
    match bytes {
        Some(bytes) => Ok(Part { place: place(), bytes }),
        None => Err(SecretError::Incomplete { secret: name.clone(), missing: format!("the key {key:?}") }),
    }
}

fn bytes<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|value| value.0.as_slice())
}
