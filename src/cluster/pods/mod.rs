//! Runs Pods that send a message each: finds the one that is there, or makes one, and waits for its
//! verdict.
//!
//! What is there is asked of the API server, not remembered: so who comes after a killed operator takes
//! up the Pod that it left, and there are never two for one message (docs/decisions/0013).

mod cleanup;

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::timeout;
use tracing::debug;

use super::client::describe;
use fedora_message::pod::manifest::{PodPlan, UID_LABEL};
use fedora_message::pod::status::{self, PodState, attempt, look, place};
use fedora_message::policy::outcome::Outcome;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(20);
/// How long a Pod that was told to end may take to be gone, beyond its own grace period.
const GONE: Duration = Duration::from_mins(1);
/// How much longer than its own deadline a Pod is waited for.
const SLACK: u32 = 30;

/// Pods that send messages.
pub struct Pods {
    client: Client,
    /// How long a failed one is kept.
    keep_failed: Duration,
}

/// How long a Pod may take.
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

/// What is to be done about the Pods that a message has.
enum Step<'a> {
    Return(PodResult),
    Await(&'a Pod),
    Create,
}

impl Pods {
    /// Pods of this client's cluster; one that failed is kept for that long.
    #[must_use]
    pub fn new(client: Client, keep_failed: Duration) -> Self {
        Self { client, keep_failed }
    }

    /// Sends a message by the planned Pod, or by the one that is there already. `recorded` attempts have
    /// been recorded; `may_send` has the last word before a Pod is made.
    pub async fn send(&self, plan: &PodPlan, recorded: u32, limits: Limits, may_send: impl Fn() -> bool) -> PodResult {
        match self.try_to_send(plan, recorded, limits, may_send).await {
            Ok(ended) => ended,
            Err(detail) => PodResult::Failed(status::failed(detail)),
        }
    }

    async fn try_to_send(
        &self,
        plan: &PodPlan,
        recorded: u32,
        limits: Limits,
        may_send: impl Fn() -> bool,
    ) -> Result<PodResult, String> {
        let namespace = plan.pod.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let uid = plan.pod.labels().get(UID_LABEL).cloned().unwrap_or_default();
        let mine = ListParams::default().labels(&format!("{UID_LABEL}={uid}"));
        let list = answer(api.list(&mine))
            .await
            .map_err(|detail| format!("the Pods of namespace {namespace} can't be listed: {detail}"))?;
        let pod = match next_step(&list.items, recorded) {
            Step::Return(ended) => return Ok(ended),
            Step::Await(pod) => pod.clone(),
            Step::Create => {
                if !may_send() {
                    return Err("this operator does not lead any more: another one sends the message".to_owned());
                }
                for old in &list.items {
                    self.delete(&api, old).await;
                }
                self.create(&api, plan).await?
            }
        };
        self.wait(&api, pod, limits).await
    }

    async fn create(&self, api: &Api<Pod>, plan: &PodPlan) -> Result<Pod, String> {
        let configs: Api<ConfigMap> = Api::namespaced(self.client.clone(), &plan.pod.namespace().unwrap_or_default());
        match create_in_order(api, &configs, plan).await {
            Ok(pod) => {
                debug!("Pod {} is made", place(&pod));
                give_parts(&configs, plan, &pod).await;
                Ok(pod)
            }
            Err(detail) => {
                for part in &plan.parts {
                    delete_part(&configs, part).await;
                }
                Err(format!("Pod {} can't be made: {detail}", place(&plan.pod)))
            }
        }
    }

    /// Waits until a Pod has ended, or its time has.
    async fn wait(&self, api: &Api<Pod>, mut pod: Pod, limits: Limits) -> Result<PodResult, String> {
        let begin = Instant::now();
        let to_start = Duration::from_secs(limits.start.into());
        let to_end_by_itself = Duration::from_secs((limits.start + limits.run + SLACK).into());
        let mut given_up: Option<(Instant, Outcome)> = None;
        loop {
            let sight = look(&pod);
            let deadline = match (&sight, &given_up) {
                (PodState::Sent, _) => return Ok(PodResult::Sent(place(&pod))),
                (PodState::Failed(outcome), None) => return Ok(PodResult::Failed(outcome.clone())),
                (_, Some((since, _))) => *since + GONE,
                (PodState::Starting(_), None) => begin + to_start,
                (PodState::Running, None) => begin + to_end_by_itself,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let gone = match timeout(left, next_change(api, &pod)).await {
                Ok(Ok(Some(changed))) => {
                    pod = changed;
                    continue;
                }
                // The Pod goes on by itself; the next attempt takes it up.
                Ok(Err(detail)) => return Err(format!("Pod {} can't be watched: {detail}", place(&pod))),
                Ok(Ok(None)) => true,
                Err(_) => false,
            };
            match given_up {
                Some((_, outcome)) => return Ok(PodResult::Failed(outcome)),
                None if gone => return Ok(PodResult::Failed(status::vanished(&pod))),
                None => {
                    given_up = Some((Instant::now(), status::late(&pod, begin.elapsed().as_secs(), &sight)));
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

/// What a Pod mounts has to be there before it: else it waits for a minute.
async fn create_in_order(api: &Api<Pod>, configs: &Api<ConfigMap>, plan: &PodPlan) -> Result<Pod, String> {
    let parameters = PostParams::default();
    for part in &plan.parts {
        match answer(configs.create(&parameters, part)).await {
            Err(detail) if !exists_already(&detail) => return Err(detail),
            Ok(_) | Err(_) => {}
        }
    }
    match answer(api.create(&parameters, &plan.pod)).await {
        Err(detail) if exists_already(&detail) => {
            find(api, &plan.pod.name_any()).await?.ok_or_else(|| "it was there, and is gone".to_owned())
        }
        answer => answer,
    }
}

fn exists_already(detail: &str) -> bool {
    detail.contains("already exists")
}

/// The parts of a message go with its Pod.
async fn give_parts(configs: &Api<ConfigMap>, plan: &PodPlan, pod: &Pod) {
    let owner = json!({"metadata": {"ownerReferences": [{
        "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid().unwrap_or_default(),
    }]}});
    for part in &plan.parts {
        let (name, parameters, patch) = (part.name_any(), PatchParams::default(), Patch::Merge(&owner));
        if let Err(detail) = answer(configs.patch(&name, &parameters, &patch)).await {
            debug!("ConfigMap {name} could not be given to its Pod: {detail}");
        }
    }
}

async fn delete_part(configs: &Api<ConfigMap>, part: &ConfigMap) {
    let name = part.name_any();
    log(&format!("ConfigMap {name}"), answer(configs.delete(&name, &DeleteParams::default())).await.map(drop));
}

fn log(place: &str, deleted: Result<(), String>) {
    match deleted {
        Ok(()) => debug!("{place} is deleted"),
        Err(detail) => debug!("{place} can't be deleted: {detail}"),
    }
}

/// What the Pods of a message tell, of which `recorded` attempts have been recorded.
fn next_step(pods: &[Pod], recorded: u32) -> Step<'_> {
    let mut step = Step::Create;
    for pod in pods {
        match look(pod) {
            PodState::Sent => return Step::Return(PodResult::Sent(place(pod))),
            PodState::Failed(outcome) if attempt(pod) > recorded => step = Step::Return(PodResult::Failed(outcome)),
            PodState::Failed(_) => {}
            PodState::Starting(_) | PodState::Running => return Step::Await(pod),
        }
    }
    step
}

/// The Pod after its next change; nothing if it is gone.
async fn next_change(api: &Api<Pod>, pod: &Pod) -> Result<Option<Pod>, String> {
    let parameters = WatchParams::default().fields(&format!("metadata.name={}", pod.name_any()));
    let version = pod.resource_version().unwrap_or_default();
    let mut events = std::pin::pin!(api.watch(&parameters, &version).await.map_err(|error| explain(&error))?);
    while let Some(event) = events.try_next().await.map_err(|error| explain(&error))? {
        match event {
            WatchEvent::Added(now) | WatchEvent::Modified(now) if now.uid() == pod.uid() => return Ok(Some(now)),
            WatchEvent::Deleted(now) if now.uid() == pod.uid() => {
                // Its last state may be the verdict.
                let last = look(&now);
                return Ok((matches!(last, PodState::Sent | PodState::Failed(_)) && last != look(pod)).then_some(now));
            }
            WatchEvent::Error(status) if status.code == 410 => break,
            WatchEvent::Error(status) => return Err(explain(&kube::Error::Api(status))),
            _ => {}
        }
    }
    // The watch has ended: look anew.
    find(api, &pod.name_any()).await.map(|now| now.filter(|now| now.uid() == pod.uid()))
}

/// The Pod of this name. Listed, since Pods are listed anyway: one right less.
async fn find(api: &Api<Pod>, name: &str) -> Result<Option<Pod>, String> {
    let parameters = ListParams::default().fields(&format!("metadata.name={name}"));
    answer(api.list(&parameters)).await.map(|list| list.items.into_iter().next())
}

/// The API server's answer, or words that say what is wrong.
async fn answer<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match timeout(REQUEST, request).await {
        Ok(answer) => answer.map_err(|error| explain(&error)),
        Err(_) => Err("the API server does not answer".to_owned()),
    }
}

fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 && status.message.contains("cannot") => {
            format!(
                "the operator has no right to: bind its ServiceAccount to its role for Pods there ({})",
                status.message
            )
        }
        other => describe(other),
    }
}
