//! Joins shapes and writes the document that all of them fit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value, json};

use super::mask::texts;
use super::values::{BARE, Field, Fields, Kind, Members, Texts, Values};
use super::{Content, Segment, Shape, Template, Verb, parameter_name};
use crate::openapi::OPERATIONS_MAX;

/// Segments below one parent that are told apart; more are values of one parameter.
const SIBLINGS_MAX: usize = 20;

/// Segments below one parent that are values where what is put there is alike: real services have a
/// handful of companies long before they have twenty.
const ALIKE_MIN: usize = 3;

/// Members that bodies have to share to be alike.
const ALIKE_MEMBERS_MIN: usize = 2;

/// Media types of one operation that are told apart.
const MEDIA_MAX: usize = 16;

/// Bytes of all operations together, without line ends: a document may have 4 MiB with them.
const DOCUMENT_BYTES_MAX: usize = 512 << 10;

/// How to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The title of the document.
    pub title: String,
    /// Requests of an operation below which it is not proposed: what few had is not what all have.
    pub samples_min: u64,
}

/// What was learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// OpenAPI 3.1. Equal shapes make equal documents.
    pub document: Value,
    /// What is in the document, the most used first.
    pub operations: Vec<Operation>,
    /// What is not.
    pub left_out: Vec<LeftOut>,
}

/// An operation, and of how many requests it was learned.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Operation {
    /// `GET /notes/{id}`
    pub operation: String,
    pub samples: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    #[serde(flatten)]
    pub operation: Operation,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    FewSamples,
    /// A document has no room for more.
    NoRoom,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FewSamples => "too few requests",
            Self::NoRoom => "no room in the document",
        })
    }
}

/// Proposes a document for the service that took requests of these shapes, each with how many
/// requests had it.
pub fn learn<'s>(
    shapes: impl IntoIterator<Item = (&'s Shape, u64)>,
    settings: &Settings,
) -> Learned {
    let mut gathering = Gathering::default();
    gathering.split(shapes.into_iter().collect(), 0, &Template::default());

    let mut list: Vec<_> = gathering.operations.into_iter().collect();
    list.sort_by_key(|(_, seen)| Reverse(seen.samples));
    let mut paths = Map::new();
    let (mut operations, mut left_out) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for ((template, verb), seen) in list {
        let operation = Operation {
            operation: format!("{} {template}", verb.as_str().to_ascii_uppercase()),
            samples: seen.samples,
        };
        if seen.samples < settings.samples_min {
            left_out.push(LeftOut { operation, reason: Reason::FewSamples });
            continue;
        }
        let value = seen.describe(&gathering.parameters[&template]);
        // One that is too large leaves the room to those behind it.
        let bytes_with = bytes + template.len() + value.to_string().len();
        if operations.len() == OPERATIONS_MAX || bytes_with > DOCUMENT_BYTES_MAX {
            left_out.push(LeftOut { operation, reason: Reason::NoRoom });
            continue;
        }
        bytes = bytes_with;
        operations.push(operation);
        let item = paths.entry(template).or_insert_with(|| json!({}));
        let item = item.as_object_mut().expect("it was made as an object");
        item.insert(verb.as_str().to_owned(), value);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": settings.title,
            "version": "0",
            "description": description(&operations, &left_out),
        },
        "paths": paths,
    });
    if !left_out.is_empty() {
        document["x-seaworthy-left-out"] =
            serde_json::to_value(&left_out).expect("names and numbers always serialise");
    }
    Learned { document, operations, left_out }
}

fn description(operations: &[Operation], left_out: &[LeftOut]) -> String {
    let samples: u64 = operations.iter().map(|operation| operation.samples).sum();
    let mut text = format!(
        "Learned by Seaworthy from {samples} requests that the service answered with success: \
         a proposal, to be read before it is enforced."
    );
    if !left_out.is_empty() {
        text.push_str(" x-seaworthy-left-out names the operations that are not in it.");
    }
    text
}

/// Operations by their paths as they are found.
#[derive(Default)]
struct Gathering {
    operations: BTreeMap<(String, Verb), Seen>,
    /// The parameters of each path, in order.
    parameters: BTreeMap<String, Vec<Texts>>,
    /// Those of the path that is being looked at.
    open: Vec<Texts>,
}

type Counted<'s> = (&'s Shape, u64);

impl Gathering {
    /// Takes in shapes whose paths fall under `template` as far as `depth`.
    fn split(&mut self, shapes: Vec<Counted<'_>>, depth: usize, template: &Template) {
        let mut literals: BTreeMap<&str, Vec<Counted<'_>>> = BTreeMap::new();
        let mut valued = Vec::new();
        let mut values = Texts::default();
        for (shape, count) in shapes {
            match shape.path.get(depth) {
                None => self.add(shape, count, template),
                Some(Segment::Literal(text)) => {
                    literals.entry(text).or_default().push((shape, count));
                }
                Some(Segment::Value(texts)) => {
                    values.join(texts);
                    valued.push((shape, count));
                }
            }
        }
        for text in values_among(&literals, depth) {
            values.join(&texts(text));
            valued.extend(literals.remove(text).into_iter().flatten());
        }
        for (text, shapes) in literals {
            self.split(shapes, depth + 1, &template.literal(text));
        }
        if !valued.is_empty() {
            self.open.push(values);
            self.split(valued, depth + 1, &template.parameter());
            self.open.pop();
        }
    }

    fn add(&mut self, shape: &Shape, count: u64, template: &Template) {
        let path = &template.text;
        if !self.parameters.contains_key(path) {
            self.parameters.insert(path.clone(), self.open.clone());
        }
        self.operations.entry((path.clone(), shape.method)).or_default().join(shape, count);
    }
}

/// The literal segments at `depth` that are values after all.
fn values_among<'s>(literals: &BTreeMap<&'s str, Vec<Counted<'s>>>, depth: usize) -> Vec<&'s str> {
    // An empty segment is behind a slash that stands alone, and no parameter matches it.
    let siblings: Vec<_> = literals.keys().copied().filter(|text| !text.is_empty()).collect();
    if siblings.len() > SIBLINGS_MAX {
        return siblings;
    }
    // What is put or patched is one of several things, whereas one posts to a collection.
    let mut values = BTreeSet::new();
    for verb in [Verb::Put, Verb::Patch] {
        let taken: Vec<(&str, BTreeSet<&str>)> = siblings
            .iter()
            .filter_map(|text| {
                let mut there = literals[text]
                    .iter()
                    .filter(|(shape, _)| shape.method == verb && shape.path.len() == depth + 1)
                    .peekable();
                there.peek()?;
                Some((*text, there.flat_map(|(shape, _)| shape.member_names()).collect()))
            })
            .collect();
        if are_alike(&taken) {
            values.extend(taken.iter().map(|(text, _)| *text));
        }
    }
    values.into_iter().collect()
}

/// Whether all bodies have most of their members in common.
fn are_alike(taken: &[(&str, BTreeSet<&str>)]) -> bool {
    let most = taken.iter().map(|(_, names)| names.len()).max().unwrap_or(0);
    let Some(((_, first), rest)) = taken.split_first() else { return false };
    let common = first.iter().filter(|name| rest.iter().all(|(_, names)| names.contains(*name)));
    let common = common.count();
    taken.len() >= ALIKE_MIN && common >= ALIKE_MEMBERS_MIN && 2 * common >= most
}

impl Shape {
    /// The names of the members or fields of the body.
    fn member_names(&self) -> impl Iterator<Item = &str> {
        let (members, fields) = match self.body.as_ref().map(|body| &body.content) {
            Some(Content::Json(Values { members: Some(Members::Named(members)), .. })) => {
                (Some(members.keys()), None)
            }
            Some(Content::Form(Fields::Named(fields))) => (None, Some(fields.keys())),
            _ => (None, None),
        };
        let members = members.into_iter().flatten();
        let fields = fields.into_iter().flatten().filter(|name| *name != BARE);
        members.chain(fields).map(String::as_str)
    }
}

/// What the requests of one operation were like.
#[derive(Default)]
struct Seen {
    samples: u64,
    query: Option<Fields>,
    /// Some request had no body.
    bodiless: bool,
    bodies: BTreeMap<String, Content>,
}

impl Seen {
    fn join(&mut self, shape: &Shape, count: u64) {
        self.samples = self.samples.saturating_add(count);
        match &mut self.query {
            Some(query) => query.join(&shape.query),
            none @ None => *none = Some(shape.query.clone()),
        }
        let Some(body) = &shape.body else {
            self.bodiless = true;
            return;
        };
        match self.bodies.get_mut(&body.media) {
            Some(known) => known.join(&body.content),
            None => drop(self.bodies.insert(body.media.clone(), body.content.clone())),
        }
    }

    /// The operation as OpenAPI has it.
    fn describe(&self, path: &[Texts]) -> Value {
        let mut parameters: Vec<Value> = path
            .iter()
            .zip(1..)
            .map(|(texts, n)| {
                let name = parameter_name(n);
                json!({ "name": name, "in": "path", "required": true, "schema": texts.schema() })
            })
            .collect();
        if let Some(fields) = self.query.as_ref().and_then(Fields::told) {
            // What could not be read is not mentioned: the document would refuse it.
            let told = fields.iter().filter(|(_, field)| !field.texts.kinds.contains(&Kind::Any));
            parameters.extend(told.map(|(name, field)| {
                let mut parameter =
                    json!({ "name": name, "in": "query", "schema": field.schema() });
                if field.required {
                    parameter["required"] = json!(true);
                }
                parameter
            }));
        }
        let mut operation = json!({ "x-seaworthy-samples": self.samples });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if !self.bodies.is_empty() {
            let mut body = json!({ "content": self.content() });
            if !self.bodiless {
                body["required"] = json!(true);
            }
            operation["requestBody"] = body;
        }
        operation
    }

    fn content(&self) -> Value {
        if self.bodies.len() > MEDIA_MAX {
            return json!({ "*/*": {} });
        }
        self.bodies.iter().map(|(media, content)| (media.clone(), content.describe())).collect()
    }
}

impl Content {
    fn join(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Json(ours), Self::Json(theirs)) => ours.join(theirs),
            (Self::Form(ours), Self::Form(theirs)) | (Self::Parts(ours), Self::Parts(theirs)) => {
                ours.join(theirs);
            }
            _ => *self = Self::Opaque,
        }
    }

    /// The media type object.
    fn describe(&self) -> Value {
        match self {
            Self::Opaque => json!({}),
            Self::Json(values) => json!({ "schema": values.schema() }),
            Self::Form(fields) => match fields.told() {
                Some(fields) => json!({ "schema": object(&fields) }),
                None => json!({}),
            },
            Self::Parts(fields) => {
                let Some(fields) = fields.told() else { return json!({}) };
                let encoding: Map<String, Value> = fields
                    .iter()
                    .filter_map(|(name, field)| {
                        let media: Vec<_> =
                            field.told_media()?.iter().map(String::as_str).collect();
                        Some((name.clone(), json!({ "contentType": media.join(", ") })))
                    })
                    .collect();
                let mut described = json!({ "schema": object(&fields) });
                if !encoding.is_empty() {
                    described["encoding"] = encoding.into();
                }
                described
            }
        }
    }
}

/// The schema of a form.
fn object(fields: &BTreeMap<String, Field>) -> Value {
    let properties = fields.iter().map(|(name, field)| (name.clone(), field.schema()));
    let required = fields.iter().filter(|(_, field)| field.required).map(|(name, _)| name);
    named("object".into(), properties.collect(), required)
}

/// A schema with properties, and with `required` where some are.
fn named<'n>(
    kind: Value,
    properties: Map<String, Value>,
    required: impl Iterator<Item = &'n String>,
) -> Value {
    let mut schema = json!({ "type": kind });
    let required: Vec<_> = required.collect();
    if !properties.is_empty() {
        schema["properties"] = properties.into();
    }
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

impl Field {
    fn schema(&self) -> Value {
        let one = self.texts.schema();
        if self.repeated { json!({ "type": "array", "items": one }) } else { one }
    }
}

impl Texts {
    fn schema(&self) -> Value {
        if self.kinds.contains(&Kind::Any) || self.kinds.contains(&Kind::Json) {
            return json!({});
        }
        if !self.kinds.iter().any(|kind| kind.is_text()) {
            return json!({ "type": one_or_several(types(&self.kinds)) });
        }
        // A number among texts is a text, and in none of their formats.
        let mut schema = json!({ "type": "string" });
        match format(&self.kinds) {
            Some(format) => schema["format"] = json!(format),
            // Only whether a file is there is judged.
            None if self.kinds.contains(&Kind::File) => {}
            None => bound(&mut schema, self.length.bound()),
        }
        schema
    }
}

impl Values {
    fn schema(&self) -> Value {
        let mut types = types(&self.kinds);
        types.extend(self.items.as_ref().map(|_| "array"));
        types.extend(self.members.as_ref().map(|_| "object"));
        // What was only ever null was left out, and says nothing of what else it can be.
        let untold = types.iter().all(|name| *name == "null");
        if self.is_any() || untold {
            return json!({});
        }
        let texts: BTreeSet<Kind> =
            self.kinds.iter().copied().filter(|kind| kind.is_text()).collect();
        let kind = one_or_several(types);
        let mut schema = match &self.members {
            Some(Members::Named(members)) => {
                let properties =
                    members.iter().map(|(name, member)| (name.clone(), member.values.schema()));
                let required =
                    members.iter().filter(|(_, member)| member.required).map(|(name, _)| name);
                named(kind, properties.collect(), required)
            }
            Some(Members::Map(values)) => {
                json!({ "type": kind, "additionalProperties": values.schema() })
            }
            None => json!({ "type": kind }),
        };
        if let Some(items) = &self.items {
            schema["items"] = items.schema();
        }
        match format(&texts) {
            Some(format) => schema["format"] = json!(format),
            None if texts.is_empty() => {}
            None => bound(&mut schema, self.length.bound()),
        }
        schema
    }
}

/// The format that all of `kinds` are in.
fn format(kinds: &BTreeSet<Kind>) -> Option<&'static str> {
    let first = kinds.first()?;
    first.format().filter(|_| kinds.len() == 1)
}

fn bound(schema: &mut Value, length_max: Option<usize>) {
    if let Some(length_max) = length_max {
        schema["maxLength"] = json!(length_max);
    }
}

/// The types of scalars, as JSON Schema calls them.
fn types(kinds: &BTreeSet<Kind>) -> BTreeSet<&'static str> {
    let mut types = BTreeSet::new();
    for kind in kinds {
        types.insert(match kind {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Number => "number",
            // Every integer is a number.
            Kind::Integer if kinds.contains(&Kind::Number) => "number",
            Kind::Integer => "integer",
            Kind::Any | Kind::Json => continue,
            _ => "string",
        });
    }
    types
}

fn one_or_several(types: BTreeSet<&'static str>) -> Value {
    match types.first() {
        Some(one) if types.len() == 1 => json!(one),
        _ => json!(types),
    }
}
