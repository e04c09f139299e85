//! Expands the catalog's abbreviations: long texts, and JSON that YAML can't express.

use regex::Regex;

/// Expands `{repeat:TEXT:COUNT}` anywhere, and `{nested:LEVELS}`, `{headers:COUNT}` and
/// `{raw:JSON}` in place of a whole JSON string.
pub fn expand(text: &str) -> String {
    let mut text = text.to_owned();
    for (open, close, write) in [
        ("\"{nested:", "}\"", nested as fn(&str) -> String),
        ("\"{headers:", "}\"", headers),
        ("\"{raw:", "}\"", str::to_owned),
        ("{repeat:", "}", repeated),
    ] {
        while let Some(start) = text.find(open) {
            let end = start + text[start..].find(close).expect("a closing brace");
            let written = write(&text[start + open.len()..end]);
            text.replace_range(start..end + close.len(), &written);
        }
    }
    text
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn nested(levels: &str) -> String {
    let levels = number(levels) - 1;
    r#"{"a":"#.repeat(levels) + "{}" + &"}".repeat(levels)
}

fn headers(count: &str) -> String {
    let headers: Vec<String> = (0..number(count)).map(|n| format!(r#""h{n}":{n}"#)).collect();
    format!("{{{}}}", headers.join(","))
}

fn repeated(argument: &str) -> String {
    let (text, count) = argument.rsplit_once(':').expect("a text and a number");
    text.repeat(number(count))
}

/// Replaces these texts and each date in a message with placeholders.
pub fn with_placeholders(message: &str, texts: &[(&str, &str)]) -> String {
    let date = Regex::new(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC").expect("a regular expression");
    let message = texts.iter().fold(message.to_owned(), |message, (text, name)| message.replace(text, name));
    date.replace_all(&message, "{date}").into_owned()
}
