//! Tracks the client certificates in use: when they expire, and whether a warning about that is due.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use fedora_message::api::names::SourceName;
use fedora_message::bounds::{MAX_KNOWN_CERTIFICATES, MAX_KNOWN_CERTIFICATES_PER_NAMESPACE};

/// The time between two warnings that a certificate expires soon.
const DAY: TimeDelta = TimeDelta::days(1);
/// The time for which a certificate counts as in use after a message or Sender named it. Senders are checked once a
/// day.
const IN_USE: TimeDelta = TimeDelta::hours(25);

/// The reason of the Event that a certificate expires soon. It is no message's reason, because
/// messages are sent all the same.
pub const CERTIFICATE_EXPIRES: &str = "CertificateExpires";

/// The certificates that messages or Senders named in the last day, by Secret.
#[derive(Debug, Default)]
pub struct CertificateTracker(Mutex<HashMap<SourceName, Certificate>>);

#[derive(Debug)]
struct Certificate {
    not_after: DateTime<Utc>,
    used: DateTime<Utc>,
    last_reported: Option<DateTime<Utc>>,
}

impl CertificateTracker {
    /// Notes that a message uses, at `now`, a certificate that is valid until `not_after`.
    pub fn note(&self, secret: &SourceName, not_after: DateTime<Utc>, now: DateTime<Utc>) {
        let mut known = self.0.lock();
        if let Some(certificate) = known.get_mut(secret) {
            (certificate.not_after, certificate.used) = (not_after, now);
            return;
        }
        let has_room = |known: &HashMap<SourceName, Certificate>| {
            let own = known.keys().filter(|other| other.namespace == secret.namespace).count();
            known.len() < MAX_KNOWN_CERTIFICATES && own < MAX_KNOWN_CERTIFICATES_PER_NAMESPACE
        };
        if !has_room(&known) {
            known.retain(|_, certificate| now - certificate.used < IN_USE);
        }
        if has_room(&known) {
            known.insert(secret.clone(), Certificate { not_after, used: now, last_reported: None });
        }
    }

    /// Returns true if a warning that this certificate expires soon is due: once a day.
    pub fn is_warning_due(&self, secret: &SourceName, now: DateTime<Utc>) -> bool {
        let mut known = self.0.lock();
        let due = known
            .get_mut(secret)
            .filter(|certificate| certificate.last_reported.is_none_or(|last_reported| now - last_reported >= DAY));
        due.map(|certificate| certificate.last_reported = Some(now)).is_some()
    }

    /// Returns when each certificate in use expires.
    pub fn in_use(&self, now: DateTime<Utc>) -> Vec<(SourceName, DateTime<Utc>)> {
        let mut known = self.0.lock();
        known.retain(|_, certificate| now - certificate.used < IN_USE);
        known.iter().map(|(secret, certificate)| (secret.clone(), certificate.not_after)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(number: usize) -> SourceName {
        SourceName::secret("apps", format!("certs{number}"))
    }

    #[test]
    fn warns_once_a_day() {
        let (certificates, now) = (CertificateTracker::default(), Utc::now());
        assert!(!certificates.is_warning_due(&secret(1), now), "no message has named it");
        certificates.note(&secret(1), now, now);
        assert!(certificates.is_warning_due(&secret(1), now));
        assert!(!certificates.is_warning_due(&secret(1), now + TimeDelta::hours(23)));
        assert!(certificates.is_warning_due(&secret(1), now + TimeDelta::hours(24)));
    }

    #[test]
    fn a_certificate_that_no_message_has_named_for_a_day_is_forgotten() {
        let (certificates, now) = (CertificateTracker::default(), Utc::now());
        certificates.note(&secret(1), now, now);
        certificates.note(&secret(2), now, now + TimeDelta::hours(2));
        assert_eq!(certificates.in_use(now + TimeDelta::hours(25)), [(secret(2), now)]);
    }

    #[test]
    fn one_namespace_takes_no_series_of_another() {
        let (certificates, now) = (CertificateTracker::default(), Utc::now());
        for number in 0..2 * MAX_KNOWN_CERTIFICATES {
            certificates.note(&secret(number), now, now);
        }
        assert_eq!(certificates.in_use(now).len(), MAX_KNOWN_CERTIFICATES_PER_NAMESPACE);
        for number in 0..2 * MAX_KNOWN_CERTIFICATES {
            let of_neighbor = SourceName { namespace: format!("neighbor{number}"), ..secret(0) };
            certificates.note(&of_neighbor, now, now);
        }
        assert_eq!(certificates.in_use(now).len(), MAX_KNOWN_CERTIFICATES, "and all have a limit");
    }
}
