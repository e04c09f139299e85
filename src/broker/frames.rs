//! Refuses frames that no broker sends, before the AMQP client parses them.
//!
//! lapin parses tables by recursion, so a table that is nested thousands deep would overflow its
//! stack and end the process (docs/decisions/0046). It keeps the messages that the broker returns
//! until their confirm, however large and many they are. The numbers are those of the AMQP 0-9-1
//! specification and of RabbitMQ's extensions to it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fedora_message::bounds::MAX_RETURNED_BYTES;
use parking_lot::Mutex;

/// The length of a frame's header: type, channel and size.
pub(super) const HEADER: usize = 7;
/// The length of a method's class and number.
const METHOD_ID: usize = 4;
/// The maximum size of a frame. The client never negotiates more.
const MAX_FRAME: usize = 128 * 1024;
/// The maximum depth of a table. `RabbitMQ` describes itself in one of depth 2.
const MAX_DEPTH: usize = 8;

/// The types of frames.
const METHOD: u8 = 1;
const PROPERTIES: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The class and the number of `connection.start`, the only expected method with a table.
const START: (usize, usize) = (10, 10);
/// The methods that a broker sends, by class. `RabbitMQ` sends no `channel.flow`; the client would keep
/// an answer to each.
type Methods = [(usize, &'static [usize])];

/// The other methods that a publisher gets.
const PUBLISHERS: &Methods = &[
    // connection: secure, tune, open-ok, close, close-ok, blocked, unblocked
    (10, &[20, 30, 41, 50, 51, 60, 61]),
    // channel: open-ok, close, close-ok
    (20, &[11, 40, 41]),
    // exchange: declare-ok
    (40, &[11]),
    // basic: return, ack, nack
    (60, &[50, 80, 120]),
    // confirm: select-ok
    (85, &[11]),
];
/// The methods that only a consumer gets. For a publisher the AMQP client would keep something for each.
const CONSUMERS: &Methods = &[
    // queue: declare-ok, bind-ok, purge-ok, delete-ok
    (50, &[11, 21, 31, 41]),
    // basic: qos-ok, consume-ok, cancel, cancel-ok, deliver, get-ok, get-empty
    (60, &[11, 21, 30, 31, 60, 71, 72]),
];

/// A message that reached no queue.
const RETURN: (usize, usize) = (60, 50);
/// After these methods on a channel, the AMQP client no longer has the message that was returned on it:
/// close, close-ok, ack, nack.
const SETTLING: [(usize, usize); 4] = [(20, 40), (20, 41), (60, 80), (60, 120)];
/// The confirms of a message: ack, nack.
const CONFIRMS: [(usize, usize); 2] = [(60, 80), (60, 120)];

/// The flags of the properties up to the headers: content type, content encoding, headers.
const SHORT_STRINGS: [usize; 2] = [1 << 15, 1 << 14];
const HEADERS: usize = 1 << 13;

/// The number of messages that were published on each channel.
#[derive(Clone, Debug, Default)]
pub struct PublishCounts(Arc<Mutex<HashMap<usize, usize>>>);

impl PublishCounts {
    /// Counts a message that is about to be published on this channel.
    pub(super) fn count(&self, channel: u16) {
        *self.0.lock().entry(channel.into()).or_default() += 1;
    }

    fn of(&self, channel: usize) -> usize {
        self.0.lock().get(&channel).copied().unwrap_or_default()
    }
}

/// The bytes of the messages that were handed to a broker, and whose confirm has not arrived.
#[derive(Clone, Debug, Default)]
pub struct UnconfirmedBytes(Arc<AtomicUsize>);

impl UnconfirmedBytes {
    /// Counts a message with a body of this size, until the result is dropped.
    #[must_use]
    pub(super) fn count(&self, size: usize) -> CountedBytes {
        self.0.fetch_add(size, Ordering::Relaxed);
        CountedBytes { all: self.clone(), size }
    }

    /// Returns their number.
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bytes of one message, which count until they are dropped.
#[derive(Debug)]
pub(super) struct CountedBytes {
    all: UnconfirmedBytes,
    size: usize,
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// Follows the frames in the bytes that a broker sends.
#[derive(Debug)]
pub(super) struct FrameGuard {
    part: Part,
    /// The number of bytes that this part still lacks.
    missing: usize,
    /// The bytes of the frame so far, without skipped parts.
    frame: Vec<u8>,
    /// The messages that the AMQP client keeps: until they are complete, and if they were returned,
    /// until their confirm.
    kept: Vec<Kept>,
    unconfirmed: UnconfirmedBytes,
    published: PublishCounts,
    /// The number of messages that were confirmed on each channel.
    confirmed: HashMap<usize, usize>,
    /// The methods that are accepted besides those for publishers.
    others: &'static Methods,
}

/// A message from the broker on a channel.
#[derive(Debug)]
struct Kept {
    channel: usize,
    returned: bool,
    /// The size of its body, once that is announced.
    size: usize,
    /// The bytes that are still to come. `None` if the properties are.
    missing: Option<usize>,
}

/// The part of a frame that arrives.
#[derive(Clone, Copy, Debug)]
enum Part {
    Header,
    /// The rest of a method, or of a message's properties.
    Checked,
    /// The rest of a frame that has nothing to parse.
    Skipped,
}

impl FrameGuard {
    /// Creates the guard of a new connection.
    pub(super) fn new(unconfirmed: UnconfirmedBytes, published: PublishCounts) -> Self {
        Self {
            part: Part::Header,
            missing: HEADER,
            frame: Vec::new(),
            kept: Vec::new(),
            unconfirmed,
            published,
            confirmed: HashMap::new(),
            others: &[],
        }
    }

    /// Accepts what a consumer gets. Nobody counts what it publishes.
    pub(super) fn accept_consumers(&mut self) {
        self.others = CONSUMERS;
    }

    /// Returns true if the messages that are published are counted.
    fn counts(&self) -> bool {
        self.others.is_empty()
    }

    /// Checks the next bytes from the broker. After an error the connection must end, and the AMQP
    /// client must not get these bytes.
    pub(super) fn check(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (arrived, rest) = bytes.split_at(self.missing.min(bytes.len()));
            bytes = rest;
            self.missing -= arrived.len();
            if !matches!(self.part, Part::Skipped) {
                self.frame.extend_from_slice(arrived);
            }
            if self.missing == 0 {
                self.finish_part()?;
            }
        }
        Ok(())
    }

    fn finish_part(&mut self) -> io::Result<()> {
        if let Part::Header = self.part {
            (self.part, self.missing) = announced(&self.frame)?;
            return self.continue_body();
        }
        if let Part::Checked = self.part {
            let channel = channel(&self.frame)?;
            match check_frame(&self.frame, self.others)? {
                Checked::Body(size) => self.begin_body(channel, size)?,
                Checked::Method(RETURN) => self.begin_return(channel)?,
                Checked::Method(method) if SETTLING.contains(&method) => {
                    if CONFIRMS.contains(&method) && self.counts() {
                        self.confirm(channel)?;
                    }
                    self.kept.retain(|kept| kept.channel != channel || kept.missing != Some(0));
                }
                Checked::Method(_) => {}
            }
        }
        self.frame.clear();
        (self.part, self.missing) = (Part::Header, HEADER);
        Ok(())
    }

    /// Notes the confirm in this frame. The AMQP client keeps a message that is returned and was confirmed
    /// before.
    fn confirm(&mut self, channel: usize) -> io::Result<()> {
        let tag = number(&mut self.frame.get(HEADER + METHOD_ID..).ok_or_else(malformed)?, 8)?;
        let confirmed = self.confirmed.entry(channel).or_default();
        if tag <= *confirmed || tag > self.published.of(channel) {
            return Err(refused("it confirms a message that was not published"));
        }
        *confirmed = tag;
        Ok(())
    }

    /// Notes a message that is returned on this channel. A channel has one message in flight.
    fn begin_return(&mut self, channel: usize) -> io::Result<()> {
        let confirmed = self.confirmed.get(&channel).copied().unwrap_or_default();
        let all_confirmed = self.published.of(channel) <= confirmed;
        if self.counts() && all_confirmed || self.kept.iter().any(|kept| kept.channel == channel && kept.returned) {
            return Err(refused("it returns more messages than were published"));
        }
        self.kept.push(Kept { channel, returned: true, size: 0, missing: None });
        Ok(())
    }

    /// Notes a body that was announced on this channel. Refuses too many bytes on all channels, unless that
    /// many were published.
    fn begin_body(&mut self, channel: usize, size: usize) -> io::Result<()> {
        let returned = self.kept.iter().any(|kept| kept.channel == channel && kept.returned);
        self.kept.retain(|kept| kept.channel != channel);
        let others: usize = self.kept.iter().map(|kept| kept.size).sum();
        let limit = self.unconfirmed.get().max(MAX_RETURNED_BYTES);
        if size.saturating_add(others) > limit {
            return Err(refused(format!("it returns messages of more than {limit} bytes")));
        }
        if returned || size > 0 {
            self.kept.push(Kept { channel, returned, size, missing: Some(size) });
        }
        Ok(())
    }

    /// Counts the frame that begins, if it is a part of a body. The AMQP client refuses one that nothing
    /// announced.
    fn continue_body(&mut self) -> io::Result<()> {
        if self.frame.first() != Some(&BODY) {
            return Ok(());
        }
        // The byte that ends the frame is not a part of it.
        let (channel, size) = (channel(&self.frame)?, self.missing - 1);
        for kept in self.kept.iter_mut().filter(|kept| kept.channel == channel) {
            kept.missing = kept.missing.map(|missing| missing.saturating_sub(size));
        }
        self.kept.retain(|kept| kept.returned || kept.missing != Some(0));
        Ok(())
    }
}

/// A frame that the AMQP client can parse safely.
enum Checked {
    /// A method, by class and number.
    Method((usize, usize)),
    /// The properties of a message whose body has this size.
    Body(usize),
}

/// Returns the channel in a frame's header.
fn channel(header: &[u8]) -> io::Result<usize> {
    number(&mut header.get(1..).ok_or_else(malformed)?, 2)
}

/// Returns the part that a frame's header announces, and its length.
fn announced(mut header: &[u8]) -> io::Result<(Part, usize)> {
    // The answer to another version of the protocol. It has eight bytes.
    if header.starts_with(b"AMQP") {
        return Ok((Part::Skipped, 1));
    }
    let part = match number(&mut header, 1)? {
        kind if [METHOD, PROPERTIES].map(usize::from).contains(&kind) => Part::Checked,
        kind if [BODY, HEARTBEAT].map(usize::from).contains(&kind) => Part::Skipped,
        _ => return Err(refused("it does not speak AMQP")),
    };
    let _channel = number(&mut header, 2)?;
    match number(&mut header, 4)? {
        size if size > MAX_FRAME => Err(refused(format!("it sends a frame of {size} bytes"))),
        // One more byte ends the frame.
        size => Ok((part, size + 1)),
    }
}

fn check_frame(frame: &[u8], others: &Methods) -> io::Result<Checked> {
    let (header, payload) = frame.split_at_checked(HEADER).ok_or_else(malformed)?;
    let (_end, mut payload) = payload.split_last().ok_or_else(malformed)?;
    if header.first() == Some(&PROPERTIES) {
        check_properties(&mut payload).map(Checked::Body)
    } else {
        check_method(&mut payload, others).map(Checked::Method)
    }
}

/// Returns the class and the number of the method.
fn check_method(payload: &mut &[u8], others: &Methods) -> io::Result<(usize, usize)> {
    let (class, method) = (number(payload, 2)?, number(payload, 2)?);
    let mut accepted = PUBLISHERS.iter().chain(others);
    if (class, method) == START {
        let _version = take(payload, 2)?;
        check_table(string(payload, 4)?)?;
    } else if !accepted.any(|(known, methods)| *known == class && methods.contains(&method)) {
        return Err(refused(format!("it sends the method {class}.{method}, which no broker sends to a publisher")));
    }
    Ok((class, method))
}

/// Returns the size of the body.
fn check_properties(payload: &mut &[u8]) -> io::Result<usize> {
    let _class_and_weight = take(payload, 4)?;
    let size = number(payload, 8)?;
    let flags = number(payload, 2)?;
    for flag in SHORT_STRINGS {
        if flags & flag != 0 {
            string(payload, 1)?;
        }
    }
    if flags & HEADERS != 0 {
        check_table(string(payload, 4)?)?;
    }
    Ok(size)
}

/// Checks the depth of a table, without recursion.
fn check_table(table: &[u8]) -> io::Result<()> {
    // The tables and arrays that are open, and if each is a table.
    let mut open = vec![(table, true)];
    while let Some((bytes, is_table)) = open.last_mut() {
        if bytes.is_empty() {
            open.pop();
            continue;
        }
        if *is_table {
            let _name = string(bytes, 1)?;
        }
        let kind = take(bytes, 1)?;
        match kind {
            b"F" | b"A" => {
                let nested = (string(bytes, 4)?, kind == b"F");
                if open.len() == MAX_DEPTH {
                    return Err(refused(format!("it sends a table nested more than {MAX_DEPTH} deep")));
                }
                open.push(nested);
            }
            b"S" | b"x" => drop(string(bytes, 4)?),
            b"L" | b"l" | b"d" | b"T" => drop(take(bytes, 8)?),
            b"D" => drop(take(bytes, 5)?),
            b"I" | b"i" | b"f" => drop(take(bytes, 4)?),
            b"s" | b"U" | b"u" => drop(take(bytes, 2)?),
            b"t" | b"b" | b"B" => drop(take(bytes, 1)?),
            b"V" => {}
            _ => return Err(malformed()),
        }
    }
    Ok(())
}

/// Takes a string or a table off, with the length before it in so many bytes.
pub(super) fn string<'a>(bytes: &mut &'a [u8], width: usize) -> io::Result<&'a [u8]> {
    let length = number(bytes, width)?;
    take(bytes, length)
}

/// Takes an unsigned number of at most eight bytes off.
fn number(bytes: &mut &[u8], width: usize) -> io::Result<usize> {
    Ok(take(bytes, width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> io::Result<&'a [u8]> {
    bytes.split_off(..count).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    refused("it sends a malformed frame")
}

fn refused(detail: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        [&[kind, 0, 1][..], &size, payload, &[0xCE]].concat()
    }

    fn long(text: &[u8]) -> Vec<u8> {
        [&u32::try_from(text.len()).expect("a short text").to_be_bytes(), text].concat()
    }

    /// Returns `connection.start` with properties of this depth.
    fn start(depth: usize, kind: &[u8]) -> Vec<u8> {
        let nested = (1..depth).fold(vec![], |inner, level| {
            let name: &[u8] = if kind == b"A" && level + 1 < depth { b"" } else { b"\0" };
            [name, kind, &long(&inner)].concat()
        });
        frame(METHOD, &[&[0, 10, 0, 10, 0, 9][..], &long(&nested), &long(b"EXTERNAL"), &long(b"en_US")].concat())
    }

    fn properties(headers: &[u8]) -> Vec<u8> {
        let flags = [0b1110_0000, 0];
        frame(PROPERTIES, &[&[0; 12][..], &flags, b"\x04json\x05utf-8", &long(headers), &[0; 8]].concat())
    }

    /// Checks bytes that arrive in pieces of this size, after two messages were published on each channel.
    fn check(bytes: &[u8], piece: usize) -> Result<(), String> {
        let published = PublishCounts::default();
        for channel in [1, 1, 2, 2] {
            published.count(channel);
        }
        let mut guard = FrameGuard::new(UnconfirmedBytes::default(), published);
        bytes.chunks(piece).try_for_each(|piece| guard.check(piece)).map_err(|error| error.to_string())
    }

    #[test]
    fn accepts_frames_of_a_broker() {
        let all_types = b"\x01aS\0\0\0\x01x\x01bx\0\0\0\0\x01cL12345678\x01dD12345\x01ef1234\x01gs12\x01ht1\x01iV\
            \x01jA\0\0\0\x03t1V\x01kF\0\0\0\x04\x01lt1";
        let frames = [
            start(MAX_DEPTH, b"F"),
            start(MAX_DEPTH, b"A"),
            frame(METHOD, &[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
            frame(METHOD, &[0, 60, 0, 50]),
            properties(all_types),
            frame(PROPERTIES, &[0; 14]),
            frame(BODY, &[0xFF; 1000]),
            frame(HEARTBEAT, &[]),
            b"AMQP\0\0\x09\x01".to_vec(),
            frame(HEARTBEAT, &[]),
        ];
        let all = frames.concat();
        for piece in [1, 2, 7, 8, 100, all.len()] {
            assert_eq!(check(&all, piece), Ok(()), "{piece}");
        }
    }

    /// The bodies that the AMQP client keeps are counted, on all channels together.
    #[test]
    fn bounds_bodies() {
        let on = |channel: u8, mut frame: Vec<u8>| {
            frame[2] = channel;
            frame
        };
        let announce = |channel, size: usize| {
            on(channel, frame(PROPERTIES, &[&[0, 60, 0, 0][..], &size.to_be_bytes(), &[0; 2]].concat()))
        };
        let part = |channel| on(channel, frame(BODY, &[0; 1000]));
        let method = |channel, class, method| on(channel, frame(METHOD, &[0, class, 0, method]));
        let confirm =
            |channel, method, tag| on(channel, frame(METHOD, &[0, 60, 0, method, 0, 0, 0, 0, 0, 0, 0, tag, 1]));
        let returned = |channel| method(channel, 60, 50);
        let refused = Err(format!("it returns messages of more than {MAX_RETURNED_BYTES} bytes"));
        let twice = Err("it returns more messages than were published".to_owned());
        let unpublished = Err("it confirms a message that was not published".to_owned());
        for (frames, expected) in [
            (vec![announce(1, MAX_RETURNED_BYTES)], Ok(())),
            (vec![announce(1, MAX_RETURNED_BYTES + 1)], refused.clone()),
            (vec![announce(1, usize::MAX)], refused.clone()),
            (vec![announce(1, 1001), part(1), announce(2, MAX_RETURNED_BYTES)], refused.clone()),
            (vec![announce(1, 1001), part(2), part(1), announce(2, usize::MAX - 1)], refused.clone()),
            (vec![announce(1, 1000), part(1), announce(2, MAX_RETURNED_BYTES)], Ok(())),
            (vec![announce(1, 2000), part(1), part(1), announce(1, MAX_RETURNED_BYTES)], Ok(())),
            // A returned message is kept until its confirm, or until its channel is closed.
            (vec![returned(1), announce(1, 1000), part(1), announce(2, MAX_RETURNED_BYTES)], refused),
            (vec![returned(1), announce(1, 1000), part(1), confirm(1, 80, 1), announce(2, MAX_RETURNED_BYTES)], Ok(())),
            (vec![returned(1), announce(1, 0), confirm(1, 120, 1), returned(1)], Ok(())),
            (vec![returned(1), announce(1, 0), method(1, 20, 40), returned(1)], Ok(())),
            (vec![returned(1), announce(1, 0), confirm(2, 80, 1), returned(2), returned(1)], twice.clone()),
            (vec![returned(1), announce(1, 1000), part(1), returned(1)], twice.clone()),
            // The client keeps a message that is confirmed before it is complete.
            (vec![returned(1), confirm(1, 80, 1), returned(1)], twice.clone()),
            (vec![returned(1), announce(1, 1000), confirm(1, 80, 1), returned(1)], twice.clone()),
            // It keeps a message that was confirmed before it was returned.
            (vec![confirm(1, 80, 2), returned(1)], twice),
            (vec![confirm(1, 80, 1), confirm(1, 120, 2)], Ok(())),
            (vec![confirm(1, 80, 1), confirm(1, 80, 1)], unpublished.clone()),
            (vec![confirm(1, 80, 3)], unpublished.clone()),
            (vec![confirm(1, 80, 0)], unpublished.clone()),
            (vec![confirm(3, 80, 1)], unpublished),
        ] {
            let bytes = frames.concat();
            for piece in [1, 9, bytes.len()] {
                assert_eq!(check(&bytes, piece), expected, "{piece}");
            }
        }
    }

    /// `publish -f` sends large messages of any number. The broker may return them all.
    #[test]
    fn accepts_all_that_was_published() {
        const SIZE: usize = 2 * MAX_RETURNED_BYTES;
        let body = frame(PROPERTIES, &[&[0, 60, 0, 0][..], &SIZE.to_be_bytes(), &[0; 2]].concat());
        let returned = [frame(METHOD, &[0, 60, 0, 50]), body].concat();
        let (unconfirmed, published) = (UnconfirmedBytes::default(), PublishCounts::default());
        published.count(1);
        let counted = unconfirmed.count(SIZE);
        FrameGuard::new(unconfirmed.clone(), published.clone()).check(&returned).expect("it was published");
        drop(counted);
        let _smaller = unconfirmed.count(SIZE - 1);
        FrameGuard::new(unconfirmed, published).check(&returned).expect_err("it is larger than what was published");
    }

    #[test]
    fn refuses_what_no_broker_sends() {
        let deep = |depth| (0..depth).fold(vec![], |inner, _| [b"\0F", &long(&inner)[..]].concat());
        for (bytes, reason) in [
            (start(MAX_DEPTH + 1, b"F"), "it sends a table nested more than 8 deep"),
            (start(MAX_DEPTH + 1, b"A"), "it sends a table nested more than 8 deep"),
            (start(20_000, b"F"), "it sends a table nested more than 8 deep"),
            (properties(&deep(20_000)), "it sends a table nested more than 8 deep"),
            (frame(METHOD, &[0, 50, 0, 10]), "it sends the method 50.10, which no broker sends to a publisher"),
            (frame(METHOD, &[0, 20, 0, 20]), "it sends the method 20.20, which no broker sends to a publisher"),
            (frame(METHOD, &[0, 60, 0, 30]), "it sends the method 60.30, which no broker sends to a publisher"),
            (frame(METHOD, &[0, 60, 0, 60]), "it sends the method 60.60, which no broker sends to a publisher"),
            (frame(METHOD, &[0, 50]), "it sends a malformed frame"),
            (frame(METHOD, &[]), "it sends a malformed frame"),
            (properties(b"\x01az"), "it sends a malformed frame"),
            (properties(b"\x01aS\0\0\0\x01"), "it sends a malformed frame"),
            (properties(b"\x02a"), "it sends a malformed frame"),
            (vec![METHOD, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF], "it sends a frame of 4294967295 bytes"),
            (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "it does not speak AMQP"),
        ] {
            let good = frame(HEARTBEAT, &[]);
            for piece in [1, 7, 10_000] {
                assert_eq!(check(&[&good[..], &bytes].concat(), piece), Err(reason.to_owned()), "{piece}");
            }
        }
    }
}
