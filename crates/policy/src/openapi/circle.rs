//! Schemas that refer to themselves before anything of the value has been used up.
//!
//! A tree refers to itself through its members, and ends where the value does. `A: { $ref: B }` and
//! `B: { $ref: A }` end nowhere: they say nothing, and whatever is sent would pass.

use std::collections::HashMap;

use serde_json::Value;

use super::document::{escape, unescape};

/// Keywords whose schemas are about the very value of the schema that has them.
const OF_ONE: [&str; 4] = ["not", "if", "then", "else"];
const OF_LIST: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const OF_MAP: [&str; 2] = ["dependentSchemas", "dependencies"];

/// Keywords that refer to another schema.
const REFERENCES: [&str; 2] = ["$ref", "$dynamicRef"];

pub(super) const FAULT: &str = "the references lead in a circle, and say nothing";

/// The places of the references in `document` that close a circle.
pub(super) fn circles(document: &Value) -> Vec<String> {
    let mut search = Search { document, seen: HashMap::new(), closing: Vec::new() };
    search.all(document, &mut String::new());
    search.closing.sort();
    search.closing.dedup();
    search.closing
}

struct Search<'d> {
    document: &'d Value,
    /// Schemas by their pointers: whether all that they lead to has been looked at.
    seen: HashMap<String, bool>,
    closing: Vec<String>,
}

impl Search<'_> {
    /// Visits every schema of `value`, which is at `at`, that refers to another one.
    fn all(&mut self, value: &Value, at: &mut String) {
        let length = at.len();
        let mut inside = |segment: &str, part: &Value| {
            at.push('/');
            at.push_str(&escape(segment));
            self.all(part, at);
            at.truncate(length);
        };
        match value {
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| inside(&index.to_string(), item));
            }
            Value::Object(map) => {
                map.iter().for_each(|(name, part)| inside(name, part));
                if REFERENCES.iter().any(|keyword| map.get(*keyword).is_some_and(Value::is_string))
                {
                    self.visit(at);
                }
            }
            _ => {}
        }
    }

    /// Visits all schemas that are about the same value as the one at `start`. With a list of its
    /// own in place of recursion: a chain of references can be as long as the document.
    fn visit(&mut self, start: &str) {
        let mut path = vec![Step { at: start.to_owned(), by: String::new(), next: None }];
        while let Some(Step { at, next, .. }) = path.last_mut() {
            let next = match next {
                Some(next) => next,
                None => {
                    if self.seen.contains_key(at.as_str()) {
                        path.pop();
                        continue;
                    }
                    self.seen.insert(at.clone(), false);
                    next.insert(edges(self.document, at))
                }
            };
            let Some((by, to)) = next.pop() else {
                self.seen.insert(at.clone(), true);
                path.pop();
                continue;
            };
            match self.seen.get(&to) {
                Some(true) => {}
                Some(false) => self.closing.extend(reference_of(&path, &to, by)),
                None => path.push(Step { at: to, by, next: None }),
            }
        }
    }
}

/// A schema on the way.
struct Step {
    at: String,
    /// The place that led to it.
    by: String,
    /// What it leads to and has not been followed.
    next: Option<Vec<(String, String)>>,
}

/// The last reference of the circle that `by` closes at `to`.
fn reference_of(path: &[Step], to: &str, by: String) -> Option<String> {
    let circle = path.iter().rev().take_while(|step| step.at != to).map(|step| step.by.clone());
    std::iter::once(by)
        .chain(circle)
        .find(|place| REFERENCES.iter().any(|keyword| place.ends_with(&format!("/{keyword}"))))
}

/// Where the schema at `at` leads without using up anything: each by its own place.
fn edges(document: &Value, at: &str) -> Vec<(String, String)> {
    let Some(schema) = document.pointer(at).and_then(Value::as_object) else { return Vec::new() };
    let mut edges = Vec::new();
    for keyword in REFERENCES {
        let reference = schema.get(keyword).and_then(Value::as_str);
        if let Some(target) = reference.and_then(|reference| reference.strip_prefix('#')) {
            edges.push((format!("{at}/{keyword}"), unescape(target)));
        }
    }
    let mut inside = |below: String| edges.push((below.clone(), below));
    for keyword in OF_ONE {
        if schema.contains_key(keyword) {
            inside(format!("{at}/{keyword}"));
        }
    }
    for keyword in OF_LIST {
        let count = schema.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
        (0..count).for_each(|index| inside(format!("{at}/{keyword}/{index}")));
    }
    for keyword in OF_MAP {
        let dependent = schema.get(keyword).and_then(Value::as_object);
        for (name, schema) in dependent.into_iter().flatten() {
            // `dependencies` of older drafts can be lists of names.
            if schema.is_object() {
                inside(format!("{at}/{keyword}/{}", escape(name)));
            }
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_circle_is_told_from_a_tree() {
        let document = json!({
            "Tree": { "properties": { "left": { "$ref": "#/Tree" } }, "items": { "$ref": "#/Tree" } },
            "Self": { "$ref": "#/Self" },
            "A": { "$ref": "#/B" },
            "B": { "allOf": [{ "type": "object" }, { "$ref": "#/A" }] },
            "If": { "if": { "not": { "$ref": "#/If" } } },
            "Old": { "dependencies": { "a": { "$dynamicRef": "#/Old" }, "b": ["a"] } },
            "Twice": { "anyOf": [{ "$ref": "#/Leaf" }, { "$ref": "#/Leaf" }] },
            "Leaf": { "type": "string" },
        });
        let found = circles(&document);
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[1], "/If/if/not/$ref");
        assert_eq!(found[2], "/Old/dependencies/a/$dynamicRef");
        assert_eq!(found[3], "/Self/$ref");
        assert!(found[0].ends_with("/$ref"), "{found:?}");
    }
}
