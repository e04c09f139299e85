//! Reads single objects, and lists page by page and object by object. Memory holds one object of a
//! list at a time and what the connection has read ahead, however large and however many the
//! objects are.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::time::Duration;

use fedora_message::bounds::MAX_METADATA_BYTES;
use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, TryFutureExt};
use kube::api::{GetParams, ListParams};
use kube::core::Request;
use kube::{Client, Error, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::client::{self, describe, is_not_found};

/// The number of objects on a page. For each page an API server looks at all objects that are still
/// to come. A long list with short pages costs it many times the price of the objects.
const PAGE: u32 = 500;
/// The API server may be silent for this time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why a list, an object or a watch could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API server refuses the request or is out of reach, or its answer is not what was asked
    /// for. It is printed by [`explain`](Self::explain), which has the advice.
    #[error("{}", describe(.0))]
    Failed(#[from] Error),
    /// The API server does not answer, or its connection has died silently.
    #[error("the API server does not answer")]
    Silent,
    /// The answer has no resource version, from which a watch could begin.
    #[error("the API server's answer has no resource version")]
    NoVersion,
    /// The object's metadata have more than [`MAX_METADATA_BYTES`].
    #[error("its metadata have more than {} KiB: remove labels or annotations", MAX_METADATA_BYTES / 1024)]
    TooLarge,
}

impl ListError {
    /// The HTTP status code with which the API server refused the request.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Failed(Error::Api(status)) => Some(status.code),
            Self::Failed(_) | Self::Silent | Self::NoVersion | Self::TooLarge => None,
        }
    }

    /// Describes the error, and what to check.
    #[must_use]
    pub fn explain(&self) -> String {
        match self {
            Self::Failed(cause) => client::explain(cause),
            Self::Silent | Self::NoVersion | Self::TooLarge => self.to_string(),
        }
    }

    /// Returns true if an object of this name exists already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Failed(Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists")
    }
}

/// Reads one list. Objects that can't be decoded are left out. The list is up to date: API servers
/// serve it from memory where they can, and otherwise page by page from etcd.
pub struct ListReader<K> {
    client: Client,
    path: String,
    parameters: ListParams,
    position: ReadPosition,
    /// Objects that have arrived and were not taken yet.
    objects: VecDeque<K>,
    version: String,
}

/// The position in a list.
enum ReadPosition {
    BeforePage,
    InPage(Pin<Box<dyn AsyncBufRead + Send>>, ItemSplitter),
    End,
}

impl<K: DeserializeOwned> ListReader<K> {
    /// Creates a reader of the list at `path`, of all objects that the field selector matches.
    #[must_use]
    pub fn new(client: Client, path: String, fields: &str) -> Self {
        Self {
            client,
            path,
            parameters: ListParams::default().fields(fields).limit(PAGE),
            position: ReadPosition::BeforePage,
            objects: VecDeque::new(),
            version: String::new(),
        }
    }

    /// Returns a reader of the objects that the label selector matches too.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.parameters = self.parameters.labels(selector);
        self
    }

    /// Returns the next object, or nothing at the end.
    pub async fn next(&mut self) -> Result<Option<K>, ListError> {
        loop {
            if let Some(object) = self.objects.pop_front() {
                return Ok(Some(object));
            }
            match &mut self.position {
                ReadPosition::BeforePage => {
                    let request = Request::new(&self.path).list(&self.parameters).map_err(Error::BuildRequest)?;
                    let page = answer(self.client.request_stream(request)).await?;
                    self.position = ReadPosition::InPage(Box::pin(page), ItemSplitter::default());
                }
                ReadPosition::InPage(page, splitter) => {
                    let chunk = answer(page.fill_buf().map_err(Error::ReadEvents)).await?;
                    if chunk.is_empty() {
                        let List { metadata } = serde_json::from_slice(splitter.rest()).map_err(Error::SerdeError)?;
                        self.version = metadata.resource_version;
                        self.parameters.continue_token = metadata.next.filter(|token| !token.is_empty());
                        let more = self.parameters.continue_token.is_some();
                        self.position = if more { ReadPosition::BeforePage } else { ReadPosition::End };
                        continue;
                    }
                    splitter.feed(chunk, |json| self.objects.extend(serde_json::from_slice(json)));
                    let length = chunk.len();
                    page.consume_unpin(length);
                }
                ReadPosition::End => return Ok(None),
            }
        }
    }

    /// Returns the list's resource version, once the whole list was read. A watch from this version
    /// reports what has changed since.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Returns the paths of the lists of these objects: one for each namespace, or one for all
/// namespaces if none is given.
pub(crate) fn paths<K: Resource<DynamicType = ()>>(namespaces: &[String]) -> Vec<String> {
    match namespaces {
        [] => vec![K::url_path(&(), None)],
        some => some.iter().map(|namespace| K::url_path(&(), Some(namespace))).collect(),
    }
}

/// Returns the object of this name, or nothing if there is none.
pub async fn get<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, ListError>
where
    K: DeserializeOwned + Resource<DynamicType = ()>,
{
    get_at(client, &K::url_path(&(), Some(namespace)), name).await
}

/// Returns the object of this name in the list at `path`, or nothing if there is none.
///
/// Reads only the metadata if `K` has no more.
pub(super) async fn get_at<K>(client: &Client, path: &str, name: &str) -> Result<Option<K>, ListError>
where
    K: DeserializeOwned + Resource<DynamicType = ()>,
{
    let (request, parameters) = (Request::new(path), GetParams::default());
    let request =
        if K::metadata_api() { request.get_metadata(name, &parameters) } else { request.get(name, &parameters) };
    let request = request.map_err(Error::BuildRequest)?;
    let read = async {
        let (body, limit) = (client.request_stream(request).await?, limit::<K>());
        let mut json = Vec::new();
        let mut body = pin!(body.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)));
        body.read_to_end(&mut json).await.map_err(Error::ReadEvents)?;
        if json.len() > limit { Err(ListError::TooLarge) } else { Ok(json) }
    };
    match timeout(TIMEOUT, read).await.unwrap_or(Err(ListError::Silent)) {
        Ok(json) => Ok(Some(serde_json::from_slice(&json).map_err(Error::SerdeError)?)),
        Err(ListError::Failed(Error::Api(status))) if is_not_found(&status) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the maximum size in bytes of an object that is read. The API server bounds all but the labels.
pub(super) fn limit<K: Resource<DynamicType = ()>>() -> usize {
    if K::metadata_api() { MAX_METADATA_BYTES } else { usize::MAX }
}

/// Returns the API server's answer to one request. An answer that does not come in time is an
/// error.
pub(crate) async fn answer<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, ListError> {
    answer_within(TIMEOUT, request).await
}

/// Returns the API server's answer to one request. A later one is an error.
pub(super) async fn answer_within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, ListError> {
    Ok(timeout(limit, request).await.map_err(|_| ListError::Silent)??)
}

/// A list without its items.
#[derive(Deserialize)]
struct List {
    metadata: ListMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Cuts the JSON of a list into its items, in whatever chunks it arrives. It decodes nothing, so no
/// depth of nesting matters.
#[derive(Debug, Default)]
pub struct ItemSplitter {
    /// The number of open objects and arrays.
    depth: usize,
    /// True if the one at depth 2 is an array: the array of the items.
    in_list: bool,
    in_text: bool,
    escaped: bool,
    /// The item that has begun.
    item: Vec<u8>,
    /// Everything except the items, with a 0 in place of each.
    rest: Vec<u8>,
}

impl ItemSplitter {
    /// Takes the next chunk, and calls `each` with the items that end in it.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) {
        for &byte in chunk {
            let before = self.depth;
            self.track(byte);
            if !self.in_list || before.max(self.depth) < 3 {
                self.rest.push(byte);
                continue;
            }
            self.item.push(byte);
            if self.depth < 3 {
                each(&self.item);
                self.item.clear();
                self.rest.push(b'0');
            }
        }
    }

    /// Returns the list without its items, once the whole list has arrived.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    fn track(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_text => self.escaped = true,
            b'"' => self.in_text = !self.in_text,
            _ if self.in_text => {}
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth == 2 {
                    self.in_list = byte == b'[';
                }
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
