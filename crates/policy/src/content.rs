//! A request's body as the checks see it: read whole, decoded, and parsed once.
//!
//! 1. What is read is a matter of its media type: JSON, forms and multipart, and text for those
//!    checks that look for words. Anything else passes unread, unless a check needs its bytes.
//! 2. `Content-Encoding: gzip` and `deflate` are decoded, to the same bound as the body itself;
//!    another coding, two of them, or bytes behind the coded data cannot be checked.
//! 3. JSON must have one reading: UTF-8 without a byte order mark, one value and nothing behind
//!    it, no name twice in an object, no number that a double cannot hold, no lone surrogate.
//! 4. So must a form and a multipart body: every escape is valid, and every part has one name.
//! 5. A body that cannot be checked is a finding of every rule that would have checked it, so
//!    that no rule is passed by with a body that only the service can read.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use serde_json::Value;

use crate::problem::{Code, Denial, FieldError};

mod coding;
mod form;
mod json;
mod media;
mod multipart;

pub use self::form::Pairs;
pub use self::json::{DEPTH_MAX, parse as parse_json};
pub use self::media::{Media, media_of};
pub use self::multipart::{PARTS_MAX, Part};

/// What there is of a request's body when a check runs.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time, and a box would cost more")]
pub enum Content {
    /// No check has asked for it: it will stream.
    Unasked,
    /// The request has none.
    Empty,
    /// It cannot be checked. It will stream, where that is not enforced.
    Unread(Unread),
    Read(Body),
}

/// Why a body cannot be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It has more bytes than are read, decoded or not.
    TooLarge { bytes_max: usize },
    /// The gateway holds as many bodies as it may.
    NoRoom,
    /// It has not arrived in time.
    TooSlow,
    /// Its coding is none that the gateway decodes.
    Coding,
    /// It is not what its `Content-Encoding` says.
    BadCoding(&'static str),
}

impl Unread {
    pub fn denial(&self) -> Denial {
        match self {
            Self::TooLarge { bytes_max } => Denial::new(
                Code::BodyUnchecked,
                format!("a body of more than {bytes_max} bytes cannot be checked here"),
            ),
            Self::NoRoom => Denial::new(
                Code::ChecksOverCapacity,
                "too many large bodies are being checked at the moment",
            )
            .retry_after(std::time::Duration::from_secs(1)),
            Self::TooSlow => {
                Denial::new(Code::BodyTimeout, "a body that is checked has to arrive sooner")
            }
            Self::Coding => {
                Denial::new(Code::UnsupportedCoding, "one coding is accepted: gzip or deflate")
            }
            Self::BadCoding(fault) => Denial::new(Code::AmbiguousBody, *fault),
        }
    }
}

/// Why a body has no one reading: what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentFault {
    /// A JSON Pointer into the body, `part:<name>`, or empty for all of it.
    pub at: String,
    /// One clause, without the value.
    pub detail: Cow<'static, str>,
    /// Whether parsers are known to differ in it. Else none can read it.
    pub ambiguous: bool,
}

impl ContentFault {
    fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { at: String::new(), detail: detail.into(), ambiguous: false }
    }

    fn ambiguous(at: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { at: at.into(), detail: detail.into(), ambiguous: true }
    }

    pub fn denial(&self) -> Denial {
        let code = if self.ambiguous { Code::AmbiguousBody } else { Code::UnreadableBody };
        let mut denial = Denial::new(code, self.detail.clone());
        if !self.at.is_empty() {
            denial.errors = vec![FieldError::new(self.at.clone(), self.detail.clone())];
        }
        denial
    }
}

/// A body that has been read whole. Each form of it is made when it is first asked for, and
/// kept: all checks judge the same.
pub struct Body {
    /// As it came.
    raw: Bytes,
    /// Decoded; the same where there was no coding.
    plain: Bytes,
    media: Media,
    json: OnceCell<Result<Value, ContentFault>>,
    form: OnceCell<Result<Pairs, ContentFault>>,
    parts: OnceCell<Result<Vec<Part>, ContentFault>>,
}

impl Body {
    /// Decodes `raw`, the whole body of a request with these `headers`, to at most `bytes_max`.
    pub fn read(raw: Bytes, headers: &HeaderMap, bytes_max: usize) -> Result<Self, Unread> {
        let plain = match headers.get(CONTENT_ENCODING) {
            None => raw.clone(),
            Some(_) => coding::decode(&raw, headers.get_all(CONTENT_ENCODING), bytes_max)?
                .map_or_else(|| raw.clone(), Bytes::from),
        };
        Ok(Self::new(raw, plain, media_of(headers)))
    }

    fn new(raw: Bytes, plain: Bytes, media: Media) -> Self {
        let (json, form, parts) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { raw, plain, media, json, form, parts }
    }

    /// The same body with other, plain content.
    pub fn rewritten(&self, plain: Bytes) -> Self {
        Self::new(plain.clone(), plain, self.media.clone())
    }

    /// The bytes as they came: what a signature covers.
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    pub const fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// Whether the bytes came in a coding.
    pub fn was_coded(&self) -> bool {
        self.raw.as_ptr() != self.plain.as_ptr()
    }

    pub const fn media(&self) -> &Media {
        &self.media
    }

    pub fn json(&self) -> Result<&Value, &ContentFault> {
        self.json.get_or_init(|| json::parse(&self.plain)).as_ref()
    }

    /// The fields of a form, in order, decoded.
    pub fn form(&self) -> Result<&Pairs, &ContentFault> {
        self.form.get_or_init(|| form::parse(&self.plain)).as_ref()
    }

    /// The parts of a multipart body, in order.
    pub fn parts(&self) -> Result<&[Part], &ContentFault> {
        let parse = || match &self.media {
            Media::Multipart { boundary } => multipart::parse(&self.plain, boundary.as_deref()),
            _ => Err(ContentFault::malformed("it is not multipart")),
        };
        self.parts.get_or_init(parse).as_ref().map(Vec::as_slice)
    }

    /// What is wrong with it, where it has not exactly one reading.
    pub fn fault(&self) -> Option<&ContentFault> {
        match &self.media {
            Media::Json => self.json().err(),
            Media::Form => self.form().err(),
            Media::Multipart { .. } => self.parts().err(),
            Media::Conflicting => Some(&CONFLICTING),
            Media::Text | Media::Undeclared | Media::Other => None,
        }
    }
}

static CONFLICTING: ContentFault = ContentFault {
    at: String::new(),
    detail: Cow::Borrowed("it has two Content-Types, and a service would pick one"),
    ambiguous: true,
};

impl fmt::Debug for Body {
    /// A body can hold secrets and stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?}, {} bytes)", self.media, self.plain.len())
    }
}

impl Content {
    /// The body, if there is one. A body that cannot be checked is the denial of the rule that
    /// asks.
    pub fn body(&self) -> Result<Option<&Body>, Denial> {
        match self {
            Self::Unasked | Self::Empty => Ok(None),
            Self::Unread(unread) => Err(unread.denial()),
            Self::Read(body) => Ok(Some(body)),
        }
    }

    /// As [`Self::body`]; one without exactly one reading is a denial, too.
    pub fn readable(&self) -> Result<Option<&Body>, Denial> {
        match self.body()? {
            Some(body) => match body.fault() {
                Some(fault) => Err(fault.denial()),
                None => Ok(Some(body)),
            },
            None => Ok(None),
        }
    }
}

/// Whether these headers declare a coding of the body.
fn is_coded(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_ENCODING)
}

/// Whether these headers declare a body that has a syntax of which the checks know. Nothing else
/// is read without need: a body that its client sends piece by piece, to be answered piece by
/// piece, would come to a halt.
pub fn has_syntax(headers: &HeaderMap) -> bool {
    match media_of(headers) {
        Media::Json | Media::Form | Media::Multipart { .. } | Media::Conflicting => true,
        Media::Text | Media::Undeclared => is_coded(headers),
        Media::Other => false,
    }
}
