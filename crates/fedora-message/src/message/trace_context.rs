//! The trace context of a message, by W3C Trace Context (<https://www.w3.org/TR/trace-context/>).
//!
//! It is derived from the resource alone, so that each attempt sends the same header.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use uuid::Uuid;

/// The header that carries the trace context.
pub const HEADER: &str = "traceparent";
/// The flag for a trace that is recorded.
const SAMPLED: u8 = 1;

/// The trace context of a message. Its span lasts from the message's creation until the broker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The id of the sender's trace, or of a new trace.
    pub id: u128,
    /// The id of the message's span.
    pub span: u64,
    /// The id of the sender's span, if the sender gave one.
    pub parent: Option<u64>,
    flags: u8,
}

impl Trace {
    /// Returns the trace context of the message with this id. It continues the trace in the sender's
    /// headers, if they have one.
    #[must_use]
    pub fn of(id: Uuid, headers: &BTreeMap<String, Box<RawValue>>) -> Self {
        // The second half of a UUID holds its variant, so it is never zero. Zero would be invalid.
        let (_, span) = id.as_u64_pair();
        let own = Self { id: id.as_u128(), span, parent: None, flags: SAMPLED };
        let given = headers.get(HEADER).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        match given.as_deref().and_then(parse) {
            Some((id, parent, flags)) => Self { id, span, parent: Some(parent), flags },
            None => own,
        }
    }

    /// Returns true if the trace is recorded. The sender decides that for its own trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the value of the header, with which consumers can continue the trace.
    #[must_use]
    pub fn header(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags & SAMPLED)
    }
}

/// Parses trace, span and flags. A later version of the standard may append more fields.
fn parse(header: &str) -> Option<(u128, u64, u8)> {
    let lower = |text: &&str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = header.split('-');
    let mut part = |length: usize| parts.next().filter(|text| text.len() == length).filter(lower);
    let (version, id, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
    Some((id, span, u8::from_str_radix(flags, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x1a2b_3c4d_5e6f_4a7b_8c9d_0e1f_2a3b_4c5d);

    fn given(header: &str) -> Trace {
        let raw = RawValue::from_string(serde_json::to_string(header).unwrap()).unwrap();
        Trace::of(ID, &BTreeMap::from([(HEADER.to_owned(), raw)]))
    }

    #[test]
    fn continues_the_senders_trace() {
        let own = Trace::of(ID, &BTreeMap::new());
        assert_eq!(own.header(), "00-1a2b3c4d5e6f4a7b8c9d0e1f2a3b4c5d-8c9d0e1f2a3b4c5d-01");
        let within = given("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(within.header(), "00-0af7651916cd43dd8448eb211c80319c-8c9d0e1f2a3b4c5d-01");
        assert_eq!(within.parent, Some(0xb7ad_6b71_6920_3331));
        let later = given("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more");
        assert_eq!(later.header(), "00-0af7651916cd43dd8448eb211c80319c-8c9d0e1f2a3b4c5d-00");
        assert!(!later.is_sampled());
    }

    #[test]
    fn ignores_invalid_headers() {
        for header in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-\u{e9}af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(given(header), Trace::of(ID, &BTreeMap::new()), "{header}");
        }
    }
}
