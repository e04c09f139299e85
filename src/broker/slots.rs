//! Bounds the number of connections: for the messages of one namespace, and in all.
//!
//! The namespace whose message needs a connection first pays for it, also if messages of others use
//! it later.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fedora_message::bounds::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_NAMESPACE};
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A task that waits for a slot looks this often whether a connection has become unused.
const LOOK: Duration = Duration::from_millis(50);

/// All slots.
pub struct Slots {
    all: Arc<Semaphore>,
    namespaces: Mutex<HashMap<Arc<str>, Weak<Namespace>>>,
}

/// The slots of one namespace.
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    slots: Arc<Semaphore>,
    /// One task at a time waits for a slot.
    turn: tokio::sync::Mutex<()>,
}

/// A slot for one connection. Its drop frees it.
pub struct Slot {
    /// The namespace that pays for it.
    pub namespace: Arc<Namespace>,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Slots {
    /// Returns all slots, which are free.
    pub fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_CONNECTIONS)), namespaces: Mutex::default() }
    }

    /// Returns the slots of a namespace.
    pub fn of(&self, name: &str) -> Arc<Namespace> {
        let mut namespaces = self.namespaces.lock();
        if let Some(namespace) = namespaces.get(name).and_then(Weak::upgrade) {
            return namespace;
        }
        namespaces.retain(|_, namespace| namespace.strong_count() > 0);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS_PER_NAMESPACE));
        let namespace = Arc::new(Namespace { name: name.into(), slots, turn: tokio::sync::Mutex::default() });
        namespaces.insert(namespace.name.clone(), Arc::downgrade(&namespace));
        namespace
    }

    /// Waits for a slot. While there is none, calls `free` again and again, which closes a connection if
    /// one is unused: of this namespace, or of any. Its task ends when that is closed.
    pub async fn take(
        &self,
        namespace: Arc<Namespace>,
        free: impl Fn(Option<&Namespace>) -> Option<JoinHandle<()>>,
    ) -> Slot {
        let own = permit(&namespace.slots, || free(Some(&namespace))).await;
        let all = permit(&self.all, || free(None)).await;
        Slot { namespace, _permits: [own, all] }
    }
}

impl Namespace {
    /// Waits until no other task waits for a slot of this namespace.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Returns true if all its slots are taken.
    pub fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
    }
}

async fn permit(slots: &Arc<Semaphore>, free: impl Fn() -> Option<JoinHandle<()>>) -> OwnedSemaphorePermit {
    let mut closing = None;
    loop {
        // One slot needs one connection to be closed, which may take a while.
        if slots.available_permits() == 0 && closing.as_ref().is_none_or(JoinHandle::is_finished) {
            closing = free();
        }
        if let Ok(Ok(permit)) = timeout(LOOK, slots.clone().acquire_owned()).await {
            return permit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::sleep;

    use super::*;

    /// A broker that blocks its publishers takes two seconds to close a connection.
    #[tokio::test(start_paused = true)]
    async fn one_slot_costs_one_connection() {
        let slots = Arc::new(Semaphore::new(1));
        let taken = Cell::new(slots.clone().try_acquire_owned().ok());
        let closed = Cell::new(0);
        let free = || {
            closed.set(closed.get() + 1);
            let slot = taken.take();
            Some(tokio::spawn(async move {
                sleep(Duration::from_secs(2)).await;
                drop(slot);
            }))
        };
        let _permit = permit(&slots, free).await;
        assert_eq!(closed.get(), 1);
    }
}
