//! One watch for everything that the operator follows: pending messages, Senders, Secrets, the Lease
//! and Pods.
//!
//! A watch reads what is there, follows the changes, and never ends. It repeats what fails, with a
//! pause that grows. The API server ends each watch request after an agreed time, and a request
//! that lasts longer has a dead connection. TCP does not detect that: a side that only receives
//! does not notice that the peer is gone. The other watches then connect again too, because their
//! connections probably died at the same moment. Now and then each watch reads everything again, so
//! that no lost event stays lost (docs/decisions/0031).

mod events;
mod monitor;
mod object;
mod progress;

use std::ops::RangeInclusive;
use std::time::Duration;

use fedora_message::api::object::FedoraMessage;
use fedora_message::api::sender::FedoraMessageSender;
use fedora_message::policy::backoff;
use futures::StreamExt;
use futures::stream::{self, BoxStream, SelectAll, select_all};
use kube::api::WatchParams;
use kube::core::{Request, WatchEvent};
use kube::{Client, Error, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use self::events::EventReader;
use self::monitor::Heartbeat;
pub use self::monitor::{WatchKind, WatchMonitor};
pub use self::object::{ObjectState, ObjectWatch};
use self::progress::{Continuation, End, Knowledge};
use super::list::{ListError, ListReader, get_at, limit, paths};

/// Selects messages that are not sent, with or without a status. Sent messages are neither listed
/// nor held (docs/decisions/0004).
pub const PENDING: &str = "status.status!=true";

/// How to install the CRD.
pub const INSTALL: &str = "fedora-message-operator crd | kubectl apply --server-side -f -";
/// Where to look for missing permissions.
pub const PERMISSIONS_HINT: &str = "fedora-message-operator check --cluster lists missing permissions";

/// The API server ends a watch request after so many seconds. Each request has a time of its own,
/// so that many watches don't come back together.
const REQUEST_SECONDS: RangeInclusive<u32> = 50..=80;
/// A request that lasts longer than agreed by this time has a dead connection.
const SLACK: Duration = Duration::from_secs(10);
/// An end that comes before the agreed time by no more than this is on time: clocks are not exact.
const TOLERANCE: Duration = Duration::from_secs(2);
/// A request that lasted so long has worked, also if something between here and the API server ended it.
const WORKED: Duration = Duration::from_secs(10);
/// Everything is read again after so many seconds, each time after another.
const READ_AGAIN_SECONDS: RangeInclusive<u64> = 600..=1200;
/// Everything is read again after so many times the duration of the last read, at the earliest:
/// long lists are read more rarely.
const READ_SHARE: u32 = 100;
/// The pauses stop growing after so many failures in a row, at half a minute.
const MAX_FAILURES: u32 = 6;

/// An event of a watch.
#[derive(Debug)]
pub enum Event<K> {
    /// The watch begins to read everything.
    Begin,
    /// The object is there: it is new or changed, or was read.
    Seen(Box<K>),
    /// The object is deleted, or no longer selected. This is its last state.
    Gone(Box<K>),
    /// Everything that is there has been reported since the beginning.
    Complete,
    /// A request failed. The watch goes on by itself.
    Failed(ListError),
}

/// The events of several watches, each with the number of its watch.
pub type EventStream<K> = SelectAll<BoxStream<'static, (usize, Event<K>)>>;

/// Begins watches.
#[derive(Clone)]
pub struct Watches {
    client: Client,
    monitor: WatchMonitor,
}

impl Watches {
    /// Creates a factory of watches.
    #[must_use]
    pub fn new(client: Client, monitor: WatchMonitor) -> Self {
        Self { client, monitor }
    }

    /// Returns the client of these watches.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the monitor of these watches.
    #[must_use]
    pub fn monitor(&self) -> &WatchMonitor {
        &self.monitor
    }

    /// Watches pending messages in the given namespaces, or in all if none is given. Each event
    /// comes with the number of its namespace.
    pub fn pending(&self, namespaces: &[String]) -> EventStream<FedoraMessage> {
        self.lists(WatchKind::Messages, namespaces, PENDING)
    }

    /// Watches the Senders in the given namespaces, or in all if none is given. Each event comes with
    /// the number of its namespace.
    pub fn senders(&self, namespaces: &[String]) -> EventStream<FedoraMessageSender> {
        self.lists(WatchKind::Senders, namespaces, "")
    }

    fn lists<K: Watched>(&self, kind: WatchKind, namespaces: &[String], fields: &'static str) -> EventStream<K> {
        select_all(paths::<K>(namespaces).into_iter().enumerate().map(|(number, path)| {
            let watch = Watch::new(self, kind, Source::List { path, fields }, Position::Unread);
            stream::unfold(watch, move |mut watch| async move { Some(((number, watch.next().await), watch)) }).boxed()
        }))
    }

    /// Watches the changes of one object after the version `since`. Without one, the object is read first.
    #[must_use]
    pub fn object<K: Watched>(
        &self,
        kind: WatchKind,
        namespace: &str,
        name: &str,
        since: Option<String>,
    ) -> ObjectWatch<K> {
        let position = since.map_or(Position::Unread, Position::Known);
        let source = Source::Object { path: K::url_path(&(), Some(namespace)), name: name.to_owned() };
        ObjectWatch::new(Watch::new(self, kind, source, position))
    }
}

/// An object that can be watched.
pub trait Watched: Clone + DeserializeOwned + Resource<DynamicType = ()> + Send + 'static {}

impl<K: Clone + DeserializeOwned + Resource<DynamicType = ()> + Send + 'static> Watched for K {}

/// The source of one watch.
enum Source {
    /// All objects that the field selector matches.
    List { path: String, fields: &'static str },
    /// One object.
    Object { path: String, name: String },
}

impl Source {
    fn path(&self) -> &str {
        match self {
            Self::List { path, .. } | Self::Object { path, .. } => path,
        }
    }

    fn parameters(&self, seconds: u32) -> WatchParams {
        let parameters = WatchParams::default().timeout(seconds);
        match self {
            Self::List { fields, .. } => parameters.fields(fields),
            Self::Object { name, .. } => parameters.fields(&format!("metadata.name={name}")),
        }
    }
}

/// Reads what is there, and then follows the changes.
struct Watch<K> {
    client: Client,
    source: Source,
    position: Position<K>,
    monitor: WatchMonitor,
    heartbeat: Heartbeat,
    /// Changes when a connection has died silently.
    silences: watch::Receiver<u64>,
    /// The count when the last read began.
    silences_at_read: u64,
    /// The failures since a watch request last worked. A list that succeeds is no proof of that.
    failures: u32,
    /// True if the next request waits, because the last one failed.
    must_pause: bool,
    /// The API server may not have the version from which the watch goes on.
    in_doubt: bool,
    read_again_at: Instant,
    /// From where the watch goes on if this read fails: a version, and whether it is in doubt.
    fallback: Option<(String, bool)>,
}

/// The progress of a watch.
enum Position<K> {
    /// Nothing is known.
    Unread,
    /// The list is being read since then.
    Listing(Box<ListReader<K>>, Instant),
    /// The object of this name is to be read.
    Getting(String),
    /// The object of this version was read and reported.
    Got(String),
    /// Everything is known up to this version. An empty one stands for an absent object.
    Known(String),
    /// The changes after this version arrive.
    Watching(Box<OpenRequest>),
}

/// A watch request that the API server has accepted.
struct OpenRequest {
    events: EventReader,
    /// Everything is known up to this version.
    version: String,
    /// The request has reported a later version than the one from which it began.
    heard: bool,
    begin: Instant,
    /// The agreed end.
    end: Instant,
}

impl<K: Watched> Watch<K> {
    fn new(watches: &Watches, kind: WatchKind, source: Source, position: Position<K>) -> Self {
        Self {
            client: watches.client.clone(),
            source,
            position,
            heartbeat: watches.monitor.register(kind),
            silences: watches.monitor.subscribe(),
            silences_at_read: watches.monitor.silences(),
            monitor: watches.monitor.clone(),
            failures: 0,
            must_pause: false,
            in_doubt: false,
            read_again_at: read_again_at(Duration::ZERO),
            fallback: None,
        }
    }

    /// Returns the next event.
    async fn next(&mut self) -> Event<K> {
        loop {
            match self.step().await {
                Ok(Some(event)) => return event,
                Ok(None) => {}
                Err(error) => {
                    self.fail(&error);
                    return Event::Failed(error);
                }
            }
        }
    }

    /// Goes one step further, which may yield an event.
    async fn step(&mut self) -> Result<Option<Event<K>>, ListError> {
        match &mut self.position {
            Position::Unread => {
                self.pause().await;
                self.silences_at_read = *self.silences.borrow_and_update();
                self.position = match &self.source {
                    Source::List { path, fields } => {
                        let list = ListReader::new(self.client.clone(), path.clone(), fields);
                        Position::Listing(list.into(), Instant::now())
                    }
                    Source::Object { name, .. } => Position::Getting(name.clone()),
                };
                Ok(Some(Event::Begin))
            }
            Position::Listing(list, begin) => {
                let object = list.next().await?;
                self.heartbeat.beat();
                if let Some(object) = object {
                    return Ok(Some(Event::Seen(object.into())));
                }
                let version = Some(list.version()).filter(|version| !version.is_empty());
                let version = version.ok_or(ListError::NoVersion)?.to_owned();
                let took = begin.elapsed();
                Ok(Some(self.complete(version, took)))
            }
            Position::Getting(name) => {
                let object: Option<K> = get_at(&self.client, self.source.path(), name).await?;
                self.heartbeat.beat();
                let Some(object) = object else {
                    return Ok(Some(self.complete(String::new(), Duration::ZERO)));
                };
                self.position = Position::Got(version_of(&object)?);
                Ok(Some(Event::Seen(object.into())))
            }
            Position::Got(version) => {
                let version = std::mem::take(version);
                Ok(Some(self.complete(version, Duration::ZERO)))
            }
            Position::Known(version) => {
                let version = version.clone();
                self.open(version).await?;
                Ok(None)
            }
            Position::Watching(_) => self.next_change().await,
        }
    }

    /// Everything was read.
    fn complete(&mut self, version: String, took: Duration) -> Event<K> {
        self.position = Position::Known(version);
        self.in_doubt = false;
        self.fallback = None;
        self.read_again_at = read_again_at(took);
        Event::Complete
    }

    /// Begins to follow the changes after a version.
    async fn open(&mut self, version: String) -> Result<(), ListError> {
        self.pause().await;
        if self.silences.has_changed().unwrap_or_default() {
            if self.is_single() {
                // The last read may be out of date by now.
                self.position = Position::Unread;
                return Ok(());
            }
            self.silences.mark_unchanged();
        }
        let seconds = fastrand::u32(REQUEST_SECONDS);
        let end = Instant::now() + Duration::from_secs(seconds.into());
        let (request, parameters) = (Request::new(self.source.path()), self.source.parameters(seconds));
        let request = if K::metadata_api() {
            request.watch_metadata(&parameters, &version)
        } else {
            request.watch(&parameters, &version)
        };
        let request = request.map_err(Error::BuildRequest)?;
        let events = EventReader::open(&self.client, request, limit::<K>()).await?;
        self.heartbeat.beat();
        let request = OpenRequest { events, version, heard: false, begin: Instant::now(), end };
        self.position = Position::Watching(request.into());
        Ok(())
    }

    /// Waits for the next change, or for the end of the request.
    async fn next_change(&mut self) -> Result<Option<Event<K>>, ListError> {
        let Position::Watching(request) = &mut self.position else { return Ok(None) };
        let next = tokio::select! {
            // Events that have arrived go first.
            biased;
            next = timeout_at(request.end + SLACK, request.events.next()) => next,
            // It fails only where no monitor is left.
            Ok(()) = self.silences.changed() => return Err(ListError::Silent),
        };
        let Ok(next) = next else {
            warn!(
                watch = self.heartbeat.kind().name(),
                "a connection to the API server has died silently: all watches connect again"
            );
            self.monitor.report_silence();
            return Err(ListError::Silent);
        };
        let event = next?;
        if matches!(&event, None | Some(WatchEvent::Bookmark(_))) {
            self.heartbeat.beat();
        } else {
            self.heartbeat.beat_change();
        }
        let Some(event) = event else {
            let on_time = Instant::now() + TOLERANCE >= request.end;
            let (version, heard) = (std::mem::take(&mut request.version), request.heard);
            if on_time || heard || request.begin.elapsed() >= WORKED {
                self.failures = 0;
            } else {
                self.count_failure();
            }
            self.go_on(&if on_time { End::OnTime } else { End::Early }, heard, version);
            return Ok(None);
        };
        let (version, event) = interpret(event)?;
        (request.version, request.heard) = (version, true);
        self.failures = 0;
        Ok(event)
    }

    /// A request failed.
    fn fail(&mut self, error: &ListError) {
        if error.code().is_some() {
            self.heartbeat.beat_refused();
        }
        self.count_failure();
        match std::mem::replace(&mut self.position, Position::Unread) {
            Position::Known(version) => self.go_on(&End::Failed(error), false, version),
            Position::Watching(request) => self.go_on(&End::Failed(error), request.heard, request.version),
            Position::Unread | Position::Listing(..) | Position::Getting(_) | Position::Got(_) => {
                if let Some((version, in_doubt)) = self.fallback.take() {
                    self.resume(version, in_doubt);
                }
            }
        }
    }

    fn count_failure(&mut self) {
        self.failures += 1;
        self.must_pause = true;
    }

    /// A request has ended.
    fn go_on(&mut self, end: &End<'_>, heard: bool, version: String) {
        let read_due = Instant::now() >= self.read_again_at;
        let known = Knowledge { single: self.is_single(), heard, in_doubt: self.in_doubt };
        self.position = Position::Unread;
        match progress::next(end, known, read_due) {
            Continuation::Read => {}
            Continuation::ReadOrResume { in_doubt } => self.fallback = Some((version, in_doubt)),
            Continuation::Resume { in_doubt } => self.resume(version, in_doubt),
        }
    }

    fn resume(&mut self, version: String, in_doubt: bool) {
        self.in_doubt = in_doubt;
        self.position = Position::Known(version);
    }

    /// Waits before a request, if the last one failed.
    async fn pause(&mut self) {
        if self.must_pause {
            let delay = backoff::delay(self.failures.clamp(1, MAX_FAILURES), fastrand::f64());
            sleep(delay.to_std().unwrap_or_default()).await;
            self.must_pause = false;
        }
    }

    fn is_single(&self) -> bool {
        matches!(self.source, Source::Object { .. })
    }
}

/// Returns the time of the next read, after one that took this time.
fn read_again_at(took: Duration) -> Instant {
    Instant::now() + Duration::from_secs(fastrand::u64(READ_AGAIN_SECONDS)).max(took * READ_SHARE)
}

/// Splits an answer of the API server into the version up to which everything is known then, and
/// the event.
fn interpret<K: Watched>(event: WatchEvent<K>) -> Result<(String, Option<Event<K>>), ListError> {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
            Ok((version_of(&object)?, Some(Event::Seen(object.into()))))
        }
        WatchEvent::Deleted(object) => Ok((version_of(&object)?, Some(Event::Gone(object.into())))),
        WatchEvent::Bookmark(bookmark) => Ok((bookmark.metadata.resource_version, None)),
        WatchEvent::Error(status) => Err(Error::Api(status).into()),
    }
}

fn version_of<K: Resource>(object: &K) -> Result<String, ListError> {
    object.meta().resource_version.clone().filter(|version| !version.is_empty()).ok_or(ListError::NoVersion)
}

/// Explains why pending messages can't be listed or watched, and what to do. The watch goes on by
/// itself, so nobody has to restart anything.
#[must_use]
pub fn explain(error: &ListError) -> String {
    let ListError::Failed(Error::Api(status)) = error else { return error.explain() };
    match status.code {
        404 => format!("the API server does not know FedoraMessages: install the CRD ({INSTALL})"),
        403 => format!(
            "the operator is not allowed to watch FedoraMessages: bind its ServiceAccount to its role; {PERMISSIONS_HINT} ({})",
            status.message
        ),
        400 => format!(
            "the API server can't select pending FedoraMessages: its CRD is older than the operator, install the operator's ({INSTALL}; the API server says: {})",
            status.message
        ),
        401 => error.explain(),
        code => format!("the API server can't be watched yet: {} ({code})", status.message),
    }
}

#[cfg(test)]
mod tests;
