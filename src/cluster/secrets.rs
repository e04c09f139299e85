//! Reads and watches only the Secrets that pending messages name, each by its name and never as a
//! list. The first message that names a Secret pays for a read, the others for none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedora_message::message::authentication::{Authentication, SecretName};
use fedora_message::message::secret::{Secret, SecretError};
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::debug;

use super::list::ListError;
use super::watch::{ObjectState, WatchKind, Watches};

/// The first read of a Secret may take this time, and so may a read after a connection has died
/// silently.
const FIRST_READ: Duration = Duration::from_secs(10);
/// A Secret is watched for this time after it was last needed, so that messages that come one by
/// one don't read it one by one.
const KEEP: Duration = Duration::from_mins(5);

/// The last known state of a Secret.
#[derive(Clone)]
struct Known {
    content: Content,
    /// The number of silent connections that the monitor knew when the read began. If it knows more
    /// now, the content may be out of date.
    silences: u64,
}

#[derive(Clone)]
enum Content {
    NotYet,
    Is(Option<Arc<Secret>>),
    Failed(String),
}

impl Content {
    /// Returns true if both are the same version of the same Secret, or both are absent.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(Some(a)), Self::Is(Some(b))) => a.version == b.version,
            (Self::Is(a), Self::Is(b)) => a.is_none() && b.is_none(),
            (Self::Failed(a), Self::Failed(b)) => a == b,
            _ => false,
        }
    }
}

impl Known {
    /// Returns true if this can be used while the monitor knows so many silent connections.
    fn is_current(&self, silences: u64) -> bool {
        self.silences >= silences && !matches!(self.content, Content::NotYet)
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
    watches: Watches,
    watched: Mutex<HashMap<SecretName, Watched>>,
    on_change: Arc<dyn Fn(SecretName) + Send + Sync>,
}

impl Secrets {
    /// Creates the Secrets, of which none is watched yet. They call `on_change` when a watched
    /// Secret appears, changes or disappears.
    pub fn new(watches: Watches, on_change: impl Fn(SecretName) + Send + Sync + 'static) -> Self {
        Self { watches, watched: Mutex::default(), on_change: Arc::new(on_change) }
    }

    /// Returns the Secrets that `authentication` names, in its order, with `None` for one that does
    /// not exist.
    pub async fn read(&self, authentication: &Authentication) -> Result<Vec<Option<Arc<Secret>>>, SecretError> {
        let mut secrets = Vec::with_capacity(3);
        for name in authentication.secrets() {
            secrets.push(self.read_one(name).await?);
        }
        Ok(secrets)
    }

    /// Ends the watches on Secrets that are not needed any more.
    pub fn release(&self, is_needed: impl Fn(&SecretName) -> bool) {
        self.watched.lock().retain(|name, watched| watched.used.elapsed() < KEEP || is_needed(name));
    }

    async fn read_one(&self, name: &SecretName) -> Result<Option<Arc<Secret>>, SecretError> {
        let silences = self.watches.monitor().silences();
        let known = self.watch(name);
        let mut reader = known.subscribe();
        if timeout(FIRST_READ, reader.wait_for(|known| known.is_current(silences))).await.is_err() {
            // The first answer then changes what is known, which wakes the messages that waited for
            // it.
            known.send_if_modified(|known| {
                let silent = !known.is_current(silences);
                if silent {
                    *known = Known { content: Content::Failed(ListError::Silent.to_string()), silences };
                }
                silent
            });
        }
        let unread = |detail| SecretError::Unreadable { secret: name.clone(), detail };
        match known.borrow().content.clone() {
            Content::Is(secret) => Ok(secret),
            Content::Failed(detail) => Err(unread(detail)),
            Content::NotYet => Err(unread("the watch has ended".to_owned())),
        }
    }

    fn watch(&self, name: &SecretName) -> watch::Sender<Known> {
        let mut watched = self.watched.lock();
        let entry = watched.entry(name.clone()).or_insert_with(|| {
            let known = watch::Sender::new(Known { content: Content::NotYet, silences: 0 });
            let reader = Reader { name: name.clone(), known: known.clone(), on_change: self.on_change.clone() };
            let task = tokio::spawn(reader.run(self.watches.clone())).abort_handle();
            Watched { known, task, used: Instant::now() }
        });
        entry.used = Instant::now();
        entry.known.clone()
    }
}

/// Keeps what is known about one Secret up to date.
struct Reader {
    name: SecretName,
    known: watch::Sender<Known>,
    on_change: Arc<dyn Fn(SecretName) + Send + Sync>,
}

impl Reader {
    /// Reads and watches the Secret until the task is aborted.
    async fn run(self, watches: Watches) {
        let SecretName { namespace, name } = &self.name;
        let mut watch = watches.object::<KubeSecret>(WatchKind::Secrets, namespace, name);
        loop {
            let content = match watch.next().await {
                Ok(ObjectState::Present(secret)) => Content::Is(Some(Arc::new((*secret).into()))),
                Ok(ObjectState::Absent(_)) => Content::Is(None),
                Err(error) => {
                    let detail = explain(&error);
                    debug!("Secret {} is not up to date: {detail}", self.name);
                    // The last answer is still the best that is known.
                    if matches!(self.known.borrow().content, Content::Is(_)) {
                        continue;
                    }
                    Content::Failed(detail)
                }
            };
            self.learn(Known { content, silences: watch.silences_at_read() });
        }
    }

    fn learn(&self, now: Known) {
        let before = self.known.send_replace(now).content;
        if !matches!(before, Content::NotYet) && !before.is_same(&self.known.borrow().content) {
            (self.on_change)(self.name.clone());
        }
    }
}

fn explain(error: &ListError) -> String {
    match error.code() {
        Some(403) => {
            "the operator is not allowed to read and watch Secrets of this namespace: bind its ServiceAccount to its role there"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::fake_api::{self, Reply};
    use crate::cluster::watch::WatchMonitor;

    fn secret(version: &str) -> Value {
        json!({"metadata": {"name": "s", "namespace": "n", "uid": "u", "resourceVersion": version}})
    }

    fn authentication() -> Authentication {
        Authentication::One(SecretName { namespace: "n".to_owned(), name: "s".to_owned() })
    }

    fn versions(read: Result<Vec<Option<Arc<Secret>>>, SecretError>) -> Result<Vec<Option<String>>, String> {
        let version = |secret: &Arc<Secret>| secret.version.resource_version().to_owned();
        let read = read.map_err(|error| error.to_string())?;
        Ok(read.iter().map(|secret| secret.as_ref().map(version)).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn reads_a_secret_again_after_silence() {
        let replies = [
            Reply::Json(secret("1")),
            Reply::SilentAfter(vec![]),
            Reply::Json(secret("2")),
            Reply::SilentAfter(vec![]),
        ];
        let (client, requests) = fake_api::client(replies);
        let watches = Watches::new(client, WatchMonitor::default());
        let secrets = Secrets::new(watches.clone(), drop);
        for _ in 0..2 {
            assert_eq!(versions(secrets.read(&authentication()).await), Ok(vec![Some("1".to_owned())]));
        }
        tokio::task::yield_now().await;
        watches.monitor().report_silence();
        for _ in 0..2 {
            assert_eq!(versions(secrets.read(&authentication()).await), Ok(vec![Some("2".to_owned())]));
        }
        assert_eq!(requests.take()[..3], ["GET", "watch 1", "GET"]);
    }

    #[tokio::test(start_paused = true)]
    async fn uses_no_old_secret_while_the_api_server_is_silent() {
        let (client, _) = fake_api::client([Reply::Json(secret("1")), Reply::SilentAfter(vec![])]);
        let watches = Watches::new(client, WatchMonitor::default());
        let secrets = Secrets::new(watches.clone(), drop);
        assert_eq!(versions(secrets.read(&authentication()).await), Ok(vec![Some("1".to_owned())]));
        watches.monitor().report_silence();
        let error = versions(secrets.read(&authentication()).await).expect_err("it is silent");
        assert!(error.contains("the API server does not answer"), "{error}");
    }
}
