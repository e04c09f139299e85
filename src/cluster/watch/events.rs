//! Reads the events of one watch request: a line of JSON each.
//!
//! kube's `Client::request_events` bounds no line, and keeps the memory of the longest one
//! (docs/decisions/0059).

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;

use futures::{AsyncBufRead, AsyncBufReadExt};
use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use kube::core::{Status, WatchEvent};
use kube::{Client, Error};
use memchr::memchr;
use serde::de::DeserializeOwned;

use super::super::list::{ListError, answer};

/// The memory of a longer line is given back.
const KEPT: usize = 64 * 1024;

/// The events of a watch request that the API server has accepted.
pub(super) struct EventReader {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    /// The part of the line that has arrived, or the whole line that was read last.
    line: Vec<u8>,
    /// The maximum length of a line.
    limit: usize,
}

impl EventReader {
    /// Makes the request. An event of more bytes than the limit is an error.
    pub(super) async fn open(
        client: &Client,
        mut request: http::Request<Vec<u8>>,
        limit: usize,
    ) -> Result<Self, ListError> {
        // Kubernetes 1.37 compresses each event by itself, which kube's decoder does not understand.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let body = answer(client.request_stream(request)).await?;
        Ok(Self { body: Box::pin(body), line: Vec::new(), limit })
    }

    /// Returns the next event, or nothing at the end. No event is lost if the caller drops the future.
    pub(super) async fn next<K: DeserializeOwned>(&mut self) -> Result<Option<WatchEvent<K>>, ListError> {
        while self.read_line().await? {
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            return serde_json::from_slice(&self.line).map(Some).map_err(|error| {
                match serde_json::from_slice::<Status>(&self.line) {
                    Ok(status) => Error::Api(status.boxed()).into(),
                    Err(_) => Error::SerdeError(error).into(),
                }
            });
        }
        Ok(None)
    }

    /// Reads up to the end of the next line. Returns false at the end of the request. A line that the
    /// end cuts off is no event: the next request brings it.
    async fn read_line(&mut self) -> Result<bool, ListError> {
        if self.line.ends_with(b"\n") {
            self.line.clear();
            self.line.shrink_to(KEPT);
        }
        loop {
            let chunk = match self.body.fill_buf().await {
                Ok(chunk) => chunk,
                Err(error) if is_cut_off(&error) => return Ok(false),
                Err(error) => return Err(Error::ReadEvents(error).into()),
            };
            if chunk.is_empty() {
                return Ok(false);
            }
            let end = memchr(b'\n', chunk).map(|at| at + 1);
            let length = end.unwrap_or(chunk.len());
            if self.line.len() + length > self.limit {
                return Err(ListError::TooLarge);
            }
            self.line.extend_from_slice(&chunk[..length]);
            self.body.consume_unpin(length);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

/// Returns true if the API server has closed the connection within its answer, which is how it ends
/// some requests.
fn is_cut_off(error: &io::Error) -> bool {
    if error.to_string().contains("unexpected EOF during chunk") {
        return true;
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Delivers these chunks.
    fn reader(chunks: &[&str], limit: usize) -> EventReader {
        let chunks: Vec<_> = chunks.iter().map(|chunk| io::Result::Ok(chunk.as_bytes().to_vec())).collect();
        let body = futures::TryStreamExt::into_async_read(futures::stream::iter(chunks));
        EventReader { body: Box::pin(body), line: Vec::new(), limit }
    }

    async fn next(reader: &mut EventReader) -> Result<Option<Value>, ListError> {
        Ok(reader.next::<Value>().await?.map(|event| match event {
            WatchEvent::Added(object) => object,
            _ => panic!("another event"),
        }))
    }

    #[tokio::test]
    async fn reads_lines_in_any_chunks() {
        let line = |object: &str| format!(r#"{{"type": "ADDED", "object": "{object}"}}"#) + "\n";
        let (first, second) = (line("a"), line("b"));
        let both = first.clone() + &second;
        for at in 0..both.len() {
            let mut reader = reader(&[&both[..at], &both[at..], "\n", &first[..5]], usize::MAX);
            for object in ["a", "b"] {
                assert_eq!(next(&mut reader).await.expect("an event"), Some(json!(object)));
            }
            assert_eq!(next(&mut reader).await.expect("the end"), None, "a line that was cut off is no event");
        }
    }

    /// Otherwise it would be read without end, or be lost.
    #[tokio::test]
    async fn incomplete_line_is_no_event() {
        let whole = r#"{"type": "ADDED", "object": "a"}"#;
        let mut cut_off = reader(&[whole], usize::MAX);
        for _ in 0..2 {
            assert_eq!(next(&mut cut_off).await.expect("the end"), None);
        }
        let mut broken = reader(&[&whole[..10], "\n", whole, "\n"], usize::MAX);
        assert!(next(&mut broken).await.is_err());
    }

    #[tokio::test]
    async fn long_lines_take_no_memory_afterwards() {
        let long = format!(r#"{{"type": "ADDED", "object": "{}"}}"#, "x".repeat(1_400_000)) + "\n";
        let mut unbounded = reader(&[&long, "{"], usize::MAX);
        assert!(next(&mut unbounded).await.expect("an event").is_some());
        assert!(next(&mut unbounded).await.expect("the end").is_none());
        assert!(unbounded.line.capacity() <= KEPT, "{}", unbounded.line.capacity());
        let mut bounded = reader(&[&long[..1000], &long[1000..]], 2000);
        assert!(matches!(next(&mut bounded).await, Err(ListError::TooLarge)));
        assert!(bounded.line.capacity() <= 2000, "{}", bounded.line.capacity());
    }

    #[tokio::test]
    async fn tells_a_refusal_from_an_event() {
        let mut refused = reader(&[r#"{"kind": "Status", "code": 410, "reason": "Expired"}"#, "\n"], usize::MAX);
        assert_eq!(next(&mut refused).await.expect_err("a refusal").code(), Some(410));
    }
}
