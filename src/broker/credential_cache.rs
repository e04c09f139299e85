//! Credentials that were read before, so that a Secret's PEM is parsed once and not for each
//! message that names it.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::credentials::{Credentials, CredentialsError, Fingerprint, fingerprint};
use fedora_message::message::secret::Material;

/// How many credentials are remembered; more than any cluster uses at a time.
const CAPACITY: usize = 1024;

/// Credentials by what they were read from.
#[derive(Debug, Default)]
pub struct CredentialCache(Mutex<HashMap<Fingerprint, Arc<Credentials>>>);

impl CredentialCache {
    /// The credentials that `material` holds, if they can be used `now`.
    pub fn credentials(
        &self,
        material: &Material<'_>,
        now: DateTime<Utc>,
    ) -> Result<Arc<Credentials>, CredentialsError> {
        let fingerprint = fingerprint(material);
        let known = self.0.lock().get(&fingerprint).cloned();
        let credentials = match known {
            Some(credentials) => credentials,
            None => self.remember(Credentials::from_pem(material, fingerprint)?),
        };
        credentials.check_validity(now, &material.cert.place)?;
        Ok(credentials)
    }

    fn remember(&self, credentials: Credentials) -> Arc<Credentials> {
        let credentials = Arc::new(credentials);
        let mut known = self.0.lock();
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(credentials.fingerprint, credentials.clone());
        credentials
    }
}
