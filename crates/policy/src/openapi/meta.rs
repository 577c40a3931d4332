//! Schemas as schemas: everything that is wrong with one, each fault where it is and in plain words.
//!
//! 1. A schema is held to the schema of its dialect, and every pattern in it is compiled.
//! 2. What it refers to is judged, too, each place once.

use std::collections::{HashMap, HashSet};

use jsonschema::Draft;
use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::meta::MetaValidator;
use serde_json::{Value, json};

use super::document::{escape, unescape};
use super::schema::{alternatives, expected, literal, options};

/// Keywords that have a schema, a list of them, or some by name. Those of older drafts are among
/// them, and some keywords have had several shapes.
const SCHEMAS: [&str; 20] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    // By name:
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// Keywords that have definitions by name.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// Judges the schemas of one document.
pub(super) struct Forms<'d> {
    document: &'d Value,
    draft: Draft,
    validator: MetaValidator<'static>,
    /// The schemas that have been judged, and what each refers to.
    judged: HashMap<String, Vec<String>>,
    /// Those among them that have a fault.
    faulty: HashSet<String>,
}

impl<'d> Forms<'d> {
    pub(super) fn new(document: &'d Value, draft: Draft) -> Self {
        let validator = match draft {
            Draft::Draft4 => jsonschema::draft4::meta::validator(),
            Draft::Draft6 => jsonschema::draft6::meta::validator(),
            Draft::Draft7 => jsonschema::draft7::meta::validator(),
            Draft::Draft201909 => jsonschema::draft201909::meta::validator(),
            _ => jsonschema::draft202012::meta::validator(),
        };
        Self { document, draft, validator, judged: HashMap::new(), faulty: HashSet::new() }
    }

    /// Hands every fault of the schema at `pointer`, and of those that it refers to, to `tell`: with
    /// its place and in words. What has been judged before is not told again.
    pub(super) fn judge(&mut self, pointer: &str, tell: &mut dyn FnMut(&str, String)) {
        // With a list of its own in place of recursion: references can lead through all of it.
        let mut open = vec![pointer.to_owned()];
        while let Some(at) = open.pop() {
            if self.judged.contains_key(&at) {
                continue;
            }
            let Some(schema) = self.document.pointer(&at) else { continue };
            let mut is_faulty = false;
            let mut note = |place: &str, words: String| {
                is_faulty = true;
                tell(place, words);
            };
            for error in self.validator.iter_errors(schema) {
                if let Some(words) = words(&error) {
                    note(&format!("{at}{}", error.instance_path().as_str()), words);
                }
            }
            let mut references = Vec::new();
            self.walk(schema, &mut at.clone(), &mut references, &mut note);
            if is_faulty {
                self.faulty.insert(at.clone());
            }
            open.extend(references.iter().cloned());
            self.judged.insert(at, references);
        }
    }

    /// Whether a fault has been told of the schema at `pointer`, or of any that it leads to.
    pub(super) fn is_faulty(&self, pointer: &str) -> bool {
        let (mut open, mut seen) = (vec![pointer], HashSet::new());
        while let Some(at) = open.pop() {
            if self.faulty.contains(at) {
                return true;
            }
            if seen.insert(at) {
                open.extend(self.judged.get(at).into_iter().flatten().map(String::as_str));
            }
        }
        false
    }

    /// Looks for patterns and references in `schema` and the schemas in it. A document has few
    /// enough levels for recursion.
    fn walk(
        &self,
        schema: &Value,
        at: &mut String,
        references: &mut Vec<String>,
        note: &mut dyn FnMut(&str, String),
    ) {
        let Value::Object(map) = schema else { return };
        let length = at.len();
        for (name, part) in map {
            at.push('/');
            at.push_str(&escape(name));
            match (name.as_str(), part) {
                ("$ref", Value::String(reference)) => {
                    let target = reference.strip_prefix('#').filter(|at| at.starts_with('/'));
                    references.extend(target.map(unescape));
                }
                ("pattern", Value::String(pattern)) => {
                    if let Some(words) = self.pattern_fault(pattern) {
                        note(at, words);
                    }
                }
                (known, Value::Object(parts)) if by_name(known) => {
                    for (name, part) in parts {
                        let within = format!("{at}/{}", escape(name));
                        let fault = (known == "patternProperties")
                            .then(|| self.pattern_fault(name))
                            .flatten();
                        if let Some(words) = fault {
                            note(&within, words);
                        }
                        self.walk(part, &mut within.clone(), references, note);
                    }
                }
                (known, Value::Array(parts)) if SCHEMAS.contains(&known) => {
                    for (index, part) in parts.iter().enumerate() {
                        self.walk(part, &mut format!("{at}/{index}"), references, note);
                    }
                }
                (known, part) if SCHEMAS.contains(&known) => self.walk(part, at, references, note),
                _ => {}
            }
            at.truncate(length);
        }
    }

    /// What is wrong with `pattern`, for the engine that will compare with it.
    fn pattern_fault(&self, pattern: &str) -> Option<String> {
        if options(self.draft).build(&json!({ "pattern": pattern })).is_ok() {
            return None;
        }
        let has = |signs: &[&str]| signs.iter().any(|sign| pattern.contains(sign));
        let refers_back = |pair: &[u8]| matches!(pair, [b'\\', b'1'..=b'9' | b'k']);
        let words = if has(&["(?=", "(?!", "(?<=", "(?<!"]) {
            "expected a pattern without look-around, which has no bound in time"
        } else if pattern.as_bytes().windows(2).any(refers_back) {
            "expected a pattern without back-references, which have no bound in time"
        } else {
            "expected a regular expression"
        };
        Some(words.to_owned())
    }
}

fn by_name(keyword: &str) -> bool {
    DEFINITIONS.contains(&keyword)
        || matches!(
            keyword,
            "dependencies" | "dependentSchemas" | "patternProperties" | "properties"
        )
}

/// What is expected in place of what `error` is about. `None` where it is told in another way.
fn words(error: &jsonschema::ValidationError<'_>) -> Option<String> {
    let words = match error.kind() {
        // Patterns are compiled, which says more.
        Kind::Format { format } if format == "regex" => return None,
        Kind::PropertyNames { .. } => return None,
        Kind::AnyOf { .. } if error.schema_path().as_str().contains("/properties/type/") => {
            types(error.instance())
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => alternatives(context),
        Kind::Required { property } => format!("a member {}", literal(property)),
        kind => expected(kind),
    };
    Some(format!("expected {words}"))
}

/// What a `type` can be, and what `found` may have been meant for.
fn types(found: &Value) -> String {
    let names = TYPES.join(", ");
    let given = found.as_array().map_or(std::slice::from_ref(found), Vec::as_slice);
    let unknown = given.iter().filter_map(Value::as_str).find(|name| !TYPES.contains(name));
    let near = unknown.and_then(|name| {
        let near = TYPES.map(|known| (strsim::osa_distance(known, &name.to_lowercase()), known));
        near.into_iter().min().filter(|(edits, known)| *edits <= known.len() / 3)
    });
    let meant = near.map(|(_, known)| format!("; did you mean \"{known}\"?")).unwrap_or_default();
    format!("one of {names}, or a list of several{meant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(document: &Value, draft: Draft, at: &str) -> Vec<String> {
        let mut told = Vec::new();
        let mut forms = Forms::new(document, draft);
        forms.judge(at, &mut |place, words| told.push(format!("{place}: {words}")));
        assert_eq!(forms.is_faulty(at), !told.is_empty());
        told.sort();
        // Several parts of a dialect can ask for the same.
        told.dedup();
        told
    }

    #[test]
    fn each_fault_has_its_place_and_plain_words() {
        const TYPES: &str = "expected one of array, boolean, integer, null, number, object, \
                             string, or a list of several";
        for (schema, want) in [
            (json!({ "type": "object", "required": ["a"], "pattern": "^a+$" }), vec![]),
            (json!(true), vec![]),
            (json!([]), vec![": expected true or false or an object".to_owned()]),
            (json!({ "type": "strng" }), vec![format!("/type: {TYPES}; did you mean \"string\"?")]),
            (json!({ "type": "text" }), vec![format!("/type: {TYPES}")]),
            (
                json!({ "type": ["null", "Integer"] }),
                vec![format!("/type: {TYPES}; did you mean \"integer\"?")],
            ),
            (json!({ "type": 5 }), vec![format!("/type: {TYPES}")]),
            (
                json!({ "required": "text", "minimum": "3", "maxLength": -1 }),
                vec![
                    "/maxLength: expected at least 0".to_owned(),
                    "/minimum: expected a number".to_owned(),
                    "/required: expected an array".to_owned(),
                ],
            ),
            (
                // A member that is called as a keyword is.
                json!({ "properties": { "type": "string", "pattern": { "pattern": "(?=x)" } } }),
                vec![
                    "/properties/pattern/pattern: expected a pattern without look-around, which \
                     has no bound in time"
                        .to_owned(),
                    "/properties/type: expected true or false or an object".to_owned(),
                ],
            ),
            (
                json!({ "items": { "anyOf": [{}, { "pattern": "(a)\\1" }] } }),
                vec![
                    "/items/anyOf/1/pattern: expected a pattern without back-references, which \
                     have no bound in time"
                        .to_owned(),
                ],
            ),
            (
                json!({ "patternProperties": { "a/(": { "pattern": "[" } } }),
                vec![
                    "/patternProperties/a~1(/pattern: expected a regular expression".to_owned(),
                    "/patternProperties/a~1(: expected a regular expression".to_owned(),
                ],
            ),
        ] {
            assert_eq!(faults(&schema, Draft::Draft202012, ""), want, "{schema}");
        }
    }

    #[test]
    fn what_is_referred_to_is_judged_once_and_counts() {
        let document = json!({
            "A": { "allOf": [{ "$ref": "#/B" }, { "$ref": "#/C" }, { "$ref": "#/none" }] },
            "B": { "$ref": "#/C" },
            "C": { "type": "number", "pattern": "(?!a)", "items": { "$ref": "#/A" } },
        });
        let told = faults(&document, Draft::Draft202012, "/A");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("/C/pattern: "), "{told:?}");
        let mut forms = Forms::new(&document, Draft::Draft202012);
        forms.judge("/B", &mut |_, _| {});
        assert!(forms.is_faulty("/B") && !forms.is_faulty("/D"));
    }

    #[test]
    fn each_draft_has_its_own_rules() {
        let exclusive = json!({ "minimum": 3, "exclusiveMinimum": true });
        for (draft, count) in [
            (Draft::Draft4, 0),
            (Draft::Draft6, 1),
            (Draft::Draft7, 1),
            (Draft::Draft201909, 1),
            (Draft::Draft202012, 1),
        ] {
            assert_eq!(faults(&exclusive, draft, "").len(), count, "{draft:?}");
            assert_eq!(faults(&json!({ "type": "strin" }), draft, "").len(), 1, "{draft:?}");
        }
    }
}
