//! A schema from traffic: what requests were like, without a value of any of them, and the OpenAPI
//! document that all of them fit.
//!
//! 1. A [`Shape`] is all that is kept of a request: the method, the path, the names of parameters
//!    and members, media types, and in place of each value its kind (`integer`, `uuid`, `text`)
//!    with a coarse length. No value leaves the masker.
//! 2. A segment of the path, a name of a member and a media type are kept where they look like what
//!    a programmer wrote. What looks like an id, a key or a token is a value, and so is what a query
//!    or a form has without `=`.
//! 3. Shapes are joined: kinds are united, a member is required where every request had it. Joining
//!    is commutative, associative and idempotent, so neither the order nor a repetition matters.
//! 4. The learned document accepts every request that it was learned from; what a bound has kept
//!    from being looked at, it leaves open.
//! 5. Header fields and cookies are not learned, and neither are OPTIONS, TRACE and methods that
//!    OpenAPI does not know. HEAD is learned as GET, as which it is answered.

mod document;
mod mask;
mod token;
mod values;

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::openapi::Input;
use crate::protection::Request;

use self::values::{Fields, Texts, Values};

pub use self::document::{Learned, LeftOut, Operation, Reason, Settings, learn};

/// Levels of a body that are looked at; real ones have ten.
const DEPTH_MAX: usize = 12;

/// Values of one body that are looked at.
const VALUES_MAX: usize = 10_000;

/// Members of an object that has names of its own; one with more is a map.
const MEMBERS_MAX: usize = 64;

/// Parameters of one query, and fields of one form, whose names are kept.
const FIELDS_MAX: usize = 64;

/// Segments of a path; a longer one is not learned from.
const SEGMENTS_MAX: usize = 32;

/// What the body of a shape may take as text, about; deeper levels are let go until it does.
const BODY_BYTES_MAX: usize = 8 << 10;

/// What the fields of a query or a form may take as text, about; else none is told apart.
const FIELDS_BYTES_MAX: usize = 6 << 10;

/// What a shape may take as text. The bounds above keep it below.
pub const SHAPE_BYTES_MAX: usize = 24 << 10;

/// What is kept of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    method: Verb,
    path: Vec<Segment>,
    query: Fields,
    /// None where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
}

/// Tells shapes apart: a part of the SHA-256 of its text.
pub type ShapeKey = [u8; 16];

/// The methods that are learned, as OpenAPI writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Get,
    Put,
    Post,
    Delete,
    Patch,
}

impl Verb {
    fn of(method: &http::Method) -> Option<Self> {
        match *method {
            http::Method::GET | http::Method::HEAD => Some(Self::Get),
            http::Method::PUT => Some(Self::Put),
            http::Method::POST => Some(Self::Post),
            http::Method::DELETE => Some(Self::Delete),
            http::Method::PATCH => Some(Self::Patch),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Post => "post",
            Self::Delete => "delete",
            Self::Patch => "patch",
        }
    }
}

/// A segment of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Segment {
    Literal(String),
    Value(Texts),
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// `application/json`; `*/*` where there was none, or none that is kept.
    media: String,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Json(Values),
    Form(Fields),
    Parts(Fields),
    /// It was not looked at.
    Opaque,
}

/// A stored text that is no shape, or one of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a shape of this version")]
pub struct UnknownShape;

impl Shape {
    /// The shape of a request whose body has been read, where it has a syntax of which the checks
    /// know. None where there is nothing to learn: rule 5, or what cannot be read.
    pub fn of_request(request: &Request<'_>) -> Option<Self> {
        Self::of(request.method, &Input::of(request).ok()?)
    }

    pub fn of(method: &http::Method, input: &Input<'_>) -> Option<Self> {
        mask::shape(method, input)
    }

    /// One line, the same for equal shapes.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("names and numbers always serialise")
    }

    pub fn read(text: &str) -> Result<Self, UnknownShape> {
        serde_json::from_str(text).map_err(|_| UnknownShape)
    }

    /// The key of the shape with this text.
    pub fn key(text: &str) -> ShapeKey {
        let hash = digest(&SHA256, text.as_bytes());
        let part = hash.as_ref().first_chunk().expect("a SHA-256 has 32 bytes");
        *part
    }
}

/// How a path that was learned is written: `/notes/{id}/tags/{id2}`.
#[derive(Clone, Debug, Default)]
struct Template {
    text: String,
    parameters: usize,
}

impl Template {
    fn literal(&self, segment: &str) -> Self {
        Self { text: format!("{}/{segment}", self.text), parameters: self.parameters }
    }

    fn parameter(&self) -> Self {
        let parameters = self.parameters + 1;
        let mut text = format!("{}/", self.text);
        write!(text, "{{{}}}", parameter_name(parameters)).expect("a String takes every write");
        Self { text, parameters }
    }
}

/// The name of the n-th parameter of a path, from 1.
fn parameter_name(n: usize) -> String {
    if n == 1 { "id".to_owned() } else { format!("id{n}") }
}

#[cfg(test)]
mod tests;
