//! What the API server says of requests in its audit log: it counts, and it has the times.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use chrono::{DateTime, Utc};
use rig::{Kube, wait_for};
use serde::Deserialize;

use crate::world::LONG;
use e2e::bench::Result;

/// How the operator calls itself.
const OPERATOR: &str = "fedora-message-operator/";

/// The log, from some time on.
pub struct Audit {
    log: File,
    rest: Vec<u8>,
}

/// A request that was answered.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    pub object_ref: Object,
    #[serde(rename = "requestReceivedTimestamp")]
    pub received: DateTime<Utc>,
    #[serde(rename = "stageTimestamp")]
    pub answered: DateTime<Utc>,
}

/// What a request was about.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Object {
    subresource: String,
    pub namespace: String,
}

impl Audit {
    /// The requests that are answered from now on.
    pub fn from_now(kube: &Kube) -> Result<Self> {
        let mut log = File::open(kube.audit_log())?;
        log.seek(SeekFrom::End(0))?;
        Ok(Self { log, rest: Vec::new() })
    }

    /// Those that were answered since the last look.
    pub fn read(&mut self) -> io::Result<Vec<Request>> {
        self.log.read_to_end(&mut self.rest)?;
        // The last line may be under way.
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let requests = serde_json::Deserializer::from_slice(&self.rest[..end]).into_iter();
        let requests = requests.collect::<serde_json::Result<_>>()?;
        self.rest.drain(..end);
        Ok(requests)
    }

    /// How many statuses were written in a namespace since the last look.
    pub fn writes(&mut self, namespace: &str) -> io::Result<usize> {
        let is = |request: &&Request| request.writes_status() && request.object_ref.namespace == namespace;
        Ok(self.read()?.iter().filter(is).count())
    }

    /// Waits until so many statuses are written in a namespace, and returns all that was asked there meanwhile.
    pub fn wait_for_writes(&mut self, namespace: &str, count: usize) -> Result<Vec<Request>> {
        self.wait_for(namespace, count, Request::writes_status)
    }

    /// Waits until an operator has sent a first message, so watches, and has looked once for what has a time to live.
    pub fn wait_for_steady_state(&mut self, namespace: &str) -> Result<()> {
        self.wait_for(namespace, 2, |request| request.writes_status() || request.looks_for_lifetimes()).map(drop)
    }

    fn wait_for(&mut self, namespace: &str, count: usize, is: impl Fn(&Request) -> bool) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        let requests = wait_for(LONG, &format!("{count} requests in {namespace} are answered"), || {
            requests.extend(self.read()?.into_iter().filter(|request| request.object_ref.namespace == namespace));
            let found = requests.iter().filter(|request| is(request)).count();
            Ok((found >= count).then(|| std::mem::take(&mut requests)))
        })?;
        Ok(requests)
    }
}

impl Request {
    /// Whether the operator asked it.
    pub fn is_operators(&self) -> bool {
        self.user_agent.starts_with(OPERATOR)
    }

    /// Whether the operator lists something.
    pub fn lists(&self) -> bool {
        self.is_operators() && self.verb == "list"
    }

    /// Whether the operator lists what has a time to live.
    fn looks_for_lifetimes(&self) -> bool {
        self.lists() && self.uri.contains("ttlSecondsAfterFinished")
    }

    pub fn writes_status(&self) -> bool {
        ["update", "patch"].contains(&self.verb.as_str()) && self.object_ref.subresource == "status"
    }

    /// How many seconds the API server took.
    pub fn took(&self) -> f64 {
        seconds(self.received, self.answered)
    }
}

/// How many seconds lie between.
pub fn seconds(from: DateTime<Utc>, until: DateTime<Utc>) -> f64 {
    (until - from).as_seconds_f64()
}
