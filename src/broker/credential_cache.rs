//! A cache of parsed credentials: a Secret's PEM is parsed once, not for each message that names
//! it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::credentials::{Credentials, CredentialsError, Fingerprint, fingerprint, fingerprint_with_places};
use fedora_message::bounds::MAX_KNOWN_BAD_CREDENTIALS;
use fedora_message::message::secret::PemFiles;

/// Credentials by the fingerprint of their PEM, and the reasons why others can't be used.
///
/// The cache keeps no key: credentials live for as long as a connection or a job uses them.
#[derive(Debug, Default)]
pub struct CredentialCache {
    usable: Mutex<HashMap<Fingerprint, Weak<Credentials>>>,
    /// The fingerprint includes the places, because the errors name them.
    unusable: Mutex<HashMap<Fingerprint, CredentialsError>>,
}

impl CredentialCache {
    /// Returns the credentials in `material` if they are valid `now`.
    pub fn credentials(
        &self,
        material: &PemFiles<'_>,
        now: DateTime<Utc>,
    ) -> Result<Arc<Credentials>, CredentialsError> {
        let fingerprint = fingerprint(material);
        let with_places = fingerprint_with_places(&fingerprint, material);
        if let Some(error) = self.unusable.lock().get(&with_places).filter(|error| error.holds(now)) {
            return Err(error.clone());
        }
        let credentials = self.parse(material, fingerprint).and_then(|credentials| {
            credentials.check_validity(now, &material.cert.place)?;
            Ok(credentials)
        });
        if let Err(error) = &credentials {
            let mut unusable = self.unusable.lock();
            if unusable.len() >= MAX_KNOWN_BAD_CREDENTIALS {
                unusable.clear();
            }
            unusable.insert(with_places, error.clone());
        }
        credentials
    }

    fn parse(&self, material: &PemFiles<'_>, fingerprint: Fingerprint) -> Result<Arc<Credentials>, CredentialsError> {
        if let Some(credentials) = self.usable.lock().get(&fingerprint).and_then(Weak::upgrade) {
            return Ok(credentials);
        }
        let credentials = Arc::new(Credentials::from_pem(material, fingerprint)?);
        let mut usable = self.usable.lock();
        usable.retain(|_, credentials| credentials.strong_count() > 0);
        usable.insert(fingerprint, Arc::downgrade(&credentials));
        Ok(credentials)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use fedora_message::message::secret::PemText;
    use rig::{ClientCert, Pki};

    use super::*;

    fn credentials(
        cache: &CredentialCache,
        place: &str,
        certificate: &ClientCert,
        now: DateTime<Utc>,
    ) -> Result<Arc<Credentials>, CredentialsError> {
        let part = |text: &'static str, pem| PemText { place: format!("{text} of {place}"), bytes: pem };
        let ClientCert { ca, cert, key } = certificate;
        let material = PemFiles {
            ca: part("ca", ca.as_bytes()),
            cert: part("cert", cert.as_bytes()),
            key: part("key", key.as_bytes()),
        };
        cache.credentials(&material, now)
    }

    fn issued() -> ClientCert {
        Pki::new("a CA").expect("a CA").client("nice-app").expect("a certificate")
    }

    #[test]
    fn shares_credentials_and_keeps_none() {
        let (cache, certificate, now) = (CredentialCache::default(), issued(), Utc::now());
        let first = credentials(&cache, "a", &certificate, now).expect("it is valid");
        let second = credentials(&cache, "b", &certificate, now).expect("it is valid");
        assert!(Arc::ptr_eq(&first, &second), "one connection serves both");
        let weak = Arc::downgrade(&first);
        drop((first, second));
        assert!(weak.upgrade().is_none(), "the key is gone with its last user");
    }

    #[test]
    fn remembers_unusable_credentials() {
        let (cache, now) = (CredentialCache::default(), Utc::now());
        let certificate = ClientCert { key: "no key".to_owned(), ..issued() };
        for place in ["a", "a", "b"] {
            let error = credentials(&cache, place, &certificate, now).expect_err("it has no key");
            assert!(error.to_string().starts_with(&format!("key of {place} ")), "{error}");
        }
        assert_eq!(cache.unusable.lock().len(), 2);
        for number in 0..=MAX_KNOWN_BAD_CREDENTIALS {
            assert!(credentials(&cache, &number.to_string(), &certificate, now).is_err());
        }
        assert!(cache.unusable.lock().len() <= MAX_KNOWN_BAD_CREDENTIALS);
    }

    /// The clock may have been wrong.
    #[test]
    fn remembered_expiry_ends_with_the_clock() {
        let (cache, certificate, now) = (CredentialCache::default(), issued(), Utc::now());
        for (later, usable) in [(0, true), (100_000, false), (0, true), (-100_000, false), (0, true)] {
            let found = credentials(&cache, "a", &certificate, now + TimeDelta::days(later));
            assert_eq!(found.is_ok(), usable, "{later}: {found:?}");
        }
    }
}
