//! Prepares text from elsewhere for our own texts: on one line, of bounded length, and without
//! characters that a terminal interprets.

use std::borrow::Cow;

/// The maximum length of a quoted name or value, in characters.
pub const MAX_QUOTE: usize = 60;
/// The maximum length of a path, a list or another part of a sentence, in characters.
pub const MAX_PHRASE: usize = 160;
/// The maximum length of an error message from a library, a broker or a Pod, in characters.
pub const MAX_DETAIL: usize = 400;

/// Returns a text in quotes, shortened, with control characters escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text, MAX_QUOTE))
}

/// Returns a text of at most `longest` characters, with blanks for characters that a terminal
/// interprets.
#[must_use]
pub fn printable(text: &str, longest: usize) -> String {
    shortened(text, longest).chars().map(|c| if is_control(c) { ' ' } else { c }).collect()
}

/// Returns true for control characters, line separators, and characters that change the direction of
/// writing. These could hide or replace text.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    fn shortens_and_escapes() {
        assert_eq!(quoted("a\u{1b}[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(quoted(&"x".repeat(100)), format!("\"{}…\"", "x".repeat(60)));
        assert_eq!(printable("a\r\nb\u{7}", 3), "a  …");
    }

    #[test]
    fn words_can_not_change_the_direction_of_writing() {
        assert_eq!(printable("no\u{202e}tnes\u{2066}\u{200f}\u{2028}.", 100), "no tnes   .");
        assert_eq!(printable("שלום é 🦀", 100), "שלום é 🦀");
    }
}
