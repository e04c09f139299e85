//! Reads from a Pod's status whether it sent its message, and if not, the reason.
//!
//! The container's exit code and termination message tell that, or Kubernetes' own reason.
//! Source of the exit codes: fedora-messaging 3.9.1, `cli.py`. Source of the messages: runs of that
//! version against a real broker (e2e/tests/pods).

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};

use crate::pod::manifest::CONTAINER;
use crate::policy::outcome::{Outcome, Reason};
use crate::text::{MAX_DETAIL, printable};

/// The state of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// The Pod does not run yet, for this reason.
    Starting(String),
    /// The Pod runs, or has ended and Kubernetes has not set its reason yet.
    Running,
    /// The CLI has exited with 0, because the broker confirmed the message.
    Sent,
    /// The Pod has failed.
    Failed(Outcome),
}

/// Returns a Pod's namespace and name, for texts.
#[must_use]
pub fn place(pod: &Pod) -> String {
    let metadata = &pod.metadata;
    format!("{}/{}", metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Returns the state of a Pod.
#[must_use]
pub fn look(pod: &Pod) -> PodState {
    let Some(status) = &pod.status else { return PodState::Starting("it has no status yet".to_owned()) };
    let container = status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER);
    let ended = status.phase.as_deref() == Some("Failed");
    match container.and_then(|container| container.state.as_ref()) {
        Some(ContainerState { terminated: Some(end), .. }) if end.exit_code == 0 => PodState::Sent,
        // Something killed the container. The Pod's own reason follows.
        Some(ContainerState { terminated: Some(end), .. }) if is_killed(end) && !ended => PodState::Running,
        Some(ContainerState { terminated: Some(end), .. }) if status.reason.is_none() => {
            PodState::Failed(cli_failure(pod, end))
        }
        _ if ended => PodState::Failed(kubernetes_failure(pod)),
        Some(ContainerState { running: Some(_), .. }) => PodState::Running,
        _ => PodState::Starting(not_running_reason(pod, container)),
    }
}

/// Returns the outcome for a Pod in this state that the operator gives up after `seconds`.
#[must_use]
pub fn late(pod: &Pod, seconds: u64, state: &PodState) -> Outcome {
    failed(match state {
        PodState::Starting(detail) => {
            format!("Pod {} did not run within {seconds} s: {}", place(pod), printable(detail, MAX_DETAIL))
        }
        _ => format!("Pod {} did not end within {seconds} s: see kubectl describe pod, and its node", place(pod)),
    })
}

/// Returns the outcome for a Pod that was deleted before it had one.
#[must_use]
pub fn vanished(pod: &Pod) -> Outcome {
    failed(format!(
        "Pod {} was deleted before it reported a result: another Pod sends the message again with the same id",
        place(pod)
    ))
}

/// Returns the outcome for a Pod that is not the planned one, or not any more.
#[must_use]
pub fn altered(pod: &Pod) -> Outcome {
    failed(format!(
        "Pod {} differs from the one that the operator creates for this message, so its result does not count: another Pod sends the message again with the same id",
        place(pod)
    ))
}

/// Returns an outcome of the reason [`Reason::PodFailed`].
#[must_use]
pub fn failed(message: String) -> Outcome {
    Outcome { reason: Reason::PodFailed, message }
}

/// Returns true if a signal ended the container, except for a lack of memory.
fn is_killed(end: &ContainerStateTerminated) -> bool {
    end.exit_code > 128 && end.reason.as_deref() != Some("OOMKilled")
}

/// Returns the outcome for the CLI's exit code and termination message.
fn cli_failure(pod: &Pod, end: &ContainerStateTerminated) -> Outcome {
    let (place, code) = (place(pod), end.exit_code);
    let all = end.message.as_deref().unwrap_or_default();
    let detail = printable(cause(all), MAX_DETAIL);
    if end.reason.as_deref() == Some("OOMKilled") {
        return failed(format!(
            "Pod {place} needed more memory than its limit and was ended: raise the limit in the operator's --pod-resources"
        ));
    }
    let says = |part: &str| all.contains(part);
    let (reason, advice) = match code {
        2 => (Reason::InvalidMessage, "create another FedoraMessage with the named fields corrected"),
        // The broker closes the channel while the CLI still sends, or afterwards. Hence the two codes.
        111 | 121 if says("PRECONDITION_FAILED - message size") => {
            (Reason::MessageTooLarge, "send a reference to the data instead")
        }
        111 => {
            (Reason::BrokerUnreachable, "check that the broker runs, its URL, and the network between it and the Pod")
        }
        121 if says("NACK") => {
            (Reason::Nacked, "a queue that is bound to its topic is full or failing; ask the broker's administrators")
        }
        121 if says("NOT_FOUND") || says("cannot publish to internal") => {
            (Reason::ExchangeNotFound, "check the operator's --exchange")
        }
        121 if says("', backend ") => (
            Reason::BrokerUnreachable,
            "the authorization backend of the broker fails, so ask the broker's administrators",
        ),
        121 if says("access to exchange") => (
            Reason::ExchangeNotFound,
            "check the operator's --exchange, or ask the broker's administrators for permission",
        ),
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
    let detail = if detail.is_empty() { "no output".to_owned() } else { detail };
    Outcome { reason, message: format!("Pod {place} ended with exit code {code} ({detail}): {advice}") }
}

/// Returns the most useful part of the output.
///
/// That is the broker's reason for closing the channel, or the reason for losing the connection.
/// Otherwise it is the last line that is not empty, as in a traceback.
fn cause(output: &str) -> &str {
    let closed =
        || output.lines().find_map(|line| line.split_once("remote Channel.Close ")?.1.split_once(" on <Channel"));
    let lost = || output.lines().find_map(|line| line.split_once("error-arg=")?.1.split_once("; pending-error="));
    let last_line = || output.lines().rev().map(str::trim).find(|line| !line.is_empty());
    closed()
        .map(|(detail, _)| detail)
        .or_else(|| lost().map(|(error, pending)| if pending == "None" { error } else { pending }))
        .or_else(last_line)
        .unwrap_or_default()
}

/// Returns the outcome for a Pod that Kubernetes ended: evicted, past its deadline, or on a lost node.
fn kubernetes_failure(pod: &Pod) -> Outcome {
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref()).unwrap_or("Failed");
    let detail = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
    let detail = printable(detail.trim_end_matches('.'), MAX_DETAIL);
    let detail = if detail.is_empty() { "Kubernetes gives no reason" } else { &detail };
    let what = match reason {
        "DeadlineExceeded" => "took too long and was ended",
        "Evicted" => "was evicted from its node",
        _ => "was ended",
    };
    failed(format!(
        "Pod {} {what} ({reason}: {detail}): another Pod sends the message again with the same id",
        place(pod)
    ))
}

/// Returns the reason why a Pod does not run yet, with the message of the kubelet or the scheduler.
fn not_running_reason(pod: &Pod, container: Option<&ContainerStatus>) -> String {
    let waiting = container.and_then(|container| container.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let detail = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_deref()).unwrap_or_default();
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "RegistryUnavailable" => {
            format!("its image {image} can't be pulled ({reason}: {detail}): check the operator's --cli-image and its pull flags")
        }
        "ContainerCreating" | "" if container.is_some() => {
            "its volumes or its network are not ready (ContainerCreating): check the keys in its Secrets, and see kubectl describe pod".to_owned()
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
            "it can't be scheduled ({detail}): check the operator's --pod-resources, --pod-node-selector and --pod-tolerations"
        ),
        None => "it is not scheduled yet".to_owned(),
    }
}
