//! What folds to the fingerprint of an attack and is ordinary input.
//!
//! libinjection accepts these findings. Behind a gateway they deny somebody's request, so each rule
//! gives up attacks that could do nothing, or that nobody has been seen to write; the corpora lose
//! none by them, except where a rule says so.

/// Whether `value`, read as if behind `quote`, has `fingerprint` by one of these accidents.
pub(super) fn explains(value: &[u8], quote: Option<u8>, fingerprint: &str) -> bool {
    match (fingerprint, quote) {
        ("1&1", None) => is_percentages(value),
        ("1c", None) => is_identifier(value),
        ("nc", None) => is_glob(value),
        (_, Some(quote)) => is_prose_with_quoted_words(value, quote),
        _ => false,
    }
}

/// "80% wool and 20% silk": each `%` ends a number and a word follows. As SQL it would be a
/// remainder by a column after a space on one side alone, and would read nothing.
fn is_percentages(value: &[u8]) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80 || b" .,%".contains(&byte);
    let percent = |at: usize| {
        let number = at > 0 && value[at - 1].is_ascii_digit();
        let space = value.get(at + 1).is_none_or(|byte| b" .,".contains(byte));
        number && space && !value.get(at + 2).is_some_and(u8::is_ascii_digit)
    };
    value.contains(&b'%')
        && value.iter().all(|&byte| plain(byte))
        && memchr::memchr_iter(b'%', value).all(percent)
}

/// An identifier in the alphabet of base64url that happens to end in `--`: an attack that only
/// ends a query has a short number before it.
fn is_identifier(value: &[u8]) -> bool {
    const WORD_LETTERS_MIN: usize = 8;
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.~".contains(&byte);
    let words = value.split(|byte| !byte.is_ascii_alphanumeric());
    value.iter().all(|&byte| belongs(byte))
        && words
            .into_iter()
            .any(|word| word.len() >= WORD_LETTERS_MIN && word.iter().any(u8::is_ascii_alphabetic))
}

/// `image/*`, `src/*.rs`: a pattern for paths or media types. As SQL it would be a column and a
/// comment that never ends, which ends the query.
fn is_glob(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"/*._-{},+".contains(&byte))
}

/// A sentence about "and": each quote of the kind is one of a pair around one or two words, which
/// stands apart. The words alone would be SQL, and can compare the sentence's parts, at most; where
/// that could be true (a number follows) it stays a finding, and where there is no sentence around
/// the words.
fn is_prose_with_quoted_words(value: &[u8], quote: u8) -> bool {
    const LETTERS_OUTSIDE_MIN: usize = 5;
    const WORDS_BYTES_MAX: usize = 16;
    let mut outside = 0;
    let mut rest = value;
    while let Some(open) = memchr::memchr(quote, rest) {
        let (before, inside) = (&rest[..open], &rest[open + 1..]);
        let Some(close) = memchr::memchr(quote, &inside[..inside.len().min(WORDS_BYTES_MAX)])
        else {
            return false;
        };
        let (words, after) = (&inside[..close], &inside[close + 1..]);
        let apart_before = before.last().is_none_or(|&byte| byte == b' ' || byte == b'(');
        let apart_after = after.first().is_none_or(|byte| b" .,;:!?)".contains(byte));
        let is_words = words.iter().all(|&byte| byte.is_ascii_alphabetic() || byte == b' ');
        let is_number = |byte: &u8| byte.is_ascii_digit() || b"+-.".contains(byte);
        let compares = after.iter().find(|&&byte| byte != b' ').is_some_and(is_number);
        let spaces = words.iter().filter(|&&byte| byte == b' ').count();
        if !apart_before || !apart_after || !is_words || spaces > 1 || compares {
            return false;
        }
        outside += letters(before);
        rest = after;
    }
    rest.len() < value.len() && outside + letters(rest) >= LETTERS_OUTSIDE_MIN
}

fn letters(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte.is_ascii_alphabetic() || byte >= 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accidents_are_told_from_attacks() {
        for (value, quote, fingerprint, want) in [
            ("80% wool and 20% silk", None, "1&1", true),
            ("80% wool, 20% silk or 5 %", None, "1&1", false),
            ("1 and 1 not like 0", None, "1&1", false),
            ("1 and 7% 2", None, "1&1", false),
            ("1 and 7%id", None, "1&1", false),
            ("1 or 1=1%", None, "1&1", false),
            ("1611-IioXXIG1ti8rspL2vbXFy--", None, "1c", true),
            ("1--", None, "1c", false),
            ("1-id--", None, "1c", false),
            ("12345678901--", None, "1c", false),
            ("1 IioXXIG1ti8rspL2vbXFy--", None, "1c", false),
            ("image/*", None, "nc", true),
            ("src/**/*.rs", None, "nc", true),
            ("id /* x", None, "nc", false),
            ("the 'and' operator", Some(b'\''), "s&s", true),
            ("a stocking \"not\" stuffer", Some(b'"'), "sos", true),
            ("press 'or' to go, 'not' to stop", Some(b'\''), "s&sos", true),
            ("A 'AND' B", Some(b'\''), "s&s", false),
            ("nobody 'or' 1", Some(b'\''), "s&1", false),
            ("nobody 'or' -1", Some(b'\''), "s&1", false),
            ("nobody' or 'somebody", Some(b'\''), "s&s", false),
            ("nobody'or'somebody", Some(b'\''), "s&s", false),
            ("nobody 'union select x' somebody", Some(b'\''), "sUEns", false),
            ("nobody 'or 1=1' somebody", Some(b'\''), "s&1", false),
            ("nobody 'or", Some(b'\''), "s&", false),
        ] {
            assert_eq!(explains(value.as_bytes(), quote, fingerprint), want, "{value}");
        }
    }
}
