//! Takes the values of a vocabulary in every spelling, and gives the service one.
//!
//! 1. It judges the requests that fall under one of its `fields`, in the query or in a body of
//!    JSON, of a form or of parts; a field that is not there is no fault.
//! 2. An input that means no value is denied, with what may have been meant. Nothing is dropped,
//!    and nothing is given a default.
//! 3. Where a field says so, the service gets the canonical values, once everything in the body
//!    and in the query means something. All other bytes stay.
//! 4. A body of another type than JSON is judged if it is JSON all the same: a service may read it
//!    as such.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::content::{Body, Content, ContentFault, Media};
use crate::mode::ModeSetting;
use crate::problem::{Code, Denial, FieldError};
use crate::protection::{Effects, Outcome, Protection, Request, Rewrite};
use crate::registry::{BuildErrors, Entry, SettingFault, settings_of};
use crate::vocabulary::{ConfigFault, FieldSet, Fields, Invalid, Reason, Refusal};

pub use crate::vocabulary::Config;

pub const ENTRY: Entry = Entry {
    name: "vocabulary",
    summary: "Takes the values of a vocabulary in every spelling, and gives the service one.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a real client may write a value in a way that nobody listed",
    codes: &[Code::VocabularyMismatch],
    mode: |protect| protect.vocabulary.mode,
    settings: |protect| settings_of(&protect.vocabulary),
    build: |protect, _| {
        let fields = Fields::compile(&protect.vocabulary).map_err(|faults| {
            let fault = |ConfigFault { below, error }: ConfigFault| SettingFault {
                key: error.key(),
                below,
                message: error.to_string(),
            };
            BuildErrors(faults.into_iter().map(fault).collect())
        })?;
        Ok(Arc::new(VocabularyRule { fields }))
    },
    ..Entry::PLAIN
};

/// Faults of a request that are told of.
const ERRORS_MAX: usize = 20;

struct VocabularyRule {
    fields: Fields,
}

impl VocabularyRule {
    fn fields(&self, request: &Request<'_>) -> Option<&FieldSet> {
        self.fields.find(request.method, request.target.path())
    }
}

impl Protection for VocabularyRule {
    fn is_inert(&self) -> bool {
        self.fields.is_empty()
    }

    fn reads_body(&self, request: &Request<'_>) -> bool {
        self.fields(request).is_some_and(FieldSet::reads_body)
    }

    fn check(&self, request: &Request<'_>, effects: &mut Effects) -> Outcome {
        let Some(fields) = self.fields(request) else { return Outcome::NotApplicable };
        let mut rewrite = Rewrite { content: None, target: None };
        let mut judged = false;
        if let Some(query) = request.target.query().filter(|_| fields.reads_query()) {
            judged = true;
            match fields.rewrite_query(query) {
                Ok(query) => {
                    rewrite.target = query.and_then(|query| request.target.with_query(&query));
                }
                Err(refusal) => return Outcome::Deny(denial(&refusal)),
            }
        }
        if fields.reads_body() {
            let body = match request.content.body() {
                Ok(body) => body.filter(|body| !body.plain().is_empty()),
                Err(denial) => return Outcome::Deny(denial),
            };
            if let Some(body) = body {
                match rewrite_body(fields, body) {
                    Ok(None) => {}
                    Ok(Some(content)) => {
                        judged = true;
                        rewrite.content = content;
                    }
                    Err(denial) => return Outcome::Deny(denial),
                }
            }
        }
        if rewrite.content.is_some() || rewrite.target.is_some() {
            effects.rewrite = Some(Box::new(rewrite));
        }
        if judged { Outcome::Allow } else { Outcome::NotApplicable }
    }
}

/// The body in canonical values, where that is another one; `None` where it is nothing that can
/// carry a field, and does not say that it is.
fn rewrite_body(fields: &FieldSet, body: &Body) -> Result<Option<Option<Content>>, Denial> {
    if *body.media() == Media::Json && body.json().is_ok_and(|json| fields.is_settled(json)) {
        return Ok(Some(None));
    }
    match (fields.rewrite_body(body.plain()), body.media()) {
        (Err(refusal @ Refusal::Invalid(_)), _) => Err(denial(&refusal)),
        (Err(_), Media::Json) | (Ok(_), Media::Json | Media::Conflicting)
            if body.fault().is_some() =>
        {
            Err(body.fault().expect("it was just there").denial())
        }
        (Err(refusal), Media::Json) => Err(denial(&refusal)),
        (Err(_), Media::Form) => {
            body.form().map_err(ContentFault::denial)?;
            rewritten_as(body, fields.rewrite_form(body.plain()))
        }
        (Err(_), Media::Multipart { .. }) => {
            let parts = body.parts().map_err(ContentFault::denial)?;
            rewritten_as(body, fields.rewrite_parts(body.plain(), parts))
        }
        (Err(_), _) => Ok(None),
        (Ok(rewritten), _) => {
            // What two parsers could read in two ways was not judged as the service reads it.
            body.json().map_err(|fault| fault.denial())?;
            if *body.media() == Media::Form {
                as_form_too(fields, body)?;
            }
            rewritten_as(body, Ok(rewritten))
        }
    }
}

/// A body that says that it is a form, and is JSON as well: what the service may read of the form
/// has to be right as it stands, since only one of the two can be rewritten.
fn as_form_too(fields: &FieldSet, body: &Body) -> Result<(), Denial> {
    match fields.rewrite_form(body.plain()) {
        Err(refusal) => Err(denial(&refusal)),
        Ok(Some(_)) => {
            let detail = "it says that it is a form, and is JSON as well";
            Err(Denial::new(Code::AmbiguousBody, detail))
        }
        Ok(None) => Ok(()),
    }
}

fn rewritten_as(
    body: &Body,
    rewritten: Result<Option<Vec<u8>>, Refusal>,
) -> Result<Option<Option<Content>>, Denial> {
    let rewritten = rewritten.map_err(|refusal| denial(&refusal))?;
    Ok(Some(rewritten.map(|plain| Content::Read(body.rewritten(Bytes::from(plain))))))
}

fn denial(refusal: &Refusal) -> Denial {
    match refusal {
        Refusal::NotUtf8 | Refusal::NotJson { .. } => {
            Denial::new(Code::UnreadableBody, refusal.to_string())
        }
        Refusal::Invalid(invalid) => mismatch(invalid),
    }
}

fn mismatch(invalid: &Invalid) -> Denial {
    let count = invalid.inputs.len() + invalid.omitted;
    let are_words = invalid.inputs.iter().all(|fault| fault.reason == Reason::UnknownValue);
    let detail = match (count, are_words) {
        (1, true) => "one value is none that this service knows".to_owned(),
        (count, true) => format!("{count} values are none that this service knows"),
        (1, false) => "one part of the request is not as this service takes it".to_owned(),
        (count, false) => {
            format!("{count} parts of the request are not as this service takes them")
        }
    };
    let mut denial = Denial::new(Code::VocabularyMismatch, detail);
    for fault in invalid.inputs.iter().take(ERRORS_MAX) {
        let mut detail = fault.to_string();
        for (index, value) in invalid.suggestions.of(&fault.input).iter().enumerate() {
            let before = if index == 0 { "; did you mean " } else { " or " };
            write!(detail, "{before}{value:?}").expect("a String takes every write");
        }
        if detail.contains("did you mean") {
            detail.push('?');
        }
        let mut error = FieldError::new(fault.at.clone(), detail);
        error.keyword = fault.reason.name().into();
        denial.errors.push(error);
    }
    denial
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Sample, build, fault};

    const FIELDS: &str = r#"
        fields = [
            { route = "POST /companies", at = "/focus", vocabulary = "stages", shape = "weights" },
            { route = "POST /companies", at = "/stage", vocabulary = "stages", shape = "scalar", on_alias = "pass" },
            { route = "POST /companies", at = "/round", vocabulary = "stages", shape = "scalar" },
            { route = "GET /companies", at = "query:stage", vocabulary = "stages", shape = "list" },
        ]
    "#;

    const JSON: (&str, &str) = ("content-type", "application/json");

    /// What is said, and what the service gets where it is something else.
    fn judge(sample: &Sample) -> (String, Option<String>, Option<String>) {
        let (said, effects) = sample.check(&*build(&ENTRY, FIELDS));
        let Some(Rewrite { content, target }) = effects.rewrite.map(|boxed| *boxed) else {
            return (said, None, None);
        };
        let body = content.map(|content| match content {
            Content::Read(body) => String::from_utf8(body.raw().to_vec()).unwrap(),
            other => panic!("{other:?}"),
        });
        (said, body, target.map(|target| target.as_str().to_owned()))
    }

    #[test]
    fn bodies_are_judged_and_rewritten() {
        let spelled = r#"{ "focus": {"Series A": 0.60, "Seed": 0.4}, "x": [1.0] }"#;
        let written = r#"{ "focus": {"series-a": 0.60, "seed": 0.4}, "x": [1.0] }"#;
        let nan = r#"{"focus": {"seed": NaN}}"#;
        let twice = r#"{"focus": {"Seed": 1}, "x": {"a": 1, "a": 2}}"#;
        let form = ("content-type", "application/x-www-form-urlencoded");
        let parts = ("content-type", "multipart/form-data; boundary=B");
        let head = "--B\r\nContent-Disposition: form-data; name=round\r\n\r\n";
        let part = &format!("{head}Seed\r\n--B--");
        let part_written = &format!("{head}seed\r\n--B--");
        for (name, kind, body, want, sent) in [
            ("aliases", JSON, spelled, "allow", Some(written)),
            ("canonical", JSON, written, "allow", None),
            ("passed on", JSON, r#"{"stage": "Series A"}"#, "allow", None),
            ("absent", JSON, "{}", "allow", None),
            ("unknown", JSON, r#"{"stage": "sead"}"#, "vocabulary-mismatch", None),
            ("NaN", JSON, nan, "vocabulary-mismatch", None),
            ("not JSON", JSON, "{stage: seed}", "unreadable-body", None),
            ("two readings elsewhere", JSON, twice, "ambiguous-body", None),
            ("JSON as text", ("content-type", "text/plain"), spelled, "allow", Some(written)),
            ("a form", form, "x=1&y=%41", "allow", None),
            ("a word in a form", form, "stage=sead", "vocabulary-mismatch", None),
            ("a torn form", form, "stage=%", "ambiguous-body", None),
            ("weights in a form", form, "focus[seed]=1", "vocabulary-mismatch", None),
            ("an alias in a form", form, "x=%41&stage=Series+A", "allow", None),
            (
                "an alias in a form, rewritten",
                form,
                "x=%41&round=Series+A",
                "allow",
                Some("x=%41&round=series-a"),
            ),
            ("JSON as a form", form, spelled, "allow", Some(written)),
            ("a form as JSON", form, r#""&stage=sead&""#, "vocabulary-mismatch", None),
            ("an alias there", form, r#"{"a": "&round=Series+A&"}"#, "ambiguous-body", None),
            ("a part", parts, part, "allow", Some(part_written)),
            ("a word in a part", parts, &part.replace("Seed", "sead"), "vocabulary-mismatch", None),
            ("torn parts", parts, "--B", "unreadable-body", None),
            ("text", ("content-type", "text/plain"), "sead", "n/a", None),
        ] {
            let sample = Sample::new("POST", "/companies", &[kind]).with_body(body.as_bytes());
            let (said, body, _) = judge(&sample);
            assert_eq!((said.as_str(), body.as_deref()), (want, sent), "{name}");
        }
    }

    #[test]
    fn queries_are_judged_and_rewritten() {
        for (target, want, sent) in [
            ("/companies", "n/a", None),
            ("/companies?limit=3", "allow", None),
            (
                "/companies?x=%41&stage=Series+A,Seed",
                "allow",
                Some("/companies?x=%41&stage=series-a,seed"),
            ),
            ("/companies?stage=sead", "vocabulary-mismatch", None),
            ("/others?stage=sead", "n/a", None),
        ] {
            let (said, _, target_sent) = judge(&Sample::new("GET", target, &[]));
            assert_eq!((said.as_str(), target_sent.as_deref()), (want, sent), "{target}");
        }
    }

    #[test]
    fn the_client_is_told_where_why_and_what_instead() {
        let body = br#"{"focus": {"Series A": 0.6, "sead": 0.4}, "stage": 7}"#;
        let sample = Sample::new("POST", "/companies", &[JSON]).with_body(body);
        let denial = sample.denial(&*build(&ENTRY, FIELDS));
        assert_eq!(denial.detail, "2 parts of the request are not as this service takes them");
        let told: Vec<_> = denial
            .errors
            .iter()
            .map(|error| format!("{} {}: {}", error.at, error.keyword, error.detail))
            .collect();
        assert_eq!(
            told,
            [
                "/focus/sead unknown-value: \"sead\": is none of the values; did you mean \"seed\"?",
                "/stage wrong-type: 7: expected a string, not a number",
            ]
        );
    }

    #[test]
    fn a_body_is_read_where_a_field_is_in_it() {
        let rule = build(&ENTRY, FIELDS);
        for (method, path, want) in
            [("POST", "/companies", true), ("GET", "/companies", false), ("POST", "/x", false)]
        {
            let sample = Sample::new(method, path, &[]);
            assert_eq!(rule.reads_body(&sample.request()), want, "{method} {path}");
        }
    }

    #[test]
    fn fields_of_unknown_vocabularies_are_refused() {
        let field =
            "fields = [{ route = \"/\", at = \"/a\", vocabulary = \"stage\", shape = \"scalar\" }]";
        let said = fault(&ENTRY, field);
        assert!(said.starts_with("fields[0].vocabulary: "), "{said}");
    }
}
