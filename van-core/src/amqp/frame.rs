//! Frames: cutting what arrives into performatives and payload, and framing what leaves (AMQP 1.0 §2.3, §5.3.1).
//!
//! Performatives are gathered, if they straddle reads, into a small scratch; payload never is: it is handed on as it lies.

use super::codec::{Decode, DecodeError, Encode, Extent, Reader, described_extent};
use super::performative::Performative;
use super::sasl::SaslFrame;

/// Octets of a frame header without extension.
pub(crate) const HEADER_BYTES: usize = 8;

const AMQP: u8 = 0;
const SASL: u8 = 1;

/// Why octets are no frame of AMQP 1.0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Size, data offset or type of a frame header make no sense.
    #[error("malformed frame header {0:02x?}")]
    Header([u8; HEADER_BYTES]),
    /// A frame larger than we said we take.
    #[error("frame of {size} octets, at most {max} were agreed")]
    TooLarge {
        /// What the header claims.
        size: u32,
        /// What we announced.
        max: u32,
    },
    /// The performative cannot be read.
    #[error("malformed performative: {0}")]
    Performative(#[from] DecodeError),
}

/// What stands at the start of a frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// Nothing: a sign of life.
    Empty,
    Amqp(Performative),
    Sasl(SaslFrame),
}

/// The start of a frame; for a transfer, payload follows through [`FrameReader::payload`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) channel: u16,
    pub(crate) body: Body,
}

/// Cuts an octet stream into frames.
#[derive(Debug)]
pub(crate) struct FrameReader {
    max_frame_bytes: u32,
    /// Octets of a header or performative that came in pieces.
    scratch: Vec<u8>,
    header: Option<Header>,
    /// Payload of the current frame still to come.
    payload_left: usize,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u8,
    channel: u16,
    /// Octets of the extended header still to be passed over.
    extension: usize,
    /// Octets behind the headers.
    body: usize,
}

impl FrameReader {
    pub(crate) fn new(max_frame_bytes: u32) -> Self {
        Self { max_frame_bytes, scratch: Vec::new(), header: None, payload_left: 0 }
    }

    /// Eight octets as they are, for the protocol header in front of all frames.
    pub(crate) fn protocol_header(&mut self, input: &mut &[u8]) -> Option<[u8; HEADER_BYTES]> {
        self.gather::<HEADER_BYTES>(input)
    }

    /// The next frame's start; payload of the frame before must have been taken.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        debug_assert_eq!(self.payload_left, 0, "payload comes first");
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(octets) = self.gather::<HEADER_BYTES>(input) else { return Ok(None) };
                Header::parse(octets, self.max_frame_bytes)?
            }
        };
        let header = self.header.insert(header);
        let skipped = header.extension.min(input.len());
        *input = &input[skipped..];
        header.extension -= skipped;
        let Header { channel, kind, extension, body } = *header;
        if extension > 0 {
            return Ok(None);
        }
        if body == 0 {
            self.header = None;
            return Ok(Some(Frame { channel, body: Body::Empty }));
        }
        self.performative(kind, body, input).map(|body| body.map(|body| Frame { channel, body }))
    }

    /// The payload octets of the current frame that are here; empty if none are, or if it has no more.
    pub(crate) fn payload<'a>(&mut self, input: &mut &'a [u8]) -> &'a [u8] {
        let (payload, rest) = input.split_at(self.payload_left.min(input.len()));
        *input = rest;
        self.payload_left -= payload.len();
        payload
    }

    pub(crate) fn payload_left(&self) -> usize {
        self.payload_left
    }

    /// Exactly N octets: straight from the input if they are all there, else collected over several calls.
    fn gather<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        if self.scratch.is_empty()
            && let Some((octets, rest)) = input.split_first_chunk()
        {
            *input = rest;
            return Some(*octets);
        }
        self.collect(N, input);
        let octets = self.scratch.as_slice().try_into().ok()?;
        self.scratch.clear();
        Some(octets)
    }

    /// Moves octets from the input until the scratch holds `count`, if there are so many.
    fn collect(&mut self, count: usize, input: &mut &[u8]) {
        let (head, rest) = input.split_at(count.saturating_sub(self.scratch.len()).min(input.len()));
        self.scratch.extend_from_slice(head);
        *input = rest;
    }

    fn performative(&mut self, kind: u8, body: usize, input: &mut &[u8]) -> Result<Option<Body>, FrameError> {
        if self.scratch.is_empty() {
            let here = &input[..body.min(input.len())];
            if let Extent::Known(length) = described_extent(here)?
                && length <= here.len()
            {
                *input = &input[length..];
                return self.finish(kind, &here[..length], body - length).map(Some);
            }
        }
        loop {
            let (wanted, is_whole) = match described_extent(&self.scratch)? {
                Extent::Known(length) => (length, true),
                Extent::NeedsMore(count) => (count, false),
            };
            if wanted > body {
                return Err(DecodeError::Truncated.into());
            }
            self.collect(wanted, input);
            if self.scratch.len() < wanted {
                return Ok(None);
            }
            if is_whole {
                let scratch = std::mem::take(&mut self.scratch);
                return self.finish(kind, &scratch, body - wanted).map(Some);
            }
        }
    }

    fn finish(&mut self, kind: u8, octets: &[u8], rest: usize) -> Result<Body, FrameError> {
        self.header = None;
        self.payload_left = rest;
        let mut reader = Reader::new(octets);
        let body = match kind {
            AMQP => Performative::decode(&mut reader).map(Body::Amqp),
            _ => SaslFrame::decode(&mut reader).map(Body::Sasl),
        };
        body.map_err(|error| match error {
            // All its octets are there: what is missing will not come.
            DecodeError::Truncated => DecodeError::Malformed("performative").into(),
            other => other.into(),
        })
    }
}

impl Header {
    fn parse(octets: [u8; HEADER_BYTES], max: u32) -> Result<Self, FrameError> {
        let [s0, s1, s2, s3, offset, kind, c0, c1] = octets;
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        let headers = usize::from(offset) * 4;
        if headers < HEADER_BYTES || (size as usize) < headers || kind > SASL {
            return Err(FrameError::Header(octets));
        }
        if size > max {
            return Err(FrameError::TooLarge { size, max });
        }
        let channel = u16::from_be_bytes([c0, c1]);
        Ok(Self { kind, channel, extension: headers - HEADER_BYTES, body: size as usize - headers })
    }
}

/// Appends a frame; `payload` octets that the caller will add behind it are counted in.
pub(crate) fn write_frame(out: &mut Vec<u8>, channel: u16, performative: &impl Encode, payload: usize) {
    write(out, AMQP, channel, |out| performative.encode(out), payload);
}

/// Appends an empty frame, a sign of life.
pub(crate) fn write_empty(out: &mut Vec<u8>) {
    write(out, AMQP, 0, |_| {}, 0);
}

pub(super) fn write_sasl(out: &mut Vec<u8>, frame: &SaslFrame) {
    write(out, SASL, 0, |out| frame.encode(out), 0);
}

fn write(out: &mut Vec<u8>, kind: u8, channel: u16, body: impl FnOnce(&mut Vec<u8>), payload: usize) {
    let start = out.len();
    let [c0, c1] = channel.to_be_bytes();
    out.extend_from_slice(&[0, 0, 0, 0, 2, kind, c0, c1]);
    body(out);
    let size = (out.len() - start + payload) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}
