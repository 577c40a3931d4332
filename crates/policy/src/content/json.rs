//! JSON with exactly one reading.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::ContentFault;

/// Arrays and objects within each other. Real documents have ten.
pub const DEPTH_MAX: usize = 64;

/// Parses `text`, all of it.
pub fn parse(text: &[u8]) -> Result<Value, ContentFault> {
    if text.starts_with(b"\xef\xbb\xbf") {
        let fault = "the body starts with a byte order mark, which JSON has not";
        return Err(ContentFault::ambiguous("", fault));
    }
    // Once for all of it: string by string it costs a tenth of the parsing.
    let text = std::str::from_utf8(text)
        .map_err(|_| ContentFault::malformed("it is not JSON: it is not UTF-8"))?;
    let fault = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let reading = Reading { fault: &fault, depth: 0 };
    let value = reading.deserialize(&mut reader).map_err(|error| {
        fault.take().unwrap_or_else(|| ContentFault::malformed(format!("it is not JSON: {error}")))
    })?;
    reader.end().map_err(|_| ContentFault::ambiguous("", "something follows the JSON value"))?;
    Ok(value)
}

/// Reads one value, `depth` levels down.
#[derive(Clone, Copy)]
struct Reading<'a> {
    /// What is wrong, where it is not the syntax. Its pointer grows on the way out.
    fault: &'a Cell<Option<ContentFault>>,
    depth: usize,
}

impl<'a> Reading<'a> {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            let fault = format!("JSON of at most {DEPTH_MAX} levels is accepted");
            self.fault.set(Some(ContentFault::malformed(fault)));
            return Err(E::custom("too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    /// Puts `segment` before the pointer of the fault that is on its way out.
    fn prepend(self, segment: &str) {
        if let Some(mut fault) = self.fault.take() {
            if fault.ambiguous {
                fault.at =
                    format!("/{}{}", segment.replace('~', "~0").replace('/', "~1"), fault.at);
            }
            self.fault.set(Some(fault));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        loop {
            match items.next_element_seed(below) {
                Ok(Some(item)) => list.push(item),
                Ok(None) => return Ok(Value::Array(list)),
                Err(error) => {
                    self.prepend(&list.len().to_string());
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let place = match map.entry(name) {
                Entry::Vacant(place) => place,
                Entry::Occupied(place) => {
                    let fault = "the object has the same name twice";
                    self.fault.set(Some(ContentFault::ambiguous("", fault)));
                    self.prepend(place.key());
                    return Err(A::Error::custom("a name is there twice"));
                }
            };
            match members.next_value_seed(below) {
                Ok(value) => {
                    place.insert(value);
                }
                Err(error) => {
                    self.prepend(place.key());
                    return Err(error);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_with_two_readings_is_told_from_what_is_no_json() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let (fits, over) = (deep(DEPTH_MAX), deep(DEPTH_MAX + 1));
        let bottomless = "[".repeat(1 << 20);
        let (long, longer) = ("9".repeat(308), "9".repeat(309));
        type Case<'a> = (&'a str, &'a [u8], Option<(bool, &'a str)>);
        let cases: &[Case<'_>] = &[
            ("a value", b" {\"a\": [1, -2.5e3, \"\\u00e9\", null, true]}\n", None),
            ("the deepest", fits.as_bytes(), None),
            ("nothing", b"", Some((false, ""))),
            ("half of it", b"{\"a\": ", Some((false, ""))),
            ("too deep", over.as_bytes(), Some((false, ""))),
            ("no end of depth", bottomless.as_bytes(), Some((false, ""))),
            ("NaN", b"[NaN]", Some((false, ""))),
            ("a long whole number", long.as_bytes(), None),
            ("one that no double is near to", longer.as_bytes(), Some((false, ""))),
            ("beyond a double", b"{\"a\": 1e400}", Some((false, ""))),
            ("a lone surrogate", b"[\"\\ud800\"]", Some((false, ""))),
            ("not UTF-8", b"[\"\xff\"]", Some((false, ""))),
            ("an overlong slash", b"[\"\xc0\xaf\"]", Some((false, ""))),
            ("a comment", b"[1 /* one */]", Some((false, ""))),
            ("a trailing comma", b"[1,]", Some((false, ""))),
            ("single quotes", b"{'a': 1}", Some((false, ""))),
            ("a control byte", b"[\"\x01\"]", Some((false, ""))),
            ("a byte order mark", b"\xef\xbb\xbf[]", Some((true, ""))),
            ("a second value", b"{} {}", Some((true, ""))),
            ("garbage", b"[]x", Some((true, ""))),
            ("a NUL behind it", b"[]\0", Some((true, ""))),
            ("a name twice", b"{\"a\":1,\"a\":2}", Some((true, "/a"))),
            ("spelled otherwise", b"{\"a\":1,\"\\u0061\":2}", Some((true, "/a"))),
            ("further down", b"{\"x\":[0,{\"a/b\":1,\"a/b\":1}]}", Some((true, "/x/1/a~1b"))),
        ];
        for (name, text, want) in cases {
            let got = parse(text).err();
            let got = got.as_ref().map(|fault| (fault.ambiguous, fault.at.as_str()));
            assert_eq!(got, *want, "{name}");
        }
    }

    #[test]
    fn no_fault_shows_a_value() {
        for text in ["{\"a\": \"hunter2\" x}", "{\"a\": hunter2}", "[\"hunter2\\q\"]"] {
            let fault = parse(text.as_bytes()).unwrap_err();
            assert!(!fault.detail.contains("hunter2"), "{}", fault.detail);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(".{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in value()) {
            let text = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(parse(&text), Ok(value));
        }

        /// Another parser agrees on what is JSON, and on what it says.
        #[test]
        fn what_is_read_is_what_others_read(text in "[\\[\\]{}\",:0-9.eE+\\-a ]{0,20}") {
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            }
        }
    }
}
