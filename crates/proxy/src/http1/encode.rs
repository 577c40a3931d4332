//! Writes heads and the framing of bodies.

use std::io::Write as _;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::{Framing, decimal};

/// `GET /path HTTP/1.1`
pub(crate) fn request_line(out: &mut Vec<u8>, method: &Method, target: &str) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 200 OK`, with the service's own reason where it gave another.
pub(crate) fn status_line(
    out: &mut Vec<u8>,
    version: Version,
    status: StatusCode,
    reason: Option<&[u8]>,
) {
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = reason.or_else(|| status.canonical_reason().map(str::as_bytes));
    out.extend_from_slice(reason.unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn fields(out: &mut Vec<u8>, headers: &HeaderMap<HeaderValue>) {
    for (name, value) in headers {
        field(out, name.as_str(), value.as_bytes());
    }
}

/// The fields of a message with a body framed as `framing`, but for those that `skip` names.
///
/// Where there is no body, a Content-Length describes another (that of the GET for a HEAD), and
/// stays as it is.
pub(crate) fn message_fields(
    out: &mut Vec<u8>,
    headers: &HeaderMap<HeaderValue>,
    framing: Framing,
    mut skip: impl FnMut(&HeaderName) -> bool,
) {
    let mut framed = matches!(framing, Framing::None | Framing::UntilClose);
    for (name, value) in headers {
        if skip(name) {
            continue;
        }
        if *name == CONTENT_LENGTH {
            match framing {
                Framing::None => {}
                Framing::Length(length) if decimal(value.as_bytes()) == Some(length) => {
                    framed = true;
                }
                _ => continue,
            }
        }
        field(out, name.as_str(), value.as_bytes());
    }
    match framing {
        Framing::Length(length) if !framed => {
            field(out, "content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
}

/// The line before a chunk of `length` bytes, which is not empty: that would end the body.
pub(crate) fn chunk_size(out: &mut Vec<u8>, length: usize) {
    write!(out, "{length:x}\r\n").expect("a Vec takes every write");
}

/// What ends a chunked body.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
