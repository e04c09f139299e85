//! Packs what waits: what many have in common is there once, and there is room for so many large ones only
//! (docs/decisions/0022 and 0025).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Uid;
use super::interner::Interner;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::FedoraMessageStatus;
use fedora_message::compact::{CompactMessage, CompactStatus, Origin};

/// How many bytes of large messages wait here; the bodies of others are left with the API server (docs/decisions/0025).
pub const ROOM: usize = 64 << 20;
/// Up to how many bytes a message is not large: one read of it costs more than its memory.
pub const SMALL: usize = 4 << 10;

/// Packs messages and statuses, and knows what they have in common.
#[derive(Debug)]
pub(crate) struct Compactor {
    origins: Interner<Origin>,
    statuses: Interner<str>,
    /// Room for the large ones of those that wait.
    room: Arc<Semaphore>,
}

impl Default for Compactor {
    fn default() -> Self {
        Self { origins: Interner::default(), statuses: Interner::default(), room: Arc::new(Semaphore::new(ROOM)) }
    }
}

impl Compactor {
    /// Packs a message: with its body, if it is small or there is room for it. `known` is the room that it has already.
    pub(crate) fn message(
        &mut self,
        message: FedoraMessage,
        uid: &Uid,
        known: Option<OwnedSemaphorePermit>,
    ) -> (CompactMessage, Option<OwnedSemaphorePermit>) {
        let origin = self.origins.share(Origin::of(&message));
        let size = message.bulk();
        if size <= SMALL {
            return (CompactMessage::new(&message, uid.clone(), origin), None);
        }
        // Another annotation may make it larger.
        let take = || self.room.clone().try_acquire_many_owned(u32::try_from(size).ok()?).ok();
        match known.filter(|room| room.num_permits() >= size).or_else(take) {
            None => (CompactMessage::without_body(message, uid.clone(), origin), None),
            room => (CompactMessage::new(&message, uid.clone(), origin), room),
        }
    }

    /// Packs the status of the message with this uid.
    pub(crate) fn status(&mut self, status: &FedoraMessageStatus, uid: &Uid) -> CompactStatus {
        CompactStatus::new(status, uid, |common| self.statuses.share(common))
    }
}
