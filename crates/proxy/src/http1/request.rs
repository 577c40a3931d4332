//! Reads the head of a client's request, and lets only one reading pass.
//!
//! What is let through is read a second time by a service that may be lenient in its own way,
//! so a head is refused where RFC 9112 lets a recipient repair it:
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

use std::ops::Range;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use memchr::memmem::Finder;
use seaworthy_policy::problem::Code;

use super::{ConnectionOptions, Framing, decimal, wire};

/// Bounds on one head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub(crate) bytes_max: usize,
    pub(crate) fields_max: usize,
}

/// The head of a request, and what it means for its connection.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) parts: http::request::Parts,
    pub(crate) framing: Framing,
    /// The client will send another request on the connection.
    pub(crate) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// One sentence for the client.
    pub(crate) detail: &'static str,
}

/// A head that was refused, with what its answer depends on.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    /// A request for `/` with the method and the fields that say which form of answer is wanted,
    /// as far as they can be told. Nothing else of the head is believed.
    pub(crate) stand_in: Box<http::request::Parts>,
}

impl Refused {
    /// Refuses the head at the front of `unread`.
    pub(crate) fn new(refusal: Refusal, unread: &[u8]) -> Self {
        let (mut stand_in, ()) = Request::new(()).into_parts();
        let mut lines = unread[..unread.len().min(READ_ANYWAY_MAX)]
            .split(|byte| *byte == b'\n')
            .skip_while(|line| line.trim_ascii().is_empty());
        if lines.next().is_some_and(|line| line.starts_with(b"HEAD ")) {
            stand_in.method = Method::HEAD;
        }
        for line in lines {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let Ok(name) = HeaderName::from_bytes(&line[..colon]) else { continue };
            let Ok(value) = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()) else {
                continue;
            };
            if name == ACCEPT || name == SEC_FETCH_MODE {
                stand_in.headers.insert(name, value);
            }
        }
        Self { refusal, stand_in: Box::new(stand_in) }
    }
}

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Bytes of a refused head that are looked at for the form of its answer.
const READ_ANYWAY_MAX: usize = 8 << 10;

const fn refusal(code: Code, detail: &'static str) -> Refusal {
    Refusal { code, detail }
}

const BARE_LF: Refusal =
    refusal(Code::MalformedRequest, "A line of the request head does not end in CR LF.");
const TOO_LARGE: Refusal =
    refusal(Code::HeadTooLarge, "The request line and the header fields are too long together.");

/// Finds the heads on one connection.
#[derive(Debug)]
pub(crate) struct HeadReader {
    limits: HeadLimits,
    /// Bytes of the unfinished head that are known to hold no end of it.
    searched: usize,
}

impl HeadReader {
    pub(crate) const fn new(limits: HeadLimits) -> Self {
        Self { limits, searched: 0 }
    }

    /// Takes a head off the front of `unread`; `None` where it is not whole yet. `empty` makes the
    /// map for its fields.
    pub(crate) fn take(
        &mut self,
        unread: &mut BytesMut,
        empty: impl FnOnce() -> HeaderMap,
    ) -> Result<Option<RequestHead>, Refused> {
        let refuse = |refusal, head: &[u8]| Err(Refused::new(refusal, head));
        let Some(end) = find_end(unread, self.searched) else {
            if unread.len() > self.limits.bytes_max {
                return refuse(TOO_LARGE, unread);
            }
            if let Err(refusal) = check_unfinished(unread, self.searched) {
                return refuse(refusal, unread);
            }
            self.searched = unread.len().saturating_sub(3);
            return Ok(None);
        };
        self.searched = 0;
        if end > self.limits.bytes_max {
            return refuse(TOO_LARGE, unread);
        }
        let head = wire::take(unread, end);
        read(&head, self.limits.fields_max, empty())
            .map(Some)
            .or_else(|refusal| refuse(refusal, &head))
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
    // Built once: that takes longer than most searches.
    static EMPTY_LINE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
    EMPTY_LINE.find(input.get(from..)?).map(|at| from + at + 4)
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

fn read(head: &Bytes, fields_max: usize, empty: HeaderMap) -> Result<RequestHead, Refusal> {
    let mut lines = Lines { rest: head };
    let mut line = lines.next_line()?;
    while line.is_empty() {
        line = lines.next_line()?;
    }
    let (method, uri, version) = read_request_line(head, line)?;
    let mut fields = Fields::new(version, empty);
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
        fields.read(head, line)?;
    }
    let framing = fields.framing()?;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version) = (method, uri, version);
    parts.headers = fields.headers;
    Ok(RequestHead {
        parts,
        framing,
        keep_alive: fields.keep_alive,
        expects_continue: fields.expects_continue && framing != Framing::None,
    })
}

/// Splits a head at its CRLFs.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn next_line(&mut self) -> Result<&'a [u8], Refusal> {
        // The head ends in CRLF CRLF, so there is always one more line end.
        let at = memchr::memchr(b'\n', self.rest).ok_or(BARE_LF)?;
        let line = self.rest[..at].strip_suffix(b"\r").ok_or(BARE_LF)?;
        self.rest = &self.rest[at + 1..];
        Ok(line)
    }
}

fn read_request_line(head: &Bytes, line: &[u8]) -> Result<(Method, Uri, Version), Refusal> {
    const SHAPE: Refusal =
        refusal(Code::MalformedRequest, "The request line is not METHOD SP target SP HTTP/1.1.");
    // Without an early exit the loop is vectorised.
    if line.iter().fold(false, |bad, byte| bad | (*byte < 0x20) | (*byte == 0x7f)) {
        return Err(CONTROL_BYTE);
    }
    let first = memchr::memchr(b' ', line).ok_or(SHAPE)?;
    let last = memchr::memrchr(b' ', line).filter(|last| *last > first).ok_or(SHAPE)?;
    let (method, target, version) = (&line[..first], &line[first + 1..last], &line[last + 1..]);
    let method = Method::from_bytes(method).map_err(|_| SHAPE)?;
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
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
    let uri = Uri::from_maybe_shared(head.slice_ref(target)).map_err(|_| TARGET)?;
    let absolute = matches!(uri.scheme_str(), Some("http" | "https"));
    let known = target[0] == b'/' || target == b"*" || absolute || method == Method::CONNECT;
    if known { Ok((method, uri, version)) } else { Err(TARGET) }
}

const CONTROL_BYTE: Refusal =
    refusal(Code::MalformedRequest, "The request head has a control byte.");

/// The fields, and what those mean that decide where the message ends.
struct Fields {
    http_11: bool,
    headers: HeaderMap,
    has_host: bool,
    length: Option<u64>,
    chunked: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    fn new(version: Version, headers: HeaderMap) -> Self {
        let http_11 = version == Version::HTTP_11;
        Self {
            http_11,
            headers,
            has_host: false,
            length: None,
            chunked: false,
            keep_alive: http_11,
            expects_continue: false,
        }
    }

    fn read(&mut self, head: &Bytes, line: &[u8]) -> Result<(), Refusal> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(refusal(
                Code::MalformedRequest,
                "A header field is folded over two lines.",
            ));
        }
        let colon = memchr::memchr(b':', line)
            .ok_or(refusal(Code::MalformedRequest, "A header field has no colon."))?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| {
            refusal(
                Code::MalformedRequest,
                "A header field's name is empty or has a space or another forbidden byte.",
            )
        })?;
        let value = line[colon + 1..].trim_ascii();
        let text =
            HeaderValue::from_maybe_shared(head.slice_ref(value)).map_err(|_| CONTROL_BYTE)?;
        match name {
            HOST if self.has_host => {
                return Err(refusal(Code::MissingHost, "There must be exactly one Host field."));
            }
            HOST => self.has_host = true,
            CONTENT_LENGTH if !self.read_length(value)? => return Ok(()),
            TRANSFER_ENCODING => return self.read_encoding(value),
            CONNECTION => {
                let options = ConnectionOptions::read(value);
                self.keep_alive = options.keep(self.keep_alive, self.http_11);
                if !options.others {
                    return Ok(());
                }
            }
            EXPECT => self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        self.headers.append(name, text);
        Ok(())
    }

    /// Whether it is the first.
    fn read_length(&mut self, value: &[u8]) -> Result<bool, Refusal> {
        let length = decimal(value)
            .ok_or(refusal(Code::AmbiguousFraming, "Content-Length is not a plain number."))?;
        match self.length.replace(length) {
            Some(first) if first != length => {
                Err(refusal(Code::AmbiguousFraming, "There are two different Content-Lengths."))
            }
            first => Ok(first.is_none()),
        }
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

    fn framing(&self) -> Result<Framing, Refusal> {
        if self.http_11 && !self.has_host {
            return Err(refusal(Code::MissingHost, "There must be exactly one Host field."));
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(refusal(
                Code::AmbiguousFraming,
                "There is a Content-Length beside Transfer-Encoding.",
            )),
            (true, None) if !self.http_11 => Err(refusal(
                Code::AmbiguousFraming,
                "Transfer-Encoding does not exist in HTTP/1.0.",
            )),
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
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

pub(super) const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<RequestHead>, Refused> {
        let limits = HeadLimits { bytes_max: 1024, fields_max: 10 };
        HeadReader::new(limits).take(&mut BytesMut::from(text), HeaderMap::new)
    }

    #[test]
    fn a_head_says_how_its_message_ends() {
        for (head, framing, keep_alive) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None, true),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None, true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", Framing::None, false),
            ("GET / HTTP/1.0\r\n\r\n", Framing::None, false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Framing::None, true),
            (
                "GET /a%20b?c={d}|e HTTP/1.1\r\nHost: a\r\nX: \x09\u{e9} b \r\n\r\n",
                Framing::None,
                true,
            ),
            ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None, true),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None, true),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Framing::None, true),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                Framing::Length(5),
                true,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Framing::Chunked,
                true,
            ),
        ] {
            let read = take(head).unwrap().unwrap();
            assert_eq!((read.framing, read.keep_alive), (framing, keep_alive), "{head:?}");
            assert!(!read.parts.headers.contains_key(TRANSFER_ENCODING));
        }
    }

    #[test]
    fn a_head_is_taken_as_soon_as_it_is_whole_and_no_byte_more() {
        let limits = HeadLimits { bytes_max: 1024, fields_max: 10 };
        let head = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
        let (mut reader, mut unread) = (HeadReader::new(limits), BytesMut::new());
        for byte in &head.as_bytes()[..head.len() - 1] {
            unread.extend_from_slice(&[*byte]);
            assert!(reader.take(&mut unread, HeaderMap::new).unwrap().is_none());
        }
        unread.extend_from_slice(b"\nbodyGET / HTTP/1.0\r\n\r\n");
        assert!(reader.take(&mut unread, HeaderMap::new).unwrap().is_some());
        assert_eq!(&unread[..4], b"body");
        wire::skip(&mut unread, 4);
        assert_eq!(
            reader.take(&mut unread, HeaderMap::new).unwrap().unwrap().parts.version,
            Version::HTTP_10
        );
        assert!(unread.is_empty());
    }

    #[test]
    fn a_refused_head_still_says_which_answer_it_wants() {
        let refused = take("\r\nHEAD / HTTP/1.1\r\nAccept: text/html\r\nHost : a\r\nX: y\r\n\r\n");
        let stand_in = refused.unwrap_err().stand_in;
        assert_eq!((stand_in.method, stand_in.headers.len()), (Method::HEAD, 1));
        assert_eq!(stand_in.headers[ACCEPT], "text/html");
        assert_eq!(take("get / HTTP/1.1\r\n\r\n").unwrap_err().stand_in.method, Method::GET);
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
            ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", MalformedRequest),
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
            assert_eq!(take(head).map(|_| ()).unwrap_err().refusal.code, want, "{head:?}");
        }
    }
}
