//! Fields that may carry what looks like an attack: code, queries, markup, prose.

use super::{Place, Pointer};
use crate::detect::Kinds;

/// How many fields a list names.
const ALLOWED_MAX: usize = 256;

/// How long the name of one is.
const PATTERN_BYTES_MAX: usize = 256;

/// Fields, and what each may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Allow>);

/// One field, or those of a pattern, and what it may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    pattern: Pattern,
    kinds: Kinds,
}

/// Fits after "`allow`: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowError {
    #[error(
        "expected a JSON Pointer (\"/items/*/body\"), \"body\", or query:, form:, cookie:, header:, \
         part: or path:segment with a name, number or *"
    )]
    Place,
    #[error("a name is missing behind the colon")]
    NoName,
    #[error("expected the number of a segment, from 1, or *")]
    Segment,
    #[error("in a JSON Pointer ~ is written ~0, and / in a name ~1")]
    Escape,
    #[error("expected at most {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    #[error("expected at most {ALLOWED_MAX} fields")]
    TooMany,
}

impl Allow {
    /// `field` is a JSON Pointer, `body`, or the kind of a field and its name. `*` stands for one
    /// segment of a pointer, or for any name.
    pub fn new(field: &str, kinds: Kinds) -> Result<Self, AllowError> {
        if field.len() > PATTERN_BYTES_MAX {
            return Err(AllowError::TooLong);
        }
        Ok(Self { pattern: Pattern::parse(field)?, kinds })
    }
}

impl AllowList {
    pub fn new(allowed: Vec<Allow>) -> Result<Self, AllowError> {
        if allowed.len() > ALLOWED_MAX {
            return Err(AllowError::TooMany);
        }
        Ok(Self(allowed))
    }

    /// What `place` may not carry, of `kinds`.
    pub(super) fn left(&self, place: &Place<'_>, kinds: Kinds) -> Option<Kinds> {
        let allowed = self.0.iter().filter(|allow| allow.pattern.matches(place));
        allowed.map(|allow| allow.kinds).try_fold(kinds, Kinds::without)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Query(Name),
    Form(Name),
    Cookie(Name),
    Header(Name),
    Part(Name),
    /// `None`: any.
    Segment(Option<usize>),
    /// The segments of a JSON Pointer.
    Json(Vec<Name>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Any,
    Is(String),
}

impl Name {
    fn parse(name: &str) -> Result<Self, AllowError> {
        match name {
            "" => Err(AllowError::NoName),
            "*" => Ok(Self::Any),
            name => Ok(Self::Is(name.to_owned())),
        }
    }

    /// A segment of a JSON Pointer; the empty one is a name, too.
    fn parse_segment(segment: &str) -> Result<Self, AllowError> {
        if segment == "*" {
            return Ok(Self::Any);
        }
        let mut name = String::with_capacity(segment.len());
        let mut chars = segment.chars();
        while let Some(c) = chars.next() {
            name.push(match c {
                '~' => match chars.next() {
                    Some('0') => '~',
                    Some('1') => '/',
                    _ => return Err(AllowError::Escape),
                },
                c => c,
            });
        }
        Ok(Self::Is(name))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Is(is) => is == name,
        }
    }

    fn matches_index(&self, index: usize) -> bool {
        match self {
            Self::Any => true,
            Self::Is(is) => is.parse() == Ok(index) && (index == 0) == is.starts_with('0'),
        }
    }
}

impl Pattern {
    fn parse(field: &str) -> Result<Self, AllowError> {
        if field == "body" {
            return Ok(Self::Json(Vec::new()));
        }
        if let Some(pointer) = field.strip_prefix('/') {
            let segments = pointer.split('/').map(Name::parse_segment);
            return Ok(Self::Json(segments.collect::<Result<_, _>>()?));
        }
        let (place, name) = field.split_once(':').ok_or(AllowError::Place)?;
        match place {
            "query" => Ok(Self::Query(Name::parse(name)?)),
            "form" => Ok(Self::Form(Name::parse(name)?)),
            "cookie" => Ok(Self::Cookie(Name::parse(name)?)),
            "header" => Ok(Self::Header(Name::parse(&name.to_ascii_lowercase())?)),
            "part" => Ok(Self::Part(Name::parse(name)?)),
            "path" => match name.strip_prefix("segment ").ok_or(AllowError::Segment)? {
                "*" => Ok(Self::Segment(None)),
                number => match number.parse() {
                    Ok(number @ 1..) => Ok(Self::Segment(Some(number))),
                    _ => Err(AllowError::Segment),
                },
            },
            _ => Err(AllowError::Place),
        }
    }

    fn matches(&self, place: &Place<'_>) -> bool {
        match (self, place) {
            (Self::Query(pattern), Place::Query(name))
            | (Self::Form(pattern), Place::Form(name)) => pattern.matches(&super::parameter(name)),
            (Self::Cookie(pattern), Place::Cookie(name)) => pattern.matches(name),
            (Self::Header(pattern), Place::Header(name)) => pattern.matches(name.as_str()),
            (Self::Part(pattern), Place::Part(name)) => pattern.matches(name),
            (Self::Segment(pattern), Place::Segment(number)) => {
                pattern.is_none_or(|pattern| pattern == *number)
            }
            (Self::Json(pattern), Place::Json(pointer)) => matches_pointer(pattern, pointer),
            _ => false,
        }
    }
}

/// Both are compared from their ends, where a pointer begins.
fn matches_pointer(pattern: &[Name], pointer: &Pointer<'_>) -> bool {
    let mut pattern = pattern.iter().rev();
    let mut pointer = pointer;
    loop {
        let (parent, matches) = match (pattern.next(), pointer) {
            (None, Pointer::Root) => return true,
            (Some(name), Pointer::Item(parent, index)) => (parent, name.matches_index(*index)),
            (Some(name), Pointer::Member(parent, member)) => (parent, name.matches(member)),
            (None, _) | (Some(_), Pointer::Root) => return false,
        };
        if !matches {
            return false;
        }
        pointer = parent;
    }
}
