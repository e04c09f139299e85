//! Deletes the resources of messages that were sent or given up, once their time to live is over
//! ([`lifetime`]); only while this process leads, and never faster than [`PACE`].
//!
//! What this process finishes itself it notes in the [`Schedule`]. What others finished is found by a list at the
//! beginning of a term and once an hour, which selects only resources whose time is limited. Neither holds more
//! than a bounded number of them (docs/decisions/0016).

mod latest;
pub mod schedule;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::StreamExt;
use futures::future::{Fuse, FutureExt};
use futures::stream::FuturesUnordered;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::client::Body;
use kube::core::Request;
use kube::{Client, Resource};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use self::schedule::{Deletion, Expired, Schedule};
use crate::cluster::client::describe;
use crate::cluster::leader_election::Leadership;
use crate::cluster::list::{self, ListCounts, ListError, ListReader, paths};
use crate::cluster::status::{Answer, answer};
use fedora_message::api::object::FedoraMessage;
use fedora_message::policy::ttl::{Expiry, expires_at, expiry};
use fedora_message::state::MessageState;

/// The time from one deletion to the next, at the least: at most 100 a second, and so never as many as statuses can
/// be written in that time.
const PACE: Duration = Duration::from_millis(10);
/// How many deletions are under way at a time.
const WIDTH: usize = 4;
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long nothing is deleted or listed at the beginning of a term: what waits to be sent is listed then, and each
/// of the two lists has the API server look at all there is.
const HEAD_START: Duration = Duration::from_secs(2);
/// Another look is taken after this time, in case the clock was set.
const LOOK: Duration = Duration::from_mins(1);

/// Has a status, so may be finished, and a time to live of its own.
const OWN_TIME: &str = "status.status!=,spec.ttlSecondsAfterFinished!=";
/// Has a status: the default counts for all that have no time of their own.
const ANY_TIME: &str = "status.status!=";

/// Notes what is finished, for whoever deletes it.
#[derive(Clone)]
pub struct TtlController(Arc<Notes>);

struct Notes {
    schedule: Mutex<Schedule>,
    changed: Notify,
    /// The time to live, in seconds, of those that set none.
    default: Option<u32>,
    on_deletion: Box<dyn Fn(&Deletion) + Send + Sync>,
}

impl TtlController {
    /// Nothing is noted yet. Resources that set no time to live have the `default`, in seconds, or none.
    /// `on_deletion` is told what becomes of each.
    #[must_use]
    pub fn new(default: Option<u32>, on_deletion: impl Fn(&Deletion) + Send + Sync + 'static) -> Self {
        let on_deletion = Box::new(on_deletion);
        Self(Arc::new(Notes { schedule: Mutex::default(), changed: Notify::new(), default, on_deletion }))
    }

    /// A message's status was written: its resource is deleted in time if that says that it is finished.
    pub fn notice(&self, message: &FedoraMessage, state: &MessageState) {
        if let Some(end) = expires_at(message, state, self.0.default) {
            self.0.schedule.lock().add(expired(message, state), end);
            self.0.changed.notify_one();
        }
    }

    /// Deletes what is finished in the given namespaces, or in all if there are none, while the tenure holds.
    pub async fn run(self, client: Client, namespaces: Vec<String>, mut leadership: watch::Receiver<Leadership>) {
        let broom = TtlWorker { notes: self.0, client, namespaces, leadership: leadership.clone() };
        // It fails only where nobody decides any more.
        while let Ok(term) =
            leadership.wait_for(|leadership| leadership.holds(Instant::now())).await.map(|leadership| leadership.term())
        {
            broom.notes.schedule.lock().begin();
            tokio::select! {
                biased;
                () = over(&mut leadership, term) => {}
                () = sleep(HEAD_START).then(|()| broom.sweep()) => {}
            }
        }
    }
}

/// Ends when the term does.
async fn over(leadership: &mut watch::Receiver<Leadership>, term: Option<u64>) {
    loop {
        let now = *leadership.borrow_and_update();
        if !now.admits(term, Instant::now()) {
            return;
        }
        let end = async {
            match now {
                Leadership::Leader { until, .. } => sleep_until(until).await,
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

fn expired(message: &FedoraMessage, state: &MessageState) -> Expired {
    Expired {
        namespace: message.namespace().to_owned(),
        name: message.name().to_owned(),
        uid: message.uid().to_owned(),
        sent: state.is_sent(),
    }
}

/// Deletes what is noted, and looks for more.
struct TtlWorker {
    notes: Arc<Notes>,
    client: Client,
    namespaces: Vec<String>,
    leadership: watch::Receiver<Leadership>,
}

impl TtlWorker {
    /// Deletes and lists, each at its time.
    async fn sweep(&self) {
        // Before anything is deleted: what is noted already would be found once more, and deleted twice.
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
                Some((doomed, deletion)) = deletions.next() => self.settle(doomed, &deletion),
                listed = &mut list => self.settle_list(listed),
                _ = pace.tick(), if due && deletions.len() < WIDTH => {
                    let next = self.notes.schedule.lock().take(Utc::now());
                    deletions.extend(next.map(|doomed| async move {
                        let deletion = self.delete(&doomed).await;
                        (doomed, deletion)
                    }));
                }
                () = self.notes.changed.notified() => {}
                () = sleep(wait), if !due => {}
            }
        }
    }

    /// What came of one deletion.
    fn settle(&self, doomed: Expired, deletion: &Deletion) {
        (self.notes.on_deletion)(deletion);
        let (namespace, name) = (doomed.namespace.clone(), doomed.name.clone());
        let first = self.notes.schedule.lock().finish(doomed, deletion, Utc::now(), fastrand::f64());
        match deletion {
            Deletion::Done => debug!(namespace, name, "deleted: its time to live is over"),
            Deletion::Denied(detail) if first => warn!(
                namespace,
                "the operator has no right to delete FedoraMessages whose time to live is over: bind its ServiceAccount to its role there ({detail})"
            ),
            Deletion::Failed(detail) if first => {
                warn!("FedoraMessages whose time to live is over can't be deleted now: {detail}; it is tried again");
            }
            Deletion::Gone | Deletion::Kept | Deletion::Later(_) | Deletion::Denied(_) | Deletion::Failed(_) => {
                debug!(namespace, name, ?deletion, "not deleted");
            }
        }
    }

    fn settle_list(&self, listed: Result<ListCounts, ListError>) {
        let first = self.notes.schedule.lock().listed(listed.is_ok(), Utc::now(), fastrand::f64());
        match listed {
            Ok(ListCounts { pages, objects }) => {
                debug!(pages, objects, "looked for FedoraMessages with a time to live");
            }
            Err(error) if first => {
                let detail = explain(&error);
                warn!("FedoraMessages whose time to live is over can't be found now: {detail}; it is tried again");
            }
            Err(error) => debug!("FedoraMessages with a time to live can't be listed: {error}"),
        }
    }

    /// Notes all resources that are finished and whose time is limited.
    async fn list(&self) -> Result<ListCounts, ListError> {
        let fields = if self.notes.default.is_some() { ANY_TIME } else { OWN_TIME };
        let mut all = ListCounts::default();
        for path in paths::<FedoraMessage>(&self.namespaces) {
            let mut listing = ListReader::<FedoraMessage>::new(self.client.clone(), path, fields);
            while let Some(message) = listing.next().await? {
                let state: MessageState = message.status.as_deref().cloned().unwrap_or_default().into();
                if let Some(end) = expires_at(&message, &state, self.notes.default) {
                    self.notes.schedule.lock().add(expired(&message, &state), end);
                }
            }
            let ListCounts { pages, objects } = listing.read();
            (all.pages, all.objects) = (all.pages + pages, all.objects + objects);
        }
        Ok(all)
    }

    /// Deletes a resource, if it is still the same.
    async fn delete(&self, doomed: &Expired) -> Deletion {
        // A message that was sent stays so.
        let version = if doomed.sent {
            None
        } else {
            match self.look(doomed).await {
                Ok(version) => Some(version),
                Err(deletion) => return deletion,
            }
        };
        if !self.leadership.borrow().holds(Instant::now()) {
            return Deletion::Later(Utc::now());
        }
        match timeout(TIMEOUT, self.request(doomed, version)).await {
            Ok(deletion) => deletion,
            Err(_) => Deletion::Failed(ListError::Silent.to_string()),
        }
    }

    /// Looks at a message that was given up: its version if it is to be deleted, else what is to become of it.
    async fn look(&self, doomed: &Expired) -> Result<String, Deletion> {
        let found: Option<FedoraMessage> = list::find(&self.client, &doomed.namespace, &doomed.name)
            .await
            .map_err(|error| Deletion::Failed(explain(&error)))?;
        let message = found.filter(|message| message.uid() == doomed.uid).ok_or(Deletion::Gone)?;
        let state: MessageState = message.status.as_deref().cloned().unwrap_or_default().into();
        match expiry(&message, &state, self.notes.default, Utc::now()) {
            Expiry::Delete => Ok(message.metadata.resource_version.unwrap_or_default()),
            Expiry::WaitUntil(end) => Err(Deletion::Later(end)),
            Expiry::Keep => Err(Deletion::Kept),
        }
    }

    async fn request(&self, doomed: &Expired, version: Option<String>) -> Deletion {
        let once_more = version.is_some();
        let preconditions = Preconditions { uid: Some(doomed.uid.clone()), resource_version: version };
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let path = FedoraMessage::url_path(&(), Some(&doomed.namespace));
        let request = match Request::new(path).delete(&doomed.name, &parameters) {
            Ok(request) => request.map(Body::from),
            Err(error) => return Deletion::Failed(format!("it can't be put into a request: {error}")),
        };
        match answer(&self.client, request).await {
            Ok(Answer { code, .. }) if code.is_success() => Deletion::Done,
            Ok(Answer { code, refusal }) => match code.as_u16() {
                // It has changed since it was looked at.
                409 if once_more => Deletion::Later(Utc::now()),
                // Nothing has its name, or another.
                404 | 409 => Deletion::Gone,
                403 => Deletion::Denied(refusal.message),
                _ => Deletion::Failed(format!("the API server says: {} ({code})", refusal.message)),
            },
            Err(error) => Deletion::Failed(describe(&error)),
        }
    }
}

/// What is wrong with a list, and what to do.
fn explain(error: &ListError) -> String {
    match error {
        ListError::Failed(kube::Error::Api(status)) if status.code == 403 => format!(
            "the operator has no right to list FedoraMessages: bind its ServiceAccount to its role ({})",
            status.message
        ),
        ListError::Failed(kube::Error::Api(status)) if status.code == 400 => {
            format!("the CRD is older than the operator: install the operator's ({})", status.message)
        }
        ListError::Failed(_) | ListError::Silent => error.to_string(),
    }
}
