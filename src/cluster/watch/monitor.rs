//! When each watch last heard from the API server, and whether a connection has died silently.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::watch;
use tokio::time::Instant;

/// The kind of the watched objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum WatchKind {
    /// Pending messages.
    Messages,
    /// Senders.
    Senders,
    /// Secrets that messages and Senders name.
    Secrets,
    /// `ConfigMaps` with a CA that Senders name.
    ConfigMaps,
    /// The Lease, while another operator leads.
    Lease,
    /// Pods that send messages.
    Pods,
}

impl WatchKind {
    /// Returns its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Knows all watches of this process.
#[derive(Clone)]
pub struct WatchMonitor(Arc<MonitorState>);

struct MonitorState {
    watches: Mutex<Registry>,
    /// Counts the connections that died silently.
    silences: watch::Sender<u64>,
    on_silence: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Registry {
    last_id: u64,
    last_heard: HashMap<u64, (WatchKind, Instant)>,
}

impl WatchMonitor {
    /// Creates a monitor without watches. It calls `on_silence` when a connection has died
    /// silently.
    #[must_use]
    pub fn new(on_silence: impl Fn() + Send + Sync + 'static) -> Self {
        let on_silence = Box::new(on_silence);
        Self(Arc::new(MonitorState { watches: Mutex::default(), silences: watch::Sender::new(0), on_silence }))
    }

    /// Returns for each kind how long ago the most silent watch heard something. A kind without a
    /// watch is left out.
    #[must_use]
    pub fn ages(&self, now: Instant) -> BTreeMap<WatchKind, Duration> {
        let mut ages = BTreeMap::new();
        for (kind, heard) in self.0.watches.lock().last_heard.values() {
            let age = now.saturating_duration_since(*heard);
            let oldest = ages.entry(*kind).or_insert(age);
            *oldest = age.max(*oldest);
        }
        ages
    }

    /// Returns how many silent connections were detected. Anything that was read at a lower count
    /// may be out of date.
    #[must_use]
    pub fn silences(&self) -> u64 {
        *self.0.silences.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.silences.subscribe()
    }

    /// A connection has died silently. All watches connect again, since their connections took the
    /// same path.
    pub(crate) fn report_silence(&self) {
        (self.0.on_silence)();
        self.0.silences.send_modify(|count| *count += 1);
    }

    pub(crate) fn register(&self, kind: WatchKind) -> Heartbeat {
        let mut watches = self.0.watches.lock();
        watches.last_id += 1;
        let id = watches.last_id;
        let now = Instant::now();
        watches.last_heard.insert(id, (kind, now));
        Heartbeat { monitor: self.clone(), kind, id, last_success: now }
    }
}

impl Default for WatchMonitor {
    fn default() -> Self {
        Self::new(|| {})
    }
}

/// One watch's entry in the monitor, for as long as the watch lives.
pub(crate) struct Heartbeat {
    monitor: WatchMonitor,
    kind: WatchKind,
    id: u64,
    last_success: Instant,
}

impl Heartbeat {
    /// Returns the kind of the watched objects.
    pub(super) fn kind(&self) -> WatchKind {
        self.kind
    }

    /// Returns when the API server last gave the watch what it asked for.
    pub(super) fn last_success(&self) -> Instant {
        self.last_success
    }

    /// The API server has given the watch what it asked for.
    pub(super) fn beat(&mut self) {
        self.last_success = Instant::now();
        self.beat_refused();
    }

    /// The API server has reported a change.
    ///
    /// Everybody may see the ages in the metrics, but not when a Secret changes. So a change of a
    /// Secret leaves them as they are. Bookmarks arrive once a minute, whatever changes.
    pub(super) fn beat_change(&mut self) {
        match self.kind {
            WatchKind::Secrets | WatchKind::ConfigMaps => self.last_success = Instant::now(),
            WatchKind::Messages | WatchKind::Senders | WatchKind::Lease | WatchKind::Pods => self.beat(),
        }
    }

    /// The API server has refused a request, which is an answer too.
    pub(super) fn beat_refused(&self) {
        if let Some((_, heard)) = self.monitor.0.watches.lock().last_heard.get_mut(&self.id) {
            *heard = Instant::now();
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.monitor.0.watches.lock().last_heard.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_each_kind_while_it_is_watched() {
        let monitor = WatchMonitor::default();
        let kinds = |later: u64| -> Vec<(&str, bool)> {
            let ages = monitor.ages(Instant::now() + Duration::from_secs(later));
            ages.into_iter().map(|(kind, age)| (kind.name(), age >= Duration::from_secs(later))).collect()
        };
        assert_eq!(kinds(0), []);
        let mut messages = monitor.register(WatchKind::Messages);
        let secrets = [WatchKind::Secrets; 2].map(|kind| monitor.register(kind));
        assert_eq!(kinds(5), [("messages", true), ("secrets", true)]);
        drop(secrets);
        assert_eq!(kinds(5), [("messages", true)]);
        messages.beat();
        assert!(monitor.ages(Instant::now())[&WatchKind::Messages] < Duration::from_secs(5));
    }

    /// Users must not learn from the metrics when a Secret of another namespace changes.
    #[tokio::test(start_paused = true)]
    async fn change_of_a_secret_leaves_its_age() {
        let monitor = WatchMonitor::default();
        let kinds = [WatchKind::Messages, WatchKind::Secrets];
        let mut watches = kinds.map(|kind| monitor.register(kind));
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        watches.iter_mut().for_each(Heartbeat::beat_change);
        assert_eq!(monitor.ages(Instant::now()), [(kinds[0], Duration::ZERO), (kinds[1], second)].into());
        assert_eq!(watches[1].last_success(), Instant::now());
    }

    #[test]
    fn reports_the_most_silent_watch() {
        let monitor = WatchMonitor::default();
        let mut watches = [WatchKind::Secrets; 2].map(|kind| monitor.register(kind));
        let later = Instant::now() + Duration::from_secs(9);
        watches[0].beat();
        assert!(monitor.ages(later)[&WatchKind::Secrets] >= Duration::from_secs(9));
        watches[1].beat();
        assert!(monitor.ages(later)[&WatchKind::Secrets] < Duration::from_secs(9));
    }
}
