//! The config as a tree in which every key and value knows where it was written.
//!
//! File, environment and flags are laid over each other here, before anything is given a type.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::de::{DeArray, DeTable, DeValue};

use super::fault::{Fault, Report};

/// Where a key or value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Counted from 1, columns in characters.
    File { line: u32, column: u32 },
    /// An environment variable.
    Env(Arc<str>),
    /// A command-line flag, with its dashes.
    Flag(&'static str),
    /// Nowhere: the code's default, or something that is missing.
    Nowhere,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Member>),
    /// From the environment or a flag, where text has no quotes: what type it has is known only
    /// when it is read.
    Raw(String),
}

/// A value of a table, with the place of its key.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

/// What a reader takes a [`Value::Raw`] for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Text,
    List,
    Any,
}

/// Where in the tree: `route[0].protect.rate_limit.limits[1].rate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Path(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

impl Path {
    /// From `a.b.c`, without indexes.
    pub(crate) fn of(keys: &str) -> Self {
        Self(keys.split('.').map(|key| Segment::Key(key.to_owned())).collect())
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// Appends `a.b.c`.
    pub(crate) fn keys(&self, keys: &str) -> Self {
        Self([&*self.0, &*Self::of(keys).0].concat())
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.split_last().map(|(_, rest)| Self(rest.to_vec()))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    let dot = if position == 0 { "" } else { "." };
                    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                    if !key.is_empty() && key.bytes().all(bare) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Node {
    pub(crate) const fn new(value: Value, place: Place) -> Self {
        Self { value, place }
    }

    pub(crate) const fn empty_table() -> Self {
        Self::new(Value::Table(BTreeMap::new()), Place::Nowhere)
    }

    /// A value from outside of the file. Tables and lists are read at once, so that the layers
    /// above can reach into them; everything else waits for its type.
    pub(crate) fn from_outside(text: &str, place: Place) -> Self {
        match DeValue::parse(text.trim()).map(toml::Spanned::into_inner) {
            Ok(value @ (DeValue::Table(_) | DeValue::Array(_))) => {
                Self { value: Value::from_toml(value, &|_| place.clone()), place }
            }
            _ => Self::new(Value::Raw(text.to_owned()), place),
        }
    }

    /// The value that a reader sees who wants `wanted`.
    pub(crate) fn resolve(&self, wanted: Wanted) -> Cow<'_, Self> {
        let Value::Raw(text) = &self.value else { return Cow::Borrowed(self) };
        let scalar = DeValue::parse(text.trim()).ok().map(toml::Spanned::into_inner);
        let value = match (wanted, scalar) {
            (Wanted::Text, Some(DeValue::String(text))) => Value::Text(text.into_owned()),
            (Wanted::Any, Some(value)) => Value::from_toml(value, &|_| self.place.clone()),
            (Wanted::Text | Wanted::Any, _) => Value::Text(text.clone()),
            (Wanted::List, _) => Value::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| Self::new(Value::Raw(part.to_owned()), self.place.clone()))
                    .collect(),
            ),
        };
        Cow::Owned(Self { value, place: self.place.clone() })
    }

    pub(crate) fn member(&self, key: &str) -> Option<&Member> {
        match &self.value {
            Value::Table(members) => members.get(key),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.member(key).map(|member| &member.node)
    }

    /// Sets the value at `path`, whose segments are keys, making tables on the way. Fails with
    /// the path of what is in the way.
    pub(crate) fn set(&mut self, path: &[&str], node: Self) -> Result<(), Path> {
        let mut at = self;
        let mut walked = Path::default();
        for (position, key) in path.iter().enumerate() {
            let Value::Table(members) = &mut at.value else { return Err(walked) };
            walked = walked.key(key);
            let member = members.entry((*key).to_owned()).or_insert_with(|| Member {
                key_place: node.place.clone(),
                node: Self::new(Value::Table(BTreeMap::new()), node.place.clone()),
            });
            if position + 1 == path.len() {
                *member = Member { key_place: node.place.clone(), node };
                return Ok(());
            }
            at = &mut member.node;
        }
        Ok(())
    }

    /// This tree with `over` laid over it: tables key by key, everything else whole.
    pub(crate) fn merged(&self, over: &Self) -> Self {
        let (Value::Table(below), Value::Table(above)) = (&self.value, &over.value) else {
            return over.clone();
        };
        let mut members = below.clone();
        for (key, member) in above {
            let node = match members.get(key) {
                Some(below) => below.node.merged(&member.node),
                None => member.node.clone(),
            };
            members.insert(key.clone(), Member { key_place: member.key_place.clone(), node });
        }
        Self::new(Value::Table(members), over.place.clone())
    }

    /// The place of what is at `path`, else of the nearest thing around it.
    pub(crate) fn place_of(&self, path: &Path) -> Place {
        let mut at = self;
        for segment in path.segments() {
            let next = match (segment, &at.value) {
                (Segment::Key(key), Value::Table(_)) => at.get(key),
                (Segment::Index(index), Value::List(items)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else { break };
            at = next;
        }
        at.place.clone()
    }

    /// Calls `visit` with the path and place of every value that is not a table.
    pub(crate) fn for_each_leaf(&self, path: &Path, visit: &mut impl FnMut(&Path, &Place)) {
        match &self.value {
            Value::Table(members) => {
                for (key, member) in members {
                    member.node.for_each_leaf(&path.key(key), visit);
                }
            }
            _ => visit(path, &self.place),
        }
    }
}

impl Value {
    fn from_toml(value: DeValue<'_>, place: &impl Fn(usize) -> Place) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.into_owned()),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(integer) => Self::Integer(integer),
                    // Whatever is read next refuses text where it wants a number, and shows it.
                    Err(_) => Self::Text(integer.to_string()),
                }
            }
            DeValue::Float(float) => match float.as_str().parse() {
                Ok(float) => Self::Float(float),
                Err(_) => Self::Text(float.to_string()),
            },
            DeValue::Boolean(boolean) => Self::Boolean(boolean),
            DeValue::Datetime(datetime) => Self::Datetime(datetime.to_string()),
            DeValue::Array(items) => Self::from_array(items, place),
            DeValue::Table(members) => Self::from_table(members, place),
        }
    }

    fn from_array(items: DeArray<'_>, place: &impl Fn(usize) -> Place) -> Self {
        let nodes = items.into_iter().map(|item| {
            let start = item.span().start;
            Node::new(Self::from_toml(item.into_inner(), place), place(start))
        });
        Self::List(nodes.collect())
    }

    fn from_table(members: DeTable<'_>, place: &impl Fn(usize) -> Place) -> Self {
        let members = members.into_iter().map(|(key, value)| {
            let key_place = place(key.span().start);
            let start = value.span().start;
            let node = Node::new(Self::from_toml(value.into_inner(), place), place(start));
            (key.into_inner().into_owned(), Member { key_place, node })
        });
        Self::Table(members.collect())
    }
}

/// Faults of form that are told of one file; the rest usually follows from them.
const SYNTAX_FAULTS_MAX: usize = 5;

/// Reads `text` as far as it is TOML; what is not goes to `report`.
pub(crate) fn parse(text: &str, report: &mut Report) -> Node {
    let lines = Lines::of(text);
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut lines_told: Vec<u32> = Vec::new();
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        let Place::File { line, column } = lines.place(offset) else { continue };
        if lines_told.contains(&line) || lines_told.len() >= SYNTAX_FAULTS_MAX {
            continue;
        }
        lines_told.push(line);
        let place = Place::File { line, column };
        let fault = if error.message() == "duplicate key" {
            // The rest of the file is as the operator meant it.
            Fault::new(place, String::new(), "the key is there twice")
        } else {
            report.syntax_fault_at(line);
            Fault::new(place, String::new(), format!("not TOML: {}", error.message()))
        };
        report.push(fault);
    }
    let value = Value::from_table(table.into_inner(), &|offset| lines.place(offset));
    Node::new(value, Place::Nowhere)
}

/// Turns byte offsets into lines and columns.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).collect();
        Self { text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or_default();
        Place::File {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(before.chars().count() + 1).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Node {
        parse(text, &mut Report::default())
    }

    #[test]
    fn keys_and_values_know_their_lines_and_columns() {
        let tree = parsed("# one\n[service]\nname = \"ü\" # two\n[[route]]\nmatch = \"/a\"\n");
        let at = |line, column| Place::File { line, column };
        assert_eq!(tree.place_of(&Path::of("service.name")), at(3, 8));
        assert_eq!(tree.get("service").unwrap().member("name").unwrap().key_place, at(3, 1));
        assert_eq!(tree.place_of(&Path::of("route").index(0).key("match")), at(5, 9));
        let nearest = tree.place_of(&Path::of("service.upstreams"));
        assert_eq!(nearest, at(2, 1), "what is missing is looked for in its section");
    }

    #[test]
    fn a_layer_above_wins_key_by_key_and_lists_are_replaced_whole() {
        let below = parsed("[p]\na = 1\nb = [1, 2]\n[p.c]\nd = 1\ne = 2\n");
        let above = parsed("\n[p]\nb = [3]\n[p.c]\nd = 9\n");
        let merged = below.merged(&above);
        let text = |path: &str| {
            let mut at = &merged;
            for key in path.split('.') {
                at = at.get(key).unwrap();
            }
            match &at.value {
                Value::Integer(n) => n.to_string(),
                Value::List(items) => format!("{} items", items.len()),
                other => format!("{other:?}"),
            }
        };
        for (path, want) in [("p.a", "1"), ("p.b", "1 items"), ("p.c.d", "9"), ("p.c.e", "2")] {
            assert_eq!(text(path), want, "{path}");
        }
    }

    #[test]
    fn a_broken_line_is_told_once_and_a_torn_file_in_five_lines() {
        let mut report = Report::default();
        parse("a = 'x\n[b]\nc = = 1\nd = 1\nd = 2\n", &mut report);
        let faults = report.into_faults("f".to_owned()).unwrap_err();
        let lines = faults.list().iter().map(|fault| match fault.place {
            Place::File { line, .. } => line,
            _ => 0,
        });
        assert_eq!(lines.collect::<Vec<_>>(), [1, 3], "what follows a torn line is not told");
        let torn = format!("a = [\n{}", "b = 1\n".repeat(50));
        let mut report = Report::default();
        parse(&torn, &mut report);
        assert_eq!(report.into_faults("f".to_owned()).unwrap_err().list().len(), 5);
    }

    #[test]
    fn paths_are_written_as_toml_writes_them() {
        let path = Path::of("route").index(2).keys("protect.cors").key("a b");
        assert_eq!(path.to_string(), "route[2].protect.cors.\"a b\"");
    }
}
