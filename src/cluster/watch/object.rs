//! A watch on one object, which knows the object's state.

use tokio::time::Instant;

use super::super::list::ListError;
use super::{Event, Watch, Watched};

/// Watches one object.
pub struct ObjectWatch<K> {
    watch: Watch<K>,
    /// True from the beginning of a read to its end.
    is_reading: bool,
    /// The object that the read has found.
    found: Option<Box<K>>,
}

/// The known state of one object.
#[derive(Clone, Debug)]
pub enum ObjectState<K> {
    /// It is there.
    Present(Box<K>),
    /// It is not there. If the watch saw it go, this was its last state.
    Absent(Option<Box<K>>),
}

impl<K: Watched> ObjectWatch<K> {
    pub(super) fn new(watch: Watch<K>) -> Self {
        Self { watch, is_reading: false, found: None }
    }

    /// Returns the object's state once it was read, and then whenever it changes. After an error
    /// the watch goes on by itself.
    pub async fn next(&mut self) -> Result<ObjectState<K>, ListError> {
        loop {
            match self.watch.next().await {
                Event::Begin => (self.is_reading, self.found) = (true, None),
                Event::Seen(object) if self.is_reading => self.found = Some(object),
                Event::Seen(object) => return Ok(ObjectState::Present(object)),
                Event::Gone(last) => return Ok(ObjectState::Absent(Some(last))),
                Event::Complete => {
                    self.is_reading = false;
                    return Ok(self.found.take().map_or(ObjectState::Absent(None), ObjectState::Present));
                }
                Event::Failed(error) => {
                    self.is_reading = false;
                    return Err(error);
                }
            }
        }
    }

    /// Returns when the API server last gave an answer that was no error.
    #[must_use]
    pub fn last_heard(&self) -> Instant {
        self.watch.heartbeat.last_success()
    }

    /// Returns how many silent connections the monitor knew when the last read of the object began.
    #[must_use]
    pub fn silences_at_read(&self) -> u64 {
        self.watch.silences_at_read
    }
}
