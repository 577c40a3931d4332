//! Files in TOML, as they are written: every fault with its line.
//!
//! Serde stops at the first fault. So each row of a list is read by itself.

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

/// Faults of form that are told of one file; the rest usually follows from them.
const SYNTAX_FAULTS_MAX: usize = 5;

/// A file that is being read, with what is wrong with it so far.
pub(super) struct Written<'t> {
    text: &'t str,
    entries: Vec<(String, usize, Spanned<DeValue<'t>>)>,
    pub(super) faults: Vec<String>,
}

impl<'t> Written<'t> {
    pub(super) fn read(text: &'t [u8]) -> Result<Self, Vec<String>> {
        let text = std::str::from_utf8(text).map_err(|_| vec!["it is not UTF-8".to_owned()])?;
        let (table, mut errors) = DeTable::parse_recoverable(text);
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        let mut lines: Vec<usize> = Vec::new();
        let mut faults = Vec::new();
        for error in errors {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            if !lines.contains(&line) && lines.len() < SYNTAX_FAULTS_MAX {
                lines.push(line);
                faults.push(shape_fault(text, &error));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let entry = |(name, value): (Spanned<_>, _)| {
            let start = name.span().start;
            let name: std::borrow::Cow<'_, str> = name.into_inner();
            (name.into_owned(), start, value)
        };
        let entries = table.into_inner().into_iter().map(entry).collect();
        Ok(Self { text, entries, faults })
    }

    /// What is at `key`, where it is there and can be read.
    pub(super) fn take<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.remove(key)?;
        self.value(value)
    }

    /// The items of the list at `key`, those that can be read.
    pub(super) fn take_rows<T: DeserializeOwned>(&mut self, key: &str) -> Vec<T> {
        let Some(value) = self.remove(key) else { return Vec::new() };
        let start = value.span().start;
        match value.into_inner() {
            DeValue::Array(items) => {
                items.into_iter().filter_map(|item| self.value(item)).collect()
            }
            _ => {
                self.fault_at(start, format!("expected a list of tables, each below `[[{key}]]`"));
                Vec::new()
            }
        }
    }

    /// Tells of what nobody has asked for; `known` are the keys that there can be.
    pub(super) fn finish(&mut self, known: &[&str]) {
        let known: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
        for (name, start, _) in std::mem::take(&mut self.entries) {
            let fault = format!("unknown key `{name}`; expected one of {}", known.join(", "));
            self.fault_at(start, fault);
        }
    }

    pub(super) fn fault<T>(&mut self, at: &Spanned<T>, fault: impl std::fmt::Display) {
        self.fault_at(at.span().start, fault);
    }

    fn fault_at(&mut self, start: usize, fault: impl std::fmt::Display) {
        self.faults.push(format!("line {}: {fault}", line_of(self.text, start)));
    }

    fn remove(&mut self, key: &str) -> Option<Spanned<DeValue<'t>>> {
        let index = self.entries.iter().position(|(name, ..)| name == key)?;
        Some(self.entries.remove(index).2)
    }

    fn value<T: DeserializeOwned>(&mut self, value: Spanned<DeValue<'t>>) -> Option<T> {
        let start = value.span().start;
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(value),
            Err(error) => {
                let start = error.span().map_or(start, |span| span.start);
                self.fault_at(start, words(&error));
                None
            }
        }
    }
}

/// What is wrong with the shape of a file, with its line.
fn shape_fault(text: &str, error: &Error) -> String {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    format!("line {line}: {}", words(error))
}

fn words(error: &Error) -> String {
    error.message().trim().replace('\n', " ")
}

/// The line of the byte at `offset`, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
