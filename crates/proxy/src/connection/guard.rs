//! Reads the bytes of an HTTP/1 connection before hyper does, and lets only one reading pass.
//!
//! hyper is lenient where RFC 9112 allows it: it drops a Content-Length beside a
//! Transfer-Encoding, takes a bare LF for a line end, and answers what it cannot parse by
//! itself. A gateway may be none of that, since what it lets through is read a second time by a
//! service that may be lenient in another way. So the guard follows the framing of every
//! message and releases a head only when it is whole and right:
//!
//! 1. Lines end in CRLF. A bare LF, a bare CR or a NUL is refused.
//! 2. The request line is a token, one space, a target that `http` can parse, one space,
//!    `HTTP/1.0` or `HTTP/1.1`.
//! 3. A field is a token, a colon and a value without control bytes other than tab. Space before
//!    the colon and folded lines are refused.
//! 4. Content-Length is 1 to 18 digits and never differs from a second one;
//!    Transfer-Encoding is exactly `chunked`, never on HTTP/1.0, never beside a Content-Length.
//! 5. HTTP/1.1 has exactly one Host; HTTP/1.0 at most one.
//! 6. A head has at most so many bytes and fields; both are counted while it arrives.
//! 7. A chunk's size is 1 to 15 hex digits; its extensions and the trailers are bounded, and
//!    follow rules 1 and 3.
//! 8. After a request that asks for an upgrade, nothing is released until the service has
//!    decided what the bytes are.

use std::ops::Range;

use seaworthy_policy::problem::Code;

/// Bounds on one head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub(crate) bytes_max: usize,
    pub(crate) fields_max: usize,
}

/// Bytes that the extensions of one chunk, or all trailers of a body, may take.
const CHUNK_EXTRAS_MAX: usize = 4096;

/// Follows one connection from its first byte to its last.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: HeadLimits,
    state: State,
    /// Bytes of the unfinished head that are known to hold no end of it.
    searched: usize,
    heads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body { left: u64, then: After },
    Chunked { at: Chunk, then: After },
    AwaitDecision,
    Tunnel,
    Refused,
}

/// What follows a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Head,
    Decision,
}

impl After {
    const fn state(self) -> State {
        match self {
            Self::Head => State::Head,
            Self::Decision => State::AwaitDecision,
        }
    }
}

/// The next byte of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        value: u64,
        seen: usize,
    },
    SizeLf {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// The start of a trailer line; `seen` counts all trailer bytes.
    TrailerStart {
        seen: usize,
    },
    TrailerName {
        seen: usize,
    },
    TrailerValue {
        seen: usize,
    },
    TrailerLf {
        seen: usize,
    },
    EndLf,
}

/// What a call to [`Guard::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The front part of the input that may be handed on.
    pub(crate) clear: usize,
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The head after `clear` is refused: nothing of it was handed on.
    Head(Refusal),
    /// The body breaks its framing: some of its message was handed on already.
    Body,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// One sentence for the client.
    pub(crate) detail: &'static str,
}

const fn refusal(code: Code, detail: &'static str) -> Refusal {
    Refusal { code, detail }
}

impl Guard {
    pub(crate) const fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::Head, searched: 0, heads: 0 }
    }

    /// Heads released so far.
    pub(crate) const fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the bytes so far end with a whole message.
    pub(crate) const fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Head)
    }

    pub(crate) const fn awaits_decision(&self) -> bool {
        matches!(self.state, State::AwaitDecision)
    }

    pub(crate) const fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// The service has answered the request that asked for an upgrade.
    pub(crate) fn decide(&mut self, tunnel: bool) {
        if self.awaits_decision() {
            self.state = if tunnel { State::Tunnel } else { State::Head };
        }
    }

    /// From here on every byte belongs to another protocol (HTTP/2 by prior knowledge).
    pub(crate) fn open(&mut self) {
        self.state = State::Tunnel;
    }

    /// Nothing more is read from this client.
    pub(crate) fn refuse(&mut self) {
        self.state = State::Refused;
    }

    /// Reads on. `input` starts with what the last call did not clear.
    pub(crate) fn scan(&mut self, input: &[u8]) -> Scan {
        let mut clear = 0;
        while clear < input.len() {
            let rest = &input[clear..];
            match self.state {
                State::Head => match self.scan_head(rest) {
                    Ok(Some(length)) => clear += length,
                    Ok(None) => break,
                    Err(refusal) => {
                        self.state = State::Refused;
                        return Scan { clear, fault: Some(Fault::Head(refusal)) };
                    }
                },
                State::Body { left, then } => {
                    let taken = left.min(rest.len() as u64);
                    clear += taken as usize;
                    self.state = match left - taken {
                        0 => then.state(),
                        left => State::Body { left, then },
                    };
                }
                State::Chunked { at, then } => match scan_chunked(at, rest) {
                    Ok((taken, Some(at))) => {
                        clear += taken;
                        self.state = State::Chunked { at, then };
                    }
                    Ok((taken, None)) => {
                        clear += taken;
                        self.state = then.state();
                    }
                    Err(MalformedChunk) => {
                        self.state = State::Refused;
                        return Scan { clear, fault: Some(Fault::Body) };
                    }
                },
                State::Tunnel => clear = input.len(),
                State::AwaitDecision | State::Refused => break,
            }
        }
        Scan { clear, fault: None }
    }

    /// Returns the length of the head at the front of `input`, or `None` where it goes on.
    fn scan_head(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        let Some(end) = find_end(input, self.searched) else {
            if input.len() > self.limits.bytes_max {
                return Err(self.too_large());
            }
            check_unfinished(input, self.searched)?;
            self.searched = input.len().saturating_sub(3);
            return Ok(None);
        };
        self.searched = 0;
        if end > self.limits.bytes_max {
            return Err(self.too_large());
        }
        let head = Head::read(&input[..end], self.limits.fields_max)?;
        let then = if head.upgrade { After::Decision } else { After::Head };
        self.state = match head.framing {
            Framing::None | Framing::Length(0) => then.state(),
            Framing::Length(left) => State::Body { left, then },
            Framing::Chunked => State::Chunked { at: Chunk::Size { value: 0, digits: 0 }, then },
        };
        self.heads += 1;
        Ok(Some(end))
    }

    const fn too_large(&self) -> Refusal {
        refusal(Code::HeadTooLarge, "The request line and the header fields are too long together.")
    }
}

/// The end of the head: behind its empty line. Leading empty lines belong to the head, as RFC
/// 9112, 2.2 lets a client send one too many.
fn find_end(input: &[u8], searched: usize) -> Option<usize> {
    let mut leading = 0;
    while input[leading..].starts_with(b"\r\n") {
        leading += 2;
    }
    let from = searched.max(leading);
    let rest = input.get(from..)?;
    memchr::memmem::find(rest, b"\r\n\r\n").map(|at| from + at + 4)
}

/// Refuses early what no later byte can mend, so that a client that only knows LF is told at
/// once and not after a timeout.
fn check_unfinished(input: &[u8], searched: usize) -> Result<(), Refusal> {
    for at in memchr::memchr_iter(b'\n', &input[searched..]).map(|at| searched + at) {
        if at == 0 || input[at - 1] != b'\r' {
            return Err(BARE_LF);
        }
    }
    Ok(())
}

const BARE_LF: Refusal =
    refusal(Code::MalformedRequest, "A line of the request head does not end in CR LF.");

enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// What matters of a head for the framing of its connection.
struct Head {
    framing: Framing,
    upgrade: bool,
}

impl Head {
    fn read(head: &[u8], fields_max: usize) -> Result<Self, Refusal> {
        let mut lines = Lines { rest: head };
        let mut request_line = lines.next_line()?;
        while request_line.is_empty() {
            request_line = lines.next_line()?;
        }
        let http_11 = read_request_line(request_line)?;
        let mut fields = Fields { http_11, ..Fields::default() };
        let mut count = 0;
        loop {
            let line = lines.next_line()?;
            if line.is_empty() {
                break;
            }
            count += 1;
            if count > fields_max {
                return Err(refusal(Code::HeadTooLarge, "There are too many header fields."));
            }
            fields.read(line)?;
        }
        fields.finish()
    }
}

/// Splits a head at its CRLFs and refuses every other control byte on the way.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn next_line(&mut self) -> Result<&'a [u8], Refusal> {
        // The head ends in CRLF CRLF, so there is always one more line end.
        let at = memchr::memchr(b'\n', self.rest).ok_or(BARE_LF)?;
        let line = self.rest[..at].strip_suffix(b"\r").ok_or(BARE_LF)?;
        self.rest = &self.rest[at + 1..];
        // Without an early exit the loop is vectorised.
        let bad =
            line.iter().fold(false, |bad, b| bad | ((*b < 0x20) & (*b != b'\t')) | (*b == 0x7f));
        if bad {
            return Err(refusal(Code::MalformedRequest, "The request head has a control byte."));
        }
        Ok(line)
    }
}

/// Returns whether the version is 1.1.
fn read_request_line(line: &[u8]) -> Result<bool, Refusal> {
    const SHAPE: Refusal =
        refusal(Code::MalformedRequest, "The request line is not METHOD SP target SP HTTP/1.1.");
    let first = memchr::memchr(b' ', line).ok_or(SHAPE)?;
    let last = memchr::memrchr(b' ', line).filter(|last| *last > first).ok_or(SHAPE)?;
    let (method, target, version) = (&line[..first], &line[first + 1..last], &line[last + 1..]);
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(SHAPE);
    }
    let http_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        other if other.starts_with(b"HTTP/") => {
            return Err(refusal(
                Code::VersionNotSupported,
                "The gateway speaks HTTP/1.x and HTTP/2.",
            ));
        }
        _ => return Err(SHAPE),
    };
    const TARGET: Refusal = refusal(
        Code::MalformedTarget,
        "The target is empty, has a fragment, or has a byte that must be percent-encoded.",
    );
    if target.is_empty() || memchr::memchr2(b'#', b' ', target).is_some() {
        return Err(TARGET);
    }
    // The usual bytes are accepted without asking the parser, which would cost a copy.
    let plain = target[0] == b'/' && target.iter().all(|byte| is_plain_target(*byte));
    if !plain && method != b"CONNECT" {
        let parsed = http::Uri::try_from(target).map_err(|_| TARGET)?;
        let absolute = matches!(parsed.scheme_str(), Some("http" | "https"));
        if target[0] != b'/' && target != b"*" && !absolute {
            return Err(TARGET);
        }
    }
    if method == b"CONNECT" && http::Uri::try_from(target).is_err() {
        return Err(TARGET);
    }
    Ok(http_11)
}

/// The fields that decide where the message ends.
#[derive(Default)]
struct Fields {
    http_11: bool,
    hosts: u8,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Fields {
    fn read(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(refusal(
                Code::MalformedRequest,
                "A header field is folded over two lines.",
            ));
        }
        let colon = memchr::memchr(b':', line)
            .ok_or(refusal(Code::MalformedRequest, "A header field has no colon."))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(refusal(
                Code::MalformedRequest,
                "A header field's name is empty or has a space or another forbidden byte.",
            ));
        }
        // Lengths first: most fields are told apart without looking at their letters.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts = self.hosts.saturating_add(1),
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.read_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.read_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn read_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let length = decimal(value)
            .ok_or(refusal(Code::AmbiguousFraming, "Content-Length is not a plain number."))?;
        if self.length.is_some_and(|first| first != length) {
            return Err(refusal(
                Code::AmbiguousFraming,
                "There are two different Content-Lengths.",
            ));
        }
        self.length = Some(length);
        Ok(())
    }

    fn read_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(refusal(
                Code::AmbiguousFraming,
                "The only Transfer-Encoding accepted is chunked, once.",
            ));
        }
        self.chunked = true;
        Ok(())
    }

    fn finish(self) -> Result<Head, Refusal> {
        if self.hosts > 1 || (self.http_11 && self.hosts == 0) {
            return Err(refusal(Code::MissingHost, "There must be exactly one Host field."));
        }
        let framing = match (self.chunked, self.length) {
            (true, Some(_)) => {
                return Err(refusal(
                    Code::AmbiguousFraming,
                    "There is a Content-Length beside Transfer-Encoding.",
                ));
            }
            (true, None) if !self.http_11 => {
                return Err(refusal(
                    Code::AmbiguousFraming,
                    "Transfer-Encoding does not exist in HTTP/1.0.",
                ));
            }
            (true, None) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        };
        Ok(Head { framing, upgrade: self.upgrade && self.http_11 })
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0, |number: u64, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

struct MalformedChunk;

/// Moves through a chunked body. Returns how many bytes were taken, and where the body stands,
/// or `None` behind its last byte.
fn scan_chunked(mut at: Chunk, input: &[u8]) -> Result<(usize, Option<Chunk>), MalformedChunk> {
    let mut taken = 0;
    while taken < input.len() {
        if let Chunk::Data { left } = at {
            let step = left.min((input.len() - taken) as u64);
            taken += step as usize;
            at = if step == left { Chunk::DataCr } else { Chunk::Data { left: left - step } };
            continue;
        }
        let byte = input[taken];
        taken += 1;
        match at.next(byte)? {
            Some(next) => at = next,
            None => return Ok((taken, None)),
        }
    }
    Ok((taken, Some(at)))
}

impl Chunk {
    /// The state after `byte`; `None` where the body is complete.
    fn next(self, byte: u8) -> Result<Option<Self>, MalformedChunk> {
        let bounded =
            |seen: usize| if seen < CHUNK_EXTRAS_MAX { Ok(seen + 1) } else { Err(MalformedChunk) };
        let is_text = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        Ok(Some(match (self, byte) {
            (Self::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Self::Size { value: value << 4 | digit, digits: digits + 1 }
            }
            (Self::Size { value, digits: 1.. }, b'\r') => Self::SizeLf { value },
            (Self::Size { value, digits: 1.. }, b';') => Self::Extension { value, seen: 0 },
            (Self::Extension { value, .. }, b'\r') => Self::SizeLf { value },
            (Self::Extension { value, seen }, _) if is_text => {
                Self::Extension { value, seen: bounded(seen)? }
            }
            (Self::SizeLf { value: 0 }, b'\n') => Self::TrailerStart { seen: 0 },
            (Self::SizeLf { value }, b'\n') => Self::Data { left: value },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { value: 0, digits: 0 },
            (Self::TrailerStart { .. }, b'\r') => Self::EndLf,
            (Self::TrailerStart { seen } | Self::TrailerName { seen }, _) if is_token(byte) => {
                Self::TrailerName { seen: bounded(seen)? }
            }
            (Self::TrailerName { seen }, b':') => Self::TrailerValue { seen: bounded(seen)? },
            (Self::TrailerValue { seen }, b'\r') => Self::TrailerLf { seen: bounded(seen)? },
            (Self::TrailerValue { seen }, _) if is_text => {
                Self::TrailerValue { seen: bounded(seen)? }
            }
            (Self::TrailerLf { seen }, b'\n') => Self::TrailerStart { seen: bounded(seen)? },
            (Self::EndLf, b'\n') => return Ok(None),
            _ => return Err(MalformedChunk),
        }))
    }
}

const fn table(accept: &[u8], ranges: &[Range<u8>]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < accept.len() {
        table[accept[i] as usize] = true;
        i += 1;
    }
    let mut r = 0;
    while r < ranges.len() {
        let mut byte = ranges[r].start;
        while byte < ranges[r].end {
            table[byte as usize] = true;
            byte += 1;
        }
        r += 1;
    }
    table
}

const ALPHANUMERIC: &[Range<u8>] = &[b'0'..b'9' + 1, b'A'..b'Z' + 1, b'a'..b'z' + 1];
const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~", ALPHANUMERIC);
const PLAIN_TARGET: [bool; 256] = table(b"/?=&%.-_~+,:;@!$'()*", ALPHANUMERIC);

const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const fn is_plain_target(byte: u8) -> bool {
    PLAIN_TARGET[byte as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guard() -> Guard {
        Guard::new(HeadLimits { bytes_max: 1024, fields_max: 10 })
    }

    fn refused(head: &str) -> Code {
        let scan = guard().scan(head.as_bytes());
        match scan.fault {
            Some(Fault::Head(refusal)) if scan.clear == 0 => refusal.code,
            other => panic!("{head:?}: {other:?}, {} bytes cleared", scan.clear),
        }
    }

    #[test]
    fn whole_messages_pass_and_the_next_one_is_found() {
        for message in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET /a%20b?c={d}|e HTTP/1.1\r\nHost: a\r\nX: \x09\u{e9} b \r\n\r\n",
            "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nSum: 1\r\n\r\n",
        ] {
            let twice = format!("{message}{message}");
            let mut guard = guard();
            assert_eq!(
                guard.scan(twice.as_bytes()),
                Scan { clear: twice.len(), fault: None },
                "{message:?}"
            );
            assert!(guard.is_between_messages(), "{message:?}");
            assert_eq!(guard.heads(), 2, "{message:?}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        use Code::{
            AmbiguousFraming, HeadTooLarge, MalformedRequest, MalformedTarget, MissingHost,
            VersionNotSupported,
        };
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1024));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10));
        for (head, want) in [
            ("GET / HTTP/1.1\nHost: a\n\n", MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n", MalformedRequest),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", MalformedRequest),
            ("GET /\r\nHost: a\r\n\r\n", MalformedRequest),
            ("GET  HTTP/1.1\r\nHost: a\r\n\r\n", MalformedTarget),
            ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", MalformedRequest),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", VersionNotSupported),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", MalformedTarget),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", MalformedTarget),
            ("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", MalformedTarget),
            ("GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", MalformedTarget),
            ("GET / HTTP/1.1\r\n\r\n", MissingHost),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", MissingHost),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", MissingHost),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                AmbiguousFraming,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                AmbiguousFraming,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                AmbiguousFraming,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", AmbiguousFraming),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", AmbiguousFraming),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", AmbiguousFraming),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", AmbiguousFraming),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", AmbiguousFraming),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                AmbiguousFraming,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
                AmbiguousFraming,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                AmbiguousFraming,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", AmbiguousFraming),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                AmbiguousFraming,
            ),
            ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", AmbiguousFraming),
            (long.as_str(), HeadTooLarge),
            (many.as_str(), HeadTooLarge),
        ] {
            assert_eq!(refused(head), want, "{head:?}");
        }
    }

    #[test]
    fn a_malformed_chunk_ends_the_message() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let bodies = [
            "\r\n",
            "x\r\n",
            "5\nhello",
            "5 \r\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "-5\r\n",
            "0x5\r\n",
            "1111111111111111\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "5;a\nb\r\n",
            "0\r\n\n",
        ];
        for body in bodies {
            let scan = guard().scan(format!("{head}{body}").as_bytes());
            assert_eq!(scan.fault, Some(Fault::Body), "{body:?}");
            assert!(scan.clear <= head.len() + body.len());
        }
        let endless = format!("{head}0\r\n{}", "X: y\r\n".repeat(1000));
        assert_eq!(guard().scan(endless.as_bytes()).fault, Some(Fault::Body));
    }

    #[test]
    fn nothing_passes_behind_an_upgrade_until_it_is_decided() {
        let head =
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let early = format!("{head}\x01\x02");
        let mut guard = guard();
        assert_eq!(guard.scan(early.as_bytes()), Scan { clear: head.len(), fault: None });
        assert_eq!(guard.scan(b"\x01\x02"), Scan { clear: 0, fault: None });
        guard.decide(true);
        assert_eq!(guard.scan(b"\x01\x02"), Scan { clear: 2, fault: None });
    }

    proptest! {
        /// However the bytes are cut into reads, the same ones pass and the same fault is found.
        #[test]
        fn cuts_do_not_matter(
            body in proptest::collection::vec(any::<u8>(), 0..40),
            cuts in proptest::collection::vec(1usize..20, 0..60),
            chunked: bool, broken: bool,
        ) {
            let mut message = if chunked {
                let mut text = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                text.extend(format!("{:x}\r\n", body.len().max(1)).bytes());
                text.extend(if body.is_empty() { &b"."[..] } else { &body });
                text.extend(b"\r\n0\r\n\r\n");
                text
            } else {
                let text = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
                [text.as_bytes(), &body].concat()
            };
            message.extend(if broken { &b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"[..] } else { b"GET / HTTP/1.0\r\n\r\n" });

            let whole = guard().scan(&message);
            let (mut guard, mut held, mut passed, mut fault) = (guard(), Vec::new(), 0, None);
            let mut rest = &message[..];
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() && fault.is_none() {
                let (piece, behind) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
                rest = behind;
                held.extend_from_slice(piece);
                let scan = guard.scan(&held);
                held.drain(..scan.clear);
                passed += scan.clear;
                fault = scan.fault;
            }
            prop_assert_eq!(passed, whole.clear);
            prop_assert_eq!(fault, whole.fault);
            prop_assert_eq!(whole.fault.is_some(), broken);
        }
    }
}
