//! Which bytes of which Secrets are the certificate, and whether a message may use them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use zeroize::Zeroizing;

use crate::message::authentication::{Authentication, SecretKey, SecretName};
use crate::policy::outcome::{Failure, Reason};

/// On a Secret: the namespaces, separated by commas, whose messages may use it; or `*`.
pub const CONSENT_ANNOTATION: &str = "apps.fedoraproject.org/allowed-namespaces";

/// The sets of keys under which CA, certificate and key are looked for, in this order.
const KEY_SETS: [[&str; 3]; 3] =
    [["ca", "cert", "key"], ["ca.crt", "tls.crt", "tls.key"], ["cacert.pem", "cert.pem", "key.pem"]];

/// A Secret, as far as it is used. Its data are wiped from memory when it is dropped, and it has no
/// `Debug` that could print them.
pub struct Secret {
    /// Which object it is, and in which version.
    pub version: Version,
    allowed_namespaces: Option<String>,
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

/// The uid and the resource version of a Secret: it has changed if and only if these have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version(Option<String>, Option<String>);

impl Version {
    /// The resource version, from which it can be watched further.
    #[must_use]
    pub fn resource_version(&self) -> &str {
        self.1.as_deref().unwrap_or_default()
    }
}

impl Secret {
    /// What is stored under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|value| value.as_slice())
    }
}

impl From<KubeSecret> for Secret {
    fn from(secret: KubeSecret) -> Self {
        let KubeSecret { metadata, data, .. } = secret;
        Self {
            version: Version(metadata.uid, metadata.resource_version),
            allowed_namespaces: metadata.annotations.and_then(|mut all| all.remove(CONSENT_ANNOTATION)),
            data: data.unwrap_or_default().into_iter().map(|(key, value)| (key, Zeroizing::new(value.0))).collect(),
        }
    }
}

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

/// The Secret and the key under which each part is, for who mounts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// CA certificates.
    pub ca: (String, String),
    /// Client certificate.
    pub cert: (String, String),
    /// Private key.
    pub key: (String, String),
}

impl Keys {
    /// Where [`select`] finds the parts.
    #[must_use]
    pub fn new(authentication: &Authentication, secrets: &[Option<Arc<Secret>>]) -> Self {
        let key = |secret: &SecretName, key: &str| (secret.name.clone(), key.to_owned());
        match authentication {
            Authentication::One(name) => {
                let [ca, cert, private] =
                    secrets.first().and_then(Option::as_ref).map_or(&KEY_SETS[0], |it| best_set(it));
                Self { ca: key(name, ca), cert: key(name, cert), key: key(name, private) }
            }
            Authentication::Three { ca, cert, key: private } => Self {
                ca: key(&ca.secret, &ca.key),
                cert: key(&cert.secret, &cert.key),
                key: key(&private.secret, &private.key),
            },
        }
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
        "Secret {secret} does not exist: create it, for example by kubectl -n {} create secret generic {} {files}",
        secret.namespace,
        secret.name
    )]
    Absent {
        /// The Secret.
        secret: SecretName,
        /// The arguments that fill it.
        files: String,
    },
    /// Not read, for reasons of the API server.
    #[error("Secret {secret} could not be read: {detail}")]
    ListError {
        /// The Secret.
        secret: SecretName,
        /// What the API server said, and what to do.
        detail: String,
    },
    /// Lacks a key.
    #[error("Secret {secret} lacks {missing}")]
    Incomplete {
        /// The Secret.
        secret: SecretName,
        /// What is missing, and what to do.
        missing: String,
    },
}

impl Failure for SecretError {
    fn reason(&self) -> Reason {
        match self {
            Self::Denied { .. } | Self::Absent { .. } | Self::ListError { .. } => Reason::SecretNotFound,
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
        .map(|(name, secret)| usable(authentication, name, secret.as_deref(), namespace))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    match (authentication, found.next(), found.next(), found.next()) {
        (Authentication::One(name), Some(secret), None, None) => all_in_one(name, secret),
        (Authentication::Three { ca, cert, key }, Some(a), Some(b), Some(c)) => {
            Ok(Material { ca: one_key(ca, a)?, cert: one_key(cert, b)?, key: one_key(key, c)? })
        }
        // Fewer Secrets than names: a caller's mistake, which must not be a message's loss.
        (Authentication::One(secret) | Authentication::Three { ca: SecretKey { secret, .. }, .. }, ..) => {
            Err(absent(authentication, secret))
        }
    }
}

fn usable<'a>(
    authentication: &Authentication,
    name: &SecretName,
    secret: Option<&'a Secret>,
    namespace: &str,
) -> Result<&'a Secret, SecretError> {
    let own = name.namespace == namespace;
    match secret {
        Some(secret) if own || consents(secret, namespace) => Ok(secret),
        None if own => Err(absent(authentication, name)),
        _ => Err(SecretError::Denied { secret: name.clone(), namespace: namespace.to_owned() }),
    }
}

/// With the keys that the message expects in it, each from a file.
fn absent(authentication: &Authentication, name: &SecretName) -> SecretError {
    let from = |key: &str, file: &str| format!("--from-file={key}={file}");
    let files: Vec<_> = match authentication {
        Authentication::One(_) => KEY_SETS[0].iter().zip(KEY_SETS[2]).map(|(key, file)| from(key, file)).collect(),
        Authentication::Three { ca, cert, key } => {
            let parts = [ca, cert, key].into_iter().zip(KEY_SETS[2]);
            parts.filter(|(part, _)| part.secret == *name).map(|(part, file)| from(&part.key, file)).collect()
        }
    };
    SecretError::Absent { secret: name.clone(), files: files.join(" ") }
}

/// Whether a Secret's owner lets messages of `namespace` use it.
fn consents(secret: &Secret, namespace: &str) -> bool {
    let list = secret.allowed_namespaces.as_deref().unwrap_or_default();
    list.split(',').map(str::trim).any(|allowed| allowed == "*" || allowed == namespace)
}

/// The first complete set; if there is none, the most complete one tells what to add.
fn best_set(secret: &Secret) -> &'static [&'static str; 3] {
    KEY_SETS.iter().min_by_key(|keys| missing(keys, secret).len()).unwrap_or(&KEY_SETS[0])
}

fn missing<'a>(keys: &[&'a str; 3], secret: &Secret) -> Vec<&'a str> {
    keys.iter().copied().filter(|key| secret.get(key).is_none()).collect()
}

fn all_in_one<'a>(name: &SecretName, secret: &'a Secret) -> Result<Material<'a>, SecretError> {
    let best = best_set(secret);
    let missing = missing(best, secret);
    let part = |key: &str| part(name, key, secret.get(key));
    match (part(best[0]), part(best[1]), part(best[2])) {
        (Ok(ca), Ok(cert), Ok(key)) => Ok(Material { ca, cert, key }),
        _ if missing.len() == best.len() => Err(SecretError::Incomplete {
            secret: name.clone(),
            missing: r#"the keys "ca", "cert" and "key" (or "ca.crt", "tls.crt" and "tls.key", or "cacert.pem", "cert.pem" and "key.pem"): add the broker's CA, the client certificate and its private key"#
                .to_owned(),
        }),
        _ => Err(incomplete(name, best, &missing)),
    }
}

fn one_key<'a>(name: &SecretKey, secret: &'a Secret) -> Result<Part<'a>, SecretError> {
    part(&name.secret, &name.key, secret.get(&name.key))
}

fn part<'a>(name: &SecretName, key: &str, bytes: Option<&'a [u8]>) -> Result<Part<'a>, SecretError> {
    let place = || format!("key {key:?} of Secret {name}");
    match bytes {
        Some(bytes) => Ok(Part { place: place(), bytes }),
        None => Err(SecretError::Incomplete { secret: name.clone(), missing: format!("the key {key:?}: add it") }),
    }
}

/// Some keys of a set are there; the others are named, each with what it is for.
fn incomplete(name: &SecretName, set: &[&str; 3], missing: &[&str]) -> SecretError {
    const CONTENTS: [&str; 3] = ["the broker's CA", "the client certificate", "the private key"];
    let keys = set.iter().zip(CONTENTS).filter(|(key, _)| missing.contains(key));
    let keys: Vec<_> = keys.map(|(key, content)| format!("the key {key:?} with {content}")).collect();
    let add = if keys.len() == 1 { "add it" } else { "add them" };
    SecretError::Incomplete { secret: name.clone(), missing: format!("{}: {add}", keys.join(" and ")) }
}

#[cfg(test)]
mod tests;
