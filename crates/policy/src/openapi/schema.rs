//! JSON Schemas: built so that nothing is fetched and no pattern takes long, and what is wrong
//! with a value said in plain words that never show it.

use std::fmt::Write as _;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Draft, PatternOptions, Registry, ValidationError, ValidationOptions, Validator};
use serde_json::Value;

use super::{Finding, Findings};

/// How every validator here is made: offline, with formats checked, and with a regex engine whose
/// time grows with the text alone.
pub fn options<'i>(draft: Draft) -> ValidationOptions<'i> {
    jsonschema::options()
        .with_draft(draft)
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex())
        .offline()
}

/// Where the document is, for the references within it.
const BASE: &str = "urn:seaworthy:document";

/// A document whose schemas refer to each other.
pub(super) struct Schemas<'d> {
    registry: Registry<'d>,
    draft: Draft,
}

impl<'d> Schemas<'d> {
    pub(super) fn of(document: &'d Value, draft: Draft) -> Result<Self, String> {
        let registry = Registry::new()
            .draft(draft)
            .add(BASE, document)
            .and_then(|builder| builder.prepare())
            .map_err(|error| error.to_string())?;
        Ok(Self { registry, draft })
    }

    /// The validator of the schema at `pointer`.
    pub(super) fn validator(&self, pointer: &str) -> Result<Validator, String> {
        let reference = serde_json::json!({ "$ref": format!("{BASE}#{}", fragment(pointer)) });
        options(self.draft)
            .with_registry(&self.registry)
            .build(&reference)
            .map_err(|error| unusable(&error))
    }
}

/// Why a schema that is right by itself cannot be used.
pub(super) fn unusable(error: &ValidationError<'_>) -> String {
    let why = match error.kind() {
        ValidationErrorKind::Referencing(_) => "what it refers to cannot be found".to_owned(),
        kind => format!("expected {}", expected(kind)),
    };
    format!("the schema cannot be used: {why}")
}

/// A JSON Pointer as a URI has it.
fn fragment(pointer: &str) -> String {
    let mut text = String::with_capacity(pointer.len());
    for byte in pointer.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a String takes every write");
        }
    }
    text
}

/// Adds what `validator` finds wrong with `value`, which is at `at`.
pub(super) fn judge(validator: &Validator, value: &Value, at: &str, findings: &mut Findings) {
    if validator.is_valid(value) {
        return;
    }
    for error in validator.iter_errors(value) {
        let path = format!("{at}{}", error.instance_path().as_str());
        describe(&error, &path, findings);
    }
}

/// Says what is expected at `path`.
fn describe(error: &ValidationError<'_>, path: &str, findings: &mut Findings) {
    let kind = error.kind();
    let parent = error.schema_path().as_str().rsplit('/').next().unwrap_or_default();
    let (keyword, nothing) = match (kind, parent) {
        (ValidationErrorKind::FalseSchema, "additionalProperties" | "unevaluatedProperties") => {
            (parent, Some("no members"))
        }
        (ValidationErrorKind::FalseSchema, _) => ("false", Some("nothing at all")),
        _ => (kind.keyword(), None),
    };
    let mut add = |at: String, expected: String| {
        findings.add(|| Finding { at, keyword: keyword.to_owned(), expected });
    };
    let member =
        |name: &str| format!("{path}/{}", shown(name).replace('~', "~0").replace('/', "~1"));
    match kind {
        ValidationErrorKind::Required { property } => {
            add(member(property.as_str().unwrap_or_default()), "it is missing".to_owned());
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                add(member(name), "no such member".to_owned());
            }
        }
        kind => add(path.to_owned(), nothing.map_or_else(|| expected(kind), str::to_owned)),
    }
}

/// What a keyword expects.
pub(super) fn expected(kind: &ValidationErrorKind) -> String {
    use ValidationErrorKind as Kind;
    match kind {
        Kind::Type { kind } => match kind {
            TypeKind::Single(kind) => article(kind.as_str()).to_owned(),
            TypeKind::Multiple(kinds) => {
                let kinds: Vec<_> = (*kinds).into_iter().map(|k| article(k.as_str())).collect();
                kinds.join(" or ")
            }
        },
        Kind::Enum { options } => match &**options {
            Value::Array(options) => one_of(options),
            _ => "one of the listed values".to_owned(),
        },
        Kind::Constant { expected_value } => literal(expected_value),
        Kind::MaxLength { limit } => format!("at most {limit} characters"),
        Kind::MinLength { limit } => format!("at least {limit} characters"),
        Kind::MaxItems { limit } => format!("at most {limit} items"),
        Kind::MinItems { limit } => format!("at least {limit} items"),
        Kind::AdditionalItems { limit } => format!("at most {limit} items"),
        Kind::UnevaluatedItems { .. } => "no further items".to_owned(),
        Kind::MaxProperties { limit } => format!("at most {limit} members"),
        Kind::MinProperties { limit } => format!("at least {limit} members"),
        Kind::Maximum { limit } => format!("at most {limit}"),
        Kind::Minimum { limit } => format!("at least {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("less than {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("more than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("a multiple of {multiple_of}"),
        Kind::Pattern { pattern } => format!("text that matches {}", clipped(pattern)),
        Kind::Format { format } => format!("text in the format {format}"),
        Kind::UniqueItems => "items that all differ".to_owned(),
        Kind::Contains => "an item of the kind that has to be among them".to_owned(),
        Kind::PropertyNames { error } => format!("names of members: {}", expected(error.kind())),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => alternatives(context),
        Kind::OneOfMultipleValid { .. } => "one of the alternatives and not several".to_owned(),
        Kind::Not { .. } => "something else than what is excluded".to_owned(),
        Kind::FalseSchema => "nothing at all".to_owned(),
        Kind::ContentEncoding { content_encoding } => format!("text in {content_encoding}"),
        Kind::FromUtf8 { .. } => "text in UTF-8".to_owned(),
        Kind::ContentMediaType { content_media_type } => {
            format!("text that is {content_media_type}")
        }
        Kind::Custom { keyword, .. } => format!("what {keyword} says"),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            "text that can be compared with the pattern".to_owned()
        }
        Kind::Referencing(_) => "what a schema says that cannot be found".to_owned(),
        Kind::Required { .. }
        | Kind::AdditionalProperties { .. }
        | Kind::UnevaluatedProperties { .. } => "other members".to_owned(),
    }
}

/// What each of several alternatives would need, as long as that is short.
pub(super) fn alternatives(context: &[Vec<ValidationError<'static>>]) -> String {
    const SHOWN: usize = 4;
    let mut words: Vec<String> = Vec::new();
    for errors in context {
        let Some(error) = errors.first() else { continue };
        let path = error.instance_path().as_str();
        let word = match error.kind() {
            ValidationErrorKind::Required { property } => {
                format!("a member {}", literal(property))
            }
            kind if path.is_empty() => expected(kind),
            kind => format!("{} at {path}", expected(kind)),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    match words.len() {
        0 => "one of the alternatives".to_owned(),
        1..=SHOWN => words.join(", or "),
        more => {
            words.truncate(SHOWN);
            format!("{}, or one of {} others", words.join(", or "), more - SHOWN)
        }
    }
}

fn article(kind: &str) -> &'static str {
    match kind {
        "array" => "an array",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "null" => "null",
        "number" => "a number",
        "object" => "an object",
        _ => "a string",
    }
}

fn one_of(options: &[Value]) -> String {
    const SHOWN: usize = 12;
    let words: Vec<_> = options.iter().take(SHOWN).map(literal).collect();
    match options.len().saturating_sub(SHOWN) {
        0 => format!("one of {}", words.join(", ")),
        more => format!("one of {}, or {more} others", words.join(", ")),
    }
}

/// A value of the schema's own.
pub(super) fn literal(value: &Value) -> String {
    clipped(&value.to_string())
}

fn clipped(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A name that the client has sent, cut and escaped.
fn shown(name: &str) -> String {
    name.chars()
        .take(40)
        .flat_map(|c| {
            let escaped: Vec<char> =
                if c.is_control() { c.escape_default().collect() } else { vec![c] };
            escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(schema: Value, value: Value) -> Vec<String> {
        let validator = options(Draft::Draft202012).build(&schema).unwrap();
        let mut findings = Findings::default();
        judge(&validator, &value, "", &mut findings);
        findings.list.iter().map(|f| format!("{} {}: {}", f.at, f.keyword, f.expected)).collect()
    }

    #[test]
    fn every_keyword_has_its_words() {
        for (schema, value, want) in [
            (json!({ "type": "string" }), json!(1), " type: a string"),
            (json!({ "type": ["integer", "null"] }), json!("x"), " type: null or a whole number"),
            (json!({ "enum": ["a", 1] }), json!("hunter2"), " enum: one of \"a\", 1"),
            (json!({ "const": "a" }), json!("hunter2"), " const: \"a\""),
            (json!({ "maxLength": 2 }), json!("abc"), " maxLength: at most 2 characters"),
            (json!({ "minLength": 2 }), json!("a"), " minLength: at least 2 characters"),
            (json!({ "pattern": "^a+$" }), json!("b"), " pattern: text that matches ^a+$"),
            (json!({ "format": "uuid" }), json!("b"), " format: text in the format uuid"),
            (json!({ "format": "date-time" }), json!("b"), " format: text in the format date-time"),
            (json!({ "maximum": 3 }), json!(4), " maximum: at most 3"),
            (json!({ "minimum": 3 }), json!(2), " minimum: at least 3"),
            (json!({ "exclusiveMaximum": 3 }), json!(3), " exclusiveMaximum: less than 3"),
            (json!({ "exclusiveMinimum": 3 }), json!(3), " exclusiveMinimum: more than 3"),
            (json!({ "multipleOf": 2 }), json!(3), " multipleOf: a multiple of 2"),
            (json!({ "maxItems": 1 }), json!([1, 2]), " maxItems: at most 1 items"),
            (json!({ "minItems": 1 }), json!([]), " minItems: at least 1 items"),
            (json!({ "uniqueItems": true }), json!([1, 1]), " uniqueItems: items that all differ"),
            (
                json!({ "contains": { "const": 1 } }),
                json!([2]),
                " contains: an item of the kind that has to be among them",
            ),
            (json!({ "items": { "type": "number" } }), json!([1, "x"]), "/1 type: a number"),
            (json!({ "required": ["a/b"] }), json!({}), "/a~1b required: it is missing"),
            (
                json!({ "additionalProperties": false }),
                json!({ "x": 1 }),
                " additionalProperties: no members",
            ),
            (
                json!({ "properties": { "a": {} }, "additionalProperties": false }),
                json!({ "x": 1 }),
                "/x additionalProperties: no such member",
            ),
            (
                json!({ "unevaluatedProperties": false }),
                json!({ "x": 1 }),
                "/x unevaluatedProperties: no such member",
            ),
            (json!({ "maxProperties": 0 }), json!({ "x": 1 }), " maxProperties: at most 0 members"),
            (json!({ "minProperties": 1 }), json!({}), " minProperties: at least 1 members"),
            (
                json!({ "propertyNames": { "maxLength": 1 } }),
                json!({ "xy": 1 }),
                " propertyNames: names of members: at most 1 characters",
            ),
            (
                json!({ "anyOf": [{ "type": "string" }, { "minimum": 5 }] }),
                json!(1),
                " anyOf: a string, or at least 5",
            ),
            (
                json!({ "oneOf": [{ "type": "string" }, { "required": ["a"] }] }),
                json!({}),
                " oneOf: a string, or a member \"a\"",
            ),
            (
                json!({ "oneOf": [{ "minimum": 1 }, { "minimum": 2 }] }),
                json!(3),
                " oneOf: one of the alternatives and not several",
            ),
            (
                json!({ "not": { "type": "string" } }),
                json!("x"),
                " not: something else than what is excluded",
            ),
            (
                json!({ "properties": { "a": false } }),
                json!({ "a": 1 }),
                "/a false: nothing at all",
            ),
            (
                json!({ "prefixItems": [{}], "unevaluatedItems": false }),
                json!([1, 2]),
                " unevaluatedItems: no further items",
            ),
            (
                json!({ "dependentRequired": { "a": ["b"] } }),
                json!({ "a": 1 }),
                "/b required: it is missing",
            ),
        ] {
            assert_eq!(told(schema.clone(), value), [want], "{schema}");
        }
    }

    #[test]
    fn no_finding_shows_what_was_sent() {
        let schema = json!({
            "properties": { "secret": { "type": "integer", "maxLength": 1, "pattern": "^x$", "enum": [1] } },
            "additionalProperties": false,
        });
        let name = "n".repeat(100) + "\u{7}";
        let told = told(schema, json!({ "secret": "hunter2", name: "hunter2" }));
        assert!(told.len() >= 4, "{told:?}");
        for line in told {
            assert!(!line.contains("hunter2") && line.len() < 120, "{line}");
        }
    }

    #[test]
    fn nothing_is_fetched_and_no_pattern_takes_long() {
        let remote = json!({ "$ref": "https://json-schema.org/draft/2020-12/nothing" });
        assert!(options(Draft::Draft202012).build(&remote).is_err());
        let look_around = json!({ "pattern": "(?=a)b" });
        assert!(options(Draft::Draft202012).build(&look_around).is_err(), "it cannot be bounded");
        let slow = json!({ "pattern": "^(a+)+$" });
        let validator = options(Draft::Draft202012).build(&slow).unwrap();
        assert!(!validator.is_valid(&json!("a".repeat(100_000) + "b")));
    }
}
