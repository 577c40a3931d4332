use proptest::prelude::*;

use super::*;

/// What is found in `value`, as `kind fingerprint`.
fn found(value: &[u8], encoding: Encoding) -> String {
    match inspect(value, encoding, Kinds::Both) {
        None => "-".to_owned(),
        Some(Finding { kind, fingerprint }) => format!("{} {fingerprint}", kind.as_str()),
    }
}

#[test]
fn encoded_attacks_are_found() {
    use Encoding::{Form, Plain};
    for (name, value, encoding, want) in [
        ("as it is", &b"1' or '1'='1"[..], Plain, "sql s&sos"),
        ("percent", b"1%27%20or%20%271%27%3D%271", Plain, "sql s&sos"),
        ("plus", b"1+union+select+password+from+users", Form, "sql 1UEnk"),
        ("a plus that is one", b"1+union+select+password+from+users", Plain, "-"),
        ("a plus behind percent", b"1%2Bunion%2Bselect%2Bpassword%2Bfrom%2Busers", Form, "-"),
        ("double percent", b"1%2527%2520or%2520%25271%2527%253D%25271", Plain, "sql s&sos"),
        ("IIS's percent", b"1%u0027 or %u00271%u0027=%u00271", Plain, "sql s&sos"),
        ("JSON's escapes", b"1\\u0027 or \\u00271\\u0027=\\u00271", Plain, "sql s&sos"),
        ("JavaScript's", b"\\x3cscript\\x3e", Plain, "xss tag:script"),
        ("JavaScript's in braces", b"\\u{3c}script\\u{3E}", Plain, "xss tag:script"),
        ("entities", b"&lt;script&gt;", Plain, "xss tag:script"),
        ("entities by number", b"&#60script&#x3e;", Plain, "xss tag:script"),
        ("zeros in an entity", b"&#0000000060;script>", Plain, "xss tag:script"),
        (
            "an entity in a scheme",
            b"<a href=java&Tab;script&colon;alert(1)>",
            Plain,
            "xss url:javascript",
        ),
        ("full width", "＜script＞".as_bytes(), Plain, "xss tag:script"),
        ("full-width percent", "1％27 or ％271％27=％271".as_bytes(), Plain, "sql s&sos"),
        ("a modifier apostrophe", "1ʼ or ʼ1ʼ=ʼ1".as_bytes(), Plain, "sql s&sos"),
        ("overlong UTF-8", b"1\xC0\xA7 or \xC0\xA71\xC0\xA7=\xC0\xA71", Plain, "sql s&sos"),
        ("overlong UTF-8 in percent", b"%C0%BCscript%E0%80%BE", Plain, "xss tag:script"),
        ("longer UTF-8", b"\xF0\x80\x80\xBCscript>", Plain, "xss tag:script"),
        ("percent, then entities", b"%26lt%3Bscript%26gt%3B", Form, "xss tag:script"),
        ("percent behind JSON's escapes", b"\\u0025%33cscript>", Plain, "xss tag:script"),
        ("comments", b"1/**/union/**/select/**/1", Plain, "sql 1UE1"),
        ("MySQL's comments", b"1 /*!50000union*/ select 1", Plain, "sql X"),
        ("NULs", b"<scr\0ipt>", Plain, "xss tag:script"),
        ("typographic quotes", "1’ or ’1’=’1".as_bytes(), Plain, "-"),
        ("half an escape", b"%2 \\u002 \\x &# &#x; %", Plain, "-"),
    ] {
        assert_eq!(found(value, encoding), want, "{name}");
    }
}

#[test]
fn decoys_do_not_use_up_the_forms() {
    let decoys = "\\u0041 &#65; ％ %41 ";
    let value = format!("{decoys}%253Cscript%253E");
    assert_eq!(found(value.as_bytes(), Encoding::Form), "xss tag:script");
}

#[test]
fn a_long_value_is_looked_at_at_both_ends() {
    let filler = "word ".repeat(20_000);
    for (name, value, want) in [
        ("at its start", format!("1' or 1=1 -- {filler}"), "sql s&1c"),
        ("in its middle", format!("{filler}<script>{filler}"), "-"),
        ("at its end", format!("{filler}<script>"), "xss tag:script"),
    ] {
        assert!(value.len() > VALUE_BYTES_MAX);
        assert_eq!(found(value.as_bytes(), Encoding::Plain), want, "{name}");
    }
    let filler = |length: usize| "w".repeat(length);
    let half = VALUE_BYTES_MAX / 2;
    let value = format!("{}<script>{}", filler(half), filler(half - "<script>".len()));
    assert_eq!(value.len(), VALUE_BYTES_MAX);
    assert_eq!(found(value.as_bytes(), Encoding::Plain), "xss tag:script", "all of one that fits");
}

/// The lines of `ordinary.txt` that are found all the same.
const KNOWN: [(&str, &str); 1] = [("if (a < b && c > d) { return; }", "sql f(n&n")];

#[test]
fn ordinary_input_is_let_go() {
    let lines = include_str!("ordinary.txt").lines();
    let mut values = 0;
    for value in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        values += 1;
        let known = KNOWN.iter().find(|(known, _)| *known == value);
        let want = known.map_or("-", |(_, want)| want);
        assert_eq!(found(value.as_bytes(), Encoding::Plain), want, "{value}");
    }
    assert!(values > 190, "{values}");
    for value in ["# Title", "#hashtag and @mention", "a\nb\n--\nc", "'a'\r\n'b'"] {
        assert_eq!(found(value.as_bytes(), Encoding::Plain), "-", "{value}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_looked_at(value in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in [Encoding::Form, Encoding::Plain] {
            let _decided = inspect(&value, encoding, Kinds::Both);
        }
    }

    #[test]
    fn pieces_of_attacks_are_looked_at(pieces in prop::collection::vec(piece(), 0..30)) {
        let _decided = inspect(&pieces.concat(), Encoding::Form, Kinds::Both);
    }

    #[test]
    fn identifiers_are_let_go(value in "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}|[0-9A-HJKMNP-TV-Z]{26}") {
        prop_assert_eq!(found(value.as_bytes(), Encoding::Plain), "-");
    }

    /// Decoding is what was asked of the decoder, and never makes a value longer.
    #[test]
    fn forms_are_few_distinct_and_no_longer(pieces in prop::collection::vec(piece(), 0..30)) {
        let value = pieces.concat();
        let mut forms = vec![value.clone()];
        decode::each_form(&value, Encoding::Form, FORMS_MAX - 1, |form| {
            forms.push(form.to_vec());
            true
        });
        prop_assert!(forms.len() <= FORMS_MAX);
        for pair in forms.windows(2) {
            prop_assert!(pair[0] != pair[1] && pair[1].len() <= pair[0].len());
        }
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"%",
        b"%27",
        b"%25",
        b"%u0027",
        b"%C0%A7",
        b"+",
        b"&",
        b"&#",
        b"&#x",
        b"&lt;",
        b"39;",
        b";",
        b"\\",
        b"\\u",
        b"\\x",
        b"\\u{",
        b"}",
        b"0027",
        b"\xEF\xBC\x87",
        b"\xC0",
        b"\xE2\x81\xBD",
        b"\xCA\xBC",
        b"\xF0\x80",
        b"<",
        b">",
        b"<!--",
        b"-->",
        b"<a ",
        b"on",
        b"load",
        b"=",
        b"'",
        b"\"",
        b"`",
        b"javascript:",
        b"data:",
        b"url(",
        b"style",
        b"\0",
        b" ",
        b"/",
        b"xmlns",
        b"or",
    ];
    prop_oneof![
        prop::sample::select(pieces).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 1..4),
    ]
}
