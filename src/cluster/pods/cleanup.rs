//! Deletes Pods that are not needed any more.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fedora_message::api::names::{is_label, is_subdomain};
use fedora_message::api::object::FedoraMessage;
use fedora_message::pod::manifest::{NAME_ANNOTATION, NAMESPACE_LABEL, UID_LABEL};
use fedora_message::pod::proof::attempt;
use fedora_message::pod::status::{PodState, look};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Error, ResourceExt};

use super::super::client::is_not_found;
use super::super::list::{ListError, answer};
use super::{PodId, Pods, delete};

/// A message whose Pod has sent it was pending this time ago, or its status is written.
const SETTLED: Duration = Duration::from_mins(1);

impl Pods {
    /// Deletes the Pods of a message that have sent it. The message's status tells the result, so
    /// they are not needed any more. The last failed Pod stays.
    pub async fn clean_up(&self, namespace: &str, uid: &str) -> Result<(), ListError> {
        let mut pods = self.list(Some(namespace), &format!("{UID_LABEL}={uid}"));
        while let Some(pod) = pods.next().await? {
            if attempt(&pod).is_some() && look(&pod) == PodState::Sent {
                self.delete_found(&pod).await;
            }
        }
        Ok(())
    }

    /// Deletes the Pods that are not needed any more in a namespace, or in all namespaces. Holds one
    /// of them at a time, because each may have a megabyte.
    ///
    /// These are Pods whose message is sent or gone, and failed Pods after their time.
    ///
    /// `is_pending` returns true if the message of this uid may still need its Pod. `is_mine`
    /// returns true if the operator takes messages from this namespace, and knows all that are pending.
    pub async fn clean_up_orphans(
        &self,
        namespace: Option<&str>,
        is_pending: impl Fn(&str) -> bool,
        is_mine: impl Fn(&str) -> bool,
    ) -> Result<(), ListError> {
        let mut pods = self.list(namespace, UID_LABEL);
        while let Some(pod) = pods.next().await? {
            let labels = pod.labels();
            let [uid, from] = [UID_LABEL, NAMESPACE_LABEL].map(|label| labels.get(label).map_or("", String::as_str));
            let is_ours = attempt(&pod).is_some() && is_mine(from);
            if is_ours && self.is_unneeded(&pod, from, is_pending(uid)).await {
                self.delete_found(&pod).await;
            }
        }
        Ok(())
    }

    async fn delete_found(&self, pod: &Pod) {
        delete(&Api::namespaced(self.fenced.clone(), &pod.namespace().unwrap_or_default()), &PodId::of(pod)).await;
    }

    async fn is_unneeded(&self, pod: &Pod, from: &str, pending: bool) -> bool {
        match look(pod) {
            // Until the message's status says that it is sent, the Pod is the only proof. The message
            // may be newer than what `pending` knows.
            PodState::Sent => !pending && age(ended_at(pod)) > SETTLED,
            PodState::Failed(_) if age(ended_at(pod)) > self.keep_failed => true,
            // A Pod in its message's own namespace is deleted with its owner.
            _ if pending || pod.namespace().as_deref() == Some(from) => false,
            _ => {
                let name = pod.annotations().get(NAME_ANNOTATION).map_or("", String::as_str);
                // The Pod was created by somebody else. No name may lead elsewhere in the API.
                if !is_label(from) || !is_subdomain(name) {
                    return false;
                }
                let api: Api<FedoraMessage> = Api::namespaced(self.client(), from);
                let uid = pod.labels().get(UID_LABEL);
                match answer(api.get_metadata(name)).await {
                    Ok(found) => found.uid().as_ref() != uid,
                    Err(ListError::Failed(Error::Api(status))) => is_not_found(&status),
                    Err(_) => false,
                }
            }
        }
    }
}

fn ended_at(pod: &Pod) -> Option<i64> {
    let status = pod.status.as_ref()?;
    let end = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    end.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0.as_second())
}

fn age(since: Option<i64>) -> Duration {
    let since = since.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    since.and_then(|since| (Utc::now() - since).to_std().ok()).unwrap_or_default()
}
