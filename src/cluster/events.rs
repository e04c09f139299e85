//! Writes Kubernetes Events: a warning whenever a message's status gets a new reason why it is not
//! sent. Events are hints. The status is what counts, and no message ever waits for an Event
//! (docs/decisions/0032).

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::client::{describe, now};
use fedora_message::api::object::FedoraMessage;
use fedora_message::policy::outcome::Reason;
use fedora_message::state::MessageState;

/// The maximum number of waiting Events. Further ones are dropped, as in client-go.
const CAPACITY: usize = 1000;
/// The length of the pause after a write, as a multiple of the write's time. So Events take at most a tenth of one of
/// the API server's concurrent requests.
const PAUSE: u32 = 9;
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The time after which a write is given up.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest note that the API server accepts, in bytes.
const LONGEST_NOTE: usize = 1024;
/// The reporting controller.
const CONTROLLER: &str = "apps.fedoraproject.org/fedora-message-operator";
/// The action that an Event is about.
const ACTION: &str = "Publish";

/// Accepts Events, and writes them in the background.
pub struct Events {
    sender: Sender<Event>,
    instance: String,
}

impl Events {
    /// Starts a writer of Events, one at a time. `instance` names this process in them.
    #[must_use]
    pub fn new(client: Client, instance: String) -> Self {
        let (sender, receiver) = channel(CAPACITY);
        tokio::spawn(write(client, receiver));
        Self { sender, instance }
    }

    /// Warns of a new state, if a person should notice it. `before` is the reason that the object's
    /// status said until now.
    pub fn report(&self, message: &FedoraMessage, before: Option<Reason>, state: &MessageState) {
        if let Some(reason) = state.reason.filter(|_| state.is_warning(before)) {
            self.warn(message, reason.name(), &state.message);
        }
    }

    /// Writes a warning about the message.
    pub fn warn(&self, message: &FedoraMessage, reason: &str, detail: &str) {
        if self.sender.try_send(event(message, reason, detail, &self.instance)).is_err() {
            debug!(uid = message.uid(), "an Event is dropped, because too many wait to be written");
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
        regarding: Some(message.object_ref(&())),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        event_time: Some(now()),
        ..Event::default()
    }
}
