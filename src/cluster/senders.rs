//! Holds the Senders, as the watch on them reports them, and writes their statuses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fedora_message::api::names::{SenderName, SourceName};
use fedora_message::api::object::{FedoraMessage, Terms};
use fedora_message::api::sender::{FedoraMessageSender, FedoraMessageSenderStatus};
use fedora_message::bounds::{MAX_SENDERS, MAX_SENDERS_PER_NAMESPACE};
use fedora_message::message::invalid::InvalidMessage;
use fedora_message::message::sender::{FoundSender, Sender, SenderError, usable};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::client::FIELD_MANAGER;
use super::list::{ListError, answer};
use super::watch::INSTALL;

/// A message waits this long for the first list of Senders.
const FIRST_READ: Duration = Duration::from_secs(10);

/// The Senders that exist.
#[derive(Default)]
pub struct Senders {
    known: Mutex<Known>,
    /// Tells when all Senders were listed, or why they can't be.
    listed: watch::Sender<Listed>,
    /// The Senders whose messages failed since the last check, or that may work again.
    in_doubt: Mutex<BTreeSet<SenderName>>,
    doubted: Notify,
}

#[derive(Default)]
struct Known {
    senders: HashMap<SenderName, KnownSender>,
    /// The number of Senders that are held, by namespace.
    counts: HashMap<String, usize>,
}

struct KnownSender {
    found: FoundSender,
    report: SenderReport,
}

/// The result of the last check of a Sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderReport {
    /// True if the broker accepted it. `None` before its first check.
    pub ready: Option<bool>,
}

/// The progress of the first list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Listed {
    #[default]
    NotYet,
    Done,
    Failed(String),
}

impl Senders {
    /// Returns the Sender that a message in `namespace` names.
    pub async fn find(&self, name: &SenderName, namespace: &str) -> Result<Arc<Sender>, SenderError> {
        let mut listed = self.listed.subscribe();
        let unreadable = |detail: String| SenderError::Unreadable { sender: name.clone(), detail };
        match timeout(FIRST_READ, listed.wait_for(|listed| *listed != Listed::NotYet)).await {
            Ok(Ok(listed)) => {
                if let Listed::Failed(detail) = &*listed {
                    return Err(unreadable(detail.clone()));
                }
            }
            Ok(Err(_)) | Err(_) => return Err(unreadable(ListError::Silent.to_string())),
        }
        let known = self.known.lock();
        usable(name, namespace, known.senders.get(name).map(|known| &known.found))
    }

    /// Returns the fields that a Sender gives to messages of `namespace`, if it is there and they may use
    /// it.
    #[must_use]
    pub fn terms(&self, name: &SenderName, namespace: &str) -> Option<Arc<Terms>> {
        let known = self.known.lock();
        let sender = known.senders.get(name)?.found.as_ref().ok()?;
        sender.allows(namespace).then(|| sender.terms.clone())
    }

    /// Adds to a message the fields that its Sender gives.
    pub fn resolve(&self, message: &mut FedoraMessage) {
        let terms = message.summary.sender.as_ref().and_then(|sender| self.terms(sender, message.namespace()));
        if terms.is_some() {
            Arc::make_mut(&mut message.summary).set_sender_terms(terms);
        }
    }

    /// Returns true if a Sender gives a time to live.
    #[must_use]
    pub fn give_time_to_live(&self) -> bool {
        let has_time = |known: &KnownSender| {
            known.found.as_ref().is_ok_and(|sender| sender.terms.ttl_seconds_after_finished.is_some())
        };
        self.known.lock().senders.values().any(has_time)
    }

    /// Returns the Secrets and `ConfigMaps` that Senders name.
    #[must_use]
    pub fn sources(&self) -> HashSet<SourceName> {
        let known = self.known.lock();
        let senders = known.senders.values().filter_map(|known| known.found.as_ref().ok());
        senders.flat_map(|sender| sender.authentication.sources().cloned()).collect()
    }

    /// Returns the results of the last checks.
    #[must_use]
    pub fn reports(&self) -> Vec<(SenderName, SenderReport)> {
        self.known.lock().senders.iter().map(|(name, known)| (name.clone(), known.report)).collect()
    }

    /// Notes the result of a check.
    pub fn note(&self, name: &SenderName, report: SenderReport) {
        if let Some(known) = self.known.lock().senders.get_mut(name) {
            known.report = report;
        }
    }

    /// Asks for a check of a Sender, because one of its messages failed.
    pub fn doubt(&self, name: &SenderName) {
        self.in_doubt.lock().insert(name.clone());
        self.doubted.notify_one();
    }

    /// Waits for Senders that are in doubt.
    pub async fn doubts(&self) -> BTreeSet<SenderName> {
        loop {
            let doubts = std::mem::take(&mut *self.in_doubt.lock());
            if !doubts.is_empty() {
                return doubts;
            }
            self.doubted.notified().await;
        }
    }

    /// Holds a Sender that is new or has changed. Returns false if too many are held.
    pub fn insert(&self, object: &FedoraMessageSender) -> bool {
        let name = object.name();
        let found = Sender::new(object).map(Arc::new);
        let mut known = self.known.lock();
        let Known { senders, counts } = &mut *known;
        if let Some(known) = senders.get_mut(&name) {
            known.found = found;
            return true;
        }
        let count = counts.entry(name.namespace.clone()).or_default();
        if *count >= MAX_SENDERS_PER_NAMESPACE || senders.len() >= MAX_SENDERS {
            return false;
        }
        *count += 1;
        senders.insert(name, KnownSender { found, report: SenderReport::default() });
        true
    }

    /// Drops a Sender that is gone.
    pub fn remove(&self, name: &SenderName) {
        let mut known = self.known.lock();
        let Known { senders, counts } = &mut *known;
        if senders.remove(name).is_none() {
            return;
        }
        if let Some(count) = counts.get_mut(&name.namespace) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&name.namespace);
            }
        }
    }

    /// Returns a Sender, or what is wrong with it.
    #[must_use]
    pub fn get(&self, name: &SenderName) -> Option<FoundSender> {
        self.known.lock().senders.get(name).map(|known| known.found.clone())
    }

    /// All Senders were listed.
    pub fn set_listed(&self) {
        self.listed.send_if_modified(|listed| std::mem::replace(listed, Listed::Done) != Listed::Done);
    }

    /// Senders can't be listed. Those that were listed before are still used.
    pub fn set_failed(&self, detail: &str) {
        self.listed.send_if_modified(|listed| {
            let is_first = *listed != Listed::Done;
            if is_first {
                *listed = Listed::Failed(detail.to_owned());
            }
            is_first
        });
    }
}

/// Returns the error of a Sender beyond the bounds.
#[must_use]
pub fn too_many() -> InvalidMessage {
    InvalidMessage::new(format!(
        "the operator holds at most {MAX_SENDERS_PER_NAMESPACE} Senders of a namespace and {MAX_SENDERS} in all: delete others"
    ))
}

/// Writes the statuses of Senders.
pub struct SenderStatusWriter(Client);

impl SenderStatusWriter {
    /// Creates a writer that uses this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Writes the status of a Sender, if it is still the same object. Returns false if it is gone.
    pub async fn write(
        &self,
        object: &FedoraMessageSender,
        status: &FedoraMessageSenderStatus,
    ) -> Result<bool, ListError> {
        let SenderName { namespace, name } = object.name();
        let api: Api<FedoraMessageSender> = Api::namespaced(self.0.clone(), &namespace);
        // A merge patch removes what is null. The uid makes the API server refuse it for another object.
        let patch = json!({
            "metadata": {"uid": object.metadata.uid},
            "status": {
                "conditions": status.conditions,
                "observedGeneration": status.observed_generation,
                "user": status.user,
                "broker": status.broker,
                "certificateExpirationTime": status.certificate_expiration_time,
            },
        });
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match answer(api.patch_status(&name, &parameters, &Patch::Merge(&patch))).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.code(), Some(404 | 409 | 422)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Explains why Senders can't be listed or watched, and what to do.
#[must_use]
pub fn explain(error: &ListError) -> String {
    match error.code() {
        Some(404) => format!("the API server does not know FedoraMessageSenders: install the CRDs ({INSTALL})"),
        Some(403) => {
            "the operator is not allowed to watch FedoraMessageSenders: bind its ServiceAccount to its role".to_owned()
        }
        _ => error.explain(),
    }
}

#[cfg(test)]
mod tests {
    use fedora_message::fixture::sender;

    use super::*;

    #[test]
    fn one_namespace_takes_no_place_of_others() {
        let senders = Senders::default();
        let held = (0..2 * MAX_SENDERS_PER_NAMESPACE)
            .filter(|number| senders.insert(&sender("tenant", &format!("s{number}"))))
            .count();
        assert_eq!(held, MAX_SENDERS_PER_NAMESPACE);
        assert!(senders.insert(&sender("neighbor", "default")));
        senders.remove(&SenderName { namespace: "tenant".to_owned(), name: "s0".to_owned() });
        assert!(senders.insert(&sender("tenant", "another")), "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_first_list() {
        let senders = Senders::default();
        let name = SenderName { namespace: "apps".to_owned(), name: "default".to_owned() };
        let error = senders.find(&name, "apps").await.unwrap_err();
        assert!(matches!(error, SenderError::Unreadable { .. }), "{error}");
        senders.set_failed("no");
        let error = senders.find(&name, "apps").await.unwrap_err();
        assert!(error.to_string().ends_with("could not be read: no"), "{error}");
        senders.set_listed();
        assert!(matches!(senders.find(&name, "apps").await, Err(SenderError::Absent(_))));
        senders.insert(&sender("apps", "default"));
        senders.set_failed("it is too late");
        assert!(senders.find(&name, "apps").await.is_ok());
        assert!(matches!(senders.find(&name, "others").await, Err(SenderError::Denied { .. })));
    }
}
