//! Reads and watches just the Secrets that pending messages name, each by its name and never as a
//! list: the first message that names one pays a read, the others none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::client::describe;
use fedora_message::message::authentication::{Authentication, SecretName};
use fedora_message::message::secret::{Secret, SecretError};
use fedora_message::policy::backoff;

/// How long the first read of a Secret may take.
const FIRST_READ: Duration = Duration::from_secs(10);
/// How long a Secret is watched after it was last needed, so that messages that come one by one
/// don't read it one by one.
const KEEP: Duration = Duration::from_mins(5);

/// What is said of an API server that does not answer.
const SILENT: &str = "the API server does not answer";
/// How long a read may take.
const READ: Duration = Duration::from_secs(20);
/// A Secret that can't be read is read again as often as after this many failures, at the least:
/// every 16 seconds.
const MOST_FAILURES: u32 = 5;

/// What is known about a Secret.
#[derive(Clone)]
enum Known {
    NotYet,
    Is(Option<Arc<Secret>>),
    Failed(String),
}

impl Known {
    /// Whether both are the same version of the same Secret, or the same lack of it.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(Some(a)), Self::Is(Some(b))) => a.version == b.version,
            (Self::Is(a), Self::Is(b)) => a.is_none() && b.is_none(),
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
                    *known = Known::Failed(SILENT.to_owned());
                }
                silent
            });
        }
        match known.borrow().clone() {
            Known::Is(secret) => Ok(secret),
            Known::Failed(detail) => Err(SecretError::Unreadable { secret: name.clone(), detail }),
            Known::NotYet => {
                Err(SecretError::Unreadable { secret: name.clone(), detail: "the watch has ended".to_owned() })
            }
        }
    }

    fn watch(&self, name: &SecretName) -> watch::Sender<Known> {
        let mut watched = self.watched.lock();
        let entry = watched.entry(name.clone()).or_insert_with(|| {
            let known = watch::Sender::new(Known::NotYet);
            let api = Api::namespaced(self.client.clone(), &name.namespace);
            let reader = Reader { api, name: name.clone(), known: known.clone(), on_change: self.on_change.clone() };
            let task = tokio::spawn(reader.run()).abort_handle();
            Watched { known, task, used: Instant::now() }
        });
        entry.used = Instant::now();
        entry.known.clone()
    }
}

/// Keeps what is known about one Secret up to date.
struct Reader {
    api: Api<KubeSecret>,
    name: SecretName,
    known: watch::Sender<Known>,
    on_change: Arc<dyn Fn(SecretName) + Send + Sync>,
}

impl Reader {
    /// Reads and watches for as long as anybody wants it.
    async fn run(self) {
        let mut failures = 0;
        loop {
            match self.read_and_watch().await {
                Ok(()) => failures = 0,
                Err(detail) => {
                    failures = MOST_FAILURES.min(failures + 1);
                    debug!("Secret {} is not up to date: {detail}", self.name);
                    // What was read before is still the best that is known.
                    if !matches!(*self.known.borrow(), Known::Is(_)) {
                        self.learn(Known::Failed(detail));
                    }
                }
            }
            sleep(backoff::delay(failures.max(1), fastrand::f64()).to_std().unwrap_or_default()).await;
        }
    }

    /// Reads the Secret, and watches it until the watch ends.
    async fn read_and_watch(&self) -> Result<(), String> {
        let name = &self.name.name;
        let read = timeout(READ, self.api.get_opt(name)).await.map_err(|_| SILENT.to_owned())?;
        let secret: Option<Secret> = read.map_err(|error| explain(&error))?.map(Into::into);
        // Without a version the watch begins with what is there, so that nothing is missed between.
        let version = secret.as_ref().map(|secret| secret.version.resource_version().to_owned()).unwrap_or_default();
        self.learn(Known::Is(secret.map(Arc::new)));
        let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
        let watch = timeout(READ, self.api.watch(&parameters, &version)).await.map_err(|_| SILENT.to_owned())?;
        let mut events = std::pin::pin!(watch.map_err(|error| explain(&error))?);
        while let Some(event) = events.try_next().await.map_err(|error| explain(&error))? {
            match event {
                WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
                    self.learn(Known::Is(Some(Arc::new(secret.into()))));
                }
                WatchEvent::Deleted(_) => self.learn(Known::Is(None)),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(explain(&kube::Error::Api(status))),
            }
        }
        Ok(())
    }

    fn learn(&self, now: Known) {
        let before = self.known.send_replace(now);
        if !matches!(before, Known::NotYet) && !before.is_same(&self.known.borrow()) {
            (self.on_change)(self.name.clone());
        }
    }
}

fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            "the operator has no right to read and watch Secrets of this namespace: bind its ServiceAccount to its role there"
                .to_owned()
        }
        other => describe(other),
    }
}
