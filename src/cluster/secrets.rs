//! Reads and watches just the Secrets that pending messages name, each by its name: the first
//! message that names one pays a read, the others none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::message::authentication::{Authentication, SecretName};
use crate::message::secret::SecretError;

/// How long the first read of a Secret may take.
const FIRST_READ: Duration = Duration::from_secs(10);
/// How long a Secret is watched after it was last needed, so that messages that come one by one
/// don't read it one by one.
const KEEP: Duration = Duration::from_mins(5);

/// What is known about a Secret. Without `Debug`, which would print its data.
#[derive(Clone)]
enum Known {
    NotYet,
    Is(Option<Arc<Secret>>),
    Failed(String),
}

impl Known {
    /// Whether both are the same version of the same Secret, or the same lack of it.
    fn is_same(&self, other: &Self) -> bool {
        let version = |secret: &Secret| (secret.metadata.uid.clone(), secret.metadata.resource_version.clone());
        match (self, other) {
            (Self::Is(a), Self::Is(b)) => a.as_deref().map(version) == b.as_deref().map(version),
            (Self::Failed(a), Self::Failed(b)) => a == b,
            _ => false,
        }
    }
}

struct Watched {
    known: watch::Sender<Known>,
    task: AbortHandle,
    used: Instant,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The Secrets that messages name.
pub struct Secrets {
    client: Client,
    watched: Mutex<HashMap<SecretName, Watched>>,
    on_change: Arc<dyn Fn(SecretName) + Send + Sync>,
}

impl Secrets {
    /// Nothing is watched yet. `on_change` is called when a watched Secret appears, changes or
    /// goes.
    pub fn new(client: Client, on_change: impl Fn(SecretName) + Send + Sync + 'static) -> Self {
        Self { client, watched: Mutex::default(), on_change: Arc::new(on_change) }
    }

    /// What is stored under each name of `authentication`, in that order; `None` where nothing is.
    pub async fn read(&self, authentication: &Authentication) -> Result<Vec<Option<Arc<Secret>>>, SecretError> {
        let mut secrets = Vec::with_capacity(3);
        for name in authentication.secrets() {
            secrets.push(self.read_one(name).await?);
        }
        Ok(secrets)
    }

    /// Ends the watches on Secrets that nobody needs any more.
    pub fn release(&self, is_needed: impl Fn(&SecretName) -> bool) {
        self.watched.lock().retain(|name, watched| watched.used.elapsed() < KEEP || is_needed(name));
    }

    async fn read_one(&self, name: &SecretName) -> Result<Option<Arc<Secret>>, SecretError> {
        let known = self.watch(name);
        let mut reader = known.subscribe();
        // Who waited in vain is woken by the first answer: it then changes what is known.
        if timeout(FIRST_READ, reader.wait_for(|known| !matches!(known, Known::NotYet))).await.is_err() {
            known.send_if_modified(|known| {
                let silent = matches!(known, Known::NotYet);
                if silent {
                    *known = Known::Failed("the API server does not answer".to_owned());
                }
                silent
            });
        }
        match known.borrow().clone() {
            Known::Is(secret) => Ok(secret),
            Known::Failed(words) => Err(SecretError::Unread { secret: name.clone(), words }),
            Known::NotYet => Err(SecretError::Unread { secret: name.clone(), words: "the watch has ended".to_owned() }),
        }
    }

    fn watch(&self, name: &SecretName) -> watch::Sender<Known> {
        let mut watched = self.watched.lock();
        let entry = watched.entry(name.clone()).or_insert_with(|| {
            let known = watch::Sender::new(Known::NotYet);
            let api = Api::namespaced(self.client.clone(), &name.namespace);
            let task = tokio::spawn(follow(api, name.clone(), known.clone(), self.on_change.clone())).abort_handle();
            Watched { known, task, used: Instant::now() }
        });
        entry.used = Instant::now();
        entry.known.clone()
    }
}

/// Watches one Secret for as long as anybody wants it.
async fn follow(
    api: Api<Secret>,
    name: SecretName,
    known: watch::Sender<Known>,
    on_change: Arc<dyn Fn(SecretName) + Send + Sync>,
) {
    let mut events = std::pin::pin!(watcher::watch_object(api, &name.name).default_backoff());
    while let Some(event) = events.next().await {
        let now = match event {
            Ok(secret) => Known::Is(secret.map(Arc::new)),
            // What was read before is still the best that is known.
            Err(_) if matches!(*known.borrow(), Known::Is(_)) => continue,
            Err(error) => Known::Failed(explain(&error)),
        };
        let before = known.send_replace(now);
        if !matches!(before, Known::NotYet) && !before.is_same(&known.borrow()) {
            on_change(name.clone());
        }
    }
}

fn explain(error: &watcher::Error) -> String {
    use watcher::Error;
    match error {
        Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403 => {
            "the operator has no right to read Secrets of this namespace: bind its ServiceAccount to its role there"
                .to_owned()
        }
        Error::InitialListFailed(kube::Error::Api(status)) => format!("the API server says: {}", status.message),
        Error::InitialListFailed(cause) => format!("the API server says: {cause}"),
        other => format!("the API server says: {other}"),
    }
}
