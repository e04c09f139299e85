//! Leader election by a `coordination.k8s.io` Lease: of several operators one sends at a time.
//!
//! The leader writes its name into the Lease and renews it. The others wait until the Lease is
//! released, or was not renewed for its duration. If somebody deletes it, they wait for as long.
//! Clocks are never compared: each operator measures for itself how long the Lease was not renewed.
//! [`decide`] is the pure part.

mod moment;

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

pub use self::moment::Moment;
use super::client::{FIELD_MANAGER, now};
use super::list::{ListError, answer_within};
use super::watch::{ObjectState, PERMISSIONS_HINT, WatchKind, Watches};
use crate::log_throttle::LogThrottle;

/// A Lease holds for this time after it was renewed. This and the next two are client-go's usual
/// times.
const DURATION: Duration = Duration::from_secs(15);
/// The leader goes on for this time after it has renewed the Lease. The rest is for requests on
/// their way and for clocks that run at different speeds.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// The leader renews the Lease in this interval, and failed requests are repeated in it.
const RETRY: Duration = Duration::from_secs(2);
/// One request may take this time.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The leadership of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It is not known yet who leads.
    Unknown,
    /// Another process leads, or none.
    Follower,
    /// This process leads.
    Leader {
        /// Counts how often this process began to lead.
        term: u64,
        /// It may send until then, unless it renews the Lease before.
        until: Moment,
    },
    /// There is only one process, so it need not ask.
    Always,
}

impl Leadership {
    /// Returns true if this process may send at this time.
    #[must_use]
    pub fn holds(self, now: Moment) -> bool {
        match self {
            Self::Unknown | Self::Follower => false,
            Self::Leader { until, .. } => now.is_before(until),
            Self::Always => true,
        }
    }

    /// Returns true if this process may send at this time, in the term that it began.
    #[must_use]
    pub fn admits(self, begun: Option<u64>, now: Moment) -> bool {
        self.holds(now) && self.term() == begun
    }

    /// Returns the term, while this process leads.
    #[must_use]
    pub fn term(self) -> Option<u64> {
        match self {
            Self::Unknown | Self::Follower => None,
            Self::Leader { term, .. } => Some(term),
            Self::Always => Some(0),
        }
    }
}

/// The last known state of the Lease.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Lease, or `None` if there is none.
    pub lease: Option<Lease>,
    /// When it was first seen in this version. `None` if it was never read.
    pub since: Option<Instant>,
    /// The end of another process's Lease that was deleted. That process may send until its next
    /// renewal fails.
    pub deleted_until: Option<Instant>,
}

/// The next step with a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Read it, because nothing is known.
    Read,
    /// Write the own name into it.
    Take,
    /// Look again at this time, or when it changes.
    WaitUntil(Instant),
}

/// Decides what `me` does about a Lease, which it last wrote at the time `renewed`.
#[must_use]
pub fn decide(observed: &Observed, me: &str, renewed: Option<Instant>, now: Instant) -> LeaseStep {
    let Some(since) = observed.since else { return LeaseStep::Read };
    let spec = observed.lease.as_ref().and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let free_at = match holder {
        "" if observed.lease.is_none() => observed.deleted_until,
        "" => None,
        holder if holder == me => renewed.map(|at| at + RETRY),
        _ => Some(since + duration(spec)),
    };
    match free_at {
        Some(at) if now < at => LeaseStep::WaitUntil(at),
        _ => LeaseStep::Take,
    }
}

fn duration(spec: Option<&LeaseSpec>) -> Duration {
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(DURATION, Duration::from_secs)
}

/// Returns the Lease with `me` as its holder.
#[must_use]
pub fn taken(lease: Option<&Lease>, name: &str, me: &str, now: MicroTime) -> Lease {
    let before = lease.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let stays = before.holder_identity.as_deref() == Some(me);
    Lease {
        metadata: lease.map_or_else(
            || ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            |lease| lease.metadata.clone(),
        ),
        spec: Some(LeaseSpec {
            holder_identity: Some(me.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if stays { before.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(
                before.lease_transitions.unwrap_or_default() + i32::from(!stays && lease.is_some()),
            ),
            ..before
        }),
    }
}

/// Returns the Lease without a holder.
#[must_use]
pub fn released(lease: &Lease, now: MicroTime) -> Lease {
    let before = lease.spec.clone().unwrap_or_default();
    let spec = LeaseSpec { holder_identity: None, renew_time: Some(now), ..before };
    Lease { metadata: lease.metadata.clone(), spec: Some(spec) }
}

/// Takes part in the election.
pub struct Elector {
    watches: Watches,
    api: Api<Lease>,
    namespace: String,
    name: String,
    me: String,
    observed: Observed,
    /// When the Lease was last written, measured before the request was sent.
    renewed: Option<(Instant, Moment)>,
    term: u64,
    reports: ElectorReports,
    log_throttle: LogThrottle,
}

/// The reports of an elector.
pub struct ElectorReports {
    /// Its leadership.
    pub leadership: watch::Sender<Leadership>,
    /// Why it can't take part at all.
    pub not_ready_reason: watch::Sender<Option<String>>,
}

impl Elector {
    /// Creates an elector of this name, `me`, for a Lease.
    #[must_use]
    pub fn new(watches: Watches, namespace: &str, name: String, me: String, reports: ElectorReports) -> Self {
        Self {
            api: Api::namespaced(watches.client().clone(), namespace),
            watches,
            namespace: namespace.to_owned(),
            name,
            me,
            observed: Observed::default(),
            renewed: None,
            term: 0,
            reports,
            log_throttle: LogThrottle::default(),
        }
    }

    /// Takes the Lease when it is free, and renews it, until `quit` ends. Then it releases the
    /// Lease.
    pub async fn run(mut self, quit: impl Future<Output = ()>) {
        let mut quit = std::pin::pin!(quit);
        loop {
            let step = async {
                match self.decide() {
                    LeaseStep::Read => self.read().await,
                    LeaseStep::Take => self.take().await,
                    LeaseStep::WaitUntil(at) => self.wait(at).await,
                }
            };
            tokio::select! {
                () = &mut quit => break,
                () = step => {}
            }
        }
        self.release().await;
    }

    fn decide(&self) -> LeaseStep {
        decide(&self.observed, &self.me, self.renewed.map(|(at, _)| at), Instant::now())
    }

    async fn read(&mut self) {
        match answer_within(TIMEOUT, self.api.get_opt(&self.name)).await {
            Ok(lease) => self.observe(lease),
            Err(error) => self.failed("read", &error).await,
        }
    }

    async fn take(&mut self) {
        let before = (Instant::now(), Moment::now());
        let lease = taken(self.observed.lease.as_ref(), &self.name, &self.me, now());
        let parameters = parameters();
        let write = async {
            match self.observed.lease {
                Some(_) => self.api.replace(&self.name, &parameters, &lease).await,
                None => self.api.create(&parameters, &lease).await,
            }
        };
        match answer_within(TIMEOUT, write).await {
            Ok(lease) => {
                self.renewed = Some(before);
                self.observe(Some(lease));
            }
            // Another process was faster, or has deleted the Lease.
            Err(error) if matches!((error.code(), &self.observed.lease), (Some(409), _) | (Some(404), Some(_))) => {
                self.observed.since = None;
            }
            Err(error) => self.failed("written", &error).await,
        }
    }

    /// Waits until the Lease can be taken. A Lease that is released can be taken at once.
    async fn wait(&mut self, until: Instant) {
        if self.leads() {
            return sleep_until(until).await;
        }
        if let Err(error) = self.watch_until_free().await {
            debug!(%error, "the Lease can't be watched, and is read every now and then");
            sleep(RETRY).await;
            self.read().await;
        }
    }

    /// Watches the Lease until it can be taken.
    ///
    /// A silent watch does no harm: when the Lease seems to be free, the write shows that it is
    /// not.
    async fn watch_until_free(&mut self) -> Result<(), ListError> {
        let version = self.observed.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let mut changes = self.watches.object(WatchKind::Lease, &self.namespace, &self.name, version);
        while let LeaseStep::WaitUntil(at) = self.decide() {
            match timeout_at(at, changes.next()).await {
                Ok(Ok(ObjectState::Present(lease))) => self.observe(Some(*lease)),
                Ok(Ok(ObjectState::Absent(_))) => self.observe(None),
                // The watch connects again by itself.
                Ok(Err(ListError::Silent)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn leads(&self) -> bool {
        self.holder() == Some(&self.me)
    }

    fn holder(&self) -> Option<&str> {
        let spec = self.observed.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        spec.and_then(|spec| spec.holder_identity.as_deref()).filter(|holder| !holder.is_empty())
    }

    fn observe(&mut self, lease: Option<Lease>) {
        let version = |lease: &Option<Lease>| lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if self.observed.since.is_none() || version(&self.observed.lease) != version(&lease) {
            self.observed.since = Some(Instant::now());
        }
        if lease.is_some() {
            self.observed.deleted_until = None;
        } else if self.holder().is_some_and(|holder| holder != self.me) {
            let spec = self.observed.lease.as_ref().and_then(|lease| lease.spec.as_ref());
            self.observed.deleted_until = Some(Instant::now() + duration(spec));
        }
        self.observed.lease = lease;
        self.reports.not_ready_reason.send_replace(None);
        self.report(self.renewed.filter(|_| self.leads()).map(|(_, renewed)| renewed + RENEW_DEADLINE));
    }

    /// Reports until when this process leads, if it does.
    fn report(&mut self, until: Option<Moment>) {
        let before = *self.reports.leadership.borrow();
        let (lease, me) = (&self.name, &self.me);
        match (before.term(), until) {
            (None, Some(_)) => {
                self.term += 1;
                self.log_throttle.clear();
                info!(lease, me, "leading: messages are sent from here");
            }
            (Some(_), None) => warn!(lease, me, "not leading any more: nothing is sent from here"),
            (None, None) if before == Leadership::Unknown && self.holder().is_some() => {
                info!(lease, me, "not leading: another operator does");
            }
            _ => {}
        }
        let term = self.term;
        let now = until.map_or(Leadership::Follower, |until| Leadership::Leader { term, until });
        self.reports.leadership.send_replace(now);
    }

    /// Handles a request that failed. It is repeated soon. The current term holds until its end.
    async fn failed(&mut self, what: &str, error: &ListError) {
        let detail = format!("the Lease {} could not be {what}: {}", self.name, explain(error));
        if self.log_throttle.is_due(&detail, Instant::now()) {
            warn!("{detail}");
        }
        // Once it is known who leads, an API server that is out of reach for a while does not make
        // this process unready.
        if matches!(error.code(), Some(403 | 404)) || *self.reports.leadership.borrow() == Leadership::Unknown {
            self.reports.not_ready_reason.send_replace(Some(detail));
        }
        // A request without an answer took long enough. The next one uses another connection.
        let pause = if matches!(error, ListError::Silent) { Duration::ZERO } else { RETRY };
        let leadership = *self.reports.leadership.borrow();
        let left = match leadership {
            Leadership::Leader { until, .. } => Some(Moment::now().until(until)).filter(|left| *left <= pause),
            Leadership::Unknown | Leadership::Follower | Leadership::Always => None,
        };
        sleep(left.unwrap_or(pause)).await;
        if left.is_some() {
            self.report(None);
        }
    }

    /// Releases the Lease, if this process holds it, so that the next leader need not wait for its
    /// end.
    async fn release(&mut self) {
        self.report(None);
        // It may have been written since it was last seen.
        let Ok(Some(lease)) = answer_within(TIMEOUT, self.api.get_opt(&self.name)).await else { return };
        self.observed.lease = Some(lease);
        let Some(lease) = self.observed.lease.as_ref().filter(|_| self.leads()) else { return };
        let lease = released(lease, now());
        if answer_within(TIMEOUT, self.api.replace(&self.name, &parameters(), &lease)).await.is_ok() {
            info!(lease = self.name, "released");
        } else {
            warn!(lease = self.name, "the Lease could not be released: it ends by itself");
        }
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn explain(error: &ListError) -> String {
    let ListError::Failed(kube::Error::Api(status)) = error else { return error.explain() };
    match status.code {
        403 => format!(
            "the operator is not allowed to do that: bind its ServiceAccount to the Role fedora-message-operator-leader-election there, or set --lease-namespace; {PERMISSIONS_HINT} ({})",
            status.message
        ),
        404 => format!("its namespace does not exist: create it, or set --lease-namespace ({})", status.message),
        _ => error.explain(),
    }
}
#[cfg(test)]
mod tests;
