//! Deletes Pods, and parts of messages, that are not needed any more.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fedora_message::api::names::{is_label, is_subdomain};
use fedora_message::api::object::FedoraMessage;
use fedora_message::pod::manifest::{NAME_ANNOTATION, NAMESPACE_LABEL, UID_LABEL};
use fedora_message::pod::status::{PodState, look};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tracing::debug;

use super::super::list::{ListError, answer};
use super::{Pods, delete_part, explain};

/// A part of a message may be there for this time without the Pod that it was made for.
const ORPHAN: Duration = Duration::from_mins(10);

impl Pods {
    /// Deletes the Pods of a message that have sent it. The message's status tells the result, so
    /// they are not needed any more. The last failed Pod stays.
    pub async fn clean_up(&self, namespace: &str, uid: &str) {
        let api: Api<Pod> = Api::namespaced(self.client(), namespace);
        let with_uid = ListParams::default().labels(&format!("{UID_LABEL}={uid}"));
        match answer(api.list(&with_uid)).await {
            Ok(list) => {
                for pod in list.items.iter().filter(|pod| look(pod) == PodState::Sent) {
                    self.delete(&api, pod).await;
                }
            }
            Err(error) => debug!("the Pods of namespace {namespace} can't be listed: {}", explain(&error)),
        }
    }

    /// Deletes everything that is not needed any more in a namespace, or in all namespaces.
    ///
    /// These are Pods whose message is sent or gone, failed Pods after their time, and parts of
    /// messages without their Pod.
    ///
    /// `is_pending` returns true if the message of this uid may still need its Pod. `is_mine`
    /// returns true if the operator takes messages from this namespace.
    pub async fn clean_up_orphans(
        &self,
        namespace: Option<&str>,
        is_pending: impl Fn(&str) -> bool,
        is_mine: impl Fn(&str) -> bool,
    ) -> Result<(), ListError> {
        let ours = ListParams::default().labels(UID_LABEL);
        let pods = answer(self.api::<Pod>(namespace).list(&ours)).await?;
        for pod in &pods.items {
            let labels = pod.labels();
            let [uid, from] = [UID_LABEL, NAMESPACE_LABEL].map(|label| labels.get(label).map_or("", String::as_str));
            if is_mine(from) && self.is_unneeded(pod, from, is_pending(uid)).await {
                let api: Api<Pod> = Api::namespaced(self.client(), &pod.namespace().unwrap_or_default());
                self.delete(&api, pod).await;
            }
        }
        let parts = answer(self.api::<ConfigMap>(namespace).list(&ours)).await?;
        for part in &parts.items {
            let owned = part.owner_references().iter().any(|owner| owner.kind == "Pod");
            let old = age(part.creation_timestamp().map(|time| time.0.as_second())) > ORPHAN;
            if !owned && old && is_mine(part.labels().get(NAMESPACE_LABEL).map_or("", String::as_str)) {
                let api: Api<ConfigMap> = Api::namespaced(self.client(), &part.namespace().unwrap_or_default());
                delete_part(&api, part).await;
            }
        }
        Ok(())
    }

    async fn is_unneeded(&self, pod: &Pod, from: &str, pending: bool) -> bool {
        match look(pod) {
            // Until the message's status says that it is sent, the Pod is the only proof.
            PodState::Sent => !pending,
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
                match answer(api.get_metadata_opt(name)).await {
                    Ok(found) => found.and_then(|found| found.uid()).as_ref() != uid,
                    Err(_) => false,
                }
            }
        }
    }

    fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client(), namespace),
            None => Api::all(self.client()),
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
