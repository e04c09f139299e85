//! The location of a message's client certificate: one Secret, or one key in each of three Secrets.
//!
//! This module checks only names. [`secret`](crate::message::secret) reads the Secrets.

pub use crate::api::names::SecretName;
use crate::api::names::{is_label, is_subdomain};
use crate::api::v1alpha1::{AuthenticationSpec, SecretKeyReference, SecretReference};
use crate::message::invalid::{InvalidMessage, refuse};
use crate::text::quoted;

/// The location of the client certificate, with every namespace filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// One Secret with CA, certificate and key, under known names.
    One(SecretName),
    /// One Secret and its key for each.
    Three {
        /// CA certificates.
        ca: SecretKey,
        /// Client certificate.
        cert: SecretKey,
        /// Private key.
        key: SecretKey,
    },
}

impl Authentication {
    /// Returns the Secrets in the order CA, certificate, key. One may occur several times.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        match self {
            Self::One(secret) => [Some(secret), None, None],
            Self::Three { ca, cert, key } => [Some(&ca.secret), Some(&cert.secret), Some(&key.secret)],
        }
        .into_iter()
        .flatten()
    }

    /// The Secret that holds the client certificate.
    #[must_use]
    pub fn certificate(&self) -> &SecretName {
        match self {
            Self::One(secret) => secret,
            Self::Three { cert, .. } => &cert.secret,
        }
    }
}

/// One key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretKey {
    /// The Secret.
    pub secret: SecretName,
    /// The key in its data.
    pub key: String,
}

/// Validates the location of the certificate. `namespace` is the default for its Secrets.
pub(crate) fn valid_authentication(
    spec: &AuthenticationSpec,
    namespace: &str,
) -> Result<Authentication, InvalidMessage> {
    let one = |field: &str, reference: &SecretReference| {
        secret_name(field, &reference.name, reference.namespace.as_deref(), namespace).map(Authentication::One)
    };
    let key = |field: &str, reference: &SecretKeyReference| {
        let secret = secret_name(field, &reference.name, reference.namespace.as_deref(), namespace)?;
        let plain = reference.key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if !plain || !(1..=253).contains(&reference.key.len()) {
            return refuse(format!(
                "spec.authentication.{field}.key is {}, but must be a key of a Secret: at most 253 letters, digits, dashes, dots and underscores",
                quoted(&reference.key)
            ));
        }
        Ok(SecretKey { secret, key: reference.key.clone() })
    };
    match spec {
        AuthenticationSpec {
            secret_ref: Some(reference),
            secret_ref_camel: None,
            ca_secret_ref: None,
            cert_secret_ref: None,
            key_secret_ref: None,
        } => one("secret_ref", reference),
        AuthenticationSpec {
            secret_ref: None,
            secret_ref_camel: Some(reference),
            ca_secret_ref: None,
            cert_secret_ref: None,
            key_secret_ref: None,
        } => one("secretRef", reference),
        AuthenticationSpec {
            secret_ref: None,
            secret_ref_camel: None,
            ca_secret_ref: Some(ca),
            cert_secret_ref: Some(cert),
            key_secret_ref: Some(private),
        } => Ok(Authentication::Three {
            ca: key("caSecretRef", ca)?,
            cert: key("certSecretRef", cert)?,
            key: key("keySecretRef", private)?,
        }),
        AuthenticationSpec {
            secret_ref: None,
            secret_ref_camel: None,
            ca_secret_ref,
            cert_secret_ref,
            key_secret_ref,
        } if ca_secret_ref.is_some() || cert_secret_ref.is_some() || key_secret_ref.is_some() => {
            refuse("spec.authentication needs all three of caSecretRef, certSecretRef and keySecretRef, or none")
        }
        _ => refuse(
            "spec.authentication must name the certificate in exactly one way: secretRef, or secret_ref, or all of caSecretRef, certSecretRef and keySecretRef",
        ),
    }
}

/// Validates the name of a Secret by the API server's rules, because it becomes part of an API path.
fn secret_name(field: &str, name: &str, namespace: Option<&str>, default: &str) -> Result<SecretName, InvalidMessage> {
    if !is_subdomain(name) {
        return refuse(format!(
            "spec.authentication.{field}.name is {}, but must be the name of a Secret: at most 253 lower case letters, digits, dashes and dots",
            quoted(name)
        ));
    }
    if let Some(namespace) = namespace.filter(|namespace| !is_label(namespace)) {
        return refuse(format!(
            "spec.authentication.{field}.namespace is {}, but must be the name of a namespace: at most 63 lower case letters, digits and dashes",
            quoted(namespace)
        ));
    }
    Ok(SecretName { namespace: namespace.unwrap_or(default).to_owned(), name: name.to_owned() })
}
