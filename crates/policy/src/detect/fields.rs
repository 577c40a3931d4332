//! Where in a request a value is: walks over its fields, and says of each finding which one it is.
//!
//! A field is named as the config's allow list names it: `query:q`, `form:title`, `cookie:theme`,
//! `header:referer`, `path:segment 2`, `part:comment`, and a JSON Pointer (RFC 6901) for what is in
//! a JSON body: `/items/0/body`, `body` for a body that is one string. The name is only written
//! once something is found there, and a name that could itself be an attack is not repeated.

mod allow;

use std::fmt::Write;

use arrayvec::ArrayVec;
use http::{HeaderMap, HeaderName, header};
use serde_json::Value;

use super::{Encoding, Finding, Kinds, decode, inspect};

pub use allow::{Allow, AllowError, AllowList};

/// How many findings of one request are kept. Nothing is looked at once there are as many.
pub const FINDINGS_MAX: usize = 20;

/// How deep JSON is looked at; `serde_json` reads no deeper.
pub const JSON_DEPTH_MAX: usize = 128;

/// A finding, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFinding {
    /// The field as the allow list names it. For the name of a field, what the field is in: `query`,
    /// `/items/0`.
    pub at: String,
    pub of: Of,
    pub finding: Finding,
}

/// What of a field was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Value,
    /// The name of a parameter, a member or a part.
    Name,
    FileName,
}

/// Looks at the fields of one request.
#[derive(Debug)]
pub struct Fields<'a> {
    allow: &'a AllowList,
    kinds: Kinds,
    found: ArrayVec<FieldFinding, FINDINGS_MAX>,
    is_whole: bool,
}

impl<'a> Fields<'a> {
    pub fn new(allow: &'a AllowList, kinds: Kinds) -> Self {
        Self { allow, kinds, found: ArrayVec::new(), is_whole: true }
    }

    /// `a=1&b=2`, as it was sent.
    pub fn query(&mut self, query: &str) {
        self.pairs(query, Place::Query);
    }

    /// A body of `application/x-www-form-urlencoded`, as it was sent.
    pub fn form(&mut self, form: &str) {
        self.pairs(form, Place::Form);
    }

    fn pairs<'v>(&mut self, pairs: &'v str, place: fn(&'v str) -> Place<'v>) {
        for pair in pairs.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.look(&place(name), Of::Name, name.as_bytes(), Encoding::Form);
            self.look(&place(name), Of::Value, value.as_bytes(), Encoding::Form);
        }
    }

    /// The path as it was sent. The first segment is number 1.
    pub fn path(&mut self, path: &str) {
        for (at, segment) in path.strip_prefix('/').unwrap_or(path).split('/').enumerate() {
            let place = Place::Segment(at + 1);
            self.look(&place, Of::Value, segment.as_bytes(), Encoding::Plain);
        }
    }

    /// The cookies, of each `Cookie` field.
    pub fn cookies(&mut self, headers: &HeaderMap) {
        for field in headers.get_all(header::COOKIE) {
            for cookie in field.as_bytes().split(|&byte| byte == b';') {
                let cookie = cookie.trim_ascii();
                let equals = cookie.iter().position(|&byte| byte == b'=');
                let (name, value) = cookie.split_at(equals.unwrap_or(0));
                let name = std::str::from_utf8(name).unwrap_or_default();
                let value = value.strip_prefix(b"=").unwrap_or(value);
                self.look(&Place::Cookie(name), Of::Value, value, Encoding::Plain);
            }
        }
    }

    /// The header fields called `names`.
    pub fn headers(&mut self, headers: &HeaderMap, names: &[HeaderName]) {
        for name in names {
            for value in headers.get_all(name) {
                let place = Place::Header(name);
                self.look(&place, Of::Value, value.as_bytes(), Encoding::Plain);
            }
        }
    }

    /// A body that is text, as one value.
    pub fn text(&mut self, text: &[u8]) {
        self.look(&Place::Json(&Pointer::Root), Of::Value, text, Encoding::Plain);
    }

    /// Every string of a JSON body, and every name of a member.
    pub fn json(&mut self, body: &Value) {
        self.walk(body, &Pointer::Root, JSON_DEPTH_MAX);
    }

    fn walk(&mut self, value: &Value, at: &Pointer<'_>, depth_left: usize) {
        if depth_left == 0 || self.found.is_full() {
            self.is_whole &=
                !matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_));
            return;
        }
        match value {
            Value::String(text) => {
                self.look(&Place::Json(at), Of::Value, text.as_bytes(), Encoding::Plain);
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(item, &Pointer::Item(at, index), depth_left - 1);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    let pointer = Pointer::Member(at, name);
                    self.look(&Place::Json(&pointer), Of::Name, name.as_bytes(), Encoding::Plain);
                    self.walk(member, &pointer, depth_left - 1);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A part of a multipart body: its name, that of its file where it is one, and its text where it
    /// is none.
    pub fn part(&mut self, name: &str, file_name: Option<&str>, text: Option<&[u8]>) {
        let place = Place::Part(name);
        self.look(&place, Of::Name, name.as_bytes(), Encoding::Plain);
        if let Some(file_name) = file_name {
            self.look(&place, Of::FileName, file_name.as_bytes(), Encoding::Plain);
        }
        if let Some(text) = text {
            self.look(&place, Of::Value, text, Encoding::Plain);
        }
    }

    /// The first [`FINDINGS_MAX`] findings, in the order in which the fields were handed in.
    pub fn findings(&self) -> &[FieldFinding] {
        &self.found
    }

    /// Whether all fields were looked at: no bound on findings or depth was reached.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    fn look(&mut self, place: &Place<'_>, of: Of, value: &[u8], encoding: Encoding) {
        if self.found.is_full() {
            self.is_whole = false;
            return;
        }
        let Some(finding) = inspect(value, encoding, self.kinds) else { return };
        // Few values get here: the list is not asked for the others.
        let Some(kinds) = self.allow.left(place, self.kinds) else { return };
        let finding = if kinds == self.kinds {
            finding
        } else {
            let Some(finding) = inspect(value, encoding, kinds) else { return };
            finding
        };
        self.found.push(FieldFinding { at: place.text(of), of, finding });
    }
}

/// A field of a request.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    /// Names of parameters are as they were sent.
    Query(&'a str),
    Form(&'a str),
    Segment(usize),
    Cookie(&'a str),
    Header(&'a HeaderName),
    Json(&'a Pointer<'a>),
    Part(&'a str),
}

/// A JSON Pointer, from its end.
#[derive(Clone, Copy, Debug)]
enum Pointer<'a> {
    Root,
    Item(&'a Self, usize),
    Member(&'a Self, &'a str),
}

impl Place<'_> {
    fn text(&self, of: Of) -> String {
        let named = |place: &str, name: &str| match of {
            Of::Name => place.to_owned(),
            Of::Value | Of::FileName => format!("{place}:{}", shown(name)),
        };
        match self {
            Self::Query(name) => named("query", &parameter(name)),
            Self::Form(name) => named("form", &parameter(name)),
            Self::Segment(number) => format!("path:segment {number}"),
            Self::Cookie(name) => named("cookie", name),
            Self::Header(name) => named("header", name.as_str()),
            Self::Part(name) => named("part", name),
            Self::Json(pointer) => {
                let pointer = match (of, pointer) {
                    (Of::Name, Pointer::Member(parent, _)) => parent,
                    _ => *pointer,
                };
                let mut text = String::new();
                pointer.write(&mut text);
                if text.is_empty() { "body".to_owned() } else { text }
            }
        }
    }
}

impl Pointer<'_> {
    /// At most [`JSON_DEPTH_MAX`] deep, as the walk is.
    fn write(&self, text: &mut String) {
        match self {
            Self::Root => {}
            Self::Item(parent, index) => {
                parent.write(text);
                write!(text, "/{index}").expect("a String takes all that is written");
            }
            Self::Member(parent, name) => {
                parent.write(text);
                text.push('/');
                text.push_str(&shown(name).replace('~', "~0").replace('/', "~1"));
            }
        }
    }
}

/// The name of a parameter as a service reads it.
fn parameter(name: &str) -> std::borrow::Cow<'_, str> {
    match decode::percent(name.as_bytes(), b'+') {
        None => name.into(),
        Some(decoded) => String::from_utf8_lossy(&decoded).into_owned().into(),
    }
}

/// How much of a name is repeated.
const NAME_BYTES_MAX: usize = 64;

/// `name`, unless it is longer than names are, could do harm where it is shown, or is an attack.
fn shown(name: &str) -> &str {
    let plain = |c: char| c.is_alphanumeric() || "_-.:@$[]/~ ".contains(c);
    let harmless = name.len() <= NAME_BYTES_MAX
        && name.chars().all(plain)
        && inspect(name.as_bytes(), Encoding::Plain, Kinds::Both).is_none();
    if harmless { name } else { "(hidden)" }
}

#[cfg(test)]
mod tests;
