//! Reads messages again whose bodies stayed with the API server while they waited
//! (docs/decisions/0025).

use std::collections::HashMap;
use std::time::Duration;

use fedora_message::api::object::FedoraMessage;
use fedora_message::policy::backoff;
use kube::Client;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::list;
use crate::log_throttle::LogThrottle;

/// The shortest time before a message is read again.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The pauses stop growing after so many failures in a row, at half a minute: a read costs little,
/// and the messages are sent soon after the cause is gone.
const MAX_FAILURES: u32 = 6;
/// The failures of a namespace without requests for this time are forgotten, as it may be deleted.
const FORGET: Duration = Duration::from_mins(5);

/// Reads messages again. If that fails, the messages of the namespace wait for a time that grows.
/// Others don't.
pub struct Refetcher {
    client: Client,
    pauses: Mutex<HashMap<String, Pause>>,
    log_throttle: Mutex<LogThrottle>,
}

/// A namespace's pause after failures in a row.
#[derive(Clone, Copy)]
struct Pause {
    failures: u32,
    until: Instant,
}

impl Refetcher {
    /// Creates a refetcher that uses this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, pauses: Mutex::default(), log_throttle: Mutex::default() }
    }

    /// Returns `message` with its body. An error is the time to try again: the message can't be
    /// read now, or it has changed, and the watch will report what it is.
    pub async fn read(&self, message: &FedoraMessage) -> Result<FedoraMessage, Instant> {
        let namespace = message.namespace();
        if let Some(pause) = self.pauses.lock().get(namespace).filter(|pause| Instant::now() < pause.until) {
            return Err(pause.until);
        }
        match list::get::<FedoraMessage>(&self.client, namespace, message.name()).await {
            Ok(found) => {
                self.pauses.lock().remove(namespace);
                found.filter(|found| is_same(found, message)).ok_or_else(|| {
                    debug!(uid = message.uid(), "the object has changed, or is gone");
                    pause(1)
                })
            }
            Err(error) => {
                if self.log_throttle.lock().is_due(namespace, Instant::now()) {
                    warn!(%error, namespace, "large messages can't be read again now, so they wait");
                }
                Err(self.prolong(namespace))
            }
        }
    }

    /// Returns the end of a namespace's pause after one more failure. Failures during a pause, of
    /// requests that began before, don't make it longer.
    fn prolong(&self, namespace: &str) -> Instant {
        let mut pauses = self.pauses.lock();
        pauses.retain(|_, pause| Instant::now() < pause.until + FORGET);
        let before = pauses.get(namespace).copied();
        if let Some(pause) = before.filter(|pause| Instant::now() < pause.until) {
            return pause.until;
        }
        let failures = before.map_or(1, |pause| (pause.failures + 1).min(MAX_FAILURES));
        let until = pause(failures);
        pauses.insert(namespace.to_owned(), Pause { failures, until });
        until
    }
}

/// Returns the end of a pause that begins now.
fn pause(failures: u32) -> Instant {
    Instant::now() + MIN_PAUSE + backoff::delay(failures, fastrand::f64()).to_std().unwrap_or_default()
}

/// Returns true if this is still the same resource with the same spec and retry annotation, and it
/// is neither sent nor being deleted.
fn is_same(found: &FedoraMessage, message: &FedoraMessage) -> bool {
    let unchanged = found.metadata.generation == message.metadata.generation && found.retry == message.retry;
    let sent = found.status.as_ref().is_some_and(|status| status.status == Some(true));
    found.uid() == message.uid() && unchanged && !sent && !found.deleting
}

#[cfg(test)]
mod tests {
    use fedora_message::fixture::{example, message, with};
    use tokio::time::sleep_until;

    use super::*;
    use crate::cluster::fake_api::{Reply, client, refusal};

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_in_a_namespace_that_can_not_be_read() {
        let replies = (0..1_000).map(|_| refusal(403, "no"));
        let (client, requests) = client(replies);
        let (refetcher, waiting) = (Refetcher::new(client), message(&example()));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_hours(1) {
            let again = refetcher.read(&waiting).await.expect_err("it is forbidden");
            assert_eq!(refetcher.read(&waiting).await.expect_err("it waits"), again);
            sleep_until(again).await;
        }
        let made = requests.take().len();
        assert!((60..450).contains(&made), "{made}");
    }

    #[tokio::test]
    async fn message_in_deletion_is_gone() {
        let deleting = with("/metadata/deletionTimestamp", "2026-01-01T12:00:00Z".into());
        let (client, _) = client([Reply::Json(deleting)]);
        assert!(Refetcher::new(client).read(&message(&example())).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn other_namespaces_are_read() {
        let other = with("/metadata/namespace", "others".into());
        let (client, _) = client([refusal(403, "no"), Reply::Json(other.clone()), Reply::Json(example())]);
        let refetcher = Refetcher::new(client);
        let again = refetcher.read(&message(&example())).await.expect_err("it is forbidden");
        assert!(refetcher.read(&message(&other)).await.is_ok());
        sleep_until(again).await;
        assert!(refetcher.read(&message(&example())).await.is_ok());
    }
}
