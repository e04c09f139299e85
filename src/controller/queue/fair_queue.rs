//! The lanes of the work queue: who is ready, in which order, and how many are worked on at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::cluster::status::at_a_time;
use fedora_message::api::v1alpha1::Environment;

/// While messages of as many bytes are in hands, there is no free hand: each is there several times on its way.
const MOST_BYTES: usize = 8 << 20;

/// A lane's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QueueKey {
    /// Messages for an environment's broker.
    Environment(Environment),
    /// Messages that are to be sent by Pods, whichever environment's.
    Pods,
    /// Messages that can't be read: they name no environment, and need no broker.
    Unreadable,
    /// Statuses to be written, for messages of any kind.
    Statuses,
}

/// The messages of one lane that are ready, fairly: each namespace in turn.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    /// How many of its messages are in somebody's hands.
    pub(crate) busy: usize,
    /// How many bytes these have.
    bytes: usize,
    turns: VecDeque<String>,
    ready: HashMap<String, VecDeque<Arc<str>>>,
}

impl FairQueue {
    /// Whether messages wait for a free hand.
    pub(crate) fn is_crowded(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Whether there is something in it, and a free hand. `crowded`: messages that could be sent wait.
    /// Given are the widths of an environment's lane and of that for Pods.
    pub(crate) fn has_work(&self, name: QueueKey, sending: bool, crowded: bool, [width, pods]: [usize; 2]) -> bool {
        let width = match name {
            // Who can be sent goes first.
            QueueKey::Statuses if crowded => 1,
            QueueKey::Statuses => at_a_time(width),
            QueueKey::Pods => pods,
            QueueKey::Environment(_) | QueueKey::Unreadable => width,
        };
        let is_free = self.busy < width && self.bytes < MOST_BYTES;
        !self.turns.is_empty() && is_free && (sending || name == QueueKey::Statuses)
    }

    /// Somebody has taken a message of this size.
    pub(crate) fn add(&mut self, size: usize) {
        self.busy += 1;
        self.bytes += size;
    }

    /// Somebody is done with a message of this size.
    pub(crate) fn remove(&mut self, size: usize) {
        self.busy = self.busy.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
    }

    /// A message joins the others of its namespace.
    pub(crate) fn push(&mut self, namespace: &str, uid: Arc<str>) {
        let queue = self.ready.entry(namespace.to_owned()).or_default();
        if queue.is_empty() {
            self.turns.push_back(namespace.to_owned());
        }
        queue.push_back(uid);
    }

    /// The next message of the next namespace.
    pub(crate) fn pop(&mut self) -> Option<Arc<str>> {
        let namespace = self.turns.pop_front()?;
        let queue = self.ready.get_mut(&namespace)?;
        let uid = queue.pop_front();
        if queue.is_empty() {
            self.ready.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        uid
    }
}
