//! Selects the CA, the certificate and the key from Secrets, and checks that the message may use
//! these Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use zeroize::Zeroizing;

use crate::bounds::MAX_SECRET_BYTES;
use crate::message::authentication::{Authentication, SecretKey, SecretName};
use crate::policy::outcome::{Failure, Reason};

/// Annotation on a Secret: the namespaces whose messages may use it, separated by commas, or `*`.
pub const CONSENT_ANNOTATION: &str = "apps.fedoraproject.org/allowed-namespaces";

/// The known names of the keys with the CA, the certificate and the key, in the order of preference.
const KNOWN_KEYS: [[&str; 3]; 3] =
    [["ca", "cert", "key"], ["ca.crt", "tls.crt", "tls.key"], ["cacert.pem", "cert.pem", "key.pem"]];

/// A Secret without its contents: its version, and who may use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretMetadata {
    /// Identifies the object and its version.
    pub version: SecretVersion,
    allowed_namespaces: Option<String>,
}

impl SecretMetadata {
    /// Returns true if messages of `namespace` may use the Secret, which has this name.
    #[must_use]
    pub fn allows(&self, secret: &SecretName, namespace: &str) -> bool {
        secret.namespace == namespace || self.consents(namespace)
    }

    /// Returns true if the Secret's owner allows messages of `namespace` to use it.
    fn consents(&self, namespace: &str) -> bool {
        let list = self.allowed_namespaces.as_deref().unwrap_or_default();
        list.split(',').map(str::trim).any(|allowed| allowed == "*" || allowed == namespace)
    }
}

impl From<ObjectMeta> for SecretMetadata {
    fn from(metadata: ObjectMeta) -> Self {
        Self {
            version: SecretVersion(metadata.uid, metadata.resource_version),
            allowed_namespaces: metadata.annotations.and_then(|mut all| all.remove(CONSENT_ANNOTATION)),
        }
    }
}

/// The uid and the resource version of a Secret. They change if and only if the Secret changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretVersion(Option<String>, Option<String>);

impl SecretVersion {
    /// The resource version, from which a watch can continue.
    #[must_use]
    pub fn resource_version(&self) -> &str {
        self.1.as_deref().unwrap_or_default()
    }
}

/// The parts of a Secret that are used.
///
/// The data are wiped from memory on drop. There is no `Debug`, because it could print them.
pub struct Secret {
    /// Its version, and who may use it.
    pub metadata: SecretMetadata,
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// The size of the data in bytes, if they were dropped because they are too large.
    too_large: Option<usize>,
}

impl Secret {
    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|value| value.as_slice())
    }

    /// Wipes the values of all keys except these. If these have more than [`MAX_SECRET_BYTES`]
    /// together, wipes them too, and [`select`] says so.
    pub fn keep(&mut self, keys: &BTreeSet<&str>) {
        self.data.retain(|key, _| keys.contains(key.as_str()));
        let bytes = self.data.values().map(|value| value.len()).sum();
        if bytes > MAX_SECRET_BYTES {
            self.too_large = Some(bytes);
            self.data.clear();
        }
    }

    /// Returns an error if the values of these keys are too large.
    fn check_size(&self, name: &SecretName, keys: &[&str]) -> Result<(), SecretError> {
        let bytes = || keys.iter().filter_map(|key| self.get(key)).map(<[u8]>::len).sum();
        match self.too_large.unwrap_or_else(bytes) {
            bytes if bytes > MAX_SECRET_BYTES => Err(SecretError::TooLarge { secret: name.clone(), bytes }),
            _ => Ok(()),
        }
    }
}

impl From<KubeSecret> for Secret {
    fn from(secret: KubeSecret) -> Self {
        let data = secret.data.unwrap_or_default().into_iter();
        Self {
            metadata: secret.metadata.into(),
            data: data.map(|(key, value)| (key, Zeroizing::new(value.0))).collect(),
            too_large: None,
        }
    }
}

/// Returns the keys of the Secret `name` that a message may use.
#[must_use]
pub fn used_keys<'a>(authentication: &'a Authentication, name: &SecretName) -> Vec<&'a str> {
    match authentication {
        Authentication::One(_) => KNOWN_KEYS.concat(),
        Authentication::Three { ca, cert, key } => {
            [ca, cert, key].into_iter().filter(|key| key.secret == *name).map(|key| key.key.as_str()).collect()
        }
    }
}

/// The CA, the certificate and the key of a message.
#[derive(Clone, Debug)]
pub struct PemFiles<'a> {
    /// CA certificates.
    pub ca: PemText<'a>,
    /// Client certificate.
    pub cert: PemText<'a>,
    /// Private key.
    pub key: PemText<'a>,
}

/// A text that should be PEM, and its location.
#[derive(Clone)]
pub struct PemText<'a> {
    /// The location for error messages: `key "cert" of Secret apps/certs`, or a file's name.
    pub place: String,
    /// The text. It was not parsed yet.
    pub bytes: &'a [u8],
}

impl std::fmt::Debug for PemText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The bytes may be a private key.
        f.debug_struct("PemText").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The name of the Secret and of its key for each PEM text, as a Pod mounts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLocations {
    /// CA certificates.
    pub ca: (String, String),
    /// Client certificate.
    pub cert: (String, String),
    /// Private key.
    pub key: (String, String),
}

impl KeyLocations {
    /// Returns the locations where [`select`] finds the PEM texts.
    #[must_use]
    pub fn find(authentication: &Authentication, secrets: &[Option<Arc<Secret>>]) -> Self {
        let key = |secret: &SecretName, key: &str| (secret.name.clone(), key.to_owned());
        match authentication {
            Authentication::One(name) => {
                let secret = secrets.first().and_then(Option::as_ref);
                let [ca, cert, private] = secret.map_or(&KNOWN_KEYS[0], |secret| best_keys(secret));
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
    /// The Secret is absent, or its owner does not allow its use.
    ///
    /// The text is the same for both. A user who may only create messages must not learn from it
    /// which Secrets exist.
    #[error(
        "Secret {secret} does not exist, or does not allow namespace {namespace} to use it: create it, or let its owner add {namespace} to its annotation {CONSENT_ANNOTATION}"
    )]
    Denied {
        /// The Secret.
        secret: SecretName,
        /// The message's namespace.
        namespace: String,
    },
    /// The Secret is absent, and would be in the message's own namespace.
    #[error(
        "Secret {secret} does not exist: create it, for example by kubectl -n {} create secret generic {} {files}",
        secret.namespace,
        secret.name
    )]
    Absent {
        /// The Secret.
        secret: SecretName,
        /// The kubectl arguments that fill it from files.
        files: String,
    },
    /// The API server did not return the Secret.
    #[error("Secret {secret} could not be read: {detail}")]
    Unreadable {
        /// The Secret.
        secret: SecretName,
        /// The error of the API server, and what to do.
        detail: String,
    },
    /// The Secret lacks a key.
    #[error("Secret {secret} lacks {missing}")]
    Incomplete {
        /// The Secret.
        secret: SecretName,
        /// The keys that are missing.
        missing: String,
    },
    /// The values of the keys that are used are too large.
    #[error(
        "Secret {secret} has {bytes} bytes of certificates and keys, but may have at most {MAX_SECRET_BYTES}: store only the broker's CA, the client certificate and its private key"
    )]
    TooLarge {
        /// The Secret.
        secret: SecretName,
        /// The size of the values.
        bytes: usize,
    },
}

impl Failure for SecretError {
    fn reason(&self) -> Reason {
        match self {
            Self::Denied { .. } | Self::Absent { .. } | Self::Unreadable { .. } => Reason::SecretNotFound,
            Self::Incomplete { .. } | Self::TooLarge { .. } => Reason::SecretInvalid,
        }
    }
}

/// Selects the CA, the certificate and the key for a message in `namespace`.
///
/// `secrets` holds the object for each name in [`Authentication::secrets`], in the same order.
pub fn select<'a>(
    authentication: &Authentication,
    namespace: &str,
    secrets: &'a [Option<Arc<Secret>>],
) -> Result<PemFiles<'a>, SecretError> {
    let mut found = authentication
        .secrets()
        .zip(secrets)
        .map(|(name, secret)| usable(authentication, name, secret.as_deref(), namespace))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    match (authentication, found.next(), found.next(), found.next()) {
        (Authentication::One(name), Some(secret), None, None) => all_in_one(name, secret),
        (Authentication::Three { ca, cert, key }, Some(a), Some(b), Some(c)) => {
            Ok(PemFiles { ca: one_key(ca, a)?, cert: one_key(cert, b)?, key: one_key(key, c)? })
        }
        // There are fewer Secrets than names. This is a bug of the caller, so the message is retried.
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
    match secret {
        Some(secret) if secret.metadata.allows(name, namespace) => {
            secret.check_size(name, &used_keys(authentication, name))?;
            Ok(secret)
        }
        None if name.namespace == namespace => Err(absent(authentication, name)),
        _ => Err(SecretError::Denied { secret: name.clone(), namespace: namespace.to_owned() }),
    }
}

/// Builds the error for an absent Secret, with the keys that the message expects in it.
fn absent(authentication: &Authentication, name: &SecretName) -> SecretError {
    let from = |key: &str, file: &str| format!("--from-file={key}={file}");
    let files: Vec<_> = match authentication {
        Authentication::One(_) => KNOWN_KEYS[0].iter().zip(KNOWN_KEYS[2]).map(|(key, file)| from(key, file)).collect(),
        Authentication::Three { ca, cert, key } => {
            let keys = [ca, cert, key].into_iter().zip(KNOWN_KEYS[2]);
            keys.filter(|(key, _)| key.secret == *name).map(|(key, file)| from(&key.key, file)).collect()
        }
    };
    SecretError::Absent { secret: name.clone(), files: files.join(" ") }
}

/// Returns the first known names of which all are there, or else the ones of which most are.
fn best_keys(secret: &Secret) -> &'static [&'static str; 3] {
    KNOWN_KEYS.iter().min_by_key(|keys| missing(keys, secret).len()).unwrap_or(&KNOWN_KEYS[0])
}

fn missing<'a>(keys: &[&'a str; 3], secret: &Secret) -> Vec<&'a str> {
    keys.iter().copied().filter(|key| secret.get(key).is_none()).collect()
}

fn all_in_one<'a>(name: &SecretName, secret: &'a Secret) -> Result<PemFiles<'a>, SecretError> {
    let keys = best_keys(secret);
    let pem = |key: &str| pem_text(name, key, secret);
    match (pem(keys[0]), pem(keys[1]), pem(keys[2])) {
        (Some(ca), Some(cert), Some(key)) => Ok(PemFiles { ca, cert, key }),
        _ => Err(SecretError::Incomplete { secret: name.clone(), missing: describe_missing(keys, secret) }),
    }
}

fn one_key<'a>(name: &SecretKey, secret: &'a Secret) -> Result<PemText<'a>, SecretError> {
    pem_text(&name.secret, &name.key, secret).ok_or_else(|| SecretError::Incomplete {
        secret: name.secret.clone(),
        missing: format!("the key {:?}", name.key),
    })
}

fn pem_text<'a>(name: &SecretName, key: &str, secret: &'a Secret) -> Option<PemText<'a>> {
    secret.get(key).map(|bytes| PemText { place: format!("key {key:?} of Secret {name}"), bytes })
}

/// Names each missing key and its content, or all known names if no key is there.
fn describe_missing(keys: &[&str; 3], secret: &Secret) -> String {
    const CONTENTS: [&str; 3] = ["the broker's CA", "the client certificate", "the private key"];
    let missing = missing(keys, secret);
    if missing.len() == keys.len() {
        return r#"the keys "ca", "cert" and "key" (or "ca.crt", "tls.crt" and "tls.key", or "cacert.pem", "cert.pem" and "key.pem"): add the broker's CA, the client certificate and its private key"#
            .to_owned();
    }
    let named = keys.iter().zip(CONTENTS).filter(|(key, _)| missing.contains(key));
    named.map(|(key, content)| format!("the key {key:?} with {content}")).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests;
