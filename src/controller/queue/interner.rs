//! What waiting messages have in common, each thing of it in memory once.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Values that are known, by themselves.
#[derive(Debug)]
pub(crate) struct Interner<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// At how many it is looked for those that no message has any more.
    full: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), full: 0 }
    }
}

impl<T: Eq + Hash + ?Sized> Interner<T> {
    /// The one that is equal to `value`.
    pub(crate) fn share<V>(&mut self, value: V) -> Arc<T>
    where
        V: Borrow<T> + Into<Arc<T>>,
    {
        if let Some(known) = self.known.get(value.borrow()) {
            return known.clone();
        }
        if self.known.len() >= self.full {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.full = 2 * self.known.len() + 64;
        }
        let value = value.into();
        self.known.insert(value.clone());
        value
    }
}
