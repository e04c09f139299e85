//! Reads the JSON objects at the beginning of a file, each as the text that stands there.

use anyhow::anyhow;
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::{describe, not_too_deep};

/// The mark between two documents.
const MARK: &str = "---";

/// Iterates over JSON objects that follow one another, with or without `---` between them.
pub(crate) struct JsonObjects<'a> {
    text: &'a str,
    /// The index of the byte after the last object.
    position: usize,
    /// The current document's number, from 1.
    document: usize,
    /// True if the current document has an object.
    begun: bool,
    /// Why the document that comes next is no JSON, although it begins like an object.
    error: Option<anyhow::Error>,
}

/// The text after the last JSON object.
pub(crate) struct Rest<'a> {
    pub(crate) text: &'a str,
    /// The index of its first byte.
    pub(crate) start: usize,
    /// The number of its first document.
    pub(crate) document: usize,
    /// Why that document is no JSON, if it looks like JSON.
    pub(crate) json_error: Option<anyhow::Error>,
}

impl<'a> JsonObjects<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, position: 0, document: 1, begun: false, error: None }
    }

    /// Returns the text that is left.
    pub(crate) fn rest(self) -> Rest<'a> {
        let text = &self.text[self.position..];
        let inside = text.strip_prefix('{').unwrap_or_default().trim_start();
        let looks_like_json = inside.is_empty() || inside.starts_with('"');
        let json_error = self.error.filter(|_| looks_like_json);
        Rest { text, start: self.position, document: self.document, json_error }
    }

    /// Skips white space and `---`, and returns the text from there on.
    fn skip(&mut self) -> &'a str {
        loop {
            let rest = self.text[self.position..].trim_start();
            self.position = self.text.len() - rest.len();
            match rest.strip_prefix(MARK) {
                Some(after) if after.is_empty() || after.starts_with(char::is_whitespace) => {
                    self.position += MARK.len();
                    self.document += usize::from(self.begun);
                    self.begun = false;
                }
                _ => return rest,
            }
        }
    }

    fn invalid(&self, start: usize, error: &serde_json::Error) -> anyhow::Error {
        if let Err(error) = not_too_deep(&self.text[start..]) {
            return error;
        }
        // The decoder counts from the object's beginning.
        let before = &self.text[..start];
        let (line, mut column) = (before.matches('\n').count() + error.line(), error.column());
        if error.line() == 1 {
            column += before.len() - before.rfind('\n').map_or(0, |end| end + 1);
        }
        anyhow!("is not valid JSON: {} at line {line} column {column}: correct it", describe(error))
    }
}

impl<'a> Iterator for JsonObjects<'a> {
    /// The document, and the object's text.
    type Item = (usize, anyhow::Result<&'a str>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.skip();
        // After an object in the same document, only another object can follow.
        if rest.is_empty() || !self.begun && !rest.starts_with('{') {
            return None;
        }
        let start = self.position;
        let mut objects = Deserializer::from_str(rest).into_iter::<&RawValue>();
        match objects.next()? {
            Ok(object) => {
                self.begun = true;
                self.position = start + objects.byte_offset();
                Some((self.document, Ok(object.get())))
            }
            Err(error) if self.begun => Some((self.document, Err(self.invalid(start, &error)))),
            Err(error) => {
                // It may be YAML in flow style.
                self.error = Some(self.invalid(start, &error));
                None
            }
        }
    }
}
