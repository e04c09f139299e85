//! The loop around the [`Reconciler`]: what the watches tell goes into the [`Queue`], what the
//! queue gives out is worked on, and what becomes of it goes back into the queue.

pub mod queue;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep, sleep_until};
use tracing::{info, warn};

use crate::cluster::leader_election::Leadership;
use crate::cluster::watch::Event;
use crate::controller::queue::{Job, JobResult, Queue, Scope};
use crate::log_throttle::LogThrottle;
use crate::metrics::{AGES, Report};
use crate::reconciler::Reconciler;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::authentication::SecretName;

/// How often unused connections and watches are looked for.
const TIDY: Duration = Duration::from_mins(1);
/// How long messages under way may take to end when the operator is told to.
const GRACE: Duration = Duration::from_secs(25);

/// Why nothing is ready at first.
pub const NOT_LISTED: &str = "pending messages have not been listed yet";

/// Something that waiting messages wait for.
#[derive(Clone, Debug)]
pub enum Wake {
    /// The environment's broker is back.
    Environment(Environment),
    /// The Secret has appeared or changed.
    Secret(SecretName),
}

/// Asks how it is going; whoever answers shows that the loop turns.
pub type Question = oneshot::Sender<Report>;

/// What the loop listens to.
pub struct Inputs<W> {
    /// Begins the watches on pending messages.
    pub watch: W,
    /// How many watches there are.
    pub scopes: usize,
    /// What waiting messages wait for.
    pub wakes: UnboundedReceiver<Wake>,
    /// Who wants to know how it is going.
    pub questions: Receiver<Question>,
    /// Whether messages may be sent.
    pub leadership: watch::Receiver<Leadership>,
    /// The term that is begun here: in no other may anything leave.
    pub begun: watch::Sender<Option<u64>>,
    /// What keeps it from being ready; nothing, once every watch has listed what is pending.
    pub not_ready_reason: watch::Sender<Option<String>>,
}

/// Sends the messages that the watches bring into the `queue` while the tenure holds, until `shutdown`
/// ends; then awaits those under way. Fails only if one of them panics.
pub async fn run<W, E>(
    reconciler: Arc<Reconciler>,
    queue: Queue,
    inputs: Inputs<W>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), JoinError>
where
    W: Fn() -> E,
    E: Stream<Item = (Scope, Event)> + Unpin,
{
    let Inputs { watch, scopes, mut wakes, mut questions, mut leadership, begun, not_ready_reason } = inputs;
    let (events, unsynced) = (watch(), (0..scopes).collect());
    let log_throttle = LogThrottle::default();
    let mut pending = Pending { queue, watch, events, scopes, unsynced, not_ready_reason, begun, log_throttle };
    let mut hands: JoinSet<(Job, JobResult)> = JoinSet::new();
    let mut tidy = interval(TIDY);
    let mut end = None;
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        if end.is_none() && pending.turn(*leadership.borrow_and_update()) {
            // Before the next term opens connections of its own.
            reconciler.delivery.close().await;
        }
        while let Some(job) = pending.queue.take(Utc::now()) {
            let reconciler = reconciler.clone();
            hands.spawn(async move {
                let done = reconciler.reconcile(&job).await;
                (job, done)
            });
        }
        if end.is_some() && pending.queue.is_at_rest() {
            break;
        }
        tokio::select! {
            // What the watch tells goes before what has ended: who is fair has to know who waits.
            biased;
            () = &mut shutdown, if end.is_none() => {
                info!(under_way = hands.len(), "stopping");
                pending.queue.follow();
                end = Some(Instant::now() + GRACE);
            }
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                warn!("some messages were still under way; the next operator sends them again with the same ids");
                break;
            }
            Ok(()) = leadership.changed(), if end.is_none() => {}
            Some(wake) = wakes.recv() => match wake {
                Wake::Environment(environment) => pending.queue.wake_environment(environment),
                Wake::Secret(secret) => pending.queue.wake_secret(&secret),
            },
            // Who does not wait for the answer any more does not miss it.
            Some(question) = questions.recv() => drop(question.send(pending.report(&reconciler))),
            _ = tidy.tick() => {
                reconciler.secrets.release(|secret| pending.queue.needs(secret));
                let reconciler = reconciler.clone();
                let pending = reconciler.delivery.pods().and_then(|_| pending.known());
                tokio::spawn(async move {
                    reconciler.delivery.close_idle().await;
                    if let (Some(pods), Some(pending)) = (reconciler.delivery.pods(), pending) {
                        pods.tidy(|uid| pending.contains(uid)).await;
                    }
                });
            }
            Some((scope, event)) = pending.events.next() => pending.observe(scope, event),
            Some(finished) = hands.join_next() => {
                let (job, done) = finished?;
                pending.queue.finish(&job, &done, Utc::now());
            }
            () = wait_for(pending.queue.next_due()) => {}
        }
    }
    reconciler.delivery.close().await;
    Ok(())
}

/// What is pending, and the watches that tell of it.
struct Pending<W, E> {
    queue: Queue,
    watch: W,
    events: E,
    scopes: usize,
    /// The watches that have not listed all yet.
    unsynced: Vec<Scope>,
    not_ready_reason: watch::Sender<Option<String>>,
    begun: watch::Sender<Option<u64>>,
    log_throttle: LogThrottle,
}

impl<W: Fn() -> E, E> Pending<W, E> {
    /// Ends the term that is begun, if it is over, and begins the next; true if it ended and there is
    /// no other.
    fn turn(&mut self, leadership: Leadership) -> bool {
        let term = leadership.term().filter(|_| leadership.holds(Instant::now()));
        let over = self.begun.send_if_modified(|begun| begun.is_some() && *begun != term && begun.take().is_some());
        if over {
            self.queue.follow();
        }
        if term.is_some() && self.begun.borrow().is_none() && self.queue.may_lead() {
            self.lead();
            self.begun.send_replace(term);
        }
        over && term.is_none()
    }

    /// What others have sent until now may not have been told yet: a new list tells.
    fn lead(&mut self) {
        self.queue.lead();
        self.events = (self.watch)();
        self.unsynced = (0..self.scopes).collect();
    }

    /// The uids of all pending messages, while they are known and sent here.
    fn known(&self) -> Option<HashSet<Arc<str>>> {
        let leads = self.unsynced.is_empty() && self.begun.borrow().is_some();
        leads.then(|| self.queue.known())
    }

    fn report(&self, reconciler: &Reconciler) -> Report {
        let (leads, now) = (self.begun.borrow().is_some(), Utc::now());
        Report {
            leads,
            pending: if leads { self.queue.pending_by_age(now, AGES.map(|(_, age)| age)) } else { Vec::new() },
            connections: reconciler.delivery.usage().into_iter().flatten().collect(),
            schemas: reconciler.schemas.report(),
            certificates: reconciler.certificates.in_use(now),
        }
    }

    /// Tells the queue what a watch told.
    fn observe(&mut self, scope: Scope, event: Event) {
        match event {
            Event::Begin => self.queue.begin_sync(scope),
            Event::Seen(message) => self.queue.observe(scope, *message),
            Event::Gone(uid) => self.queue.forget(&uid),
            Event::Failed(detail) => self.complain(detail),
            Event::Complete => {
                self.queue.end_sync(scope);
                info!(pending = self.queue.pending(), "watching");
                self.unsynced.retain(|other| *other != scope);
                self.log_throttle.clear();
                self.not_ready_reason.send_replace((!self.unsynced.is_empty()).then(|| NOT_LISTED.to_owned()));
            }
        }
    }

    /// A watch has failed, and is begun again. Until all is listed for the first time, that is why this
    /// process is not ready.
    fn complain(&mut self, detail: String) {
        if self.log_throttle.is_due(&detail, Instant::now().into_std()) {
            warn!("{detail}");
        }
        self.not_ready_reason.send_if_modified(|not_ready_reason| {
            not_ready_reason.is_some() && not_ready_reason.replace(detail).is_some()
        });
    }
}

async fn wait_for(due: Option<DateTime<Utc>>) {
    match due {
        // A time that has passed is no time to wait.
        Some(due) => sleep((due - Utc::now()).to_std().unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}
