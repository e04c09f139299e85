//! A queue in which namespaces take turns.

use std::collections::{HashMap, VecDeque};

/// Items of several namespaces, first in, first out for each.
#[derive(Debug)]
pub struct RoundRobin<T> {
    /// The namespaces that have items, in the order of their turns.
    namespaces: VecDeque<String>,
    items: HashMap<String, VecDeque<T>>,
    len: usize,
}

impl<T> Default for RoundRobin<T> {
    fn default() -> Self {
        Self { namespaces: VecDeque::new(), items: HashMap::new(), len: 0 }
    }
}

impl<T> RoundRobin<T> {
    /// Returns true if there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of items of one namespace.
    #[must_use]
    pub fn len_of(&self, namespace: &str) -> usize {
        self.items.get(namespace).map_or(0, VecDeque::len)
    }

    /// Adds an item behind the others of its namespace.
    pub fn push(&mut self, namespace: &str, item: T) {
        if let Some(items) = self.items.get_mut(namespace) {
            items.push_back(item);
        } else {
            self.namespaces.push_back(namespace.to_owned());
            self.items.insert(namespace.to_owned(), VecDeque::from([item]));
        }
        self.len += 1;
    }

    /// Takes the next item of the next namespace.
    pub fn pop(&mut self) -> Option<T> {
        let namespace = self.namespaces.pop_front()?;
        let items = self.items.get_mut(&namespace)?;
        let item = items.pop_front();
        self.len -= 1;
        if items.is_empty() {
            self.items.remove(&namespace);
        } else {
            self.namespaces.push_back(namespace);
        }
        item
    }

    /// Removes all other items.
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        self.items.retain(|_, items| {
            items.retain(&wanted);
            items.shrink_to_fit();
            !items.is_empty()
        });
        self.namespaces.retain(|namespace| self.items.contains_key(namespace));
        self.len = self.items.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::RoundRobin;

    #[test]
    fn namespaces_take_turns() {
        let mut items = RoundRobin::default();
        for (namespace, item) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5)] {
            items.push(namespace, item);
        }
        items.retain(|item| *item != 5 && *item != 2);
        assert_eq!((items.len(), items.len_of("a"), items.len_of("c")), (3, 2, 0));
        let order: Vec<i32> = std::iter::from_fn(|| items.pop()).collect();
        assert_eq!(order, [1, 4, 3]);
        assert!(items.is_empty());
    }
}
