//! Follows the Senders: holds them for the messages, wakes the messages of one that changes, and checks
//! each one with the broker, so that a mistake is known before its first message.
//!
//! Every process follows the Senders. Only the one that leads checks them and writes their statuses.
//! A Sender is checked when it or its Secrets change, when one of its messages fails, and once a day.

mod check;
mod schedule;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fedora_message::api::names::SenderName;
use fedora_message::api::sender::FedoraMessageSender;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::bounds::MAX_SENDER_CHECKS;
use futures::StreamExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use self::check::Checked;
pub use self::check::Checker;
use self::schedule::{End, Schedule, StatusWrite};
use crate::cluster::events::Action;
use crate::cluster::leader_election::{Leadership, Moment};
use crate::cluster::secrets::SecretChange;
use crate::cluster::senders::{explain, too_many};
use crate::cluster::watch::{Event, EventStream};
use crate::log_throttle::LogThrottle;
use fedora_message::policy::outcome::Reason;

/// Checks wait this long at the beginning of a term, so that pending messages go first.
const HEAD_START: Duration = Duration::from_millis(500);

/// Why a Sender may have to be checked.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A Secret has changed.
    Secret(SecretChange),
    /// The environment's broker is back.
    Environment(Environment),
}

/// The inputs of the loop.
pub struct Inputs<W> {
    /// The watches on Senders.
    pub events: EventStream<FedoraMessageSender>,
    /// The number of these watches.
    pub scopes: usize,
    /// Reasons for a check.
    pub notices: UnboundedReceiver<Notice>,
    /// Tells if this process leads.
    pub leadership: watch::Receiver<Leadership>,
    /// Wakes the messages of Senders that have changed.
    pub wake: W,
}

/// Follows Senders until the task is aborted.
pub async fn run<W: Fn(HashSet<SenderName>)>(checker: Checker, inputs: Inputs<W>) {
    let Inputs { mut events, scopes, mut notices, mut leadership, wake } = inputs;
    let checker = Arc::new(checker);
    let mut follower = Follower {
        checker: checker.clone(),
        schedule: Schedule::default(),
        lists: vec![None; scopes],
        unlisted: (0..scopes).collect(),
        log_throttle: LogThrottle::default(),
    };
    let mut checks: JoinSet<(SenderName, Checked)> = JoinSet::new();
    let mut leads = false;
    loop {
        let holds = leadership.borrow_and_update().holds(Moment::now());
        let now = Instant::now();
        if holds && !leads {
            follower.schedule.check_all(now + HEAD_START);
        }
        leads = holds;
        if follower.unlisted.is_empty() {
            let woken = follower.schedule.take_wakes(now);
            if !woken.is_empty() {
                wake(woken);
            }
        }
        while leads && checks.len() < MAX_SENDER_CHECKS {
            let Some(object) = follower.schedule.next_check(now) else { break };
            let (checker, name) = (checker.clone(), object.name());
            let Some(found) = checker.senders.get(&name) else { continue };
            checks.spawn(async move { (name, checker.check(object, found).await) });
        }
        tokio::select! {
            biased;
            Some((scope, event)) = events.next() => follower.observe(scope, event),
            Some(notice) = notices.recv() => follower.notice(&notice),
            doubts = checker.senders.doubts() => follower.schedule.doubt(&doubts, Instant::now()),
            Some(ended) = checks.join_next() => match ended {
                Ok((name, end)) => follower.finish(&name, end),
                Err(error) => warn!("internal error: {error}. Please report this bug"),
            },
            Ok(()) = leadership.changed() => {}
            () = wait_until(follower.schedule.next_time(leads)) => {}
        }
    }
}

async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Passes what is reported to the held Senders and to the schedule of checks.
struct Follower {
    checker: Arc<Checker>,
    schedule: Schedule,
    /// The Senders that the list of each watch has had so far, while it is read.
    lists: Vec<Option<HashSet<SenderName>>>,
    /// The watches that have not listed everything yet.
    unlisted: HashSet<usize>,
    log_throttle: LogThrottle,
}

impl Follower {
    fn observe(&mut self, scope: usize, event: Event<FedoraMessageSender>) {
        match event {
            Event::Begin => self.lists[scope] = Some(HashSet::new()),
            Event::Seen(object) => self.insert(scope, *object),
            Event::Gone(object) => {
                if self.schedule.is_same(&object) {
                    self.remove(&object.name());
                }
            }
            Event::Complete => {
                let listed = self.lists[scope].take().unwrap_or_default();
                for name in self.schedule.missing(scope, &listed) {
                    self.remove(&name);
                }
                self.log_throttle.clear();
                if self.unlisted.remove(&scope) && self.unlisted.is_empty() {
                    info!(senders = self.schedule.len(), "watching Senders");
                    self.checker.senders.set_listed();
                }
            }
            Event::Failed(error) => {
                let detail = explain(&error);
                if self.log_throttle.is_due(&detail, Instant::now()) {
                    warn!("{detail}");
                }
                self.checker.senders.set_failed(&detail);
            }
        }
    }

    fn insert(&mut self, scope: usize, object: FedoraMessageSender) {
        let name = object.name();
        if let Some(list) = &mut self.lists[scope] {
            list.insert(name.clone());
        }
        let senders = &self.checker.senders;
        let before = senders.get(&name);
        if !senders.insert(&object) {
            let detail = too_many().to_string();
            return self.checker.events.warn(&object, Reason::Misconfigured.name(), Action::Check, &detail);
        }
        let changed = before != senders.get(&name);
        self.schedule.observe(scope, object, changed, Instant::now());
    }

    fn remove(&mut self, name: &SenderName) {
        self.checker.senders.remove(name);
        self.schedule.remove(name, Instant::now());
    }

    fn notice(&mut self, notice: &Notice) {
        let (senders, now) = (&self.checker.senders, Instant::now());
        match notice {
            Notice::Secret(change) => {
                self.schedule.check_where(now, |name, _| {
                    let found = senders.get(name).and_then(Result::ok);
                    found.is_some_and(|sender| sender.terms.sources.contains(&change.secret))
                });
            }
            Notice::Environment(environment) => {
                self.schedule.check_where(now, |name, failed| {
                    let found = senders.get(name).and_then(Result::ok);
                    failed && found.is_some_and(|sender| sender.environment == *environment)
                });
            }
        }
    }

    /// Plans the next check.
    fn finish(&mut self, name: &SenderName, Checked { finding, written }: Checked) {
        let found = self.checker.senders.get(name).and_then(Result::ok);
        let sources = found.as_ref().map(|sender| sender.terms.sources.as_slice()).unwrap_or_default();
        let is_absent = finding.result.failure() == Some(Reason::SecretNotFound);
        let poll = || self.checker.credentials.secrets.next_poll(&name.namespace, sources, !is_absent);
        let watched = self.checker.credentials.secrets.are_watched(sources);
        let written = match written {
            Ok(Some(object)) => StatusWrite::Done(Box::new(object)),
            Ok(None) => StatusWrite::Gone,
            Err(error) => {
                info!("the status of {name} can't be written: {}", error.explain());
                StatusWrite::Failed
            }
        };
        self.schedule.finish(name, End { finding, written, watched, poll }, Instant::now());
    }
}
