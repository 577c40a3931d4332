//! The one door through which errors leave: every code, its status and what a client should do.
//!
//! The shape is RFC 9457. A [`Denial`] carries two texts: `detail` goes to the client,
//! `internal` to the log; the client is told less. The manual's page of errors is rendered
//! from [`Code::all`], and `/.seaworthy/problems/<code>` on the gateway shows the same words.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::header::{ALLOW, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

/// Where the pages that explain the codes live on the gateway; a code's `type` is below it.
pub const TYPE_BASE: &str = "/.seaworthy/problems/";

/// What the catalogue says of one code.
#[derive(Debug)]
pub struct Entry {
    pub code: Code,
    /// Kebab case, stable for ever: clients match on it.
    pub name: &'static str,
    pub domain: Domain,
    pub status: StatusCode,
    pub title: &'static str,
    /// What the client should do, one or two sentences.
    pub remedy: &'static str,
}

/// The part of the gateway that raises a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The bytes of the request, before any protection saw it.
    Request,
    /// The protection of this name.
    Protection(&'static str),
    /// The service behind the gateway.
    Upstream,
    /// The gateway itself.
    Gateway,
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Protection(name) => name,
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        })
    }
}

macro_rules! catalogue {
    ($($code:ident $name:literal $domain:expr, $status:ident, $title:literal, $remedy:literal;)*) => {
        /// Every way in which the gateway itself answers with an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Code { $($code),* }

        const CATALOGUE: &[Entry] = &[$(Entry {
            code: Code::$code,
            name: $name,
            domain: $domain,
            status: StatusCode::$status,
            title: $title,
            remedy: $remedy,
        }),*];
    };
}

use Domain::{Gateway, Protection, Request, Upstream};

catalogue! {
    MalformedRequest "malformed-request" Request, BAD_REQUEST, "Malformed request",
        "Send a request that follows RFC 9112 (HTTP/1.1) or RFC 9113 (HTTP/2).";
    AmbiguousFraming "ambiguous-framing" Request, BAD_REQUEST, "Ambiguous message length",
        "Send either one valid Content-Length or Transfer-Encoding: chunked, never both.";
    MalformedTarget "malformed-target" Request, BAD_REQUEST, "Malformed request target",
        "Percent-encode the path and query as RFC 3986 says; leave out fragments and control bytes.";
    MalformedBody "malformed-body" Request, BAD_REQUEST, "Malformed request body",
        "Check how the body is chunked, and send as many bytes as were declared.";
    MissingHost "missing-host" Request, BAD_REQUEST, "Missing or malformed Host",
        "Send exactly one valid Host header (or :authority on HTTP/2).";
    HeadTooLarge "head-too-large" Request, REQUEST_HEADER_FIELDS_TOO_LARGE, "Request head too large",
        "Send fewer or shorter header fields, or a shorter target.";
    HeadTimeout "head-timeout" Request, REQUEST_TIMEOUT, "Request head took too long",
        "Send the whole request head without pausing.";
    BodyTimeout "body-timeout" Request, REQUEST_TIMEOUT, "Request body took too long",
        "Keep sending; the gateway gives up on a body that pauses for too long.";
    VersionNotSupported "version-not-supported" Request, HTTP_VERSION_NOT_SUPPORTED,
        "HTTP version not supported", "Use HTTP/1.0, HTTP/1.1 or HTTP/2.";
    ExpectationFailed "expectation-failed" Request, EXPECTATION_FAILED, "Unknown expectation",
        "The only expectation the gateway knows is 100-continue.";
    ConnectRefused "connect-refused" Request, METHOD_NOT_ALLOWED, "CONNECT is not offered",
        "This is a gateway to one service, not a forward proxy.";
    LoopDetected "loop-detected" Request, LOOP_DETECTED, "Forwarding loop",
        "The request came back to this gateway: check where the upstream addresses point.";
    NotFound "not-found" Gateway, NOT_FOUND, "No such gateway resource",
        "Paths below /.seaworthy/ belong to the gateway; this one has nothing there.";
    ClientUnidentified "client-unidentified" Gateway, UNAUTHORIZED, "Say who you are",
        "Send the token, key or cookie that your other requests carry: what is shown here is the client's own alone.";
    HostNotAllowed "host-not-allowed" Protection("host_allowlist"), MISDIRECTED_REQUEST,
        "Host not served here", "Use one of the host names that this service is published under.";
    IpDenied "ip-denied" Protection("ip_filter"), FORBIDDEN, "Address not allowed",
        "Requests from this address are not accepted; ask the operator for access.";
    TooManyHeaders "too-many-headers" Protection("header_limit"), REQUEST_HEADER_FIELDS_TOO_LARGE,
        "Too many header fields", "Send fewer or shorter header fields; large cookies are the usual cause.";
    CorsOriginDenied "cors-origin-denied" Protection("cors"), FORBIDDEN, "Origin not allowed",
        "Call from an origin that the operator has listed.";
    CorsMethodDenied "cors-method-denied" Protection("cors"), FORBIDDEN,
        "Method not allowed across origins", "Use a method that the operator has listed for other origins.";
    CorsHeaderDenied "cors-header-denied" Protection("cors"), FORBIDDEN,
        "Header not allowed across origins", "Leave out header fields that the operator has not listed for other origins.";
    CsrfCrossSite "csrf-cross-site" Protection("csrf"), FORBIDDEN, "Cross-site request refused",
        "Make this request from the service's own pages.";
    CsrfTokenMissing "csrf-token-missing" Protection("csrf"), FORBIDDEN, "CSRF token missing",
        "Fetch a token from /.seaworthy/csrf and send it in the named header.";
    CsrfTokenInvalid "csrf-token-invalid" Protection("csrf"), FORBIDDEN, "CSRF token not valid",
        "Fetch a fresh token from /.seaworthy/csrf with the same session and try again.";
    CsrfTokenExpired "csrf-token-expired" Protection("csrf"), FORBIDDEN, "CSRF token expired",
        "Fetch a fresh token from /.seaworthy/csrf and try again.";
    RateLimited "rate-limited" Protection("rate_limit"), TOO_MANY_REQUESTS, "Too many requests",
        "Wait for as long as Retry-After says, then go on more slowly.";
    BodyTooLarge "body-too-large" Protection("body_limit"), PAYLOAD_TOO_LARGE, "Request body too large",
        "Send a smaller body, or send it in parts.";
    AccessCredentialsMissing "access-credentials-missing" Protection("access"), UNAUTHORIZED,
        "Credentials missing", "Send a bearer token or an API key, as the detail says.";
    AccessTokenInvalid "access-token-invalid" Protection("access"), UNAUTHORIZED, "Token not valid",
        "Fetch a token for this service from its issuer.";
    AccessTokenExpired "access-token-expired" Protection("access"), UNAUTHORIZED, "Token expired",
        "Fetch a fresh token and try again.";
    AccessKeyUnknown "access-key-unknown" Protection("access"), UNAUTHORIZED, "API key not valid",
        "Check the API key, or ask the operator for a new one.";
    AccessRoleDenied "access-role-denied" Protection("access"), FORBIDDEN, "Role not allowed",
        "Ask the operator for a role that may call this route.";
    AccessRouteUnknown "access-route-unknown" Protection("access"), FORBIDDEN, "Route open to nobody",
        "Check the method and the path; what no row of the operator's matrix allows is denied.";
    AccessTenantMismatch "access-tenant-mismatch" Protection("access"), FORBIDDEN, "Another tenant",
        "Name the tenant that your credentials are of.";
    AccessKeysUnavailable "access-keys-unavailable" Protection("access"), SERVICE_UNAVAILABLE,
        "Tokens cannot be verified yet", "Wait for as long as Retry-After says, then try again.";
    SignatureMissing "signature-missing" Protection("signature"), UNAUTHORIZED, "Signature missing",
        "Sign the delivery, and send the named header fields.";
    SignatureInvalid "signature-invalid" Protection("signature"), UNAUTHORIZED, "Signature not valid",
        "Sign the bytes of the body as they are sent, with the secret that the operator has.";
    SignatureExpired "signature-expired" Protection("signature"), UNAUTHORIZED, "Signature too old",
        "Sign each try anew, and check the clock of the sender.";
    DeliveryUnderWay "delivery-under-way" Protection("signature"), CONFLICT,
        "Delivery is being processed", "Wait for as long as Retry-After says, then try again.";
    UnreadableBody "unreadable-body" Protection("body_syntax"), BAD_REQUEST, "Body cannot be read",
        "Send what Content-Type says: well-formed JSON, form fields or multipart parts, within the named bounds.";
    AmbiguousBody "ambiguous-body" Protection("body_syntax"), BAD_REQUEST,
        "Body can be read in two ways", "Name each member once, and send nothing before or behind the value.";
    UnsupportedCoding "unsupported-coding" Protection("body_syntax"), UNSUPPORTED_MEDIA_TYPE,
        "Content-Encoding not accepted", "Send the body as it is, or with gzip or deflate, once.";
    BodyUnchecked "body-unchecked" Protection("body_syntax"), PAYLOAD_TOO_LARGE,
        "Body too large to be checked", "Send a smaller body; the bound holds for the decoded one, too.";
    ChecksOverCapacity "checks-over-capacity" Protection("body_syntax"), SERVICE_UNAVAILABLE,
        "Too many bodies at once", "Wait for as long as Retry-After says, then try again.";
    SqlInjection "sql-injection" Protection("injection"), FORBIDDEN, "Looks like SQL injection",
        "If the named field is meant to carry such text, ask the operator to allow it there.";
    CrossSiteScripting "cross-site-scripting" Protection("injection"), FORBIDDEN, "Looks like a script",
        "If the named field is meant to carry such markup, ask the operator to allow it there.";
    CoreRuleMatched "core-rule-matched" Protection("core_rule_set"), FORBIDDEN, "Looks like an attack",
        "The errors name the rules that matched; if the request is meant, ask the operator to allow for it there.";
    VocabularyMismatch "vocabulary-mismatch" Protection("vocabulary"), UNPROCESSABLE_ENTITY,
        "Value not in the vocabulary", "Send one of the values that the service knows; the errors name what was sent and what is near.";
    SchemaMismatch "schema-mismatch" Protection("request_schema"), UNPROCESSABLE_ENTITY,
        "Request not as documented", "Correct the parts that the errors name; they say what the service's schema expects there.";
    SchemaUnknownRoute "schema-unknown-route" Protection("request_schema"), NOT_FOUND,
        "Route not documented", "Check the path against the service's document.";
    SchemaUnknownMethod "schema-unknown-method" Protection("request_schema"), METHOD_NOT_ALLOWED,
        "Method not documented", "Use one of the methods in Allow.";
    SchemaUnknownContentType "schema-unknown-content-type" Protection("request_schema"), UNSUPPORTED_MEDIA_TYPE,
        "Content-Type not documented", "Send one of the media types that the detail names.";
    RequestTimeout "request-timeout" Protection("request_timeout"), GATEWAY_TIMEOUT,
        "The service took too long", "Try again later; ask for less at once.";
    OverCapacity "over-capacity" Protection("concurrency_limit"), SERVICE_UNAVAILABLE,
        "The service is at capacity", "Wait for as long as Retry-After says, then try again.";
    TenantOverCapacity "tenant-over-capacity" Protection("concurrency_limit"), SERVICE_UNAVAILABLE,
        "Too many requests of this tenant at once", "Send fewer requests at the same time.";
    UpstreamUnavailable "upstream-unavailable" Upstream, SERVICE_UNAVAILABLE,
        "The service is unavailable", "Wait for as long as Retry-After says, then try again.";
    UpstreamConnectFailed "upstream-connect-failed" Upstream, BAD_GATEWAY,
        "The service could not be reached", "Try again shortly.";
    UpstreamReset "upstream-reset" Upstream, BAD_GATEWAY, "The service broke off",
        "Try again if the request is safe to repeat.";
    UpstreamMalformed "upstream-malformed" Upstream, BAD_GATEWAY, "The service answered nonsense",
        "Nothing a client can do; the operator finds the cause in the log under the request's id.";
}

impl Code {
    /// Every code, in the order of the manual.
    pub fn all() -> &'static [Entry] {
        CATALOGUE
    }

    pub fn entry(self) -> &'static Entry {
        &CATALOGUE[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.entry().name
    }

    pub fn status(self) -> StatusCode {
        self.entry().status
    }

    pub fn from_name(name: &str) -> Option<Self> {
        CATALOGUE.iter().find(|entry| entry.name == name).map(|entry| entry.code)
    }
}

/// One refusal or failure, before it is worded for a particular request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub code: Code,
    /// For the client: one sentence, no secret, nothing of the insides.
    pub detail: Cow<'static, str>,
    /// For the log alone.
    pub internal: Cow<'static, str>,
    /// Sent as `Retry-After`, rounded up to whole seconds.
    pub retry_after: Option<Duration>,
    /// What its status needs beside: `WWW-Authenticate` with a 401 (RFC 9110, 11.6.1), `Allow` with
    /// a 405 (15.5.6).
    pub header: Option<Box<(HeaderName, HeaderValue)>>,
    /// The parts of the request that are at fault, where a check can name them.
    pub errors: Vec<FieldError>,
}

/// One fault of a request, for the problem's `errors` member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where: `header:<name>`, `query:<name>`, or a JSON Pointer into the body.
    pub at: String,
    /// The rule of a schema that it breaks: `maxLength`, `required`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub keyword: Cow<'static, str>,
    pub detail: String,
}

impl FieldError {
    pub fn new(at: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { at: at.into(), keyword: Cow::Borrowed(""), detail: detail.into() }
    }
}

impl Denial {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            internal: Cow::Borrowed(""),
            retry_after: None,
            header: None,
            errors: Vec::new(),
        }
    }

    /// Adds what only the log is told.
    #[must_use]
    pub fn internal(mut self, internal: impl Into<Cow<'static, str>>) -> Self {
        self.internal = internal.into();
        self
    }

    #[must_use]
    pub fn challenge(mut self, challenge: &'static str) -> Self {
        self.header = Some(Box::new((WWW_AUTHENTICATE, HeaderValue::from_static(challenge))));
        self
    }

    /// Names the methods that there are, with commas between.
    #[must_use]
    pub fn allow(mut self, methods: &str) -> Self {
        self.header = HeaderValue::from_str(methods).ok().map(|methods| Box::new((ALLOW, methods)));
        self
    }

    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// `Retry-After` in whole seconds, rounded up, at least 1.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after.map(|wait| (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
    }
}

/// The body of `application/problem+json`.
#[derive(Debug, Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: String,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
}

/// Which of the two wordings a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendering {
    /// `application/problem+json`, for programs.
    Json,
    /// `text/html`, for a browser that navigates.
    Html,
}

impl Rendering {
    /// HTML only where a browser is navigating; every program gets JSON.
    pub fn for_request(headers: &http::HeaderMap) -> Self {
        const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
        if let Some(mode) = headers.get(SEC_FETCH_MODE) {
            return if mode == "navigate" { Self::Html } else { Self::Json };
        }
        let accept = headers.get(http::header::ACCEPT).map(HeaderValue::as_bytes);
        match accept {
            Some(accept) if accept.starts_with(b"text/html") => Self::Html,
            _ => Self::Json,
        }
    }

    /// The type of what is no problem.
    pub const fn page_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Html => "text/html; charset=utf-8",
        }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/problem+json",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

/// Words `denial` for the request `request_id` in the given form.
pub fn render(denial: &Denial, request_id: &str, rendering: Rendering) -> Vec<u8> {
    let entry = denial.code.entry();
    let detail = if denial.detail.is_empty() { entry.title } else { &denial.detail };
    match rendering {
        Rendering::Json => {
            let body = Body {
                r#type: format!("{TYPE_BASE}{}", entry.name),
                title: entry.title,
                status: entry.status.as_u16(),
                detail,
                instance: format!("urn:seaworthy:request:{request_id}"),
                code: entry.name,
                request_id,
                errors: &denial.errors,
            };
            serde_json::to_vec(&body).expect("strings and numbers always serialise")
        }
        Rendering::Html => page(
            entry.title,
            &format!(
                "<p>{}</p><p>{}</p><p class=\"id\">Code {}, request {}</p>",
                escape(detail),
                escape(entry.remedy),
                entry.name,
                escape(request_id)
            ),
        )
        .into_bytes(),
    }
}

/// The page that a problem's `type` leads to.
pub fn explain(entry: &Entry) -> String {
    page(
        entry.title,
        &format!(
            "<p>Code <code>{}</code>, status {}, raised by {}.</p><p>{}</p>",
            entry.name,
            entry.status.as_u16(),
            escape(&entry.domain.to_string()),
            escape(entry.remedy)
        ),
    )
}

/// A page of the gateway's own: `title` is text, `inner` is HTML.
pub fn page(title: &str, inner: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:clamp(1rem,5vh,4rem) auto;\
         padding:0 1rem;color-scheme:light dark}}.id{{opacity:.7;font-size:.85rem;\
         overflow-wrap:anywhere}}</style><h1>{title}</h1>{inner}</html>\n",
        title = escape(title),
    )
}

/// Makes `text` safe inside HTML text and double-quoted attributes.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_catalogue_is_in_order_unique_and_worded() {
        let mut names = HashSet::new();
        for (index, entry) in Code::all().iter().enumerate() {
            assert_eq!(entry.code as usize, index, "{}", entry.name);
            assert!(names.insert(entry.name), "{} is there twice", entry.name);
            assert_eq!(Code::from_name(entry.name), Some(entry.code));
            assert!(entry.status.is_client_error() || entry.status.is_server_error());
            assert!(entry.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
            assert!(entry.remedy.ends_with('.') && !entry.title.ends_with('.'), "{}", entry.name);
        }
    }

    #[test]
    fn json_has_the_members_of_rfc_9457_and_ours() {
        let denial = Denial::new(Code::RateLimited, "100 requests a minute are allowed")
            .internal("bucket 7")
            .retry_after(Duration::from_millis(1200));
        let body: serde_json::Value =
            serde_json::from_slice(&render(&denial, "abc", Rendering::Json)).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "/.seaworthy/problems/rate-limited",
                "title": "Too many requests",
                "status": 429,
                "detail": "100 requests a minute are allowed",
                "instance": "urn:seaworthy:request:abc",
                "code": "rate-limited",
                "request_id": "abc",
            })
        );
        assert_eq!(denial.retry_after_secs(), Some(2));
    }

    #[test]
    fn html_escapes_what_came_from_outside() {
        let denial = Denial::new(Code::NotFound, "<script>alert(\"1\")</script>");
        let page = String::from_utf8(render(&denial, "a'b", Rendering::Html)).unwrap();
        assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"), "{page}");
        assert!(page.contains("Code not-found, request a&#39;b") && !page.contains("<script>"));
    }

    #[test]
    fn only_a_navigating_browser_reads_html() {
        let cases: [(&[(&str, &str)], Rendering); 5] = [
            (&[("sec-fetch-mode", "navigate"), ("accept", "text/html,*/*")], Rendering::Html),
            (&[("sec-fetch-mode", "cors"), ("accept", "text/html")], Rendering::Json),
            (&[("accept", "text/html,application/xhtml+xml")], Rendering::Html),
            (&[("accept", "*/*")], Rendering::Json),
            (&[], Rendering::Json),
        ];
        for (fields, want) in cases {
            let headers = fields
                .iter()
                .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap()))
                .collect();
            assert_eq!(Rendering::for_request(&headers), want, "{fields:?}");
        }
    }
}
