//! Reads the head of a service's answer.
//!
//! A service is trusted more than a client, but its answers must have one reading, too: what
//! follows one on a connection is the next client's.
//!
//! 1. Lines may end in a bare LF, as old services write them.
//! 2. Content-Length may be repeated if it says the same; otherwise, and beside
//!    Transfer-Encoding, the answer is malformed.
//! 3. Transfer-Encoding is exactly `chunked`, and not on HTTP/1.0.
//! 4. 1xx, 204, 304 and the answer to HEAD have no body, whatever their fields say.

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{ConnectionOptions, Framing, decimal, wire};

/// The longest head of an answer.
const BYTES_MAX: usize = 256 << 10;

/// The most fields of an answer.
const FIELDS_MAX: usize = 256;

/// The head of an answer, and how its body ends.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    /// Where it is not the usual one.
    pub(crate) reason: Option<Reason>,
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    /// The service will take another request on the connection.
    pub(crate) keep_alive: bool,
}

/// The service's own words for a status.
#[derive(Clone, Debug)]
pub(crate) struct Reason(pub(crate) Bytes);

/// Why an answer cannot be passed on. Fits after "the answer is malformed: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MalformedResponse {
    #[error("its head has more than {BYTES_MAX} bytes or {FIELDS_MAX} fields")]
    TooLarge,
    #[error("it does not start with a status line")]
    StatusLine,
    #[error("a header field of it is malformed")]
    Field,
    #[error("its Content-Length is not one plain number")]
    ContentLength,
    #[error("its Transfer-Encoding is not chunked")]
    TransferEncoding,
    #[error("it has a Content-Length beside Transfer-Encoding")]
    TwoLengths,
}

/// Takes a head off the front of `unread`, the answer to a request with `method`. `None` where
/// it is not whole yet. `empty` makes the map for its fields.
pub(crate) fn take(
    unread: &mut BytesMut,
    method: &Method,
    empty: impl FnOnce() -> HeaderMap,
) -> Result<Option<ResponseHead>, MalformedResponse> {
    let Some(end) = find_end(unread) else {
        // What is no answer at all is not waited for.
        if !unread.starts_with(&b"HTTP/1."[..unread.len().min(7)]) {
            return Err(MalformedResponse::StatusLine);
        }
        return if unread.len() > BYTES_MAX { Err(MalformedResponse::TooLarge) } else { Ok(None) };
    };
    if end > BYTES_MAX {
        return Err(MalformedResponse::TooLarge);
    }
    read(&wire::take(unread, end), method, empty()).map(Some)
}

/// Behind the empty line.
fn find_end(input: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', input).find_map(|at| match input.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

fn read(
    head: &Bytes,
    method: &Method,
    empty: HeaderMap,
) -> Result<ResponseHead, MalformedResponse> {
    let (line, mut rest) = split_line(head);
    let (http_11, status, reason) = read_status_line(line)?;
    let mut fields = Fields::new(http_11, empty);
    loop {
        let (line, behind) = split_line(rest);
        if line.is_empty() {
            break;
        }
        fields.read(head, line)?;
        rest = behind;
    }
    let usual = status.canonical_reason().is_some_and(|usual| usual.as_bytes() == reason);
    Ok(ResponseHead {
        status,
        reason: (!usual && !reason.is_empty()).then(|| Reason(head.slice_ref(reason))),
        framing: fields.framing(status, method)?,
        keep_alive: fields.keep_alive,
        headers: fields.headers,
    })
}

/// The first line of `rest` without its end, and what is behind it.
fn split_line(rest: &[u8]) -> (&[u8], &[u8]) {
    let Some(end) = memchr::memchr(b'\n', rest) else { return (rest, &[]) };
    let line = &rest[..end];
    (line.strip_suffix(b"\r").unwrap_or(line), &rest[end + 1..])
}

/// Whether the version is 1.1, the status and the reason.
fn read_status_line(line: &[u8]) -> Result<(bool, StatusCode, &[u8]), MalformedResponse> {
    const FAULT: MalformedResponse = MalformedResponse::StatusLine;
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(FAULT)?;
    let (http_11, rest) = match rest {
        [b'1', b' ', rest @ ..] => (true, rest),
        [b'0', b' ', rest @ ..] => (false, rest),
        _ => return Err(FAULT),
    };
    let (digits, rest) = rest.split_at_checked(3).ok_or(FAULT)?;
    let status = StatusCode::from_bytes(digits).map_err(|_| FAULT)?;
    match rest {
        [] => Ok((http_11, status, &[])),
        [b' ', reason @ ..] => {
            let plain =
                reason.iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f));
            if plain { Ok((http_11, status, reason)) } else { Err(FAULT) }
        }
        _ => Err(FAULT),
    }
}

struct Fields {
    http_11: bool,
    headers: HeaderMap,
    count: usize,
    length: Option<u64>,
    chunked: bool,
    keep_alive: bool,
}

impl Fields {
    fn new(http_11: bool, headers: HeaderMap) -> Self {
        Self { http_11, headers, count: 0, length: None, chunked: false, keep_alive: http_11 }
    }

    fn read(&mut self, head: &Bytes, line: &[u8]) -> Result<(), MalformedResponse> {
        const FAULT: MalformedResponse = MalformedResponse::Field;
        self.count += 1;
        if self.count > FIELDS_MAX {
            return Err(MalformedResponse::TooLarge);
        }
        let colon = memchr::memchr(b':', line).ok_or(FAULT)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| FAULT)?;
        let value = line[colon + 1..].trim_ascii();
        match name {
            CONTENT_LENGTH => {
                const LENGTH: MalformedResponse = MalformedResponse::ContentLength;
                let length = decimal(value).ok_or(LENGTH)?;
                match self.length.replace(length) {
                    Some(first) if first != length => return Err(LENGTH),
                    Some(_) => return Ok(()),
                    None => {}
                }
            }
            TRANSFER_ENCODING => {
                if self.chunked || !self.http_11 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(MalformedResponse::TransferEncoding);
                }
                self.chunked = true;
                return Ok(());
            }
            CONNECTION => {
                let options = ConnectionOptions::read(value);
                self.keep_alive = options.keep(self.keep_alive, self.http_11);
                if !options.others {
                    return Ok(());
                }
            }
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(head.slice_ref(value)).map_err(|_| FAULT)?;
        self.headers.append(name, value);
        Ok(())
    }

    fn framing(
        &mut self,
        status: StatusCode,
        method: &Method,
    ) -> Result<Framing, MalformedResponse> {
        if self.chunked && self.length.is_some() {
            return Err(MalformedResponse::TwoLengths);
        }
        let bodiless = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
            || *method == Method::HEAD;
        Ok(match (bodiless, self.chunked, self.length) {
            (true, ..) => Framing::None,
            (false, true, _) => Framing::Chunked,
            (false, false, Some(length)) => Framing::Length(length),
            (false, false, None) => {
                self.keep_alive = false;
                Framing::UntilClose
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &Method, text: &str) -> Result<Option<ResponseHead>, MalformedResponse> {
        take(&mut BytesMut::from(text), method, HeaderMap::new)
    }

    #[test]
    fn the_body_ends_as_the_fields_and_the_request_say() {
        for (method, text, framing, keep_alive) in [
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), true),
            (Method::GET, "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), true),
            (Method::GET, "HTTP/1.1 200 OK\nContent-Length: 5\n\n", Framing::Length(5), true),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                Framing::Length(5),
                true,
            ),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nConnection: x, Close\r\n\r\n",
                Framing::Chunked,
                false,
            ),
            (Method::GET, "HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose, false),
            (
                Method::GET,
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
                Framing::Length(1),
                false,
            ),
            (
                Method::GET,
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n",
                Framing::Length(1),
                true,
            ),
            (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::None, true),
            (
                Method::GET,
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                Framing::None,
                true,
            ),
            (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", Framing::None, true),
            (Method::GET, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", Framing::None, true),
        ] {
            let head = read(&method, text).unwrap().unwrap();
            assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{text:?}");
            assert!(head.headers.get_all(CONTENT_LENGTH).iter().count() <= 1, "{text:?}");
        }
    }

    #[test]
    fn what_has_two_readings_is_malformed() {
        use MalformedResponse::{
            ContentLength, Field, StatusLine, TooLarge, TransferEncoding, TwoLengths,
        };
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(BYTES_MAX));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_MAX + 1));
        for (text, want) in [
            ("garbage", StatusLine),
            ("HTTP/2 200 OK\r\n\r\n", StatusLine),
            ("HTTP/1.1 2xx OK\r\n\r\n", StatusLine),
            ("HTTP/1.1 20\r\n\r\n", StatusLine),
            ("HTTP/1.1 2000\r\n\r\n", StatusLine),
            ("HTTP/1.1 200 a\rb\r\n\r\n", StatusLine),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Field),
            ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", Field),
            ("HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n", Field),
            ("HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", Field),
            ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", Field),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", ContentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", ContentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", ContentLength),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", TransferEncoding),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                TwoLengths,
            ),
            (&long, TooLarge),
            (&many, TooLarge),
        ] {
            let got = read(&Method::GET, text).err();
            assert_eq!(got, Some(want), "{:?}", text.get(..80).unwrap_or(text));
        }
    }

    #[test]
    fn an_unfinished_head_is_waited_for_and_what_follows_a_head_stays() {
        let text = "HTTP/1.1 404 Nothing Here\r\nX: y\r\n\r\nbody";
        for end in 0..text.len() - 4 {
            assert!(read(&Method::GET, text.get(..end).unwrap()).unwrap().is_none(), "{end}");
        }
        let mut unread = BytesMut::from(text);
        let head = take(&mut unread, &Method::GET, HeaderMap::new).unwrap().unwrap();
        assert_eq!((&unread[..], head.status), (&b"body"[..], StatusCode::NOT_FOUND));
        assert_eq!(head.reason.unwrap().0, "Nothing Here");
    }
}
