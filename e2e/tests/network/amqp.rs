//! AMQP as a broker speaks it, byte by byte, for frames that no broker sends. The numbers are those
//! of the AMQP 0-9-1 specification.

use std::io::{Read, Result, Write};
use std::thread::sleep;
use std::time::Duration;

use rig::tls_server::{Client, listen};

/// The limits in a broker's `connection.tune`, in their own widths.
#[derive(Clone, Copy, Debug)]
pub struct Tune {
    /// The number of channels.
    pub channel_max: u16,
    /// The bytes of a frame. 0 means no limit.
    pub frame_max: u32,
    /// The heartbeat in seconds. 0 means none.
    pub heartbeat: u16,
}

/// The default of RabbitMQ.
pub const DEFAULT: Tune = Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };

const START: (u16, u16) = (10, 10);
const TUNE: (u16, u16) = (10, 30);
const OPEN_OK: (u16, u16) = (10, 41);
const CLOSE: (u16, u16) = (10, 50);
const BLOCKED: (u16, u16) = (10, 60);
const UNBLOCKED: (u16, u16) = (10, 61);
const CHANNEL_OPEN: (u16, u16) = (20, 10);
const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
const FLOW: (u16, u16) = (20, 20);
const CONFIRM_SELECT: (u16, u16) = (85, 10);
const CONFIRM_SELECT_OK: (u16, u16) = (85, 11);
const CANCEL: (u16, u16) = (60, 30);
const RETURN: (u16, u16) = (60, 50);
const DELIVER: (u16, u16) = (60, 60);
const ACK: (u16, u16) = (60, 80);

/// Returns a frame of a type (1: method, 2: header, 3: body, 8: heartbeat).
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[0xCE]].concat()
}

fn method(channel: u16, (class, method): (u16, u16), arguments: &[u8]) -> Vec<u8> {
    frame(1, channel, &[&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat())
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a short text")][..], text].concat()
}

/// Returns `connection.start`, the first frame of a broker.
pub fn start() -> Vec<u8> {
    let long = |text: &[u8]| [&u32::try_from(text.len()).expect("a short text").to_be_bytes(), text].concat();
    method(0, START, &[&[0, 9, 0, 0, 0, 0][..], &long(b"EXTERNAL"), &long(b"en_US")].concat())
}

/// Returns `connection.start` with a table nested as deep as a frame allows.
pub fn deep_start() -> Vec<u8> {
    const DEPTH: usize = 21_000;
    // Each level has an empty name, the type of a table, and its length.
    let levels = (0..DEPTH).rev().flat_map(|level| {
        let [a, b, c, d] = u32::try_from(6 * level).expect("a frame's length").to_be_bytes();
        [0, b'F', a, b, c, d]
    });
    let length = u32::try_from(6 * DEPTH).expect("a frame's length").to_be_bytes();
    let properties: Vec<u8> = length.into_iter().chain(levels).collect();
    method(0, START, &[&[0, 9][..], &properties, &[0; 8]].concat())
}

/// Returns `connection.close` with this text.
pub fn close(code: u16, text: &[u8]) -> Vec<u8> {
    method(0, CLOSE, &[&code.to_be_bytes()[..], &short(text), &[0; 4]].concat())
}

/// Returns `connection.blocked` with this reason.
pub fn blocked(reason: &[u8]) -> Vec<u8> {
    method(0, BLOCKED, &short(reason))
}

/// Returns `connection.blocked` and `connection.unblocked`.
pub fn short_alarm() -> Vec<u8> {
    [blocked(b"memory"), method(0, UNBLOCKED, &[])].concat()
}

/// Reads the protocol header, and answers with `connection.start`.
pub fn greet(client: &mut Client) -> Result<()> {
    client.read_exact(&mut [0; 8])?;
    send(client, &start())
}

/// Sends bytes.
pub fn send(client: &mut Client, bytes: &[u8]) -> Result<()> {
    client.write_all(bytes)?;
    client.flush()
}

/// Refuses every user.
pub fn refuse_login(client: &mut Client) -> Result<()> {
    greet(client)?;
    read(client)?;
    send(client, &close(403, b"ACCESS_REFUSED - Login was refused"))?;
    listen(client)
}

/// Logs the client in with these limits.
pub fn log_in(client: &mut Client, tune: Tune) -> Result<()> {
    negotiate(client, tune)?;
    send(client, &method(0, OPEN_OK, &[0]))
}

/// Logs the client in, and blocks it at once.
pub fn log_in_during_alarm(client: &mut Client) -> Result<()> {
    negotiate(client, DEFAULT)?;
    send(client, &[method(0, OPEN_OK, &[0]), blocked(b"memory")].concat())
}

fn negotiate(client: &mut Client, tune: Tune) -> Result<()> {
    greet(client)?;
    read(client)?;
    let Tune { channel_max, frame_max, heartbeat } = tune;
    let arguments = [&channel_max.to_be_bytes()[..], &frame_max.to_be_bytes(), &heartbeat.to_be_bytes()].concat();
    send(client, &method(0, TUNE, &arguments))?;
    // tune-ok and open.
    read(client)?;
    read(client)?;
    Ok(())
}

/// Confirms all messages.
pub fn confirm_all(client: &mut Client) -> Result<()> {
    serve(client, |client, channel, tag| send(client, &ack(channel, tag, false)))
}

/// Blocks the client when its first message arrives, for `alarm`, and confirms that `later`.
pub fn confirm_after_alarm(client: &mut Client, alarm: Duration, later: Duration) -> Result<()> {
    serve(client, |client, channel, tag| {
        send(client, &blocked(b"memory"))?;
        sleep(alarm);
        send(client, &method(0, UNBLOCKED, &[]))?;
        sleep(later);
        send(client, &ack(channel, tag, false))
    })
}

/// Confirms the first message. Then returns it, and confirms it once more, again and again.
pub fn return_after_confirm(client: &mut Client) -> Result<()> {
    serve(client, |client, channel, tag| {
        send(client, &ack(channel, tag, false))?;
        let body = vec![0; 65536];
        let again = [returned(channel, body.len() as u64), frame(3, channel, &body), ack(channel, tag, true)];
        repeat(client, &again.concat())
    })
}

fn ack(channel: u16, tag: u64, multiple: bool) -> Vec<u8> {
    method(channel, ACK, &[&tag.to_be_bytes()[..], &[multiple.into()]].concat())
}

/// Returns the first message, with a body that does not end.
pub fn return_endlessly(client: &mut Client) -> Result<()> {
    serve(client, |client, channel, _| {
        send(client, &returned(channel, 1 << 40))?;
        repeat(client, &frame(3, channel, &vec![0; 65536]))
    })
}

/// Returns the first message again and again, and never confirms it.
pub fn return_again(client: &mut Client) -> Result<()> {
    serve(client, |client, channel, _| {
        let body = vec![0; 65536];
        repeat(client, &[returned(channel, body.len() as u64), frame(3, channel, &body)].concat())
    })
}

/// Asks the client again and again to stop publishing, on the channel of the first message.
pub fn flow_endlessly(client: &mut Client) -> Result<()> {
    serve(client, |client, channel, _| repeat(client, &method(channel, FLOW, &[0]).repeat(1000)))
}

/// Cancels a consumer again and again, on the channel of the first message. The client has none.
pub fn cancel_endlessly(client: &mut Client) -> Result<()> {
    serve(client, |client, channel, _| repeat(client, &method(channel, CANCEL, &[0, 0]).repeat(1000)))
}

/// Delivers messages without contents again and again, on the channel of the first message.
pub fn deliver_endlessly(client: &mut Client) -> Result<()> {
    serve(client, |client, channel, _| repeat(client, &method(channel, DELIVER, &[0; 12]).repeat(1000)))
}

/// Returns the beginning of a message that reached no queue, up to its body of this size.
fn returned(channel: u16, size: u64) -> Vec<u8> {
    let no_route = [&312_u16.to_be_bytes()[..], &short(b"NO_ROUTE"), &short(b""), &short(b"a")].concat();
    let header = [&60_u16.to_be_bytes()[..], &[0; 2], &size.to_be_bytes(), &[0; 2]].concat();
    [method(channel, RETURN, &no_route), frame(2, channel, &header)].concat()
}

/// Sends these bytes until the connection ends.
pub fn repeat(client: &mut Client, bytes: &[u8]) -> Result<()> {
    loop {
        client.write_all(bytes)?;
    }
}

/// Opens channels, and answers each message by its channel and number.
fn serve(client: &mut Client, answer: impl Fn(&mut Client, u16, u64) -> Result<()>) -> Result<()> {
    let mut published = vec![0_u64; 1 << 16];
    loop {
        let (kind, channel, payload) = read(client)?;
        // The last body frame completes a message. Messages of the tests have one.
        if kind == 3 {
            let tag = &mut published[usize::from(channel)];
            *tag += 1;
            answer(client, channel, *tag)?;
        }
        if kind != 1 {
            continue;
        }
        match (number(&payload[..2]), number(&payload[2..4])) {
            CHANNEL_OPEN => send(client, &method(channel, CHANNEL_OPEN_OK, &[0; 4]))?,
            CONFIRM_SELECT => {
                published[usize::from(channel)] = 0;
                send(client, &method(channel, CONFIRM_SELECT_OK, &[]))?;
            }
            _ => {}
        }
    }
}

/// Reads one frame: its kind, channel and payload.
pub fn read(client: &mut Client) -> Result<(u8, u16, Vec<u8>)> {
    let mut head = [0; 7];
    client.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let mut payload = vec![0; length as usize + 1];
    client.read_exact(&mut payload)?;
    Ok((head[0], number(&head[1..3]), payload))
}

fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}
