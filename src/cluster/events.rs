//! Kubernetes Events for what a person should notice: a warning whenever a message's status begins
//! to tell another reason why it is not sent. They are hints: what counts stands in the status, and
//! no message ever waits for an Event.

use std::time::Duration;

use chrono::Utc;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::client::describe;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::{API_VERSION, KIND};
use fedora_message::policy::outcome::Reason;
use fedora_message::state::MessageState;

/// How many may wait to be written. Further ones are left out, as client-go does it.
const CAPACITY: usize = 1000;
/// After each one nothing is written for this many times as long as it took: Events are hints, and take at
/// most a tenth of one of the API server's hands from those who need it.
const PAUSE: u32 = 9;
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long writing one may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Who reports.
const CONTROLLER: &str = "apps.fedoraproject.org/fedora-message-operator";
/// What was tried.
const ACTION: &str = "Publish";

/// Takes Events to be written.
pub struct Events {
    sender: Sender<Event>,
    instance: String,
}

impl Events {
    /// Writes Events through this client, one at a time; `instance` names this process in them.
    #[must_use]
    pub fn new(client: Client, instance: String) -> Self {
        let (sender, receiver) = channel(CAPACITY);
        tokio::spawn(write(client, receiver));
        Self { sender, instance }
    }

    /// Warns of a new state, if a person should notice it. `before` is the reason that the object's
    /// status said until now.
    pub fn notice(&self, message: &FedoraMessage, before: Option<Reason>, state: &MessageState) {
        if let Some(reason) = state.reason.filter(|_| state.is_warning(before)) {
            self.warn(message, reason.name(), &state.message);
        }
    }

    /// Warns whoever looks at the message.
    pub fn warn(&self, message: &FedoraMessage, reason: &str, detail: &str) {
        if self.sender.try_send(event(message, reason, detail, &self.instance)).is_err() {
            debug!(uid = message.uid(), "an Event is left out: too many wait to be written");
        }
    }
}

async fn write(client: Client, mut events: Receiver<Event>) {
    while let Some(event) = events.recv().await {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let begun = Instant::now();
        match timeout(TIMEOUT, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(error = describe(&error), namespace, "an Event could not be written"),
            Err(_) => debug!(namespace, "an Event could not be written: the API server does not answer"),
        }
        sleep((begun.elapsed() * PAUSE).min(LONGEST_PAUSE)).await;
    }
}

fn event(message: &FedoraMessage, reason: &str, detail: &str, instance: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", message.name())),
            namespace: message.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(reason.to_owned()),
        note: Some(detail[..detail.floor_char_boundary(LONGEST_NOTE)].to_owned()),
        action: Some(ACTION.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(KIND.to_owned()),
            name: message.metadata.name.clone(),
            namespace: message.metadata.namespace.clone(),
            uid: message.metadata.uid.clone(),
            resource_version: message.metadata.resource_version.clone(),
            field_path: None,
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        event_time: Some(MicroTime(
            Timestamp::from_microsecond(Utc::now().timestamp_micros()).unwrap_or(Timestamp::UNIX_EPOCH),
        )),
        ..Event::default()
    }
}
