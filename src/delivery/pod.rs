//! Delivery by a Pod that runs the fedora-messaging CLI, as the proposal describes.

use std::collections::HashSet;
use std::future::pending;
use std::time::Duration;

use fedora_message::api::object::FedoraMessage;
use fedora_message::message::secret::{KeyLocations, OperatorCas};
use fedora_message::pod::manifest::{PodLogin, PodPlanError, PodSettings, plan};
use fedora_message::policy::outcome::{Attempt, Mode, Outcome};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use super::{DeliveryRequest, NotTried};
use crate::broker::pool::Brokers;
use crate::cluster::pods::{Limits, Pods, explain};

/// A result of a Pod that comes within this time after the term is still recorded. It may have been on its
/// way.
const RESULT_GRACE: Duration = Duration::from_secs(5);

/// Sends messages by Pods.
pub struct PodDelivery {
    pods: Pods,
    settings: PodSettings,
    brokers: Brokers,
    cas: OperatorCas,
    /// The namespaces that are watched for messages. Empty: all.
    watched: Vec<String>,
    /// The namespaces in which Pods were created.
    used: Mutex<HashSet<String>>,
    /// The current term.
    term: watch::Receiver<Option<u64>>,
}

impl PodDelivery {
    /// `watched` names the namespaces of the messages; empty: all. `term` is the current term.
    #[must_use]
    pub fn new(
        pods: Pods,
        settings: PodSettings,
        brokers: Brokers,
        cas: OperatorCas,
        watched: Vec<String>,
        term: watch::Receiver<Option<u64>>,
    ) -> Self {
        Self { pods, settings, brokers, cas, watched, used: Mutex::default(), term }
    }

    /// Sends a message by a Pod. `direct` is the outcome of direct delivery, if that was tried.
    ///
    /// Soon after the term the wait for the Pod ends, because the next term begins once all jobs of this one
    /// have ended. It finds the Pod.
    pub(super) async fn send(
        &self,
        request: &DeliveryRequest<'_>,
        direct: Option<&Outcome>,
    ) -> Result<Attempt, NotTried> {
        let plan = match self.plan(request) {
            Ok(plan) => plan,
            Err(error) => return Ok(with_direct(error.into(), direct).into()),
        };
        self.used.lock().extend(plan.metadata.namespace.clone());
        let limits = Limits { start: self.settings.start_seconds, run: self.settings.run_seconds };
        let sent = tokio::select! {
            biased;
            sent = self.pods.send(&plan, request.attempts, limits) => sent,
            () = end_of_term(self.term.clone()) => return Err(NotTried::Cancelled),
        };
        let outcome = match sent {
            Ok(pod) => Outcome::sent_by_pod(&pod, direct),
            Err(outcome) => with_direct(outcome, direct),
        };
        Ok(Attempt { mode: Some(Mode::Pod), ..outcome.into() })
    }

    /// Returns the Pod that would send a message.
    pub(super) fn plan(&self, request: &DeliveryRequest<'_>) -> Result<Pod, PodPlanError> {
        let &DeliveryRequest { object, message, exchange, identity, attempts, .. } = request;
        let keys = KeyLocations::find(&message.authentication, &identity.secrets);
        let url = self.brokers.of(message.environment).url();
        let login = PodLogin { url: &url, keys: &keys, operator_ca: self.cas.of(message.environment).as_ref() };
        plan(object, message, exchange, login, &self.settings, attempts.saturating_add(1))
    }

    /// Deletes the Pod of a sent message, because the message's status says all that the Pod proves.
    pub async fn clean_up(&self, object: &FedoraMessage) {
        let used: Vec<String> = self.used.lock().iter().cloned().collect();
        // Almost always there is one: the namespace of the message's Secret.
        for namespace in used.iter().filter(|namespace| may_have_pod(object, namespace)) {
            if let Err(error) = self.pods.clean_up(namespace, object.uid()).await {
                debug!("can't clean up the Pods of namespace {namespace}: {}", explain(&error));
            }
        }
    }

    /// Deletes Pods that no message needs any more. `is_pending` returns true if the message with this
    /// uid may need its own. `is_listed` returns true if the watch with this number has listed all its
    /// messages. Pods of other messages stay.
    ///
    /// Secrets, and so Pods, may be in namespaces that are not watched. All namespaces are searched
    /// if that is allowed, else those that are watched or in which Pods were created.
    pub async fn clean_up_orphans(&self, is_pending: impl Fn(&str) -> bool, is_listed: impl Fn(usize) -> bool) {
        let is_mine = |namespace: &str| match self.watched.as_slice() {
            [] => is_listed(0),
            // Each namespace has the watch with its own number.
            watched => watched.iter().position(|it| it == namespace).is_some_and(&is_listed),
        };
        let Err(error) = self.pods.clean_up_orphans(None, &is_pending, is_mine).await else { return };
        debug!("can't clean up the Pods of all namespaces: {}", explain(&error));
        let namespaces: HashSet<String> = self.watched.iter().chain(self.used.lock().iter()).cloned().collect();
        for namespace in namespaces {
            if let Err(error) = self.pods.clean_up_orphans(Some(&namespace), &is_pending, is_mine).await {
                debug!("can't clean up the Pods of namespace {namespace}: {}", explain(&error));
            }
        }
    }
}

/// Waits until the current term has ended, and no result of a Pod may come any more.
async fn end_of_term(mut term: watch::Receiver<Option<u64>>) {
    let current = *term.borrow_and_update();
    if term.wait_for(|term| *term != current).await.is_err() {
        // The process ends.
        pending::<()>().await;
    }
    sleep(RESULT_GRACE).await;
}

/// Returns true if a message's Secrets, and so its Pod, may be in this namespace.
fn may_have_pod(object: &FedoraMessage, namespace: &str) -> bool {
    object.namespace() == namespace || object.summary.sources().iter().any(|source| source.namespace == namespace)
}

/// Adds the outcome of direct delivery to that of a Pod.
fn with_direct(outcome: Outcome, direct: Option<&Outcome>) -> Outcome {
    match direct {
        None => outcome,
        Some(Outcome { reason, message }) => {
            let message = format!("{}; before, direct delivery failed with {reason}: {message}", outcome.message);
            Outcome { message, ..outcome }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_another_term_ends_the_term() {
        let term = watch::Sender::new(Some(1));
        let mut end = std::pin::pin!(end_of_term(term.subscribe()));
        assert!(end.as_mut().now_or_never().is_none());
        term.send_replace(Some(1));
        assert!(timeout(RESULT_GRACE, end.as_mut()).await.is_err(), "it is the same term");
        term.send_replace(None);
        assert!(end.as_mut().now_or_never().is_none(), "a result may be on its way");
        assert!(timeout(2 * RESULT_GRACE, end).await.is_ok());
        let process_ends = end_of_term(watch::Sender::new(Some(1)).subscribe());
        assert!(timeout(2 * RESULT_GRACE, process_ends).await.is_err(), "jobs in flight have time to end");
    }
}
