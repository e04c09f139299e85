//! Tells if a Pod proves that its message was sent.
//!
//! A user who may create Pods in a namespace can create one with any label and name, and a user who may
//! change Pods can change annotations and images. So a result counts only if the Pod is the planned one
//! in everything that decides what is published. Such a Pod publishes the message, even if another user
//! has created it (docs/decisions/0044).

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, Volume};

use super::manifest::{ATTEMPT_ANNOTATION, CA_ANNOTATION, CONFIG_ANNOTATION, LINE_ANNOTATION, UID_LABEL, name};
use super::status::{PodState, altered, look};
use crate::policy::outcome::Outcome;

/// The meaning of a Pod that was found for its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing: it does not have the name of a Pod of this message, or somebody is deleting it.
    Foreign,
    /// Nothing: the operator replaces it with the next attempt.
    Old,
    /// The message was sent.
    Sent,
    /// The attempt has ended, and is not recorded yet.
    Failed(Outcome),
    /// The attempt has not ended.
    Unfinished,
    /// It has the name of the attempt that is not recorded yet, or it has not ended, and it is not the
    /// planned Pod. Nobody knows what it has sent.
    Altered(Outcome),
}

/// Returns what a Pod says about the message of the planned Pod. `recorded` attempts were recorded.
#[must_use]
pub fn judge(pod: &Pod, plan: &Pod, recorded: u32) -> Finding {
    let Some(attempt) = attempt(pod) else { return Finding::Foreign };
    let (state, is_planned) = (look(pod), does_same(plan, pod));
    match state {
        PodState::Sent if is_planned => Finding::Sent,
        PodState::Starting(_) | PodState::Running if is_planned => Finding::Unfinished,
        PodState::Failed(outcome) if is_planned && attempt > recorded => Finding::Failed(outcome),
        PodState::Sent | PodState::Failed(_) if attempt <= recorded => Finding::Old,
        _ if pod.metadata.deletion_timestamp.is_some() => Finding::Foreign,
        _ => Finding::Altered(altered(pod)),
    }
}

/// Returns the number of the attempt that a Pod makes, if it has the name and the label of such a Pod.
#[must_use]
pub fn attempt(pod: &Pod) -> Option<u32> {
    let metadata = &pod.metadata;
    let uid = metadata.labels.as_ref()?.get(UID_LABEL)?;
    let attempt = metadata.annotations.as_ref()?.get(ATTEMPT_ANNOTATION)?.parse().ok()?;
    (metadata.name.as_deref()? == name(uid, attempt)).then_some(attempt)
}

/// Returns true if both Pods publish the same message in the same way.
#[must_use]
pub fn does_same(one: &Pod, other: &Pod) -> bool {
    annotations(one) == annotations(other) && Work::of(one) == Work::of(other)
}

/// Returns the message, the configuration and the operator's CA, which the CLI reads.
fn annotations(pod: &Pod) -> [Option<&String>; 3] {
    let annotations = pod.metadata.annotations.as_ref();
    [LINE_ANNOTATION, CONFIG_ANNOTATION, CA_ANNOTATION].map(|key| annotations.and_then(|all| all.get(key)))
}

/// Everything in a Pod's spec that decides what runs.
#[derive(PartialEq)]
struct Work<'a> {
    containers: Vec<Container>,
    init_containers: &'a [Container],
    ephemeral_containers: &'a [EphemeralContainer],
    volumes: &'a [Volume],
}

impl<'a> Work<'a> {
    fn of(pod: &'a Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        Some(Self {
            containers: spec.containers.iter().map(without_defaults).collect(),
            init_containers: spec.init_containers.as_deref().unwrap_or_default(),
            ephemeral_containers: spec.ephemeral_containers.as_deref().unwrap_or_default(),
            volumes: spec.volumes.as_deref().unwrap_or_default(),
        })
    }
}

/// Returns a container without the fields that the API server and its admission plugins set.
fn without_defaults(container: &Container) -> Container {
    Container {
        image_pull_policy: None,
        resize_policy: None,
        resources: None,
        security_context: None,
        termination_message_path: None,
        ..container.clone()
    }
}
