//! Leader election by a `coordination.k8s.io` Lease: of several operators one sends at a time.
//!
//! Whoever wants to lead writes its name into the Lease and renews it; the others wait until it is
//! released, or has not been renewed for its duration. Clocks are never compared: how long a Lease
//! was not renewed is measured by the one who watches it. [`decide`] is the pure part.

use std::future::Future;
use std::time::Duration;

use chrono::Utc;
use futures::TryStreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::client::{describe, explain};
use super::watch::TELLS_ALL;
use crate::log_throttle::LogThrottle;

/// How long a Lease holds after it was renewed. These three are client-go's usual times.
const DURATION: Duration = Duration::from_secs(15);
/// How long the leader goes on without having renewed it. The rest is for requests on their way and
/// for clocks that run at different speeds.
const TENURE: Duration = Duration::from_secs(10);
/// How often it is renewed, or tried.
const RETRY: Duration = Duration::from_secs(2);
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Who writes, in the Lease's managed fields.
const FIELD_MANAGER: &str = "fedora-message-operator";

/// Whether this process may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Nobody knows yet.
    Unknown,
    /// Another one leads, or nobody.
    Follower,
    /// It leads, for the `term`th time, and may send until then.
    Leader {
        /// Counts how often this process began to lead.
        term: u64,
        /// When it has to stop, unless the Lease is renewed before.
        until: Instant,
    },
    /// It need not ask: there is only one.
    Always,
}

impl Leadership {
    /// Whether this process may send at this time.
    #[must_use]
    pub fn holds(self, now: Instant) -> bool {
        match self {
            Self::Unknown | Self::Follower => false,
            Self::Leader { until, .. } => now < until,
            Self::Always => true,
        }
    }

    /// Whether it may send in the term that is `begun` at this time.
    #[must_use]
    pub fn admits(self, begun: Option<u64>, now: Instant) -> bool {
        self.holds(now) && self.term() == begun
    }

    /// The term, while this process leads.
    #[must_use]
    pub fn term(self) -> Option<u64> {
        match self {
            Self::Unknown | Self::Follower => None,
            Self::Leader { term, .. } => Some(term),
            Self::Always => Some(0),
        }
    }
}

/// What is known about the Lease.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Lease; `None` if there is none.
    pub lease: Option<Lease>,
    /// When it was first seen like this. `None` if it was never read.
    pub since: Option<Instant>,
}

/// What to do about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read it: nothing is known.
    Read,
    /// Write one's own name into it.
    Take,
    /// Look again at this time, or when it changes.
    WaitUntil(Instant),
}

/// Decides what `me` does about a Lease; `renewed` is when `me` last wrote it.
#[must_use]
pub fn decide(observed: &Observed, me: &str, renewed: Option<Instant>, now: Instant) -> Step {
    let Some(since) = observed.since else { return Step::Read };
    let spec = observed.lease.as_ref().and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    if holder.is_empty() {
        return Step::Take;
    }
    let free_at = if holder == me { renewed.map(|at| at + RETRY) } else { Some(since + duration(spec)) };
    match free_at {
        Some(at) if now < at => Step::WaitUntil(at),
        _ => Step::Take,
    }
}

fn duration(spec: Option<&LeaseSpec>) -> Duration {
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(DURATION, Duration::from_secs)
}

/// The Lease with `me` as its holder.
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

/// The Lease without a holder.
#[must_use]
pub fn released(lease: &Lease, now: MicroTime) -> Lease {
    let before = lease.spec.clone().unwrap_or_default();
    let spec = LeaseSpec { holder_identity: None, renew_time: Some(now), ..before };
    Lease { metadata: lease.metadata.clone(), spec: Some(spec) }
}

/// One who wants to lead.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    observed: Observed,
    /// When the Lease was last written, measured before the request was sent.
    renewed: Option<Instant>,
    term: u64,
    tells: ElectorReports,
    log_throttle: LogThrottle,
}

/// Whom a candidate tells how it does.
pub struct ElectorReports {
    /// Whether it leads.
    pub leadership: watch::Sender<Leadership>,
    /// What keeps it from taking part at all.
    pub not_ready_reason: watch::Sender<Option<String>>,
}

impl Elector {
    /// One who calls itself `me`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: String, me: String, tells: ElectorReports) -> Self {
        let (api, log_throttle) = (Api::namespaced(client, namespace), LogThrottle::default());
        Self { api, name, me, observed: Observed::default(), renewed: None, term: 0, tells, log_throttle }
    }

    /// Takes the Lease when it can be had, and renews it, until `quit` ends; then releases it.
    pub async fn run(mut self, quit: impl Future<Output = ()>) {
        let mut quit = std::pin::pin!(quit);
        loop {
            let turn = async {
                match decide(&self.observed, &self.me, self.renewed, Instant::now()) {
                    Step::Read => self.read().await,
                    Step::Take => self.take().await,
                    Step::WaitUntil(at) => self.wait(at).await,
                }
            };
            tokio::select! {
                () = &mut quit => break,
                () = turn => {}
            }
        }
        self.release().await;
    }

    async fn read(&mut self) {
        match timeout(TIMEOUT, self.api.get_opt(&self.name)).await {
            Ok(Ok(lease)) => self.see(lease),
            Ok(Err(error)) => self.failed("read", Some(&error)).await,
            Err(_) => self.failed("read", None).await,
        }
    }

    async fn take(&mut self) {
        let before = Instant::now();
        let lease = taken(self.observed.lease.as_ref(), &self.name, &self.me, now());
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let write = async {
            match self.observed.lease {
                Some(_) => self.api.replace(&self.name, &parameters, &lease).await,
                None => self.api.create(&parameters, &lease).await,
            }
        };
        match timeout(TIMEOUT, write).await {
            Ok(Ok(lease)) => {
                self.renewed = Some(before);
                self.see(Some(lease));
            }
            // Somebody else was faster.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 || status.code == 404 => self.observed.since = None,
            Ok(Err(error)) => self.failed("written", Some(&error)).await,
            Err(_) => self.failed("written", None).await,
        }
    }

    /// Waits, but no longer than until the Lease can be taken: a released one is taken at once.
    async fn wait(&mut self, until: Instant) {
        if self.leads() {
            return sleep_until(until).await;
        }
        if let Err(error) = self.follow().await {
            debug!(error = describe(&error), "the Lease can't be watched, and is read every now and then");
            sleep(RETRY).await;
            self.read().await;
        }
    }

    /// Watches the Lease until it can be taken, or the watch ends.
    async fn follow(&mut self) -> Result<(), kube::Error> {
        let version = self.observed.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let parameters = WatchParams::default().fields(&format!("metadata.name={}", self.name));
        let mut events = std::pin::pin!(self.api.watch(&parameters, version.as_deref().unwrap_or_default()).await?);
        while let Step::WaitUntil(at) = decide(&self.observed, &self.me, self.renewed, Instant::now()) {
            let Ok(event) = timeout_at(at, events.try_next()).await else { continue };
            match event? {
                Some(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) => self.see(Some(lease)),
                Some(WatchEvent::Deleted(_)) => self.see(None),
                Some(WatchEvent::Bookmark(_)) => {}
                Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status)),
                None => {
                    sleep(RETRY).await;
                    break;
                }
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

    fn see(&mut self, lease: Option<Lease>) {
        let version = |lease: &Option<Lease>| lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if self.observed.since.is_none() || version(&self.observed.lease) != version(&lease) {
            self.observed.since = Some(Instant::now());
        }
        self.observed.lease = lease;
        self.tells.not_ready_reason.send_replace(None);
        self.tell(self.renewed.filter(|_| self.leads()).map(|renewed| renewed + TENURE));
    }

    /// Tells until when this process leads, if it does.
    fn tell(&mut self, until: Option<Instant>) {
        let before = *self.tells.leadership.borrow();
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
        self.tells
            .leadership
            .send_replace(until.map_or(Leadership::Follower, |until| Leadership::Leader { term, until }));
    }

    /// The Lease could not be read or written. It is tried again soon; what was granted goes on until
    /// its end.
    async fn failed(&mut self, what: &str, error: Option<&kube::Error>) {
        let detail = error.map_or_else(|| "the API server does not answer".to_owned(), why);
        let detail = format!("the Lease {} could not be {what}: {detail}", self.name);
        if self.log_throttle.is_due(&detail, Instant::now().into_std()) {
            warn!("{detail}");
        }
        // An API server that is away for a while is none, once it is known who leads.
        let forbidden = matches!(error, Some(kube::Error::Api(status)) if status.code == 403);
        if forbidden || *self.tells.leadership.borrow() == Leadership::Unknown {
            self.tells.not_ready_reason.send_replace(Some(detail));
        }
        let again = Instant::now() + RETRY;
        let leadership = *self.tells.leadership.borrow();
        match leadership {
            Leadership::Leader { until, .. } if until < again => {
                sleep_until(until).await;
                self.tell(None);
            }
            _ => sleep_until(again).await,
        }
    }

    /// Lets go of the Lease, if it is one's own, so that the next one need not wait for its end.
    async fn release(&mut self) {
        self.tell(None);
        // It may have been written since it was last seen.
        let Ok(Ok(Some(lease))) = timeout(TIMEOUT, self.api.get_opt(&self.name)).await else { return };
        self.observed.lease = Some(lease);
        let Some(lease) = self.observed.lease.as_ref().filter(|_| self.leads()) else { return };
        let lease = released(lease, now());
        let written = timeout(TIMEOUT, self.api.replace(&self.name, &PostParams::default(), &lease)).await;
        if matches!(written, Ok(Ok(_))) {
            info!(lease = self.name, "released");
        } else {
            warn!(lease = self.name, "the Lease could not be released: it ends by itself");
        }
    }
}

fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "the operator has no right to: bind its ServiceAccount to the Role fedora-message-operator-leader-election there, or set --lease-namespace; {TELLS_ALL} ({})",
            status.message
        ),
        other => explain(other),
    }
}

fn now() -> MicroTime {
    MicroTime(Timestamp::from_microsecond(Utc::now().timestamp_micros()).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests;
