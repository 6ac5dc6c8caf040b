//! HTTP/2 (RFC 9113): frames are walked over, headers read, data counted.

use std::collections::{BTreeMap, VecDeque};

use super::hpack::{Field, Hpack};
use super::{End, Exchange, Lost, MAX_HEAD_BYTES, MAX_RUNNING, PREFACE};

const FRAME_HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Octets of a priority in front of headers, and of a promised stream.
const PRIORITY_BYTES: usize = 5;
const PROMISE_BYTES: usize = 4;

/// The setting of the header table's size (RFC 9113 §6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;

/// Both directions of a connection.
#[derive(Debug, Default)]
pub(super) struct Http2 {
    client: Direction,
    server: Direction,
    /// Requests whose answers are not over, by stream.
    running: BTreeMap<u32, Running>,
    /// The latest stream that a client opened: what comes on an earlier one that is over is late.
    latest: u32,
}

#[derive(Debug)]
struct Running {
    exchange: Exchange,
    is_asked: bool,
    is_answered: bool,
}

#[derive(Debug, Default)]
struct Direction {
    /// Octets of the preface that have come.
    preface: usize,
    header: Vec<u8>,
    frame: Option<Frame>,
    /// What came of a frame that is read as a whole.
    payload: Vec<u8>,
    /// A block of headers that goes on in the next frame, and the frame it began with.
    block: Option<(Frame, Vec<u8>)>,
    hpack: Hpack,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    /// Octets that have not come.
    left: usize,
    /// Octets of padding at its end, once that is known.
    padding: Option<usize>,
}

impl Frame {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Octets that have not come and are no padding.
    fn data_left(self) -> usize {
        self.left.saturating_sub(self.padding.unwrap_or(0))
    }

    /// Whether its payload is read as a whole.
    fn is_read(self) -> bool {
        matches!(self.kind, HEADERS | SETTINGS | PUSH_PROMISE | CONTINUATION)
    }
}

impl Http2 {
    pub(super) fn observe(
        &mut self,
        now: u64,
        from: End,
        mut octets: &[u8],
        finished: &mut VecDeque<Exchange>,
    ) -> Result<(), Lost> {
        while !octets.is_empty() {
            let direction = self.direction(from);
            if from == End::Client && direction.preface < PREFACE.len() {
                let rest = &PREFACE[direction.preface..];
                let count = rest.len().min(octets.len());
                if octets[..count] != rest[..count] {
                    return Err(Lost);
                }
                direction.preface += count;
                octets = &octets[count..];
                continue;
            }
            let Some(frame) = &mut direction.frame else {
                direction.take_header(&mut octets)?;
                self.frame_over(now, from, finished)?;
                continue;
            };
            // The first octet of padded data says how many at its end are no data.
            if frame.kind == DATA && frame.has(PADDED) && frame.padding.is_none() {
                (frame.padding, frame.left) = (Some(octets[0].into()), frame.left - 1);
                octets = &octets[1..];
                self.frame_over(now, from, finished)?;
                continue;
            }
            let count = frame.left.min(octets.len());
            let data = frame.data_left();
            frame.left -= count;
            let (frame, data) = (*frame, data - frame.data_left());
            if frame.is_read() {
                direction.payload.extend_from_slice(&octets[..count]);
            }
            octets = &octets[count..];
            if frame.kind == DATA
                && let Some(running) = self.running.get_mut(&frame.stream)
            {
                *running.exchange.body_octets(from) += data as u64;
            }
            self.frame_over(now, from, finished)?;
        }
        Ok(())
    }

    pub(super) fn running_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        self.running.values_mut().map(|running| &mut running.exchange)
    }

    fn direction(&mut self, from: End) -> &mut Direction {
        match from {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        }
    }

    /// Acts on a frame, if all of it has come.
    fn frame_over(&mut self, now: u64, from: End, finished: &mut VecDeque<Exchange>) -> Result<(), Lost> {
        let direction = self.direction(from);
        let Some(frame) = direction.frame.take_if(|frame| frame.left == 0) else { return Ok(()) };
        direction.header.clear();
        let payload = std::mem::take(&mut direction.payload);
        if direction.block.is_some() != (frame.kind == CONTINUATION) {
            return Err(Lost); // nothing may stand within a block
        }
        match frame.kind {
            DATA if frame.has(END_STREAM) => self.message_over(now, from, frame.stream, finished),
            RST_STREAM => self.stream_over(now, frame.stream, finished),
            SETTINGS if !frame.has(ACK) => self.recv_settings(from, &payload),
            HEADERS | PUSH_PROMISE => {
                direction.block = Some((frame, unpadded(frame, &payload).ok_or(Lost)?.to_vec()));
                if frame.has(END_HEADERS) {
                    self.recv_block(now, from, finished)?;
                }
            }
            CONTINUATION => {
                let (begun, block) = direction.block.as_mut().ok_or(Lost)?;
                block.extend_from_slice(&payload);
                if begun.stream != frame.stream || block.len() > MAX_HEAD_BYTES {
                    return Err(Lost);
                }
                if frame.has(END_HEADERS) {
                    self.recv_block(now, from, finished)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What one end takes bounds what the other sends.
    fn recv_settings(&mut self, from: End, payload: &[u8]) {
        let other = self.direction(if from == End::Client { End::Server } else { End::Client });
        for setting in payload.chunks_exact(6) {
            if u16::from_be_bytes([setting[0], setting[1]]) == HEADER_TABLE_SIZE {
                other.hpack.allow(u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]));
            }
        }
    }

    fn recv_block(&mut self, now: u64, from: End, finished: &mut VecDeque<Exchange>) -> Result<(), Lost> {
        let direction = self.direction(from);
        let Some((frame, block)) = direction.block.take() else { return Ok(()) };
        let (mut method, mut status, mut forwarded_for) = (None, None, None);
        direction.hpack.read(&block, |field| match field {
            Field::Method(name) => method = Some(name.clone()),
            Field::Status(code) => status = Some(*code),
            Field::ForwardedFor(first) => drop(forwarded_for.get_or_insert_with(|| first.to_string())),
            Field::Other => {}
        })?;
        if frame.kind == PUSH_PROMISE {
            return Ok(()); // nobody asked for what follows
        }
        match (from, self.running.get_mut(&frame.stream)) {
            (End::Client, None) if frame.stream > self.latest => {
                if self.running.len() >= MAX_RUNNING {
                    return Err(Lost);
                }
                self.latest = frame.stream;
                let mut exchange = Exchange::new("HTTP/2", now, &method.ok_or(Lost)?);
                (exchange.stream, exchange.forwarded_for) = (Some(frame.stream), forwarded_for);
                let running = Running { exchange, is_asked: false, is_answered: false };
                self.running.insert(frame.stream, running);
            }
            (End::Server, Some(Running { exchange, .. })) if status.is_some_and(|code| code >= 200) => {
                (exchange.status, exchange.answered) = (status, Some(now));
            }
            _ => {} // trailers, an answer that is not final, or late
        }
        if frame.has(END_STREAM) {
            self.message_over(now, from, frame.stream, finished);
        }
        Ok(())
    }

    fn message_over(&mut self, now: u64, from: End, stream: u32, finished: &mut VecDeque<Exchange>) {
        let Some(running) = self.running.get_mut(&stream) else { return };
        match from {
            End::Client => running.is_asked = true,
            End::Server => running.is_answered = true,
        }
        if running.is_asked && running.is_answered {
            self.stream_over(now, stream, finished);
        }
    }

    fn stream_over(&mut self, now: u64, stream: u32, finished: &mut VecDeque<Exchange>) {
        let running = self.running.remove(&stream);
        finished.extend(running.map(|running| Exchange { ended: Some(now), ..running.exchange }));
    }
}

impl Direction {
    /// The nine octets in front of each frame, once they are there.
    fn take_header(&mut self, octets: &mut &[u8]) -> Result<(), Lost> {
        let count = (FRAME_HEADER_BYTES - self.header.len()).min(octets.len());
        self.header.extend_from_slice(&octets[..count]);
        *octets = &octets[count..];
        let &[a, b, c, kind, flags, ref stream @ ..] = &*self.header else { return Ok(()) };
        let Ok(stream) = <[u8; 4]>::try_from(stream) else { return Ok(()) };
        let left = u32::from_be_bytes([0, a, b, c]) as usize;
        let frame = Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, left, padding: None };
        if frame.is_read() && left > MAX_HEAD_BYTES {
            return Err(Lost);
        }
        self.frame = Some(frame);
        Ok(())
    }
}

/// The block of headers in a frame: without padding, priority and promised stream.
fn unpadded(frame: Frame, payload: &[u8]) -> Option<&[u8]> {
    let (padding, rest) = match payload.split_first() {
        Some((padding, rest)) if frame.has(PADDED) => (usize::from(*padding), rest),
        _ => (0, payload),
    };
    let in_front = match frame.kind {
        PUSH_PROMISE => PROMISE_BYTES,
        HEADERS if frame.has(PRIORITY) => PRIORITY_BYTES,
        _ => 0,
    };
    rest.get(in_front..rest.len().checked_sub(padding)?)
}
