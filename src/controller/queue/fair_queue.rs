//! The queues inside the work queue: which messages are ready, in which order, and how many jobs of
//! each queue are in flight at a time.

use std::collections::{HashMap, VecDeque};

use fedora_message::api::v1alpha1::Environment;

use super::Uid;
use crate::cluster::status::at_a_time;

/// While jobs in flight hold this many bytes, no other job of the queue starts: a message is in
/// memory several times while it is sent.
const MAX_BYTES_IN_FLIGHT: usize = 8 << 20;

/// The key of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum QueueKey {
    /// Messages for an environment's broker.
    Environment(Environment),
    /// Messages that a Pod sends, to whichever environment.
    Pods,
    /// Messages that can't be read: they name no environment, and need no broker.
    Unreadable,
    /// Status writes, for messages of any kind.
    Statuses,
}

/// The maximum numbers of jobs in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    /// For each environment's broker.
    pub(super) direct: usize,
    /// By Pods.
    pub(super) pods: usize,
    /// True while messages that could be sent wait: they go before status writes.
    pub(super) backlog: bool,
    /// True while messages may be sent. Status writes are allowed in any case.
    pub(super) leading: bool,
}

/// The ready messages of one queue. Namespaces take turns.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// The number of jobs in flight.
    pub(super) in_flight: usize,
    bytes_in_flight: usize,
    namespaces: VecDeque<String>,
    ready: HashMap<String, VecDeque<Uid>>,
}

impl FairQueue {
    /// Returns true if messages wait for a job.
    pub(super) fn has_backlog(&self) -> bool {
        !self.namespaces.is_empty()
    }

    /// Returns true if a message waits, and a job for it may start.
    pub(super) fn may_start(&self, key: QueueKey, limits: QueueLimits) -> bool {
        let concurrency = match key {
            QueueKey::Statuses if limits.backlog => 1,
            QueueKey::Statuses => at_a_time(limits.direct),
            QueueKey::Pods => limits.pods,
            QueueKey::Environment(_) | QueueKey::Unreadable => limits.direct,
        };
        let has_room = self.in_flight < concurrency && self.bytes_in_flight < MAX_BYTES_IN_FLIGHT;
        self.has_backlog() && has_room && (limits.leading || key == QueueKey::Statuses)
    }

    /// Counts a job that has started.
    pub(super) fn start(&mut self, size: usize) {
        self.in_flight += 1;
        self.bytes_in_flight += size;
    }

    /// Counts a job that has ended.
    pub(super) fn end(&mut self, size: usize) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.bytes_in_flight = self.bytes_in_flight.saturating_sub(size);
    }

    /// Adds a message behind the others of its namespace.
    pub(super) fn push(&mut self, namespace: &str, uid: Uid) {
        let queue = self.ready.entry(namespace.to_owned()).or_default();
        if queue.is_empty() {
            self.namespaces.push_back(namespace.to_owned());
        }
        queue.push_back(uid);
    }

    /// Takes the next message of the next namespace.
    pub(super) fn pop(&mut self) -> Option<Uid> {
        let namespace = self.namespaces.pop_front()?;
        let queue = self.ready.get_mut(&namespace)?;
        let uid = queue.pop_front();
        if queue.is_empty() {
            self.ready.remove(&namespace);
        } else {
            self.namespaces.push_back(namespace);
        }
        uid
    }
}
