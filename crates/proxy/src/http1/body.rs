//! Takes a message's body out of the bytes that follow its head.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use super::Framing;
use super::chunked::{Decoder, MalformedChunk, Progress, Sender};
use super::wire::{self, Wire};

/// Where in a body its reader is.
#[derive(Debug)]
pub(crate) enum BodyReader {
    /// Behind its last byte.
    Ended,
    Length {
        left: u64,
    },
    Chunked(Box<Decoder>),
    UntilClose,
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Malformed(#[from] MalformedChunk),
    #[error("the connection ended in the middle of the body")]
    Truncated,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl BodyError {
    /// Whether the sender is gone.
    pub(crate) const fn is_gone(&self) -> bool {
        match self {
            Self::Malformed(_) => false,
            Self::Truncated | Self::Io(_) => true,
        }
    }
}

/// What the bytes so far hold of a body.
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Nothing more; either the body has ended, or more must be read.
    Nothing,
}

impl BodyReader {
    pub(crate) fn new(framing: Framing, from: Sender) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Ended,
            Framing::Length(left) => Self::Length { left },
            Framing::Chunked => Self::Chunked(Box::new(Decoder::new(from))),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ended => SizeHint::with_exact(0),
            Self::Length { left } => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::UntilClose => SizeHint::default(),
        }
    }

    /// The next frame of the body that `wire` carries.
    pub(crate) fn poll_frame(
        &mut self,
        wire: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.next(&mut wire.unread) {
                Ok(Piece::Data(data)) => {
                    // So that an end that is here already is known with the last piece.
                    if let Err(error) = self.skip_framing(&mut wire.unread) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::Trailers(trailers)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::Nothing) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            if self.has_ended() {
                return Poll::Ready(None);
            }
            match ready!(wire.poll_fill(cx)) {
                Ok(0) if matches!(self, Self::UntilClose) => {
                    *self = Self::Ended;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Truncated))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn next(&mut self, unread: &mut BytesMut) -> Result<Piece, MalformedChunk> {
        if unread.is_empty() {
            return Ok(Piece::Nothing);
        }
        match self {
            Self::Ended => Ok(Piece::Nothing),
            Self::UntilClose => Ok(Piece::Data(wire::take(unread, unread.len()))),
            Self::Length { left } => {
                let count = (*left).min(unread.len() as u64);
                *left -= count;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Piece::Data(wire::take(unread, count as usize)))
            }
            Self::Chunked(decoder) => match decoder.advance(unread)? {
                Progress::Data { skip, data } => {
                    wire::skip(unread, skip);
                    Ok(Piece::Data(wire::take(unread, data)))
                }
                Progress::More { skip } => {
                    wire::skip(unread, skip);
                    Ok(Piece::Nothing)
                }
                Progress::End { skip } => {
                    wire::skip(unread, skip);
                    let lines = decoder.take_trailers();
                    *self = Self::Ended;
                    Ok(if lines.is_empty() {
                        Piece::Nothing
                    } else {
                        Piece::Trailers(read_trailers(&lines))
                    })
                }
            },
        }
    }

    /// Moves over the framing behind a piece of data, as far as it is here. Trailers are left
    /// for the next call of [`Self::next`].
    fn skip_framing(&mut self, unread: &mut BytesMut) -> Result<(), MalformedChunk> {
        const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
        if matches!(self, Self::Chunked(_)) && unread.starts_with(LAST_CHUNK) {
            self.next(unread)?;
        }
        Ok(())
    }
}

/// The fields of a trailer section, whose lines the decoder has checked.
fn read_trailers(lines: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            trailers.append(name, value);
        }
    }
    trailers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Data, trailers, and what is left behind them.
    type Whole = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Reads a body that arrives in `pieces`.
    fn read(framing: Framing, pieces: &[&[u8]]) -> Result<Whole, MalformedChunk> {
        let mut reader = BodyReader::new(framing, Sender::Client);
        let (mut data, mut trailers, mut unread) = (Vec::new(), None, BytesMut::new());
        for piece in pieces {
            unread.extend_from_slice(piece);
            loop {
                match reader.next(&mut unread)? {
                    Piece::Data(more) => data.extend_from_slice(&more),
                    Piece::Trailers(map) => trailers = Some(map),
                    Piece::Nothing => break,
                }
                reader.skip_framing(&mut unread)?;
            }
        }
        assert!(reader.has_ended(), "{reader:?}");
        Ok((data, trailers, unread.to_vec()))
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let text = |framing, body: &str| {
            let (data, _, rest) = read(framing, &[body.as_bytes()]).unwrap();
            (String::from_utf8(data).unwrap(), String::from_utf8(rest).unwrap())
        };
        let want = |data: &str, rest: &str| (data.to_owned(), rest.to_owned());
        assert_eq!(text(Framing::None, "next"), want("", "next"));
        assert_eq!(text(Framing::Length(0), "next"), want("", "next"));
        assert_eq!(text(Framing::Length(5), "hellonext"), want("hello", "next"));
        let chunked = "5;a=b\r\nhello\r\n3\r\n wo\r\n0\r\n\r\nnext";
        assert_eq!(text(Framing::Chunked, chunked), want("hello wo", "next"));
    }

    #[test]
    fn trailers_are_kept_apart() {
        let body = b"1\r\na\r\n0\r\nSum: 1\r\nX-B:  two \r\n\r\nnext";
        let (data, trailers, rest) = read(Framing::Chunked, &[body]).unwrap();
        let trailers = trailers.unwrap();
        assert_eq!((&data[..], &rest[..]), (&b"a"[..], &b"next"[..]));
        assert_eq!(
            (trailers["sum"].as_bytes(), trailers["x-b"].as_bytes()),
            (&b"1"[..], &b"two"[..])
        );
    }

    #[test]
    fn a_malformed_chunk_ends_the_message() {
        for body in [
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
        ] {
            assert!(read(Framing::Chunked, &[body.as_bytes()]).is_err(), "{body:?}");
        }
        let endless = format!("0\r\n{}", "X: y\r\n".repeat(1000));
        assert!(read(Framing::Chunked, &[endless.as_bytes()]).is_err());
    }

    #[test]
    fn a_service_may_pad_a_size() {
        let mut decoder = Decoder::new(Sender::Service);
        assert_eq!(decoder.advance(b"5  \r\nhello"), Ok(Progress::Data { skip: 5, data: 5 }));
    }

    proptest! {
        /// However the bytes are cut into reads, the same body is read.
        #[test]
        fn cuts_do_not_matter(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..5),
            cuts in proptest::collection::vec(1usize..20, 0..60),
            trailer: bool,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:X}\r\n", chunk.len()).bytes());
                body.extend_from_slice(chunk);
                body.extend(b"\r\n");
            }
            body.extend(if trailer { &b"0\r\nSum: 1\r\n\r\nGET"[..] } else { b"0\r\n\r\nGET" });
            let mut pieces = Vec::new();
            let mut rest = &body[..];
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            let (data, trailers, left) = read(Framing::Chunked, &pieces).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(trailers.is_some(), trailer);
            prop_assert_eq!(left, b"GET");
        }
    }
}
