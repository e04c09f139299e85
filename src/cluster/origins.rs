//! What waiting messages have in common, each thing of it in memory once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::message::packed::Origin;

/// The origins of messages that are known.
#[derive(Debug, Default)]
pub(super) struct Origins {
    known: HashSet<Arc<Origin>>,
    /// At how many it is looked for those that no message has any more.
    full: usize,
}

impl Origins {
    /// The one that is equal to `origin`.
    pub(super) fn share(&mut self, origin: Origin) -> Arc<Origin> {
        if let Some(known) = self.known.get(&origin) {
            return known.clone();
        }
        if self.known.len() >= self.full {
            self.known.retain(|origin| Arc::strong_count(origin) > 1);
            self.full = 2 * self.known.len() + 64;
        }
        let origin = Arc::new(origin);
        self.known.insert(origin.clone());
        origin
    }
}
