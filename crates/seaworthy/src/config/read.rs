//! Gives the tree its types and finds every fault of shape on the way.
//!
//! Serde stops at the first error. So [`read`] notes the fault with its place, takes the faulty
//! key out of sight and reads again, until what is left can be read.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::fault::{Fault, Report, nearest};
use super::tree::{Member, Node, Path, Place, Value, Wanted};

/// Reads `node`, which is at `path`; what cannot be read falls back to its default.
pub(crate) fn read<T>(node: &Node, path: &Path, report: &mut Report) -> T
where
    T: for<'de> Deserialize<'de> + Default,
{
    read_whole(node, path, report).unwrap_or_default()
}

/// Reads `node`, or returns `None` where so much of it is wrong that nothing is left.
pub(crate) fn read_whole<T>(node: &Node, path: &Path, report: &mut Report) -> Option<T>
where
    T: for<'de> Deserialize<'de>,
{
    let mut hidden = HashSet::new();
    loop {
        let error = match T::deserialize(Reader { node, path, hidden: &hidden }) {
            Ok(value) => return Some(value),
            Err(error) => error.at(path, &node.place),
        };
        let (at, place) = error.at.expect("the error was just given a place");
        let follows = match &error.kind {
            Kind::Missing(field) => hidden.contains(&at.key(field)),
            Kind::Emptied => true,
            _ => false,
        };
        if !follows {
            report.add_unread(error.kind.into_fault(place, &at));
        }
        // An error that is raised again although its place is hidden belongs to what is around.
        let mut hide = at;
        while hidden.contains(&hide) {
            hide = hide.parent()?;
        }
        if hide.segments().len() <= path.segments().len() || report.is_full() {
            return None;
        }
        hidden.insert(hide);
    }
}

/// A serde error that keeps its parts and learns its place on the way out.
#[derive(Debug)]
struct ReadError {
    kind: Kind,
    at: Option<(Path, Place)>,
}

#[derive(Debug)]
enum Kind {
    UnknownKey(String, &'static [&'static str]),
    UnknownWord(String, &'static [&'static str]),
    Missing(&'static str),
    /// Nothing is left of it, since all of it is hidden.
    Emptied,
    /// What was expected, what was found.
    Unfit(String, String),
    Other(String),
}

impl ReadError {
    /// Says where it happened, where nothing deeper has said so.
    fn at(mut self, path: &Path, place: &Place) -> Self {
        self.at.get_or_insert_with(|| (path.clone(), place.clone()));
        self
    }
}

impl Kind {
    fn into_fault(self, place: Place, at: &Path) -> Fault {
        let quoted = |words: &[&str]| {
            words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
        };
        let (message, suggestion) = match self {
            Self::UnknownKey(key, known) => match nearest(&key, known) {
                Some(nearest) => ("unknown key".to_owned(), Some(nearest)),
                None => {
                    let known = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>();
                    (format!("unknown key; expected one of {}", known.join(", ")), None)
                }
            },
            Self::UnknownWord(word, known) => {
                let expected = match known {
                    [one] => format!("expected {one:?}, not {word:?}"),
                    [first @ .., last] => {
                        format!("expected {} or {last:?}, not {word:?}", quoted(first))
                    }
                    [] => format!("expected nothing, not {word:?}"),
                };
                (expected, nearest(&word, known))
            }
            Self::Missing(field) => (format!("`{field}` is missing"), None),
            Self::Emptied => ("nothing of it is right".to_owned(), None),
            Self::Unfit(expected, found) => (format!("expected {expected}, not {found}"), None),
            Self::Other(message) => (message, None),
        };
        let suggestion = suggestion.map(str::to_owned);
        Fault { place, key: at.to_string(), message, suggestion }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for ReadError {}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { kind: Kind::Other(message.to_string()), at: None }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self { kind: Kind::UnknownKey(field.to_owned(), expected), at: None }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self { kind: Kind::UnknownWord(variant.to_owned(), expected), at: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { kind: Kind::Missing(field), at: None }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self { kind: Kind::Unfit(in_words(expected), found(&unexpected)), at: None }
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }
}

/// What a Rust type is called by someone who writes TOML.
fn in_words(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number from 0".to_owned(),
        "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

fn found(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Signed(integer) => integer.to_string(),
        Unexpected::Float(float) => float.to_string(),
        Unexpected::Bool(boolean) => boolean.to_string(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// A node as serde sees it.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    path: &'a Path,
    /// Paths that are read as if they were not there.
    hidden: &'a HashSet<Path>,
}

impl Reader<'_> {
    fn visit<'de, V: Visitor<'de>>(
        self,
        wanted: Wanted,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let node = self.node.resolve(wanted);
        match &node.value {
            Value::Text(text) | Value::Datetime(text) => visitor.visit_str(text),
            Value::Integer(integer) => visitor.visit_i64(*integer),
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::List(items) => {
                visitor.visit_seq(Items { reader: self, items: items.iter().enumerate() })
            }
            Value::Table(members) => {
                visitor.visit_map(Members { reader: self, members: members.iter(), current: None })
            }
            Value::Raw(_) => unreachable!("resolving makes a value of raw text"),
        }
        .map_err(|error| error.showing(&node.value))
    }
}

impl ReadError {
    /// Adds the value to a message that does not show it: "invalid IP address syntax".
    fn showing(mut self, value: &Value) -> Self {
        if let (Kind::Other(message), Value::Text(text), None) = (&mut self.kind, value, &self.at)
            && !message.contains(&format!("{text:?}"))
        {
            *message = format!("{message}: {text:?}");
        }
        self
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.visit(Wanted::Any, visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.visit(Wanted::Text, visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.visit(Wanted::Text, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.visit(Wanted::List, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let node = self.node.resolve(Wanted::Text);
        match &node.value {
            Value::Text(word) => visitor.visit_enum(Word(word)),
            Value::Table(members) => {
                let shown: Vec<_> = members
                    .iter()
                    .filter(|(key, _)| !self.hidden.contains(&self.path.key(key)))
                    .collect();
                match shown.as_slice() {
                    [(key, member)] => visitor.visit_enum(Variant { reader: self, key, member }),
                    [] if !members.is_empty() => Err(ReadError { kind: Kind::Emptied, at: None }),
                    _ => Err(ReadError::custom("expected a table with one key")),
                }
            }
            _ => Reader { node: &node, ..self }.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct map struct identifier
    }
}

/// The items of a list.
struct Items<'a, I> {
    reader: Reader<'a>,
    items: I,
}

impl<'de, 'n, I: Iterator<Item = (usize, &'n Node)>> SeqAccess<'de> for Items<'_, I> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        for (index, node) in self.items.by_ref() {
            let path = self.reader.path.index(index);
            if self.reader.hidden.contains(&path) {
                continue;
            }
            let reader = Reader { node, path: &path, hidden: self.reader.hidden };
            return seed
                .deserialize(reader)
                .map(Some)
                .map_err(|error| error.at(&path, &node.place));
        }
        Ok(None)
    }
}

/// The keys and values of a table.
struct Members<'a, 'n, I> {
    reader: Reader<'a>,
    members: I,
    current: Option<(Path, &'n Member)>,
}

impl<'de, 'n, I: Iterator<Item = (&'n String, &'n Member)>> MapAccess<'de> for Members<'_, 'n, I> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        for (key, member) in self.members.by_ref() {
            let path = self.reader.path.key(key);
            if self.reader.hidden.contains(&path) {
                continue;
            }
            let name: StrDeserializer<'_, ReadError> = key.as_str().into_deserializer();
            let read = seed.deserialize(name).map_err(|error| error.at(&path, &member.key_place));
            self.current = Some((path, member));
            return read.map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (path, member) = self.current.take().expect("serde asks for a key before its value");
        let reader = Reader { node: &member.node, path: &path, hidden: self.reader.hidden };
        seed.deserialize(reader).map_err(|error| error.at(&path, &member.node.place))
    }
}

/// A variant without content: `"origin"`.
struct Word<'a>(&'a str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        let word: StrDeserializer<'_, ReadError> = self.0.into_deserializer();
        seed.deserialize(word).map(|value| (value, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        _seed: T,
    ) -> Result<T::Value, ReadError> {
        Err(ReadError::custom(format!("expected {{ {} = … }}", self.0)))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        _visitor: V,
    ) -> Result<V::Value, ReadError> {
        Err(ReadError::custom(format!("expected {{ {} = … }}", self.0)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, ReadError> {
        Err(ReadError::custom(format!("expected {{ {} = … }}", self.0)))
    }
}

/// A variant with content: `{ header = "x-tenant-id" }`.
struct Variant<'a, 'n> {
    reader: Reader<'a>,
    key: &'n str,
    member: &'n Member,
}

impl Variant<'_, '_> {
    fn content<T>(
        self,
        read: impl FnOnce(Reader<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let path = self.reader.path.key(self.key);
        let node = &self.member.node;
        read(Reader { node, path: &path, hidden: self.reader.hidden })
            .map_err(|error| error.at(&path, &node.place))
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        let path = self.reader.path.key(self.key);
        let name: StrDeserializer<'_, ReadError> = self.key.into_deserializer();
        let value =
            seed.deserialize(name).map_err(|error| error.at(&path, &self.member.key_place))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        let word = format!("expected the word {:?} alone", self.key);
        self.content(|_| Err(ReadError::custom(word)))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        self.content(|reader| seed.deserialize(reader))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.content(|reader| reader.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.content(|reader| reader.deserialize_any(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tree;
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Section {
        name: String,
        port: u16,
        on: bool,
        list: Vec<Item>,
        words: Vec<Word>,
        choice: Option<Choice>,
        map: BTreeMap<String, i64>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        id: u8,
        text: String,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Left,
        Right,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        Word,
        Number(i64),
        Pair { a: i64 },
    }

    fn section(text: &str) -> (Section, Vec<String>) {
        let mut report = Report::default();
        let tree = tree::parse(text, &mut report);
        let section = read(&tree, &Path::default(), &mut report);
        let told = match report.into_faults(String::new()) {
            Ok(()) => Vec::new(),
            Err(faults) => faults.list().iter().map(told).collect(),
        };
        (section, told)
    }

    fn told(fault: &Fault) -> String {
        let line = if let Place::File { line, .. } = fault.place { line } else { 0 };
        let meant = fault.suggestion.as_ref().map(|s| format!(" ({s}?)")).unwrap_or_default();
        format!("{line} {}: {}{meant}", fault.key, fault.message)
    }

    #[test]
    fn every_fault_is_found_and_the_rest_is_read() {
        let (read, faults) = section(
            "nmae = \"x\"\n\
             port = 70000\n\
             on = \"yes\"\n\
             list = [\n{ id = 1, text = \"a\" },\n{ id = -1, text = \"b\" },\n{ id = 3 },\n\
             { id = 4, text = 5, extra = 6 },\n{ id = 5, text = \"e\" } ]\n\
             words = [\"left\",\n\"rihgt\"]\n\
             choice = { pair = { a = \"x\" } }\n\
             map = { one = 1, two = \"2\" }\n",
        );
        assert_eq!(
            faults,
            [
                "1 nmae: unknown key (name?)",
                "2 port: expected a whole number from 0 to 65535, not 70000",
                "3 on: expected true or false, not \"yes\"",
                "6 list[1].id: expected a whole number from 0 to 255, not -1",
                "7 list[2]: `text` is missing",
                "8 list[3].text: expected a string, not 5",
                "8 list[3].extra: unknown key; expected one of `id`, `text`",
                "11 words[1]: expected \"left\" or \"right\", not \"rihgt\" (right?)",
                "12 choice.pair.a: expected a whole number, not \"x\"",
                "13 map.two: expected a whole number, not \"2\"",
            ]
        );
        let ids: Vec<u8> = read.list.iter().map(|item| item.id).collect();
        assert_eq!((ids, read.words), (vec![1, 5], vec![Word::Left]));
        assert_eq!(read.map["one"], 1);
    }

    #[test]
    fn variants_are_words_or_tables_with_one_key() {
        for (text, want) in [
            ("choice = \"word\"", Some(Choice::Word)),
            ("choice = { number = 3 }", Some(Choice::Number(3))),
            ("choice = { pair = { a = 4 } }", Some(Choice::Pair { a: 4 })),
        ] {
            assert_eq!(section(text), (Section { choice: want, ..Section::default() }, vec![]));
        }
        for (text, fault) in [
            ("choice = \"number\"", "1 choice: expected { number = … }"),
            ("choice = { word = 1 }", "1 choice.word: expected the word \"word\" alone"),
            ("choice = { word = 1, number = 2 }", "1 choice: expected a table with one key"),
        ] {
            assert_eq!(section(text).1, [fault]);
        }
    }

    #[test]
    fn what_comes_without_quotes_takes_the_type_that_is_wanted() {
        let place = Place::Env("X".into());
        let mut tree = Node::empty_table();
        for (key, text) in [
            ("name", "12"),
            ("port", "12"),
            ("on", "true"),
            ("words", "left, right"),
            ("choice", "{ number = 1 }"),
            ("list", "[{ id = 1, text = \"a\" }]"),
        ] {
            tree.set(&[key], Node::from_outside(text, place.clone())).unwrap();
        }
        let mut report = Report::default();
        let read: Section = read(&tree, &Path::default(), &mut report);
        assert_eq!(report.into_faults(String::new()), Ok(()));
        assert_eq!((read.name.as_str(), read.port, read.on), ("12", 12, true));
        assert_eq!(read.words, [Word::Left, Word::Right]);
        assert_eq!(read.choice, Some(Choice::Number(1)));
        assert_eq!(read.list.len(), 1);
    }
}
