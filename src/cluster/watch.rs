//! The watch on what is still to do: messages whose `status.status` is not true. What was sent is
//! neither listed nor held (docs/decisions/0004).

use futures::stream::{BoxStream, SelectAll, select_all};
use futures::{StreamExt, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use super::queue::Scope;
use crate::message::incoming::FedoraMessage;

/// Selects what is not sent, also what has no status at all.
const PENDING: &str = "status.status!=true";

/// What a watch tells.
pub type Event = watcher::Event<FedoraMessage>;

/// Watches the given namespaces, or all if there are none. A watch that fails is begun again, with
/// a pause that grows.
pub fn pending(
    client: &Client,
    namespaces: &[String],
) -> SelectAll<BoxStream<'static, (Scope, Result<Event, watcher::Error>)>> {
    let apis = match namespaces {
        [] => vec![Api::all(client.clone())],
        some => some.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect(),
    };
    select_all(apis.into_iter().enumerate().map(|(scope, api): (Scope, Api<FedoraMessage>)| {
        watcher(api, watcher::Config::default().fields(PENDING))
            .default_backoff()
            .into_stream()
            .map(move |event| (scope, event))
            .boxed()
    }))
}

/// What is wrong with a watch, and what to do.
#[must_use]
pub fn explain(error: &watcher::Error) -> String {
    use watcher::Error;
    let (Error::InitialListFailed(cause) | Error::WatchStartFailed(cause) | Error::WatchFailed(cause)) = error else {
        return error.to_string();
    };
    match cause {
        kube::Error::Api(status) if status.code == 404 => {
            "the API server does not know FedoraMessages: install the CRD (fedora-message-operator crd | kubectl apply --server-side -f -)".to_owned()
        }
        kube::Error::Api(status) if status.code == 403 => {
            format!("the operator has no right to watch FedoraMessages: bind its ServiceAccount to its role ({})", status.message)
        }
        kube::Error::Api(status) if status.code == 400 => {
            format!("the API server can't select pending FedoraMessages: its CRD is older than the operator, install the operator's ({})", status.message)
        }
        _ => format!("the API server can't be watched: {cause}"),
    }
}
