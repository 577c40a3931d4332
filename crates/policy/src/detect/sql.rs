//! SQL injection by fingerprint, after libinjection's method (Nick Galbreath, Black Hat USA 2012).
//!
//! A value is cut into SQL tokens three times: as it is, and as if it stood behind an opening `'`
//! and behind an opening `"`, since that is where a careless service puts it. Tokens that a
//! database would reduce are folded (`1+2` is a number, `a.b` a name), the kinds of the first five
//! that remain are the fingerprint, and a fingerprint that has been seen in attacks and not in
//! ordinary input is a finding.
//!
//! The words and fingerprints are those of the crate `libinjectionrs`; the tokenizer and the
//! folding are ours, because that crate's need time that grows with the square of a value's length
//! (177 ms for 64 KiB of `a.a.a.`) and allocate for every word. Tests hold ours to the same answer.

mod fold;
mod ordinary;
mod token;
mod words;

use fold::Folded;
use token::{Dialect, Kind, Token};

pub(super) use words::{Telling, telling};

/// The kinds of the tokens that a value folds to, one letter each: `s&1c` is a string, a logical
/// operator, a number, a comment.
pub(super) type Fingerprint = arrayvec::ArrayString<{ fold::TOKENS_MAX }>;

/// The first reading of `value` that is an attack. Linear in time, and without allocation.
pub(super) fn detect(value: &[u8]) -> Option<Fingerprint> {
    if value.is_empty() {
        return None;
    }
    read(value, None)
        .or_else(|| value.contains(&b'\'').then(|| read(value, Some(b'\'')))?)
        // Only MySQL takes `"` for the quote of a string.
        .or_else(|| value.contains(&b'"').then(|| read_as_mysql(value, Some(b'"')))?)
}

/// What `#` means, and `--` without a space behind it, depends on the database: a value that has
/// one is read in both ways.
fn read(value: &[u8], quote: Option<u8>) -> Option<Fingerprint> {
    let folded = fold::fold(value, Dialect { quote, mysql: false });
    judge(value, quote, &folded)
        .or_else(|| folded.comment_depends.then(|| read_as_mysql(value, quote))?)
}

fn read_as_mysql(value: &[u8], quote: Option<u8>) -> Option<Fingerprint> {
    judge(value, quote, &fold::fold(value, Dialect { quote, mysql: true }))
}

fn judge(value: &[u8], quote: Option<u8>, folded: &Folded) -> Option<Fingerprint> {
    if !is_attack(value, folded) {
        return None;
    }
    let fingerprint = folded.fingerprint();
    (!ordinary::explains(value, quote, &fingerprint)).then_some(fingerprint)
}

/// Whether the fingerprint is known, and the value none of those that look like an attack only
/// once their details are folded away.
fn is_attack(value: &[u8], folded: &Folded) -> bool {
    let tokens = folded.tokens();
    let mut kinds = [Kind::Unknown; fold::TOKENS_MAX];
    for (kind, token) in kinds.iter_mut().zip(tokens) {
        *kind = token.kind;
    }
    let kinds = &kinds[..tokens.len()];
    if !words::is_known(kinds) {
        return false;
    }
    // SQL Server leaves a statement out of its log where a comment has this word.
    if kinds.len() > 1 && kinds.ends_with(&[Kind::Comment]) && has_sp_password(value) {
        return true;
    }
    match tokens {
        [first, second] => is_attack_of_two(value, first, second, folded.read),
        [first, second, third] => is_attack_of_three(first, second, third, folded.read),
        _ => true,
    }
}

fn is_attack_of_two(value: &[u8], first: &Token, second: &Token, read: usize) -> bool {
    match (first.kind, second.kind) {
        // "1 union" alone is prose, "1+1 union" is not.
        (_, Kind::Union) => read > 2,
        _ if second.first == b'#' => false,
        // "word -- more words" is prose; nobody writes "word /*".
        (Kind::Name, Kind::Comment) => second.first == b'/',
        (Kind::Number, Kind::Comment) if second.first == b'/' || read > 2 => true,
        (Kind::Number, Kind::Comment) => {
            let rest = value.get(usize::from(first.len)..).unwrap_or_default();
            // High bytes count: Latin-1 has a space among them.
            rest.first().is_some_and(|&byte| byte <= b' ' || byte >= 0x80)
                || rest.starts_with(b"/*")
                || rest.starts_with(b"--")
        }
        _ => !(second.first == b'-' && second.len > 2),
    }
}

fn is_attack_of_three(first: &Token, second: &Token, third: &Token, read: usize) -> bool {
    match (first.kind, second.kind, third.kind) {
        // `a' + 'b` continues the string it stands in; `'a' and 'b'` is prose.
        (Kind::String, Kind::Operator | Kind::Logic, Kind::String) => {
            first.open.is_none() && third.close.is_none() && first.close == third.open
        }
        // "sexy and 17" is prose, "sexy and 17<18" is not.
        (Kind::String, Kind::Logic, Kind::Name)
        | (Kind::Name, Kind::Logic, Kind::Number)
        | (Kind::Number, Kind::Logic, Kind::Number | Kind::Variable | Kind::String) => read != 3,
        (_, Kind::Keyword, _) => second.len > 4 && second.word().starts_with(b"INTO"),
        _ => true,
    }
}

fn has_sp_password(value: &[u8]) -> bool {
    const WORD: &[u8] = b"sp_password";
    value.windows(WORD.len()).any(|window| window.eq_ignore_ascii_case(WORD))
}

#[cfg(test)]
mod tests;
