//! Delivery by a Pod: the way that the proposal describes.

use std::collections::HashSet;

use parking_lot::Mutex;
use tracing::debug;

use super::DeliveryRequest;
use crate::broker::fence::Fence;
use crate::broker::pool::Brokers;
use crate::cluster::pods::{Limits, PodResult, Pods};
use fedora_message::api::object::FedoraMessage;
use fedora_message::message::secret::Keys;
use fedora_message::pod::manifest::{PodPlan, PodPlanError, PodSettings, plan};
use fedora_message::policy::outcome::{Attempt, Mode, Outcome, Reason};

/// All it takes to send messages by Pods.
pub struct PodDelivery {
    pods: Pods,
    settings: PodSettings,
    brokers: Brokers,
    gate: Fence,
    /// The namespaces that messages are taken from; all, if it is empty.
    watched: Vec<String>,
    /// The namespaces in which Pods were made.
    used: Mutex<HashSet<String>>,
}

impl PodDelivery {
    /// Nothing is sent while the `gate` is closed. Messages are those of the `watched` namespaces, or all.
    #[must_use]
    pub fn new(pods: Pods, settings: PodSettings, brokers: Brokers, gate: Fence, watched: Vec<String>) -> Self {
        Self { pods, settings, brokers, gate, watched, used: Mutex::default() }
    }

    /// Sends a message by a Pod. `direct` is what became of direct delivery, where that was tried.
    pub(crate) async fn send(&self, request: &DeliveryRequest<'_>, direct: Option<&Outcome>) -> Attempt {
        let outcome = match self.plan(request) {
            Ok(plan) => {
                self.used.lock().extend(plan.pod.metadata.namespace.clone());
                let limits = Limits { start: self.settings.start_seconds, run: self.settings.run_seconds };
                match self.pods.send(&plan, request.turn.recorded, limits, || self.gate.pass().is_ok()).await {
                    PodResult::Sent(pod) => Outcome::sent_by_pod(&pod, direct),
                    PodResult::Failed(outcome) => after(outcome, direct),
                }
            }
            Err(no_pod) => after(Outcome { reason: Reason::InvalidMessage, message: no_pod.to_string() }, direct),
        };
        Attempt { mode: Mode::Pod, ..outcome.into() }
    }

    /// The Pod that would send a message, or why none can.
    pub(crate) fn plan(&self, request: &DeliveryRequest<'_>) -> Result<PodPlan, PodPlanError> {
        let &DeliveryRequest { object, message, exchange, identity, turn } = request;
        let keys = Keys::new(&message.authentication, &identity.secrets);
        let url = self.brokers.of(message.environment).url();
        plan(object, message, exchange, &url, &keys, &self.settings, turn.recorded.saturating_add(1))
    }

    /// The status of a message tells what its Pod has found out, so that the Pod is not needed any more.
    pub async fn clean(&self, object: &FedoraMessage) {
        let used: Vec<String> = self.used.lock().iter().cloned().collect();
        // Almost always one: that of the message's Secret.
        for namespace in used.iter().filter(|namespace| names(object, namespace)) {
            self.pods.clean(namespace, object.uid()).await;
        }
    }

    /// Deletes what nobody needs any more; `is_pending` tells of a message's uid whether it may.
    ///
    /// Secrets, and so Pods, may be in namespaces that are not watched: all are looked at, if that is
    /// allowed, and else those that are watched or in which Pods were made.
    pub async fn tidy(&self, is_pending: impl Fn(&str) -> bool) {
        let is_mine = |namespace: &str| self.watched.is_empty() || self.watched.iter().any(|it| it == namespace);
        let Err(detail) = self.pods.tidy(None, &is_pending, is_mine).await else { return };
        debug!("Pods of all namespaces could not be tidied up: {detail}");
        let namespaces: HashSet<String> = self.watched.iter().chain(self.used.lock().iter()).cloned().collect();
        for namespace in namespaces {
            if let Err(detail) = self.pods.tidy(Some(&namespace), &is_pending, is_mine).await {
                debug!("Pods of namespace {namespace} could not be tidied up: {detail}");
            }
        }
    }
}

/// Whether a message's Secrets may be in a namespace.
fn names(object: &FedoraMessage, namespace: &str) -> bool {
    object.namespace() == namespace
        || object.spec.as_ref().is_ok_and(|spec| spec.authentication.namespaces().any(|named| named == namespace))
}

/// What became of a Pod, after what became of direct delivery.
fn after(outcome: Outcome, direct: Option<&Outcome>) -> Outcome {
    match direct {
        None => outcome,
        Some(Outcome { reason, message }) => {
            let message = format!("{}; before, direct delivery failed with {reason}: {message}", outcome.message);
            Outcome { message, ..outcome }
        }
    }
}
