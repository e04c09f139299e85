//! Inputs that are large but made of few bytes: long strings, thousands of levels, thousands of keys.

use std::fmt::Write;

use arbitrary::Arbitrary;

/// The maximum length of a text that is made of an input. It is longer than a frame.
const LONGEST: usize = 160 * 1024;

/// A text, or the same text many times.
#[derive(Arbitrary, Clone, Debug)]
pub enum Text {
    /// The text itself.
    Once(String),
    /// The text so many times.
    Repeated(String, u16),
}

impl Text {
    /// Returns the text.
    pub fn render(&self) -> String {
        match self {
            Self::Once(text) => text.clone(),
            Self::Repeated(text, times) => text.repeat(usize::from(*times).min(LONGEST / text.len().max(1))),
        }
    }
}

/// The treatment of fields whose value is null. Client-side `kubectl apply` drops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// The field is written.
    Kept,
    /// The field is omitted.
    Dropped,
}

/// A JSON value of any shape.
#[derive(Arbitrary, Clone, Debug)]
pub enum Json {
    Null,
    Boolean(bool),
    Integer(i64),
    Large(u64),
    Float(f64),
    Text(Text),
    List(Vec<Json>),
    Object(Object),
    /// A value in so many nested lists.
    Deep(u16, Box<Json>),
    /// A value in so many nested objects.
    Nested(u16, Box<Json>),
}

/// A JSON object of any shape. A key may occur twice.
#[derive(Arbitrary, Clone, Debug)]
pub struct Object {
    fields: Vec<(Text, Json)>,
    /// A field, and the number of similar fields.
    many: Option<(String, Box<Json>, u16)>,
}

impl Json {
    fn write(&self, json: &mut String, nulls: Nulls) -> Option<()> {
        match self {
            Self::Null => json.push_str("null"),
            Self::Boolean(value) => write!(json, "{value}").ok()?,
            Self::Integer(value) => write!(json, "{value}").ok()?,
            Self::Large(value) => write!(json, "{value}").ok()?,
            Self::Float(value) => json.push_str(&serde_json::to_string(value).ok()?),
            Self::Text(text) => string(json, &text.render())?,
            Self::List(items) => {
                json.push('[');
                for (index, item) in items.iter().enumerate() {
                    json.push_str(if index > 0 { "," } else { "" });
                    item.write(json, nulls)?;
                }
                json.push(']');
            }
            Self::Object(object) => object.write(json, nulls)?,
            Self::Deep(levels, inner) => wrapped(json, (*levels).into(), ["[", "]"], |json| inner.write(json, nulls))?,
            Self::Nested(levels, inner) => {
                wrapped(json, (*levels).into(), [r#"{"a":"#, "}"], |json| inner.write(json, nulls))?;
            }
        }
        (json.len() <= LONGEST).then_some(())
    }
}

impl Object {
    /// Returns the object as JSON, or `None` if it becomes too long.
    pub fn render(&self, nulls: Nulls) -> Option<String> {
        let mut json = String::new();
        self.write(&mut json, nulls)?;
        Some(json)
    }

    fn write(&self, json: &mut String, nulls: Nulls) -> Option<()> {
        json.push('{');
        let mut first = true;
        let mut field = |json: &mut String, name: &str, value: &Json| {
            if nulls == Nulls::Dropped && matches!(value, Json::Null) {
                return Some(());
            }
            json.push_str(if first { "" } else { "," });
            first = false;
            string(json, name)?;
            json.push(':');
            value.write(json, nulls)
        };
        for (name, value) in &self.fields {
            field(json, &name.render(), value)?;
        }
        if let Some((name, value, times)) = &self.many {
            for number in 0..*times {
                field(json, &format!("{name}{number}"), value)?;
            }
        }
        json.push('}');
        Some(())
    }
}

/// Writes a string as JSON.
fn string(json: &mut String, text: &str) -> Option<()> {
    json.push_str(&serde_json::to_string(text).ok()?);
    (json.len() <= LONGEST).then_some(())
}

fn wrapped(
    json: &mut String,
    levels: usize,
    [before, after]: [&str; 2],
    inner: impl FnOnce(&mut String) -> Option<()>,
) -> Option<()> {
    json.push_str(&before.repeat(levels));
    inner(json)?;
    json.push_str(&after.repeat(levels));
    Some(())
}
