//! A cache of parsed credentials: a Secret's PEM is parsed once, not for each message that names
//! it.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::credentials::{Credentials, CredentialsError, Fingerprint, fingerprint};
use fedora_message::message::secret::PemFiles;

/// The maximum number of cached credentials, which is more than any cluster uses at a time.
const CAPACITY: usize = 1024;

/// Credentials by the fingerprint of their PEM.
#[derive(Debug, Default)]
pub struct CredentialCache(Mutex<HashMap<Fingerprint, Arc<Credentials>>>);

impl CredentialCache {
    /// Returns the credentials in `material` if they are valid `now`.
    pub fn credentials(
        &self,
        material: &PemFiles<'_>,
        now: DateTime<Utc>,
    ) -> Result<Arc<Credentials>, CredentialsError> {
        let fingerprint = fingerprint(material);
        let cached = self.0.lock().get(&fingerprint).cloned();
        let credentials = match cached {
            Some(credentials) => credentials,
            None => self.insert(Credentials::from_pem(material, fingerprint)?),
        };
        credentials.check_validity(now, &material.cert.place)?;
        Ok(credentials)
    }

    fn insert(&self, credentials: Credentials) -> Arc<Credentials> {
        let credentials = Arc::new(credentials);
        let mut cached = self.0.lock();
        if cached.len() >= CAPACITY {
            cached.clear();
        }
        cached.insert(credentials.fingerprint, credentials.clone());
        credentials
    }
}
