//! The chunked transfer coding (RFC 9112, 7.1), read strictly.
//!
//! 1. A chunk's size is 1 to 15 hex digits. Lines end in CRLF.
//! 2. Extensions and trailers are bounded, and free of control bytes other than tab.
//! 3. A trailer is a token, a colon and a value.
//! 4. A service may pad a chunk's size with blanks, as some old ones do; a client may not.

use super::request::is_token;

/// Bytes that the extensions of one chunk, or all trailers of a body, may take.
const EXTRAS_MAX: usize = 4096;

/// Follows a chunked body from its first byte to its last.
#[derive(Debug)]
pub(crate) struct Decoder {
    at: At,
    from: Sender,
    trailers: Vec<u8>,
}

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Service,
}

/// What the front of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// `skip` bytes of framing, then `data` bytes of the body.
    Data { skip: usize, data: usize },
    /// `skip` bytes of framing, and the body goes on.
    More { skip: usize },
    /// `skip` bytes of framing, and the body is complete.
    End { skip: usize },
}

/// The body breaks its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunked body breaks its framing")]
pub(crate) struct MalformedChunk;

/// The next byte of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
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

impl Decoder {
    pub(crate) const fn new(from: Sender) -> Self {
        Self { at: At::Size { value: 0, digits: 0 }, from, trailers: Vec::new() }
    }

    /// Moves over the framing at the front of `input` to the next piece of data.
    pub(crate) fn advance(&mut self, input: &[u8]) -> Result<Progress, MalformedChunk> {
        let mut skip = 0;
        loop {
            if let At::Data { left } = self.at {
                let data = left.min((input.len() - skip) as u64);
                if data == 0 {
                    return Ok(Progress::More { skip });
                }
                self.at = if data == left { At::DataCr } else { At::Data { left: left - data } };
                return Ok(Progress::Data { skip, data: data as usize });
            }
            let Some(byte) = input.get(skip).copied() else {
                return Ok(Progress::More { skip });
            };
            skip += 1;
            let padding = matches!(self.at, At::Size { digits: 1.., .. })
                && matches!(byte, b' ' | b'\t')
                && self.from == Sender::Service;
            if padding {
                continue;
            }
            let Some(next) = self.at.next(byte)? else { return Ok(Progress::End { skip }) };
            if next.is_trailer() {
                self.trailers.push(byte);
            }
            self.at = next;
        }
    }

    /// The trailer lines of a complete body.
    pub(crate) fn take_trailers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.trailers)
    }
}

impl At {
    /// The state after `byte`; `None` where the body is complete.
    fn next(self, byte: u8) -> Result<Option<Self>, MalformedChunk> {
        let bounded =
            |seen: usize| if seen < EXTRAS_MAX { Ok(seen + 1) } else { Err(MalformedChunk) };
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

    /// Whether the byte that led here is one of a trailer line.
    const fn is_trailer(self) -> bool {
        match self {
            Self::TrailerName { .. } | Self::TrailerValue { .. } | Self::TrailerLf { .. } => true,
            Self::TrailerStart { seen } => seen > 0,
            _ => false,
        }
    }
}
