//! What a caller sent, as a denial repeats it.

use std::fmt;

/// Shows bytes in quotes, escaped, cut after 80 of them: whoever reads the denial recognises
/// what was sent, and nobody can fill a log with it.
pub(crate) struct Quoted<'a>(pub(crate) &'a [u8]);

const SHOWN_MAX: usize = 80;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_at_checked(SHOWN_MAX) {
            Some((shown, rest)) if !rest.is_empty() => write!(f, "\"{}…\"", shown.escape_ascii()),
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_printable_and_short() {
        let long = "x".repeat(81);
        for (bytes, shown) in [
            ("app.example", "\"app.example\"".to_owned()),
            ("a\"b\r\n\u{e9}", "\"a\\\"b\\r\\n\\xc3\\xa9\"".to_owned()),
            (&"x".repeat(80), format!("\"{}\"", "x".repeat(80))),
            (&long, format!("\"{}…\"", "x".repeat(80))),
        ] {
            assert_eq!(Quoted(bytes.as_bytes()).to_string(), shown);
        }
    }
}
