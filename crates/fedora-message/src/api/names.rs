//! Rules for the names of Kubernetes objects. Names become part of API paths, so they are checked
//! first.
//!
//! Source: RFC 1123, as in Kubernetes' "Object Names and IDs".

use std::fmt;

/// The name of the Sender of messages that name neither a Sender nor a certificate.
pub const DEFAULT_SENDER: &str = "default";

/// The kind of an object that holds certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::Display)]
pub enum SourceKind {
    /// A Secret, for certificates and keys.
    Secret,
    /// A `ConfigMap`, only for the CA.
    ConfigMap,
}

/// A Secret or `ConfigMap` by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceName {
    /// Its kind.
    pub kind: SourceKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl SourceName {
    /// Names a Secret.
    #[must_use]
    pub fn secret(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: SourceKind::Secret, namespace: namespace.into(), name: name.into() }
    }

    /// Names a `ConfigMap`.
    #[must_use]
    pub fn config_map(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: SourceKind::ConfigMap, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A `FedoraMessageSender` by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SenderName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl SenderName {
    /// Names a Sender.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for SenderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FedoraMessageSender {}/{}", self.namespace, self.name)
    }
}

/// Returns true for a DNS label, the form of a namespace's name.
#[must_use]
pub fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_part(name)
}

/// Returns true for a DNS subdomain, the form of most objects' names.
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_part)
}

fn is_part(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
}
