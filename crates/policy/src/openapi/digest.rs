//! What one operation judges by: its parameters and its body, and all that they refer to.
//!
//! A document changes often, and most of its operations do not: they keep what they have earned.

use std::collections::BTreeSet;

use ring::digest::{Context, SHA256};
use serde_json::Value;

use super::document::unescape;

/// Identifies what lies at `places` in `document`, with everything that is referred to from there.
pub(super) fn digest(document: &Value, places: &[String]) -> [u8; 32] {
    let mut parts = Parts { seen: BTreeSet::new(), open: places.to_vec(), whole: false };
    // Which dialect the schemas are in.
    parts.open.extend(["/openapi", "/jsonSchemaDialect"].map(str::to_owned));
    let mut context = Context::new(&SHA256);
    let mut add = |at: &str, value: &Value| {
        let text = value.to_string();
        for part in [at, &text] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
    };
    while let Some(at) = parts.open.pop() {
        if !parts.seen.insert(at.clone()) {
            continue;
        }
        if let Some(value) = document.pointer(&at) {
            add(&at, value);
            parts.follow(value);
        }
    }
    if parts.whole {
        add("", document);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

struct Parts {
    seen: BTreeSet<String>,
    /// Places that are still to be looked at.
    open: Vec<String>,
    /// Something refers to a place by more than where it is.
    whole: bool,
}

impl Parts {
    /// Notes what `value` refers to. With a list of its own in place of recursion.
    fn follow(&mut self, value: &Value) {
        let mut values = vec![value];
        while let Some(value) = values.pop() {
            match value {
                Value::Array(items) => values.extend(items),
                Value::Object(map) => {
                    for (name, part) in map {
                        match (name.as_str(), part) {
                            ("$ref", Value::String(target)) => match target.strip_prefix('#') {
                                Some(at) if at.is_empty() || at.starts_with('/') => {
                                    self.open.push(unescape(at));
                                }
                                _ => self.whole = true,
                            },
                            ("$dynamicRef" | "$id", Value::String(_)) => self.whole = true,
                            _ => values.push(part),
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "openapi": "3.1.0",
            "paths": { "/a": { "post": {
                "summary": "A",
                "requestBody": { "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/One" }
                } } }
            } } },
            "components": { "schemas": {
                "One": { "properties": { "two": { "$ref": "#/components/schemas/Two" } } },
                "Two": { "properties": { "one": { "$ref": "#/components/schemas/One" } } },
                "Three": { "type": "string" }
            } }
        })
    }

    #[test]
    fn what_is_referred_to_counts_and_nothing_else() {
        let of = |document: &Value| digest(document, &["/paths/~1a/post/requestBody".to_owned()]);
        let before = of(&document());
        for (at, value, differs) in [
            ("/components/schemas/Two/properties/one", json!({}), true),
            ("/components/schemas/One/properties", json!({}), true),
            ("/openapi", json!("3.0.3"), true),
            ("/components/schemas/Three", json!({}), false),
            ("/paths/~1a/post/summary", json!("B"), false),
        ] {
            let mut document = document();
            *document.pointer_mut(at).unwrap() = value;
            assert_eq!(of(&document) != before, differs, "{at}");
        }
    }

    #[test]
    fn with_other_references_all_of_the_document_counts() {
        let at = "/components/schemas/One/properties/two";
        for reference in [json!({ "$ref": "#two" }), json!({ "$dynamicRef": "#two" })] {
            let mut document = document();
            *document.pointer_mut(at).unwrap() = reference;
            let of =
                |document: &Value| digest(document, &["/paths/~1a/post/requestBody".to_owned()]);
            let before = of(&document);
            document["components"]["schemas"]["Three"] = json!({});
            assert_ne!(of(&document), before);
        }
    }
}
