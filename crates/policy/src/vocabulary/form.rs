//! Fields in a form, and in the parts of a multipart body.
//!
//! 1. A field of one name (`/stage`) that is a scalar or a list is read of a form as of a query. So
//!    it is of a part that is text, which is one word as a whole. `stage[]` is the name of a list,
//!    too.
//! 2. A part that says that it is JSON is read like a body, for fields of every shape.
//! 3. A field that a form cannot carry is a fault where the form has its name: it would reach the
//!    service unread.
//! 4. Parts of a list that mean one value do not merge.

use std::ops::Range;

use serde_json::value::RawValue;

use super::invalid::{InvalidInput, Reason, push_index, push_member};
use super::json;
use super::parse::{ITEMS_MAX, Reading, Shape};
use super::place::Edit;
use super::query::{self, decode};
use super::rewrite::{Field, FieldSet, OnAlias, Refusal, Review, push_edits};
use super::{INPUT_BYTES_MAX, Pointer};
use crate::content::{Media, Part};

/// A change to bytes.
type Change = (Range<usize>, String);

impl FieldSet {
    /// The text of a form in canonical values. `None` where it is to stay as it is.
    pub fn rewrite_form(&self, form: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        let form = std::str::from_utf8(form).map_err(|_| Refusal::NotUtf8)?;
        let (mut review, mut edits) = (Review::new(), Vec::new());
        for (pointer, field) in self.body() {
            let Some((name, rest)) = pointer.named() else { continue };
            let place = place_of(name);
            if rest.is_whole() && is_plain(&field.shape) {
                let is_it = |own: &str| {
                    is_called(own, name, &field.shape) && !self.is_of_another(own, name)
                };
                query::review(form, &is_it, &place, field, &mut review, &mut edits);
            }
            for pair in form.split('&') {
                let own = decode(pair.split_once('=').map_or(pair, |(own, _)| own));
                if own.is_some_and(|own| {
                    is_unread(&own, name, &rest, &field.shape) && !self.is_of_another(&own, name)
                }) {
                    review.push(unread(place.clone(), name, field, "a field of a form"));
                    break;
                }
            }
        }
        review.finish()?;
        let changed = (!edits.is_empty()).then(|| super::place::edited(form, edits));
        Ok(changed.map(String::into_bytes))
    }

    /// A multipart body, of which these are the parts, in canonical values. `None` where it is to
    /// stay as it is.
    pub fn rewrite_parts(&self, body: &[u8], parts: &[Part]) -> Result<Option<Vec<u8>>, Refusal> {
        let (mut review, mut changes) = (Review::new(), Vec::new());
        for (pointer, field) in self.body() {
            let Some((name, rest)) = pointer.named() else { continue };
            let mut count = 0;
            for part in parts.iter().filter(|part| !self.is_of_another(&part.name, name)) {
                let is_json = part.media == Media::Json && part.filename.is_none();
                if is_json && part.name == name && count > 0 && field.shape != Shape::List {
                    let reason = Reason::DuplicateKey;
                    review.push(InvalidInput::new(place_of(name), name, reason));
                } else if is_json && part.name == name {
                    count += 1;
                    read_json(body, part, name, &rest, field, &mut review, &mut changes);
                } else if is_unread(&part.name, name, &rest, &field.shape) {
                    review.push(unread(place_of(name), name, field, "a part that is text"));
                } else if is_called(&part.name, name, &field.shape) {
                    read_text(body, part, name, count, field, &mut review, &mut changes);
                    count += 1;
                }
            }
        }
        review.finish()?;
        Ok((!changes.is_empty()).then(|| changed(body, changes)))
    }

    /// Whether what a form calls `own` is the field of exactly that name, and not `name`, though
    /// that could be called so: `/s[]` beside the list `/s`.
    fn is_of_another(&self, own: &str, name: &str) -> bool {
        let is_it = |at: &Pointer| at.named().is_some_and(|(known, _)| known == own);
        own != name && self.body().iter().any(|(at, _)| is_it(at))
    }
}

fn place_of(name: &str) -> String {
    let mut place = String::new();
    push_member(&mut place, name);
    place
}

/// Whether a form can carry it.
const fn is_plain(shape: &Shape) -> bool {
    matches!(shape, Shape::Scalar | Shape::List)
}

/// Whether what a form calls `own` carries the field `name`.
fn is_called(own: &str, name: &str, shape: &Shape) -> bool {
    own == name || (*shape == Shape::List && own.strip_suffix("[]") == Some(name))
}

/// Whether what a form calls `own` is, for some services, the field `name` or a part of it, and is
/// not read here.
fn is_unread(own: &str, name: &str, rest: &Pointer, shape: &Shape) -> bool {
    let Some(more) = own.strip_prefix(name) else { return false };
    let is_read = rest.is_whole() && is_plain(shape) && is_called(own, name, shape);
    (more.is_empty() || more.starts_with('[')) && !is_read
}

fn unread(at: String, name: &str, field: &Field, found: &'static str) -> InvalidInput {
    let expected = match field.shape {
        Shape::Scalar => "one field of that name",
        Shape::List => "fields of that name",
        Shape::Weights | Shape::Entries(_) => "JSON",
    };
    InvalidInput::new(at, name, Reason::WrongType { expected, found })
}

/// Reads a part that is text; `count` parts before it carry the same field.
fn read_text(
    body: &[u8],
    part: &Part,
    name: &str,
    count: usize,
    field: &Field,
    review: &mut Review,
    changes: &mut Vec<Change>,
) {
    let is_list = field.shape == Shape::List;
    let mut at = place_of(name);
    if is_list {
        push_index(&mut at, count);
    }
    let text = match std::str::from_utf8(&part.content) {
        _ if part.filename.is_some() => {
            let reason = Reason::WrongType { expected: "a string", found: "a file" };
            return review.push(InvalidInput::new(at, name, reason));
        }
        Ok(text) => text,
        Err(_) => return review.push(InvalidInput::new(at, name, Reason::NotText)),
    };
    let reason = match text {
        _ if !is_list && count > 0 => Reason::DuplicateKey,
        _ if count == ITEMS_MAX => {
            return review.push(InvalidInput::new(at, text, Reason::TooMany));
        }
        _ if count > ITEMS_MAX => return,
        "" => Reason::Empty,
        _ if text.len() > INPUT_BYTES_MAX => Reason::TooLong,
        _ => match field.vocabulary.find(text) {
            Some(value) if value != text && field.on_alias == OnAlias::Rewrite => {
                return changes.push((span(body, text.as_bytes()), value.to_owned()));
            }
            Some(_) => return,
            None => {
                review.suggest(text, &field.vocabulary);
                Reason::UnknownValue
            }
        },
    };
    review.push(InvalidInput::new(at, text, reason));
}

/// Reads a part that is JSON; the field is at `rest` in it.
fn read_json(
    body: &[u8],
    part: &Part,
    name: &str,
    rest: &Pointer,
    field: &Field,
    review: &mut Review,
    changes: &mut Vec<Change>,
) {
    let root = std::str::from_utf8(&part.content).ok();
    let root = root.and_then(|text| Some((text, json::read(text).ok()?)));
    let Some((text, root)) = root else {
        let reason = Reason::WrongType { expected: "JSON", found: "what its type does not say" };
        return review.push(InvalidInput::new(place_of(name), name, reason));
    };
    let (mut edits, mut faults): (Vec<Edit>, _) = Default::default();
    let mut found = |at: &str, value: &RawValue| {
        let mut reading = Reading::new(&field.vocabulary, review.budget());
        reading.field(value, &field.shape);
        if reading.invalid.is_empty() && field.on_alias == OnAlias::Rewrite {
            push_edits(&reading, text, value, &mut edits);
        }
        let Reading { invalid, suggestions, .. } = reading;
        review.take(&format!("{}{at}", place_of(name)), invalid, suggestions);
    };
    rest.walk(root, &mut found, &mut faults);
    for mut fault in faults {
        fault.at.insert_str(0, &place_of(name));
        review.push(fault);
    }
    let start = span(body, &part.content).start;
    let moved = |edit: Edit| (edit.span.start + start..edit.span.end + start, edit.text);
    changes.extend(edits.into_iter().map(moved));
}

/// Where `part`, which is a slice of `whole`, is in it.
fn span(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize)
        .checked_sub(whole.as_ptr() as usize)
        .expect("a part is a slice of its body");
    let span = start..start + part.len();
    assert!(span.end <= whole.len(), "a part is a slice of its body");
    span
}

/// `body` with all `changes` made. They do not overlap.
fn changed(body: &[u8], mut changes: Vec<Change>) -> Vec<u8> {
    changes.sort_unstable_by_key(|(span, _)| span.start);
    let longer: usize = changes.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + longer);
    let mut copied = 0;
    for (span, text) in &changes {
        assert!(copied <= span.start, "two changes overlap");
        out.extend_from_slice(&body[copied..span.start]);
        out.extend_from_slice(text.as_bytes());
        copied = span.end;
    }
    out.extend_from_slice(&body[copied..]);
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::HeaderMap;
    use http::header::CONTENT_TYPE;

    use super::super::Members;
    use super::super::tests::stages;
    use super::*;
    use crate::content::Body;

    fn set(fields: &[(&str, Shape)]) -> FieldSet {
        let vocabulary = Arc::new(stages());
        let field = |(at, shape): &(&str, Shape)| Field {
            at: at.parse().unwrap(),
            vocabulary: Arc::clone(&vocabulary),
            shape: shape.clone(),
            on_alias: OnAlias::Rewrite,
        };
        FieldSet::new(fields.iter().map(field)).unwrap()
    }

    /// The body after rewriting, `same`, or the faults.
    fn said(rewritten: Result<Option<Vec<u8>>, Refusal>) -> String {
        match rewritten {
            Ok(None) => "same".to_owned(),
            Ok(Some(body)) => String::from_utf8(body).unwrap(),
            Err(Refusal::Invalid(invalid)) => {
                let fault = |input: &InvalidInput| format!("{} {}", input.at, input.reason.name());
                invalid.inputs.iter().map(fault).collect::<Vec<_>>().join("; ")
            }
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn a_form_is_read_as_a_query_is() {
        use Shape::{List, Scalar, Weights};
        for (at, shape, form, want) in [
            ("/s", Scalar, "x=%41&s=Series+A", "x=%41&s=series-a"),
            ("/s", Scalar, "s=series-a&t=sead", "same"),
            ("/s", Scalar, "t=1", "same"),
            ("/s", Scalar, "s=sead", "/s unknown-value"),
            ("/s", Scalar, "s", "/s empty"),
            ("/s", Scalar, "s=A&s=A", "/s duplicate-key"),
            ("/s", Scalar, "s[]=A", "/s wrong-type"),
            ("/s", Scalar, "s%5B0%5D=A", "/s wrong-type"),
            ("/s", Scalar, "s2[]=sead", "same"),
            ("/a~1b", Scalar, "a%2Fb=Seed", "a%2Fb=seed"),
            ("/s", List, "s=A&s=Seed,a", "s=series-a&s=seed"),
            ("/s", List, "s[]=A&s%5B%5D=x", "/s/1 unknown-value"),
            ("/s", List, "s[0]=A", "/s wrong-type"),
            ("/s", Weights, "s=%7B%7D", "/s wrong-type"),
            ("/s", Weights, "s[seed]=1", "/s wrong-type"),
            ("/s", Weights, "t=1", "same"),
            ("/s/t", Scalar, "s[t]=A", "/s wrong-type"),
            ("/s/*", Scalar, "s=A", "/s wrong-type"),
            ("/*/s", Scalar, "s=sead", "same"),
            ("", Scalar, "s=sead", "same"),
        ] {
            let rewritten = set(&[(at, shape)]).rewrite_form(form.as_bytes());
            assert_eq!(said(rewritten), want, "{at} {form}");
        }
    }

    /// Parts as `name|more fields|content`, and what becomes of them.
    fn parts(set: &FieldSet, list: &[(&str, &str, &str)]) -> String {
        let part = |(name, more, content): &(&str, &str, &str)| {
            let head = format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"{more}");
            format!("{head}\r\n\r\n{content}\r\n")
        };
        let body: String = list.iter().map(part).collect::<String>() + "--B--\r\n";
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "multipart/form-data; boundary=B".parse().unwrap());
        let body = Body::read(Bytes::from(body), &headers, 1 << 20).unwrap();
        let rewritten = set.rewrite_parts(body.plain(), body.parts().unwrap());
        if let Ok(Some(bytes)) = &rewritten {
            // What is behind the other bytes is still where it was.
            let body = Body::read(Bytes::from(bytes.clone()), &headers, 1 << 20).unwrap();
            let parts = body.parts().unwrap().iter();
            let text = |part: &Part| String::from_utf8(part.content.to_vec()).unwrap();
            return parts.map(text).collect::<Vec<_>>().join("|");
        }
        said(rewritten)
    }

    #[test]
    fn the_parts_of_a_multipart_body_are_read() {
        use Shape::{List, Scalar, Weights};
        const JSON: &str = "\r\nContent-Type: application/json";
        const FILE: &str = "; filename=\"a.txt\"";
        for (at, shape, list, want) in [
            ("/s", Scalar, &[("x", "", "A"), ("s", "", "Series A")][..], "A|series-a"),
            ("/s", Scalar, &[("s", "", "series-a")], "same"),
            ("/s", Scalar, &[("s", "", "sead")], "/s unknown-value"),
            ("/s", Scalar, &[("s", "", "")], "/s empty"),
            ("/s", Scalar, &[("s", FILE, "Seed")], "/s wrong-type"),
            ("/s", Scalar, &[("s", "", "A"), ("s", "", "A")], "/s duplicate-key"),
            ("/s", Scalar, &[("s", JSON, "\"Seed\"")], "\"seed\""),
            ("/s", Scalar, &[("s", JSON, "Seed")], "/s wrong-type"),
            ("/s", Scalar, &[("s", JSON, "\"A\""), ("s", "", "A")], "/s duplicate-key"),
            ("/s", Scalar, &[("s", "", "A"), ("s", JSON, "\"A\"")], "/s duplicate-key"),
            ("/s", List, &[("s", "", "A"), ("s[]", "", "a")], "series-a|series-a"),
            ("/s", List, &[("s", "", "A"), ("s", "", "x")], "/s/1 unknown-value"),
            ("/s", Weights, &[("s", "", "{}")], "/s wrong-type"),
            ("/s", Weights, &[("s", JSON, "{\"Seed\":1}")], "{\"seed\":1}"),
            ("/s", Weights, &[("s", JSON, "{\"sead\":1}")], "/s/sead unknown-value"),
            ("/s/t", Scalar, &[("s", JSON, "{\"t\":\"Seed\"}")], "{\"t\":\"seed\"}"),
            ("/s/t", Scalar, &[("s[t]", "", "Seed")], "/s wrong-type"),
        ] {
            assert_eq!(parts(&set(&[(at, shape)]), list), want, "{at} {list:?}");
        }
        let both = set(&[("/s", List), ("/s[]", List)]);
        assert_eq!(parts(&both, &[("s", "", "A"), ("s[]", "", "a")]), "series-a|series-a");
        let form = both.rewrite_form(b"s=A&s[]=a");
        assert_eq!(said(form), "s=series-a&s[]=series-a");
        let two = set(&[("/b", Scalar), ("/a", Shape::Entries(Members::default()))]);
        let list = [("b", "", "A"), ("a", JSON, "[{\"key\":\"Seed\",\"weight\":1}]")];
        assert_eq!(parts(&two, &list), "series-a|[{\"key\":\"seed\",\"weight\":1}]");
    }
}
