//! Schemas of OpenAPI 3.0, which are nearly those of JSON Schema, made into schemas of 2020-12.
//!
//! 1. `nullable` adds the type null, and null to the values of an `enum`.
//! 2. `exclusiveMinimum: true` makes an exclusive bound of `minimum`; so does the maximum's.
//! 3. What stands beside a `$ref` is ignored, as 3.0 has it.
//! 4. A property that is `readOnly` is not required: a request cannot send it. This holds for 3.1,
//!    too.

use serde_json::{Map, Value, json};

/// The keywords under which a schema has one schema, several, or some by name.
const ONE: [&str; 3] = ["items", "additionalProperties", "not"];
const MANY: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const NAMED: [&str; 2] = ["properties", "patternProperties"];

/// Makes of all schemas of a 3.0 document schemas of 2020-12.
pub(super) fn upgrade(document: &mut Value) {
    walk(document, &mut |schema| {
        if let Some(reference) = schema.get("$ref").cloned() {
            *schema = Map::from_iter([("$ref".to_owned(), reference)]);
            return;
        }
        bound(schema, "exclusiveMinimum", "minimum");
        bound(schema, "exclusiveMaximum", "maximum");
        if schema.remove("nullable") == Some(Value::Bool(true)) {
            if let Some(Value::String(kind)) = schema.get("type").cloned() {
                schema.insert("type".to_owned(), json!([kind, "null"]));
            }
            if let Some(Value::Array(options)) = schema.get_mut("enum")
                && !options.contains(&Value::Null)
            {
                options.push(Value::Null);
            }
        }
    });
}

fn bound(schema: &mut Map<String, Value>, exclusive: &str, plain: &str) {
    match schema.remove(exclusive) {
        Some(Value::Bool(true)) => {
            if let Some(limit) = schema.remove(plain) {
                schema.insert(exclusive.to_owned(), limit);
            }
        }
        Some(Value::Bool(false)) | None => {}
        Some(other) => drop(schema.insert(exclusive.to_owned(), other)),
    }
}

/// Rule 4.
pub(super) fn forgive_read_only(document: &mut Value) {
    walk(document, &mut |schema| {
        let read_only: Vec<String> = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(_, property)| property.get("readOnly") == Some(&Value::Bool(true)))
            .map(|(name, _)| name.clone())
            .collect();
        if let Some(Value::Array(required)) = schema.get_mut("required") {
            required.retain(|name| !read_only.iter().any(|known| name == known));
        }
    });
}

/// Hands every schema of the document to `change`.
fn walk(document: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match document {
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, change)),
        Value::Object(map) => {
            for (name, part) in map {
                match (name.as_str(), part) {
                    // What is shown to people is no schema, whatever it looks like.
                    ("example" | "examples" | "default" | "x-example", _) => {}
                    ("schema", part) => one(part, change),
                    ("schemas", Value::Object(schemas)) => {
                        schemas.values_mut().for_each(|schema| one(schema, change));
                    }
                    (_, part) => walk(part, change),
                }
            }
        }
        _ => {}
    }
}

fn one(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(map) = schema else { return };
    change(map);
    for name in ONE {
        if let Some(inner) = map.get_mut(name) {
            one(inner, change);
        }
    }
    for name in MANY {
        if let Some(Value::Array(inner)) = map.get_mut(name) {
            inner.iter_mut().for_each(|inner| one(inner, change));
        }
    }
    for name in NAMED {
        if let Some(Value::Object(inner)) = map.get_mut(name) {
            inner.values_mut().for_each(|inner| one(inner, change));
        }
    }
}
