//! Selects the CA, the certificate and the key from Secrets and `ConfigMaps`, and checks that the
//! message or Sender may use them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret as KubeSecret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use zeroize::Zeroizing;

use crate::api::names::{SourceKind, SourceName};
use crate::api::v1alpha1::PerEnvironment;
use crate::bounds::MAX_SECRET_BYTES;
use crate::message::authentication::{Authentication, ClientKeys, SourceKey};
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
    pub fn allows(&self, secret: &SourceName, namespace: &str) -> bool {
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
            version: SecretVersion { uid: metadata.uid, resource_version: metadata.resource_version },
            allowed_namespaces: metadata.annotations.and_then(|mut all| all.remove(CONSENT_ANNOTATION)),
        }
    }
}

/// The version of a Secret. It changes if and only if the Secret changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretVersion {
    /// The Secret's uid.
    pub uid: Option<String>,
    /// Its resource version.
    pub resource_version: Option<String>,
}

/// The parts of a Secret that are used.
///
/// The data are wiped from memory on drop. There is no `Debug`, because it could print them.
pub struct Secret {
    /// Its version, and who may use it.
    pub metadata: SecretMetadata,
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// The sizes in bytes of used values for which there was no room.
    dropped: BTreeMap<String, usize>,
}

impl Secret {
    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|value| value.as_slice())
    }

    /// Wipes the values of all keys except those of `own` and `others`. They keep at most
    /// [`MAX_SECRET_BYTES`] together. The `own` ones come first, so they are all kept unless they alone
    /// are too large. [`select`] says so then.
    pub fn keep(&mut self, own: &[&str], others: &BTreeSet<&str>) {
        let mut room = MAX_SECRET_BYTES;
        let mut all = std::mem::take(&mut self.data);
        for key in own.iter().chain(others) {
            let Some((key, value)) = all.remove_entry(*key) else { continue };
            if let Some(rest) = room.checked_sub(value.len()) {
                room = rest;
                self.data.insert(key, value);
            } else {
                self.dropped.insert(key, value.len());
            }
        }
    }

    /// Returns true if the values of these keys were kept, or are known to be too large.
    #[must_use]
    pub fn serves(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| !self.dropped.contains_key(*key)) || self.bytes(keys) > MAX_SECRET_BYTES
    }

    /// Returns the size of the values of these keys in bytes.
    fn bytes(&self, keys: &[&str]) -> usize {
        let size = |key: &&str| self.get(key).map(<[u8]>::len).or_else(|| self.dropped.get(*key).copied());
        keys.iter().filter_map(size).sum()
    }

    /// Returns an error if the values of these keys are too large.
    fn check_size(&self, name: &SourceName, keys: &[&str]) -> Result<(), SecretError> {
        match self.bytes(keys) {
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
            dropped: BTreeMap::new(),
        }
    }
}

impl From<ConfigMap> for Secret {
    fn from(map: ConfigMap) -> Self {
        let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        Self {
            metadata: map.metadata.into(),
            data: text.chain(binary).map(|(key, value)| (key, Zeroizing::new(value))).collect(),
            dropped: BTreeMap::new(),
        }
    }
}

/// Returns the keys of the object `name` that may be used, each once.
#[must_use]
pub fn used_keys<'a>(authentication: &'a Authentication, name: &SourceName) -> Vec<&'a str> {
    let mut keys = match &authentication.client {
        ClientKeys::One(secret) if secret == name => KNOWN_KEYS.concat(),
        ClientKeys::One(_) => Vec::new(),
        ClientKeys::Two { cert, key } => named_keys([cert, key], name).collect(),
    };
    keys.extend(named_keys(&authentication.ca, name));
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn named_keys<'a>(keys: impl IntoIterator<Item = &'a SourceKey>, name: &SourceName) -> impl Iterator<Item = &'a str> {
    keys.into_iter().filter(move |key| key.source == *name).map(|key| key.key.as_str())
}

/// The operator's own CA for each environment, for Senders and Secrets without one. A CA is not
/// secret.
pub type OperatorCas = PerEnvironment<Option<OperatorCa>>;

/// The operator's own CA, from a file.
#[derive(Clone, Debug)]
pub struct OperatorCa {
    /// The file, for error messages.
    pub place: String,
    /// CA certificates as PEM.
    pub pem: String,
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

/// The location of each PEM text, as a Pod mounts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLocations {
    /// CA certificates. `None` stands for the operator's.
    pub ca: Option<SourceKey>,
    /// Client certificate.
    pub cert: SourceKey,
    /// Private key.
    pub key: SourceKey,
}

impl KeyLocations {
    /// Returns the locations where [`select`] finds the PEM texts.
    #[must_use]
    pub fn find(authentication: &Authentication, secrets: &[Option<Arc<Secret>>]) -> Self {
        let ca = authentication.ca.clone();
        match &authentication.client {
            ClientKeys::One(name) => {
                let secret = secrets.last().and_then(Option::as_deref);
                let keys = secret.map_or(&KNOWN_KEYS[0], best_keys);
                let [own_ca, cert, private] = keys.map(|key| SourceKey { source: name.clone(), key: key.to_owned() });
                let has_ca = secret.is_none_or(|secret| secret.get(&own_ca.key).is_some());
                Self { ca: ca.or(has_ca.then_some(own_ca)), cert, key: private }
            }
            ClientKeys::Two { cert, key } => Self { ca, cert: cert.clone(), key: key.clone() },
        }
    }
}

/// Why a Secret or `ConfigMap` can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The Secret is absent, or its owner does not allow its use.
    ///
    /// The text is the same for both. A user who may only create messages must not learn from it
    /// which Secrets exist.
    #[error(
        "{secret} does not exist, or does not allow namespace {namespace} to use it: create it, or let its owner add {namespace} to its annotation {CONSENT_ANNOTATION}"
    )]
    Denied {
        /// The Secret.
        secret: SourceName,
        /// The message's namespace.
        namespace: String,
    },
    /// The Secret is absent, and would be in the message's own namespace.
    #[error(
        "{secret} does not exist: create it, for example by kubectl -n {} create {} {} {files}",
        secret.namespace,
        match secret.kind { SourceKind::Secret => "secret generic", SourceKind::ConfigMap => "configmap" },
        secret.name
    )]
    Absent {
        /// The Secret.
        secret: SourceName,
        /// The kubectl arguments that fill it from files.
        files: String,
    },
    /// The API server did not return the Secret.
    #[error("{secret} could not be read: {detail}")]
    Unreadable {
        /// The Secret.
        secret: SourceName,
        /// The error of the API server, and what to do.
        detail: String,
    },
    /// The Secret lacks a key.
    #[error("{secret} lacks {missing}")]
    Incomplete {
        /// The Secret.
        secret: SourceName,
        /// The keys that are missing.
        missing: String,
    },
    /// Nothing has a CA.
    #[error(
        "{0} has no CA, and neither has the operator: add the broker's CA to it, or name it in caSecretRef or caConfigMapRef of a FedoraMessageSender, or ask the operator's administrators for its --prod-ca-file or --stg-ca-file"
    )]
    NoCa(SourceName),
    /// The values of the keys that are used are too large.
    #[error(
        "{secret} has {bytes} bytes of certificates and keys, but may have at most {MAX_SECRET_BYTES}: store only the broker's CA, the client certificate and its private key"
    )]
    TooLarge {
        /// The Secret.
        secret: SourceName,
        /// The size of the values.
        bytes: usize,
    },
}

impl Failure for SecretError {
    fn reason(&self) -> Reason {
        match self {
            Self::Denied { .. } | Self::Absent { .. } | Self::Unreadable { .. } => Reason::SecretNotFound,
            Self::Incomplete { .. } | Self::NoCa(_) | Self::TooLarge { .. } => Reason::SecretInvalid,
        }
    }
}

/// Selects the CA, the certificate and the key for a message or Sender in `namespace`.
///
/// `secrets` holds the object for each name in [`Authentication::sources`], in the same order.
/// `operator_ca` is used if none of them has a CA.
pub fn select<'a>(
    authentication: &Authentication,
    namespace: &str,
    secrets: &'a [Option<Arc<Secret>>],
    operator_ca: Option<&'a OperatorCa>,
) -> Result<PemFiles<'a>, SecretError> {
    let mut found = authentication
        .sources()
        .zip(secrets)
        .map(|(name, secret)| usable(authentication, name, secret.as_deref(), namespace))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    // There may be fewer Secrets than names. That is a bug of the caller, so the message is retried.
    let mut next = |name| found.next().ok_or_else(|| absent(authentication, name));
    let named_ca = authentication.ca.as_ref().map(|ca| one_key(ca, next(&ca.source)?)).transpose()?;
    let own_ca = || operator_ca.map(|ca| PemText { place: ca.place.clone(), bytes: ca.pem.as_bytes() });
    match &authentication.client {
        ClientKeys::One(name) => all_in_one(name, next(name)?, named_ca, own_ca),
        ClientKeys::Two { cert, key } => {
            let (cert_pem, key_pem) = (one_key(cert, next(&cert.source)?)?, one_key(key, next(&key.source)?)?);
            let ca = named_ca.or_else(own_ca).ok_or_else(|| SecretError::NoCa(cert.source.clone()))?;
            Ok(PemFiles { ca, cert: cert_pem, key: key_pem })
        }
    }
}

fn usable<'a>(
    authentication: &Authentication,
    name: &SourceName,
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

/// Builds the error for an absent object, with the keys that are expected in it.
fn absent(authentication: &Authentication, name: &SourceName) -> SecretError {
    let from = |key: &str, file: &str| format!("--from-file={key}={file}");
    let [ca_file, cert_file, key_file] = KNOWN_KEYS[2];
    let of_ca = authentication.ca.iter().map(|ca| (ca, ca_file));
    let mut files: Vec<_> = match &authentication.client {
        ClientKeys::One(_) => Vec::new(),
        ClientKeys::Two { cert, key } => vec![(cert, cert_file), (key, key_file)],
    };
    files.splice(0..0, of_ca);
    let mut files: Vec<_> =
        files.into_iter().filter(|(key, _)| key.source == *name).map(|(key, file)| from(&key.key, file)).collect();
    if matches!(&authentication.client, ClientKeys::One(secret) if secret == name) {
        let skipped = usize::from(authentication.ca.is_some());
        files.extend(KNOWN_KEYS[0].iter().zip(KNOWN_KEYS[2]).skip(skipped).map(|(key, file)| from(key, file)));
    }
    SecretError::Absent { secret: name.clone(), files: files.join(" ") }
}

/// Returns the first known names of which all are there, or else the ones of which most are.
fn best_keys(secret: &Secret) -> &'static [&'static str; 3] {
    KNOWN_KEYS.iter().min_by_key(|keys| missing(keys, secret).len()).unwrap_or(&KNOWN_KEYS[0])
}

fn missing<'a>(keys: &[&'a str; 3], secret: &Secret) -> Vec<&'a str> {
    keys.iter().copied().filter(|key| secret.get(key).is_none()).collect()
}

/// Selects from one Secret with known keys. `named_ca` goes before the Secret's own CA, and that before
/// `operator_ca`.
fn all_in_one<'a>(
    name: &SourceName,
    secret: &'a Secret,
    named_ca: Option<PemText<'a>>,
    operator_ca: impl FnOnce() -> Option<PemText<'a>>,
) -> Result<PemFiles<'a>, SecretError> {
    let keys = best_keys(secret);
    let pem = |key: &str| pem_text(name, key, secret);
    let ca = named_ca.or_else(|| pem(keys[0])).or_else(operator_ca);
    match (ca, pem(keys[1]), pem(keys[2])) {
        (Some(ca), Some(cert), Some(key)) => Ok(PemFiles { ca, cert, key }),
        (ca, ..) => {
            let missing = describe_missing(keys, secret, ca.is_some());
            Err(SecretError::Incomplete { secret: name.clone(), missing })
        }
    }
}

fn one_key<'a>(name: &SourceKey, secret: &'a Secret) -> Result<PemText<'a>, SecretError> {
    pem_text(&name.source, &name.key, secret).ok_or_else(|| SecretError::Incomplete {
        secret: name.source.clone(),
        missing: format!("the key {:?}", name.key),
    })
}

fn pem_text<'a>(name: &SourceName, key: &str, secret: &'a Secret) -> Option<PemText<'a>> {
    secret.get(key).map(|bytes| PemText { place: format!("key {key:?} of {name}"), bytes })
}

/// Names each missing key and its content, or all known names if no key is there. `has_ca` is true if the
/// CA is elsewhere.
fn describe_missing(keys: &[&str; 3], secret: &Secret, has_ca: bool) -> String {
    const CONTENTS: [&str; 3] = ["the broker's CA", "the client certificate", "the private key"];
    let missing = missing(keys, secret);
    if missing.len() == keys.len() {
        return r#"the keys "ca", "cert" and "key" (or "ca.crt", "tls.crt" and "tls.key", or "cacert.pem", "cert.pem" and "key.pem"): add the broker's CA, the client certificate and its private key"#
            .to_owned();
    }
    let named = keys.iter().zip(CONTENTS).skip(has_ca.into()).filter(|(key, _)| missing.contains(key));
    named.map(|(key, content)| format!("the key {key:?} with {content}")).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests;
