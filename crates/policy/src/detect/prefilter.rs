//! Lets go of what cannot be an attack: names, numbers, identifiers, dates, plain sentences.
//!
//! A value is looked at further if it has a byte that an attack could need, or where it has none,
//! if an attack could be made of its words alone (`1 union select password from users`). That
//! needs a word of SQL whose kind every such fingerprint has, or two words that together are one:
//! [`sql::telling`] knows them.

use super::sql::{self, Telling};

/// What the bytes of a value could belong to.
#[derive(Clone, Copy)]
pub(super) struct Classes(u8);

impl Classes {
    pub(super) fn of(value: &[u8]) -> Self {
        Self(value.iter().fold(0, |classes, &byte| classes | CLASSES[usize::from(byte)]))
    }

    /// Some decoding may change the value.
    pub(super) fn is_encoded(self) -> bool {
        self.0 & ENCODED != 0
    }

    /// The value has one of the bytes around which markup is looked for.
    pub(super) fn has_markup(self) -> bool {
        self.0 & MARKUP != 0
    }

    /// Whether nothing can be found in `value`, whose classes these are.
    pub(super) fn are_harmless(self, value: &[u8]) -> bool {
        if self.0 & SPECIAL != 0 {
            return is_mail(value);
        }
        // `data:text/html;…` is a page without a single letter of a tag.
        if self.0 & MARKUP != 0 && self.0 & COLON != 0 {
            return false;
        }
        // Without anything between them, letters are one word and digits one number. Only a number
        // and a word can stand together.
        let is_one = self.0 & BETWEEN == 0 && self.0 & (LETTER | DIGIT) != LETTER | DIGIT;
        is_one || !has_telling_word(value, self.0 & MARKUP != 0)
    }
}

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const BETWEEN: u8 = 4;
const SPECIAL: u8 = 8;
const ENCODED: u8 = 16;
const MARKUP: u8 = 32;
const COLON: u8 = 64;

const CLASSES: [u8; 256] = {
    let mut classes = [SPECIAL; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => LETTER,
            b'0'..=b'9' => DIGIT,
            b' ' | b'\t' | b'\n' | b'\r' | b'-' | b'.' | b',' | b'/' | b'!' | b'?' => BETWEEN,
            b':' => BETWEEN | COLON,
            b';' => BETWEEN | MARKUP,
            b'%' | b'+' | b'&' | b'\\' => SPECIAL | ENCODED,
            0xC0 | 0xC1 | 0xCA | 0xE0 | 0xE2 | 0xEF | 0xF0 => SPECIAL | ENCODED,
            b'<' | b'=' | b'(' | b'`' => SPECIAL | MARKUP,
            _ => SPECIAL,
        };
        byte += 1;
    }
    classes
};

/// Whether `value` is a mail address of letters, digits, dots and single dashes, as nearly all are:
/// a name, a variable and names. Addresses are in most bodies.
fn is_mail(value: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b'@', value) else { return false };
    let (local, host) = (&value[..at], &value[at + 1..]);
    let is_plain = |byte: u8| CLASSES[usize::from(byte)] & (LETTER | DIGIT) != 0 || byte == b'.';
    let is_name = |part: &[u8]| {
        part.first().is_some_and(u8::is_ascii_alphabetic) && part.iter().all(|byte| is_plain(*byte))
    };
    is_name(local)
        && is_name(host)
        && !has_telling_word(local, false)
        && !has_telling_word(host, false)
}

/// Whether a word, or two, that may tell begin anywhere in `value`, as the tokenizer may cut it.
fn has_telling_word(value: &[u8], has_semicolon: bool) -> bool {
    let mut before = Telling::No;
    let mut rest = value;
    while let Some(&byte) = rest.first() {
        if is_between(byte) {
            // A comment needs no word.
            if rest.starts_with(b"--") {
                return true;
            }
            rest = &rest[1..];
            continue;
        }
        let end = rest.iter().position(|&byte| is_between(byte));
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        let telling = telling(run);
        // Behind a semicolon it begins a statement.
        if has_semicolon && run.eq_ignore_ascii_case(b"if") {
            return true;
        }
        if telling == Telling::Alone || telling == Telling::InPairs && before == Telling::InPairs {
            return true;
        }
        before = telling;
        rest = after;
    }
    false
}

fn is_between(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & BETWEEN != 0
}

/// What `run`, of letters and digits, tells: it is a word, a number, or a number and a word, as in
/// `1or`, `1fUNION`, `1e5or` and `0x1for`.
fn telling(run: &[u8]) -> Telling {
    let digits_from =
        |at: usize| at + run[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = digits_from(0);
    if at == 0 {
        return sql::telling(run);
    }
    if at == run.len() {
        return Telling::No;
    }
    // Hexadecimal digits may be letters.
    if run[0] == b'0' && at == 1 {
        return Telling::Alone;
    }
    let mut most = sql::telling(&run[at..]);
    if matches!(run[at], b'e' | b'E') {
        at = digits_from(at + 1);
        most = most.max(sql::telling(&run[at..]));
    }
    if let [b'd' | b'D' | b'f' | b'F', word @ ..] = &run[at..] {
        most = most.max(sql::telling(word));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Encoding, FORMS_MAX, decode, inspect_all, xss};
    use libinjectionrs::sqli::sqli_data::SQL_KEYWORDS;
    use proptest::prelude::*;

    fn is_harmless(value: &[u8]) -> bool {
        Classes::of(value).are_harmless(value)
    }

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
            "waiting for the customer to answer",
            "The printer says paper jam, page 7.",
            "Delivers parcels by bicycle; wants two more depots!",
            "desk@parcels.example",
            "mara.lindt@mail.helpdesk.example",
        ] {
            assert!(is_harmless(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn attacks_of_plain_bytes_are_not() {
        for value in [
            "1 union select password from users",
            "1fUNION select 1",
            "1e5or 1",
            "1eor 1",
            "x group by y",
            "0x1for 1",
            "1--",
            "x or y like z",
            "1-@x",
            "x;if 1",
            "1;select",
            "data:text/html;base64,PHN2Zz4",
            "or@x",
            "1@x",
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
                ";",
                "!",
                "?",
                "@",
                "if",
                "data:text/html;",
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
        fn what_classes_rule_out_is_not_there(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let classes = Classes::of(&value);
            if !classes.is_encoded() {
                decode::each_form(&value, Encoding::Form, FORMS_MAX, |_| panic!("{value:?}"));
            }
            if !classes.has_markup() {
                prop_assert_eq!(xss::detect(&value), None);
            }
        }

        #[test]
        fn nothing_is_found_in_what_is_let_go(value in plain_value()) {
            let value = value.as_bytes();
            if is_harmless(value) {
                prop_assert_eq!(inspect_all(value, Encoding::Form), None);
            }
        }

        #[test]
        fn nothing_is_found_in_any_bytes_that_are_let_go(value in "[ -~]{0,24}|[a-z0-9 ,.:;!?/-]{0,40}|[a-z0-9.]{1,8}@[a-z0-9.]{1,8}") {
            let value = value.as_bytes();
            if is_harmless(value) {
                prop_assert_eq!(inspect_all(value, Encoding::Form), None);
            }
        }
    }
}
