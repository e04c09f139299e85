//! The broker's first bytes: `connection.start`, which lists the mechanisms to log in with. lapin
//! keeps the list for itself.

use std::sync::{Arc, OnceLock};

use super::frames;
use fedora_message::text::{MAX_PHRASE, printable};

/// The mechanism that takes the user from the client certificate.
const EXTERNAL: &str = "EXTERNAL";
/// The number of bytes that are kept. `RabbitMQ` sends some 500.
const MAX_GREETING: usize = 4096;
/// The class and the method of `connection.start`, and the version of the protocol.
const START: [u8; 6] = [0, 10, 0, 10, 0, 9];

/// The bytes of the first read from a broker.
#[derive(Clone, Debug, Default)]
pub struct Greeting(Arc<OnceLock<Vec<u8>>>);

impl Greeting {
    /// Records the first bytes. Ignores all others.
    pub(super) fn record(&self, bytes: &[u8]) {
        if self.0.get().is_none() && !bytes.is_empty() {
            // It was empty.
            let _ = self.0.set(bytes[..bytes.len().min(MAX_GREETING)].to_vec());
        }
    }

    /// Returns the mechanisms that the broker offers, if the client's own is not among them.
    #[must_use]
    pub fn without_external(&self) -> Option<String> {
        let offered: Vec<&str> = mechanisms(self.0.get()?)?.split_whitespace().collect();
        (!offered.contains(&EXTERNAL)).then(|| printable(&offered.join(", "), MAX_PHRASE))
    }
}

/// Reads the mechanisms in `connection.start`. The server's properties before them are not parsed.
fn mechanisms(greeting: &[u8]) -> Option<&str> {
    let mut arguments = greeting.get(frames::HEADER..)?.strip_prefix(&START)?;
    let _properties = frames::string(&mut arguments, 4).ok()?;
    std::str::from_utf8(frames::string(&mut arguments, 4).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(mechanisms: &[u8]) -> Vec<u8> {
        let long = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        [&[1, 0, 0, 0, 0, 0, 99][..], &START, &long(b"\x07productS\0\0\0\x01r"), &long(mechanisms), &long(b"en_US")]
            .concat()
    }

    fn without_external(bytes: &[u8]) -> Option<String> {
        let greeting = Greeting::default();
        greeting.record(b"");
        greeting.record(bytes);
        greeting.record(&start(b"EXTERNAL"));
        greeting.without_external()
    }

    #[test]
    fn lists_offered_mechanisms() {
        assert_eq!(without_external(&start(b"PLAIN AMQPLAIN")).as_deref(), Some("PLAIN, AMQPLAIN"));
        assert_eq!(without_external(&start(b"PLAIN EXTERNAL")), None);
        assert_eq!(without_external(&start(b"\x1b[2J")).as_deref(), Some(" [2J"));
    }

    #[test]
    fn ignores_what_is_no_start() {
        let start = start(b"PLAIN");
        for length in 0..start.len() - 10 {
            assert_eq!(without_external(&start[..length]), None, "{length}");
        }
        assert_eq!(without_external(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None);
        assert_eq!(without_external(&[0xFF; 100]), None);
    }
}
