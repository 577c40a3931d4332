//! The fields of a route: what is wrong with them, and the request with canonical values in it.
//!
//! 1. A field that is not there is no fault: which fields must be there is for `request_schema`.
//! 2. Where any input of any field is invalid, nothing is rewritten.
//! 3. Where nothing merges, only the strings that are aliases change. Where aliases of one value
//!    merge, the object or array that they are in is written anew: the items that did not merge
//!    keep their bytes.
//! 4. Whatever has only canonical values, each once, passes byte for byte; so rewriting twice is
//!    rewriting once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::invalid::{InvalidInput, shown};
use super::normalized::Weight;
use super::parse::{Item, Reading, Shape};
use super::place::{At, Edit, Pointer, edited};
use super::suggest::{Budget, Suggestions};
use super::{Vocabulary, json, query};

/// Invalid inputs that are told of one request; the others are counted.
pub const INVALID_MAX: usize = 64;

/// A place that carries values of a vocabulary.
#[derive(Clone, Debug)]
pub struct Field {
    pub at: At,
    pub vocabulary: Arc<Vocabulary>,
    pub shape: Shape,
    pub on_alias: OnAlias,
}

/// What the service gets where a client has written an alias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnAlias {
    /// The canonical value.
    #[default]
    Rewrite,
    /// What the client wrote.
    Pass,
}

/// The fields of one route. None is inside of another.
#[derive(Clone, Debug)]
pub struct FieldSet {
    body: Vec<(Pointer, Field)>,
    query: Vec<(String, Field)>,
}

/// Why fields are refused. Fits after "failed to take the fields: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("\"{one}\" and \"{other}\" are one place, or one is inside of the other")]
    Overlap { one: String, other: String },
    #[error("\"{0}\" is a parameter, which carries a scalar or a list")]
    QueryShape(String),
}

/// Why a request cannot be given to the service in canonical values.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("the body is not UTF-8")]
    NotUtf8,
    #[error("the body is not JSON, from line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("{} inputs mean nothing", .0.inputs.len() + .0.omitted)]
    Invalid(Box<Invalid>),
}

/// What is wrong with a request's fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Invalid {
    /// Each with its place in the request: a JSON Pointer into the body, or `query:name`.
    pub inputs: Vec<InvalidInput>,
    /// How many more there are.
    pub omitted: usize,
    pub suggestions: Suggestions,
}

impl FieldSet {
    pub fn new(fields: impl IntoIterator<Item = Field>) -> Result<Self, FieldError> {
        let mut set = Self { body: Vec::new(), query: Vec::new() };
        for field in fields {
            let overlap = |other: String| {
                Err(FieldError::Overlap { one: other, other: field.at.to_string() })
            };
            match field.at.clone() {
                At::Body(pointer) => {
                    if let Some((other, _)) = set.body.iter().find(|(o, _)| o.overlaps(&pointer)) {
                        return overlap(other.to_string());
                    }
                    set.body.push((pointer, field));
                }
                At::Query(name) => {
                    if !matches!(field.shape, Shape::Scalar | Shape::List) {
                        return Err(FieldError::QueryShape(field.at.to_string()));
                    }
                    if let Some((_, other)) = set.query.iter().find(|(other, _)| *other == name) {
                        return overlap(other.at.to_string());
                    }
                    set.query.push((name, field));
                }
            }
        }
        Ok(set)
    }

    pub(super) fn body(&self) -> &[(Pointer, Field)] {
        &self.body
    }

    /// Whether any field is in the body.
    pub const fn reads_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// Whether any field is in the query.
    pub const fn reads_query(&self) -> bool {
        !self.query.is_empty()
    }

    /// The body in canonical values. `None` where it is to stay as it is.
    pub fn rewrite_body(&self, body: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        if self.body.is_empty() {
            return Ok(None);
        }
        let body = std::str::from_utf8(body).map_err(|_| Refusal::NotUtf8)?;
        let root = json::read(body).map_err(|error| self.explain(body, &error))?;
        let (review, edits) = self.review(body, root);
        review.finish()?;
        Ok((!edits.is_empty()).then(|| edited(body, edits).into_bytes()))
    }

    /// The query, without its `?`, in canonical values. `None` where it is to stay as it is.
    pub fn rewrite_query(&self, query: &str) -> Result<Option<String>, Refusal> {
        let (mut review, mut edits) = (Review::new(), Vec::new());
        for (name, field) in &self.query {
            let is_it = |own: &str| own == name;
            let place = format!("query:{name}");
            query::review(query, &is_it, &place, field, &mut review, &mut edits);
        }
        review.finish()?;
        Ok((!edits.is_empty()).then(|| edited(query, edits)))
    }

    fn review<'a>(&'a self, body: &'a str, root: &'a RawValue) -> (Review, Vec<Edit>) {
        let (mut review, mut edits) = (Review::new(), Vec::new());
        for (pointer, field) in &self.body {
            let mut faults = Vec::new();
            let mut found = |at: &str, value: &'a RawValue| {
                let mut reading = Reading::new(&field.vocabulary, &mut review.budget);
                reading.field(value, &field.shape);
                if reading.invalid.is_empty() && field.on_alias == OnAlias::Rewrite {
                    push_edits(&reading, body, value, &mut edits);
                }
                let Reading { invalid, suggestions, .. } = reading;
                review.invalid.take(at, invalid, suggestions);
            };
            pointer.walk(root, &mut found, &mut faults);
            faults.into_iter().for_each(|fault| review.push(fault));
        }
        (review, edits)
    }

    /// Text that is no JSON for the sake of a NaN in a field is told so where the NaN is.
    fn explain(&self, body: &str, error: &serde_json::Error) -> Refusal {
        let quoted = json::quote_non_finite(body).unwrap_or_default();
        let review = json::read(&quoted).ok().map(|root| self.review(&quoted, root).0);
        match review.map(Review::finish) {
            Some(Err(refusal)) => refusal,
            _ => Refusal::NotJson { line: error.line(), column: error.column() },
        }
    }
}

/// The findings of one request.
pub(super) struct Review {
    invalid: Invalid,
    budget: Budget,
}

impl Review {
    pub(super) fn new() -> Self {
        Self { invalid: Invalid::default(), budget: Budget::new() }
    }

    pub(super) fn push(&mut self, input: InvalidInput) {
        self.invalid.push(input);
    }

    /// Adds what is near to `input` in `vocabulary`.
    pub(super) fn suggest(&mut self, input: &str, vocabulary: &Vocabulary) {
        let near = vocabulary.nearest(input, &mut self.budget);
        self.invalid.suggest(shown(input), near);
    }

    /// How much may still be suggested.
    pub(super) const fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// Takes what is wrong with the field at `at`.
    pub(super) fn take(&mut self, at: &str, inputs: Vec<InvalidInput>, suggestions: Suggestions) {
        self.invalid.take(at, inputs, suggestions);
    }

    pub(super) fn finish(self) -> Result<(), Refusal> {
        if self.invalid.inputs.is_empty() {
            return Ok(());
        }
        Err(Refusal::Invalid(Box::new(self.invalid)))
    }
}

impl Invalid {
    fn push(&mut self, input: InvalidInput) {
        if self.inputs.len() < INVALID_MAX {
            self.inputs.push(input);
        } else {
            self.omitted += 1;
        }
    }

    fn suggest(&mut self, input: String, near: Vec<String>) {
        let is_new = self.suggestions.of(&input).is_empty();
        if !near.is_empty() && is_new && self.suggestions.0.len() < INVALID_MAX {
            self.suggestions.0.push((input, near));
        }
    }

    /// Takes what is wrong with the field at `at`.
    fn take(&mut self, at: &str, inputs: Vec<InvalidInput>, suggestions: Suggestions) {
        for mut input in inputs {
            input.at.insert_str(0, at);
            self.push(input);
        }
        for (input, near) in suggestions.0 {
            self.suggest(input, near);
        }
    }
}

/// What is to be changed in `body` so that `field`, which was read without a fault, is canonical.
pub(super) fn push_edits(
    reading: &Reading<'_, '_>,
    body: &str,
    field: &RawValue,
    edits: &mut Vec<Edit>,
) {
    if reading.merges {
        let text = merged(reading, field);
        return edits.push(Edit { span: json::span(body, field.get()), text });
    }
    for item in &reading.items {
        if let Some(new) = canonical(reading, item) {
            edits.push(Edit { span: json::span(body, item.key.get()), text: new.to_owned() });
        }
    }
}

/// The JSON string to put in place of `item`'s, if that is an alias.
fn canonical<'a>(reading: &Reading<'a, '_>, item: &Item<'_>) -> Option<&'a str> {
    let value = reading.vocabulary.value(item.value);
    (item.text != *value.text).then_some(&*value.json)
}

/// `field` with the items of one value as one item.
fn merged(reading: &Reading<'_, '_>, field: &RawValue) -> String {
    let items: Vec<String> = reading
        .merged()
        .into_iter()
        .map(|(item, weight)| {
            let key = canonical(reading, item).unwrap_or(item.key.get());
            match (item.entry, weight) {
                (Some(entry), Some(weight)) => with_parts(entry, item, key, &weight),
                (None, Some(weight)) => format!("{key}:{}", weight.as_str()),
                (_, None) => key.to_owned(),
            }
        })
        .collect();
    let items = items.join(",");
    match json::Kind::of(field) {
        json::Kind::Object => format!("{{{items}}}"),
        _ => format!("[{items}]"),
    }
}

/// `entry` with this key and weight; its other bytes stay.
fn with_parts(entry: &RawValue, item: &Item<'_>, key: &str, weight: &Weight<'_>) -> String {
    let whole = entry.get();
    let mut edits = vec![Edit { span: json::span(whole, item.key.get()), text: key.to_owned() }];
    if let (Weight::Merged(sum), Some((first, _))) = (weight, item.weight) {
        edits.push(Edit { span: json::span(whole, first.get()), text: sum.get().to_owned() });
    }
    edited(whole, edits)
}

#[cfg(test)]
mod tests;
