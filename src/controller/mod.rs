//! The controller: watches feed the work queue, the queue's jobs go to the [`Reconciler`], and
//! their results go back into the queue.

pub mod queue;
#[cfg(test)]
mod tests;
mod wall_clock;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::Environment;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval};
use tracing::{debug, info, warn};

use self::queue::{Job, Next, Queue, Scope, Uid};
use self::wall_clock::WallClock;
use crate::cluster::leader_election::{Leadership, Moment};
use crate::cluster::secrets::{Needs, SecretChange};
use crate::cluster::senders::Senders;
use crate::cluster::watch::{self as cluster_watch, Event};
use crate::log_throttle::LogThrottle;
use crate::metrics::{AGES, Report};
use crate::reconciler::Reconciler;
use crate::senders::SenderWake;
use crate::timer::wait_until;

/// The interval of maintenance: idle connections and watches are closed, and Pods that no message
/// needs any more are deleted.
const MAINTENANCE_INTERVAL: Duration = Duration::from_mins(1);
/// The time between two signs that the loop turns.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The time that jobs in flight may take after the signal to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(25);

/// Why the operator is not ready at first.
pub const NOT_LISTED: &str = "pending messages have not been listed yet";

/// An event that ends the wait of messages.
#[derive(Clone, Debug)]
pub enum Wake {
    /// The environment's broker is back.
    Environment(Environment),
    /// Senders have changed.
    Senders(SenderWake),
    /// The Secret has appeared or changed.
    Secret(SecretChange),
    /// The catalog of schemas has changed.
    Catalog,
}

/// A request for a report.
pub type ReportRequest = oneshot::Sender<Report>;

/// The inputs of the controller.
pub struct Inputs<W> {
    /// Starts the watches on pending messages.
    pub watch: W,
    /// The number of these watches.
    pub scopes: usize,
    /// Events that waiting messages wait for.
    pub wakes: UnboundedReceiver<Wake>,
    /// Requests for reports. A report costs time for each message, so they must be rare.
    pub requests: Receiver<ReportRequest>,
    /// Receives the time whenever the loop turns, once a second.
    pub heartbeat: watch::Sender<Option<Instant>>,
    /// Tells if messages may be sent.
    pub leadership: watch::Receiver<Leadership>,
    /// Receives the current term. The fence is open only in this term.
    pub term: watch::Sender<Option<u64>>,
    /// Gets the reason why the operator is not ready. There is none once every watch has listed
    /// what is pending.
    pub not_ready_reason: watch::Sender<Option<String>>,
}

/// Sends pending messages while the leadership holds, until `shutdown` ends; then waits for the
/// jobs in flight. Fails only if a job panics.
pub async fn run<W, E>(
    reconciler: Arc<Reconciler>,
    queue: Queue,
    inputs: Inputs<W>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), JoinError>
where
    W: Fn() -> E,
    E: Stream<Item = (Scope, Event<FedoraMessage>)> + Unpin,
{
    let Inputs { watch, scopes, mut wakes, mut requests, heartbeat, mut leadership, term, not_ready_reason } = inputs;
    let (events, unsynced) = (watch(), (0..scopes).collect());
    let log_throttle = LogThrottle::default();
    let mut pending = Pending { queue, watch, events, scopes, unsynced, not_ready_reason, term, log_throttle };
    let mut jobs: JoinSet<(Job, Next)> = JoinSet::new();
    let mut maintenance = interval(MAINTENANCE_INTERVAL);
    let mut beat = interval(HEARTBEAT_INTERVAL);
    let mut wall_clock = WallClock::new(Instant::now(), Utc::now());
    let mut maintaining = tokio::spawn(async {});
    let mut deadline = None;
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        if deadline.is_none() && pending.update_term(*leadership.borrow_and_update()) {
            // Before the next term opens connections of its own.
            reconciler.delivery.close().await;
        }
        // The loop turns at least once a second.
        if wall_clock.was_set(Instant::now(), Utc::now()) {
            pending.queue.wake_after_clock_change(Utc::now());
        }
        while let Some(mut job) = pending.queue.take(Instant::now(), Utc::now()) {
            let reconciler = reconciler.clone();
            jobs.spawn(async move {
                // The Sender may have changed since the message was reported.
                if job.message.summary.sender.is_some() {
                    reconciler.senders.wait_until_listed().await;
                    if reconciler.senders.resolve(&mut job.message) {
                        job.decide_again(Utc::now());
                    }
                }
                let next = reconciler.reconcile(&job).await;
                (job, next)
            });
        }
        if deadline.is_some() && pending.queue.is_at_rest() {
            break;
        }
        tokio::select! {
            // Watch events go before results, because fairness needs to know who waits.
            biased;
            () = &mut shutdown, if deadline.is_none() => {
                info!(in_flight = jobs.len(), "stopping");
                pending.queue.follow();
                deadline = Some(Instant::now() + SHUTDOWN_GRACE);
            }
            () = wait_until(deadline) => {
                warn!("some messages were still in flight; the next operator sends them again with the same ids");
                break;
            }
            _ = beat.tick() => drop(heartbeat.send_replace(Some(Instant::now()))),
            Ok(()) = leadership.changed(), if deadline.is_none() => {}
            Some(wake) = wakes.recv() => match wake {
                Wake::Environment(environment) => pending.queue.wake_environment(environment),
                Wake::Senders(SenderWake::Listed) => pending.queue.wake_without_sender(),
                Wake::Senders(SenderWake::Changed(names)) => {
                    pending.queue.wake_senders(&names, |sender, namespace| reconciler.senders.fields(sender, namespace));
                }
                Wake::Catalog => pending.queue.wake_misconfigured(),
                Wake::Secret(change) => {
                    pending.queue.wake_secret(&change.secret, |namespace| change.concerns(namespace));
                }
            },
            // The requester may have timed out, so the error is ignored.
            Some(request) = requests.recv() => drop(request.send(pending.report(&reconciler))),
            _ = maintenance.tick() => {
                pending.queue.give_up_late(Utc::now());
                let messages = || pending.queue.needed_secrets();
                let leads = pending.term.borrow().is_some();
                let senders = || if leads { reconciler.senders.sources() } else { HashSet::new() };
                reconciler.credentials.secrets.release(|| Needs { messages: messages(), senders: senders() });
                // A slow API server must not have several of these at the same time.
                if maintaining.is_finished() {
                    let unsent = reconciler.delivery.pods().and_then(|_| pending.unsent());
                    maintaining = tokio::spawn(maintain(reconciler.clone(), unsent));
                }
            }
            Some((scope, event)) = pending.events.next() => pending.observe(scope, event, &reconciler.senders),
            Some(finished) = jobs.join_next() => {
                let (job, next) = finished?;
                pending.queue.finish(&job, next);
            }
            () = wait_until(pending.queue.next_due()) => {}
        }
    }
    reconciler.delivery.close().await;
    Ok(())
}

/// Closes idle connections, and deletes Pods that no message needs any more. `unsent` holds the uids
/// of messages that may need their Pods, and the watches whose messages are not known yet.
async fn maintain(reconciler: Arc<Reconciler>, unsent: Option<(HashSet<Uid>, Vec<Scope>)>) {
    reconciler.delivery.close_idle().await;
    if let (Some(pods), Some((unsent, unsynced))) = (reconciler.delivery.pods(), unsent) {
        pods.clean_up_orphans(|uid| unsent.contains(uid), |scope| !unsynced.contains(&scope)).await;
    }
}

/// The queue, and the watches that feed it.
struct Pending<W, E> {
    queue: Queue,
    watch: W,
    events: E,
    scopes: usize,
    /// The watches that have not listed everything yet.
    unsynced: Vec<Scope>,
    not_ready_reason: watch::Sender<Option<String>>,
    term: watch::Sender<Option<u64>>,
    log_throttle: LogThrottle,
}

impl<W: Fn() -> E, E> Pending<W, E> {
    /// Ends the current term if it is over, and begins the next one. Returns true if a term ended
    /// and no other follows.
    fn update_term(&mut self, leadership: Leadership) -> bool {
        let term = leadership.term().filter(|_| leadership.holds(Moment::now()));
        let ended = self.term.send_if_modified(|begun| begun.is_some() && *begun != term && begun.take().is_some());
        if ended {
            self.queue.follow();
        }
        if term.is_some() && self.term.borrow().is_none() && self.queue.may_lead() {
            self.lead();
            self.term.send_replace(term);
        }
        ended && term.is_none()
    }

    /// Begins to lead with a new list, because another operator may have sent messages that the
    /// watches have not reported yet.
    fn lead(&mut self) {
        self.queue.lead();
        self.events = (self.watch)();
        self.unsynced = (0..self.scopes).collect();
    }

    /// Returns the uids of all unsent messages, and the watches that have not listed theirs yet. Returns
    /// `None` if this process does not lead, or if no watch has listed its messages.
    fn unsent(&self) -> Option<(HashSet<Uid>, Vec<Scope>)> {
        let leads = self.term.borrow().is_some() && self.unsynced.len() < self.scopes;
        leads.then(|| (self.queue.unsent(), self.unsynced.clone()))
    }

    fn report(&self, reconciler: &Reconciler) -> Report {
        let (leads, now) = (self.term.borrow().is_some(), Utc::now());
        let mut report = Report {
            leads,
            connections: reconciler.delivery.usage().into_iter().flatten().collect(),
            schemas: reconciler.schemas.report(),
            certificates: reconciler.credentials.certificates.in_use(now),
            ..Report::default()
        };
        if leads {
            report.pending = self.queue.pending_by_age(now, AGES.map(|(_, age)| age));
            report.oldest = self.queue.oldest_by_namespace(now, reconciler.metrics.max_namespaces());
            report.senders = reconciler.senders.readiness();
        }
        report
    }

    /// Passes a watch event to the queue.
    fn observe(&mut self, scope: Scope, event: Event<FedoraMessage>, senders: &Senders) {
        match event {
            Event::Begin => self.queue.begin_sync(scope),
            Event::Seen(mut message) => {
                senders.resolve(&mut message);
                self.queue.observe(scope, *message, Instant::now());
            }
            Event::Gone(message) => self.queue.forget(message.uid()),
            Event::Failed(error) => self.report_failure(cluster_watch::explain(&error)),
            Event::Complete => {
                self.queue.end_sync(scope);
                let pending = self.queue.pending();
                if self.unsynced.contains(&scope) {
                    info!(pending, "watching");
                } else {
                    debug!(pending, "pending messages were read again");
                }
                self.unsynced.retain(|other| *other != scope);
                self.log_throttle.clear();
                self.not_ready_reason.send_replace((!self.unsynced.is_empty()).then(|| NOT_LISTED.to_owned()));
            }
        }
    }

    /// Logs that a watch failed; it is started again. Before the first complete list, this is also
    /// why the process is not ready.
    fn report_failure(&mut self, error: String) {
        if self.log_throttle.is_due(&error, Instant::now()) {
            warn!("{error}");
        }
        self.not_ready_reason.send_if_modified(|reason| reason.is_some() && reason.replace(error).is_some());
    }
}
