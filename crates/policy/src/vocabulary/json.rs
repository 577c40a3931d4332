//! JSON whose bytes stay in sight: each value is a slice of the text that it came in.
//!
//! The text is read once as a whole; after that a slice of it is known to be JSON, and taking it
//! apart cannot fail. Nothing recurses, and only what is asked for is kept, so that deep nesting
//! and long arrays cost time alone, in proportion to their length.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Reads `text` as one JSON value with nothing behind it.
pub(super) fn read(text: &str) -> Result<&RawValue, serde_json::Error> {
    serde_json::from_str(text)
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    pub(super) fn of(value: &RawValue) -> Self {
        match value.get().as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => Self::String,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            _ => Self::Number,
        }
    }

    /// With its article, for messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// Whether to go on with the next member or item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Stop,
}

/// Hands each name and value of `object` to `each`.
pub(super) fn members<'a>(
    object: &'a RawValue,
    mut each: impl FnMut(&'a RawValue, &'a RawValue) -> Next,
) {
    let mut reader = serde_json::Deserializer::from_str(object.get());
    reader.deserialize_map(MembersOf(&mut each)).expect(WAS_READ);
}

/// Hands each item of `array` to `each`, with its index.
pub(super) fn items<'a>(array: &'a RawValue, mut each: impl FnMut(usize, &'a RawValue) -> Next) {
    let mut reader = serde_json::Deserializer::from_str(array.get());
    reader.deserialize_seq(ItemsOf(&mut each)).expect(WAS_READ);
}

const WAS_READ: &str = "a raw value has been read as JSON, and its kind was asked for";

struct MembersOf<F>(F);

impl<'de, F: FnMut(&'de RawValue, &'de RawValue) -> Next> Visitor<'de> for MembersOf<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some((name, value)) = members.next_entry::<&RawValue, &RawValue>()? {
            if self.0(name, value) == Next::Stop {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                break;
            }
        }
        Ok(())
    }
}

struct ItemsOf<F>(F);

impl<'de, F: FnMut(usize, &'de RawValue) -> Next> Visitor<'de> for ItemsOf<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(item) = items.next_element::<&RawValue>()? {
            if self.0(index, item) == Next::Stop {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
            index += 1;
        }
        Ok(())
    }
}

/// A JSON string's text. `None` where an escape stands for half a character.
pub(super) fn text(string: &RawValue) -> Option<Cow<'_, str>> {
    let inside = string.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(Cow::Borrowed(inside));
    }
    serde_json::from_str(string.get()).ok().map(Cow::Owned)
}

/// Where `part`, which is a slice of `whole`, is in it.
pub(super) fn span(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize)
        .checked_sub(whole.as_ptr() as usize)
        .expect("the part is a slice of the whole");
    let span = start..start + part.len();
    assert!(span.end <= whole.len(), "the part is a slice of the whole");
    span
}

/// Puts quotes around each `NaN`, `Infinity` and `-Infinity` that stands outside of a string.
///
/// No JSON has them, yet some programs write them. Text that is no JSON for their sake alone is
/// JSON after this, and what is wrong can be said where it is. `None` where there is none.
pub fn quote_non_finite(text: &str) -> Option<String> {
    let mut quoted = String::new();
    let (mut copied, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b'N' | b'I' | b'-' => {
                let word = NON_FINITE.iter().find(|word| bytes[at..].starts_with(word.as_bytes()));
                let Some(word) = word else {
                    at += 1;
                    continue;
                };
                quoted.push_str(text.get(copied..at).expect("an ASCII byte starts a character"));
                quoted.push('"');
                quoted.push_str(word);
                quoted.push('"');
                at += word.len();
                copied = at;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return None;
    }
    quoted.push_str(text.get(copied..).expect("it is behind a word of ASCII"));
    Some(quoted)
}

const NON_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Whether a string spells a number that is not finite, in one of the ways that languages print.
pub(super) fn is_non_finite(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    ["nan", "inf", "infinity"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// The index behind the string that starts at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_slices_of_the_text() {
        let text = " {\"a\" : [ 1e400, \"x\" ],\n\"b\":null} ";
        let value = read(text).unwrap();
        assert_eq!(span(text, value.get()), 1..text.len() - 1);
        let mut seen = Vec::new();
        members(value, |name, value| {
            seen.push((span(text, name.get()), Kind::of(value), value.get()));
            Next::Continue
        });
        assert_eq!(seen, [(2..5, Kind::Array, "[ 1e400, \"x\" ]"), (24..27, Kind::Null, "null")]);
        let mut first = Vec::new();
        items(read("[1,2,3]").unwrap(), |index, item| {
            first.push((index, item.get()));
            Next::Stop
        });
        assert_eq!(first, [(0, "1")]);
    }

    #[test]
    fn deep_nesting_is_read_without_recursion() {
        let deep = format!("{}1{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let value = read(&deep).unwrap();
        let mut count = 0;
        items(value, |_, item| {
            assert_eq!(Kind::of(item), Kind::Array);
            count += 1;
            Next::Continue
        });
        assert_eq!(count, 1);
    }

    #[test]
    fn strings_are_decoded_or_refused() {
        for (json, want) in [
            (r#""plain""#, Some("plain")),
            (r#""s\u0065ed""#, Some("seed")),
            (r#""\ud83d\ude00""#, Some("😀")),
            (r#""\ud83d""#, None),
            (r#""\ude00x""#, None),
            (r#""\"""#, Some("\"")),
        ] {
            assert_eq!(text(read(json).unwrap()).as_deref(), want, "{json}");
        }
    }

    #[test]
    fn words_for_what_is_not_finite_are_quoted_outside_of_strings() {
        for (text, want) in [
            (r#"{"a": NaN}"#, Some(r#"{"a": "NaN"}"#)),
            ("[-Infinity,Infinity , NaN]", Some(r#"["-Infinity","Infinity" , "NaN"]"#)),
            (r#"{"NaN": 1, "\"NaN": "é Infinity"}"#, None),
            ("[-1, 2]", None),
            ("\"NaN", None),
            ("\"\\", None),
        ] {
            assert_eq!(quote_non_finite(text).as_deref(), want, "{text}");
        }
    }
}
