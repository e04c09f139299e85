//! Keeps one copy of each value that many waiting messages have in common.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// The memory of so many values is not worth the work to give it back.
pub(super) const FEW: usize = 64;

/// The values that are known.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// At this many values, those that no message has any more are dropped.
    sweep_at: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), sweep_at: 0 }
    }
}

impl<T: Eq + Hash + ?Sized> Interner<T> {
    /// Returns the known value that is equal to `value`, or `value` itself, which is known from now
    /// on.
    pub(super) fn intern(&mut self, value: Arc<T>) -> Arc<T> {
        if let Some(known) = self.known.get(&value) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.sweep();
        }
        self.known.insert(value.clone());
        value
    }

    /// Drops what no message has any more, if `needed` values are enough for all messages and far more
    /// are known.
    pub(super) fn release(&mut self, needed: usize) {
        if self.known.len() > 2 * needed + FEW {
            self.sweep();
            self.known.shrink_to(self.sweep_at);
        }
    }

    fn sweep(&mut self) {
        self.known.retain(|value| Arc::strong_count(value) > 1);
        self.sweep_at = 2 * self.known.len() + FEW;
    }

    /// The number of values that are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
