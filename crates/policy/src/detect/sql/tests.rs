use libinjectionrs::SqliFlags;
use libinjectionrs::sqli::SqliState;
use libinjectionrs::sqli::sqli_data::SQL_KEYWORDS;
use proptest::prelude::*;

use super::*;

fn found(value: &str) -> String {
    detect(value.as_bytes()).map_or_else(|| "-".to_owned(), |found| found.to_string())
}

#[test]
fn attacks_have_their_fingerprint() {
    for (value, fingerprint) in [
        ("1' or '1'='1", "s&sos"),
        ("1 union select password from users", "1UEnk"),
        ("' or 1=1 --", "s&1c"),
        ("admin'--", "sc"),
        ("admin\" or 1=1#", "s&1c"),
        ("1; drop table users", "1;Tnn"),
        ("1 /*!union*/ select 2", "X"),
        ("1--", "1c"),
        ("1 or 1=1", "1&1"),
        ("x' and sleep(5) and 'a'='a", "s&f(1"),
    ] {
        assert_eq!(found(value), fingerprint, "{value}");
    }
}

#[test]
fn every_value_of_plain_bytes_that_is_an_attack_has_a_telling_token() {
    let plain = b"UTBEKFN1VOC&A,.:X;?";
    let telling = b"UTBEKVC&AX";
    let mut known = 0;
    for keyword in SQL_KEYWORDS.iter().filter(|keyword| keyword.token_type == b'F') {
        let letters = &keyword.word.as_bytes()[1..];
        known += 1;
        if letters.iter().all(|letter| plain.contains(letter)) {
            assert!(letters.iter().any(|letter| telling.contains(letter)), "{}", keyword.word);
        }
    }
    assert!(known > 8000, "{known}");
}

/// Whether one of the readings has an innocent explanation.
fn explained(value: &str) -> bool {
    [None, Some(b'\''), Some(b'"')].into_iter().any(|quote| {
        [false, true]
            .into_iter()
            .any(|mysql| ordinary::explains(value.as_bytes(), quote, &ours(value, quote, mysql)))
    })
}

/// What the crate makes of `value` in one reading.
fn theirs(value: &str, flags: SqliFlags) -> String {
    SqliState::new(value.as_bytes(), flags).get_fingerprint().as_str().to_owned()
}

fn ours(value: &str, quote: Option<u8>, mysql: bool) -> String {
    fold::fold(value.as_bytes(), Dialect { quote, mysql }).fingerprint().to_string()
}

fn agree(value: &str) {
    for (quote, quoted) in [
        (None, SqliFlags::FLAG_QUOTE_NONE),
        (Some(b'\''), SqliFlags::FLAG_QUOTE_SINGLE),
        (Some(b'"'), SqliFlags::FLAG_QUOTE_DOUBLE),
    ] {
        for (mysql, dialect) in
            [(false, SqliFlags::FLAG_SQL_ANSI), (true, SqliFlags::FLAG_SQL_MYSQL)]
        {
            let (ours, theirs) = (ours(value, quote, mysql), theirs(value, quoted | dialect));
            assert_eq!(ours, theirs, "{value:?} in {quote:?}, MySQL {mysql}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn we_fold_as_libinjection_does(parts in prop::collection::vec(part(), 0..12)) {
        agree(&parts.concat());
    }

    #[test]
    fn we_decide_as_libinjection_does(parts in prop::collection::vec(part(), 0..12)) {
        let value = parts.concat();
        let theirs = libinjectionrs::detect_sqli(value.as_bytes()).is_injection();
        let ours = detect(value.as_bytes()).is_some();
        // The crate takes `INTO OUTFILE` for an attack in capitals alone.
        let more = ours && value.contains("into");
        let less = theirs && explained(&value);
        prop_assert!(ours == theirs || more || less, "{:?}", value);
    }

    #[test]
    fn any_bytes_are_read_to_their_end(value in prop::collection::vec(any::<u8>(), 0..200)) {
        let _decided = detect(&value);
    }
}

/// What SQL is made of, and what is not quite it.
fn part() -> impl Strategy<Value = String> {
    let words = SQL_KEYWORDS.iter().filter(|keyword| keyword.token_type != b'F');
    // Unlike libinjection, the crate does not join words that are only a name together, and so
    // never sees `AT TIME ZONE`.
    let halves = ["at", "boolean", "create", "distinct", "lock", "value"];
    let words: Vec<String> = words
        .map(|keyword| keyword.word.to_lowercase())
        .filter(|word| !word.split(' ').any(|part| halves.contains(&part)))
        .collect();
    prop_oneof![
        prop::sample::select(words),
        prop::sample::select(vec![
            " ",
            " ",
            " ",
            " ",
            "'",
            "'",
            "\"",
            "1",
            "2.5",
            "0x1f",
            "or",
            "and",
            "union",
            "select",
            "x",
            "(",
            ")",
            ",",
            ";",
            "--",
            "-- ",
            "#",
            "/*",
            "*/",
            "/**/",
            "/*!",
            "=",
            "<",
            ">",
            "||",
            "&&",
            "!",
            "+",
            "-",
            "*",
            "%",
            "@",
            "@@",
            "`",
            "\\",
            "[",
            "]",
            "{",
            "}",
            ".",
            ":",
            "::",
            "$",
            "$$",
            "$a$",
            "e'",
            "n'",
            "q'(",
            ")'",
            "x'ff'",
            "b'01'",
            "u&'",
            "1e5",
            "1fu",
            "\n",
            "\t",
            "ü",
            "\0",
            "?",
            "_x",
            "like",
            "in",
            "not",
            "0b",
            "0x",
            ".5",
            "1.",
            "sp_password",
            "{``",
            "<=>",
        ])
        .prop_map(str::to_owned),
        "[ -~]{1,4}",
    ]
}
