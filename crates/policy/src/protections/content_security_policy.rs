//! Tells browsers where a page's scripts, styles and frames may come from.
//!
//! 1. The policy is added to pages (`text/html`, `application/xhtml+xml`) and to nothing else.
//! 2. Where the rule enforces, it is sent as `Content-Security-Policy`. Where it only judges, as
//!    `Content-Security-Policy-Report-Only` with a report address on the gateway: browsers then
//!    break nothing and say what they would have blocked.
//! 3. A page for which the service sends a policy of its own is left alone in both forms, unless
//!    `override_service` is on. A report-only policy of the service stays beside ours.
//! 4. A request for a page counts as one judgement, a reported violation as one would-denial.
//! 5. Reports are claims: anyone can send them. At most 100 of a post count, what cannot be read
//!    counts for nothing, and so does what a browser extension has put into a page.
//! 6. Over plain HTTP `report-uri` alone is sent: browsers that know `report-to` would ignore it in
//!    favour of an endpoint that they take over TLS alone.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::mode::ModeSetting;
use crate::protection::{
    Answer, Apply, Conflict, Decorate, Edits, Effects, Outcome, Protection, Request, Response,
    Scheme, Served,
};
use crate::quantity::serde_as_text;
use crate::registry::{Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "content_security_policy",
    summary: "Tells browsers where a page's scripts, styles and frames may come from.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a page may load from places that the policy does not name",
    codes: &[],
    mode: |protect| protect.content_security_policy.mode,
    settings: |protect| settings_of(&protect.content_security_policy),
    build: |protect, _| {
        Ok(Arc::new(ContentSecurityPolicy::build(&protect.content_security_policy)))
    },
    ..Entry::PLAIN
};

/// `[protect.content_security_policy]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// Whether a policy of the service is replaced. Default: no, it knows its pages better.
    pub override_service: bool,
    /// Everything from the own origin, images from `data:` besides because build tools inline
    /// small ones; no plugins, no `<base>` or form that leads elsewhere, no foreign frame around.
    pub policy: Policy,
}

impl Default for Config {
    fn default() -> Self {
        let policy = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
                      base-uri 'self'; form-action 'self'; frame-ancestors 'self'";
        Self {
            mode: ENTRY.default_mode,
            override_service: false,
            policy: Policy(policy.to_owned()),
        }
    }
}

/// A policy whose directives all exist. Line breaks and repeated spaces are made one space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy(String);

/// Fits after "failed to read the policy: ". Browsers pass over what they do not understand, so
/// each of these would quietly protect less than it seems to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("expected directives such as \"default-src 'self'; object-src 'none'\"")]
    Empty,
    #[error("{0:?} is not a directive of Content-Security-Policy")]
    Unknown(String),
    #[error("{0} is there twice, and browsers would ignore the second")]
    Twice(String),
    #[error("leave {0} out: the gateway adds its own while the rule judges")]
    Reporting(String),
    #[error("a nonce that is the same in every response protects nothing; use a hash")]
    Nonce,
    #[error("it has a character that a policy cannot have: {0:?}")]
    Character(char),
}

/// The fetch, document and navigation directives of CSP level 3, and those of the specifications
/// that extend it.
const DIRECTIVES: [&str; 25] = [
    "default-src",
    "child-src",
    "connect-src",
    "fenced-frame-src",
    "font-src",
    "frame-src",
    "img-src",
    "manifest-src",
    "media-src",
    "object-src",
    "prefetch-src",
    "script-src",
    "script-src-attr",
    "script-src-elem",
    "style-src",
    "style-src-attr",
    "style-src-elem",
    "worker-src",
    "base-uri",
    "sandbox",
    "form-action",
    "frame-ancestors",
    "upgrade-insecure-requests",
    "require-trusted-types-for",
    "trusted-types",
];

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A comma would start a second policy, one without our report address.
        let foreign = |c: &char| !matches!(c, ' '..='~' | '\n' | '\r' | '\t') || *c == ',';
        if let Some(found) = text.chars().find(foreign) {
            return Err(PolicyError::Character(found));
        }
        let mut directives: Vec<String> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for directive in text.split(';') {
            let words: Vec<&str> = directive.split_ascii_whitespace().collect();
            let Some((name, values)) = words.split_first() else { continue };
            let name = name.to_ascii_lowercase();
            if matches!(name.as_str(), "report-uri" | "report-to") {
                return Err(PolicyError::Reporting(name));
            }
            if !DIRECTIVES.contains(&name.as_str()) {
                return Err(PolicyError::Unknown(name));
            }
            if names.contains(&name) {
                return Err(PolicyError::Twice(name));
            }
            if values.iter().any(|value| value.to_ascii_lowercase().starts_with("'nonce-")) {
                return Err(PolicyError::Nonce);
            }
            directives.push([&[name.as_str()], values].concat().join(" "));
            names.push(name);
        }
        if directives.is_empty() {
            return Err(PolicyError::Empty);
        }
        Ok(Self(directives.join("; ")))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(Policy);

/// The report page, below `/.seaworthy/`.
const REPORT_PATH: &str = "csp-report";

/// Violations of one post that count.
const VIOLATIONS_MAX: usize = 100;

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const REPORTING_ENDPOINTS: HeaderName = HeaderName::from_static("reporting-endpoints");
const ENDPOINTS: HeaderValue = HeaderValue::from_static("seaworthy=\"/.seaworthy/csp-report\"");

struct ContentSecurityPolicy {
    enforced: HeaderValue,
    judged_http: HeaderValue,
    judged_https: HeaderValue,
    override_service: bool,
}

impl ContentSecurityPolicy {
    fn build(config: &Config) -> Self {
        let value = |more: &str| {
            HeaderValue::from_str(&format!("{}{more}", config.policy))
                .expect("a policy is visible ASCII")
        };
        Self {
            enforced: value(""),
            judged_http: value("; report-uri /.seaworthy/csp-report"),
            judged_https: value("; report-uri /.seaworthy/csp-report; report-to seaworthy"),
            override_service: config.override_service,
        }
    }
}

impl Protection for ContentSecurityPolicy {
    fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
        if asks_for_page(request) { Outcome::Allow } else { Outcome::NotApplicable }
    }

    fn decorator(&self) -> Option<&dyn Decorate> {
        Some(self)
    }

    /// Takes reports. Whoever sent them reads no answer, so a malformed one is not refused: it
    /// counts for nothing.
    fn serve(&self, path: &str, request: &Request<'_>, body: &[u8]) -> Option<Served> {
        if path != REPORT_PATH || request.method != Method::POST {
            return None;
        }
        let answer =
            Answer { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: Bytes::new() };
        let violations = violations(media_type(request.headers), body).min(VIOLATIONS_MAX);
        Some(Served { answer, would_deny: violations as u32 })
    }
}

impl Decorate for ContentSecurityPolicy {
    fn decorate(&self, response: &Response<'_>, edits: &mut Edits<'_>) {
        let own = response.headers.contains_key(header::CONTENT_SECURITY_POLICY);
        if !is_page(response.headers) || (own && !self.override_service) {
            return;
        }
        edits.add(
            Apply::Enforced,
            Conflict::Replace,
            &header::CONTENT_SECURITY_POLICY,
            &self.enforced,
        );
        let report_only = header::CONTENT_SECURITY_POLICY_REPORT_ONLY;
        match response.scheme {
            Scheme::Http => {
                edits.add(Apply::Judged, Conflict::Append, &report_only, &self.judged_http);
            }
            Scheme::Https => {
                edits.add(Apply::Judged, Conflict::Append, &report_only, &self.judged_https);
                edits.add(Apply::Judged, Conflict::Append, &REPORTING_ENDPOINTS, &ENDPOINTS);
            }
        }
    }
}

/// Whether a browser asks for something that it will show as a page.
fn asks_for_page(request: &Request<'_>) -> bool {
    if request.method != Method::GET && request.method != Method::POST {
        return false;
    }
    match request.headers.get(SEC_FETCH_DEST) {
        Some(dest) => {
            matches!(dest.as_bytes(), b"document" | b"iframe" | b"frame" | b"embed" | b"object")
        }
        None => request
            .headers
            .get(header::ACCEPT)
            .is_some_and(|accept| accept.as_bytes().starts_with(b"text/html")),
    }
}

fn is_page(headers: &HeaderMap) -> bool {
    let media_type = media_type(headers);
    [&b"text/html"[..], b"application/xhtml+xml"]
        .iter()
        .any(|page| media_type.eq_ignore_ascii_case(page))
}

/// The Content-Type without its parameters.
fn media_type(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// What `report-uri` posts: one violation.
#[derive(Deserialize)]
struct Posted {
    #[serde(rename = "csp-report")]
    report: Violation,
}

/// What `report-to` posts: a list of reports of every kind.
#[derive(Deserialize)]
struct Report {
    #[serde(rename = "type")]
    kind: String,
    body: Option<Violation>,
}

/// The two forms name the members differently.
#[derive(Deserialize)]
struct Violation {
    disposition: Option<String>,
    #[serde(alias = "blocked-uri", alias = "blockedURL")]
    blocked: Option<String>,
    #[serde(alias = "source-file", alias = "sourceFile")]
    source: Option<String>,
}

/// How many violations of a policy that only judges `body` reports.
fn violations(media_type: &[u8], body: &[u8]) -> usize {
    if media_type.eq_ignore_ascii_case(b"application/csp-report") {
        let Ok(Posted { report }) = serde_json::from_slice(body) else { return 0 };
        return usize::from(report.counts());
    }
    if media_type.eq_ignore_ascii_case(b"application/reports+json") {
        let Ok(reports) = serde_json::from_slice::<Vec<Report>>(body) else { return 0 };
        let ours = reports.iter().filter(|report| report.kind == "csp-violation");
        return ours.filter_map(|report| report.body.as_ref()).filter(|body| body.counts()).count();
    }
    0
}

impl Violation {
    /// Some browsers send no disposition; since our enforced form names no report address, theirs
    /// is "report".
    fn counts(&self) -> bool {
        self.disposition.as_deref().is_none_or(|disposition| disposition == "report")
            && (self.blocked.is_some() || self.source.is_some())
            && !is_of_extension(self.blocked.as_deref())
            && !is_of_extension(self.source.as_deref())
    }
}

/// `chrome-extension`, `moz-extension`, `safari-web-extension`; with or without the rest.
fn is_of_extension(url: Option<&str>) -> bool {
    url.and_then(|url| url.split(':').next()).is_some_and(|scheme| scheme.ends_with("-extension"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Fields, Sample, build, decorate, fault};

    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

    #[test]
    fn pages_get_the_policy_in_the_form_of_the_mode() {
        let csp = build(&ENTRY, "policy = \"default-src 'self'\"");
        let enforced = "Enforced Replace content-security-policy: default-src 'self'";
        let judged = "Judged Append content-security-policy-report-only: default-src 'self'; \
                      report-uri /.seaworthy/csp-report";
        assert_eq!(decorate(&*csp, Scheme::Http, &[HTML]), [enforced, judged]);
        assert_eq!(
            decorate(&*csp, Scheme::Https, &[HTML]),
            [
                enforced,
                &format!("{judged}; report-to seaworthy"),
                "Judged Append reporting-endpoints: seaworthy=\"/.seaworthy/csp-report\"",
            ]
        );
        let own = ("content-security-policy", "default-src *");
        let silent: [Fields<'_>; 4] = [
            &[("content-type", "application/json")],
            &[("content-type", "text/htmlx")],
            &[],
            &[HTML, own],
        ];
        for headers in silent {
            assert!(decorate(&*csp, Scheme::Http, headers).is_empty(), "{headers:?}");
        }
        let forced = build(&ENTRY, "override_service = true");
        assert_eq!(decorate(&*forced, Scheme::Http, &[HTML, own]).len(), 2);
    }

    #[test]
    fn requests_for_pages_are_judged() {
        let csp = build(&ENTRY, "");
        let cases: [(&str, Fields<'_>, &str); 7] = [
            ("GET", &[("sec-fetch-dest", "document")], "allow"),
            ("POST", &[("sec-fetch-dest", "iframe")], "allow"),
            ("GET", &[("sec-fetch-dest", "script")], "n/a"),
            ("GET", &[("sec-fetch-dest", "empty"), ("accept", "text/html")], "n/a"),
            ("GET", &[("accept", "text/html,*/*")], "allow"),
            ("GET", &[("accept", "*/*")], "n/a"),
            ("HEAD", &[("accept", "text/html")], "n/a"),
        ];
        for (method, headers, want) in cases {
            assert_eq!(Sample::new(method, "/", headers).verdict(&*csp), want, "{headers:?}");
        }
    }

    #[test]
    fn reported_violations_are_counted_and_garbage_is_not() {
        let old = "application/csp-report";
        let new = "application/reports+json; charset=utf-8";
        let one = r#"{"type":"csp-violation","age":3,"url":"https://a.example/",
            "body":{"disposition":"report","blockedURL":"inline","sample":""}}"#;
        let enforced = one.replace("\"report\"", "\"enforce\"");
        let extension = one.replace("inline", "moz-extension://x/y.js");
        let many = format!("[{}]", vec![one; 150].join(","));
        for (kind, body, want) in [
            (old, r#"{"csp-report":{"disposition":"report","blocked-uri":"inline"}}"#, 1),
            (old, r#"{"csp-report":{"blocked-uri":"https:\/\/cdn.example\/a.js"}}"#, 1),
            (old, r#"{"csp-report":{"disposition":"enforce","blocked-uri":"inline"}}"#, 0),
            (old, r#"{"csp-report":{"blocked-uri":"x","source-file":"chrome-extension"}}"#, 0),
            (old, r#"{"csp-report":{}}"#, 0),
            (old, r#"{"csp-report":"#, 0),
            (old, "", 0),
            (old, "\u{0}\u{ff}", 0),
            (old, &"[".repeat(50_000), 0),
            (new, &format!("[{one},{enforced},{one},{extension}]"), 2),
            (new, r#"[{"type":"deprecation","body":{"id":"x"}},{"type":"csp-violation"}]"#, 0),
            (new, r#"[{"type":"intervention","body":null}]"#, 0),
            (new, &many, 100),
            (new, r#"{"csp-report":{"blocked-uri":"inline"}}"#, 0),
            ("application/json", r#"{"csp-report":{"blocked-uri":"inline"}}"#, 0),
        ] {
            let sample = Sample::new("POST", "/.seaworthy/csp-report", &[("content-type", kind)]);
            let served = build(&ENTRY, "").serve(REPORT_PATH, &sample.request(), body.as_bytes());
            let served = served.expect("the report page is there");
            assert_eq!(served.answer.status, StatusCode::NO_CONTENT);
            assert_eq!(served.would_deny, want, "{kind} {body:.120}");
        }
    }

    #[test]
    fn there_is_one_page_and_it_takes_posts() {
        let csp = build(&ENTRY, "");
        for (method, path, there) in
            [("POST", "csp-report", true), ("GET", "csp-report", false), ("POST", "csrf", false)]
        {
            let sample = Sample::new(method, "/", &[]);
            assert_eq!(csp.serve(path, &sample.request(), b"").is_some(), there, "{method} {path}");
        }
    }

    #[test]
    fn a_policy_is_written_in_one_line() {
        let text = "\n  Default-Src 'self'\t https://cdn.example;\n\n ;sandbox;\n";
        let policy: Policy = text.parse().unwrap();
        assert_eq!(policy.to_string(), "default-src 'self' https://cdn.example; sandbox");
        assert_eq!(Config::default().policy.to_string().parse(), Ok(Config::default().policy));
    }

    #[test]
    fn a_policy_that_browsers_would_read_otherwise_is_refused() {
        for (policy, words) in [
            ("", "expected directives"),
            (" ; ", "expected directives"),
            ("defualt-src 'self'", "\"defualt-src\" is not a directive"),
            ("img-src *; IMG-SRC 'none'", "img-src is there twice"),
            ("default-src *; report-uri /x", "leave report-uri out"),
            ("default-src *; report-to x", "leave report-to out"),
            ("script-src 'nonce-abc'", "protects nothing"),
            ("default-src *, img-src *", "','"),
            ("default-src \u{e9}", "'\u{e9}'"),
        ] {
            let said = fault(&ENTRY, &format!("policy = {policy:?}"));
            assert!(said.contains(words), "{said}");
        }
    }
}
