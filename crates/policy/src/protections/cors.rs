//! Says which other origins may call the service from a browser (the Fetch standard's CORS
//! protocol), and answers their preflights.
//!
//! 1. Where no origin is listed, nobody has said anything about CORS yet: nothing is judged and
//!    nothing added.
//! 2. A request without `Origin` is not judged, nor one from the service's own origin, nor a
//!    navigation: none of them asks for leave to read.
//! 3. Origins are compared whole: `http://localhost:3000` and `http://127.0.0.1:3000` are two.
//!    `null`, which any page can make itself, counts only where it is listed.
//! 4. A preflight is answered here where the origin, the method and each header field are listed.
//! 5. The request itself is judged by origin and method: simple requests have no preflight. Where
//!    they are listed, the response is opened to the origin, denials of the protections behind this
//!    one included.
//! 6. Where `Access-Control-Allow-Origin` depends on the request, every response says
//!    `Vary: Origin`, those to requests without an origin too: else a cache could serve one of them
//!    to a page that is then told no. With `"*"` it depends on nothing and is always sent.
//! 7. What the service says of CORS itself is replaced: there is one truth, and it is here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::field::{FieldName, MethodName};
use super::origin::{Origin, OriginError, is_own, scheme_hint};
use super::quoted::Quoted;
use crate::mode::ModeSetting;
use crate::problem::{Code, Denial, FieldError};
use crate::protection::{
    Answer, Apply, Conflict, Decorate, Edit, Edits, Effects, Outcome, Protection, Request, Response,
};
use crate::quantity::{Period, serde_as_text};
use crate::registry::{BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "cors",
    summary: "Says which other origins may call the service from a browser, and answers preflights.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a real page may call from an origin that nobody thought of listing",
    codes: &[Code::CorsOriginDenied, Code::CorsMethodDenied, Code::CorsHeaderDenied],
    mode: |protect| protect.cors.mode,
    settings: |protect| settings_of(&protect.cors),
    build: |protect, _| Ok(Arc::new(Cors::build(&protect.cors)?)),
    ..Entry::PLAIN
};

/// `[protect.cors]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// Origins that may call: `"https://app.example"`, `"null"`, or `"*"` alone for all. Empty by
    /// default: only the operator knows them.
    pub origins: Vec<AllowedOrigin>,
    /// Methods they may use. By default all that services have; the service itself refuses those
    /// that it does not.
    pub methods: Vec<MethodName>,
    /// Request fields they may send besides the safelisted ones. By default those that API clients
    /// commonly set.
    pub headers: Vec<FieldName>,
    /// Response fields that their scripts may read. By default those by which the gateway tells a
    /// client where it stands.
    pub exposed: Vec<FieldName>,
    /// Whether they may call with the user's cookies. Off by default: it hands them the user's
    /// session.
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight. A day is Firefox's most; Chrome
    /// shortens it to two hours.
    pub max_age: Period,
}

impl Default for Config {
    fn default() -> Self {
        let methods = [
            Method::GET,
            Method::HEAD,
            Method::PUT,
            Method::PATCH,
            Method::POST,
            Method::DELETE,
            Method::OPTIONS,
        ];
        let headers = [
            "authorization",
            "content-type",
            "idempotency-key",
            "traceparent",
            "tracestate",
            "x-api-key",
            "x-csrf-token",
            "x-request-id",
            "x-requested-with",
            "x-tenant-id",
        ];
        let exposed = ["ratelimit", "ratelimit-policy", "retry-after", "x-request-id"];
        Self {
            mode: ENTRY.default_mode,
            origins: Vec::new(),
            methods: methods.map(MethodName).into(),
            headers: headers.map(FieldName::from_static).into(),
            exposed: exposed.map(FieldName::from_static).into(),
            credentials: false,
            max_age: Period::secs(86_400),
        }
    }
}

/// An entry of [`Config::origins`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    Any,
    /// What sandboxed frames and local files send.
    Null,
    Origin(Origin),
}

impl AllowedOrigin {
    fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Null => "null",
            Self::Origin(origin) => origin.as_str(),
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "*" => Ok(Self::Any),
            "null" => Ok(Self::Null),
            text => text.parse().map(Self::Origin),
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

serde_as_text!(AllowedOrigin);

/// Origins of one rule. All of them are looked at for a request, so there are not too many.
const ORIGINS_MAX: usize = 256;

/// The request fields that need no leave (Fetch, "CORS-safelisted request-header"). Content-Type
/// is named in a preflight only where its value is not a form's, and so has to be listed.
const SAFELISTED: [&str; 4] = ["accept", "accept-language", "content-language", "range"];

struct Cors {
    origins: Allowed,
    methods: Vec<Method>,
    headers: Vec<HeaderName>,
    credentials: bool,
    methods_value: HeaderValue,
    headers_value: Option<HeaderValue>,
    exposed_value: Option<HeaderValue>,
    max_age_value: HeaderValue,
}

enum Allowed {
    Any,
    /// Empty: nothing was said about CORS.
    Listed(Vec<AllowedOrigin>),
}

impl Cors {
    fn build(config: &Config) -> Result<Self, BuildError> {
        let value = |text: String| HeaderValue::from_str(&text).expect("names and commas");
        let list = |names: &[FieldName]| {
            let names: Vec<&str> = names.iter().map(|name| name.0.as_str()).collect();
            (!names.is_empty()).then(|| value(names.join(", ")))
        };
        let methods: Vec<Method> = config.methods.iter().map(|name| name.0.clone()).collect();
        Ok(Self {
            origins: Allowed::build(config)?,
            methods_value: value(methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")),
            methods,
            headers: config.headers.iter().map(|name| name.0.clone()).collect(),
            headers_value: list(&config.headers),
            exposed_value: list(&config.exposed),
            max_age_value: HeaderValue::from(config.max_age.as_duration().as_secs()),
            credentials: config.credentials,
        })
    }
}

impl Allowed {
    fn build(config: &Config) -> Result<Self, BuildError> {
        let fault = |key, message: &str| Err(BuildError { key, message: message.to_owned() });
        if config.origins.len() > ORIGINS_MAX {
            return fault("origins", &format!("at most {ORIGINS_MAX} origins a rule"));
        }
        if config.methods.is_empty() && !config.origins.is_empty() {
            return fault(
                "methods",
                "expected at least one: without any the origins may do nothing",
            );
        }
        let any = config.origins.contains(&AllowedOrigin::Any);
        if any && config.credentials {
            return fault(
                "credentials",
                "cannot be on where origins has \"*\": every page on the web could act as the user",
            );
        }
        if any && config.origins.len() > 1 {
            return fault("origins", "\"*\" stands alone: it allows every other origin too");
        }
        if config.credentials && config.origins.contains(&AllowedOrigin::Null) {
            return fault(
                "credentials",
                "cannot be on where origins has \"null\": any page can make itself a null origin",
            );
        }
        Ok(if any { Self::Any } else { Self::Listed(config.origins.clone()) })
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Listed(list) if list.is_empty())
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(list) => list.iter().any(|allowed| allowed.as_str() == origin),
        }
    }
}

/// What a request asks of CORS.
enum Ask<'a> {
    /// Nothing.
    Nothing,
    /// Whether `method` with these fields may follow.
    Preflight { origin: &'a HeaderValue, method: &'a HeaderValue },
    /// To be let in, and the response to be opened to the origin.
    Access { origin: &'a HeaderValue },
}

impl<'a> Ask<'a> {
    fn of(request: &Request<'a>) -> Self {
        let is = |name: &str, want: &str| request.headers.get(name).is_some_and(|v| v == want);
        let Some(origin) = request.headers.get(ORIGIN) else {
            return Self::Nothing;
        };
        // Fetch metadata cannot be set by a page, and is right where a proxy before the gateway
        // has changed the scheme or the host.
        if is("sec-fetch-site", "same-origin")
            || is("sec-fetch-mode", "navigate")
            || is_own(origin.as_bytes(), request)
        {
            return Self::Nothing;
        }
        match request.headers.get(ACCESS_CONTROL_REQUEST_METHOD) {
            Some(method) if request.method == Method::OPTIONS => Self::Preflight { origin, method },
            _ => Self::Access { origin },
        }
    }
}

impl Protection for Cors {
    fn is_inert(&self) -> bool {
        self.origins.is_empty()
    }

    fn check(&self, request: &Request<'_>, effects: &mut Effects) -> Outcome {
        if self.is_inert() {
            return Outcome::NotApplicable;
        }
        match Ask::of(request) {
            Ask::Nothing => {
                self.open(None, effects);
                Outcome::NotApplicable
            }
            Ask::Preflight { origin, method } => {
                match self
                    .judge(request, origin, method.as_bytes())
                    .or_else(|| self.judge_fields(request))
                {
                    Some(denial) => Outcome::Deny(denial),
                    None => Outcome::Answer(self.preflight_answer(origin)),
                }
            }
            Ask::Access { origin } => {
                let allowed = self.origins.allows(origin);
                self.open(allowed.then_some(origin), effects);
                match self.judge(request, origin, request.method.as_str().as_bytes()) {
                    Some(denial) => Outcome::Deny(denial),
                    None => Outcome::Allow,
                }
            }
        }
    }

    fn decorator(&self) -> Option<&dyn Decorate> {
        Some(self)
    }
}

impl Decorate for Cors {
    /// Credentials are not granted by the service where the config does not: with an origin that
    /// we name, its `true` would open the user's session. Any other value than `true` says no.
    fn decorate(&self, response: &Response<'_>, edits: &mut Edits<'_>) {
        let (name, no) = (ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("false"));
        if !self.origins.is_empty() && !self.credentials && response.headers.contains_key(&name) {
            edits.add(Apply::Enforced, Conflict::Replace, &name, &no);
        }
    }
}

impl Cors {
    /// Judges origin and method.
    fn judge(&self, request: &Request<'_>, origin: &HeaderValue, method: &[u8]) -> Option<Denial> {
        // Browsers send one Origin; of several, a service might believe another than we do.
        let one = request.headers.get_all(ORIGIN).iter().nth(1).is_none();
        if !one || !self.origins.allows(origin) {
            return Some(self.origin_denial(request, origin));
        }
        if !self.methods.iter().any(|allowed| allowed.as_str().as_bytes() == method) {
            return Some(self.method_denial(method));
        }
        None
    }

    /// Judges the fields that a preflight asks for.
    fn judge_fields(&self, request: &Request<'_>) -> Option<Denial> {
        let asked = request.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS);
        let mut names = asked
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty());
        let refused = names.find(|name| {
            let is = |allowed: &str| allowed.as_bytes().eq_ignore_ascii_case(name);
            !SAFELISTED.iter().any(|allowed| is(allowed))
                && !self.headers.iter().any(|allowed| is(allowed.as_str()))
        })?;
        Some(self.field_denial(refused))
    }

    /// Opens the response to `origin`, and keeps caches from giving it to another.
    fn open(&self, origin: Option<&HeaderValue>, effects: &mut Effects) {
        let origin = match self.origins {
            Allowed::Any => Some(HeaderValue::from_static("*")),
            Allowed::Listed(_) => {
                effects.headers.push(edit(VARY, VARY_ORIGIN, Conflict::Append));
                origin.cloned()
            }
        };
        let Some(origin) = origin else { return };
        effects.headers.push(edit(ACCESS_CONTROL_ALLOW_ORIGIN, origin, Conflict::Replace));
        if self.credentials {
            let name = ACCESS_CONTROL_ALLOW_CREDENTIALS;
            effects.headers.push(edit(name, TRUE, Conflict::Replace));
        }
        if let Some(exposed) = self.exposed_value.clone() {
            let name = ACCESS_CONTROL_EXPOSE_HEADERS;
            effects.headers.push(edit(name, exposed, Conflict::Replace));
        }
    }

    fn preflight_answer(&self, origin: &HeaderValue) -> Answer {
        let mut headers = vec![
            (ACCESS_CONTROL_ALLOW_METHODS, self.methods_value.clone()),
            (ACCESS_CONTROL_MAX_AGE, self.max_age_value.clone()),
        ];
        match self.origins {
            Allowed::Any => {
                headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
            }
            Allowed::Listed(_) => {
                headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
                headers.push((VARY, VARY_ORIGIN));
            }
        }
        if let Some(fields) = self.headers_value.clone() {
            headers.push((ACCESS_CONTROL_ALLOW_HEADERS, fields));
        }
        if self.credentials {
            headers.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
        }
        Answer { status: StatusCode::NO_CONTENT, headers, body: Bytes::new() }
    }
}

const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const TRUE: HeaderValue = HeaderValue::from_static("true");

fn edit(name: HeaderName, value: HeaderValue, conflict: Conflict) -> Edit {
    Edit { name, value, apply: Apply::Enforced, conflict }
}

impl Cors {
    fn origin_denial(&self, request: &Request<'_>, origin: &HeaderValue) -> Denial {
        let shown = Quoted(origin.as_bytes());
        let hint = scheme_hint(origin.as_bytes(), request);
        let alike = self.listed_alike(origin.as_bytes()).map_or_else(String::new, |listed| {
            format!("; {listed} is listed, and is another origin")
        });
        Denial::new(
            Code::CorsOriginDenied,
            format!("{shown} is not an origin that may call this service"),
        )
        .internal(format!("origin {shown} is not listed{alike}{hint}"))
    }

    /// The listed origin that `origin` was probably meant to be.
    fn listed_alike(&self, origin: &[u8]) -> Option<&Origin> {
        let origin: Origin = std::str::from_utf8(origin).ok()?.parse().ok()?;
        let Allowed::Listed(list) = &self.origins else { return None };
        list.iter().find_map(|allowed| match allowed {
            AllowedOrigin::Origin(listed) => listed.resembles(&origin).then_some(listed),
            AllowedOrigin::Any | AllowedOrigin::Null => None,
        })
    }

    fn method_denial(&self, method: &[u8]) -> Denial {
        let methods = self.methods_value.to_str().expect("names and commas");
        Denial::new(
            Code::CorsMethodDenied,
            format!("other origins may use {methods} here, not {}", Quoted(method)),
        )
    }

    fn field_denial(&self, name: &[u8]) -> Denial {
        let name = Quoted(name);
        let mut denial = Denial::new(
            Code::CorsHeaderDenied,
            format!("other origins may not send the header field {name} here"),
        );
        denial.errors = vec![FieldError::new(
            format!("header:{ACCESS_CONTROL_REQUEST_HEADERS}"),
            format!("{name} is not allowed"),
        )];
        denial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protection::Scheme;
    use crate::protections::testing::{Fields, Sample, build, decorate, edits, fault};

    const LISTED: &str = r#"origins = ["https://app.example", "HTTP://LOCALHOST:3000"]"#;

    fn preflight<'a>(origin: &'a str, method: &'a str, fields: &'a str) -> Sample {
        Sample::new(
            "OPTIONS",
            "/api/complaints",
            &[
                ("origin", origin),
                ("access-control-request-method", method),
                ("access-control-request-headers", fields),
            ],
        )
    }

    fn answer(sample: &Sample, lines: &str) -> Vec<String> {
        let cors = build(&ENTRY, lines);
        match cors.check(&sample.request(), &mut Effects::default()) {
            Outcome::Answer(answer) => {
                let text = |(name, value): &(HeaderName, HeaderValue)| {
                    format!("{name}: {}", value.to_str().unwrap())
                };
                answer.headers.iter().map(text).collect()
            }
            other => panic!("expected an answer, not {other:?}"),
        }
    }

    #[test]
    fn preflights_are_answered_for_what_is_listed() {
        let get_only = format!("{LISTED}\nmethods = [\"GET\"]\nheaders = []");
        for (lines, origin, method, fields, want) in [
            ("", "https://app.example", "GET", "", "n/a"),
            (LISTED, "https://app.example", "GET", "", "204"),
            (LISTED, "https://app.example", "PATCH", "content-type,X-Tenant-Id", "204"),
            (LISTED, "https://app.example", "DELETE", "accept, , authorization", "204"),
            (LISTED, "http://localhost:3000", "GET", "", "204"),
            (LISTED, "http://127.0.0.1:3000", "GET", "", "cors-origin-denied"),
            (LISTED, "http://localhost:3001", "GET", "", "cors-origin-denied"),
            (LISTED, "http://app.example:81", "GET", "", "cors-origin-denied"),
            (LISTED, "https://app.example.evil.example", "GET", "", "cors-origin-denied"),
            (LISTED, "https://xapp.example", "GET", "", "cors-origin-denied"),
            (LISTED, "null", "GET", "", "cors-origin-denied"),
            (LISTED, "", "GET", "", "cors-origin-denied"),
            (LISTED, "https://app.example", "PURGE", "", "cors-method-denied"),
            (LISTED, "https://app.example", "get", "", "cors-method-denied"),
            (LISTED, "https://app.example", "GET", "x-evil", "cors-header-denied"),
            (&get_only, "https://app.example", "POST", "", "cors-method-denied"),
            (&get_only, "https://app.example", "GET", "content-type", "cors-header-denied"),
            (&get_only, "https://app.example", "GET", "accept", "204"),
            (r#"origins = ["null"]"#, "null", "GET", "", "204"),
            (r#"origins = ["*"]"#, "https://anyone.example", "PUT", "", "204"),
        ] {
            let verdict = preflight(origin, method, fields).verdict(&*build(&ENTRY, lines));
            assert_eq!(verdict, want, "{origin} {method} {fields}");
        }
    }

    #[test]
    fn an_answer_says_what_is_allowed_for_how_long() {
        let lines = format!(
            "{LISTED}\nmethods = [\"GET\", \"PUT\"]\nheaders = [\"X-Api-Key\"]\n\
             credentials = true\nmax_age = \"10m\""
        );
        assert_eq!(
            answer(&preflight("https://app.example", "PUT", "x-api-key"), &lines),
            [
                "access-control-allow-methods: GET, PUT",
                "access-control-max-age: 600",
                "access-control-allow-origin: https://app.example",
                "vary: Origin",
                "access-control-allow-headers: x-api-key",
                "access-control-allow-credentials: true",
            ]
        );
        let any = answer(&preflight("https://x.example", "GET", ""), r#"origins = ["*"]"#);
        assert!(any.contains(&"access-control-allow-origin: *".to_owned()), "{any:?}");
        assert!(!any.iter().any(|line| line.starts_with("vary")), "{any:?}");
        assert!(any.contains(&"access-control-max-age: 86400".to_owned()), "{any:?}");
    }

    #[test]
    fn requests_are_judged_by_origin_and_method_and_opened_to_the_origin() {
        let vary = "vary: Origin";
        let allow = "access-control-allow-origin: https://app.example";
        let expose =
            "access-control-expose-headers: ratelimit, ratelimit-policy, retry-after, x-request-id";
        let origin = ("origin", "https://app.example");
        let cases: [(&str, Fields<'_>, &str, &[&str]); 10] = [
            ("GET", &[], "n/a", &[vary]),
            ("GET", &[origin], "allow", &[vary, allow, expose]),
            ("POST", &[origin, ("sec-fetch-site", "cross-site")], "allow", &[vary, allow, expose]),
            ("OPTIONS", &[origin], "allow", &[vary, allow, expose]),
            ("PURGE", &[origin], "cors-method-denied", &[vary, allow, expose]),
            ("GET", &[("origin", "https://evil.example")], "cors-origin-denied", &[vary]),
            ("GET", &[("origin", "null")], "cors-origin-denied", &[vary]),
            ("POST", &[("origin", "http://app.example")], "n/a", &[vary]),
            (
                "POST",
                &[("origin", "https://evil.example"), ("sec-fetch-mode", "navigate")],
                "n/a",
                &[vary],
            ),
            (
                "POST",
                &[("origin", "https://tls.example"), ("sec-fetch-site", "same-origin")],
                "n/a",
                &[vary],
            ),
        ];
        for (method, headers, want, added) in cases {
            let (verdict, effects) =
                Sample::new(method, "/", headers).check(&*build(&ENTRY, LISTED));
            assert_eq!((verdict.as_str(), edits(&effects)), (want, owned(added)), "{headers:?}");
        }
        let twice = [origin, ("origin", "https://evil.example")];
        let verdict = Sample::new("GET", "/", &twice).verdict(&*build(&ENTRY, LISTED));
        assert_eq!(verdict, "cors-origin-denied");
    }

    #[test]
    fn a_star_opens_every_response_and_varies_with_nothing() {
        let cors = build(&ENTRY, "origins = [\"*\"]\nexposed = []");
        for headers in [&[][..], &[("origin", "https://x.example")], &[("origin", "null")]] {
            let (_, effects) = Sample::new("GET", "/", headers).check(&*cors);
            assert_eq!(edits(&effects), ["access-control-allow-origin: *"], "{headers:?}");
        }
    }

    #[test]
    fn credentials_are_granted_by_the_config_alone() {
        let with = build(&ENTRY, &format!("{LISTED}\ncredentials = true"));
        let origin = [("origin", "https://app.example")];
        let (_, effects) = Sample::new("GET", "/", &origin).check(&*with);
        let added = edits(&effects);
        assert!(added.contains(&"access-control-allow-credentials: true".to_owned()), "{added:?}");

        let granted = [("access-control-allow-credentials", "true")];
        let without = build(&ENTRY, LISTED);
        assert_eq!(
            decorate(&*without, Scheme::Http, &granted),
            ["Enforced Replace access-control-allow-credentials: false"]
        );
        assert!(decorate(&*without, Scheme::Http, &[]).is_empty());
        assert!(decorate(&*with, Scheme::Http, &granted).is_empty());
        assert!(decorate(&*build(&ENTRY, ""), Scheme::Http, &granted).is_empty());
    }

    #[test]
    fn denials_name_the_fault_and_the_operator_is_told_what_it_resembles() {
        let cors = build(&ENTRY, LISTED);
        let denial = preflight("http://127.0.0.1:3000", "GET", "").denial(&*cors);
        assert_eq!(
            denial.detail,
            "\"http://127.0.0.1:3000\" is not an origin that may call this service"
        );
        assert_eq!(
            denial.internal,
            "origin \"http://127.0.0.1:3000\" is not listed; http://localhost:3000 is listed, and \
             is another origin"
        );
        let own = Sample::new("POST", "/", &[("origin", "https://a.example")])
            .at(Scheme::Http, "a.example");
        let internal = own.denial(&*cors).internal;
        assert!(internal.contains("client.trusted_proxies"), "{internal}");

        let method = preflight("https://app.example", "PURGE", "").denial(&*cors);
        assert_eq!(
            method.detail,
            "other origins may use GET, HEAD, PUT, PATCH, POST, DELETE, OPTIONS here, not \"PURGE\""
        );
        let field = preflight("https://app.example", "GET", "accept,x-evil").denial(&*cors);
        assert_eq!(field.detail, "other origins may not send the header field \"x-evil\" here");
        assert_eq!(field.errors[0].at, "header:access-control-request-headers");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for (lines, words) in [
            (
                "origins = [\"*\"]\ncredentials = true",
                "credentials: cannot be on where origins has",
            ),
            ("origins = [\"null\"]\ncredentials = true", "any page can make itself a null origin"),
            ("origins = [\"*\", \"https://a.example\"]", "origins: \"*\" stands alone"),
            ("origins = [\"https://a.example\"]\nmethods = []", "methods: expected at least one"),
            ("origins = [\"a.example\"]", "it has no scheme"),
            ("origins = [\"https://a.example/\"]", "without a slash"),
            ("origins = [\"https://*.a.example\"]", "wildcard"),
            ("methods = [\"TRACE\"]", "expected a method"),
            ("headers = [\"*\"]", "expected the name of a header field"),
        ] {
            let said = fault(&ENTRY, lines);
            assert!(said.contains(words), "{said}");
        }
    }

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }
}
