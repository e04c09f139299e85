//! Compacts messages that wait: common parts are held once, and the specs of large messages stay
//! here only up to a limit (docs/decisions/0022 and 0025).

use std::sync::Arc;

use fedora_message::api::object::{FedoraMessage, Summary};
use fedora_message::compact::CompactMessage;
use fedora_message::state::MessageState;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Uid;
use super::interner::Interner;

/// The maximum size of large messages that wait here, in bytes. Beyond that, specs are left with
/// the API server.
pub const MAX_LARGE_BYTES: usize = 64 << 20;
/// Up to this size in bytes a message is not large: a read of it would cost more than its memory.
pub const MAX_SMALL_SIZE: usize = 4 << 10;

/// Compacts messages, and knows what they have in common.
#[derive(Debug)]
pub(super) struct Compactor {
    summaries: Interner<Summary>,
    texts: Interner<str>,
    /// One permit for each byte of a large message that waits here.
    large_bytes: Arc<Semaphore>,
}

impl Default for Compactor {
    fn default() -> Self {
        let large_bytes = Arc::new(Semaphore::new(MAX_LARGE_BYTES));
        Self { summaries: Interner::default(), texts: Interner::default(), large_bytes }
    }
}

impl Compactor {
    /// Compacts a message: with its spec, if it is small or the limit allows it. `permit` is the
    /// one that the message has already.
    pub(super) fn message(
        &mut self,
        message: FedoraMessage,
        uid: &Uid,
        permit: Option<OwnedSemaphorePermit>,
    ) -> (CompactMessage, Option<OwnedSemaphorePermit>) {
        let summary = self.summaries.intern(message.summary.clone());
        let size = message.size();
        if size <= MAX_SMALL_SIZE {
            return (CompactMessage::new(message, uid.clone(), summary), None);
        }
        // A new annotation may have made the message larger.
        let acquire = || self.large_bytes.clone().try_acquire_many_owned(u32::try_from(size).ok()?).ok();
        match permit.filter(|permit| permit.num_permits() >= size).or_else(acquire) {
            None => (CompactMessage::without_spec(message, uid.clone(), summary), None),
            permit => (CompactMessage::new(message, uid.clone(), summary), permit),
        }
    }

    /// Drops what no message has any more. So many `messages` are left, each with a summary and two texts.
    pub(super) fn release(&mut self, messages: usize) {
        self.summaries.release(messages);
        self.texts.release(2 * messages);
    }

    /// The number of values that are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.summaries.len() + self.texts.len()
    }

    /// Shares a summary with equal ones.
    pub(super) fn summary(&mut self, summary: Summary) -> Arc<Summary> {
        self.summaries.intern(Arc::new(summary))
    }

    /// Shares the texts of a state with equal ones.
    pub(super) fn state(&mut self, mut state: MessageState) -> MessageState {
        state.message = self.texts.intern(state.message);
        state.routing_key = state.routing_key.map(|key| self.texts.intern(key));
        state
    }
}
