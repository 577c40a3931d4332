//! Fields in a query: `stage=Series+A`, a list as `stage=a&stage=b` or `stage=a,b`.
//!
//! A comma that is percent-encoded is part of a word, and one that is not parts two words of a
//! list. Names and values are decoded as forms are: `+` is a space.

use std::borrow::Cow;
use std::ops::Range;

use super::invalid::{InvalidInput, Reason, push_index};
use super::parse::{ITEMS_MAX, Shape};
use super::place::Edit;
use super::rewrite::{Field, OnAlias, Review};
use super::{INPUT_BYTES_MAX, ValueId, Vocabulary};

/// Judges the parameters that carry `field` in `query`, by their names, and adds what is to be
/// changed to `edits`. Faults are told of `place`.
pub(super) fn review(
    query: &str,
    is_it: &dyn Fn(&str) -> bool,
    place: &str,
    field: &Field,
    review: &mut Review,
    edits: &mut Vec<Edit>,
) {
    let is_list = field.shape == Shape::List;
    let place = place.to_owned();
    let mut seen: Vec<ValueId> = Vec::new();
    let mut count = 0;
    for (start, span) in parameters(query, is_it) {
        let raw = query.get(span.clone()).expect("a value is a part of the query");
        if !is_list && count > 0 {
            return review.push(InvalidInput::new(place, raw, Reason::DuplicateKey));
        }
        let (mut kept, mut removed) = (Vec::new(), false);
        let mut from = span.start;
        for word in raw.split(|c| is_list && c == ',') {
            if count == ITEMS_MAX {
                return review.push(InvalidInput::new(place, raw, Reason::TooMany));
            }
            let mut at = place.clone();
            if is_list {
                push_index(&mut at, count);
            }
            count += 1;
            let span = from..from + word.len();
            from = span.end + 1;
            let Some((id, new)) = judge(word, at, &field.vocabulary, review) else { continue };
            if seen.contains(&id) {
                removed = true;
            } else {
                seen.push(id);
                kept.push((span, new));
            }
        }
        if field.on_alias == OnAlias::Pass {
            continue;
        }
        if kept.is_empty() {
            // Not the first parameter, whose first word is kept: there is an `&` before it. Where
            // a word was invalid nothing is rewritten at all.
            edits.push(Edit { span: start.saturating_sub(1)..span.end, text: String::new() });
        } else if removed {
            let word = |(span, new): (Range<usize>, Option<&str>)| {
                new.or(query.get(span)).unwrap_or_default().to_owned()
            };
            let words: Vec<String> = kept.into_iter().map(word).collect();
            edits.push(Edit { span, text: words.join(",") });
        } else {
            let aliases = kept.into_iter().filter_map(|(span, new)| Some((span, new?)));
            edits.extend(aliases.map(|(span, new)| Edit { span, text: new.to_owned() }));
        }
    }
}

/// The value that `word` means, and what is to be written in its place if it is an alias.
fn judge<'v>(
    word: &str,
    at: String,
    vocabulary: &'v Vocabulary,
    review: &mut Review,
) -> Option<(ValueId, Option<&'v str>)> {
    let text = match decode(word) {
        Some(text) if text.is_empty() => Err(Reason::Empty),
        Some(text) if text.len() > INPUT_BYTES_MAX => Err(Reason::TooLong),
        Some(text) => Ok(text),
        None => Err(Reason::NotText),
    };
    let found = text.map(|text| (vocabulary.lookup(&text), text));
    match found {
        Ok((Some(id), text)) => {
            let value = vocabulary.value(id);
            Some((id, (text != *value.text).then_some(&*value.query)))
        }
        Ok((None, text)) => {
            review.suggest(&text, vocabulary);
            review.push(InvalidInput::new(at, &text, Reason::UnknownValue));
            None
        }
        Err(reason) => {
            review.push(InvalidInput::new(at, word, reason));
            None
        }
    }
}

/// The start of each parameter whose name `is_it`, and the span of its value.
fn parameters(
    query: &str,
    is_it: &dyn Fn(&str) -> bool,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut start = 0;
    query.split('&').filter_map(move |parameter| {
        let at = start;
        let end = at + parameter.len();
        start = end + 1;
        let (own, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let is_one = decode(own).is_some_and(|own| is_it(&own));
        is_one.then_some((at, end - value.len()..end))
    })
}

/// `text` decoded as a form's. `None` where it is not UTF-8 or an escape is none.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// `text` as a value of a query: all but unreserved characters as escapes.
pub(super) fn encode(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}
