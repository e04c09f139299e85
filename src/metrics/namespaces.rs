//! Metrics of each namespace, for the teams that send. The number of namespaces that have them is bounded.

use std::sync::atomic::AtomicU64;

use chrono::TimeDelta;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{registered, registered_in_seconds};

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct NamespaceLabels {
    namespace: String,
}

/// Measures what a team has to act on.
pub(super) struct NamespaceMetrics {
    /// The maximum number of namespaces.
    pub(super) max: usize,
    given_up: Family<NamespaceLabels, Counter>,
    /// The number of namespaces that may still get a counter.
    vacant: Mutex<usize>,
    oldest: Family<NamespaceLabels, Gauge<f64, AtomicU64>>,
}

impl NamespaceMetrics {
    pub(super) fn new(registry: &mut Registry, max: usize) -> Self {
        let given_up = registered(
            registry,
            "namespace_messages_given_up",
            "Messages of a namespace that were given up; only of the first namespaces with such messages, as many as \
             --namespace-metrics says",
            Family::default(),
        );
        let oldest = registered_in_seconds(
            registry,
            "namespace_oldest_pending_age",
            "Age of the oldest message of a namespace that is not sent, given up or suspended; only of the namespaces \
             with the oldest ones, as many as --namespace-metrics says. Only the replica that sends has it",
            Family::default(),
        );
        Self { max, given_up, vacant: Mutex::new(max), oldest }
    }

    pub(super) fn count_given_up(&self, namespace: &str) {
        let labels = NamespaceLabels { namespace: namespace.to_owned() };
        let mut vacant = self.vacant.lock();
        if self.given_up.get(&labels).is_none() {
            let Some(rest) = vacant.checked_sub(1) else { return };
            *vacant = rest;
        }
        self.given_up.get_or_create(&labels).inc();
    }

    pub(super) fn set_oldest(&self, ages: &[(String, TimeDelta)]) {
        self.oldest.clear();
        for (namespace, age) in ages {
            let labels = NamespaceLabels { namespace: namespace.clone() };
            self.oldest.get_or_create(&labels).set(age.as_seconds_f64());
        }
    }
}
