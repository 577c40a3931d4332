//! A field in canonical values, as JSON in the shape that it had.

use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::parse::Members;

/// A field in canonical values.
#[derive(Debug)]
pub enum Normalized<'a> {
    /// `None` where the input is invalid.
    Scalar(Option<&'a str>),
    List(Vec<&'a str>),
    Weights(Vec<(&'a str, Weight<'a>)>),
    Entries(&'a Members, Vec<(&'a str, Weight<'a>)>),
}

/// A weight of the normalised form.
#[derive(Clone, Debug)]
pub enum Weight<'a> {
    /// In the very bytes in which it came.
    Given(&'a RawValue),
    /// The sum of the weights of several aliases.
    Merged(Box<RawValue>),
}

impl Weight<'_> {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Given(raw) => raw.get(),
            Self::Merged(raw) => raw.get(),
        }
    }
}

impl Serialize for Normalized<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Scalar(value) => value.serialize(serializer),
            Self::List(values) => values.serialize(serializer),
            Self::Weights(weights) => {
                let mut map = serializer.serialize_map(Some(weights.len()))?;
                for (value, weight) in weights {
                    map.serialize_entry(value, weight)?;
                }
                map.end()
            }
            Self::Entries(names, entries) => {
                let mut list = serializer.serialize_seq(Some(entries.len()))?;
                for (value, weight) in entries {
                    list.serialize_element(&Entry { names, value, weight })?;
                }
                list.end()
            }
        }
    }
}

struct Entry<'a> {
    names: &'a Members,
    value: &'a str,
    weight: &'a Weight<'a>,
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(&self.names.key, self.value)?;
        map.serialize_entry(&self.names.weight, self.weight)?;
        map.end()
    }
}

impl Serialize for Weight<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Given(raw) => raw.serialize(serializer),
            Self::Merged(raw) => raw.serialize(serializer),
        }
    }
}
