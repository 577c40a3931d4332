//! Faults of a config, all of them in one report: where, which key, what was expected.

use std::fmt;

use serde::Serialize;

use super::tree::Place;

/// One thing that is wrong, fit for a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    /// `protect.rate_limit.limits[1].rate`; empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong or was expected, lowercase.
    pub message: String,
    /// The key or word that was probably meant.
    pub suggestion: Option<String>,
}

impl Fault {
    pub(crate) fn new(place: Place, key: String, message: impl Into<String>) -> Self {
        Self { place, key, message: message.into(), suggestion: None }
    }
}

/// Faults that a report lists. A file with more has something else wrong with it.
const FAULTS_MAX: usize = 100;

/// Collects faults while a config is read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    faults: Vec<Fault>,
    /// The keys that could not be read.
    unread: Vec<String>,
    /// The first line that is not TOML. What follows it was guessed at.
    torn_at: Option<u32>,
}

impl Report {
    /// Adds `fault` unless the same is there already, as it is when a route inherits it.
    pub(crate) fn push(&mut self, fault: Fault) {
        let same = |other: &Fault| other.place == fault.place && other.message == fault.message;
        let known = fault.place != Place::Nowhere && self.faults.iter().any(same);
        if !known && self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// Adds a fault of sense, unless a part of what it is about could not be read: it was judged as
    /// if that were not there, and so may be right.
    pub(crate) fn add_sense(&mut self, fault: Fault) {
        // Items of a list that could not be read leave the others to be judged.
        if !self.has_unread(&fault.key, |rest| rest.is_empty() || rest.starts_with('.')) {
            self.push(fault);
        }
    }

    /// Whether items of the list at `key` could not be read.
    pub(crate) fn has_unread_items(&self, key: &str) -> bool {
        self.has_unread(key, |rest| rest.starts_with('['))
    }

    fn has_unread(&self, key: &str, is_part: impl Fn(&str) -> bool) -> bool {
        self.unread.iter().any(|unread| unread.strip_prefix(key).is_some_and(&is_part))
    }

    /// Adds a fault of shape: what is at its key is read as if it were not there.
    pub(crate) fn add_unread(&mut self, fault: Fault) {
        self.unread.push(fault.key.clone());
        self.push(fault);
    }

    pub(crate) fn syntax_fault_at(&mut self, line: u32) {
        self.torn_at = Some(self.torn_at.map_or(line, |torn| torn.min(line)));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.faults.len() >= FAULTS_MAX
    }

    pub(crate) const fn is_torn(&self) -> bool {
        self.torn_at.is_some()
    }

    /// The report in the order of the file, then environment, flags and what is missing.
    pub(crate) fn into_faults(mut self, file: String) -> Result<(), Faults> {
        if let Some(torn) = self.torn_at {
            self.faults.retain(|fault| match fault.place {
                Place::File { line, .. } => line < torn || fault.message.starts_with("not TOML"),
                Place::Nowhere => false,
                Place::Env(_) | Place::Flag(_) => true,
            });
        }
        if self.faults.is_empty() {
            return Ok(());
        }
        self.faults.sort_by(|a, b| a.place.cmp(&b.place));
        Err(Faults { file, list: self.faults })
    }
}

/// Why a config was refused; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// The file as the operator named it.
    file: String,
    list: Vec<Fault>,
}

/// What messages call the built-in config. It has no lines that an operator could look at.
pub(crate) const BUILT_IN: &str = "(built-in config)";

impl Faults {
    /// A single fault of the file itself.
    pub(crate) fn of_file(file: String, message: String) -> Self {
        let fault = Fault::new(Place::Nowhere, String::new(), message);
        Self { file, list: vec![fault] }
    }

    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// `1 fault`, `12 faults`.
    pub fn count(&self) -> String {
        let count = self.list.len();
        let more = if count >= FAULTS_MAX { " or more" } else { "" };
        format!("{count}{more} {}", if count == 1 { "fault" } else { "faults" })
    }

    fn place(&self, fault: &Fault) -> String {
        match &fault.place {
            Place::File { line, column } if self.file != BUILT_IN => {
                format!("{}:{line}:{column}", self.file)
            }
            Place::Env(name) => name.to_string(),
            Place::Flag(name) => (*name).to_owned(),
            Place::File { .. } | Place::Nowhere => self.file.clone(),
        }
    }

    /// For programs: one object a fault.
    pub fn to_json(&self) -> serde_json::Value {
        let list = self.list.iter().map(|fault| {
            let (file, line, column) = match fault.place {
                Place::File { line, column } if self.file != BUILT_IN => {
                    (Some(&*self.file), Some(line), Some(column))
                }
                Place::File { .. } | Place::Nowhere => (Some(&*self.file), None, None),
                Place::Env(_) | Place::Flag(_) => (None, None, None),
            };
            let entry = JsonFault {
                file,
                line,
                column,
                env: if let Place::Env(name) = &fault.place { Some(name) } else { None },
                flag: if let Place::Flag(name) = fault.place { Some(name) } else { None },
                key: &fault.key,
                message: &fault.message,
                suggestion: fault.suggestion.as_deref(),
            };
            serde_json::to_value(entry).expect("strings and numbers always serialise")
        });
        serde_json::Value::Array(list.collect())
    }
}

#[derive(Serialize)]
struct JsonFault<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<&'a str>,
    key: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<&'a str>,
}

/// The widest the column of keys is made; longer ones push their line to the right.
const KEY_COLUMN_MAX: usize = 44;

impl fmt::Display for Faults {
    /// One line a fault: place, key, message, aligned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.list.iter().map(|fault| self.place(fault)).collect();
        let place_width = places.iter().map(|place| place.chars().count()).max().unwrap_or(0);
        let key_widths = self.list.iter().map(|fault| fault.key.chars().count());
        let key_width = key_widths.filter(|width| *width <= KEY_COLUMN_MAX).max().unwrap_or(0);
        for (position, (fault, place)) in self.list.iter().zip(&places).enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{place:place_width$}  ")?;
            if key_width > 0 {
                write!(f, "{:key_width$}  ", fault.key)?;
            }
            f.write_str(&fault.message)?;
            if let Some(suggestion) = &fault.suggestion {
                write!(f, "; did you mean `{suggestion}`?")?;
            }
        }
        Ok(())
    }
}

/// The one of `known` that `word` is probably a misspelling of: at most one edit for every three
/// letters.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &str| strsim::osa_distance(word, candidate);
    let nearest = known.iter().copied().min_by_key(|candidate| distance(candidate))?;
    let bound = word.chars().count().max(3) / 3;
    (distance(nearest) <= bound).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_line_and_the_columns_align() {
        let mut report = Report::default();
        let at = |line, column| Place::File { line, column };
        let mut misspelt = Fault::new(at(12, 8), "protect.cors.orgins".into(), "unknown key");
        misspelt.suggestion = Some("origins".into());
        report.push(misspelt.clone());
        report.push(misspelt);
        report.push(Fault::new(Place::Flag("--listen"), "listen.addr".into(), "expected b"));
        report.push(Fault::new(at(2, 1), "log.level".into(), "expected a"));
        let faults = report.into_faults("x.toml".into()).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "x.toml:2:1   log.level            expected a\n\
             x.toml:12:8  protect.cors.orgins  unknown key; did you mean `origins`?\n\
             --listen     listen.addr          expected b"
        );
        assert_eq!(faults.count(), "3 faults");
        assert_eq!(
            faults.to_json()[1],
            serde_json::json!({
                "file": "x.toml", "line": 12, "column": 8, "key": "protect.cors.orgins",
                "message": "unknown key", "suggestion": "origins",
            })
        );
    }

    #[test]
    fn what_was_meant_is_near() {
        let known = ["limits", "keys", "mode", "addr"];
        for (word, want) in [
            ("limts", Some("limits")),
            ("moed", Some("mode")),
            ("adr", Some("addr")),
            ("burst", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, &known), want, "{word}");
        }
    }
}
