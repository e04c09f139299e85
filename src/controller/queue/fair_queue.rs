//! The queues inside the work queue: which messages are ready, in which order, and how many jobs of
//! each queue are in flight at a time.

use fedora_message::api::v1alpha1::Environment;

use super::Uid;
use crate::cluster::status::at_a_time;
use crate::round_robin::RoundRobin;

/// While jobs in flight hold this many bytes, no other job of the queue starts: a message is in
/// memory several times while it is sent.
const MAX_BYTES_IN_FLIGHT: usize = 8 << 20;
/// Up to this many uids of messages that have left stay in a queue.
const MAX_LEFT: usize = 64;

/// The key of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum QueueKey {
    /// Messages for an environment's broker.
    Environment(Environment),
    /// Messages that a Pod sends, to whichever environment.
    Pods,
    /// Messages without an environment, which need no broker: they can't be read, or their Sender is not
    /// there.
    NoEnvironment,
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
    ready: RoundRobin<Uid>,
    /// The number of uids in `ready` whose messages have left this queue.
    left: usize,
}

impl FairQueue {
    /// Returns true if messages wait for a job.
    pub(super) fn has_backlog(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns true if a message waits, and a job for it may start.
    pub(super) fn may_start(&self, key: QueueKey, limits: QueueLimits) -> bool {
        let concurrency = match key {
            QueueKey::Statuses if limits.backlog => 1,
            QueueKey::Statuses => at_a_time(limits.direct),
            QueueKey::Pods => limits.pods,
            QueueKey::Environment(_) | QueueKey::NoEnvironment => limits.direct,
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
        self.ready.push(namespace, uid);
    }

    /// Takes the next message of the next namespace. It may have left.
    pub(super) fn pop(&mut self) -> Option<Uid> {
        self.ready.pop()
    }

    /// Notes that the message that was just taken had left.
    pub(super) fn skip(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Notes that a message has left before its job started. Its uid stays until half of all uids are
    /// such, so that removing them costs little for each, and they never pile up.
    pub(super) fn leave(&mut self, is_ready: impl Fn(&Uid) -> bool) {
        self.left += 1;
        if self.left > MAX_LEFT.max(self.ready.len() / 2) {
            self.clean(is_ready);
        }
    }

    /// Removes the uids of all messages that have left.
    pub(super) fn clean(&mut self, is_ready: impl Fn(&Uid) -> bool) {
        self.ready.retain(is_ready);
        self.left = 0;
    }

    /// The number of uids that are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }
}
