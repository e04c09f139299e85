//! Reads YAML as kubectl does: YAML 1.1, and documents that end at lines with `---`.
//!
//! Does not trust it: the size of its values is bounded, and no error quotes key material. Values
//! that kubectl would change silently are an error.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, anyhow, bail, ensure};
use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StructureStyle, Tag, options};
use serde_json::{Map, Value};

use super::scalar::{Scalar, stored};
use super::{MAX_DEPTH, in_document};
use fedora_message::text::{MAX_DETAIL, MAX_QUOTE, printable};

/// The mark between two documents.
const MARK: &str = "---";
/// The key that copies the keys of other objects.
const MERGE: &str = "<<";
/// The error text for a document beyond the bounds.
const TOO_LARGE: &str = "it is nested too deep, or too large: write it more simply";

/// The maximum number of values in a YAML document.
const MAX_NODES: usize = 2_000_000;
/// The maximum number of values that the anchors and aliases of a document copy.
const MAX_COPIES: usize = 20_000;
/// The maximum length of all copied strings, as a multiple of the file's length.
const MAX_EXPANSION: usize = 16;

/// Calls `handle` with each document that is not empty, and stops at the first error, which names the document. It is
/// a [`YamlError`], or one of `handle`. The text came from `place`, and has `lines_before` lines before it there. Its
/// first document has the number `first`.
pub(super) fn read_documents(
    text: &str,
    place: &str,
    lines_before: usize,
    first: usize,
    mut handle: impl FnMut(Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut number = first;
    let mut copyable_bytes = MAX_EXPANSION * text.len();
    let mut read = |document: &str, line: usize| {
        if document.trim().is_empty() {
            return Ok(());
        }
        let handled = read_document(document, text, &mut copyable_bytes)
            .map_err(|error| YamlError { line: error.line + line, ..error }.into())
            .and_then(|value| if value.is_null() { Ok(()) } else { handle(value) })
            .with_context(|| in_document(place, number));
        number += 1;
        handled
    };
    let (mut start, mut start_line, mut position) = (0, lines_before, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if let Some(after) = line.strip_prefix(MARK) {
            let line_number = lines_before + index + 1;
            if !matches!(after.trim_start().chars().next(), None | Some('#')) {
                let source = anyhow!(
                    "a line that begins with --- ends the document: indent it, or write what follows on the next line"
                );
                let error = YamlError { line: line_number, column: 1, source };
                return Err(error).context(in_document(place, number));
            }
            read(&text[start..position], start_line)?;
            (start, start_line) = (position + line.len(), line_number);
        }
        position += line.len();
    }
    read(&text[start..], start_line)
}

/// A mistake in a document, and its place.
#[derive(Debug, thiserror::Error)]
#[error("is not valid YAML: line {line}, column {column}")]
pub(super) struct YamlError {
    line: usize,
    column: usize,
    source: anyhow::Error,
}

impl YamlError {
    fn at(marker: Marker, source: anyhow::Error) -> Self {
        Self { line: marker.line(), column: marker.col() + 1, source }
    }
}

fn read_document(text: &str, file: &str, copyable_bytes: &mut usize) -> Result<Value, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_strange_characters(text)?;
    let aliases = events(text).map_while(Result::ok).filter_map(|(event, _)| event.alias_id()).collect();
    let mut reader =
        Reader { aliases, copyable_bytes, open: Vec::new(), anchors: HashMap::new(), nodes: 0, copies: 0, root: None };
    for event in events(text) {
        let (event, span) = event.map_err(|error| describe(&error, file))?;
        reader.add(event, span.start)?;
    }
    Ok(reader.root.unwrap_or_default())
}

fn events(text: &str) -> impl Iterator<Item = Result<(Event<'_>, granit_parser::Span), ScanError>> {
    Parser::new_from_str_with_options(text, options! { disallow_directives: true })
}

/// Refuses characters that kubectl refuses, or takes for the end of a line.
fn refuse_strange_characters(text: &str) -> Result<(), YamlError> {
    let is_strange = |c: char| {
        c.is_control() && !matches!(c, '\t' | '\n' | '\r')
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
    };
    let Some((position, c)) = text.char_indices().find(|(_, c)| is_strange(*c)) else { return Ok(()) };
    let before = &text[..position];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    Err(YamlError {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        source: anyhow!(
            "the character U+{:04X} stands there: write \\u{:04x} in double quotes",
            u32::from(c),
            u32::from(c)
        ),
    })
}

/// Builds the value of a document from its events.
struct Reader<'a> {
    /// The anchors that have an alias.
    aliases: HashSet<usize>,
    /// The values of these anchors.
    anchors: HashMap<usize, Value>,
    /// The collections that are open, from the outside.
    open: Vec<Collection>,
    /// The number of values so far.
    nodes: usize,
    /// The number of values that were copied.
    copies: usize,
    /// The length of the strings that may be copied yet.
    copyable_bytes: &'a mut usize,
    root: Option<Value>,
}

/// A list or an object that is not complete.
struct Collection {
    anchor: usize,
    style: StructureStyle,
    content: Content,
}

enum Content {
    List(Vec<Value>),
    Object(Object),
}

#[derive(Default)]
struct Object {
    fields: Map<String, Value>,
    /// The keys of other objects, which a field may replace.
    merged: HashSet<String>,
    /// The key whose value comes next.
    key: Option<Key>,
}

enum Key {
    Text(String),
    Merge,
}

/// A value, and its key if it is used as one.
struct Node {
    value: Value,
    key: Result<Key, KeyError>,
}

/// Why a value can't be a key. Each list and object has one, so it costs nothing until it is printed.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("a key is a list or an object: write a text")]
    Collection,
    #[error("a key is an alias of no text: write the key out")]
    Alias,
    #[error("a key is null: put it in quotes")]
    Null,
    #[error("the key {0} is a number, but no 64-bit integer: put it in quotes")]
    Float(String),
}

impl Reader<'_> {
    fn add(&mut self, event: Event<'_>, at: Marker) -> Result<(), YamlError> {
        let result = match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref()),
            Event::SequenceStart(style, anchor, tag) => {
                self.begin(Collection { anchor, style, content: Content::List(Vec::new()) }, tag.as_deref())
            }
            Event::MappingStart(style, anchor, tag) => {
                self.begin(Collection { anchor, style, content: Content::Object(Object::default()) }, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.copy_anchor(anchor),
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(anyhow!("after ... comes more, which kubectl ignores: write --- before it"))
            }
            _ => Ok(()),
        };
        result.map_err(|error| YamlError::at(at, error))
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, tag: Option<&Tag>) -> anyhow::Result<()> {
        // In YAML 1.1, these signs have a meaning there without a space after them.
        let in_flow = self.open.last().is_some_and(|collection| collection.style == StructureStyle::Flow);
        if in_flow && style == ScalarStyle::Plain && (text.starts_with(':') || text.contains('?')) {
            bail!("a text within {{}} or [] begins with a colon, or has a question mark: put it in quotes");
        }
        let node = scalar(text, style, tag)?;
        self.complete(node, anchor)
    }

    fn begin(&mut self, collection: Collection, tag: Option<&Tag>) -> anyhow::Result<()> {
        if let Some(tag) = tag {
            return Err(unknown_tag(tag));
        }
        self.check_depth(1)?;
        self.open.push(collection);
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let Some(Collection { anchor, content, .. }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::Array(items),
            Content::Object(object) => Value::Object(object.fields),
        };
        self.complete(Node { value, key: Err(KeyError::Collection) }, anchor)
    }

    fn copy_anchor(&mut self, anchor: usize) -> anyhow::Result<()> {
        let Some(value) = self.anchors.get(&anchor) else {
            bail!("an alias (*name) stands within its anchor (&name): write the value out");
        };
        let value = value.clone();
        self.count_copies(&value)?;
        let key = match &value {
            Value::String(text) => Ok(Key::Text(text.clone())),
            _ => Err(KeyError::Alias),
        };
        self.complete(Node { value, key }, 0)
    }

    /// Adds a complete value to the collection around it.
    fn complete(&mut self, Node { value, key }: Node, anchor: usize) -> anyhow::Result<()> {
        self.nodes += 1;
        ensure!(self.nodes <= MAX_NODES, TOO_LARGE);
        if self.aliases.contains(&anchor) {
            self.count_copies(&value)?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|collection| &mut collection.content) {
            None => self.root = Some(value),
            Some(Content::List(items)) => items.push(value),
            Some(Content::Object(object)) => match object.key.take() {
                None => object.key = Some(object.new_key(key?)?),
                Some(Key::Text(key)) => _ = object.fields.insert(key, value),
                Some(Key::Merge) => object.merge(value)?,
            },
        }
        Ok(())
    }

    /// Counts the values of a copy, before more of them are made.
    fn count_copies(&mut self, value: &Value) -> anyhow::Result<()> {
        let size = Size::of(value);
        self.check_depth(size.depth)?;
        self.copies += size.nodes;
        match self.copyable_bytes.checked_sub(size.bytes) {
            Some(rest) if self.copies <= MAX_COPIES => *self.copyable_bytes = rest,
            _ => bail!("its aliases (*name) stand for too much: write the values out"),
        }
        Ok(())
    }

    /// Refuses a value of this depth within the open collections.
    fn check_depth(&self, depth: usize) -> anyhow::Result<()> {
        ensure!(self.open.len() + depth <= MAX_DEPTH, TOO_LARGE);
        Ok(())
    }
}

impl Object {
    /// Returns the key, unless the object has it already. A field may replace one of another object.
    fn new_key(&mut self, key: Key) -> anyhow::Result<Key> {
        match key {
            Key::Text(key) if self.fields.contains_key(&key) && !self.merged.remove(&key) => {
                bail!("a key stands there twice: remove one")
            }
            // kubectl would let the other object's fields replace those before it.
            Key::Merge if !self.fields.is_empty() => bail!("<<: stands after other keys: put it first"),
            key => Ok(key),
        }
    }

    /// Adds the fields of an object, or of a list of objects, of which the first has precedence.
    fn merge(&mut self, value: Value) -> anyhow::Result<()> {
        let objects = match value {
            Value::Array(objects) => objects,
            object => vec![object],
        };
        for object in objects {
            let Value::Object(fields) = object else {
                bail!("<<: must have an object, or a list of objects");
            };
            for (key, value) in fields {
                self.merged.insert(key.clone());
                self.fields.entry(key).or_insert(value);
            }
        }
        Ok(())
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> anyhow::Result<Node> {
    let is_text = match tag {
        None => style != ScalarStyle::Plain,
        Some(tag) if tag.core_suffix() == Some("str") => true,
        Some(tag) => return Err(unknown_tag(tag)),
    };
    let shown = || printable(text, MAX_QUOTE);
    let as_text = || Key::Text(text.to_owned());
    let (value, key) = match if is_text { Scalar::Text } else { Scalar::read(text) } {
        Scalar::Null => (Value::Null, Err(KeyError::Null)),
        Scalar::Bool(value) => (value.into(), Ok(Key::Text(value.to_string()))),
        Scalar::Integer(value) => (value.into(), Ok(Key::Text(value.to_string()))),
        Scalar::Float(value) => (
            stored(value).with_context(|| format!("{} is a number that JSON can't hold: put it in quotes", shown()))?,
            Err(KeyError::Float(shown())),
        ),
        Scalar::Text if !is_text && text == MERGE => (text.into(), Ok(Key::Merge)),
        Scalar::Text => (text.into(), Ok(as_text())),
    };
    Ok(Node { value, key })
}

fn unknown_tag(tag: &Tag) -> anyhow::Error {
    anyhow!(
        "the tag {} is not read here: remove it, and write the value that it makes",
        printable(&tag.original(), MAX_QUOTE)
    )
}

/// The size of a value that may be copied.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    /// The length of all strings.
    bytes: usize,
    depth: usize,
}

impl Size {
    /// The depth of values that were read is bounded.
    fn of(value: &Value) -> Self {
        let leaf = |bytes| Self { nodes: 1, bytes, depth: 0 };
        let around = |size: Self, key: usize, inner: &Value| {
            let inner = Self::of(inner);
            Self {
                nodes: size.nodes + inner.nodes,
                bytes: size.bytes + key + inner.bytes,
                depth: size.depth.max(inner.depth + 1),
            }
        };
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => leaf(0),
            Value::String(text) => leaf(text.len()),
            Value::Array(items) => items.iter().fold(leaf(0), |size, item| around(size, 0, item)),
            Value::Object(fields) => fields.iter().fold(leaf(0), |size, (key, value)| around(size, key.len(), value)),
        }
    }
}

/// Returns what is wrong with a document. The parser's own message may quote its source, which may be a key.
fn describe(error: &ScanError, file: &str) -> YamlError {
    let source = match error.kind() {
        ErrorKind::UnknownAnchor => anyhow!("an alias (*name) has no anchor (&name): write the value out"),
        ErrorKind::DirectiveDisallowed => anyhow!("kubectl does not read directives such as %YAML: remove the line"),
        _ if ["Secret", "PRIVATE KEY"].iter().any(|sign| file.contains(sign)) => anyhow!("correct it"),
        _ => anyhow!("{}: correct it", printable(&error.info(), MAX_DETAIL)),
    };
    YamlError::at(*error.marker(), source)
}
