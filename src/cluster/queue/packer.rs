//! Packs what waits: what many have in common is there once, and there is room for so many large ones only
//! (docs/decisions/0022 and 0025).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::shared::Shared;
use super::Uid;
use crate::message::incoming::FedoraMessage;
use crate::message::packed::{Origin, PackedMessage, PackedStatus};
use crate::message::resource::FedoraMessageStatus;

/// How many bytes of large messages wait here; the bodies of others are left with the API server (docs/decisions/0025).
pub const ROOM: usize = 64 << 20;
/// Up to how many bytes a message is not large: one read of it costs more than its memory.
pub const SMALL: usize = 4 << 10;

/// Packs messages and statuses, and knows what they have in common.
#[derive(Debug)]
pub(super) struct Packer {
    origins: Shared<Origin>,
    statuses: Shared<str>,
    /// Room for the large ones of those that wait.
    room: Arc<Semaphore>,
}

impl Default for Packer {
    fn default() -> Self {
        Self { origins: Shared::default(), statuses: Shared::default(), room: Arc::new(Semaphore::new(ROOM)) }
    }
}

impl Packer {
    /// Packs a message: with its body, if it is small or there is room for it. `known` is the room that it has already.
    pub(super) fn message(
        &mut self,
        message: FedoraMessage,
        uid: &Uid,
        known: Option<OwnedSemaphorePermit>,
    ) -> (PackedMessage, Option<OwnedSemaphorePermit>) {
        let origin = self.origins.share(Origin::of(&message));
        let size = message.bulk();
        if size <= SMALL {
            return (PackedMessage::new(&message, uid.clone(), origin), None);
        }
        // Another annotation may make it larger.
        let take = || self.room.clone().try_acquire_many_owned(u32::try_from(size).ok()?).ok();
        match known.filter(|room| room.num_permits() >= size).or_else(take) {
            None => (PackedMessage::without_body(message, uid.clone(), origin), None),
            room => (PackedMessage::new(&message, uid.clone(), origin), room),
        }
    }

    /// Packs the status of the message with this uid.
    pub(super) fn status(&mut self, status: &FedoraMessageStatus, uid: &Uid) -> PackedStatus {
        PackedStatus::new(status, uid, |common| self.statuses.share(common))
    }
}
