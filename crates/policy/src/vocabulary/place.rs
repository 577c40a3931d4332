//! Where in a request a field is: `/portfolio/stages` in the body, or `query:stage`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use serde_json::value::RawValue;

use super::invalid::{InvalidInput, Reason, push_index, push_member};
use super::json::{self, Kind, Next};
use crate::quantity::serde_as_text;

/// Steps of a pointer.
pub(super) const STEPS_MAX: usize = 16;

/// Where a field is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// A JSON Pointer (RFC 6901) into the body, in which `*` stands for every item of an array.
    Body(Pointer),
    /// A parameter of the query.
    Query(String),
}

/// Steps from the root of a JSON body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A member; digits are also the index of an item.
    To(String),
    /// Each item.
    Each,
}

/// Why a place is refused. Fits after "failed to read the place: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AtError {
    #[error("expected a JSON Pointer such as \"/stages\" or \"query:name\", not {0:?}")]
    Shape(String),
    #[error("{0:?} has a \"~\" that is neither \"~0\" nor \"~1\"")]
    Escape(String),
    #[error("{0:?} has more than {STEPS_MAX} steps")]
    TooDeep(String),
}

impl FromStr for At {
    type Err = AtError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("query:") {
            Some("") => Err(AtError::Shape(text.to_owned())),
            Some(name) => Ok(Self::Query(name.to_owned())),
            None => text.parse().map(Self::Body),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(pointer) => pointer.fmt(f),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

serde_as_text!(At);

impl FromStr for Pointer {
    type Err = AtError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let steps = text.strip_prefix('/').ok_or_else(|| AtError::Shape(text.to_owned()))?;
        let step = |step: &str| match step {
            "*" => Ok(Step::Each),
            _ if step.replace("~0", "").replace("~1", "").contains('~') => {
                Err(AtError::Escape(text.to_owned()))
            }
            _ => Ok(Step::To(step.replace("~1", "/").replace("~0", "~"))),
        };
        let steps: Vec<Step> = steps.split('/').map(step).collect::<Result<_, _>>()?;
        if steps.len() > STEPS_MAX {
            return Err(AtError::TooDeep(text.to_owned()));
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            match step {
                Step::Each => f.write_str("/*")?,
                Step::To(name) => write!(f, "/{}", name.replace('~', "~0").replace('/', "~1"))?,
            }
        }
        Ok(())
    }
}

impl Pointer {
    /// Whether a value that this one leads to can be inside of one that `other` leads to, or the
    /// other way round.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let meets = |pair: (&Step, &Step)| match pair {
            (Step::To(one), Step::To(other)) => one == other,
            (Step::Each, Step::To(index)) | (Step::To(index), Step::Each) => is_index(index),
            (Step::Each, Step::Each) => true,
        };
        self.0.iter().zip(&other.0).all(meets)
    }

    /// The name of the member that it starts with, and the way on from there. `None` where it does
    /// not start with one.
    pub(super) fn named(&self) -> Option<(&str, Self)> {
        match self.0.split_first() {
            Some((Step::To(name), rest)) => Some((name, Self(rest.to_vec()))),
            _ => None,
        }
    }

    /// Whether it leads nowhere else than to the whole.
    pub(super) const fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `holds` for each value that the pointer leads to. Names are there once in a tree.
    pub(super) fn all(&self, root: &Value, holds: &mut dyn FnMut(&Value) -> bool) -> bool {
        all(&self.0, root, holds)
    }

    /// Hands each value that the pointer leads to to `found`, with its own pointer.
    ///
    /// Where a step is not there, or leads into something that has no such parts, no value is
    /// found. A member on the way that is there twice is a fault: which one would be meant?
    pub(super) fn walk<'a>(
        &self,
        root: &'a RawValue,
        found: &mut dyn FnMut(&str, &'a RawValue),
        faults: &mut Vec<InvalidInput>,
    ) {
        walk(&self.0, root, &mut String::new(), found, faults);
    }
}

fn all(steps: &[Step], value: &Value, holds: &mut dyn FnMut(&Value) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return holds(value) };
    let next = match (step, value) {
        (Step::To(wanted), Value::Object(members)) => members.get(wanted),
        (Step::To(index), Value::Array(items)) if is_index(index) => {
            index.parse().ok().and_then(|index: usize| items.get(index))
        }
        (Step::Each, Value::Array(items)) => {
            return items.iter().all(|item| all(rest, item, holds));
        }
        _ => None,
    };
    next.is_none_or(|value| all(rest, value, holds))
}

/// As RFC 6901 has it: digits without a leading zero.
fn is_index(step: &str) -> bool {
    let is_plain = step == "0" || !step.starts_with('0');
    is_plain && !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit())
}

fn walk<'a>(
    steps: &[Step],
    value: &'a RawValue,
    at: &mut String,
    found: &mut dyn FnMut(&str, &'a RawValue),
    faults: &mut Vec<InvalidInput>,
) {
    let Some((step, rest)) = steps.split_first() else {
        return found(at, value);
    };
    let length = at.len();
    match (step, Kind::of(value)) {
        (Step::To(wanted), Kind::Object) => {
            let mut first = None;
            let mut is_double = false;
            json::members(value, |name, value| {
                if json::text(name).is_some_and(|name| name == **wanted) {
                    is_double |= first.replace(value).is_some();
                }
                Next::Continue
            });
            push_member(at, wanted);
            match first {
                Some(_) if is_double => {
                    faults.push(InvalidInput::new(at.clone(), wanted, Reason::DuplicateKey));
                }
                Some(value) => walk(rest, value, at, found, faults),
                None => {}
            }
        }
        (Step::To(index), Kind::Array) if is_index(index) => {
            let Ok(wanted) = index.parse() else { return };
            let mut item = None;
            json::items(value, |index, value| {
                if index < wanted {
                    return Next::Continue;
                }
                item = Some(value);
                Next::Stop
            });
            push_index(at, wanted);
            if let Some(item) = item {
                walk(rest, item, at, found, faults);
            }
        }
        (Step::Each, Kind::Array) => json::items(value, |index, item| {
            push_index(at, index);
            walk(rest, item, at, found, faults);
            at.truncate(length);
            Next::Continue
        }),
        _ => {}
    }
    at.truncate(length);
}

/// One change to a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) span: Range<usize>,
    pub(super) text: String,
}

/// `text` with all `edits` made. They do not overlap.
pub(super) fn edited(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_unstable_by_key(|edit| edit.span.start);
    let longer: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut out = String::with_capacity(text.len() + longer);
    let mut copied = 0;
    for Edit { span, text: new } in &edits {
        assert!(copied <= span.start, "two edits overlap");
        out.push_str(text.get(copied..span.start).expect("edits are at whole characters"));
        out.push_str(new);
        copied = span.end;
    }
    out.push_str(text.get(copied..).expect("edits are at whole characters"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Pointer {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_read_and_written() {
        for text in ["", "/stages", "/a/*/b~1c~0/0", "/", "query:stage", "query:a b"] {
            assert_eq!(text.parse::<At>().map(|at| at.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("/a/*".parse(), Ok(At::Body(Pointer(vec![Step::To("a".into()), Step::Each]))));
        let deep = "/a".repeat(STEPS_MAX + 1);
        for (text, want) in [
            ("stages", "expected a JSON Pointer such as \"/stages\" or \"query:name\""),
            ("query:", "expected a JSON Pointer"),
            ("/a~2", "\"/a~2\" has a \"~\""),
            ("/~", "\"/~\" has a \"~\""),
            (&deep, "\"/a/a/a"),
        ] {
            let said = text.parse::<At>().unwrap_err().to_string();
            assert!(said.starts_with(want), "{said}");
        }
    }

    #[test]
    fn a_pointer_leads_to_its_values() {
        let body =
            r#"{"a": [{"b": 1}, {"b": 2, "c": 3}, 4], "x/y": {"~": 5}, "": 6, "d": 1, "d": 2}"#;
        let root = json::read(body).unwrap();
        let cases: [(&str, &[&str]); 14] = [
            ("/a/*/b", &["/a/0/b=1", "/a/1/b=2"]),
            ("/a/1/c", &["/a/1/c=3"]),
            ("/a/2", &["/a/2=4"]),
            ("/a/02", &[]),
            ("/a/3", &[]),
            ("/a/99999999999999999999999", &[]),
            ("/a/b", &[]),
            ("/x~1y/~0", &["/x~1y/~0=5"]),
            ("/", &["/=6"]),
            ("/*", &[]),
            ("/nope/b", &[]),
            ("/x~1y/~0/deeper", &[]),
            ("/d", &["/d is there twice"]),
            ("/d/e", &["/d is there twice"]),
        ];
        for (text, want) in cases {
            let (mut seen, mut faults) = (Vec::new(), Vec::new());
            let mut found = |at: &str, value: &RawValue| seen.push(format!("{at}={}", value.get()));
            pointer(text).walk(root, &mut found, &mut faults);
            seen.extend(faults.iter().map(|fault| format!("{} is there twice", fault.at)));
            assert_eq!(seen, want, "{text}");
        }
        let (mut seen, mut faults) = (Vec::new(), Vec::new());
        pointer("").walk(root, &mut |at, value| seen.push((at.len(), value.get())), &mut faults);
        assert_eq!(seen, [(0, body)]);
    }

    #[test]
    fn one_place_inside_of_another_overlaps() {
        for (one, other, want) in [
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("", "/a", true),
            ("/a/*", "/a/0/b", true),
            ("/a/*", "/a/b", false),
            ("/a/*/x", "/a/*/y", false),
            ("/a", "/b", false),
            ("/a/0", "/a/1", false),
        ] {
            assert_eq!(pointer(one).overlaps(&pointer(other)), want, "{one} {other}");
            assert_eq!(pointer(other).overlaps(&pointer(one)), want, "{other} {one}");
        }
    }
}
