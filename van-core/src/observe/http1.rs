//! HTTP/1.0 and 1.1 (RFC 9112): heads are parsed, bodies counted.
//!
//! ```text
//!   head --> body of a length, in chunks, or to the end --> head ...
//!     '----> no body ------------------------------------^
//! ```

use std::borrow::Cow;
use std::collections::VecDeque;

use super::{End, Exchange, Lost, MAX_HEAD_BYTES, MAX_RUNNING, cut, first_address};

/// As much of a head tells whether it is one of HTTP.
const BEGINNING_BYTES: usize = 64;

/// Headers of one head; an observer gives up beyond.
const MAX_HEADERS: usize = 128;

/// Octets of a line between chunks.
const MAX_LINE_BYTES: usize = 4096;

/// Both directions of a connection.
#[derive(Debug, Default)]
pub(super) struct Http1 {
    client: Direction,
    server: Direction,
    /// Requests whose answers are not over, oldest first.
    running: VecDeque<Running>,
    /// It has become another protocol.
    is_tunnel: bool,
}

#[derive(Debug)]
struct Running {
    exchange: Exchange,
    is_asked: bool,
    is_answered: bool,
}

#[derive(Debug, Default)]
struct Direction {
    part: Part,
    /// What came of a head, or of a line between chunks.
    gathered: Vec<u8>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    /// So many octets.
    Length(u64),
    /// The size of a chunk, on a line.
    Size,
    /// So many octets of a chunk.
    Chunk(u64),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk, to an empty one.
    Trailers,
    /// All there is.
    ToTheEnd,
}

/// What a head says of the body.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    is_encoded: bool,
    is_chunked: bool,
}

impl Http1 {
    pub(super) fn observe(
        &mut self,
        now: u64,
        from: End,
        mut octets: &[u8],
        finished: &mut VecDeque<Exchange>,
    ) -> Result<(), Lost> {
        while !octets.is_empty() && !self.is_tunnel {
            let direction = self.direction(from);
            let is_over = if direction.part == Part::Head {
                let Some(head) = direction.take_head(&mut octets)? else { return direction.check_beginning(from) };
                let body = match from {
                    End::Client => Some(self.recv_request(now, &head)?),
                    End::Server => self.recv_answer(now, &head)?,
                };
                self.direction(from).part = body.unwrap_or(Part::Head);
                body == Some(Part::Head)
            } else {
                let (count, is_over) = direction.take_body(&mut octets)?;
                let running = self.current(from).ok_or(Lost)?;
                *running.exchange.body_octets(from) += count;
                is_over
            };
            if is_over {
                self.message_over(now, from, finished)?;
            }
        }
        Ok(())
    }

    pub(super) fn running_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        self.running.iter_mut().map(|running| &mut running.exchange)
    }

    fn direction(&mut self, from: End) -> &mut Direction {
        match from {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        }
    }

    /// Whose body comes, or whose answer.
    fn current(&mut self, from: End) -> Option<&mut Running> {
        match from {
            End::Client => self.running.back_mut(),
            End::Server => self.running.iter_mut().find(|running| !running.is_answered),
        }
    }

    /// What comes behind a request's head; another head if that is nothing.
    fn recv_request(&mut self, now: u64, head: &[u8]) -> Result<Part, Lost> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(head).map_err(|_| Lost)?;
        if self.running.len() >= MAX_RUNNING {
            return Err(Lost);
        }
        let version = if request.version == Some(0) { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut exchange = Exchange::new(version, now, request.method.ok_or(Lost)?);
        let is_forwarded = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("x-forwarded-for");
        exchange.forwarded_for = request.headers.iter().find(is_forwarded).and_then(|it| first_address(it.value));
        let framing = Framing::of(request.headers)?;
        self.running.push_back(Running { exchange, is_asked: false, is_answered: false });
        match framing {
            Framing { is_chunked: true, .. } => Ok(Part::Size),
            Framing { is_encoded: true, .. } => Err(Lost),
            Framing { length, .. } => Ok(length.filter(|length| *length > 0).map_or(Part::Head, Part::Length)),
        }
    }

    /// What comes behind an answer's head; nothing is over if it is not the final one.
    fn recv_answer(&mut self, now: u64, head: &[u8]) -> Result<Option<Part>, Lost> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(head).map_err(|_| Lost)?;
        let code = response.code.ok_or(Lost)?;
        if (100..200).contains(&code) && code != 101 {
            return Ok(None);
        }
        let Running { exchange, .. } = self.current(End::Server).ok_or(Lost)?;
        (exchange.status, exchange.answered) = (Some(code), Some(now));
        exchange.reason = response.reason.filter(|reason| !reason.is_empty()).map(|reason| cut(reason.as_bytes()));
        let has_body = exchange.method != "HEAD" && !matches!(code, 204 | 304);
        self.is_tunnel = code == 101 || exchange.method == "CONNECT" && (200..300).contains(&code);
        let is_tunnel = self.is_tunnel;
        if is_tunnel {
            self.running.iter_mut().for_each(|running| running.is_asked = true);
        }
        Ok(Some(match Framing::of(response.headers)? {
            _ if is_tunnel || !has_body => Part::Head,
            Framing { is_chunked: true, .. } => Part::Size,
            Framing { is_encoded: false, length: Some(0), .. } => Part::Head,
            Framing { is_encoded: false, length: Some(length), .. } => Part::Length(length),
            Framing { .. } => Part::ToTheEnd,
        }))
    }

    fn message_over(&mut self, now: u64, from: End, finished: &mut VecDeque<Exchange>) -> Result<(), Lost> {
        let running = self.current(from).ok_or(Lost)?;
        match from {
            End::Client => running.is_asked = true,
            End::Server => running.is_answered = true,
        }
        while let Some(running) = self.running.pop_front_if(|running| running.is_asked && running.is_answered) {
            finished.push_back(Exchange { ended: Some(now), ..running.exchange });
        }
        Ok(())
    }
}

impl Direction {
    /// A whole head, once it is there. Empty lines in front of it are none.
    fn take_head<'a>(&mut self, octets: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, Lost> {
        if self.gathered.is_empty() {
            let blank = octets.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
            *octets = &octets[blank..];
            if let Some(end) = head_end(octets, 0) {
                let (head, rest) = octets.split_at(end);
                *octets = rest;
                return Ok(Some(Cow::Borrowed(head)));
            }
        }
        let known = self.gathered.len();
        self.gathered.extend_from_slice(octets);
        match head_end(&self.gathered, known.saturating_sub(3)) {
            Some(end) => {
                *octets = &octets[end - known..];
                self.gathered.truncate(end);
                Ok(Some(Cow::Owned(std::mem::take(&mut self.gathered))))
            }
            None if self.gathered.len() > MAX_HEAD_BYTES => Err(Lost),
            None => {
                *octets = &[];
                Ok(None)
            }
        }
    }

    /// Whether what is gathered may become a head: of another protocol nothing is kept.
    fn check_beginning(&self, from: End) -> Result<(), Lost> {
        let beginning = &self.gathered[..self.gathered.len().min(BEGINNING_BYTES)];
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let parsed = match from {
            End::Client => httparse::Request::new(&mut headers).parse(beginning),
            End::Server => httparse::Response::new(&mut headers).parse(beginning),
        };
        parsed.map(drop).map_err(|_| Lost)
    }

    /// Octets of a body. How many belong to it, and whether it is over.
    fn take_body(&mut self, octets: &mut &[u8]) -> Result<(u64, bool), Lost> {
        match self.part {
            Part::Length(left) => {
                let count = skip(octets, left);
                self.part = if count == left { Part::Head } else { Part::Length(left - count) };
                Ok((count, count == left))
            }
            Part::Chunk(left) => {
                let count = skip(octets, left);
                self.part = if count == left { Part::ChunkEnd } else { Part::Chunk(left - count) };
                Ok((count, false))
            }
            Part::ToTheEnd => Ok((skip(octets, u64::MAX), false)),
            Part::Size | Part::ChunkEnd | Part::Trailers => {
                let Some(line) = self.take_line(octets)? else { return Ok((0, false)) };
                self.part = match self.part {
                    Part::Size => match chunk_size(&line)? {
                        0 => Part::Trailers,
                        size => Part::Chunk(size),
                    },
                    Part::ChunkEnd if line.is_empty() => Part::Size,
                    Part::Trailers if line.is_empty() => Part::Head,
                    Part::Trailers => Part::Trailers,
                    _ => return Err(Lost),
                };
                Ok((0, self.part == Part::Head))
            }
            Part::Head => Ok((0, false)),
        }
    }

    /// A line without its end, once that is there.
    fn take_line(&mut self, octets: &mut &[u8]) -> Result<Option<Vec<u8>>, Lost> {
        let end = octets.iter().position(|octet| *octet == b'\n');
        let count = end.map_or(octets.len(), |end| end + 1);
        self.gathered.extend_from_slice(&octets[..count]);
        *octets = &octets[count..];
        if self.gathered.len() > MAX_LINE_BYTES {
            return Err(Lost);
        }
        Ok(end.map(|_| {
            let mut line = std::mem::take(&mut self.gathered);
            line.truncate(line.trim_ascii_end().len());
            line
        }))
    }
}

impl Framing {
    fn of(headers: &[httparse::Header<'_>]) -> Result<Self, Lost> {
        let mut framing = Self::default();
        for httparse::Header { name, value } in headers {
            if name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(value).map_err(|_| Lost)?.trim();
                let length = text.parse().ok().filter(|_| text.bytes().all(|octet| octet.is_ascii_digit()));
                let length = length.ok_or(Lost)?;
                if framing.length.replace(length).is_some_and(|other| other != length) {
                    return Err(Lost);
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                let last = value.rsplit(|octet| *octet == b',').next().unwrap_or_default();
                framing.is_encoded = true;
                framing.is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
        }
        Ok(framing)
    }
}

/// Where the empty line ends that ends a head, looked for from some place on.
fn head_end(octets: &[u8], from: usize) -> Option<usize> {
    let ends = octets[from..].iter().enumerate().filter(|(_, octet)| **octet == b'\n');
    ends.map(|(place, _)| from + place + 1)
        .find(|end| {
            let line = &octets[*end..];
            // The next line, if it is there, is empty.
            line.starts_with(b"\n") || line.starts_with(b"\r\n")
        })
        .map(|end| end + if octets[end] == b'\n' { 1 } else { 2 })
}

/// The size in front of a chunk, in hexadecimal digits; extensions may follow.
fn chunk_size(line: &[u8]) -> Result<u64, Lost> {
    let digits = line.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|octet| octet.is_ascii_hexdigit()));
    text.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or(Lost)
}

/// Passes over octets, so many at most. How many that were.
fn skip(octets: &mut &[u8], most: u64) -> u64 {
    let count = octets.len().min(usize::try_from(most).unwrap_or(usize::MAX));
    *octets = &octets[count..];
    count as u64
}
