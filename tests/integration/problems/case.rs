//! How each code of the catalogue is fired.

use std::ops::RangeInclusive;

/// The installation's key of every gateway here, for [`EXPIRED`].
pub(super) const KEY: &str = "abababababababababababababababababababababababababababababababab";

/// A CSRF token that a gateway with [`KEY`] issued to the session `s1` in June 2025. A token
/// lives for a minute at least, and no test waits that long.
pub(super) const EXPIRED: &str = "0100000000684ee180000102030405060708090a0b0c0d0e0f\
     9cf5586cf030b7f92aba11509822ed52dafb7eb98918eb32f5f5b756e7c32519";

/// One code: what fires it, and what comes back beside the problem.
pub(super) struct Case {
    pub(super) code: &'static str,
    pub(super) config: &'static str,
    pub(super) service: Service,
    pub(super) before: Before,
    /// The bytes of the request; `LEARNED` stands for what [`Before`] has found out.
    pub(super) sent: String,
    /// Whether the gateway closes the connection behind the answer.
    pub(super) closes: bool,
    pub(super) reaches: Reaches,
    pub(super) retry_after_s: Option<RangeInclusive<u64>>,
    /// Where the problem's `errors` point; empty where it has none.
    pub(super) errors: &'static [&'static str],
}

/// What is behind the gateway.
#[derive(Clone, Copy)]
pub(super) enum Service {
    Answers,
    /// Takes requests and never answers.
    Silent,
    Resets,
    /// Answers what is not HTTP.
    Nonsense,
    /// A port where nothing listens.
    Gone,
}

/// What happens before the request.
#[derive(Clone, Copy)]
pub(super) enum Before {
    Nothing,
    /// This request is sent and answered.
    Answered(&'static str),
    /// This request is sent, and is under way all the time.
    Held(&'static str),
    /// A request shows what the gateway calls itself in `Via`.
    LearnVia,
    /// A CSRF token is fetched with this cookie.
    LearnToken(&'static str),
}

/// What the service hears of the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaches {
    Nothing,
    /// Its front, perhaps: it was on its way when it went wrong.
    Part,
    Whole,
}

fn case(code: &'static str, config: &'static str, sent: impl Into<String>) -> Case {
    Case {
        code,
        config,
        service: Service::Answers,
        before: Before::Nothing,
        sent: sent.into(),
        closes: false,
        reaches: Reaches::Nothing,
        retry_after_s: None,
        errors: &[],
    }
}

/// The request itself is at fault, so the connection is not used again.
fn refused(code: &'static str, sent: impl Into<String>) -> Case {
    Case { closes: true, ..case(code, "", sent) }
}

/// The service is at fault.
fn failed(code: &'static str, service: Service, config: &'static str) -> Case {
    let reaches = if matches!(service, Service::Gone) { Reaches::Nothing } else { Reaches::Whole };
    Case { service, reaches, ..case(code, config, GET) }
}

pub(super) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

const CORS: &str = r#"
[protect.cors]
mode = "enforce"
origins = ["https://desk.example"]
methods = ["GET"]
"#;

const CSRF_TOKEN: &str = "[protect.csrf]\nmode = \"enforce\"\nstrategy = \"token\"";

const SYNTAX: &str = "[protect.body_syntax]\nmode = \"enforce\"";

const OPENAPI: &str = "[protect.request_schema]\nmode = \"enforce\"\nopenapi = \"env:OPENAPI\"";

fn to_notes(kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /notes HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

const STAGES: &str = r#"
[protect.vocabulary]
mode = "enforce"
fields = [{ route = "POST /", at = "/stages", vocabulary = "stages", shape = "list" }]
"#;

const INJECTION: &str = "[protect.injection]\nmode = \"enforce\"";

const GITHUB: &str = "[protect.signature]\nmode = \"enforce\"\nformat = \"github\"\nsecrets = [\"env:WEBHOOK_SECRET\"]";

const STRIPE: &str = "[protect.signature]\nmode = \"enforce\"\nformat = \"stripe\"\nsecrets = [\"env:WEBHOOK_SECRET\"]";

/// A delivery with the right signature of its body.
const SIGNED: &str = concat!(
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n",
    "X-Hub-Signature-256: sha256=",
    "3fc2dd8ed762d13f089335fbe5ec3b0a49d4d482f0d1a468a3601f672649b062\r\n\r\n{}",
);

/// Both bounds are one body of a kilobyte, for all clients together.
const SYNTAX_OF_LITTLE: &str = r#"
[listen]
workers = 1
checked_body_max = "1KiB"
checked_bodies_max = "1KiB"
[protect.body_syntax]
mode = "enforce"
"#;

/// A JSON body with the further `fields`.
fn json(fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A POST of the session `s1` with the further `fields`.
fn post_of_s1(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nCookie: session=s1\r\n{fields}Content-Length: 0\r\n\r\n")
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = of_requests();
    cases.extend(of_protections());
    cases.extend(of_access());
    cases.extend(of_bodies());
    cases.extend(of_services());
    cases
}

fn of_requests() -> Vec<Case> {
    let long = "x".repeat(5000);
    vec![
        refused("malformed-request", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        refused(
            "ambiguous-framing",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        refused("malformed-target", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case {
            reaches: Reaches::Part,
            ..refused(
                "malformed-body",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nno size\r\n",
            )
        },
        refused("missing-host", "GET / HTTP/1.1\r\n\r\n"),
        Case {
            config: "[listen]\nhead_bytes_max = \"4KiB\"",
            ..refused(
                "head-too-large",
                format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"),
            )
        },
        Case {
            config: "[listen]\nhead_timeout = \"200ms\"",
            ..refused("head-timeout", "GET / HTTP/1.1\r\nHost: a\r\nX-Slow")
        },
        Case {
            config: "[listen]\nbody_timeout = \"200ms\"",
            reaches: Reaches::Part,
            ..refused("body-timeout", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhal")
        },
        refused("version-not-supported", "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        refused("expectation-failed", "GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n"),
        refused("connect-refused", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        Case {
            before: Before::LearnVia,
            ..refused(
                "loop-detected",
                "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 front, LEARNED\r\n\r\n",
            )
        },
        case("not-found", "", "GET /.seaworthy/none HTTP/1.1\r\nHost: a\r\n\r\n"),
        case("client-unidentified", "", "GET /.seaworthy/me HTTP/1.1\r\nHost: a\r\n\r\n"),
    ]
}

fn of_protections() -> Vec<Case> {
    let long = "x".repeat(2000);
    vec![
        case(
            "host-not-allowed",
            "[protect.host_allowlist]\nmode = \"enforce\"\nhosts = [\"shop.example\"]",
            "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        ),
        case("ip-denied", "[protect.ip_filter]\nmode = \"enforce\"\ndeny = [\"127.0.0.0/8\"]", GET),
        Case {
            errors: &["header:x-long"],
            ..case(
                "too-many-headers",
                "[protect.header_limit]\nmode = \"enforce\"\nbytes_max = \"1KiB\"",
                format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"),
            )
        },
        case(
            "cors-origin-denied",
            CORS,
            "GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\r\n",
        ),
        case(
            "cors-method-denied",
            CORS,
            "DELETE / HTTP/1.1\r\nHost: a\r\nOrigin: https://desk.example\r\n\r\n",
        ),
        Case {
            errors: &["header:access-control-request-headers"],
            ..case(
                "cors-header-denied",
                CORS,
                "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://desk.example\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: x-odd\r\n\r\n",
            )
        },
        case(
            "csrf-cross-site",
            "[protect.csrf]\nmode = \"enforce\"",
            post_of_s1("Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n"),
        ),
        Case {
            errors: &["header:x-csrf-token"],
            ..case("csrf-token-missing", CSRF_TOKEN, post_of_s1(""))
        },
        Case {
            before: Before::LearnToken("session=another"),
            errors: &["header:x-csrf-token"],
            ..case("csrf-token-invalid", CSRF_TOKEN, post_of_s1("X-CSRF-Token: LEARNED\r\n"))
        },
        Case {
            errors: &["header:x-csrf-token"],
            ..case(
                "csrf-token-expired",
                CSRF_TOKEN,
                post_of_s1(&format!("X-CSRF-Token: {EXPIRED}\r\n")),
            )
        },
        Case {
            before: Before::Answered(GET),
            // A little of the hour has gone when the second request comes.
            retry_after_s: Some(3000..=3600),
            ..case(
                "rate-limited",
                "[protect.rate_limit]\nmode = \"enforce\"\nlimits = [{ per = \"ip\", rate = \"1/hour\", burst = 1 }]",
                GET,
            )
        },
        Case {
            // The body is on its way and will not be waited for.
            closes: true,
            ..case(
                "body-too-large",
                "[protect.body_limit]\nmode = \"enforce\"\nmax = \"1MiB\"",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nx",
            )
        },
        Case {
            before: Before::Held(GET),
            service: Service::Silent,
            retry_after_s: Some(7..=7),
            ..case(
                "over-capacity",
                "[protect.concurrency_limit]\nmode = \"enforce\"\nservice_max = 1\nretry_after = \"7s\"",
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            )
        },
        Case {
            before: Before::Held("GET / HTTP/1.1\r\nHost: a\r\nX-Tenant-Id: acme\r\n\r\n"),
            service: Service::Silent,
            retry_after_s: Some(7..=7),
            ..case(
                "tenant-over-capacity",
                "[protect.concurrency_limit]\nmode = \"enforce\"\ntenant_max = 1\nretry_after = \"7s\"",
                "GET / HTTP/1.1\r\nHost: a\r\nX-Tenant-Id: acme\r\n\r\n",
            )
        },
    ]
}

const ACCESS: &str = r#"
[protect.access]
mode = "enforce"
matrix = "env:AUTHZ"
api_keys = { keys = "env:API_KEYS" }
jwt = { secret = "env:WEBHOOK_SECRET" }
"#;

/// A request with the key of an agent.
fn of_agent(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\nX-Api-Key: sw_agent\r\n{fields}\r\n")
}

fn of_access() -> Vec<Case> {
    let with = |field: &str| format!("GET /a HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    // A token of 2001, signed with the secret.
    let expired =
        "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEwMDAwMDAwMDB9.8EFaAvXyuVeEYKAqf1ak-0U2SBFhYWUycS1OfePLMy0";
    vec![
        case("access-credentials-missing", ACCESS, with("X: y")),
        Case {
            errors: &["header:authorization"],
            ..case("access-token-invalid", ACCESS, with("Authorization: Bearer a.b.c"))
        },
        Case {
            errors: &["header:authorization"],
            ..case(
                "access-token-expired",
                ACCESS,
                with(&format!("Authorization: Bearer {expired}")),
            )
        },
        Case {
            errors: &["header:x-api-key"],
            ..case("access-key-unknown", ACCESS, with("X-Api-Key: sw_other"))
        },
        case("access-role-denied", ACCESS, of_agent("DELETE /a", "X-Tenant-Id: acme\r\n")),
        case("access-route-unknown", ACCESS, of_agent("PUT /a", "X-Tenant-Id: acme\r\n")),
        case("access-tenant-mismatch", ACCESS, of_agent("GET /a", "X-Tenant-Id: globex\r\n")),
        Case {
            retry_after_s: Some(5..=5),
            ..case(
                "access-keys-unavailable",
                // Nothing listens there.
                "[protect.access]\nmode = \"enforce\"\njwt = { jwks = \"http://127.0.0.1:9/jwks.json\" }",
                with("Authorization: Bearer a.b.c"),
            )
        },
    ]
}

fn of_bodies() -> Vec<Case> {
    vec![
        Case {
            errors: &["header:x-hub-signature-256"],
            ..case("signature-missing", GITHUB, json("", "{}"))
        },
        Case {
            errors: &["header:x-hub-signature-256"],
            ..case("signature-invalid", GITHUB, json("X-Hub-Signature-256: sha256=00\r\n", "{}"))
        },
        Case {
            errors: &["header:stripe-signature"],
            ..case("signature-expired", STRIPE, json("Stripe-Signature: t=1,v1=00\r\n", "{}"))
        },
        Case {
            before: Before::Held(SIGNED),
            service: Service::Silent,
            retry_after_s: Some(1..=1),
            ..case("delivery-under-way", GITHUB, SIGNED)
        },
        case("unreadable-body", SYNTAX, json("", "{a: 1}")),
        Case {
            errors: &["/a/0/b"],
            ..case("ambiguous-body", SYNTAX, json("", "{\"a\": [{\"b\": 1, \"b\": 2}]}"))
        },
        Case {
            errors: &["query:id"],
            ..case(
                "sql-injection",
                INJECTION,
                "GET /?id=1%20UNION%20SELECT%20password%20FROM%20users HTTP/1.1\r\nHost: a\r\n\r\n",
            )
        },
        Case {
            errors: &["/comment"],
            ..case(
                "cross-site-scripting",
                INJECTION,
                json("", "{\"comment\": \"<script>alert(1)\"}"),
            )
        },
        Case {
            errors: &["rule:100", "rule:101"],
            ..case(
                "core-rule-matched",
                "[protect.core_rule_set]\nmode = \"enforce\"\ncrs = [\"env:CRS\"]",
                "GET /?q=drop%20table HTTP/1.1\r\nHost: a\r\n\r\n",
            )
        },
        Case {
            errors: &["/stages/1"],
            ..case("vocabulary-mismatch", STAGES, json("", "{\"stages\": [\"Seed\", \"sead\"]}"))
        },
        Case {
            errors: &["/text"],
            ..case("schema-mismatch", OPENAPI, to_notes("application/json", "{\"text\": \"long\"}"))
        },
        case("schema-unknown-route", OPENAPI, "GET /other HTTP/1.1\r\nHost: a\r\n\r\n"),
        case("schema-unknown-method", OPENAPI, "DELETE /notes HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case {
            errors: &["header:content-type"],
            ..case("schema-unknown-content-type", OPENAPI, to_notes("text/plain", "any"))
        },
        case("unsupported-coding", SYNTAX, json("Content-Encoding: br\r\n", "{}")),
        Case {
            // The body is on its way and will not be waited for.
            closes: true,
            ..case(
                "body-unchecked",
                SYNTAX,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 10000000\r\n\r\n{",
            )
        },
        Case {
            before: Before::Held(SIX_HUNDRED),
            service: Service::Silent,
            retry_after_s: Some(1..=1),
            ..case("checks-over-capacity", SYNTAX_OF_LITTLE, SIX_HUNDRED)
        },
    ]
}

/// A request whose body has 600 bytes.
const SIX_HUNDRED: &str = concat!(
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n",
    "[                                                                                                  ",
    "                                                                                                    ",
    "                                                                                                    ",
    "                                                                                                    ",
    "                                                                                                    ",
    "                                                                                                   ]",
    " ",
);

fn of_services() -> Vec<Case> {
    vec![
        failed(
            "request-timeout",
            Service::Silent,
            "[protect.request_timeout]\nmode = \"enforce\"\nmax = \"200ms\"",
        ),
        Case {
            before: Before::Answered(GET),
            retry_after_s: Some(1..=1),
            ..failed(
                "upstream-unavailable",
                Service::Gone,
                "[service.eject]\nfailures = 1\nfor = \"1h\"\nfor_max = \"1h\"",
            )
        },
        failed("upstream-connect-failed", Service::Gone, ""),
        failed("upstream-reset", Service::Resets, ""),
        failed("upstream-malformed", Service::Nonsense, ""),
    ]
}
