//! Runs Pods that send a message each: finds the Pod of a message or creates one, and waits for its
//! result.
//!
//! The API server is asked what is there, and nothing is remembered. So the next operator takes
//! over the Pod that a killed operator left, and there are never two for one message
//! (docs/decisions/0013).

mod cleanup;

use std::time::{Duration, Instant};

use fedora_message::pod::manifest::{PodPlan, UID_LABEL};
use fedora_message::pod::status::{self, PodState, attempt, look, place};
use fedora_message::policy::outcome::{Failure, Outcome, Reason};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::json;
use tokio::time::timeout;
use tracing::debug;

use super::list::{self, ListError, answer};
use super::watch::{ObjectState, WatchKind, Watches};

/// A Pod that was deleted may take this time to be gone, beyond its own grace period.
const GONE: Duration = Duration::from_mins(1);
/// The operator waits for a Pod so many seconds beyond the Pod's own deadline.
const SLACK: u32 = 30;

/// Pods that send messages.
pub struct Pods {
    watches: Watches,
    /// A failed Pod is kept for this time.
    keep_failed: Duration,
}

/// The time limits of a Pod.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Seconds until it runs.
    pub start: u32,
    /// Seconds from then on.
    pub run: u32,
}

/// How a message's Pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodResult {
    /// The CLI of this Pod said that the broker confirmed the message.
    Sent(String),
    /// It did not.
    Failed(Outcome),
}

/// Why it is not known how a Pod ended.
#[derive(Debug, thiserror::Error)]
enum PodError {
    #[error("the Pods of namespace {namespace} can't be listed: {}", explain(cause))]
    List { namespace: String, cause: ListError },
    #[error("this operator does not lead any more: another one sends the message")]
    NotLeading,
    #[error("Pod {place} can't be made: {}", explain(cause))]
    Create { place: String, cause: ListError },
    #[error("Pod {place} can't be made: it was there, and is gone")]
    Gone { place: String },
    #[error("Pod {place} can't be watched: {}", explain(cause))]
    Watch { place: String, cause: ListError },
}

impl Failure for PodError {
    fn reason(&self) -> Reason {
        Reason::PodFailed
    }
}

/// The next step with the Pods of a message.
enum PodStep<'a> {
    Return(PodResult),
    Await(&'a Pod),
    Create,
}

impl Pods {
    /// Creates Pods in the cluster of these watches. A failed Pod is kept for the given time.
    #[must_use]
    pub fn new(watches: Watches, keep_failed: Duration) -> Self {
        Self { watches, keep_failed }
    }

    fn client(&self) -> Client {
        self.watches.client().clone()
    }

    /// Sends a message by the planned Pod, or by the Pod that is there already. `recorded` attempts
    /// were recorded. `may_send` decides right before a Pod is created.
    pub async fn send(&self, plan: &PodPlan, recorded: u32, limits: Limits, may_send: impl Fn() -> bool) -> PodResult {
        match self.try_to_send(plan, recorded, limits, may_send).await {
            Ok(result) => result,
            Err(error) => PodResult::Failed(error.into()),
        }
    }

    async fn try_to_send(
        &self,
        plan: &PodPlan,
        recorded: u32,
        limits: Limits,
        may_send: impl Fn() -> bool,
    ) -> Result<PodResult, PodError> {
        let namespace = plan.pod.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client(), &namespace);
        let uid = plan.pod.labels().get(UID_LABEL).cloned().unwrap_or_default();
        let with_uid = ListParams::default().labels(&format!("{UID_LABEL}={uid}"));
        let list = answer(api.list(&with_uid)).await.map_err(|cause| PodError::List { namespace, cause })?;
        let pod = match next_step(&list.items, recorded) {
            PodStep::Return(result) => return Ok(result),
            PodStep::Await(pod) => pod.clone(),
            PodStep::Create => {
                if !may_send() {
                    return Err(PodError::NotLeading);
                }
                for old in &list.items {
                    self.delete(&api, old).await;
                }
                self.create(&api, plan).await?
            }
        };
        self.wait(&api, pod, limits).await
    }

    async fn create(&self, api: &Api<Pod>, plan: &PodPlan) -> Result<Pod, PodError> {
        let configs: Api<ConfigMap> = Api::namespaced(self.client(), &plan.pod.namespace().unwrap_or_default());
        let created = create_in_order(&self.client(), api, &configs, plan).await;
        if let Ok(pod) = &created {
            debug!("Pod {} is made", place(pod));
            give_parts(&configs, plan, pod).await;
        } else {
            for part in &plan.parts {
                delete_part(&configs, part).await;
            }
        }
        created
    }

    /// Waits until a Pod has ended, or its time is over.
    async fn wait(&self, api: &Api<Pod>, mut pod: Pod, limits: Limits) -> Result<PodResult, PodError> {
        let begin = Instant::now();
        let to_start = Duration::from_secs(limits.start.into());
        let to_end_by_itself = Duration::from_secs((limits.start + limits.run + SLACK).into());
        let mut given_up: Option<(Instant, Outcome)> = None;
        let (namespace, version) = (pod.namespace().unwrap_or_default(), pod.resource_version().unwrap_or_default());
        let mut changes = self.watches.object_since(WatchKind::Pods, &namespace, &pod.name_any(), version);
        loop {
            let state = look(&pod);
            let deadline = match (&state, &given_up) {
                (PodState::Sent, _) => return Ok(PodResult::Sent(place(&pod))),
                (PodState::Failed(outcome), None) => return Ok(PodResult::Failed(outcome.clone())),
                (_, Some((since, _))) => *since + GONE,
                (PodState::Starting(_), None) => begin + to_start,
                (PodState::Running, None) => begin + to_end_by_itself,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let gone = match timeout(left, changes.next()).await {
                Ok(Ok(change)) => match same_pod(change, &pod) {
                    Some(now) => {
                        pod = now;
                        continue;
                    }
                    None => true,
                },
                // The watch connects again by itself.
                Ok(Err(ListError::Silent)) => continue,
                // The Pod goes on by itself, and the next attempt finds it.
                Ok(Err(cause)) => return Err(PodError::Watch { place: place(&pod), cause }),
                Err(_) => false,
            };
            match given_up {
                Some((_, outcome)) => return Ok(PodResult::Failed(outcome)),
                None if gone => return Ok(PodResult::Failed(status::vanished(&pod))),
                None => {
                    given_up = Some((Instant::now(), status::late(&pod, begin.elapsed().as_secs(), &state)));
                    self.delete(api, &pod).await;
                }
            }
        }
    }

    /// Deletes exactly this Pod. Its parts go with it.
    async fn delete(&self, api: &Api<Pod>, pod: &Pod) {
        let exactly = kube::api::Preconditions { uid: pod.uid(), resource_version: None };
        let parameters = DeleteParams::background().preconditions(exactly);
        log(&format!("Pod {}", place(pod)), answer(api.delete(&pod.name_any(), &parameters)).await.map(drop));
    }
}

/// Returns the Pod after a change, or nothing if it is gone. The last state of a deleted Pod may be
/// its result.
fn same_pod(change: ObjectState<Pod>, pod: &Pod) -> Option<Pod> {
    match change {
        ObjectState::Present(now) if now.uid() == pod.uid() => Some(*now),
        ObjectState::Absent(Some(last)) if last.uid() == pod.uid() => {
            let state = look(&last);
            (matches!(state, PodState::Sent | PodState::Failed(_)) && state != look(pod)).then_some(*last)
        }
        ObjectState::Present(_) | ObjectState::Absent(_) => None,
    }
}

/// Creates a Pod after what it mounts. Otherwise it would wait for a minute.
async fn create_in_order(
    client: &Client,
    api: &Api<Pod>,
    configs: &Api<ConfigMap>,
    plan: &PodPlan,
) -> Result<Pod, PodError> {
    let parameters = PostParams::default();
    let place = || place(&plan.pod);
    for part in &plan.parts {
        match answer(configs.create(&parameters, part)).await {
            Err(cause) if !cause.is_already_exists() => return Err(PodError::Create { place: place(), cause }),
            Ok(_) | Err(_) => {}
        }
    }
    match answer(api.create(&parameters, &plan.pod)).await {
        Ok(pod) => Ok(pod),
        Err(cause) if cause.is_already_exists() => {
            let namespace = plan.pod.namespace().unwrap_or_default();
            let found = list::get(client, &namespace, &plan.pod.name_any()).await;
            let found = found.map_err(|cause| PodError::Create { place: place(), cause })?;
            found.ok_or_else(|| PodError::Gone { place: place() })
        }
        Err(cause) => Err(PodError::Create { place: place(), cause }),
    }
}

/// Makes the Pod the owner of the message's parts, so that they are deleted with it.
async fn give_parts(configs: &Api<ConfigMap>, plan: &PodPlan, pod: &Pod) {
    let owner = json!({"metadata": {"ownerReferences": [{
        "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid().unwrap_or_default(),
    }]}});
    for part in &plan.parts {
        let (name, parameters, patch) = (part.name_any(), PatchParams::default(), Patch::Merge(&owner));
        if let Err(error) = answer(configs.patch(&name, &parameters, &patch)).await {
            debug!("ConfigMap {name} could not be given to its Pod: {}", explain(&error));
        }
    }
}

async fn delete_part(configs: &Api<ConfigMap>, part: &ConfigMap) {
    let name = part.name_any();
    log(&format!("ConfigMap {name}"), answer(configs.delete(&name, &DeleteParams::default())).await.map(drop));
}

fn log(place: &str, deleted: Result<(), ListError>) {
    match deleted {
        Ok(()) => debug!("{place} is deleted"),
        Err(error) => debug!("{place} can't be deleted: {}", explain(&error)),
    }
}

/// Decides what to do about the Pods of a message, of which `recorded` attempts were recorded.
fn next_step(pods: &[Pod], recorded: u32) -> PodStep<'_> {
    let mut step = PodStep::Create;
    for pod in pods {
        match look(pod) {
            PodState::Sent => return PodStep::Return(PodResult::Sent(place(pod))),
            PodState::Failed(outcome) if attempt(pod) > recorded => step = PodStep::Return(PodResult::Failed(outcome)),
            PodState::Failed(_) => {}
            PodState::Starting(_) | PodState::Running => return PodStep::Await(pod),
        }
    }
    step
}

/// Explains an error, and what to do.
pub(crate) fn explain(error: &ListError) -> String {
    match error {
        ListError::Failed(Error::Api(status)) if status.code == 403 && status.message.contains("cannot") => {
            format!(
                "the operator is not allowed to do that: bind its ServiceAccount to its role for Pods there ({})",
                status.message
            )
        }
        other => other.to_string(),
    }
}
