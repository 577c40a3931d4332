//! Which types a schema takes, as far as it decides how text is read: a parameter and a field of a
//! form come as text, and their schema says whether `7` is a number.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

/// References and combinations that are followed to find a type.
const DEPTH_MAX: usize = 8;

/// The types that a schema names.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    string: bool,
    number: bool,
    boolean: bool,
    pub(super) array: bool,
    pub(super) object: bool,
    pub(super) items: Option<Box<Self>>,
    pub(super) properties: BTreeMap<String, Self>,
}

impl Shape {
    pub(super) fn of(schema: &Value, document: &Value) -> Self {
        let mut shape = Self::default();
        shape.add(schema, document, 0);
        shape
    }

    fn add(&mut self, schema: &Value, document: &Value, depth: usize) {
        if depth == DEPTH_MAX {
            return;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str)
            && let Some(target) = target.strip_prefix('#').and_then(|at| document.pointer(at))
        {
            self.add(target, document, depth + 1);
        }
        match schema.get("type") {
            Some(Value::String(kind)) => self.name(kind),
            Some(Value::Array(kinds)) => {
                kinds.iter().filter_map(Value::as_str).for_each(|kind| self.name(kind));
            }
            _ => {}
        }
        for option in schema.get("enum").and_then(Value::as_array).into_iter().flatten() {
            match option {
                Value::Number(_) => self.number = true,
                Value::Bool(_) => self.boolean = true,
                Value::String(_) => self.string = true,
                _ => {}
            }
        }
        if let Some(items) = schema.get("items") {
            let mut inner = Self::default();
            inner.add(items, document, depth + 1);
            self.items = Some(Box::new(inner));
        }
        for (name, property) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            self.properties.entry(name.clone()).or_default().add(property, document, depth + 1);
        }
        for combination in ["allOf", "anyOf", "oneOf"] {
            for part in schema.get(combination).and_then(Value::as_array).into_iter().flatten() {
                self.add(part, document, depth + 1);
            }
        }
    }

    fn name(&mut self, kind: &str) {
        match kind {
            "string" => self.string = true,
            "integer" | "number" => self.number = true,
            "boolean" => self.boolean = true,
            "array" => self.array = true,
            "object" => self.object = true,
            _ => {}
        }
    }

    /// Reads `text` as the type that is wanted; as text where it is none of another. Where text is
    /// wanted too, it is text.
    pub(super) fn scalar(&self, text: &str) -> Value {
        if !self.string {
            if self.boolean && matches!(text, "true" | "false") {
                return Value::Bool(text == "true");
            }
            if self.number
                && let Some(number) = number(text)
            {
                return Value::Number(number);
            }
        }
        Value::String(text.to_owned())
    }

    pub(super) fn item(&self, text: &str) -> Value {
        match &self.items {
            Some(items) => items.scalar(text),
            None => Value::String(text.to_owned()),
        }
    }

    pub(super) fn property(&self, name: &str, text: &str) -> Value {
        match self.properties.get(name) {
            Some(shape) => shape.scalar(text),
            None => Value::String(text.to_owned()),
        }
    }
}

/// A number as JSON writes it: two programs agree on what it means.
pub(crate) fn number(text: &str) -> Option<Number> {
    match serde_json::from_str(text).ok()? {
        Value::Number(number) => Some(number),
        _ => None,
    }
}
