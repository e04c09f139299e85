//! Reads lists page by page, and each page object by object: no more than one object is in memory at a time,
//! however large they are and however many.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// How many objects a page has.
const PAGE: u32 = 500;
/// How long the API server may be silent.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// How many pages: requests.
    pub pages: usize,
    /// How many objects.
    pub objects: usize,
}

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The API server refuses it.
    #[error("the API server says: {words} ({code})")]
    Refused {
        /// The HTTP status code.
        code: u16,
        /// What it says.
        words: String,
    },
    /// It can't be asked, or its answer is not a list.
    #[error("the API server can't be asked: {0}")]
    Failed(String),
    /// It does not answer.
    #[error("the API server does not answer")]
    Silent,
}

/// Gives each object of the list at `path` that the field selector matches to `each`. What can't be decoded is left
/// out. Reads what is up to date: API servers serve that from memory where they can, and else a page at a time.
pub async fn read<K: DeserializeOwned>(
    client: &Client,
    path: &str,
    fields: &str,
    mut each: impl FnMut(K),
) -> Result<Read, Unread> {
    let mut read = Read::default();
    let mut parameters = ListParams::default().fields(fields).limit(PAGE);
    loop {
        let request = kube::core::Request::new(path).list(&parameters).map_err(failed)?;
        let next = page(client, request.map(Body::from), |json| {
            read.objects += 1;
            if let Ok(object) = serde_json::from_slice(json) {
                each(object);
            }
        })
        .await?;
        read.pages += 1;
        match next {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(read),
        }
    }
}

/// The object of this name, if there is one. It is listed: whoever reads pages needs no other right.
pub async fn find<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, Unread>
where
    K: DeserializeOwned + Resource<DynamicType = ()>,
{
    let (path, mut found) = (K::url_path(&(), Some(namespace)), None);
    read(client, &path, &format!("metadata.name={name}"), |object| found = Some(object)).await?;
    Ok(found)
}

/// Reads one page; the token of the next, if there is one.
async fn page(client: &Client, request: Request<Body>, mut each: impl FnMut(&[u8])) -> Result<Option<String>, Unread> {
    let response = timeout(TIMEOUT, client.send(request)).await.map_err(|_| Unread::Silent)?.map_err(failed)?;
    let code = response.status();
    let mut body = response.into_body();
    if !code.is_success() {
        let text = timeout(TIMEOUT, body.collect()).await.map_err(|_| Unread::Silent)?.map_err(failed)?.to_bytes();
        let refusal: Refusal = serde_json::from_slice(&text).unwrap_or_default();
        return Err(Unread::Refused { code: code.as_u16(), words: refusal.message });
    }
    let mut splitter = Splitter::default();
    while let Some(frame) = timeout(TIMEOUT, body.frame()).await.map_err(|_| Unread::Silent)? {
        if let Some(bytes) = frame.map_err(failed)?.data_ref() {
            splitter.feed(bytes, &mut each);
        }
    }
    let list: List = serde_json::from_slice(splitter.rest()).map_err(failed)?;
    Ok(list.metadata.next.filter(|token| !token.is_empty()))
}

fn failed(error: impl std::fmt::Display) -> Unread {
    Unread::Failed(error.to_string())
}

/// What a list is beside its items.
#[derive(Deserialize)]
struct List {
    metadata: ListMetadata,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
}

/// Cuts the JSON of a list into its items, in whatever pieces it comes. Nothing is decoded, so that no depth of
/// nesting matters.
#[derive(Debug, Default)]
pub struct Splitter {
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

impl Splitter {
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
