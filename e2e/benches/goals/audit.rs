//! Reads requests and their times from the API server's audit log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use chrono::{DateTime, Utc};
use rig::{Kube, wait_for};
use serde::Deserialize;

use e2e::bench::{Result, TIMEOUT};

/// The start of the operator's user agent.
const OPERATOR: &str = "fedora-message-operator/";

/// The audit log from some position on.
pub struct AuditLog {
    log: File,
    rest: Vec<u8>,
}

/// A finished request.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditedRequest {
    pub verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    pub object_ref: ObjectReference,
    #[serde(rename = "requestReceivedTimestamp")]
    pub received: DateTime<Utc>,
    #[serde(rename = "stageTimestamp")]
    pub answered: DateTime<Utc>,
}

/// The object of a request.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct ObjectReference {
    resource: String,
    subresource: String,
    pub namespace: String,
}

impl AuditLog {
    /// Opens the log at its end.
    pub fn from_now(kube: &Kube) -> Result<Self> {
        let mut log = File::open(kube.audit_log())?;
        log.seek(SeekFrom::End(0))?;
        Ok(Self { log, rest: Vec::new() })
    }

    /// Returns the requests that finished since the last call.
    pub fn read(&mut self) -> io::Result<Vec<AuditedRequest>> {
        self.log.read_to_end(&mut self.rest)?;
        // The last line may be incomplete.
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let requests = serde_json::Deserializer::from_slice(&self.rest[..end]).into_iter();
        let requests = requests.collect::<serde_json::Result<_>>()?;
        self.rest.drain(..end);
        Ok(requests)
    }

    /// Returns the number of status writes in a namespace since the last call.
    pub fn writes(&mut self, namespace: &str) -> io::Result<usize> {
        let is = |request: &&AuditedRequest| request.writes_status() && request.object_ref.namespace == namespace;
        Ok(self.read()?.iter().filter(is).count())
    }

    /// Waits for `count` status writes in a namespace. Returns all requests there in the meantime.
    pub fn wait_for_writes(&mut self, namespace: &str, count: usize) -> Result<Vec<AuditedRequest>> {
        self.wait_for(namespace, count, AuditedRequest::writes_status)
    }

    /// Waits until an operator has sent its first message, and has listed messages with a TTL once.
    pub fn wait_for_steady_state(&mut self, namespace: &str) -> Result<()> {
        self.wait_for(namespace, 2, |request| request.writes_status() || request.lists_ttl()).map(drop)
    }

    fn wait_for(
        &mut self,
        namespace: &str,
        count: usize,
        is: impl Fn(&AuditedRequest) -> bool,
    ) -> Result<Vec<AuditedRequest>> {
        let mut requests = Vec::new();
        let requests = wait_for(TIMEOUT, &format!("{count} requests in {namespace} are answered"), || {
            requests.extend(self.read()?.into_iter().filter(|request| request.object_ref.namespace == namespace));
            let found = requests.iter().filter(|request| is(request)).count();
            Ok((found >= count).then(|| std::mem::take(&mut requests)))
        })?;
        Ok(requests)
    }
}

impl AuditedRequest {
    /// Returns true if the operator sent it.
    pub fn is_operators(&self) -> bool {
        self.user_agent.starts_with(OPERATOR)
    }

    /// Returns true if it is for objects of this resource.
    pub fn is_of(&self, resource: &str) -> bool {
        self.object_ref.resource == resource
    }

    /// Returns true if it is a list of the operator.
    pub fn lists(&self) -> bool {
        self.is_operators() && self.verb == "list"
    }

    /// Returns true if it is the operator's list of resources with a TTL.
    fn lists_ttl(&self) -> bool {
        self.lists() && self.uri.contains("ttlSecondsAfterFinished")
    }

    pub fn writes_status(&self) -> bool {
        ["update", "patch"].contains(&self.verb.as_str()) && self.object_ref.subresource == "status"
    }

    /// Returns the API server's time for it in seconds.
    pub fn took(&self) -> f64 {
        seconds(self.received, self.answered)
    }
}

/// Returns the seconds between two times.
pub fn seconds(from: DateTime<Utc>, until: DateTime<Utc>) -> f64 {
    (until - from).as_seconds_f64()
}
