//! The location of a client certificate and its CA: in one Secret, or in one key each of several
//! Secrets and `ConfigMaps`.
//!
//! This module checks only names. [`secret`](crate::message::secret) reads the Secrets.

use crate::api::names::SourceName;
use crate::api::names::{SourceKind, is_label, is_subdomain};
use crate::api::sender::{LocalKeyReference, SenderAuthenticationSpec};
use crate::api::v1alpha1::{AuthenticationSpec, SecretKeyReference, SecretReference};
use crate::message::invalid::{InvalidMessage, refuse};
use crate::text::quoted;

/// The location of a client certificate, with every namespace filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authentication {
    /// The client certificate and its key.
    pub client: ClientKeys,
    /// The CA certificates. `None` stands for the Secret with the client certificate if that has a CA,
    /// else for the operator's.
    pub ca: Option<SourceKey>,
}

/// The location of the client certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientKeys {
    /// One Secret, under known names.
    One(SourceName),
    /// One key of a Secret for each.
    Two {
        /// Client certificate.
        cert: SourceKey,
        /// Private key.
        key: SourceKey,
    },
}

impl Authentication {
    /// Returns the Secrets and `ConfigMaps` in the order CA, certificate, key. One may occur several
    /// times.
    pub fn sources(&self) -> impl Iterator<Item = &SourceName> {
        let client = match &self.client {
            ClientKeys::One(secret) => [Some(secret), None],
            ClientKeys::Two { cert, key } => [Some(&cert.source), Some(&key.source)],
        };
        self.ca.iter().map(|ca| &ca.source).chain(client.into_iter().flatten())
    }

    /// The Secret that holds the client certificate.
    #[must_use]
    pub fn certificate(&self) -> &SourceName {
        match &self.client {
            ClientKeys::One(secret) => secret,
            ClientKeys::Two { cert, .. } => &cert.source,
        }
    }
}

/// One key of a Secret or `ConfigMap`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// The object.
    pub source: SourceName,
    /// The key in its data.
    pub key: String,
}

/// Validates the location of a message's certificate. `namespace` is the default for its Secrets.
pub(crate) fn valid_authentication(
    spec: &AuthenticationSpec,
    namespace: &str,
) -> Result<Authentication, InvalidMessage> {
    let one = |field: &str, SecretReference { name, namespace: other }: &SecretReference| {
        let secret = source_name(SourceKind::Secret, field, name, other.as_deref(), namespace)?;
        Ok(Authentication { client: ClientKeys::One(secret), ca: None })
    };
    let key = |field: &str, SecretKeyReference { name, key, namespace: other }: &SecretKeyReference| {
        let source = source_name(SourceKind::Secret, field, name, other.as_deref(), namespace)?;
        source_key(source, field, key)
    };
    let keys = (&spec.ca_secret_ref, &spec.cert_secret_ref, &spec.key_secret_ref);
    match (&spec.secret_ref, &spec.secret_ref_camel, keys) {
        (Some(reference), None, (None, None, None)) => one("secret_ref", reference),
        (None, Some(reference), (None, None, None)) => one("secretRef", reference),
        (None, None, (Some(ca), Some(cert), Some(private))) => Ok(Authentication {
            ca: Some(key("caSecretRef", ca)?),
            client: ClientKeys::Two { cert: key("certSecretRef", cert)?, key: key("keySecretRef", private)? },
        }),
        (Some(_), ..) | (_, Some(_), _) | (None, None, (None, None, None)) => refuse(
            "spec.authentication must name the certificate in exactly one way: secretRef, or secret_ref, or all of caSecretRef, certSecretRef and keySecretRef",
        ),
        (None, None, _) => {
            refuse("spec.authentication needs all three of caSecretRef, certSecretRef and keySecretRef, or none")
        }
    }
}

/// Validates the location of a Sender's certificate, which is in the Sender's own namespace.
pub(crate) fn valid_sender_authentication(
    spec: &SenderAuthenticationSpec,
    namespace: &str,
) -> Result<Authentication, InvalidMessage> {
    let key = |kind: SourceKind, field: &str, LocalKeyReference { name, key }: &LocalKeyReference| {
        source_key(source_name(kind, field, name, None, namespace)?, field, key)
    };
    let secret = |field: &str, reference| key(SourceKind::Secret, field, reference);
    let client = match (&spec.secret_ref, &spec.cert_secret_ref, &spec.key_secret_ref) {
        (Some(one), None, None) => {
            ClientKeys::One(source_name(SourceKind::Secret, "secretRef", &one.name, None, namespace)?)
        }
        (None, Some(cert), Some(key)) => {
            ClientKeys::Two { cert: secret("certSecretRef", cert)?, key: secret("keySecretRef", key)? }
        }
        _ => {
            return refuse(
                "spec.authentication must name the certificate in exactly one way: secretRef, or both of certSecretRef and keySecretRef",
            );
        }
    };
    let ca = match (&spec.ca_secret_ref, &spec.ca_config_map_ref) {
        (None, None) => None,
        (Some(ca), None) => Some(secret("caSecretRef", ca)?),
        (None, Some(ca)) => Some(key(SourceKind::ConfigMap, "caConfigMapRef", ca)?),
        (Some(_), Some(_)) => {
            return refuse("spec.authentication must name the CA in at most one way: caSecretRef or caConfigMapRef");
        }
    };
    Ok(Authentication { client, ca })
}

fn source_key(source: SourceName, field: &str, key: &str) -> Result<SourceKey, InvalidMessage> {
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if !plain || !(1..=253).contains(&key.len()) {
        return refuse(format!(
            "spec.authentication.{field}.key is {}, but must be a key of a {}: at most 253 letters, digits, dashes, dots and underscores",
            quoted(key),
            source.kind
        ));
    }
    Ok(SourceKey { source, key: key.to_owned() })
}

/// Validates the name of an object by the API server's rules, because it becomes part of an API path.
fn source_name(
    kind: SourceKind,
    field: &str,
    name: &str,
    namespace: Option<&str>,
    default: &str,
) -> Result<SourceName, InvalidMessage> {
    check_name(&format!("spec.authentication.{field}"), &kind.to_string(), name, namespace)?;
    Ok(SourceName { kind, namespace: namespace.unwrap_or(default).to_owned(), name: name.to_owned() })
}

/// Checks a reference to an object of this kind by the API server's rules.
pub(crate) fn check_name(field: &str, kind: &str, name: &str, namespace: Option<&str>) -> Result<(), InvalidMessage> {
    if !is_subdomain(name) {
        return refuse(format!(
            "{field}.name is {}, but must be the name of a {kind}: at most 253 lower case letters, digits, dashes and dots",
            quoted(name)
        ));
    }
    if let Some(namespace) = namespace.filter(|namespace| !is_label(namespace)) {
        return refuse(format!(
            "{field}.namespace is {}, but must be the name of a namespace: at most 63 lower case letters, digits and dashes",
            quoted(namespace)
        ));
    }
    Ok(())
}
