//! Watches one Secret without its contents, and tells the messages that name it of its changes.

use std::sync::Arc;
use std::time::Duration;

use fedora_message::api::names::{SourceKind, SourceName};
use fedora_message::message::secret::{SecretMetadata, SecretVersion};
use kube::Resource;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use super::metadata::UsedMetadata;
use super::{CachedContents, Failures};
use crate::cluster::list::ListError;
use crate::cluster::watch::{ObjectState, WatchKind, Watches};
use crate::timer::wait_until;
use crate::wake_pacer::WakePacer;

/// A Secret is used for this time after the API server last answered. An owner who takes it away can
/// rely on that.
const TRUST: Duration = Duration::from_mins(2);

/// The last known state of a Secret.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) content: Content,
    /// The number of silent connections that the monitor knew when the read began. If it knows more
    /// now, the content may be out of date.
    pub(super) silences: u64,
}

/// The operator's knowledge of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    NotYet,
    Is(Option<Arc<SecretMetadata>>),
    Failed(String),
}

/// The knowledge of a Secret that the messages of one namespace may have.
#[derive(PartialEq, Eq)]
enum View<'a> {
    Usable(&'a SecretVersion),
    AbsentOrDenied,
    Unread(&'a str),
}

impl Content {
    fn view(&self, secret: &SourceName, namespace: &str) -> View<'_> {
        match self {
            Self::Is(Some(metadata)) if metadata.allows(secret, namespace) => View::Usable(&metadata.version),
            Self::Is(_) => View::AbsentOrDenied,
            Self::NotYet => View::Unread(""),
            Self::Failed(detail) => View::Unread(detail),
        }
    }
}

impl Known {
    /// Returns true if this can be used while the monitor knows so many silent connections.
    pub(super) fn is_current(&self, silences: u64) -> bool {
        self.silences >= silences && self.content != Content::NotYet
    }
}

/// A change of a Secret.
#[derive(Clone, Debug)]
pub struct SecretChange {
    /// The Secret.
    pub secret: SourceName,
    before: Content,
    after: Content,
}

impl SecretChange {
    /// Returns true if messages of `namespace` may learn of this change. A Secret that they may not
    /// use looks absent to them, whatever becomes of it.
    #[must_use]
    pub fn concerns(&self, namespace: &str) -> bool {
        self.before.view(&self.secret, namespace) != self.after.view(&self.secret, namespace)
    }
}

/// Keeps what is known about one Secret up to date.
pub(super) struct Reader {
    pub(super) name: SourceName,
    pub(super) known: watch::Sender<Known>,
    pub(super) contents: Arc<CachedContents>,
    pub(super) failures: Arc<Failures>,
    pub(super) on_change: Arc<dyn Fn(SecretChange) + Send + Sync>,
}

impl Reader {
    /// Reads and watches the Secret until the task is aborted.
    pub(super) async fn run<K>(self, watches: Watches)
    where
        K: Clone + Resource<DynamicType = ()> + Send + 'static,
    {
        let SourceName { kind, namespace, name } = &self.name;
        let kind = match kind {
            SourceKind::Secret => WatchKind::Secrets,
            SourceKind::ConfigMap => WatchKind::ConfigMaps,
        };
        let mut watch = watches.object::<UsedMetadata<K>>(kind, namespace, name, None);
        let mut pacer = WakePacer::default();
        // The state before the changes that still have to wake the messages, and when they do.
        let mut unreported: Option<(Content, Instant)> = None;
        // The error of the last request, and the time at which the last state is not used any more.
        let mut failing: Option<(String, Instant)> = None;
        loop {
            let content = tokio::select! {
                biased;
                () = wait_until(unreported.as_ref().map(|(_, at)| *at)) => {
                    if let Some((before, _)) = unreported.take() {
                        self.wake(before, &mut pacer);
                    }
                    continue;
                }
                () = wait_until(failing.as_ref().map(|(_, at)| *at)) => match failing.take() {
                    Some((detail, _)) => Content::Failed(detail),
                    None => continue,
                },
                next = watch.next() => match next {
                    Ok(state) => {
                        failing = None;
                        Content::Is(match state {
                            ObjectState::Present(secret) => Some(Arc::new((*secret).into())),
                            ObjectState::Absent(_) => None,
                        })
                    }
                    Err(error) => {
                        let detail = self.failures.explain(&self.name, &error);
                        debug!("{} is not up to date: {detail}", self.name);
                        let is_final = matches!(error.code(), Some(401 | 403)) || matches!(error, ListError::TooLarge);
                        if !is_final && matches!(self.known.borrow().content, Content::Is(_)) {
                            // The last answer is still the best that is known.
                            failing = Some((detail, watch.last_heard() + TRUST));
                            continue;
                        }
                        failing = None;
                        Content::Failed(detail)
                    }
                },
            };
            if let Some(before) = self.learn(content, watch.silences_at_read()) {
                let at = || pacer.next(Instant::now());
                unreported = unreported.or_else(|| Some((before, at())));
            }
        }
    }

    /// Returns what was known before, if it was something else.
    fn learn(&self, content: Content, silences: u64) -> Option<Content> {
        let before = self.known.send_replace(Known { content, silences }).content;
        let is_change = before != Content::NotYet && before != self.known.borrow().content;
        if is_change {
            self.contents.forget();
        }
        is_change.then_some(before)
    }

    /// Wakes the messages, if there is still something to tell.
    fn wake(&self, before: Content, pacer: &mut WakePacer) {
        let after = self.known.borrow().content.clone();
        if before != after {
            pacer.woke(Instant::now(), fastrand::f64());
            (self.on_change)(SecretChange { secret: self.name.clone(), before, after });
        }
    }
}

/// Explains why a Secret or `ConfigMap` can't be read, and what to do.
pub(super) fn explain(kind: SourceKind, error: &ListError) -> String {
    match error.code() {
        Some(403) => format!(
            "the operator is not allowed to read and watch {kind}s of this namespace: bind its ServiceAccount to its role there"
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use fedora_message::message::secret::CONSENT_ANNOTATION;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn content(version: &str, allowed: &str) -> Content {
        let metadata = ObjectMeta {
            uid: Some("u".to_owned()),
            resource_version: Some(version.to_owned()),
            annotations: Some([(CONSENT_ANNOTATION.to_owned(), allowed.to_owned())].into()),
            ..ObjectMeta::default()
        };
        Content::Is(Some(Arc::new(metadata.into())))
    }

    /// A message must not learn of another namespace's Secret what its owner does not allow.
    #[test]
    fn change_concerns_only_those_who_may_know() {
        let absent = || Content::Is(None);
        let failed = || Content::Failed("no".to_owned());
        for (before, after, own, guest) in [
            (absent(), content("1", ""), true, false),
            (content("1", ""), absent(), true, false),
            (content("1", ""), content("2", ""), true, false),
            (content("1", ""), content("2", "somebody"), true, false),
            (content("1", ""), content("2", "guest"), true, true),
            (content("1", "guest"), content("2", "guest"), true, true),
            (content("1", "guest"), content("2", ""), true, true),
            (content("1", "guest"), absent(), true, true),
            (absent(), content("1", "*"), true, true),
            (failed(), content("1", ""), true, true),
            (content("1", ""), failed(), true, true),
        ] {
            let secret = SourceName::secret("own", "s");
            let change = SecretChange { secret, before, after };
            assert_eq!((change.concerns("own"), change.concerns("guest")), (own, guest), "{change:?}");
        }
    }
}
