//! What the catalog abbreviates, written out: texts that are long, and JSON that YAML can't say.

/// Writes out `{repeat:TEXT:COUNT}` and, in place of a whole JSON string, `{nested:LEVELS}`,
/// `{headers:COUNT}` and `{raw:JSON}`.
pub fn expand(text: &str) -> String {
    let mut text = text.to_owned();
    for (open, close, write) in [
        ("\"{nested:", "}\"", nested as fn(&str) -> String),
        ("\"{headers:", "}\"", headers),
        ("\"{raw:", "}\"", str::to_owned),
        ("{repeat:", "}", repeated),
    ] {
        while let Some(start) = text.find(open) {
            let end = start + text[start..].find(close).expect("it is closed");
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

fn repeated(what: &str) -> String {
    let (text, count) = what.rsplit_once(':').expect("a text and how often it stands there");
    text.repeat(number(count))
}

/// What is said, with a placeholder for each date.
pub fn undated(words: &str) -> String {
    const DATE: &str = "0000-00-00 00:00:00 UTC";
    let mut words = words.to_owned();
    let mut start = 0;
    while let Some(window) = words.get(start..).and_then(|rest| rest.get(..DATE.len())) {
        let digits: String = window.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        if digits == DATE {
            words.replace_range(start..start + DATE.len(), "{date}");
        }
        start += 1;
        while !words.is_char_boundary(start) {
            start += 1;
        }
    }
    words
}

/// What is said, with a placeholder for each of these texts.
pub fn with_placeholders(words: &str, texts: &[(&str, &str)]) -> String {
    let words = texts.iter().fold(words.to_owned(), |words, (text, placeholder)| words.replace(text, placeholder));
    undated(&words)
}
