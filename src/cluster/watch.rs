//! The watch on what is still to do: messages whose `status.status` is not true. What was sent is
//! neither listed nor held (docs/decisions/0004).

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll, select_all};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use super::client;
use super::queue::Scope;
use crate::message::incoming::FedoraMessage;

/// Selects what is not sent, also what has no status at all.
pub const PENDING: &str = "status.status!=true";
/// How many messages a page of a list has: all of them are in memory at a time, however large they are.
const PAGE: u32 = 50;

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

/// Watches the given namespaces, or all if there are none. A watch that fails is begun again, with
/// a pause that grows.
pub fn pending(client: &Client, namespaces: &[String]) -> SelectAll<BoxStream<'static, (Scope, Event)>> {
    let apis = match namespaces {
        [] => vec![Api::all(client.clone())],
        some => some.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect(),
    };
    select_all(apis.into_iter().enumerate().map(|(scope, api)| {
        watcher(api, watcher::Config::default().fields(PENDING).page_size(PAGE))
            .default_backoff()
            .map(move |event| (scope, translate(event)))
            .boxed()
    }))
}

fn translate(event: Result<watcher::Event<FedoraMessage>, watcher::Error>) -> Event {
    match event {
        Ok(watcher::Event::Init) => Event::Begin,
        Ok(watcher::Event::InitApply(message) | watcher::Event::Apply(message)) => Event::Seen(message.into()),
        Ok(watcher::Event::Delete(message)) => Event::Gone(message.metadata.uid.unwrap_or_default()),
        Ok(watcher::Event::InitDone) => Event::Complete,
        Err(error) => Event::Failed(explain(&error)),
    }
}

/// What is wrong with a watch, and what to do. It is tried again, so whoever mends it need not restart
/// anything.
fn explain(error: &watcher::Error) -> String {
    use watcher::Error;
    let (Error::InitialListFailed(cause) | Error::WatchStartFailed(cause) | Error::WatchFailed(cause)) = error else {
        return error.to_string();
    };
    match cause {
        kube::Error::Api(status) if status.code == 404 => {
            format!("the API server does not know FedoraMessages: install the CRD ({INSTALL})")
        }
        kube::Error::Api(status) if status.code == 403 => {
            format!(
                "the operator has no right to watch FedoraMessages: bind its ServiceAccount to its role; {TELLS_ALL} ({})",
                status.message
            )
        }
        kube::Error::Api(status) if status.code == 400 => {
            format!(
                "the API server can't select pending FedoraMessages: its CRD is older than the operator, install the operator's ({INSTALL}; the API server says: {})",
                status.message
            )
        }
        kube::Error::Api(status) if status.code == 401 => client::explain(cause),
        kube::Error::Api(status) => {
            format!("the API server can't be watched yet: {} ({})", status.message, status.code)
        }
        _ => client::explain(cause),
    }
}
