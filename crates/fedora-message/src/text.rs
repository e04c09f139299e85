//! Other people's text within our messages: on one line, without characters that a terminal would
//! act on, and of bounded length.

use std::borrow::Cow;

/// The maximum length of a quoted name or value, in characters.
pub const MAX_QUOTE: usize = 60;
/// The maximum length of a path, a list or another part of a sentence, in characters.
pub const MAX_PHRASE: usize = 160;
/// The maximum length of an error message from a library, a broker or a Pod, in characters.
pub const MAX_DETAIL: usize = 400;

/// A user's text in quotes, with control characters escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text, MAX_QUOTE))
}

/// A sentence from elsewhere, with blanks for what a terminal would act on, of at most `longest`
/// characters.
#[must_use]
pub fn printable(detail: &str, longest: usize) -> String {
    shortened(detail, longest).chars().map(|c| if acts(c) { ' ' } else { c }).collect()
}

/// Control characters, and those that end a line or change the direction of writing, so that other
/// words are seen than are there.
fn acts(c: char) -> bool {
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
    fn control_characters_and_length_are_tamed() {
        assert_eq!(quoted("a\u{1b}[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(quoted(&"x".repeat(100)), format!("\"{}…\"", "x".repeat(60)));
        assert_eq!(printable("a\r\nb\u{7}", 3), "a  …");
    }
}
