//! A cache of parsed credentials: a Secret's PEM is parsed once, not for each message that names
//! it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::credentials::{Credentials, CredentialsError, Fingerprint, text_hash, text_hash_with_places};
use fedora_message::bounds::{MAX_KNOWN_BAD_CREDENTIALS, MAX_KNOWN_CREDENTIALS};
use fedora_message::message::secret::PemFiles;

/// Credentials by the hash of their PEM, and the reasons why others can't be used.
///
/// The cache keeps no key: credentials live for as long as a connection or a job uses them.
#[derive(Debug, Default)]
pub struct CredentialCache {
    usable: Mutex<HashMap<Fingerprint, Weak<Credentials>>>,
    /// The hash includes the places, because the errors name them.
    unusable: Mutex<HashMap<Fingerprint, CredentialsError>>,
}

impl CredentialCache {
    /// Returns the credentials in `material` if they are valid `now`.
    pub fn credentials(
        &self,
        material: &PemFiles<'_>,
        now: DateTime<Utc>,
    ) -> Result<Arc<Credentials>, CredentialsError> {
        let text = text_hash(material);
        let with_places = text_hash_with_places(&text, material);
        if let Some(error) = self.unusable.lock().get(&with_places).filter(|error| error.holds(now)) {
            return Err(error.clone());
        }
        let credentials = self.parse(material, text).and_then(|credentials| {
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

    fn parse(&self, material: &PemFiles<'_>, text: Fingerprint) -> Result<Arc<Credentials>, CredentialsError> {
        if let Some(credentials) = self.usable.lock().get(&text).and_then(Weak::upgrade) {
            return Ok(credentials);
        }
        let parsed = Credentials::from_pem(material)?;
        let mut usable = self.usable.lock();
        usable.retain(|_, credentials| credentials.strong_count() > 0);
        if usable.len() >= MAX_KNOWN_CREDENTIALS {
            usable.clear();
        }
        // Another text may hold the same certificates and key.
        let same = usable.values().filter_map(Weak::upgrade).find(|other| other.fingerprint == parsed.fingerprint);
        let credentials = same.unwrap_or_else(|| Arc::new(parsed));
        usable.insert(text, Arc::downgrade(&credentials));
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
        let commented = ClientCert { ca: format!("# the same\n{}", certificate.ca), ..certificate.clone() };
        let second = credentials(&cache, "b", &commented, now).expect("it is valid");
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
