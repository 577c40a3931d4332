//! Bodies: which media types an operation takes, and what has to be in them.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value};

use super::document::Faults;
use super::meta::Forms;
use super::shape::Shape;
use super::text::Text;
use super::{BodyInput, DocumentFault, Findings, Input, schema};
use crate::content::{Part, parse_json};

/// What an operation takes as its body.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) required: bool,
    /// From the most specific media type to the widest range.
    pub(super) media: Vec<Media>,
}

#[derive(Debug)]
pub(super) struct Media {
    /// Lower case, without parameters: `application/json`, `image/*`, `*/*`.
    pub(super) range: String,
    pub(super) content: Option<Content>,
}

/// The schema of a body, and how its text is read.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) validator: Validator,
    pub(super) shape: Shape,
}

impl Body {
    pub(super) fn judge(&self, input: &Input<'_>, findings: &mut Findings) {
        if matches!(input.body, BodyInput::Absent) {
            if self.required {
                findings.note("", "body", "a body");
            }
            return;
        }
        let Some(media) = self.find(input.headers) else {
            let ranges: Vec<_> = self.media.iter().map(|media| media.range.as_str()).collect();
            let expected = match ranges.as_slice() {
                [] => "no body".to_owned(),
                ranges => ranges.join(" or "),
            };
            findings.note("header:content-type", "content-type", expected);
            return;
        };
        if let Some(content) = &media.content {
            content.judge(input.body, findings);
        }
    }

    fn find(&self, headers: &HeaderMap) -> Option<&Media> {
        let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = declared.and_then(|value| value.split(';').next()).unwrap_or_default();
        let essence = essence.trim().to_ascii_lowercase();
        self.media.iter().find(|media| match media.range.strip_suffix('*') {
            Some("*/") => true,
            Some(kind) => essence.starts_with(kind),
            None => media.range == essence,
        })
    }
}

impl Content {
    fn judge(&self, body: BodyInput<'_>, findings: &mut Findings) {
        match body {
            BodyInput::Json(value) => schema::judge(&self.validator, value, "", findings),
            BodyInput::Form(pairs) => {
                let texts = pairs.iter().map(|(name, text)| (&**name, text.as_deref()));
                let value = self.object(texts.map(|(name, text)| (name, text.unwrap_or_default())));
                schema::judge(&self.validator, &value, "", findings);
            }
            BodyInput::Parts(parts) => match self.parts(parts) {
                Ok(value) => schema::judge(&self.validator, &value, "", findings),
                Err(name) => findings.note(&format!("/{name}"), "type", "JSON with one reading"),
            },
            BodyInput::Other | BodyInput::Absent => {}
        }
    }

    /// The fields of a form as an object; a name that comes again makes a list.
    fn object<'f>(&self, fields: impl Iterator<Item = (&'f str, &'f str)>) -> Value {
        let mut map = Map::new();
        for (name, text) in fields {
            self.put(&mut map, name, |shape| match shape {
                Some(shape) if shape.array => shape.item(text),
                Some(shape) => shape.scalar(text),
                None => Value::String(text.to_owned()),
            });
        }
        Value::Object(map)
    }

    fn put(
        &self,
        map: &mut Map<String, Value>,
        name: &str,
        value: impl FnOnce(Option<&Shape>) -> Value,
    ) {
        let shape = self.shape.properties.get(name);
        let value = value(shape);
        let is_list = shape.is_some_and(|shape| shape.array);
        match map.get_mut(name) {
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
            None if is_list => drop(map.insert(name.to_owned(), Value::Array(vec![value]))),
            None => drop(map.insert(name.to_owned(), value)),
        }
    }

    /// The parts as an object: a file is an empty string, since only its presence is judged. Fails
    /// with the name of a part that should be JSON and is not.
    fn parts<'p>(&self, parts: &'p [Part]) -> Result<Value, &'p str> {
        let mut map = Map::new();
        for part in parts {
            let shape = self.shape.properties.get(&part.name);
            let wants_json = shape.is_some_and(|shape| shape.object && !shape.array);
            let is_json = part.media == crate::content::Media::Json;
            if wants_json || (is_json && part.filename.is_none()) {
                let value = parse_json(&part.content).map_err(|_| part.name.as_str())?;
                self.put(&mut map, &part.name, |_| value);
                continue;
            }
            let text = match part.filename {
                Some(_) => "",
                None => std::str::from_utf8(&part.content).map_err(|_| part.name.as_str())?,
            };
            self.put(&mut map, &part.name, |shape| match shape {
                Some(shape) if shape.array => shape.item(text),
                Some(shape) => shape.scalar(text),
                None => Value::String(text.to_owned()),
            });
        }
        Ok(Value::Object(map))
    }
}

/// A JSON Schema that stands alone: for a route of a service that has no OpenAPI document.
#[derive(Debug)]
pub struct BodySchema(Content);

impl BodySchema {
    /// Reads a schema, YAML or JSON; `$schema` says of which draft it is, 2020-12 where it does not.
    pub fn read(text: &[u8]) -> Result<Self, Vec<DocumentFault>> {
        let text = Text::read(text).map_err(|fault| vec![fault])?;
        let fault = |pointer: &str, message: String| {
            vec![DocumentFault::at(text.place(pointer), pointer, message)]
        };
        let draft = match Draft::Draft202012.detect(&text.value) {
            Draft::Unknown => {
                return Err(fault(
                    "/$schema",
                    "expected a draft of JSON Schema that is known".to_owned(),
                ));
            }
            draft => draft,
        };
        let own = text.value.get("$id").and_then(Value::as_str);
        let at_hand =
            own.into_iter().chain(["http://json-schema.org/", "https://json-schema.org/"]);
        let mut faults = Faults::of(&text).beside(at_hand.collect());
        if !has_parts_with_ids(&text.value) {
            faults.check_references(&text.value, &mut String::new());
        }
        faults.check_circles();
        // What it refers to has to be there before it can be judged.
        if !faults.list.is_empty() {
            return Err(faults.sorted());
        }
        let mut forms = Forms::new(&text.value, draft);
        forms.judge("", &mut |place, words| faults.add(place, words));
        if !faults.list.is_empty() {
            return Err(faults.sorted());
        }
        let validator = schema::options(draft)
            .build(&text.value)
            .map_err(|error| fault("", schema::unusable(&error)))?;
        let shape = Shape::of(&text.value, &text.value);
        Ok(Self(Content { validator, shape }))
    }

    pub fn judge(&self, body: BodyInput<'_>, findings: &mut Findings) {
        match body {
            BodyInput::Absent => findings.note("", "body", "a body"),
            BodyInput::Other => {
                findings.note("header:content-type", "content-type", "JSON or a form")
            }
            body => self.0.judge(body, findings),
        }
    }
}

/// Whether parts of a schema have names of their own, which references in them start from.
fn has_parts_with_ids(schema: &Value) -> bool {
    let mut open: Vec<&Value> = schema.as_object().into_iter().flat_map(Map::values).collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(map) if ["$id", "id"].iter().any(|id| names_itself(map.get(*id))) => {
                return true;
            }
            Value::Object(map) => open.extend(map.values()),
            _ => {}
        }
    }
    false
}

/// Whether `id` is the name of a schema. A name of an anchor, as older drafts have it, is none.
fn names_itself(id: Option<&Value>) -> bool {
    id.and_then(Value::as_str).is_some_and(|id| !id.starts_with('#'))
}
