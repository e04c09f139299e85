//! Reads the credentials that a message or Sender names: its Secrets, the PEM in them, and when the
//! certificate expires.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::authentication::Authentication;
use fedora_message::message::secret::{OperatorCas, Secret, SecretError, select};
use fedora_message::policy::outcome::{Failure, Reason};

use crate::broker::credential_cache::CredentialCache;
use crate::broker::credentials::{Credentials, CredentialsError};
use crate::certificates::CertificateTracker;
use crate::cluster::secrets::Secrets;

/// Reads credentials, each once for many messages.
pub struct CredentialReader {
    /// Reads Secrets.
    pub secrets: Secrets,
    /// The operator's own CAs.
    cas: OperatorCas,
    /// Holds the credentials that were read from Secrets.
    cache: CredentialCache,
    /// Tracks when certificates expire.
    pub certificates: CertificateTracker,
}

/// Credentials, and where they come from.
pub struct ReadCredentials {
    /// The credentials.
    pub credentials: Arc<Credentials>,
    /// The Secrets in which they are, in the order of [`Authentication::sources`].
    pub secrets: Vec<Option<Arc<Secret>>>,
    /// A warning, if the certificate or the broker's CA expires soon.
    pub warning: Option<String>,
}

impl CredentialReader {
    /// Creates a reader that has read nothing.
    #[must_use]
    pub fn new(secrets: Secrets, cas: OperatorCas) -> Self {
        Self { secrets, cas, cache: CredentialCache::default(), certificates: CertificateTracker::default() }
    }

    /// Reads the credentials that `authentication` names, on behalf of the namespace `owner`.
    pub async fn read(
        &self,
        authentication: &Authentication,
        owner: &str,
        environment: Environment,
        now: DateTime<Utc>,
    ) -> Result<ReadCredentials, CredentialReadError> {
        let secrets = self.secrets.read(authentication, owner).await?;
        let pem = select(authentication, owner, &secrets, self.cas.of(environment).as_ref())?;
        let credentials = self.cache.credentials(&pem, now);
        let not_after = match &credentials {
            Ok(credentials) => Some(credentials.not_after),
            Err(CredentialsError::Expired { at, .. }) => Some(*at),
            Err(CredentialsError::Invalid(_) | CredentialsError::NotYetValid { .. }) => None,
        };
        if let Some(not_after) = not_after {
            self.certificates.note(authentication.certificate(), not_after, now);
        }
        let credentials = credentials?;
        let warning = credentials.warning(now, &pem);
        Ok(ReadCredentials { credentials, secrets, warning })
    }
}

/// Why there are no credentials.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialReadError {
    /// A Secret can't be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The PEM in it can't be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl Failure for CredentialReadError {
    fn reason(&self) -> Reason {
        match self {
            Self::Secret(error) => error.reason(),
            Self::Credentials(error) => error.reason(),
        }
    }

    fn not_before(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Secret(error) => error.not_before(),
            Self::Credentials(error) => error.not_before(),
        }
    }
}
