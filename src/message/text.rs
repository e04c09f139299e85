//! Other people's text within our messages: on one line, without control characters that a
//! terminal would act on, and of bounded length.

use std::borrow::Cow;

/// The longest name or value that is quoted, in characters.
const LONGEST_QUOTE: usize = 60;

/// A user's text in quotes, with control characters escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text, LONGEST_QUOTE))
}

/// A sentence from elsewhere, with blanks for control characters, of at most `longest` characters.
#[must_use]
pub fn printable(words: &str, longest: usize) -> String {
    shortened(words, longest).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn shortened(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_length_are_tamed() {
        assert_eq!(quoted("a\u{1b}[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(quoted(&"x".repeat(100)), format!("\"{}…\"", "x".repeat(60)));
        assert_eq!(printable("a\r\nb\u{7}", 3), "a  …");
    }
}
