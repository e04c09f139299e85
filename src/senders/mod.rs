//! Follows the Senders.
//!
//! Messages find them here, and are woken when one changes. Each Sender is checked with the broker, so
//! that a mistake is known before its first message.
//!
//! Every process follows the Senders. Only the one that leads checks them and writes their statuses.
//! A Sender is checked when it or its Secrets change, when one of its messages fails, and once a day.

mod check;
mod schedule;

use std::collections::HashSet;
use std::sync::Arc;

use chrono::Utc;
use fedora_message::api::names::{SenderName, SourceName};
use fedora_message::api::sender::FedoraMessageSender;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::bounds::MAX_SENDER_CHECKS;
use fedora_message::policy::outcome::Reason;
use futures::StreamExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use self::check::Checked;
pub use self::check::Checker;
use self::schedule::{CheckEnd, CheckSchedule, DueCheck, StatusWrite};
use crate::cluster::events::Action;
use crate::cluster::leader_election::{Leadership, Moment};
use crate::cluster::secrets::SecretChange;
use crate::cluster::senders::{bound_exceeded, explain};
use crate::cluster::watch::{Event, EventStream};
use crate::log_throttle::LogThrottle;
use crate::timer::wait_until;

/// Why a Sender may have to be checked.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A Secret has changed.
    Secret(SecretChange),
    /// The environment's broker is back.
    Environment(Environment),
}

/// An event that concerns the messages of Senders.
#[derive(Clone, Debug)]
pub enum SenderWake {
    /// These Senders have appeared, changed or disappeared.
    Changed(HashSet<SenderName>),
    /// All are listed for the first time. Messages may say that they could not be.
    Listed,
}

/// The inputs of the loop.
pub struct SenderInputs<W> {
    /// The watches on Senders.
    pub events: EventStream<FedoraMessageSender>,
    /// The number of these watches.
    pub scopes: usize,
    /// Reasons for a check.
    pub notices: UnboundedReceiver<Notice>,
    /// Tells if this process leads.
    pub leadership: watch::Receiver<Leadership>,
    /// The term that has begun.
    pub term: watch::Receiver<Option<u64>>,
    /// Wakes messages.
    pub wake: W,
}

/// Follows Senders until the task is aborted.
pub async fn run<W: Fn(SenderWake)>(checker: Checker, inputs: SenderInputs<W>) {
    let SenderInputs { mut events, scopes, mut notices, mut leadership, mut term, wake } = inputs;
    let checker = Arc::new(checker);
    let mut controller = SenderController {
        checker: checker.clone(),
        schedule: CheckSchedule::default(),
        lists: vec![None; scopes],
        unlisted: (0..scopes).collect(),
        leads: false,
        wake,
        watch_failures: LogThrottle::default(),
        write_failures: LogThrottle::default(),
    };
    let mut checks: JoinSet<(SenderName, Checked)> = JoinSet::new();
    loop {
        let now = Instant::now();
        controller.lead(leadership.borrow_and_update().admits(*term.borrow_and_update(), Moment::now()), now);
        let woken = controller.schedule.take_wakes(now);
        if !woken.is_empty() {
            (controller.wake)(SenderWake::Changed(woken));
        }
        while controller.leads && checks.len() < MAX_SENDER_CHECKS {
            let Some(object) = controller.next_check(now) else { break };
            let (checker, name) = (checker.clone(), object.name());
            // Every Sender in the schedule is held, too.
            let Some(found) = checker.senders.get(&name) else { continue };
            checks.spawn(async move { (name, checker.check(object, found).await) });
        }
        let may_check = controller.leads && checks.len() < MAX_SENDER_CHECKS;
        tokio::select! {
            biased;
            Some((scope, event)) = events.next() => controller.observe(scope, event),
            Some(notice) = notices.recv() => controller.notice(&notice),
            requests = checker.senders.requested_checks() => controller.schedule.request(&requests, Instant::now()),
            Some(ended) = checks.join_next() => match ended {
                Ok((name, end)) => controller.finish(&name, end),
                Err(error) => warn!("internal error: {error}. Please report this bug"),
            },
            Ok(()) = leadership.changed() => {}
            Ok(()) = term.changed() => {}
            () = wait_until(controller.schedule.next_time(may_check)) => {}
        }
    }
}

/// Passes what is reported to the held Senders and to the schedule of checks.
struct SenderController<W> {
    checker: Arc<Checker>,
    schedule: CheckSchedule,
    /// The held Senders that the list of each watch has had so far, while it is read.
    lists: Vec<Option<HashSet<SenderName>>>,
    /// The watches that have not listed everything yet.
    unlisted: HashSet<usize>,
    leads: bool,
    wake: W,
    watch_failures: LogThrottle,
    write_failures: LogThrottle,
}

impl<W: Fn(SenderWake)> SenderController<W> {
    /// Checks all Senders when a term begins.
    fn lead(&mut self, leads: bool, now: Instant) {
        if leads && !self.leads {
            self.schedule.begin_term(now);
        }
        self.leads = leads;
    }

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
                self.watch_failures.clear();
                if self.unlisted.remove(&scope) && self.unlisted.is_empty() {
                    info!(senders = self.schedule.len(), "watching Senders");
                    if self.checker.senders.set_listed() {
                        (self.wake)(SenderWake::Listed);
                    }
                }
            }
            Event::Failed(error) => {
                let detail = explain(&error);
                if self.watch_failures.is_due(&detail, Instant::now()) {
                    warn!("{detail}");
                }
                self.checker.senders.set_failed(&detail);
            }
        }
    }

    fn insert(&mut self, scope: usize, object: FedoraMessageSender) {
        let name = object.name();
        let senders = &self.checker.senders;
        let before = senders.get(&name);
        if senders.insert(&object) {
            // Only held Senders, whose number has a bound.
            if let Some(list) = &mut self.lists[scope] {
                list.insert(name.clone());
            }
            let changed = before != senders.get(&name);
            return self.schedule.observe(scope, object, changed, Instant::now());
        }
        if self.leads {
            let detail = bound_exceeded();
            self.checker.events.warn(&object, Reason::Misconfigured.name(), Action::Check, &detail);
        }
    }

    fn remove(&mut self, name: &SenderName) {
        self.checker.senders.remove(name);
        self.schedule.remove(name, Instant::now());
    }

    fn notice(&mut self, notice: &Notice) {
        let (senders, now) = (&self.checker.senders, Instant::now());
        match notice {
            Notice::Secret(change) => self.schedule.check_where(now, |name, _| {
                let found = senders.get(name).and_then(Result::ok);
                found.is_some_and(|sender| sender.fields.sources.contains(&change.secret))
            }),
            Notice::Environment(environment) => self.schedule.check_where(now, |name, failed| {
                let found = senders.get(name).and_then(Result::ok);
                failed && found.is_some_and(|sender| sender.environment == *environment)
            }),
        }
    }

    /// Returns the next Sender to check. Now and then this only looks if the changes of its Secrets are
    /// still noticed.
    fn next_check(&mut self, now: Instant) -> Option<FedoraMessageSender> {
        loop {
            match self.schedule.next_check(now)? {
                DueCheck::Check(object) => return Some(*object),
                DueCheck::Look(object) => {
                    let name = object.name();
                    if !self.checker.credentials.secrets.are_watched(&self.sources(&name)) {
                        return Some(*object);
                    }
                    self.schedule.put_back(&name, now);
                }
            }
        }
    }

    /// Returns the Secrets and `ConfigMaps` that a Sender names.
    fn sources(&self, name: &SenderName) -> Vec<SourceName> {
        let found = self.checker.senders.get(name).and_then(Result::ok);
        found.map(|sender| sender.fields.sources.clone()).unwrap_or_default()
    }

    /// Plans the next check.
    fn finish(&mut self, name: &SenderName, Checked { uid, finding, status }: Checked) {
        if let StatusWrite::Failed(Some(detail)) = &status
            && self.write_failures.is_due(detail, Instant::now())
        {
            warn!("the status of {name} can't be written: {detail}");
        }
        let sources = self.sources(name);
        let is_absent = finding.result.failure() == Some(Reason::SecretNotFound);
        let secrets = &self.checker.credentials.secrets;
        let poll = || secrets.next_poll(&name.namespace, &sources, !is_absent);
        self.schedule.finish(name, CheckEnd { uid, finding, status, poll }, Instant::now(), Utc::now());
    }
}
