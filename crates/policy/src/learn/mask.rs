//! Makes the shape of a request. Whatever is not a name, or does not look like one, is replaced by
//! its kind here; nothing behind this file has seen a value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

use super::token::is_token;
use super::values::{BARE, Field, Fields, Kind, Length, Member, Members, Texts, Values};
use super::{
    BODY_BYTES_MAX, Body, Content, DEPTH_MAX, FIELDS_BYTES_MAX, FIELDS_MAX, MEMBERS_MAX,
    SEGMENTS_MAX, Segment, Shape, VALUES_MAX, Verb,
};
use crate::content::{Media, Part, parse_json};
use crate::openapi::{BodyInput, Input, Pairs, Plus, decode, number, options};

/// Bytes of a name, of a member or a parameter.
const NAME_BYTES_MAX: usize = 64;

/// Digits of a name: `iso8601` has four, an id has more.
const NAME_DIGITS_MAX: usize = 4;

/// Bytes of a segment that is kept.
const LITERAL_BYTES_MAX: usize = 40;

/// Digits of a segment that is kept: `v1`, `sha256`.
const LITERAL_DIGITS_MAX: usize = 3;

pub(super) fn shape(method: &Method, input: &Input<'_>) -> Option<Shape> {
    let method = Verb::of(method)?;
    let path: Option<Vec<_>> = input.path.strip_prefix('/')?.split('/').map(segment).collect();
    let path = path.filter(|path| path.len() <= SEGMENTS_MAX)?;
    let body = match input.body {
        BodyInput::Absent => None,
        body => Some(Body { media: essence(input.headers), content: content(body) }),
    };
    Some(Shape { method, path, query: query(input.query.unwrap_or_default()), body })
}

/// None where it cannot be read, so that a document could say nothing of it.
fn segment(raw: &str) -> Option<Segment> {
    if is_literal(raw) {
        return Some(Segment::Literal(raw.to_owned()));
    }
    let text = decode(raw, Plus::Literal).ok()?;
    Some(Segment::Value(texts(&text)))
}

/// Whether a segment of a path is a part of the service's own address.
fn is_literal(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~:-".contains(byte);
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let named = bytes.iter().any(u8::is_ascii_alphabetic)
        && bytes.len() <= LITERAL_BYTES_MAX
        && bytes.iter().all(allowed)
        && digits <= LITERAL_DIGITS_MAX
        && !is_token(segment);
    bytes.is_empty() || named
}

/// Whether the name of a member, a parameter or a part is one that a programmer chose.
fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    bytes.len() <= NAME_BYTES_MAX
        && digits <= NAME_DIGITS_MAX
        // JSON-LD and JSON Schema write `@type` and `$ref`.
        && bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic() || b"_@$".contains(byte))
        // Forms write `tags[]`.
        && bytes.iter().skip(1).all(|byte| byte.is_ascii_alphanumeric() || b"_.-[]".contains(byte))
        && !is_token(name)
}

/// The media type of a body as a document finds it. It is the client's, so only what looks like one
/// is kept.
fn essence(headers: &HeaderMap) -> String {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = declared.and_then(|value| value.split(';').next()).unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    if is_media(&essence) { essence } else { "*/*".to_owned() }
}

fn is_media(essence: &str) -> bool {
    const KINDS: [&str; 8] =
        ["application", "audio", "font", "image", "message", "model", "text", "video"];
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    let digits = subtype.bytes().filter(u8::is_ascii_digit).count();
    (KINDS.contains(&kind) || essence == "multipart/form-data")
        && (1..=NAME_BYTES_MAX).contains(&subtype.len())
        && subtype.bytes().all(allowed)
        && digits <= NAME_DIGITS_MAX
        && !is_token(subtype)
}

fn query(query: &str) -> Fields {
    let mut named = Named::default();
    for (name, raw) in Pairs(query).told() {
        let Some(raw) = raw.filter(|raw| !is_padding(raw)) else {
            named.add_bare(&name);
            continue;
        };
        let texts = match decode(raw, Plus::Space) {
            Ok(text) => texts(&text),
            // A document that mentions it would refuse it.
            Err(_) => Texts::new(Kind::Any, Length::default()),
        };
        named.add(&name, texts, None);
    }
    named.into_fields()
}

/// Whether what is behind a first `=` is only the rest of the padding of a Base64 that stands alone.
fn is_padding(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte == b'=')
}

fn content(body: BodyInput<'_>) -> Content {
    match body {
        BodyInput::Json(value) => Content::Json(json_values(value)),
        BodyInput::Form(pairs) => {
            let mut named = Named::default();
            for (name, text) in pairs {
                match text.as_deref().filter(|text| !is_padding(text)) {
                    Some(text) => named.add(name, texts(text), None),
                    None => named.add_bare(name),
                }
            }
            Content::Form(named.into_fields())
        }
        BodyInput::Parts(parts) => Content::Parts(part_fields(parts)),
        BodyInput::Other | BodyInput::Absent => Content::Opaque,
    }
}

fn part_fields(parts: &[Part]) -> Fields {
    let mut named = Named::default();
    for part in parts {
        let texts = if part.filename.is_some() {
            Texts::new(Kind::File, Length::default())
        } else if part.media == Media::Json {
            // What a document with a schema would refuse, it has to be silent of.
            if parse_json(&part.content).is_err() {
                return Fields::Any;
            }
            Texts::new(Kind::Json, Length::default())
        } else {
            match std::str::from_utf8(&part.content) {
                Ok(text) => texts(text),
                Err(_) => return Fields::Any,
            }
        };
        let media = part.content_type.clone().filter(|media| is_media(media));
        named.add(&part.name, texts, media);
    }
    named.into_fields()
}

/// The fields of one request.
#[derive(Default)]
struct Named {
    fields: BTreeMap<String, Field>,
    /// What came without `=`, and whether it came again. It can be a key or a passphrase that was
    /// sent alone, so none of it leaves the masker.
    bare: BTreeMap<String, bool>,
    too_many: bool,
}

impl Named {
    /// A name that is none is passed over: a document allows what it does not mention.
    fn add(&mut self, name: &str, texts: Texts, media: Option<String>) {
        if self.too_many || !is_name(name) {
            return;
        }
        let media = BTreeSet::from_iter(media);
        let full = self.fields.len() == FIELDS_MAX;
        match self.fields.get_mut(name) {
            Some(field) => field.repeat(&texts, &media),
            None if full => self.too_many = true,
            None => {
                let field = Field { required: true, repeated: false, texts, media };
                self.fields.insert(name.to_owned(), field);
            }
        }
    }

    /// A pair without `=`. What is no name, no document mentions.
    fn add_bare(&mut self, name: &str) {
        if self.too_many || !is_name(name) {
            return;
        }
        let full = self.bare.len() == FIELDS_MAX;
        match self.bare.get_mut(name) {
            Some(again) => *again = true,
            None if full => self.too_many = true,
            None => drop(self.bare.insert(name.to_owned(), false)),
        }
    }

    fn into_fields(mut self) -> Fields {
        // They are read as empty text.
        let empty = texts("");
        for (name, again) in self.bare {
            match self.fields.get_mut(&name) {
                // Its name is known by a pair that has a value.
                Some(field) => field.repeat(&empty, &BTreeSet::new()),
                None => {
                    self.fields
                        .entry(BARE.to_owned())
                        .or_insert_with(|| Field {
                            required: true,
                            repeated: false,
                            texts: empty.clone(),
                            media: BTreeSet::new(),
                        })
                        .repeated |= again
                }
            }
        }
        let weight: usize =
            self.fields.iter().map(|(name, field)| name.len() + field.weight()).sum();
        if self.too_many || weight > FIELDS_BYTES_MAX {
            return Fields::Any;
        }
        Fields::Named(self.fields)
    }
}

fn json_values(value: &Value) -> Values {
    let mut values = Masker { left: VALUES_MAX }.values(value, 0);
    for levels in (1..DEPTH_MAX).rev() {
        if values.weight() <= BODY_BYTES_MAX {
            break;
        }
        values.prune(levels);
    }
    values
}

/// Masks one body.
struct Masker {
    /// Values that may still be looked at.
    left: usize,
}

impl Masker {
    fn values(&mut self, value: &Value, depth: usize) -> Values {
        if self.left == 0 || depth == DEPTH_MAX {
            return Values::any();
        }
        self.left -= 1;
        let scalar = |kind| Values::scalar(kind, Length::default());
        match value {
            Value::Null => scalar(Kind::Null),
            Value::Bool(_) => scalar(Kind::Boolean),
            Value::Number(number) if number.is_f64() => scalar(Kind::Number),
            Value::Number(_) => scalar(Kind::Integer),
            Value::String(text) => Values::scalar(format(text), Length::of(text)),
            Value::Array(items) => Values::array(self.joined(items.iter(), depth)),
            Value::Object(map) => {
                let named = map.len() <= MEMBERS_MAX && map.keys().all(|name| is_name(name));
                if !named {
                    let all = self.joined(map.values(), depth);
                    return Values::object(Members::Map(Box::new(all)));
                }
                let members = map.iter().map(|(name, value)| {
                    let values = self.values(value, depth + 1);
                    (name.clone(), Member { required: true, values })
                });
                Values::object(Members::Named(members.collect()))
            }
        }
    }

    fn joined<'v>(&mut self, all: impl Iterator<Item = &'v Value>, depth: usize) -> Values {
        let mut joined = Values::default();
        for value in all {
            joined.join(&self.values(value, depth + 1));
            if joined.is_any() {
                break;
            }
        }
        joined
    }
}

/// What text is, where a schema may say that it is a number.
pub(super) fn texts(text: &str) -> Texts {
    let kind = match text {
        "true" | "false" => Kind::Boolean,
        text => match number(text) {
            Some(number) if number.is_f64() => Kind::Number,
            Some(_) => Kind::Integer,
            None => format(text),
        },
    };
    Texts::new(kind, Length::of(text))
}

/// The format of text: exactly where the validator of that format takes it.
fn format(text: &str) -> Kind {
    let bytes = text.as_bytes();
    let at = |index: usize, byte: u8| bytes.get(index) == Some(&byte);
    // What the text looks like is asked first: most texts are in no format, and a validator wants
    // a copy.
    let kind = if bytes.len() == 36 && at(8, b'-') && at(13, b'-') {
        Kind::Uuid
    } else if bytes.len() == 10 && at(4, b'-') && at(7, b'-') {
        Kind::Date
    } else if (20..=40).contains(&bytes.len()) && at(4, b'-') && at(13, b':') {
        Kind::DateTime
    } else if bytes.len() <= 254 && bytes.contains(&b'@') && !bytes.contains(&b'/') {
        Kind::Email
    } else if bytes.len() <= 2048 && text.contains("://") {
        Kind::Uri
    } else {
        return Kind::Text;
    };
    let is_valid = FORMATS
        .iter()
        .find(|(known, _)| *known == kind)
        .is_some_and(|(_, validator)| validator.is_valid(&Value::String(text.to_owned())));
    if is_valid { kind } else { Kind::Text }
}

static FORMATS: LazyLock<Vec<(Kind, Validator)>> = LazyLock::new(|| {
    let kinds = [Kind::Date, Kind::DateTime, Kind::Email, Kind::Uri, Kind::Uuid];
    let validator = |kind: Kind| {
        let schema = json!({ "format": kind.format() });
        options(Draft::Draft202012).build(&schema).expect("a format alone is a schema")
    };
    kinds.map(|kind| (kind, validator(kind))).into()
});
