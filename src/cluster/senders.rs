//! Holds the Senders, as the watch on them reports them, and writes their statuses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fedora_message::api::names::{SenderName, SourceName};
use fedora_message::api::object::{FedoraMessage, SummaryFields};
use fedora_message::api::sender::{FedoraMessageSender, FedoraMessageSenderStatus};
use fedora_message::bounds::{MAX_SENDERS, MAX_SENDERS_PER_NAMESPACE};
use fedora_message::message::sender::{FoundSender, Sender, SenderError, usable};
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use kube::{Client, Error, Resource};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::client::{FIELD_MANAGER, is_not_found};
use super::list::{ListError, answer};
use super::status::is_other_object;
use super::watch::INSTALL;

/// Messages wait this long for the first list of Senders.
const FIRST_READ: Duration = Duration::from_secs(10);

/// The Senders that exist.
#[derive(Default)]
pub struct Senders {
    held: Mutex<HeldSenders>,
    /// Tells when all Senders were listed, or why they can't be.
    listed: watch::Sender<Listed>,
    /// The Senders of messages that failed since the last check.
    requests: Mutex<BTreeSet<SenderName>>,
    requested: Notify,
}

#[derive(Default)]
struct HeldSenders {
    senders: HashMap<SenderName, HeldSender>,
    /// The number of Senders that are held, by namespace.
    counts: HashMap<String, usize>,
}

struct HeldSender {
    found: FoundSender,
    /// True if the broker accepted it in the last check. `None` before the first one.
    ready: Option<bool>,
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
    /// Waits for some time until all Senders were listed, or can't be. Then the caller goes on with those
    /// that are held.
    pub async fn wait_until_listed(&self) {
        let mut listed = self.listed.subscribe();
        let _ = timeout(FIRST_READ, listed.wait_for(|listed| *listed != Listed::NotYet)).await;
    }

    /// Returns the Sender that a message in `namespace` names.
    ///
    /// Before all Senders were listed, one that is absent and one that is denied give the same error.
    pub fn find(&self, name: &SenderName, namespace: &str) -> Result<Arc<Sender>, SenderError> {
        let held = self.held.lock();
        let found = usable(name, namespace, held.senders.get(name).map(|held| &held.found));
        match (found, &*self.listed.borrow()) {
            (Err(SenderError::Absent(_)), Listed::Done) if held.is_full(&name.namespace) => {
                Err(SenderError::NotHeld { sender: name.clone(), bound: MAX_SENDERS_PER_NAMESPACE })
            }
            (Err(SenderError::Absent(_) | SenderError::Denied { .. }), Listed::NotYet) => {
                Err(SenderError::Unreadable { sender: name.clone(), detail: ListError::Silent.to_string() })
            }
            (Err(SenderError::Absent(_) | SenderError::Denied { .. }), Listed::Failed(detail)) => {
                Err(SenderError::Unreadable { sender: name.clone(), detail: detail.clone() })
            }
            (found, _) => found,
        }
    }

    /// Returns the fields that a Sender gives to messages of `namespace`, if it is there and they may use
    /// it.
    #[must_use]
    pub fn fields(&self, name: &SenderName, namespace: &str) -> Option<Arc<SummaryFields>> {
        let held = self.held.lock();
        let sender = held.senders.get(name)?.found.as_ref().ok()?;
        sender.allows(namespace).then(|| sender.fields.clone())
    }

    /// Gives a message the fields that its Sender gives now. Returns true if they are others than before.
    pub fn resolve(&self, message: &mut FedoraMessage) -> bool {
        let Some(sender) = &message.summary.sender else { return false };
        let fields = self.fields(sender, message.namespace());
        let changed = message.summary.sender_fields() != fields.as_ref();
        if changed {
            Arc::make_mut(&mut message.summary).set_sender_fields(fields);
        }
        changed
    }

    /// Returns true if a Sender gives a time to live.
    #[must_use]
    pub fn give_time_to_live(&self) -> bool {
        let has_time = |held: &HeldSender| {
            held.found.as_ref().is_ok_and(|sender| sender.fields.ttl_seconds_after_finished.is_some())
        };
        self.held.lock().senders.values().any(has_time)
    }

    /// Returns the Secrets and `ConfigMaps` that Senders name.
    #[must_use]
    pub fn sources(&self) -> HashSet<SourceName> {
        let held = self.held.lock();
        let senders = held.senders.values().filter_map(|held| held.found.as_ref().ok());
        senders.flat_map(|sender| sender.fields.sources.clone()).collect()
    }

    /// Returns true for each Sender that the broker accepted in its last check, and false for each other
    /// one that was checked.
    #[must_use]
    pub fn readiness(&self) -> Vec<(SenderName, bool)> {
        let held = self.held.lock();
        held.senders.iter().filter_map(|(name, held)| Some((name.clone(), held.ready?))).collect()
    }

    /// Notes the result of a check.
    pub fn note(&self, name: &SenderName, ready: bool) {
        if let Some(held) = self.held.lock().senders.get_mut(name) {
            held.ready = Some(ready);
        }
    }

    /// Asks for a check of a Sender, because one of its messages failed.
    pub fn request_check(&self, name: &SenderName) {
        self.requests.lock().insert(name.clone());
        self.requested.notify_one();
    }

    /// Waits for requests of checks.
    pub async fn requested_checks(&self) -> BTreeSet<SenderName> {
        loop {
            let requests = std::mem::take(&mut *self.requests.lock());
            if !requests.is_empty() {
                return requests;
            }
            self.requested.notified().await;
        }
    }

    /// Holds a Sender that is new or has changed. Returns false if too many are held.
    pub fn insert(&self, object: &FedoraMessageSender) -> bool {
        let name = object.name();
        let found = Sender::new(object).map(Arc::new);
        let mut held = self.held.lock();
        if let Some(held) = held.senders.get_mut(&name) {
            held.found = found;
            return true;
        }
        if held.is_full(&name.namespace) {
            return false;
        }
        *held.counts.entry(name.namespace.clone()).or_default() += 1;
        held.senders.insert(name, HeldSender { found, ready: None });
        true
    }

    /// Drops a Sender that is gone.
    pub fn remove(&self, name: &SenderName) {
        let mut held = self.held.lock();
        let HeldSenders { senders, counts } = &mut *held;
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
        self.held.lock().senders.get(name).map(|held| held.found.clone())
    }

    /// All Senders were listed. Returns true the first time. Messages may say then that the list failed, or
    /// that it did not come in time.
    pub fn set_listed(&self) -> bool {
        self.listed.send_replace(Listed::Done) != Listed::Done
    }

    /// Senders can't be listed. Those that are held are still used.
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

impl HeldSenders {
    /// Returns true if no other Sender of a namespace is held.
    fn is_full(&self, namespace: &str) -> bool {
        let count = self.counts.get(namespace).copied().unwrap_or_default();
        count >= MAX_SENDERS_PER_NAMESPACE || self.senders.len() >= MAX_SENDERS
    }
}

/// Says that a Sender is beyond the bounds.
#[must_use]
pub fn bound_exceeded() -> String {
    format!(
        "the operator holds at most {MAX_SENDERS_PER_NAMESPACE} Senders of a namespace and {MAX_SENDERS} in all: delete others"
    )
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
        let path = FedoraMessageSender::url_path(&(), Some(&namespace));
        // The API server ignores a wrong uid in a merge patch (docs/decisions/0002).
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": object.metadata.uid},
            {"op": "add", "path": "/status", "value": status},
        ]);
        let request = Request::patch(format!("{path}/{name}/status?fieldManager={FIELD_MANAGER}"))
            .header(CONTENT_TYPE, "application/json-patch+json")
            .body(operations.to_string().into_bytes())
            .map_err(Error::HttpError)?;
        match answer(self.0.request_text(request)).await {
            Ok(_) => Ok(true),
            Err(ListError::Failed(Error::Api(refusal)))
                if is_not_found(&refusal) || is_other_object(&refusal, &Method::PATCH) =>
            {
                Ok(false)
            }
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
    use crate::cluster::fake_api::{Reply, client, refusal};

    #[test]
    fn one_namespace_takes_no_place_of_others() {
        let senders = Senders::default();
        let held = (0..2 * MAX_SENDERS_PER_NAMESPACE)
            .filter(|number| senders.insert(&sender("tenant", &format!("s{number}"))))
            .count();
        assert_eq!(held, MAX_SENDERS_PER_NAMESPACE);
        assert!(senders.insert(&sender("neighbor", "default")));
        senders.remove(&SenderName::new("tenant", "s0"));
        assert!(senders.insert(&sender("tenant", "another")), "there is room again");
    }

    /// Held Senders are used, although another namespace can't be listed.
    #[tokio::test(start_paused = true)]
    async fn absent_sender_is_known_after_first_list() {
        let senders = Senders::default();
        let name = |name: &str| SenderName::new("apps", name);
        senders.insert(&sender("apps", "default"));
        senders.wait_until_listed().await;
        senders.set_failed("no");
        assert!(senders.find(&name("default"), "apps").is_ok());
        // Nobody in another namespace learns which of them exists.
        for sender in ["default", "other"] {
            let error = senders.find(&name(sender), "guest").unwrap_err().to_string();
            assert_eq!(error, format!("FedoraMessageSender apps/{sender} could not be read: no"));
        }
        assert!(senders.set_listed(), "messages may say the failure");
        senders.set_failed("it is too late");
        assert!(!senders.set_listed());
        assert!(matches!(senders.find(&name("other"), "apps"), Err(SenderError::Absent(_))));
        assert!(matches!(senders.find(&name("default"), "guest"), Err(SenderError::Denied { .. })));
        for number in 0..MAX_SENDERS_PER_NAMESPACE {
            senders.insert(&sender("apps", &number.to_string()));
        }
        let error = senders.find(&name("other"), "apps").unwrap_err();
        assert!(matches!(error, SenderError::NotHeld { .. }), "{error}");
    }

    /// The API server is silent for longer than a message waits. The list wakes such messages later.
    #[tokio::test(start_paused = true)]
    async fn late_list_wakes_messages() {
        let senders = Senders::default();
        senders.wait_until_listed().await;
        let error = senders.find(&SenderName::new("apps", "default"), "apps").unwrap_err();
        assert!(matches!(error, SenderError::Unreadable { .. }), "{error}");
        assert!(senders.set_listed());
        assert!(!senders.set_listed(), "once");
    }

    /// Only another uid, or none, means that the Sender is gone. A conflict may not happen again.
    #[tokio::test]
    async fn tells_other_object_from_failure() {
        let invalid = json!({"code": 422, "details": {"causes": [{"reason": "FieldValueInvalid"}]}});
        for (reply, written) in [
            (Reply::Json(json!({})), Some(true)),
            (refusal(404, "not found"), Some(false)),
            (Reply::Proxy(404, "404 page not found"), None),
            (refusal(422, "the test failed"), Some(false)),
            (refusal(409, "conflict"), None),
            (Reply::Refusal(invalid), None),
        ] {
            let (client, requests) = client([reply]);
            let writer = SenderStatusWriter::new(client);
            let result = writer.write(&sender("apps", "default"), &FedoraMessageSenderStatus::default()).await;
            assert_eq!(result.as_ref().ok(), written.as_ref(), "{result:?}");
            assert_eq!(requests.take(), ["PATCH"]);
        }
    }
}
