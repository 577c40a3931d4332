//! Lets go of what cannot be an attack: names, numbers, identifiers, dates, plain sentences.
//!
//! A value is looked at further if it has a byte that an attack could need, or where it has none,
//! if an attack could be made of its words alone (`1 union select password from users`). That
//! needs a word of SQL whose kind every such fingerprint has, which [`sql::is_telling`] knows.

use super::sql;

/// Whether nothing can be found in `value`.
pub(super) fn is_harmless(value: &[u8]) -> bool {
    let classes = value.iter().fold(0, |classes, &byte| classes | CLASSES[usize::from(byte)]);
    if classes & SPECIAL != 0 {
        return false;
    }
    // Without anything between them, letters are one word and digits one number; a number and a
    // word can stand together. Two tokens are an attack with a comment or `UNION` alone, and
    // `1union` is not one.
    classes & BETWEEN == 0 && classes & (LETTER | DIGIT) != LETTER | DIGIT
        || !has_telling_word(value)
}

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const BETWEEN: u8 = 4;
const SPECIAL: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [SPECIAL; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => LETTER,
            b'0'..=b'9' => DIGIT,
            b' ' | b'\t' | b'\n' | b'\r' | b'-' | b'.' | b',' | b':' | b'/' => BETWEEN,
            _ => SPECIAL,
        };
        byte += 1;
    }
    classes
};

/// Whether a word that may tell begins anywhere in `value`, as the tokenizer may cut it.
fn has_telling_word(value: &[u8]) -> bool {
    let class = |at: usize| value.get(at).map_or(BETWEEN, |&byte| CLASSES[usize::from(byte)]);
    let mut at = 0;
    while at < value.len() {
        if class(at) & (LETTER | DIGIT) == 0 {
            // A comment needs no word.
            if matches!(value[at..], [b'-', b'-', ..]) {
                return true;
            }
            at += 1;
            continue;
        }
        let length = value[at..].iter().position(|&byte| CLASSES[usize::from(byte)] == BETWEEN);
        let end = length.map_or(value.len(), |length| at + length);
        if telling(&value[at..end]) {
            return true;
        }
        at = end;
    }
    false
}

/// Whether `run`, of letters and digits, is a word that may tell, or a number and one:
/// `1or`, `1fUNION`, `0x1for`.
fn telling(run: &[u8]) -> bool {
    if sql::is_telling(run) {
        return true;
    }
    let digits = run.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits == run.len() {
        return false;
    }
    // Hexadecimal digits may be letters.
    run[0] == b'0' && digits == 1 || (digits..run.len()).any(|from| sql::is_telling(&run[from..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Encoding, Kinds, inspect_part};
    use libinjectionrs::sqli::sqli_data::SQL_KEYWORDS;
    use proptest::prelude::*;

    #[test]
    fn what_is_ordinary_is_let_go() {
        for value in [
            "",
            "series-a",
            "ACME GmbH",
            "2026-11-21T04:27:45.123Z",
            "5f0c7a3e-9b1d-4c52-8e11-0123456789ab",
            "Berlin, Unter den Linden 77",
            "https://app.example/tickets/17",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0",
            "3-4 days",
            "The printer says paper jam, page 7.",
        ] {
            assert!(is_harmless(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn attacks_of_plain_bytes_are_not() {
        for value in [
            "1 union select password from users",
            "1fUNION select 1",
            "0x1for 1",
            "1--",
            "x or y like z",
            "1-@x",
        ] {
            assert!(!is_harmless(value.as_bytes()), "{value}");
        }
    }

    /// Values without a special byte, out of what SQL is made of.
    fn plain_value() -> impl Strategy<Value = String> {
        let word = |word: &&str| word.bytes().all(|b| CLASSES[usize::from(b)] != SPECIAL);
        let words = SQL_KEYWORDS.iter().filter(|keyword| keyword.token_type != b'F');
        let words: Vec<&str> = words.map(|keyword| keyword.word).filter(word).collect();
        let part = prop_oneof![
            prop::sample::select(words).prop_map(str::to_lowercase),
            prop::sample::select(vec![
                " ",
                " ",
                " ",
                "1",
                "0",
                "0x1",
                "1e",
                "1f",
                "2.5",
                ".",
                ",",
                ":",
                "-",
                "--",
                "/",
                "x",
                "_",
                "or",
                "union",
                "javascript:",
                "data:text/html",
                "on",
                "\n",
            ])
            .prop_map(str::to_owned),
            "[a-zA-Z0-9_]{1,3}",
        ];
        prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn nothing_is_found_in_what_is_let_go(value in plain_value()) {
            let value = value.as_bytes();
            if is_harmless(value) {
                prop_assert_eq!(inspect_part(value, Encoding::Form, Kinds::Both), None);
            }
        }

        #[test]
        fn nothing_is_found_in_any_bytes_that_are_let_go(value in "[ -~]{0,24}|[a-z0-9 ,.:/-]{0,40}") {
            let value = value.as_bytes();
            if is_harmless(value) {
                prop_assert_eq!(inspect_part(value, Encoding::Form, Kinds::Both), None);
            }
        }
    }
}
