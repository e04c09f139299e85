//! Reads and watches only the Secrets and `ConfigMaps` that pending messages and Senders name, each by
//! its name and never as a list. The first message that names a Secret pays for a read, the others for
//! none. All of this holds for `ConfigMaps` too.
//!
//! A watch brings only the metadata. The contents are read once for each version, for the first
//! message that may use them, and only the keys that messages use are kept.
//!
//! The number of watches is bounded, for each namespace and in all. A message whose Secret is beyond
//! the bound reads it at each attempt, and looks again from time to time.

mod metadata;
mod reader;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fedora_message::api::names::{SourceKind, SourceName};
use fedora_message::bounds::{
    MAX_SECRET_READS, MAX_WATCHED_SECRETS, MAX_WATCHED_SECRETS_PER_NAMESPACE, MIN_SECRET_POLL,
    SECRET_CONTENTS_POLL_GAP, SECRET_POLL_GAP,
};
use fedora_message::message::authentication::Authentication;
use fedora_message::message::secret::{Secret, SecretError, SecretMetadata, SecretVersion, used_keys};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Secret as KubeSecret};
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tracing::warn;

use self::metadata::UsedMetadata;
pub use self::reader::SecretChange;
use self::reader::{Content, Known, Reader, explain};
use super::list::{self, ListError};
use super::watch::Watches;
use crate::log_throttle::LogThrottle;

/// The first read of a Secret may take this time, and so may a read after a connection has died
/// silently.
const FIRST_READ: Duration = Duration::from_secs(10);
/// A Secret is watched for this time after it was last needed, so that messages that come one by
/// one don't read it one by one.
const KEEP: Duration = Duration::from_mins(5);
/// The contents of a Secret are kept with so many keys at most. More than three are used only if
/// messages name different keys of one Secret.
const MAX_KEYS: usize = 32;

/// A Secret that is watched.
struct WatchedSecret {
    known: watch::Sender<Known>,
    contents: Arc<CachedContents>,
    task: AbortHandle,
    used: Instant,
    /// The namespace of the message that named it first. It counts against the bound of this one.
    namespace: String,
}

impl Drop for WatchedSecret {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The contents of one Secret. The job that reads them holds the lock, and others use the result.
#[derive(Default)]
struct CachedContents {
    contents: tokio::sync::Mutex<Contents>,
    /// True if the last read failed, or did not find the Secret, although the watch says that it is there.
    is_unread: AtomicBool,
}

#[derive(Default)]
struct Contents {
    /// The version that the watch had reported before they were read. They may be newer.
    version: Option<SecretVersion>,
    /// The keys that were looked for.
    keys: BTreeSet<String>,
    secret: Option<Arc<Secret>>,
}

impl CachedContents {
    /// Drops the contents, unless they are being read.
    fn forget(&self) {
        if let Ok(mut contents) = self.contents.try_lock() {
            *contents = Contents::default();
        }
    }
}

impl Contents {
    fn is_of(&self, version: &SecretVersion) -> bool {
        let read = self.secret.as_ref().map(|secret| &secret.metadata.version);
        self.version.as_ref() == Some(version) || read == Some(version)
    }
}

/// Logs missing permissions.
#[derive(Default)]
struct Failures(Mutex<LogThrottle>);

impl Failures {
    /// Explains why a Secret can't be read. Logs it if the operator lacks a permission.
    fn explain(&self, secret: &SourceName, error: &ListError) -> String {
        let detail = explain(secret.kind, error);
        // One line for all Secrets: users decide how many they name.
        if let Some(code @ (401 | 403)) = error.code()
            && self.0.lock().is_due(&code.to_string(), Instant::now())
        {
            warn!("{secret} can't be read: {detail}");
        }
        detail
    }
}

/// The Secrets that are needed although nobody has used them for a while.
#[derive(Debug, Default)]
pub struct Needs {
    /// Those that waiting messages name.
    pub messages: HashSet<SourceName>,
    /// Those that Senders name.
    pub senders: HashSet<SourceName>,
}

/// The Secrets that messages and Senders name.
pub struct Secrets {
    watches: Watches,
    watched: Mutex<HashMap<SourceName, WatchedSecret>>,
    /// The last time that was given to a message to look for its Secret, by namespace.
    polls: Mutex<HashMap<String, Instant>>,
    reads: Semaphore,
    failures: Arc<Failures>,
    on_change: Arc<dyn Fn(SecretChange) + Send + Sync>,
}

impl Secrets {
    /// Creates the Secrets, of which none is watched yet. They call `on_change` when a watched
    /// Secret appears, changes or disappears: at once, and then less and less often if it goes on.
    pub fn new(watches: Watches, on_change: impl Fn(SecretChange) + Send + Sync + 'static) -> Self {
        Self {
            watches,
            watched: Mutex::default(),
            polls: Mutex::default(),
            reads: Semaphore::new(MAX_SECRET_READS),
            failures: Arc::default(),
            on_change: Arc::new(on_change),
        }
    }

    /// Returns the Secrets that `authentication` of a message or Sender in `namespace` names, in its order.
    /// `None` stands for one that does not exist, or that its owner does not let the namespace use.
    pub async fn read(
        &self,
        authentication: &Authentication,
        namespace: &str,
    ) -> Result<Vec<Option<Arc<Secret>>>, SecretError> {
        let mut secrets = Vec::with_capacity(3);
        for name in authentication.sources() {
            let keys = used_keys(authentication, name);
            let secret = self.read_one(name, namespace, &keys).await;
            secrets.push(secret.map_err(|detail| SecretError::Unreadable { secret: name.clone(), detail })?);
        }
        Ok(secrets)
    }

    /// Returns when a message in `namespace` that waits for one of these Secrets has to look again
    /// by itself. Returns nothing if changes of the Secrets wake it. A poll costs more if the Secrets
    /// are there: then `reads_contents` is true.
    pub fn next_poll(&self, namespace: &str, secrets: &[SourceName], reads_contents: bool) -> Option<Instant> {
        let wakes = {
            let watched = self.watched.lock();
            secrets.iter().all(|name| {
                watched.get(name).is_some_and(|watched| !watched.contents.is_unread.load(Ordering::Relaxed))
            })
        };
        if wakes {
            return None;
        }
        let (mut polls, earliest) = (self.polls.lock(), Instant::now() + MIN_SECRET_POLL);
        let gap = if reads_contents { SECRET_CONTENTS_POLL_GAP } else { SECRET_POLL_GAP };
        let at = polls.get(namespace).map_or(earliest, |last| earliest.max(*last + gap));
        polls.insert(namespace.to_owned(), at);
        Some(at)
    }

    /// Returns which bound keeps one of these Secrets from being watched, for people.
    pub fn exceeded_bound(&self, namespace: &str, secrets: &[SourceName]) -> Option<String> {
        let watched = self.watched.lock();
        if secrets.iter().all(|name| watched.contains_key(name)) {
            None
        } else if is_full(&watched, namespace) {
            Some(format!(
                "messages of namespace {namespace} name more than {MAX_WATCHED_SECRETS_PER_NAMESPACE} Secrets"
            ))
        } else if watched.len() >= MAX_WATCHED_SECRETS {
            Some(format!("messages name more than {MAX_WATCHED_SECRETS} Secrets in all"))
        } else {
            // A Secret that the message names before could not be read, so this one was not looked for yet.
            None
        }
    }

    /// Ends the watches on Secrets that were not used for a while and that no message needs. Those that a
    /// Sender needs are kept while there are few watches.
    pub fn release(&self, needs: impl FnOnce() -> Needs) {
        let now = Instant::now();
        self.polls.lock().retain(|_, last| *last > now);
        let mut watched = self.watched.lock();
        let is_idle = |watched: &WatchedSecret| watched.used + KEEP < now;
        if watched.values().any(is_idle) {
            let needs = needs();
            watched.retain(|name, watched| {
                !is_idle(watched) || needs.messages.contains(name) || needs.senders.contains(name)
            });
            let mut idle: Vec<_> = watched
                .iter()
                .filter(|(name, watched)| is_idle(watched) && !needs.messages.contains(*name))
                .map(|(name, watched)| (watched.used, name.clone()))
                .collect();
            idle.sort_unstable();
            let surplus = watched.len().saturating_sub(MAX_WATCHED_SECRETS / 2);
            for (_, name) in idle.into_iter().take(surplus) {
                watched.remove(&name);
            }
        }
    }

    /// Returns true if all these Secrets are watched, so that their changes are noticed.
    pub fn are_watched(&self, secrets: &[SourceName]) -> bool {
        let watched = self.watched.lock();
        secrets.iter().all(|name| watched.contains_key(name))
    }

    async fn read_one(&self, name: &SourceName, namespace: &str, keys: &[&str]) -> Result<Option<Arc<Secret>>, String> {
        let Some((known, contents)) = self.watch(name, namespace) else {
            let metadata = self.limited(name, read_metadata(self.watches.client(), name)).await?;
            return match metadata.filter(|metadata| metadata.allows(name, namespace)) {
                Some(_) => self.get_contents(name, keys, &BTreeSet::new()).await,
                None => Ok(None),
            };
        };
        match self.current(&known).await? {
            Some(metadata) if metadata.allows(name, namespace) => {
                self.contents(name, &metadata.version, &known, &contents, keys).await
            }
            Some(_) => Ok(None),
            None => {
                // The watch will tell if it appears.
                contents.is_unread.store(false, Ordering::Relaxed);
                Ok(None)
            }
        }
    }

    /// Returns what is known of a watched Secret now.
    async fn current(&self, known: &watch::Sender<Known>) -> Result<Option<Arc<SecretMetadata>>, String> {
        let silences = self.watches.monitor().silences();
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
        match known.borrow().content.clone() {
            Content::Is(metadata) => Ok(metadata),
            Content::Failed(detail) => Err(detail),
            Content::NotYet => Err("the watch has ended".to_owned()),
        }
    }

    /// Returns the contents of this version of a watched Secret, or newer ones.
    async fn contents(
        &self,
        name: &SourceName,
        version: &SecretVersion,
        known: &watch::Sender<Known>,
        cached: &CachedContents,
        keys: &[&str],
    ) -> Result<Option<Arc<Secret>>, String> {
        let mut contents = cached.contents.lock().await;
        let is_current = contents.is_of(version);
        let serves = contents.secret.as_ref().is_none_or(|secret| secret.serves(keys));
        if is_current && serves && keys.iter().all(|key| contents.keys.contains(*key)) {
            return Ok(contents.secret.clone());
        }
        let mut wanted: BTreeSet<&str> = keys.iter().copied().collect();
        if is_current && contents.keys.len() < MAX_KEYS {
            wanted.extend(contents.keys.iter().map(String::as_str));
        }
        let read = self.get_contents(name, keys, &wanted).await;
        cached.is_unread.store(!matches!(read, Ok(Some(_))), Ordering::Relaxed);
        let (secret, keys) = (read?, wanted.into_iter().map(str::to_owned).collect());
        let is_found = secret.is_some();
        let read = Contents { version: Some(version.clone()), keys, secret: secret.clone() };
        // If the Secret has changed since, nobody would use these contents any more. If it is gone, but the watch does
        // not say so, one of the two answers is wrong.
        let is_current = matches!(&known.borrow().content, Content::Is(Some(now)) if read.is_of(&now.version));
        *contents = if is_found && is_current { read } else { Contents::default() };
        Ok(secret)
    }

    /// Reads the values of a message's `own` keys, and of `others` as far as there is room for them.
    async fn get_contents(
        &self,
        name: &SourceName,
        own: &[&str],
        others: &BTreeSet<&str>,
    ) -> Result<Option<Arc<Secret>>, String> {
        let secret = self.limited(name, read_source(self.watches.client(), name)).await?;
        Ok(secret.map(|mut secret| {
            secret.keep(own, others);
            Arc::new(secret)
        }))
    }

    /// Makes a request, of which there are few at the same time. It is boxed, because most messages
    /// find what was read before (docs/decisions/0056).
    fn limited<'a, T: Send>(
        &'a self,
        name: &'a SourceName,
        request: impl Future<Output = Result<T, ListError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, String>> {
        let answer = async move {
            let _permit = self.reads.acquire().await;
            request.await
        };
        Box::pin(async move {
            let answer = timeout(FIRST_READ, answer).await.unwrap_or(Err(ListError::Silent));
            answer.map_err(|error| self.failures.explain(name, &error))
        })
    }

    /// Returns what is known of a Secret that is watched from now on, unless too many are.
    fn watch(&self, name: &SourceName, namespace: &str) -> Option<(watch::Sender<Known>, Arc<CachedContents>)> {
        let mut all = self.watched.lock();
        if !all.contains_key(name) && (all.len() >= MAX_WATCHED_SECRETS || is_full(&all, namespace)) {
            return None;
        }
        let watched = all.entry(name.clone()).or_insert_with(|| {
            let known = watch::Sender::new(Known { content: Content::NotYet, silences: 0 });
            let contents = Arc::<CachedContents>::default();
            let reader = Reader {
                name: name.clone(),
                known: known.clone(),
                contents: contents.clone(),
                failures: self.failures.clone(),
                on_change: self.on_change.clone(),
            };
            let watches = self.watches.clone();
            let task = match name.kind {
                SourceKind::Secret => tokio::spawn(reader.run::<KubeSecret>(watches)),
                SourceKind::ConfigMap => tokio::spawn(reader.run::<ConfigMap>(watches)),
            };
            let task = task.abort_handle();
            WatchedSecret { known, contents, task, used: Instant::now(), namespace: namespace.to_owned() }
        });
        watched.used = Instant::now();
        Some((watched.known.clone(), watched.contents.clone()))
    }
}

/// Reads a Secret or `ConfigMap`.
pub async fn read_source(client: &Client, source: &SourceName) -> Result<Option<Secret>, ListError> {
    let SourceName { kind, namespace, name } = source;
    Ok(match kind {
        SourceKind::Secret => list::get::<KubeSecret>(client, namespace, name).await?.map(Into::into),
        SourceKind::ConfigMap => list::get::<ConfigMap>(client, namespace, name).await?.map(Into::into),
    })
}

/// Reads a Secret or `ConfigMap` without its contents.
async fn read_metadata(client: &Client, source: &SourceName) -> Result<Option<SecretMetadata>, ListError> {
    let SourceName { kind, namespace, name } = source;
    Ok(match kind {
        SourceKind::Secret => list::get::<UsedMetadata<KubeSecret>>(client, namespace, name).await?.map(Into::into),
        SourceKind::ConfigMap => list::get::<UsedMetadata<ConfigMap>>(client, namespace, name).await?.map(Into::into),
    })
}

/// Returns true if as many Secrets are watched for this namespace as may be.
fn is_full(watched: &HashMap<SourceName, WatchedSecret>, namespace: &str) -> bool {
    watched.values().filter(|watched| watched.namespace == namespace).count() >= MAX_WATCHED_SECRETS_PER_NAMESPACE
}

#[cfg(test)]
mod tests;
