//! Deletes the resources of messages that were sent or given up, when their time to live is over (`policy::ttl`).
//! It works only while this process leads, and never faster than [`PACE`].
//!
//! The [`Schedule`] holds the messages that this process finished. A list finds those that other processes finished.
//! It is made at the beginning of a term and once an hour, and selects only resources with a limited time. The number
//! of resources in memory is bounded (docs/decisions/0016).

pub mod schedule;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::future::{Fuse, FutureExt};
use futures::stream::FuturesUnordered;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use kube::{Client, Error, Resource};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, warn};

use self::schedule::{Deletion, Expired, Schedule};
use crate::cluster::client::is_not_found;
use crate::cluster::leader_election::{Leadership, Moment};
use crate::cluster::list::{self, ListError, ListReader, paths};
use crate::cluster::senders::Senders;
use fedora_message::api::object::FedoraMessage;
use fedora_message::policy::ttl::{Expiry, expires_at, expiry};
use fedora_message::state::MessageState;

/// The shortest time between two deletions: at most 100 a second, always fewer than the status writes that are
/// possible in that time.
const PACE: Duration = Duration::from_millis(10);
/// The maximum number of concurrent deletions.
const CONCURRENCY: usize = 4;
/// The time at the beginning of a term in which nothing is deleted or listed. The list of pending messages is made
/// then, and for each of the two lists the API server looks at all objects.
const HEAD_START: Duration = Duration::from_secs(2);
/// The longest wait, in case the clock was set.
const LOOK: Duration = Duration::from_mins(1);

/// Selects resources that have a status, so may be finished, and their own time to live.
const OWN_TIME: &str = "status.status!=,spec.ttlSecondsAfterFinished!=";
/// Selects resources that have a status: the default, or that of a Sender, applies to all without their own time to live.
const ANY_TIME: &str = "status.status!=";

/// Notes finished messages, and deletes their resources in time.
#[derive(Clone)]
pub struct TtlController(Arc<Notes>);

struct Notes {
    schedule: Mutex<Schedule>,
    changed: Notify,
    /// The time to live, in seconds, of resources that set none.
    default: Option<u32>,
    /// The Senders, which may set another one.
    senders: Arc<Senders>,
    on_deletion: Box<dyn Fn(&Deletion) + Send + Sync>,
}

impl Notes {
    /// Returns when a message's resource is deleted, if it is.
    fn expires_at(&self, message: &FedoraMessage, state: &MessageState) -> Option<DateTime<Utc>> {
        expires_at(message, state, self.default_of(message))
    }

    /// Returns the time to live of a message that sets none. Its Sender may set a longer one, so without
    /// its Sender it has none: a deletion can't be undone.
    fn default_of(&self, message: &FedoraMessage) -> Option<u32> {
        let summary = &message.summary;
        self.default.filter(|_| summary.sender.is_none() || summary.sender_fields().is_some())
    }
}

impl TtlController {
    /// Creates a controller that has noted nothing. Resources that set no time to live have the `default`, in
    /// seconds, or none, unless their Sender sets one. `on_deletion` receives each result.
    #[must_use]
    pub fn new(
        default: Option<u32>,
        senders: Arc<Senders>,
        on_deletion: impl Fn(&Deletion) + Send + Sync + 'static,
    ) -> Self {
        let on_deletion = Box::new(on_deletion);
        Self(Arc::new(Notes { schedule: Mutex::default(), changed: Notify::new(), default, senders, on_deletion }))
    }

    /// Schedules the deletion of a message's resource, if the status that was written to it says that it is finished.
    pub fn schedule(&self, message: &FedoraMessage, state: &MessageState) {
        if let Some(end) = self.0.expires_at(message, state) {
            self.0.schedule.lock().add(expired_resource(message, state), end);
            self.0.changed.notify_one();
        }
    }

    /// Deletes finished resources while this process leads: in the given namespaces, or in all if there are none.
    pub async fn run(self, client: Client, namespaces: Vec<String>, mut leadership: watch::Receiver<Leadership>) {
        let worker = TtlWorker { notes: self.0, client, namespaces, leadership: leadership.clone() };
        // It fails only if the election has ended.
        while let Ok(term) =
            leadership.wait_for(|leadership| leadership.holds(Moment::now())).await.map(|leadership| leadership.term())
        {
            worker.notes.schedule.lock().begin();
            tokio::select! {
                biased;
                () = over(&mut leadership, term) => {}
                () = sleep(HEAD_START).then(|()| worker.sweep()) => {}
            }
        }
    }
}

/// Ends when the term does.
async fn over(leadership: &mut watch::Receiver<Leadership>, term: Option<u64>) {
    loop {
        let now = *leadership.borrow_and_update();
        if !now.admits(term, Moment::now()) {
            return;
        }
        let end = async {
            match now {
                Leadership::Leader { until, .. } => sleep(Moment::now().until(until)).await,
                Leadership::Unknown | Leadership::Follower | Leadership::Always => std::future::pending().await,
            }
        };
        tokio::select! {
            () = end => {}
            changed = leadership.changed() => if changed.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

fn expired_resource(message: &FedoraMessage, state: &MessageState) -> Expired {
    Expired {
        namespace: message.namespace().to_owned(),
        name: message.name().to_owned(),
        uid: message.uid().to_owned(),
        is_final: state.is_sent() && message.summary.fixes_time_to_live(),
    }
}

/// Deletes noted resources, and lists more.
struct TtlWorker {
    notes: Arc<Notes>,
    client: Client,
    namespaces: Vec<String>,
    leadership: watch::Receiver<Leadership>,
}

impl TtlWorker {
    /// Deletes and lists, each at its time.
    async fn sweep(&self) {
        // The list comes before the first deletion: it would find resources that are noted already once more.
        if self.notes.schedule.lock().begin_list(Utc::now()) {
            self.settle_list(self.list().await);
        }
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deletions = FuturesUnordered::new();
        let mut list = Box::pin(Fuse::terminated());
        loop {
            if self.notes.schedule.lock().begin_list(Utc::now()) {
                list.set(self.list().fuse());
            }
            let (next, deletion) = {
                let schedule = self.notes.schedule.lock();
                (schedule.next(), schedule.next_deletion())
            };
            let due = deletion.is_some_and(|at| at <= Utc::now());
            let wait = (next - Utc::now()).to_std().unwrap_or_default().min(LOOK);
            tokio::select! {
                Some((expired, deletion)) = deletions.next() => self.settle(expired, &deletion),
                listed = &mut list => self.settle_list(listed),
                _ = pace.tick(), if due && deletions.len() < CONCURRENCY => {
                    let next = self.notes.schedule.lock().take(Utc::now());
                    deletions.extend(next.map(|expired| async move {
                        let deletion = self.delete(&expired).await;
                        (expired, deletion)
                    }));
                }
                () = self.notes.changed.notified() => {}
                () = sleep(wait), if !due => {}
            }
        }
    }

    /// Records and logs the result of one deletion.
    fn settle(&self, expired: Expired, deletion: &Deletion) {
        (self.notes.on_deletion)(deletion);
        let (namespace, name) = (expired.namespace.clone(), expired.name.clone());
        let first = self.notes.schedule.lock().finish(expired, deletion, Utc::now(), fastrand::f64());
        match deletion {
            Deletion::Done => debug!(namespace, name, "deleted: its time to live is over"),
            Deletion::Denied(detail) | Deletion::Failed(detail) if first => {
                warn!(
                    namespace,
                    "FedoraMessages whose time to live is over can't be deleted now: {detail}; it is tried again"
                );
            }
            Deletion::Gone | Deletion::Kept | Deletion::Later(_) | Deletion::Denied(_) | Deletion::Failed(_) => {
                debug!(namespace, name, ?deletion, "not deleted");
            }
        }
    }

    fn settle_list(&self, listed: Result<(), ListError>) {
        let first = self.notes.schedule.lock().listed(listed.is_ok(), Utc::now(), fastrand::f64());
        match listed {
            Ok(()) => {
                debug!("looked for FedoraMessages with a time to live");
            }
            Err(error) if first => warn_of_failed_list(&error),
            Err(error) => debug!("FedoraMessages with a time to live can't be listed: {error}"),
        }
    }

    /// Lists all finished resources with a limited time, and notes them.
    async fn list(&self) -> Result<(), ListError> {
        self.notes.senders.wait_until_listed().await;
        let any = self.notes.default.is_some() || self.notes.senders.give_time_to_live();
        let fields = if any { ANY_TIME } else { OWN_TIME };
        let (mut listed, mut denied) = (false, None);
        for path in paths::<FedoraMessage>(&self.namespaces) {
            match self.list_at(path, fields).await {
                // A namespace where the operator lost its permission delays no other one.
                Err(error) if error.code() == Some(403) => denied = Some(error),
                result => {
                    result?;
                    listed = true;
                }
            }
        }
        match denied {
            Some(error) if !listed => Err(error),
            Some(error) => {
                warn_of_failed_list(&error);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Lists those at this path, and notes them.
    async fn list_at(&self, path: String, fields: &str) -> Result<(), ListError> {
        let mut listing = ListReader::<FedoraMessage>::new(self.client.clone(), path, fields);
        while let Some(mut message) = listing.next().await? {
            self.notes.senders.resolve(&mut message);
            let state: MessageState = message.status.as_deref().cloned().unwrap_or_default().into();
            if let Some(end) = self.notes.expires_at(&message, &state) {
                self.notes.schedule.lock().add(expired_resource(&message, &state), end);
            }
        }
        Ok(())
    }

    /// Deletes a resource if it is still the same.
    async fn delete(&self, expired: &Expired) -> Deletion {
        let version = if expired.is_final {
            None
        } else {
            match self.look(expired).await {
                Ok(version) => Some(version),
                Err(deletion) => return deletion,
            }
        };
        if !self.leadership.borrow().holds(Moment::now()) {
            return Deletion::Later(Utc::now());
        }
        self.request(expired, version).await
    }

    /// Reads a message that may be kept after all. Returns its version if it is to be deleted, or the result of not deleting it.
    async fn look(&self, expired: &Expired) -> Result<String, Deletion> {
        let found: Option<FedoraMessage> =
            list::get(&self.client, &expired.namespace, &expired.name).await.map_err(|error| failed("read", &error))?;
        let mut message = found.filter(|message| message.uid() == expired.uid).ok_or(Deletion::Gone)?;
        self.notes.senders.resolve(&mut message);
        let state: MessageState = message.status.as_deref().cloned().unwrap_or_default().into();
        match expiry(&message, &state, self.notes.default_of(&message), Utc::now()) {
            Expiry::Delete => Ok(message.metadata.resource_version.unwrap_or_default()),
            Expiry::WaitUntil(end) => Err(Deletion::Later(end)),
            Expiry::Keep => Err(Deletion::Kept),
        }
    }

    async fn request(&self, expired: &Expired, version: Option<String>) -> Deletion {
        let only_this_version = version.is_some();
        let preconditions = Preconditions { uid: Some(expired.uid.clone()), resource_version: version };
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let path = FedoraMessage::url_path(&(), Some(&expired.namespace));
        let request = match Request::new(path).delete(&expired.name, &parameters) {
            Ok(request) => request,
            Err(error) => return failed("delete", &Error::BuildRequest(error).into()),
        };
        match list::answer(self.client.request_text(request)).await {
            Ok(_) => Deletion::Done,
            Err(ListError::Failed(Error::Api(status))) if is_not_found(&status) => Deletion::Gone,
            Err(error) => match error.code() {
                // The resource has changed since its version was read.
                Some(409) if only_this_version => Deletion::Later(Utc::now()),
                // Another object has the name.
                Some(409) => Deletion::Gone,
                _ => failed("delete", &error),
            },
        }
    }
}

fn warn_of_failed_list(error: &ListError) {
    let detail = explain("read", error);
    warn!("FedoraMessages whose time to live is over can't be found now: {detail}; it is tried again");
}

/// Returns the result of a request that was refused or has no answer.
fn failed(verb: &str, error: &ListError) -> Deletion {
    let detail = explain(verb, error);
    if error.code() == Some(403) { Deletion::Denied(detail) } else { Deletion::Failed(detail) }
}

/// Describes why a request failed, and how to fix it.
fn explain(verb: &str, error: &ListError) -> String {
    match error {
        ListError::Failed(Error::Api(status)) if status.code == 403 => format!(
            "the operator is not allowed to {verb} FedoraMessages: bind its ServiceAccount to its role ({})",
            status.message
        ),
        ListError::Failed(Error::Api(status)) if status.code == 400 => {
            format!("the CRD is older than the operator: install the operator's ({})", status.message)
        }
        ListError::Failed(_) | ListError::Silent | ListError::NoVersion | ListError::TooLarge => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
