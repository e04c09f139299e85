//! Reads messages again whose bodies stayed with the API server while they waited
//! (docs/decisions/0025).

use fedora_message::api::object::FedoraMessage;
use kube::Client;
use tracing::{debug, warn};

use super::list;

/// Reads messages again.
#[derive(Clone)]
pub struct Refetcher(Client);

impl Refetcher {
    /// Creates a refetcher that uses this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Returns `message` with its body. Returns nothing if it can't be read now, or if it has
    /// changed: then the watch will report what it is.
    pub async fn read(&self, message: &FedoraMessage) -> Option<FedoraMessage> {
        match list::get::<FedoraMessage>(&self.0, message.namespace(), message.name()).await {
            Ok(found) => {
                let whole = found.filter(|found| is_same(found, message));
                if whole.is_none() {
                    debug!(uid = message.uid(), "the object has changed, or is gone");
                }
                whole
            }
            Err(error) => {
                let (namespace, name) = (message.namespace(), message.name());
                warn!(%error, namespace, name, "the message's body can't be read now, and will be read again");
                None
            }
        }
    }
}

/// Returns true if this is still the same resource with the same spec and retry annotation, and it
/// is not sent.
fn is_same(found: &FedoraMessage, message: &FedoraMessage) -> bool {
    let unchanged = found.metadata.generation == message.metadata.generation && found.retry == message.retry;
    let sent = found.status.as_ref().is_some_and(|status| status.status == Some(true));
    found.uid() == message.uid() && unchanged && !sent
}
