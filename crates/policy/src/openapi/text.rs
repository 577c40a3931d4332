//! A document's text, YAML or JSON, read into a value of which each part knows its place.
//!
//! 1. One parser reads both: JSON is YAML. What YAML alone has is allowed, too: comments, anchors.
//! 2. A name that is there twice in a mapping is a fault, and so are tags, several documents and
//!    keys that are no text.
//! 3. Every bound is explicit: bytes, levels, and the parts that aliases expand to.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

use super::DocumentFault;

/// A larger document describes more than a gateway can hold rules for.
const BYTES_MAX: usize = 4 << 20;

/// Mappings and lists within each other.
const DEPTH_MAX: usize = 64;

/// Parts that aliases may stand for, all together.
const ALIASED_MAX: usize = 200_000;

/// A document, and where each part of it is.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) value: Value,
    places: HashMap<String, Place>,
}

/// Line and column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Place {
    fn of(span: Span) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(span.start.line()), column: number(span.start.col() + 1) }
    }
}

impl Text {
    pub(super) fn read(text: &[u8]) -> Result<Self, DocumentFault> {
        let start = Place { line: 1, column: 1 };
        let fault = |message: String| DocumentFault::at(start, "", message);
        if text.len() > BYTES_MAX {
            return Err(fault(format!("it has more than {} MiB", BYTES_MAX >> 20)));
        }
        let text = std::str::from_utf8(text).map_err(|_| fault("it is not UTF-8".to_owned()))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reading = Reading::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let place = Place {
                    line: u32::try_from(error.marker().line()).unwrap_or(u32::MAX),
                    column: u32::try_from(error.marker().col() + 1).unwrap_or(u32::MAX),
                };
                DocumentFault::at(place, "", format!("it is not YAML: {}", error.info()))
            })?;
            reading.take(event, Place::of(span))?;
        }
        let value = reading.whole.ok_or_else(|| fault("it is empty".to_owned()))?;
        Ok(Self { value, places: reading.places })
    }

    /// Where `pointer` is, or the nearest part around it that is known.
    pub(super) fn place(&self, pointer: &str) -> Place {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return *place;
            }
            match pointer.rfind('/') {
                Some(end) => pointer = pointer.get(..end).unwrap_or_default(),
                None => return Place { line: 1, column: 1 },
            }
        }
    }
}

/// A mapping or list that is being read.
struct Open {
    content: Content,
    anchor: usize,
    pointer: String,
}

enum Content {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Mapping(Map<String, Value>, Option<String>),
}

#[derive(Default)]
struct Reading {
    open: Vec<Open>,
    whole: Option<Value>,
    places: HashMap<String, Place>,
    anchors: HashMap<usize, Value>,
    aliased: usize,
}

impl Reading {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), DocumentFault> {
        let tagged = matches!(
            &event,
            Event::Scalar(.., Some(_))
                | Event::SequenceStart(_, Some(_))
                | Event::MappingStart(_, Some(_))
        );
        if tagged {
            return Err(self.fault(place, "it has a tag, which JSON has not"));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                if let Some(Open { content: Content::Mapping(map, key @ None), .. }) =
                    self.open.last_mut()
                {
                    if map.contains_key(&*text) {
                        let fault = format!("the name {:?} is there twice", shorten(&text));
                        return Err(self.fault(place, &fault));
                    }
                    *key = Some(text.into_owned());
                    return Ok(());
                }
                self.put(scalar(&text, style), anchor, place)
            }
            Event::SequenceStart(anchor, _) => self.begin(Content::List(Vec::new()), anchor, place),
            Event::MappingStart(anchor, _) => {
                self.begin(Content::Mapping(Map::new(), None), anchor, place)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(ended) = self.open.pop() else { return Ok(()) };
                let value = match ended.content {
                    Content::List(items) => Value::Array(items),
                    Content::Mapping(map, _) => Value::Object(map),
                };
                self.insert(value, ended.anchor, place)
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let Some(value) = value else {
                    return Err(self.fault(place, "an alias stands for what it is a part of"));
                };
                self.aliased += parts(&value);
                if self.aliased > ALIASED_MAX {
                    let fault = format!("aliases stand for more than {ALIASED_MAX} parts");
                    return Err(self.fault(place, &fault));
                }
                self.put(value, 0, place)
            }
            Event::DocumentStart(_) if self.whole.is_some() => {
                Err(self.fault(place, "a second document follows the first"))
            }
            _ => Ok(()),
        }
    }

    /// The pointer of the value that comes next.
    fn next_pointer(&self, place: Place) -> Result<String, DocumentFault> {
        let Some(around) = self.open.last() else { return Ok(String::new()) };
        let segment = match &around.content {
            Content::List(items) => items.len().to_string(),
            Content::Mapping(_, Some(key)) => key.replace('~', "~0").replace('/', "~1"),
            Content::Mapping(_, None) => return Err(self.fault(place, "a key is no text")),
        };
        Ok(format!("{}/{segment}", around.pointer))
    }

    fn begin(
        &mut self,
        content: Content,
        anchor: usize,
        place: Place,
    ) -> Result<(), DocumentFault> {
        if self.open.len() == DEPTH_MAX {
            return Err(self.fault(place, &format!("it has more than {DEPTH_MAX} levels")));
        }
        let pointer = self.next_pointer(place)?;
        self.places.insert(pointer.clone(), place);
        self.open.push(Open { content, anchor, pointer });
        Ok(())
    }

    fn put(&mut self, value: Value, anchor: usize, place: Place) -> Result<(), DocumentFault> {
        let pointer = self.next_pointer(place)?;
        self.places.insert(pointer, place);
        self.insert(value, anchor, place)
    }

    fn insert(&mut self, value: Value, anchor: usize, place: Place) -> Result<(), DocumentFault> {
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.whole = Some(value),
            Some(Content::List(items)) => items.push(value),
            Some(Content::Mapping(map, key)) => match key.take() {
                Some(key) => drop(map.insert(key, value)),
                None => return Err(self.fault(place, "a key is no text")),
            },
        }
        Ok(())
    }

    fn fault(&self, place: Place, message: &str) -> DocumentFault {
        let pointer = self.open.last().map_or("", |open| open.pointer.as_str());
        DocumentFault::at(place, pointer, message)
    }
}

/// How many values `value` is made of.
fn parts(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(parts).sum(),
        Value::Object(map) => map.values().map(parts).sum(),
        _ => 0,
    }
}

/// What a scalar means by YAML's core schema, as far as JSON knows it too.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let number = || {
        let plain = text.strip_prefix('+').unwrap_or(text);
        if let Some(hex) = plain.strip_prefix("0x") {
            return u64::from_str_radix(hex, 16).ok().map(Number::from);
        }
        if let Some(octal) = plain.strip_prefix("0o") {
            return u64::from_str_radix(octal, 8).ok().map(Number::from);
        }
        let looks = plain.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        if !looks || !plain.bytes().any(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let exact = plain.parse::<i64>().map(Number::from);
        let exact = exact.or_else(|_| plain.parse::<u64>().map(Number::from)).ok();
        exact.or_else(|| plain.parse::<f64>().ok().and_then(Number::from_f64))
    };
    number().map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_are_read_alike_and_every_part_has_its_place() {
        let yaml = "a: &one [1, -2.5, 0x1f, \"1\", yes]\n# more\nb:\n  c: *one\n  'd/e': null\n";
        let text = Text::read(yaml.as_bytes()).unwrap();
        let list = json!([1, -2.5, 31, "1", "yes"]);
        assert_eq!(text.value, json!({ "a": list, "b": { "c": list, "d/e": null } }));
        let at = |pointer: &str| (text.place(pointer).line, text.place(pointer).column);
        assert_eq!((at("/a/1"), at("/b/d~1e")), ((1, 13), (5, 10)));
        assert_eq!(at("/b/c/3"), at("/b/c"), "an alias is one place");
        let json = r#"{"a": "\u00e9\n", "n": 18446744073709551615, "t": true}"#;
        let text = Text::read(json.as_bytes()).unwrap();
        assert_eq!(text.value, serde_json::from_str::<Value>(json).unwrap());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let (deep, deeper) = ("[".repeat(DEPTH_MAX + 1), "[".repeat(1 << 16));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let before = n - 1;
            let list = vec![format!("*a{before}"); 10].join(", ");
            let line = format!("a{n}: &a{n} [{list}]\n");
            bomb.push_str(&line);
        }
        let large = " ".repeat(BYTES_MAX + 1);
        for (name, text, line, words) in [
            ("a name twice", "a: 1\nb: 2\na: 3", 3, "\"a\" is there twice"),
            ("a torn line", "a: [1\nb: 2", 2, "it is not YAML"),
            ("a tag", "a: !binary xyz", 1, "a tag"),
            ("a key that is a list", "? [a]\n: b", 1, "a key is no text"),
            ("two documents", "a: 1\n---\nb: 2", 2, "a second document"),
            ("too deep", &deep, 1, "more than 64 levels"),
            ("far too deep", &deeper, 1, "recursion limit"),
            ("a bomb", &bomb, 6, "aliases stand for more than"),
            ("a circle", "a: &a [*a]", 1, "alias"),
            ("too large", &large, 1, "more than 4 MiB"),
            ("nothing", "", 1, "empty"),
        ] {
            let fault = Text::read(text.as_bytes()).expect_err(name);
            assert!(fault.message.contains(words), "{name}: {fault:?}");
            assert_eq!(fault.line, line, "{name}: {fault:?}");
        }
    }
}
