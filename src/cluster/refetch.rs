//! Reads messages again whose bodies were left with the API server while they waited (docs/decisions/0025).

use kube::Client;
use tracing::{debug, warn};

use super::list;
use fedora_message::api::object::FedoraMessage;

/// Reads them.
#[derive(Clone)]
pub struct Refetcher(Client);

impl Refetcher {
    /// Reads through this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// `message` with its body. Nothing if it can't be read now; or if it is not what it was, and the watch will
    /// tell what it is.
    pub async fn read(&self, message: &FedoraMessage) -> Option<FedoraMessage> {
        match list::find::<FedoraMessage>(&self.0, message.namespace(), message.name()).await {
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

/// Whether the resource is still the one that it was, nobody has changed what it asks for, and it is not sent.
fn is_same(found: &FedoraMessage, message: &FedoraMessage) -> bool {
    let unchanged = found.metadata.generation == message.metadata.generation && found.retry == message.retry;
    let sent = found.status.as_ref().is_some_and(|status| status.status == Some(true));
    found.uid() == message.uid() && unchanged && !sent
}
