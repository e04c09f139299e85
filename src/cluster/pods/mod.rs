//! Runs Pods that send a message each: finds the Pod of a message or creates one, and waits for its
//! result.
//!
//! The API server is asked what is there, and nothing is remembered. So the next operator takes
//! over the Pod that a killed operator left, and there are never two for one message
//! (docs/decisions/0013).

mod cleanup;
#[cfg(test)]
mod tests;

use std::time::Duration;

use fedora_message::pod::manifest::UID_LABEL;
use fedora_message::pod::proof::{Finding, does_same, judge};
use fedora_message::pod::status::{self, PodState, failed, look, place};
use fedora_message::policy::outcome::Outcome;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Api, Client, Error, Resource, ResourceExt};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::list::{ListError, ListReader, answer, answer_within};
use super::watch::{ObjectState, WatchKind, Watches};

/// A Pod that was deleted may take this time to be gone, beyond its own grace period.
const GONE: Duration = Duration::from_mins(1);
/// The operator waits for a Pod so many seconds beyond the Pod's own deadline.
const SLACK: u32 = 30;
/// The API server creates a Pod within this time, or never. That is the time between the end of a
/// term and the next one, so no Pod appears after another operator has begun to lead.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pods that send messages.
pub struct Pods {
    watches: Watches,
    /// Creates and deletes Pods. Writes nothing after the term: the next leader may not know yet what a
    /// Pod proved.
    fenced: Client,
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

/// The next step with the Pods of a message.
enum PodStep {
    Return(Result<String, Outcome>),
    /// The result of this Pod does not count.
    Discard(Box<Pod>, Outcome),
    Await(Box<Pod>),
    /// Create one, and delete these old ones.
    Create(Vec<PodId>),
}

/// Identifies one Pod in a namespace.
struct PodId {
    name: String,
    uid: Option<String>,
}

impl PodId {
    fn of(pod: &Pod) -> Self {
        Self { name: pod.name_any(), uid: pod.uid() }
    }
}

impl Pods {
    /// Works in the cluster of these watches, and changes Pods with the client `fenced`. A failed Pod is
    /// kept for the given time.
    #[must_use]
    pub fn new(watches: Watches, fenced: Client, keep_failed: Duration) -> Self {
        Self { watches, fenced, keep_failed }
    }

    fn client(&self) -> Client {
        self.watches.client().clone()
    }

    /// Sends a message by the planned Pod, or by the Pod that is there already. `recorded` attempts
    /// were recorded. Returns the place of the Pod whose CLI said that the broker confirmed the message.
    pub async fn send(&self, plan: &Pod, recorded: u32, limits: Limits) -> Result<String, Outcome> {
        let namespace = plan.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.fenced.clone(), &namespace);
        let step = self.next_step(plan, recorded).await.map_err(|cause| {
            failed(format!("the Pods of namespace {namespace} can't be listed: {}", explain(&cause)))
        })?;
        let pod = match step {
            PodStep::Return(result) => return result,
            PodStep::Discard(pod, outcome) => {
                delete(&api, &PodId::of(&pod)).await;
                return Err(outcome);
            }
            PodStep::Await(pod) => *pod,
            PodStep::Create(old) => {
                for pod in &old {
                    delete(&api, pod).await;
                }
                self.create(plan, limits).await?
            }
        };
        self.wait(&api, pod, limits).await
    }

    /// Decides what to do about the Pods of a message, of which `recorded` attempts were recorded.
    async fn next_step(&self, plan: &Pod, recorded: u32) -> Result<PodStep, ListError> {
        let uid = plan.labels().get(UID_LABEL).map_or("", String::as_str);
        let mut pods = self.list(plan.namespace().as_deref(), &format!("{UID_LABEL}={uid}"));
        let (mut step, mut old) = (None, Vec::new());
        while let Some(pod) = pods.next().await? {
            match judge(&pod, plan, recorded) {
                Finding::Foreign => {}
                Finding::Old => old.push(PodId::of(&pod)),
                Finding::Sent => return Ok(PodStep::Return(Ok(place(&pod)))),
                Finding::Failed(outcome) => step = step.or(Some(PodStep::Return(Err(outcome)))),
                Finding::Altered(outcome) => step = step.or(Some(PodStep::Discard(pod.into(), outcome))),
                Finding::Unfinished => step = Some(PodStep::Await(pod.into())),
            }
        }
        Ok(step.unwrap_or(PodStep::Create(old)))
    }

    /// Creates a Pod, unless the planned one is there already.
    async fn create(&self, plan: &Pod, limits: Limits) -> Result<Pod, Outcome> {
        let cannot = |cause: &str| failed(format!("Pod {} can't be made: {cause}", place(plan)));
        let cause = match create(&self.fenced, plan).await {
            Ok(pod) => {
                debug!("Pod {} is made", place(&pod));
                return Ok(pod);
            }
            Err(cause) => cause,
        };
        // After an error of the API server, or without an answer, the Pod may exist all the same.
        let refused = cause.code().is_some_and(|code| code < 500) && !cause.is_already_exists();
        let found = if refused { Ok(None) } else { self.find(plan, limits).await };
        match found {
            Ok(Some(pod)) if does_same(plan, &pod) => Ok(pod),
            Ok(Some(_)) => Err(cannot("there is another Pod of that name. Delete it")),
            Ok(None) => Err(cannot(&explain(&cause))),
            Err(cause) => Err(cannot(&explain(&cause))),
        }
    }

    /// Returns the Pod of the planned name, or nothing if the API server does not have it in time. The
    /// Pod may be another than the planned one.
    async fn find(&self, plan: &Pod, limits: Limits) -> Result<Option<Pod>, ListError> {
        let namespace = plan.namespace().unwrap_or_default();
        let mut changes = self.watches.object(WatchKind::Pods, &namespace, &plan.name_any(), None);
        let mut deadline = Instant::now() + Duration::from_secs(limits.start.into());
        loop {
            match timeout_at(deadline, changes.next()).await {
                Ok(Ok(ObjectState::Present(pod))) => return Ok(Some(*pod)),
                // The API server may still create it.
                Ok(Ok(ObjectState::Absent(_))) => deadline = deadline.min(Instant::now() + CREATE_TIMEOUT),
                Ok(Err(cause)) if is_denied(&cause) => return Err(cause),
                // The watch goes on by itself.
                Ok(Err(_)) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Waits until a Pod has ended, or its time is over.
    async fn wait(&self, api: &Api<Pod>, made: Pod, limits: Limits) -> Result<String, Outcome> {
        let begin = Instant::now();
        let mut pod = made.clone();
        let to_start = Duration::from_secs(limits.start.into());
        let to_end_by_itself = Duration::from_secs((limits.start + limits.run + SLACK).into());
        let mut given_up: Option<(Instant, Outcome)> = None;
        // The watch has failed, and the Pod's state since then is unknown.
        let mut lost: Option<Outcome> = None;
        let (namespace, version) = (pod.namespace().unwrap_or_default(), pod.resource_version());
        let mut changes = self.watches.object(WatchKind::Pods, &namespace, &pod.name_any(), version);
        loop {
            let state = look(&pod);
            if !does_same(&made, &pod) {
                delete(api, &PodId::of(&pod)).await;
                return Err(status::altered(&pod));
            }
            let deadline = match (&state, &given_up) {
                (PodState::Sent, _) => return Ok(place(&pod)),
                (PodState::Failed(outcome), None) => return Err(outcome.clone()),
                (_, Some((since, _))) => *since + GONE,
                (PodState::Starting(_), None) if lost.is_none() => begin + to_start,
                (PodState::Starting(_) | PodState::Running, None) => begin + to_end_by_itself,
            };
            let gone = match timeout_at(deadline, changes.next()).await {
                Ok(Ok(change)) => match same_pod(change, &pod) {
                    Some(now) => {
                        (pod, lost) = (now, None);
                        continue;
                    }
                    None => true,
                },
                Ok(Err(cause)) => {
                    let text = format!("Pod {} can't be watched: {}", place(&pod), explain(&cause));
                    if is_denied(&cause) {
                        return Err(failed(text));
                    }
                    // The Pod goes on, and so does the watch after a pause.
                    debug!("{text}");
                    lost = Some(failed(text));
                    continue;
                }
                Err(_) => false,
            };
            if let Some((_, outcome)) = given_up {
                return Err(outcome);
            }
            if gone {
                return Err(status::vanished(&pod));
            }
            // The Pod may have sent the message since then, so it stays for the next attempt.
            if let Some(outcome) = lost {
                return Err(outcome);
            }
            given_up = Some((Instant::now(), status::late(&pod, begin.elapsed().as_secs(), &state)));
            delete(api, &PodId::of(&pod)).await;
        }
    }

    /// Lists the Pods that a label selector matches, in a namespace or in all namespaces.
    fn list(&self, namespace: Option<&str>, selector: &str) -> ListReader<Pod> {
        ListReader::new(self.client(), Pod::url_path(&(), namespace), "").labels(selector)
    }
}

/// Deletes exactly this Pod.
async fn delete(api: &Api<Pod>, pod: &PodId) {
    let exactly = Preconditions { uid: pod.uid.clone(), resource_version: None };
    let parameters = DeleteParams::background().preconditions(exactly);
    match answer(api.delete(&pod.name, &parameters)).await {
        Ok(_) => debug!("Pod {} is deleted", pod.name),
        Err(error) => debug!("Pod {} can't be deleted: {}", pod.name, explain(&error)),
    }
}

/// Asks the API server to create a Pod, which it does in time or never.
async fn create(client: &Client, pod: &Pod) -> Result<Pod, ListError> {
    let body = serde_json::to_vec(pod).map_err(Error::SerdeError)?;
    let path = Pod::url_path(&(), pod.namespace().as_deref());
    let request = Request::new(path).create(&PostParams::default(), body).map_err(Error::BuildRequest)?;
    let (mut head, body) = request.into_parts();
    let uri = format!("{}&timeout={}s", head.uri, CREATE_TIMEOUT.as_secs());
    head.uri = uri.parse().map_err(http::Error::from).map_err(Error::HttpError)?;
    answer_within(CREATE_TIMEOUT, client.request(http::Request::from_parts(head, body))).await
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

/// Returns true if the API server refuses the operator, whatever it asks for.
fn is_denied(error: &ListError) -> bool {
    matches!(error.code(), Some(401 | 403))
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
