//! Writes Kubernetes Events: a warning whenever the status of a message or Sender gets a new reason why
//! nothing is sent. Events are hints. The status is what counts, and no message ever waits for an Event
//! (docs/decisions/0032).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use strum::IntoStaticStr;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::client::{describe, now};
use crate::round_robin::RoundRobin;
use fedora_message::api::object::FedoraMessage;
use fedora_message::bounds::{MAX_WAITING_EVENTS, MAX_WAITING_EVENTS_PER_NAMESPACE};
use fedora_message::policy::outcome::Reason;
use fedora_message::state::MessageState;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Action {
    /// A message is published.
    Publish,
    /// A Sender is checked.
    Check,
    /// A message's resource is deleted.
    Delete,
}

/// Accepts Events, and writes them in the background. Namespaces take turns. Beyond the bounds,
/// Events are dropped, as in client-go.
pub struct Events {
    waiting: Arc<Waiting>,
    instance: String,
}

/// The Events that wait to be written.
#[derive(Default)]
struct Waiting {
    events: Mutex<RoundRobin<Event>>,
    added: Notify,
}

impl Waiting {
    /// Adds an Event. Returns false if too many wait.
    fn push(&self, namespace: &str, event: Event) -> bool {
        let mut events = self.events.lock();
        let has_room = events.len() < MAX_WAITING_EVENTS && events.len_of(namespace) < MAX_WAITING_EVENTS_PER_NAMESPACE;
        if has_room {
            events.push(namespace, event);
            self.added.notify_one();
        }
        has_room
    }

    /// Waits for the next Event.
    async fn next(&self) -> Event {
        loop {
            let event = self.events.lock().pop();
            match event {
                Some(event) => return event,
                None => self.added.notified().await,
            }
        }
    }
}

impl Events {
    /// Starts a writer of Events, one at a time. `instance` names this process in them.
    #[must_use]
    pub fn new(client: Client, instance: String) -> Self {
        let waiting = Arc::new(Waiting::default());
        tokio::spawn(write(client, waiting.clone()));
        Self { waiting, instance }
    }

    /// Warns of a new state, if a person should notice it. `before` is the reason that the object's
    /// status said until now.
    pub fn report(&self, message: &FedoraMessage, before: Option<Reason>, state: &MessageState) {
        if let Some(reason) = state.reason.filter(|_| state.is_warning(before)) {
            self.warn(message, reason.name(), Action::Publish, &state.message);
        }
    }

    /// Writes a warning about a message or Sender.
    pub fn warn<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, action: Action, detail: &str) {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        if !self.waiting.push(namespace, event(object, reason, action, detail, &self.instance)) {
            debug!(uid = object.meta().uid, "an Event is dropped, because too many wait to be written");
        }
    }
}

async fn write(client: Client, waiting: Arc<Waiting>) {
    loop {
        let event = waiting.next().await;
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

fn event<K: Resource<DynamicType = ()>>(
    object: &K,
    reason: &str,
    action: Action,
    detail: &str,
    instance: &str,
) -> Event {
    let ObjectMeta { name, namespace, .. } = object.meta();
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name.as_deref().unwrap_or_default())),
            namespace: namespace.clone(),
            ..ObjectMeta::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(reason.to_owned()),
        note: Some(detail[..detail.floor_char_boundary(LONGEST_NOTE)].to_owned()),
        action: Some(<&str>::from(action).to_owned()),
        regarding: Some(object.object_ref(&())),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        event_time: Some(now()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Event in the namespace has its name as its reason.
    fn event(reason: &str) -> Event {
        Event { reason: Some(reason.to_owned()), ..Event::default() }
    }

    #[tokio::test]
    async fn one_namespace_drops_no_event_of_another() {
        let waiting = Waiting::default();
        let accepted = (0..MAX_WAITING_EVENTS).filter(|_| waiting.push("tenant", event("tenant"))).count();
        assert_eq!(accepted, MAX_WAITING_EVENTS_PER_NAMESPACE);
        assert!(waiting.push("neighbor", event("neighbor")));
        let first = [waiting.next().await, waiting.next().await].map(|event| event.reason);
        assert_eq!(first, ["tenant", "neighbor"].map(|reason| Some(reason.to_owned())), "they take turns");
    }
}
