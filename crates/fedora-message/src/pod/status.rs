//! What a message's Pod says: nothing yet, sent, or why not. Read from its container's exit code and
//! last words, and from what Kubernetes says of it.
//!
//! Source of the exit codes: fedora-messaging 3.9.1, `cli.py`; of the words, the same run against a real
//! broker (e2e/tests/pods).

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};

use crate::pod::manifest::{ATTEMPT_ANNOTATION, CONTAINER};
use crate::policy::outcome::{Outcome, Reason};
use crate::text::{MAX_DETAIL, printable};

/// What can be seen of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It does not run yet, for this reason.
    Starting(String),
    /// It runs, or has ended and does not say yet how.
    Running,
    /// The CLI said that the broker confirmed the message.
    Sent,
    /// It has ended otherwise.
    Failed(Outcome),
}

/// A Pod's name with its namespace, for people.
#[must_use]
pub fn place(pod: &Pod) -> String {
    let metadata = &pod.metadata;
    format!("{}/{}", metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Which attempt a Pod is.
#[must_use]
pub fn attempt(pod: &Pod) -> u32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(ATTEMPT_ANNOTATION)).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Looks at a Pod.
#[must_use]
pub fn look(pod: &Pod) -> PodState {
    let Some(status) = &pod.status else { return PodState::Starting("nobody has looked at it yet".to_owned()) };
    let container = status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER);
    let ended = status.phase.as_deref() == Some("Failed");
    match container.and_then(|container| container.state.as_ref()) {
        Some(ContainerState { terminated: Some(end), .. }) if end.exit_code == 0 => PodState::Sent,
        // Somebody ended it: the Pod's own reason follows.
        Some(ContainerState { terminated: Some(end), .. }) if is_killed(end) && !ended => PodState::Running,
        Some(ContainerState { terminated: Some(end), .. }) if status.reason.is_none() => {
            PodState::Failed(verdict(pod, end))
        }
        _ if ended => PodState::Failed(ended_by_kubernetes(pod)),
        Some(ContainerState { running: Some(_), .. }) => PodState::Running,
        _ => PodState::Starting(why_not_running(pod, container)),
    }
}

/// The verdict on a Pod that is given up after `seconds`, looking so.
#[must_use]
pub fn late(pod: &Pod, seconds: u64, sight: &PodState) -> Outcome {
    failed(match sight {
        PodState::Starting(detail) => {
            format!("Pod {} did not run within {seconds} s: {}", place(pod), printable(detail, MAX_DETAIL))
        }
        _ => format!("Pod {} did not end within {seconds} s: see kubectl describe pod, and its node", place(pod)),
    })
}

/// The verdict on a Pod that vanished without one.
#[must_use]
pub fn vanished(pod: &Pod) -> Outcome {
    failed(format!(
        "Pod {} was deleted before it said whether it sent the message: another sends it again with the same id",
        place(pod)
    ))
}

/// The verdict where no Pod came to be, in words that say what to do.
#[must_use]
pub fn failed(message: String) -> Outcome {
    Outcome { reason: Reason::PodFailed, message }
}

fn is_killed(end: &ContainerStateTerminated) -> bool {
    end.exit_code > 128 && end.reason.as_deref() != Some("OOMKilled")
}

/// What the CLI's exit code and last words mean.
fn verdict(pod: &Pod, end: &ContainerStateTerminated) -> Outcome {
    let (place, code) = (place(pod), end.exit_code);
    let all = end.message.as_deref().unwrap_or_default();
    let detail = printable(essence(all), MAX_DETAIL);
    if end.reason.as_deref() == Some("OOMKilled") {
        return failed(format!(
            "Pod {place} needed more memory than its limit and was ended: raise the limit in the operator's --pod-resources"
        ));
    }
    let says = |part: &str| all.contains(part);
    let (reason, advice) = match code {
        2 => (Reason::InvalidMessage, "create another FedoraMessage, and change what is named there"),
        // The channel is closed while the CLI still sends, or after it: hence two codes.
        111 | 121 if says("PRECONDITION_FAILED - message size") => {
            (Reason::MessageTooLarge, "send a reference to the data instead")
        }
        111 => {
            (Reason::BrokerUnreachable, "check that the broker runs, its URL, and the network between it and the Pod")
        }
        121 if says("NACK") => {
            (Reason::Nacked, "a queue that is bound to its topic is full or failing; ask the broker's administrators")
        }
        121 if says("NOT_FOUND") => (Reason::ExchangeNotFound, "check the operator's --exchange"),
        121 => (
            Reason::TopicForbidden,
            "choose a topic the user may publish to, or ask the broker's administrators for permission",
        ),
        1 if says("AuthenticationError") || says("Login was refused") => (
            Reason::AuthenticationFailed,
            "ask the broker's administrators to create the certificate's user, or use another certificate",
        ),
        1 if says("ProbableAccessDenied") || says("access to vhost") || says("NOT_ALLOWED") => {
            (Reason::VhostRefused, "check the path of the broker's URL, or ask its administrators for access")
        }
        1 if says("SSL") || says("TLS") || says("certificate") => {
            (Reason::TlsFailed, "check the CA and the certificate, and the name in the broker's URL")
        }
        _ => (Reason::PodFailed, "see its log with kubectl logs"),
    };
    let detail = if detail.is_empty() { "without a word".to_owned() } else { detail };
    Outcome { reason, message: format!("Pod {place} ended with exit code {code} ({detail}): {advice}") }
}

/// What says most: why the broker closed the channel, or why the connection was lost, or the last line
/// that is not empty, as in a traceback.
fn essence(text: &str) -> &str {
    let closed = text.lines().find_map(|line| line.split_once("remote Channel.Close ")?.1.split_once(" on <Channel"));
    let lost = || text.lines().find_map(|line| line.split_once("error-arg=")?.1.split_once("; pending-error="));
    match closed
        .map(|(detail, _)| detail)
        .or_else(|| lost().map(|(own, last_reported)| if last_reported == "None" { own } else { last_reported }))
    {
        Some(cause) => cause,
        None => text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default(),
    }
}

/// Evicted, out of time, its node lost: what Kubernetes says of it.
fn ended_by_kubernetes(pod: &Pod) -> Outcome {
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref()).unwrap_or("Failed");
    let detail = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
    let detail = printable(detail.trim_end_matches('.'), MAX_DETAIL);
    let detail = if detail.is_empty() { "Kubernetes does not say why" } else { &detail };
    let what = match reason {
        "DeadlineExceeded" => "took too long and was ended",
        "Evicted" => "was evicted from its node",
        _ => "was ended",
    };
    failed(format!("Pod {} {what} ({reason}: {detail}): another sends the message again with the same id", place(pod)))
}

/// What holds a Pod up, in the words of whoever does.
fn why_not_running(pod: &Pod, container: Option<&ContainerStatus>) -> String {
    let waiting = container.and_then(|container| container.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let detail = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_deref()).unwrap_or_default();
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "RegistryUnavailable" => {
            format!("its image {image} can't be had ({reason}: {detail}): check the operator's --cli-image and its pull flags")
        }
        "ContainerCreating" | "" if container.is_some() => {
            "its volumes or its network are not ready (ContainerCreating): check that its Secrets still have their keys, and see kubectl describe pod".to_owned()
        }
        "" => unscheduled(pod),
        reason => format!("its container can't be started ({reason}: {detail})"),
    }
}

fn unscheduled(pod: &Pod) -> String {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let scheduled =
        conditions.into_iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    match scheduled.and_then(|condition| condition.message.as_deref()) {
        Some(detail) => format!(
            "no node takes it ({detail}): check the operator's --pod-resources, --pod-node-selector and --pod-tolerations"
        ),
        None => "no node has taken it up yet".to_owned(),
    }
}
