//! The watch on what is still to do: messages whose `status.status` is not true. What was sent is
//! neither listed nor held (docs/decisions/0004).

use futures::stream::{self, BoxStream, SelectAll, select_all};
use futures::{StreamExt, TryStreamExt};
use kube::api::WatchParams;
use kube::core::{Request, WatchEvent};
use kube::{Client, Error};
use tokio::time::sleep;

use super::client;
use super::list::{ListError, ListReader, paths, patient};
use crate::controller::queue::Scope;
use fedora_message::api::object::FedoraMessage;
use fedora_message::policy::backoff;

/// Selects what is not sent, also what has no status at all.
pub const PENDING: &str = "status.status!=true";
/// After so many attempts in vain the pauses grow no more: they are half a minute at most.
const MOST_IN_VAIN: u32 = 6;

/// How the CRD is installed.
pub const INSTALL: &str = "fedora-message-operator crd | kubectl apply --server-side -f -";
/// Where to go on looking when a right is missing.
pub const TELLS_ALL: &str = "fedora-message-operator check --cluster tells which rights are missing";

/// What a watch tells.
#[derive(Debug)]
pub enum Event {
    /// It begins to list anew.
    Begin,
    /// This message is there, new or changed.
    Seen(Box<FedoraMessage>),
    /// The message of this uid is sent or deleted.
    Gone(String),
    /// It has listed all there is.
    Complete,
    /// It failed, for this reason, and will begin anew.
    Failed(String),
}

/// Watches the given namespaces, or all if there are none. What fails is tried again, with a pause that grows.
pub fn pending(client: &Client, namespaces: &[String]) -> SelectAll<BoxStream<'static, (Scope, Event)>> {
    select_all(paths::<FedoraMessage>(namespaces).into_iter().enumerate().map(|(scope, path)| {
        let watch = Watch { client: client.clone(), path, position: Position::Unlisted, in_vain: 0 };
        stream::unfold(watch, move |mut watch| async move { Some(((scope, watch.next().await), watch)) }).boxed()
    }))
}

/// Lists what is pending, and then watches what changes.
struct Watch {
    client: Client,
    path: String,
    position: Position,
    /// How many lists and watches in a row were begun, of which nothing has come yet.
    in_vain: u32,
}

/// How far it is.
enum Position {
    Unlisted,
    ListReader(Box<ListReader<FedoraMessage>>),
    /// All is known up to this version.
    Listed(String),
    /// The same, and what comes after it.
    Watching(String, BoxStream<'static, kube::Result<WatchEvent<FedoraMessage>>>),
}

impl Watch {
    /// What it tells next.
    async fn next(&mut self) -> Event {
        loop {
            match self.step().await {
                Ok(Some(event)) => return event,
                Ok(None) => {}
                Err(error) => {
                    self.fall_back(&error);
                    return Event::Failed(explain(&error));
                }
            }
        }
    }

    /// Goes one step further, which may tell something.
    async fn step(&mut self) -> Result<Option<Event>, ListError> {
        match &mut self.position {
            Position::Unlisted => {
                self.pause().await;
                let listing = ListReader::new(self.client.clone(), self.path.clone(), PENDING);
                self.position = Position::ListReader(listing.into());
                Ok(Some(Event::Begin))
            }
            Position::ListReader(listing) => {
                if let Some(message) = listing.next().await? {
                    return Ok(Some(Event::Seen(message.into())));
                }
                self.position = Position::Listed(listing.version().to_owned());
                self.in_vain = 0;
                Ok(Some(Event::Complete))
            }
            Position::Listed(version) => {
                let version = version.clone();
                self.pause().await;
                let parameters = WatchParams::default().fields(PENDING);
                let request = Request::new(&self.path).watch(&parameters, &version).map_err(Error::BuildRequest)?;
                let events = patient(self.client.request_events::<FedoraMessage>(request)).await??;
                self.position = Position::Watching(version, events.boxed());
                Ok(None)
            }
            Position::Watching(version, events) => {
                let Some(event) = events.try_next().await? else {
                    self.position = Position::Listed(std::mem::take(version));
                    return Ok(None);
                };
                let (now, event) = match event {
                    WatchEvent::Added(message) | WatchEvent::Modified(message) => {
                        (message.metadata.resource_version.clone(), Some(Event::Seen(message.into())))
                    }
                    WatchEvent::Deleted(message) => {
                        (message.metadata.resource_version, Some(Event::Gone(message.metadata.uid.unwrap_or_default())))
                    }
                    WatchEvent::Bookmark(bookmark) => (Some(bookmark.metadata.resource_version), None),
                    WatchEvent::Error(status) => return Err(Error::Api(status).into()),
                };
                *version = now.unwrap_or_default();
                self.in_vain = 0;
                Ok(event)
            }
        }
    }

    /// Waits before a list or a watch, unless something has come of the last one.
    async fn pause(&mut self) {
        if self.in_vain > 0 {
            let delay = backoff::delay(self.in_vain.min(MOST_IN_VAIN), fastrand::f64());
            sleep(delay.to_std().unwrap_or_default()).await;
        }
        self.in_vain += 1;
    }

    /// A watch is begun again where it was, unless the API server does not know what was there any more; a list from
    /// its beginning.
    fn fall_back(&mut self, error: &ListError) {
        let expired = matches!(error, ListError::Failed(Error::Api(status)) if status.code == 410);
        self.position = match std::mem::replace(&mut self.position, Position::Unlisted) {
            Position::Listed(version) | Position::Watching(version, _) if !expired => Position::Listed(version),
            _ => Position::Unlisted,
        };
    }
}

/// What is wrong with a list or a watch, and what to do. It is tried again, so whoever mends it need not restart
/// anything.
fn explain(error: &ListError) -> String {
    let cause = match error {
        ListError::Failed(cause) => cause,
        ListError::Silent => return error.to_string(),
    };
    match cause {
        Error::Api(status) if status.code == 404 => {
            format!("the API server does not know FedoraMessages: install the CRD ({INSTALL})")
        }
        Error::Api(status) if status.code == 403 => {
            format!(
                "the operator has no right to watch FedoraMessages: bind its ServiceAccount to its role; {TELLS_ALL} ({})",
                status.message
            )
        }
        Error::Api(status) if status.code == 400 => {
            format!(
                "the API server can't select pending FedoraMessages: its CRD is older than the operator, install the operator's ({INSTALL}; the API server says: {})",
                status.message
            )
        }
        Error::Api(status) if status.code == 401 => client::explain(cause),
        Error::Api(status) => {
            format!("the API server can't be watched yet: {} ({})", status.message, status.code)
        }
        _ => client::explain(cause),
    }
}
