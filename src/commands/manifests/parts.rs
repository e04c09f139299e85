//! Takes files of manifests apart, and has the parts read on all cores.

use std::io;
use std::num::NonZero;
use std::thread::{self, ScopedJoinHandle, available_parallelism};

use memchr::memmem;
use serde_json::value::RawValue;

use super::{in_document, invalid, not_too_deep};

/// What stands between two documents.
const MARK: &str = "---";
/// The YAML decoder works by recursion, with much stack for each level.
const STACK: usize = 64 * 1024 * 1024;
/// How many threads read at a time, at most.
const MOST_THREADS: usize = 8;
/// From how many parts on another thread is worth its start.
pub(crate) const FEWEST_PARTS: usize = 100;

/// A part of a file that is read by itself: a document in YAML, or one of the objects of one in JSON.
pub(crate) struct Part<'a> {
    /// The document's number, from 1.
    pub(crate) document: usize,
    pub(crate) text: Text<'a>,
}

pub(crate) enum Text<'a> {
    Yaml(&'a str),
    Json(&'a str),
}

/// Takes a file apart. A document in JSON may have several objects after one another.
pub(crate) fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    for (document, text) in (1..).zip(documents(text)) {
        if text.trim_start().starts_with('{') {
            for object in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
                let object = object.map_err(|error| {
                    let detail = not_too_deep(text).err().unwrap_or_else(|| invalid(&error));
                    in_document(document, &detail)
                })?;
                parts.push(Part { document, text: Text::Json(object.get()) });
            }
        } else {
            parts.push(Part { document, text: Text::Yaml(text) });
        }
    }
    Ok(parts)
}

/// The documents of a YAML stream. A line that begins with the word `---` ends one wherever it stands:
/// YAML forbids it within a document. `-----BEGIN` is another word.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let is_mark = |start: usize| {
        (start == 0 || text[..start].ends_with('\n'))
            && !text[start + MARK.len()..].starts_with(|c: char| !c.is_whitespace())
    };
    let marks = memmem::find_iter(text.as_bytes(), MARK).filter(|start| is_mark(*start));
    let mut begin = 0;
    let mut parts = Vec::new();
    for start in marks {
        parts.push(&text[begin..start]);
        begin = start + MARK.len();
    }
    parts.push(&text[begin..]);
    parts.into_iter().filter(|part| !part.trim().is_empty())
}

/// Does `work` with all parts, some each on all cores, on stacks that are large enough for the deepest document. An
/// error is that of the operating system, or a decoder's that gave up.
pub(crate) fn on_large_stacks<T: Send>(
    parts: &[Part<'_>],
    work: impl Fn(&[Part<'_>]) -> T + Sync,
) -> Vec<Result<T, String>> {
    let threads = available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    thread::scope(|scope| {
        let work = &work;
        let start = |parts| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || work(parts));
        let end = |started: io::Result<ScopedJoinHandle<'_, T>>| {
            let thread = started.map_err(|error| error.to_string())?;
            thread.join().map_err(|_| "write it more simply, or as JSON".to_owned())
        };
        let share = parts.len().div_ceil(threads).max(FEWEST_PARTS);
        let started: Vec<_> = parts.chunks(share).map(start).collect();
        started.into_iter().map(end).collect()
    })
}
