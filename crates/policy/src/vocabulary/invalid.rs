//! What is wrong with an input: where it is, how it reads, and why it means nothing.

use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};

use super::INPUT_BYTES_MAX;
use super::decimal::{Decimal, Number};
use super::parse::ITEMS_MAX;

/// One input that means nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct InvalidInput {
    /// A JSON Pointer from the field to the input; empty for the field as a whole.
    pub at: String,
    /// As it was sent, cut and with what does not print as escapes.
    pub input: String,
    pub reason: Reason,
}

/// Why an input means nothing. Fits after its name and a colon.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Reason {
    #[error("is none of the values")]
    UnknownValue,
    #[error("is empty")]
    Empty,
    #[error("expected {expected}, not {found}")]
    WrongType { expected: &'static str, found: &'static str },
    #[error("is not a finite number")]
    NotFinite,
    #[error("is below 0")]
    Negative,
    #[error("is above {whole}")]
    AboveScale { whole: Decimal },
    #[error("the weights add up to {sum} instead of {whole} (± {tolerance})")]
    SumOff { sum: Number, whole: Decimal, tolerance: Decimal },
    #[error("is there twice, so that two programs could read it in two ways")]
    DuplicateKey,
    #[error("has no member {0:?}")]
    MissingMember(String),
    #[error("is not text: an escape stands for half a character")]
    NotText,
    #[error("is longer than {INPUT_BYTES_MAX} bytes")]
    TooLong,
    #[error("has more than {ITEMS_MAX} items")]
    TooMany,
    #[error(
        "means the same value as an earlier entry, and has members of its own that merging the two would drop"
    )]
    CannotMerge,
}

impl Reason {
    /// Its name in JSON; it never changes.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::UnknownValue => "unknown-value",
            Self::Empty => "empty",
            Self::WrongType { .. } => "wrong-type",
            Self::NotFinite => "not-finite",
            Self::Negative => "negative",
            Self::AboveScale { .. } => "above-scale",
            Self::SumOff { .. } => "sum-off",
            Self::DuplicateKey => "duplicate-key",
            Self::MissingMember(_) => "missing-member",
            Self::NotText => "not-text",
            Self::TooLong => "too-long",
            Self::TooMany => "too-many",
            Self::CannotMerge => "cannot-merge",
        }
    }
}

impl InvalidInput {
    pub(super) fn new(at: String, input: &str, reason: Reason) -> Self {
        Self { at, input: shown(input), reason }
    }
}

impl Serialize for InvalidInput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            at: &'a str,
            input: &'a str,
            reason: &'static str,
            detail: String,
        }
        let Self { at, input, reason } = self;
        Shape { at, input, reason: reason.name(), detail: reason.to_string() }.serialize(serializer)
    }
}

/// What was sent, and why it means nothing. A word has quotes around it; what is no word is shown
/// as it stands in the request.
impl fmt::Display for InvalidInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, reason, .. } = self;
        match reason {
            Reason::SumOff { .. } => write!(f, "{reason}"),
            Reason::UnknownValue | Reason::CannotMerge | Reason::DuplicateKey
                if !input.starts_with('"') =>
            {
                write!(f, "\"{input}\": {reason}")
            }
            _ if input.is_empty() => write!(f, "\"\": {reason}"),
            _ => write!(f, "{input}: {reason}"),
        }
    }
}

/// Characters of an input that are shown.
const SHOWN_CHARS: usize = 60;

/// `text` as people read it: cut, and with escapes for what would not print, or would print
/// something else than it is. Quotes stay as they are.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(4 * SHOWN_CHARS));
    for (index, c) in text.chars().enumerate() {
        if index == SHOWN_CHARS {
            out.push('…');
            break;
        }
        match c {
            '"' | '\'' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

/// Adds the member `key` to the JSON Pointer `at`, cut where it is long.
pub(super) fn push_member(at: &mut String, key: &str) {
    at.push('/');
    for (index, c) in key.chars().enumerate() {
        match c {
            _ if index == SHOWN_CHARS => {
                at.push('…');
                break;
            }
            '~' => at.push_str("~0"),
            '/' => at.push_str("~1"),
            '"' | '\'' | '\\' => at.push(c),
            c => at.extend(c.escape_debug()),
        }
    }
}

/// Adds the item `index` to the JSON Pointer `at`.
pub(super) fn push_index(at: &mut String, index: usize) {
    write!(at, "/{index}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_wrote_is_cut_and_steers_no_terminal() {
        for (text, want) in [
            ("Series \"A\"", "Series \"A\""),
            ("a\u{1b}[2Jb\n", "a\\u{1b}[2Jb\\n"),
            ("\u{202e}abc", "\\u{202e}abc"),
            ("a\\b", "a\\\\b"),
            ("é", "é"),
        ] {
            assert_eq!(shown(text), want);
        }
        assert_eq!(shown(&"x".repeat(60)), "x".repeat(60));
        assert_eq!(shown(&"x".repeat(61)), "x".repeat(60) + "…");
        assert_eq!(shown(&"\u{0}".repeat(10_000_000)), "\\0".repeat(60) + "…");
    }

    #[test]
    fn a_word_is_told_in_quotes_and_what_is_none_as_it_was_sent() {
        let missing = || Reason::MissingMember("weight".to_owned());
        let wrong = || Reason::WrongType { expected: "a string", found: "a number" };
        for (input, reason, want) in [
            ("sead", Reason::UnknownValue, "\"sead\": is none of the values"),
            ("5", wrong(), "5: expected a string, not a number"),
            ("{\"key\":\"a\"}", missing(), "{\"key\":\"a\"}: has no member \"weight\""),
            ("\"\"", Reason::Empty, "\"\": is empty"),
            ("", Reason::Empty, "\"\": is empty"),
            ("NaN", Reason::NotFinite, "NaN: is not a finite number"),
        ] {
            assert_eq!(InvalidInput::new(String::new(), input, reason).to_string(), want);
        }
    }

    #[test]
    fn pointers_are_escaped_as_rfc_6901_says() {
        let mut at = "/a".to_owned();
        push_member(&mut at, "b/c~d");
        push_index(&mut at, 7);
        push_member(&mut at, "");
        assert_eq!(at, "/a/b~1c~0d/7/");
    }
}
