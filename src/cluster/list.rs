//! Reads lists page by page, and each page object by object: no more is in memory at a time than one object and what
//! the connection has read ahead, however large they are and however many.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Error, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::client::describe;

/// How many objects a page has. For each page an API server looks at all objects that are still to come: with few on
/// a page a long list costs it many times what the objects do.
const PAGE: u32 = 500;
/// How long the API server may be silent.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListCounts {
    /// How many pages: requests.
    pub pages: usize,
    /// How many objects.
    pub objects: usize,
}

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API server refuses it, or can't be asked, or its answer is not a list.
    #[error("{}", describe(.0))]
    Failed(#[from] Error),
    /// It does not answer.
    #[error("the API server does not answer")]
    Silent,
}

/// A list that is read. What can't be decoded is left out. It tells what is up to date: API servers serve that from
/// memory where they can, and else a page at a time.
pub struct ListReader<K> {
    client: Client,
    path: String,
    parameters: ListParams,
    position: Position,
    /// What has come, and was not taken yet.
    objects: VecDeque<K>,
    read: ListCounts,
    version: String,
}

/// How far a list is read.
enum Position {
    BeforePage,
    InPage(Pin<Box<dyn AsyncBufRead + Send>>, ItemSplitter),
    End,
}

impl<K: DeserializeOwned> ListReader<K> {
    /// The list at `path` of all objects that the field selector matches.
    #[must_use]
    pub fn new(client: Client, path: String, fields: &str) -> Self {
        Self {
            client,
            path,
            parameters: ListParams::default().fields(fields).limit(PAGE),
            position: Position::BeforePage,
            objects: VecDeque::new(),
            read: ListCounts::default(),
            version: String::new(),
        }
    }

    /// The next object, if there is one.
    pub async fn next(&mut self) -> Result<Option<K>, ListError> {
        loop {
            if let Some(object) = self.objects.pop_front() {
                return Ok(Some(object));
            }
            match &mut self.position {
                Position::BeforePage => {
                    let request = Request::new(&self.path).list(&self.parameters).map_err(Error::BuildRequest)?;
                    let page = patient(self.client.request_stream(request)).await??;
                    self.position = Position::InPage(Box::pin(page), ItemSplitter::default());
                }
                Position::InPage(page, splitter) => {
                    let piece = patient(page.fill_buf()).await?.map_err(Error::ReadEvents)?;
                    if piece.is_empty() {
                        let List { metadata } = serde_json::from_slice(splitter.rest()).map_err(Error::SerdeError)?;
                        self.read.pages += 1;
                        self.version = metadata.resource_version;
                        self.parameters.continue_token = metadata.next.filter(|token| !token.is_empty());
                        let more = self.parameters.continue_token.is_some();
                        self.position = if more { Position::BeforePage } else { Position::End };
                        continue;
                    }
                    splitter.feed(piece, |json| {
                        self.read.objects += 1;
                        self.objects.extend(serde_json::from_slice(json));
                    });
                    let length = piece.len();
                    page.consume_unpin(length);
                }
                Position::End => return Ok(None),
            }
        }
    }

    /// How much of it was read.
    #[must_use]
    pub fn read(&self) -> ListCounts {
        self.read
    }

    /// The version of what it told, once all of it was read: a watch tells what has changed since.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// The path of the list of these objects in each of the given namespaces, or of the one in all if there are none.
pub(crate) fn paths<K: Resource<DynamicType = ()>>(namespaces: &[String]) -> Vec<String> {
    match namespaces {
        [] => vec![K::url_path(&(), None)],
        some => some.iter().map(|namespace| K::url_path(&(), Some(namespace))).collect(),
    }
}

/// The object of this name, if there is one. It is listed: whoever reads pages needs no other right.
pub async fn find<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, ListError>
where
    K: DeserializeOwned + Resource<DynamicType = ()>,
{
    let path = K::url_path(&(), Some(namespace));
    let mut listing = ListReader::new(client.clone(), path, &format!("metadata.name={name}"));
    let mut found = None;
    while let Some(object) = listing.next().await? {
        found = Some(object);
    }
    Ok(found)
}

/// What comes of it, unless the API server is silent for too long.
pub(crate) async fn patient<T>(answer: impl Future<Output = T>) -> Result<T, ListError> {
    timeout(TIMEOUT, answer).await.map_err(|_| ListError::Silent)
}

/// What a list is beside its items.
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

/// Cuts the JSON of a list into its items, in whatever pieces it comes. Nothing is decoded, so that no depth of
/// nesting matters.
#[derive(Debug, Default)]
pub struct ItemSplitter {
    /// How many objects and lists are open.
    depth: usize,
    /// Whether the one at depth 2 is a list: that of the items.
    in_list: bool,
    in_text: bool,
    escaped: bool,
    /// The item that has begun.
    item: Vec<u8>,
    /// All but the items, with a 0 in place of each.
    rest: Vec<u8>,
}

impl ItemSplitter {
    /// Takes the next piece, and gives `each` the items that end in it.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) {
        for &byte in piece {
            let before = self.depth;
            self.follow(byte);
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

    /// The list without its items, once all has come.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    fn follow(&mut self, byte: u8) {
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
