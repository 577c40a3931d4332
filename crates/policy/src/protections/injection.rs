//! Finds SQL injection and cross-site scripting in what a request carries.
//!
//! 1. Looked at are the path, the query, cookies, the header fields that the config names, and the
//!    body: fields of forms, strings and names of JSON, parts of multipart bodies, and text.
//! 2. A body that is text is looked at as whatever it can be read as: a service may do so, too. So
//!    is one that does not say its type, where `untyped_bodies` says so.
//! 3. Each value is read as it is and after the decodings that a service might apply; see
//!    `detect.rs` for how an attack is told from prose.
//! 4. Fields on the allow list may carry code. A finding names the field and a fingerprint, and
//!    never shows what was sent.
//! 5. A body that cannot be checked is denied as one that cannot; so a rule is not passed by with
//!    a body that only the service can read.

use std::sync::Arc;

use http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::content::{Body, Media, has_syntax, media_of};
use crate::detect::fields::{Allow, AllowList, FieldFinding, Fields, Of};
use crate::detect::{Kind, Kinds};
use crate::mode::ModeSetting;
use crate::problem::{Code, Denial, FieldError};
use crate::protection::{Effects, Outcome, Protection, Request};
use crate::registry::{BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "injection",
    summary: "Finds SQL injection and cross-site scripting in what a request carries.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a field may rightly carry code, or prose that reads like an attack",
    codes: &[Code::SqlInjection, Code::CrossSiteScripting],
    mode: |protect| protect.injection.mode,
    settings: |protect| settings_of(&protect.injection),
    build: |protect, _| Ok(Arc::new(Injection::build(&protect.injection)?)),
    ..Entry::PLAIN
};

/// `[protect.injection]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    pub look_for: LookFor,
    pub untyped_bodies: UntypedBodies,
    /// Header fields that are looked at. None by default: few services read any into a query or
    /// a page, and the operator knows which.
    pub headers: Vec<String>,
    /// Fields that may carry anything.
    pub allow: Vec<String>,
    /// Fields that may carry SQL.
    pub allow_sql: Vec<String>,
    /// Fields that may carry HTML and scripts.
    pub allow_xss: Vec<String>,
}

/// What becomes of a body without a Content-Type. Passed by default: it may come piece by piece, as
/// an answer to what its client is sent, and most services read no such body. Those that read JSON
/// whatever its type need the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UntypedBodies {
    #[default]
    Pass,
    Read,
}

/// What is looked for; both by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LookFor {
    #[default]
    Both,
    Sql,
    Xss,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: ENTRY.default_mode,
            look_for: LookFor::Both,
            untyped_bodies: UntypedBodies::Pass,
            headers: Vec::new(),
            allow: Vec::new(),
            allow_sql: Vec::new(),
            allow_xss: Vec::new(),
        }
    }
}

/// Header fields that can be looked at.
const HEADERS_MAX: usize = 32;

struct Injection {
    kinds: Kinds,
    untyped_bodies: UntypedBodies,
    headers: Vec<HeaderName>,
    allow: AllowList,
}

impl Injection {
    fn build(config: &Config) -> Result<Self, BuildError> {
        let mut headers = Vec::with_capacity(config.headers.len());
        for name in &config.headers {
            let message = format!("expected the name of a header field, not {name:?}");
            let name = name.parse().map_err(|_| BuildError { key: "headers", message })?;
            headers.push(name);
        }
        if headers.len() > HEADERS_MAX {
            let message = format!("expected at most {HEADERS_MAX} fields, not {}", headers.len());
            return Err(BuildError { key: "headers", message });
        }
        let mut entries = Vec::new();
        for (key, fields, kinds) in [
            ("allow", &config.allow, Kinds::Both),
            ("allow_sql", &config.allow_sql, Kinds::Sql),
            ("allow_xss", &config.allow_xss, Kinds::Xss),
        ] {
            for field in fields {
                let entry = Allow::new(field, kinds)
                    .map_err(|error| BuildError { key, message: error.to_string() })?;
                entries.push(entry);
            }
        }
        let allow = AllowList::new(entries)
            .map_err(|error| BuildError { key: "allow", message: error.to_string() })?;
        let kinds = match config.look_for {
            LookFor::Both => Kinds::Both,
            LookFor::Sql => Kinds::Sql,
            LookFor::Xss => Kinds::Xss,
        };
        Ok(Self { kinds, untyped_bodies: config.untyped_bodies, headers, allow })
    }
}

impl Protection for Injection {
    fn reads_body(&self, request: &Request<'_>) -> bool {
        has_syntax(request.headers)
            || match media_of(request.headers) {
                Media::Text => true,
                Media::Undeclared => self.untyped_bodies == UntypedBodies::Read,
                _ => false,
            }
    }

    fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
        let body = match request.content.readable() {
            Ok(body) => body,
            Err(denial) => return Outcome::Deny(denial),
        };
        let mut fields = Fields::new(&self.allow, self.kinds);
        fields.path(request.target.path());
        if let Some(query) = request.target.query() {
            fields.query(query);
        }
        fields.cookies(request.headers);
        fields.headers(request.headers, &self.headers);
        if let Some(body) = body {
            look_at_body(&mut fields, body);
        }
        match fields.findings() {
            [] => Outcome::Allow,
            [first, ..] => Outcome::Deny(denial(first, fields.findings())),
        }
    }
}

fn look_at_body(fields: &mut Fields<'_>, body: &Body) {
    let plain = body.plain();
    match body.media() {
        Media::Json => {
            if let Ok(json) = body.json() {
                fields.json(json);
            }
        }
        Media::Form => {
            // What is no text cannot be written into a query: `body_syntax` tells of it.
            fields.form(std::str::from_utf8(plain).unwrap_or_default());
        }
        Media::Multipart { .. } => {
            for part in body.parts().unwrap_or_default() {
                let text = part.filename.is_none().then_some(&part.content[..]);
                fields.part(&part.name, part.filename.as_deref(), text);
            }
        }
        Media::Text | Media::Undeclared if plain.is_empty() => {}
        Media::Text | Media::Undeclared => match (body.json(), std::str::from_utf8(plain)) {
            (Ok(json), _) => fields.json(json),
            (Err(_), Ok(text)) => {
                fields.text(plain);
                fields.form(text);
            }
            (Err(_), Err(_)) => fields.text(plain),
        },
        Media::Conflicting | Media::Other => {}
    }
}

fn denial(first: &FieldFinding, findings: &[FieldFinding]) -> Denial {
    let (code, detail) = match first.finding.kind {
        Kind::Sql => (Code::SqlInjection, "a value of the request reads like SQL injection"),
        Kind::Xss => (Code::CrossSiteScripting, "a value of the request reads like a script"),
    };
    let internal = format!("{} at {}", first.finding.fingerprint, first.at);
    let mut denial = Denial::new(code, detail).internal(internal);
    denial.errors = findings.iter().map(error).collect();
    denial
}

fn error(found: &FieldFinding) -> FieldError {
    let what = match found.finding.kind {
        Kind::Sql => "SQL",
        Kind::Xss => "a script",
    };
    let part = match found.of {
        Of::Value => "it",
        Of::Name => "a name in it",
        Of::FileName => "the name of its file",
    };
    let fingerprint = &found.finding.fingerprint;
    let mut error =
        FieldError::new(found.at.clone(), format!("{part} reads like {what} ({fingerprint})"));
    error.keyword = found.finding.kind.as_str().into();
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Fields, Sample, build, fault};

    const SQL: &str = "1' OR '1'='1' -- ";
    const XSS: &str = "<script>alert(1)</script>";

    #[test]
    fn every_part_of_a_request_is_looked_at() {
        let rule = build(&ENTRY, "headers = [\"referer\"]\nuntyped_bodies = \"read\"");
        let json = ("content-type", "application/json");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let parts = ("content-type", "multipart/form-data; boundary=b");
        let text = ("content-type", "text/plain");
        let in_json = format!("{{\"a\": [{{\"b\": \"{SQL}\"}}]}}");
        let in_part =
            format!("--b\r\ncontent-disposition: form-data; name=c\r\n\r\n{XSS}\r\n--b--");
        let cookie = format!("theme={SQL}");
        let coded = "a=1%27+OR+%271%27%3D%271%27+--+";
        let cases: &[(&str, &str, Fields<'_>, &str, &str, &str)] = &[
            ("nothing", "/a/b?c=d", &[("cookie", "e=f")], "", "allow", ""),
            (
                "query",
                "/?q=1%27%20OR%20%271%27=%271%27%20--%20",
                &[],
                "",
                "sql-injection",
                "query:q",
            ),
            (
                "encoded twice",
                "/?q=%253Cscript%253Ealert(1)",
                &[],
                "",
                "cross-site-scripting",
                "query:q",
            ),
            (
                "path",
                "/x/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
                &[],
                "",
                "cross-site-scripting",
                "path:segment 2",
            ),
            ("cookie", "/", &[("cookie", &cookie)], "", "sql-injection", "cookie:theme"),
            ("header", "/", &[("referer", XSS)], "", "cross-site-scripting", "header:referer"),
            ("another header", "/", &[("x-other", XSS)], "", "allow", ""),
            ("JSON", "/", &[json], &in_json, "sql-injection", "/a/0/b"),
            ("form", "/", &[form], coded, "sql-injection", "form:a"),
            ("part", "/", &[parts], &in_part, "cross-site-scripting", "part:c"),
            ("text", "/", &[text], XSS, "cross-site-scripting", "body"),
            ("JSON as text", "/", &[text], &in_json, "sql-injection", "/a/0/b"),
            ("a form as nothing", "/", &[], coded, "sql-injection", "form:a"),
            ("broken JSON", "/", &[json], "{", "unreadable-body", ""),
        ];
        for (name, target, headers, body, want, at) in cases {
            let sample = Sample::new("POST", target, headers).with_body(body.as_bytes());
            assert_eq!(sample.verdict(&*rule), *want, "{name}");
            if !at.is_empty() {
                let denial = sample.denial(&*rule);
                assert_eq!(denial.errors[0].at, *at, "{name}");
                let told = format!("{denial:?}");
                assert!(!told.contains("alert") && !told.contains("OR"), "{told}");
            }
        }
    }

    #[test]
    fn a_field_on_the_allow_list_may_carry_code() {
        let rule = build(&ENTRY, "allow = [\"/code/*\"]\nallow_sql = [\"query:q\"]");
        let json = [("content-type", "application/json")];
        let sent = |target: &str, body: &str| {
            Sample::new("POST", target, &json).with_body(body.as_bytes()).verdict(&*rule)
        };
        assert_eq!(sent("/", &format!("{{\"code\": [\"{XSS}\"]}}")), "allow");
        assert_eq!(sent("/", &format!("{{\"text\": [\"{XSS}\"]}}")), "cross-site-scripting");
        assert_eq!(sent("/?q=1%27%20OR%20%271%27=%271", "{}"), "allow");
        assert_eq!(sent("/?q=%3Cscript%3Ealert(1)", "{}"), "cross-site-scripting");
    }

    #[test]
    fn what_is_not_looked_for_is_not_found() {
        let sample = Sample::new("GET", "/?q=%3Cscript%3Ealert(1)", &[]);
        assert_eq!(sample.verdict(&*build(&ENTRY, "look_for = \"sql\"")), "allow");
        assert_eq!(sample.verdict(&*build(&ENTRY, "look_for = \"xss\"")), "cross-site-scripting");
    }

    #[test]
    fn a_body_is_read_unless_it_is_of_another_kind_or_may_be_a_stream() {
        let (pass, read) = (build(&ENTRY, ""), build(&ENTRY, "untyped_bodies = \"read\""));
        let kind = |kind: &'static str| Sample::new("POST", "/", &[("content-type", kind)]);
        for (name, sample, want) in [
            ("JSON", kind("application/json"), (true, true)),
            ("text", kind("text/plain"), (true, true)),
            ("an image", kind("image/png"), (false, false)),
            ("no type", Sample::new("POST", "/", &[]), (false, true)),
        ] {
            let request = sample.request();
            assert_eq!((pass.reads_body(&request), read.reads_body(&request)), want, "{name}");
        }
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        for (lines, words) in [
            ("headers = [\"a b\"]", "headers: expected the name of a header field"),
            ("allow = [\"items\"]", "allow: "),
            ("allow_xss = [\"\"]", "allow_xss: "),
        ] {
            let said = fault(&ENTRY, lines);
            assert!(said.starts_with(words), "{said}");
        }
    }
}
