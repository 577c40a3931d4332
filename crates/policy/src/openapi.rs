//! OpenAPI documents: which operations a service has, and what a request for one has to be like.
//!
//! 1. OpenAPI 3.0 and 3.1, in YAML or JSON; every fault of a document is found at once, with its
//!    line. References lead inside the document: nothing is fetched.
//! 2. A request's path, query, header fields and cookies are read as their parameters say, each
//!    value as the type that its schema wants, and its body as its media type says.
//! 3. A finding says where, which rule of the schema, and what was expected. It never shows what
//!    was sent, but for names of members that the schema does not know.
//! 4. What the document does not mention is a finding of its own: a path, a method, a media type.
//!    Parameters of the query that it does not mention are not, unless the settings say so.

mod body;
mod circle;
mod digest;
mod document;
mod meta;
mod parameter;
mod schema;
mod shape;
mod text;
mod upgrade;

use http::{HeaderMap, Method};
use serde_json::Value;

use crate::content::{Content, Media, Part};
use crate::problem::Denial;
use crate::protection::{BodyLength, Request};
use crate::route::{RoutePattern, RouteTable};

use self::body::Body;
use self::parameter::Parameter;
use self::text::Place;

pub use self::body::BodySchema;
pub(crate) use self::parameter::{Pairs, Plus, decode};
pub use self::schema::options;
pub(crate) use self::shape::number;

/// Operations that a document may have: each is a rule of its own.
pub const OPERATIONS_MAX: usize = 1000;

/// Faults of one document that are told.
pub const FAULTS_MAX: usize = 50;

/// Findings of one request that are told.
pub const FINDINGS_MAX: usize = 20;

/// One fault of a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {}{message}", within(.pointer))]
pub struct DocumentFault {
    /// From 1, as the column.
    pub line: u32,
    pub column: u32,
    /// The part of the document, as a JSON Pointer.
    pub pointer: String,
    pub message: String,
}

fn within(pointer: &str) -> String {
    if pointer.is_empty() { String::new() } else { format!("{pointer}: ") }
}

impl DocumentFault {
    fn at(place: Place, pointer: &str, message: impl Into<String>) -> Self {
        let Place { line, column } = place;
        Self { line, column, pointer: pointer.to_owned(), message: message.into() }
    }
}

/// What is wrong with a part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `query:limit`, `path:id`, `header:x-id`, `cookie:c`, or a JSON Pointer into the body.
    pub at: String,
    /// The keyword of the schema, or `route`, `method`, `content-type`, `body`.
    pub keyword: String,
    /// In plain words.
    pub expected: String,
}

/// What is wrong with one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub list: Vec<Finding>,
    /// How many more there are.
    pub omitted: usize,
}

impl Findings {
    fn add(&mut self, finding: impl FnOnce() -> Finding) {
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding());
        } else {
            self.omitted += 1;
        }
    }

    fn note(&mut self, at: &str, keyword: &str, expected: impl Into<String>) {
        let expected = expected.into();
        self.add(|| Finding { at: at.to_owned(), keyword: keyword.to_owned(), expected });
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// A request, as far as a document speaks of it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// As it was sent.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub body: BodyInput<'a>,
}

/// The body of a request, parsed.
#[derive(Clone, Copy, Debug)]
pub enum BodyInput<'a> {
    /// There is none.
    Absent,
    Json(&'a Value),
    /// None is the value of a pair without `=`.
    Form(&'a [(String, Option<String>)]),
    Parts(&'a [Part]),
    /// Its bytes are not looked at.
    Other,
}

impl<'r> Input<'r> {
    /// What a document judges of `request`, or why its body cannot be judged.
    pub fn of(request: &Request<'r>) -> Result<Self, Denial> {
        Ok(Self {
            path: request.target.path(),
            query: request.target.query(),
            headers: request.headers,
            body: BodyInput::of(request)?,
        })
    }
}

impl<'r> BodyInput<'r> {
    /// The body as a document speaks of it.
    pub fn of(request: &Request<'r>) -> Result<Self, Denial> {
        if request.body == BodyLength::None {
            return Ok(Self::Absent);
        }
        let read = match request.content {
            Content::Unasked => return Ok(Self::Other),
            content => content.readable()?,
        };
        let Some(read) = read.filter(|read| !read.plain().is_empty()) else {
            return Ok(Self::Absent);
        };
        let input = match read.media() {
            Media::Json => read.json().map(BodyInput::Json),
            Media::Form => read.form().map(|pairs| BodyInput::Form(pairs)),
            Media::Multipart { .. } => read.parts().map(BodyInput::Parts),
            _ => Ok(BodyInput::Other),
        };
        input.map_err(|fault| fault.denial())
    }
}

/// A document that makes sense.
#[derive(Debug)]
pub struct Document {
    operations: Vec<Operation>,
    /// Finds the index into [`Self::methods`], whatever the method.
    paths: RouteTable<Option<usize>>,
    methods: Vec<PathMethods>,
}

/// The methods of one path.
#[derive(Debug, Default)]
struct PathMethods {
    names: Vec<Method>,
    /// Of the operation of each.
    operations: Vec<usize>,
}

/// What a method of a path takes.
#[derive(Debug)]
pub struct Operation {
    pattern: RoutePattern,
    parameters: Vec<Parameter>,
    body: Option<Body>,
    digest: [u8; 32],
}

/// What a document knows of a request's method and path.
#[derive(Clone, Copy, Debug)]
pub enum Match<'d> {
    Operation(&'d Operation),
    /// The path is there, with these methods.
    UnknownMethod(&'d [Method]),
    UnknownPath,
}

impl Document {
    /// Reads a document, or says everything that is wrong with it, up to [`FAULTS_MAX`] faults.
    pub fn read(text: &[u8]) -> Result<Self, Vec<DocumentFault>> {
        document::read(text)
    }

    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation of a request. HEAD is answered as GET is.
    pub fn find(&self, method: &Method, path: &str) -> Match<'_> {
        let Some(path) = self.paths.find(method, path) else { return Match::UnknownPath };
        let methods = &self.methods[path];
        let of = |method: &Method| methods.names.iter().position(|known| known == method);
        let head = || of(&Method::GET).filter(|_| *method == Method::HEAD);
        match of(method).or_else(head) {
            Some(index) => Match::Operation(&self.operations[methods.operations[index]]),
            None => Match::UnknownMethod(&methods.names),
        }
    }
}

impl Operation {
    /// Identifies what it judges by.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// `POST /api/traces/{id}`
    pub fn pattern(&self) -> &RoutePattern {
        &self.pattern
    }

    /// Says what is wrong with a request for this operation.
    pub fn judge(&self, input: &Input<'_>, settings: Settings, findings: &mut Findings) {
        parameter::judge(&self.parameters, &self.pattern.path, input, settings, findings);
        match &self.body {
            Some(body) => body.judge(input, findings),
            None if matches!(input.body, BodyInput::Absent) => {}
            None => findings.note("", "body", "no body"),
        }
    }
}

/// What is a matter of taste.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether a parameter of the query that the document does not mention is a finding.
    pub unknown_query: UnknownQuery,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownQuery {
    #[default]
    Allow,
    Deny,
}

#[cfg(test)]
mod tests;
