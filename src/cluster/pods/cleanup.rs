//! Deletes Pods, and parts of messages, that nobody needs any more.

use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tracing::debug;

use super::{Pods, answer, delete_part};
use fedora_message::api::names::{is_label, is_subdomain};
use fedora_message::api::object::FedoraMessage;
use fedora_message::pod::manifest::{NAME_ANNOTATION, NAMESPACE_LABEL, UID_LABEL};
use fedora_message::pod::status::{PodState, look};

/// How long a part of a message may be there without the Pod that it was made for.
const ORPHAN: Duration = Duration::from_mins(10);

impl Pods {
    /// A message's status tells what its Pod has found out: the Pods that were not the last failed one
    /// are not needed any more.
    pub async fn clean(&self, namespace: &str, uid: &str) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mine = ListParams::default().labels(&format!("{UID_LABEL}={uid}"));
        match answer(api.list(&mine)).await {
            Ok(list) => {
                for pod in list.items.iter().filter(|pod| look(pod) == PodState::Sent) {
                    self.delete(&api, pod).await;
                }
            }
            Err(detail) => debug!("the Pods of namespace {namespace} can't be listed: {detail}"),
        }
    }

    /// Deletes what nobody needs any more in a namespace, or in all: Pods whose message is sent or gone,
    /// failed ones after their time, and parts of messages without their Pod. `is_pending` tells whether
    /// a message may still need its own; `is_mine`, whether its namespace is this operator's.
    pub async fn tidy(
        &self,
        namespace: Option<&str>,
        is_pending: impl Fn(&str) -> bool,
        is_mine: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let ours = ListParams::default().labels(UID_LABEL);
        let pods = answer(self.api::<Pod>(namespace).list(&ours)).await?;
        for pod in &pods.items {
            let labels = pod.labels();
            let [uid, from] = [UID_LABEL, NAMESPACE_LABEL].map(|label| labels.get(label).map_or("", String::as_str));
            if is_mine(from) && self.is_unneeded(pod, from, is_pending(uid)).await {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
                self.delete(&api, pod).await;
            }
        }
        let parts = answer(self.api::<ConfigMap>(namespace).list(&ours)).await?;
        for part in &parts.items {
            let owned = part.owner_references().iter().any(|owner| owner.kind == "Pod");
            let old = age(part.creation_timestamp().map(|time| time.0.as_second())) > ORPHAN;
            if !owned && old && is_mine(part.labels().get(NAMESPACE_LABEL).map_or("", String::as_str)) {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &part.namespace().unwrap_or_default());
                delete_part(&api, part).await;
            }
        }
        Ok(())
    }

    async fn is_unneeded(&self, pod: &Pod, from: &str, pending: bool) -> bool {
        match look(pod) {
            // Until the message's status says so, the Pod is the only proof.
            PodState::Sent => !pending,
            PodState::Failed(_) if age(ended_at(pod)) > self.keep_failed => true,
            // A Pod in its message's own namespace goes with its owner.
            _ if pending || pod.namespace().as_deref() == Some(from) => false,
            _ => {
                let name = pod.annotations().get(NAME_ANNOTATION).map_or("", String::as_str);
                // Somebody else's Pod, then; no name leads elsewhere in the API.
                if !is_label(from) || !is_subdomain(name) {
                    return false;
                }
                let api: Api<FedoraMessage> = Api::namespaced(self.client.clone(), from);
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
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
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
