//! The one form in which two spellings of a value are compared.
//!
//! 1. Compatibility forms are one (NFKC): `ﬁ` is `fi`, a full-width `Ａ` is `A`.
//! 2. Spaces of all kinds, dashes of all kinds, underscores of all kinds and characters without a
//!    width of their own are left out: `Pre-Seed`, `pre_seed` and `PRE SEED` are one. Not so one
//!    that carries a combining mark: left out, it would hand its mark to the letter before it, and
//!    to another letter in upper case, where `ᾳ` is two.
//! 3. Case is left out: each character is taken to its upper and then to its lower case, because
//!    lower case alone keeps apart what upper case makes one (`ς` and `σ`, `ß` and `ss`).
//! 4. Nothing else is: `Series A+` is not `Series A`, and `é` is not `e`.
//!
//! ASCII, which nearly every input is, is folded into a buffer on the stack.

use unicode_normalization::{UnicodeNormalization as _, char::canonical_combining_class};

/// A folded spelling.
#[derive(Clone, Debug)]
pub struct Folded(Form);

#[derive(Clone, Debug)]
enum Form {
    Short { bytes: [u8; SHORT_BYTES], length: usize },
    Long(String),
}

/// What is folded without an allocation: a value has at most 100 characters.
const SHORT_BYTES: usize = 128;

/// One pass settles nearly everything; a few characters (`ẞ`, or a dash whose mark `◌ͅ` is a letter
/// in upper case) need another. The property test below knows no input that needs four.
const PASSES_MAX: usize = 8;

impl Folded {
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short { bytes, length } => &bytes[..*length],
            Form::Long(text) => text.as_bytes(),
        }
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("folding text makes text")
    }
}

/// Folds `text`. The work is linear in its length, which the caller bounds.
pub fn fold(text: &str) -> Folded {
    Folded(fold_short(text).unwrap_or_else(|| Form::Long(fold_any(text))))
}

/// For ASCII that fits.
fn fold_short(text: &str) -> Option<Form> {
    let mut bytes = [0; SHORT_BYTES];
    let mut length = 0;
    for byte in text.bytes() {
        match byte {
            b'\t'..=b'\r' | b' ' | b'-' | b'_' => {}
            0..=0x7f => {
                *bytes.get_mut(length)? = byte.to_ascii_lowercase();
                length += 1;
            }
            _ => return None,
        }
    }
    Some(Form::Short { bytes, length })
}

fn fold_any(text: &str) -> String {
    let mut folded = pass(text);
    for _ in 1..PASSES_MAX {
        let again = pass(&folded);
        if again == folded {
            break;
        }
        folded = again;
    }
    folded
}

/// Case is folded in decomposed text (Unicode, definition D145): in composed text an upper case of
/// two letters would give the second one the marks of the first.
fn pass(text: &str) -> String {
    let mut rest = text.nfkd().peekable();
    let mut kept = String::with_capacity(text.len());
    while let Some(c) = rest.next() {
        let carries_a_mark = rest.peek().is_some_and(|next| canonical_combining_class(*next) != 0);
        if carries_a_mark || !is_left_out(c) {
            kept.push(c);
        }
    }
    kept.nfkd().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

/// Spaces, dashes (Unicode's category Pd), underscores (Pc), and what takes no room.
fn is_left_out(c: char) -> bool {
    c.is_whitespace()
        || matches!(c,
            '-' | '\u{058a}' | '\u{05be}' | '\u{1400}' | '\u{1806}' | '\u{2010}'..='\u{2015}'
            | '\u{2e17}' | '\u{2e1a}' | '\u{2e3a}' | '\u{2e3b}' | '\u{2e40}' | '\u{2e5d}'
            | '\u{301c}' | '\u{3030}' | '\u{30a0}' | '\u{fe31}' | '\u{fe32}' | '\u{fe58}'
            | '\u{fe63}' | '\u{ff0d}' | '\u{10d6e}' | '\u{10ead}'
            // Not of that category, and typed for a hyphen all the same.
            | '\u{2043}' | '\u{2212}'
            | '_' | '\u{203f}' | '\u{2040}' | '\u{2054}' | '\u{fe33}' | '\u{fe34}'
            | '\u{fe4d}'..='\u{fe4f}' | '\u{ff3f}'
            // Soft hyphen, zero-width spaces and joiners, word joiner, byte order mark.
            | '\u{00ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_value_fold_alike() {
        for (spellings, want) in [
            (&["Pre-Seed", "pre_seed", " PRE\tSEED ", "p-r-e-s-e-e-d"][..], "preseed"),
            (
                &["Pre\u{2010}Seed", "pre\u{2013}seed", "pre\u{a0}seed", "pre\u{200b}seed"],
                "preseed",
            ),
            (&["pre\u{2212}seed", "pre\u{ff3f}seed", "pre\u{ad}seed"], "preseed"),
            (&["Ｓｅｒｉｅｓ　Ａ", "series a", "SERIES-A"], "seriesa"),
            (&["Straße", "STRASSE", "STRA\u{1e9e}E", "strasse"], "strasse"),
            (&["ΟΔΟΣ", "οδος", "οδοσ"], "οδοσ"),
            (&["Café", "CAFE\u{301}", "CA-FE\u{301}"], "café"),
            // Two letters and a separator with a mark: U+1FBD is a space with U+0313.
            (&["ᾼ\u{1fbd}", "ΑΙ \u{313}", "αι\u{1fbd}"], "αι \u{313}"),
            (&["ﬁnance", "Finance"], "finance"),
            (&["--", "_ -", ""], ""),
        ] {
            for spelling in spellings {
                assert_eq!(fold(spelling).as_str(), want, "{spelling:?}");
            }
        }
    }

    #[test]
    fn what_differs_stays_apart() {
        for (one, other) in [("Series A", "Series A+"), ("café", "cafe"), ("a.b", "ab"), ("1", "2")]
        {
            assert_ne!(fold(one).as_bytes(), fold(other).as_bytes(), "{one} {other}");
        }
    }

    #[test]
    fn long_text_is_folded_like_short_text() {
        let long = "Series A ".repeat(40);
        assert_eq!(fold(&long).as_str(), "seriesa".repeat(40));
    }

    /// Any text, and text of the letters that change most: Greek ones that are two in upper case,
    /// marks, and separators among them.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "\\PC{0,24}",
            "[\u{1f80}-\u{1fff}\u{37a}\u{390}-\u{3c9}\u{300}-\u{345}ßẞŉǰİı\u{2010} _-]{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn folding_twice_is_folding_once(text in texts()) {
            let once = fold(&text);
            let twice = fold(once.as_str());
            prop_assert_eq!(once.as_str(), twice.as_str());
            // And it is settled long before the bound on passes.
            let third = pass(&pass(&pass(&text)));
            prop_assert_eq!(pass(&third), third);
        }

        #[test]
        fn case_unicode_form_and_separators_do_not_matter(
            text in texts(),
            separator in prop::sample::select(vec![
                " ", "-", "_", "\u{2011}", "\u{2014}", "\u{a0}", "\u{3000}", "\u{ff3f}", "\t",
            ]),
            at in 0usize..24,
        ) {
            let folded = fold(&text);
            let composed: String = text.nfc().collect();
            let apart: String = text.nfkd().collect();
            // A separator before a mark would be the mark's bearer.
            let is_mark = |c: char| c.nfkd().next().is_some_and(|c| canonical_combining_class(c) != 0);
            let mut places = text.char_indices().filter(|(_, c)| !is_mark(*c)).map(|(index, _)| index);
            let split = places.nth(at).unwrap_or(text.len());
            let (before, after) = text.split_at(split);
            for other in [
                &composed,
                &apart,
                &apart.to_uppercase(),
                &apart.to_lowercase(),
                &format!("{before}{separator}{after}"),
            ] {
                let other_folded = fold(other);
                prop_assert_eq!(other_folded.as_str(), folded.as_str(), "{:?}", other);
            }
        }

        #[test]
        fn the_short_way_says_what_the_long_one_does(text in "[\\x00-\\x7f]{0,60}") {
            let (folded, long) = (fold(&text), fold_any(&text));
            prop_assert_eq!(folded.as_str(), long.as_str());
        }
    }
}
