//! Refuses requests that another site makes with the user's session.
//!
//! 1. POST, PUT, PATCH and DELETE are judged where they carry the session cookie. A request without
//!    it carries nobody's session, and is not this protection's business.
//! 2. Strategy `origin` (the default) asks what the browser says of itself. `Sec-Fetch-Site` of
//!    `same-origin` or `none` (the user typed it) passes; any other passes from a trusted origin
//!    alone. Browsers that do not send it are judged by `Origin` against scheme and host.
//! 3. A request with neither passes: every browser has sent one of the two with these methods since
//!    2020, so it is a program with a cookie jar, and nobody can trick a program into a click.
//!    (Go's `http.CrossOriginProtection` decides the same way.)
//! 4. `Origin: null` is denied: any page can make itself one.
//! 5. Strategy `token` asks for a token in a header field, which no other site can set. It is signed
//!    and bound to the session cookie's value, so that a token planted by a neighbouring subdomain
//!    is worth nothing, and so is every token once the session changes.
//! 6. `GET /.seaworthy/csrf` hands out a fresh token, in JSON and in a cookie that scripts can read.
//!    Older ones stay valid until they expire. For that reason the header is not compared with the
//!    cookie, as an unsigned double submit would have to: a second tab has moved the cookie on, and
//!    the first tab's token is as good as ever.
//! 7. A form that the browser submits without script cannot set the field: it needs `origin`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};

use super::field::{CookieName, FieldName};
use super::origin::{Origin, is_own, scheme_hint};
use super::quoted::Quoted;
use crate::client::cookie;
use crate::mode::ModeSetting;
use crate::problem::{Code, Denial, FieldError};
use crate::protection::{Answer, Effects, Outcome, Protection, Request, Scheme, Served};
use crate::quantity::Period;
use crate::registry::{BuildContext, BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "csrf",
    summary: "Refuses requests that another site makes with the user's session.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a partner's page may rightly post to the service, and has to be listed",
    codes: &[
        Code::CsrfCrossSite,
        Code::CsrfTokenMissing,
        Code::CsrfTokenInvalid,
        Code::CsrfTokenExpired,
    ],
    mode: |protect| protect.csrf.mode,
    settings: |protect| settings_of(&protect.csrf),
    build: |protect, context| Ok(Arc::new(Csrf::build(&protect.csrf, context)?)),
    ..Entry::PLAIN
};

/// `[protect.csrf]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// `origin` needs nothing of the service's pages. `token` protects the users of browsers that
    /// are older than 2020 too, and its pages have to fetch and send tokens.
    pub strategy: Strategy,
    /// The cookie that carries the session: the one by which `client.identity` knows a user.
    pub cookie: CookieName,
    /// Other origins whose pages may post with the user's session. Empty by default.
    pub trusted_origins: Vec<Origin>,
    /// The field that carries the token. This name is what many frameworks use.
    pub header: FieldName,
    /// The cookie in which scripts find the token.
    pub token_cookie: CookieName,
    /// How long a token is valid. 12h outlasts a working day in one open tab.
    pub token_ttl: Period,
}

impl Default for Config {
    fn default() -> Self {
        let cookie = |name: &str| name.parse().expect("a cookie's name");
        Self {
            mode: ENTRY.default_mode,
            strategy: Strategy::Origin,
            cookie: cookie("session"),
            trusted_origins: Vec::new(),
            header: FieldName::from_static("x-csrf-token"),
            token_cookie: cookie("csrf"),
            token_ttl: Period::secs(12 * 3600),
        }
    }
}

/// By what a request proves that it was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    Origin,
    Token,
}

/// Origins of one rule. All of them are looked at for a request, so there are not too many.
const ORIGINS_MAX: usize = 256;

/// Shorter, a token expires while a form is filled in; longer, a stolen one is worth having.
const TTL_S: std::ops::RangeInclusive<u64> = 60..=30 * 86_400;

/// The token page, below `/.seaworthy/`.
const TOKEN_PATH: &str = "csrf";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

struct Csrf {
    strategy: Strategy,
    cookie: CookieName,
    trusted_origins: Vec<Origin>,
    header: HeaderName,
    token_cookie: CookieName,
    ttl_s: u64,
    mint: Mint,
}

impl Csrf {
    fn build(config: &Config, context: &BuildContext<'_>) -> Result<Self, BuildError> {
        let fault = |key, message: &str| Err(BuildError { key, message: message.to_owned() });
        let ttl_s = config.token_ttl.as_duration().as_secs();
        if !TTL_S.contains(&ttl_s) {
            return fault("token_ttl", "expected 1m to 30d");
        }
        if config.trusted_origins.len() > ORIGINS_MAX {
            return fault("trusted_origins", &format!("at most {ORIGINS_MAX} origins a rule"));
        }
        if config.token_cookie == config.cookie {
            return fault("token_cookie", "is the session's cookie, which it would overwrite");
        }
        Ok(Self {
            strategy: config.strategy,
            cookie: config.cookie.clone(),
            trusted_origins: config.trusted_origins.clone(),
            header: config.header.0.clone(),
            token_cookie: config.token_cookie.clone(),
            ttl_s,
            mint: Mint::new(context),
        })
    }

    fn session<'a>(&self, request: &Request<'a>) -> Option<&'a [u8]> {
        cookie(request.headers, self.cookie.as_str())
    }
}

impl Protection for Csrf {
    fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
        let changes =
            matches!(*request.method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
        let Some(session) = self.session(request).filter(|_| changes) else {
            return Outcome::NotApplicable;
        };
        let denial = match self.strategy {
            Strategy::Origin => self.judge_origin(request),
            Strategy::Token => self.judge_token(request, session),
        };
        denial.map_or(Outcome::Allow, Outcome::Deny)
    }

    fn serve(&self, path: &str, request: &Request<'_>, _body: &[u8]) -> Option<Served> {
        if path != TOKEN_PATH || !matches!(*request.method, Method::GET | Method::HEAD) {
            return None;
        }
        Some(Served { answer: self.token_page(request), would_deny: 0 })
    }
}

impl Csrf {
    fn judge_origin(&self, request: &Request<'_>) -> Option<Denial> {
        let origin = request.headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
        let trusted = origin.is_some_and(|origin| {
            self.trusted_origins.iter().any(|trusted| trusted.as_str().as_bytes() == origin)
        });
        let passes = match request.headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            Some(b"same-origin" | b"none") => true,
            Some(_) => trusted,
            None => origin.is_none_or(|origin| trusted || is_own(origin, request)),
        };
        (!passes).then(|| self.cross_site(request, origin))
    }

    fn judge_token(&self, request: &Request<'_>, session: &[u8]) -> Option<Denial> {
        let Some(token) = request.headers.get(&self.header) else {
            return Some(self.token_denial(TokenFault::Missing));
        };
        let checked = self.mint.check(token.as_bytes(), session, request.unix_s, self.ttl_s);
        checked.err().map(|fault| self.token_denial(fault))
    }

    /// A request without a session needs no token, and is told so rather than refused: a page can
    /// ask before anyone has logged in.
    fn token_page(&self, request: &Request<'_>) -> Answer {
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let token = self.session(request).map(|session| self.mint.issue(session, request));
        if let Some(token) = &token {
            let secure = match request.scheme {
                Scheme::Http => "",
                Scheme::Https => "; Secure",
            };
            let (name, ttl_s) = (self.token_cookie.as_str(), self.ttl_s);
            let text = format!("{name}={token}; Path=/; Max-Age={ttl_s}; SameSite=Strict{secure}");
            let value = HeaderValue::try_from(text).expect("a cookie's name, hex and numbers");
            headers.push((header::SET_COOKIE, value));
        }
        let expires_in_s = token.as_ref().map(|_| self.ttl_s);
        let body = serde_json::json!({
            "token": token,
            "header": self.header.as_str(),
            "expires_in_s": expires_in_s,
        });
        Answer { status: StatusCode::OK, headers, body: Bytes::from(body.to_string()) }
    }
}

/// Issues tokens and checks them. A token is the hex form of
///
/// ```text
/// version (1 byte) ‖ issued_at (8) ‖ nonce (16) ‖ HMAC-SHA256(key, all before ‖ SHA-256(session))
/// ```
///
/// The key comes from the installation's, so gateways that share it take each other's tokens, and
/// a restart voids none.
struct Mint {
    key: hmac::Key,
    nonce_key: hmac::Key,
}

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 16;
const CLAIMS_BYTES: usize = 1 + 8 + NONCE_BYTES;
const TAG_BYTES: usize = 32;
const TOKEN_BYTES: usize = CLAIMS_BYTES + TAG_BYTES;

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenFault {
    Missing,
    /// Not ours, or not of this session.
    Invalid,
    Expired,
}

impl Mint {
    fn new(context: &BuildContext<'_>) -> Self {
        let key = |label| hmac::Key::new(hmac::HMAC_SHA256, &context.key.derive(label));
        Self { key: key("csrf token"), nonce_key: key("csrf nonce") }
    }

    /// The nonce makes each token another one, so that a compressed response that contains one
    /// gives nothing away. It need not be random, only different each time: it is a keyed hash of
    /// the nanosecond and the caller.
    fn issue(&self, session: &[u8], request: &Request<'_>) -> String {
        let mut nonce = hmac::Context::with_key(&self.nonce_key);
        nonce.update(&request.now.as_nanos().to_be_bytes());
        nonce.update(&request.unix_s.to_be_bytes());
        nonce.update(session);
        let nonce = nonce.sign();

        let mut token = [0; TOKEN_BYTES];
        token[0] = VERSION;
        token[1..9].copy_from_slice(&request.unix_s.to_be_bytes());
        token[9..CLAIMS_BYTES].copy_from_slice(&nonce.as_ref()[..NONCE_BYTES]);
        let tag = hmac::sign(&self.key, &bound(&token[..CLAIMS_BYTES], session));
        token[CLAIMS_BYTES..].copy_from_slice(tag.as_ref());
        to_hex(&token)
    }

    /// The signature comes first, in constant time: of a token that we did not issue, nothing is
    /// said but that.
    fn check(&self, text: &[u8], session: &[u8], now_s: u64, ttl_s: u64) -> Result<(), TokenFault> {
        let token = from_hex(text).ok_or(TokenFault::Invalid)?;
        let (claims, tag) = token.split_at(CLAIMS_BYTES);
        hmac::verify(&self.key, &bound(claims, session), tag).map_err(|_| TokenFault::Invalid)?;
        if claims[0] != VERSION {
            return Err(TokenFault::Invalid);
        }
        let issued_s = u64::from_be_bytes(claims[1..9].try_into().expect("eight bytes"));
        if now_s.saturating_sub(issued_s) >= ttl_s {
            return Err(TokenFault::Expired);
        }
        Ok(())
    }
}

/// What is signed: the claims, and the session they are for. Both have a fixed length, so no two
/// pairs come to the same bytes.
fn bound(claims: &[u8], session: &[u8]) -> [u8; CLAIMS_BYTES + digest::SHA256_OUTPUT_LEN] {
    let mut signed = [0; CLAIMS_BYTES + digest::SHA256_OUTPUT_LEN];
    signed[..CLAIMS_BYTES].copy_from_slice(claims);
    signed[CLAIMS_BYTES..].copy_from_slice(digest::digest(&digest::SHA256, session).as_ref());
    signed
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("half a byte");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Lower case alone: a token has one spelling.
fn from_hex(text: &[u8]) -> Option<[u8; TOKEN_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; TOKEN_BYTES];
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != TOKEN_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

impl Csrf {
    fn cross_site(&self, request: &Request<'_>, origin: Option<&[u8]>) -> Denial {
        let site = request.headers.get(SEC_FETCH_SITE).map_or(&b""[..], HeaderValue::as_bytes);
        let shown = Quoted(origin.unwrap_or_default());
        let detail = match origin {
            Some(origin) => {
                format!("a page of {} may not do this with the user's session", Quoted(origin))
            }
            None => "a page of another site may not do this with the user's session".to_owned(),
        };
        let hint = origin.map_or("", |origin| scheme_hint(origin, request));
        let own = Quoted(request.authority.as_bytes());
        Denial::new(Code::CsrfCrossSite, detail).internal(format!(
            "origin {shown}, sec-fetch-site {}, own scheme {}, own host {own}{hint}",
            Quoted(site),
            request.scheme.as_str(),
        ))
    }

    fn token_denial(&self, fault: TokenFault) -> Denial {
        let header = self.header.as_str();
        let (code, found) = match fault {
            TokenFault::Missing => (
                Code::CsrfTokenMissing,
                format!("send a token from /.seaworthy/csrf in the header field {header}"),
            ),
            TokenFault::Invalid => (
                Code::CsrfTokenInvalid,
                format!("the token in {header} was not issued for this session"),
            ),
            TokenFault::Expired => (
                Code::CsrfTokenExpired,
                format!("the token in {header} is older than {}s", self.ttl_s),
            ),
        };
        let mut denial = Denial::new(code, found.clone());
        denial.errors = vec![FieldError::new(format!("header:{header}"), found)];
        denial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Fields, Sample, build, fault};

    const TOKEN: &str = "strategy = \"token\"\ntoken_ttl = \"1h\"";

    fn post(headers: &[(&str, &str)]) -> Sample {
        let mut all = vec![("cookie", "theme=dark; session=s1")];
        all.extend_from_slice(headers);
        Sample::new("POST", "/api/complaints", &all)
    }

    #[test]
    fn changes_with_a_session_are_judged() {
        let foreign = ("origin", "https://evil.example");
        let session = ("cookie", "session=s1");
        let cases: [(&str, Fields<'_>, &str); 10] = [
            ("POST", &[session, foreign], "csrf-cross-site"),
            ("PUT", &[session, foreign], "csrf-cross-site"),
            ("PATCH", &[session, foreign], "csrf-cross-site"),
            ("DELETE", &[session, foreign], "csrf-cross-site"),
            ("GET", &[session, foreign], "n/a"),
            ("HEAD", &[session, foreign], "n/a"),
            ("OPTIONS", &[session, foreign], "n/a"),
            ("POST", &[foreign], "n/a"),
            ("POST", &[foreign, ("cookie", "session=; xsession=1")], "n/a"),
            ("POST", &[foreign, ("authorization", "Bearer t")], "n/a"),
        ];
        for (method, headers, want) in cases {
            let verdict = Sample::new(method, "/", headers).verdict(&*build(&ENTRY, ""));
            assert_eq!(verdict, want, "{method} {headers:?}");
        }
    }

    #[test]
    fn the_browser_says_where_a_request_comes_from() {
        let csrf = build(&ENTRY, r#"trusted_origins = ["https://partner.example:443"]"#);
        let site = |value| ("sec-fetch-site", value);
        let origin = |value| ("origin", value);
        let cases: [(Fields<'_>, &str); 16] = [
            (&[site("same-origin")], "allow"),
            (&[site("none")], "allow"),
            (&[site("same-origin"), origin("https://tls.example")], "allow"),
            (&[site("same-site")], "csrf-cross-site"),
            (&[site("cross-site")], "csrf-cross-site"),
            (&[site("")], "csrf-cross-site"),
            (&[site("cross-site"), origin("http://app.example")], "csrf-cross-site"),
            (&[site("cross-site"), origin("https://partner.example")], "allow"),
            (&[site("same-site"), origin("https://partner.example:8443")], "csrf-cross-site"),
            (&[origin("http://app.example")], "allow"),
            (&[origin("https://app.example")], "csrf-cross-site"),
            (&[origin("https://partner.example")], "allow"),
            (&[origin("https://x.partner.example")], "csrf-cross-site"),
            (&[origin("null")], "csrf-cross-site"),
            (&[origin("")], "csrf-cross-site"),
            (&[], "allow"),
        ];
        for (headers, want) in cases {
            assert_eq!(post(headers).verdict(&*csrf), want, "{headers:?}");
        }
    }

    #[test]
    fn two_names_of_the_own_machine_are_two_origins() {
        let csrf = build(&ENTRY, "");
        for (origin, want) in
            [("http://localhost:3000", "allow"), ("http://127.0.0.1:3000", "csrf-cross-site")]
        {
            let sample = post(&[("origin", origin)]).at(Scheme::Http, "localhost:3000");
            assert_eq!(sample.verdict(&*csrf), want);
        }
    }

    #[test]
    fn the_operator_is_told_of_a_proxy_that_hides_tls() {
        let denial = post(&[("origin", "https://app.example")]).denial(&*build(&ENTRY, ""));
        assert_eq!(
            denial.detail,
            "a page of \"https://app.example\" may not do this with the user's session"
        );
        assert!(denial.internal.contains("client.trusted_proxies"), "{}", denial.internal);
        let other = post(&[("origin", "https://evil.example")]).denial(&*build(&ENTRY, ""));
        assert!(!other.internal.contains("trusted_proxies"), "{}", other.internal);
    }

    /// What the token page answers: the body, and the cookie where one is set.
    fn page(csrf: &dyn Protection, sample: &Sample) -> (serde_json::Value, Option<String>) {
        let served = csrf.serve(TOKEN_PATH, &sample.request(), b"").expect("the token page");
        let cookie = served.answer.headers.iter().find(|(name, _)| name == header::SET_COOKIE);
        let cookie = cookie.map(|(_, value)| value.to_str().unwrap().to_owned());
        (serde_json::from_slice(&served.answer.body).unwrap(), cookie)
    }

    fn token(csrf: &dyn Protection, cookie: &str, unix_s: u64) -> String {
        let mut sample = Sample::new("GET", "/.seaworthy/csrf", &[("cookie", cookie)]);
        sample.unix_s = unix_s;
        page(csrf, &sample).0["token"].as_str().expect("a token").to_owned()
    }

    #[test]
    fn a_token_is_good_for_its_session_until_it_expires() {
        let csrf = build(&ENTRY, TOKEN);
        let issued = 1_800_000_000;
        let good = token(&*csrf, "session=s1", issued);
        let of_another = token(&*csrf, "session=s2", issued);
        let newer = token(&*csrf, "session=s1", issued + 600);
        let mut forged = good.clone();
        forged.replace_range(..2, "02");
        let mut later = good.clone();
        later.replace_range(2..18, &format!("{:016x}", issued + 3600));
        let upper = good.to_uppercase();
        let longer = format!("{good}00");
        let beside_newer = format!("theme=dark; session=s1; csrf={newer}");
        for (name, token, cookie, age_s, want) in [
            ("fresh", Some(&good), "session=s1", 0, "allow"),
            ("at its last second", Some(&good), "session=s1", 3599, "allow"),
            ("a second later", Some(&good), "session=s1", 3600, "csrf-token-expired"),
            ("the other tab has a newer one", Some(&good), &beside_newer, 700, "allow"),
            ("the newer one", Some(&newer), &beside_newer, 700, "allow"),
            ("by a gateway whose clock is ahead", Some(&newer), "session=s1", 0, "allow"),
            ("none", None, "session=s1", 0, "csrf-token-missing"),
            ("in the cookie alone", None, &beside_newer, 0, "csrf-token-missing"),
            ("empty", Some(&String::new()), "session=s1", 0, "csrf-token-invalid"),
            ("of another session", Some(&of_another), "session=s1", 0, "csrf-token-invalid"),
            ("after the session changed", Some(&good), "session=s3", 0, "csrf-token-invalid"),
            ("of another version", Some(&forged), "session=s1", 0, "csrf-token-invalid"),
            ("made younger", Some(&later), "session=s1", 3700, "csrf-token-invalid"),
            ("in other letters", Some(&upper), "session=s1", 0, "csrf-token-invalid"),
            ("with more behind it", Some(&longer), "session=s1", 0, "csrf-token-invalid"),
            ("without a session", Some(&good), "theme=dark", 0, "n/a"),
        ] {
            let mut headers = vec![("cookie", cookie)];
            headers.extend(token.map(|token| ("x-csrf-token", token.as_str())));
            let mut sample = Sample::new("DELETE", "/api/complaints/1", &headers);
            sample.unix_s = issued + age_s;
            assert_eq!(sample.verdict(&*csrf), want, "{name}");
        }
    }

    #[test]
    fn every_byte_of_a_token_counts() {
        let csrf = build(&ENTRY, TOKEN);
        let good = token(&*csrf, "session=s1", 1_800_000_000);
        assert_eq!(good.len(), 2 * TOKEN_BYTES);
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
            let bad = String::from_utf8(bad).unwrap();
            let verdict = post(&[("x-csrf-token", &bad)]).verdict(&*csrf);
            assert_eq!(verdict, "csrf-token-invalid", "digit {at}");
        }
    }

    #[test]
    fn the_page_hands_out_a_token_in_json_and_in_a_cookie() {
        let csrf = build(&ENTRY, TOKEN);
        let mut sample = Sample::new("GET", "/.seaworthy/csrf", &[("cookie", "session=s1")]);
        let (body, cookie) = page(&*csrf, &sample);
        let token = body["token"].as_str().unwrap();
        assert_eq!(
            (&body["header"], &body["expires_in_s"]),
            (&"x-csrf-token".into(), &3600.into())
        );
        let attributes = "Path=/; Max-Age=3600; SameSite=Strict";
        assert_eq!(cookie, Some(format!("csrf={token}; {attributes}")));

        sample.scheme = Scheme::Https;
        sample.now = sample.now.after(std::time::Duration::from_nanos(1));
        let (again, cookie) = page(&*csrf, &sample);
        let renewed = again["token"].as_str().unwrap();
        assert_ne!(renewed, token, "a reload brings a fresh one");
        assert_eq!(cookie, Some(format!("csrf={renewed}; {attributes}; Secure")));
    }

    #[test]
    fn without_a_session_no_token_is_needed() {
        let (body, cookie) = page(&*build(&ENTRY, TOKEN), &Sample::new("GET", "/", &[]));
        assert_eq!(
            body,
            serde_json::json!({"token": null, "header": "x-csrf-token", "expires_in_s": null})
        );
        assert_eq!(cookie, None);
    }

    #[test]
    fn there_is_one_page_and_it_is_read() {
        let csrf = build(&ENTRY, "");
        for (method, path, there) in [
            ("GET", "csrf", true),
            ("HEAD", "csrf", true),
            ("POST", "csrf", false),
            ("GET", "csrf/", false),
            ("GET", "csp-report", false),
        ] {
            let sample = Sample::new(method, "/", &[]);
            assert_eq!(
                csrf.serve(path, &sample.request(), b"").is_some(),
                there,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for (lines, words) in [
            ("token_ttl = \"1s\"", "token_ttl: expected 1m to 30d"),
            ("token_ttl = \"60d\"", "token_ttl: expected 1m to 30d"),
            ("token_cookie = \"session\"", "token_cookie: is the session's cookie"),
            ("trusted_origins = [\"null\"]", "it has no scheme"),
            ("trusted_origins = [\"*\"]", "it has no scheme"),
            ("strategy = \"both\"", "unknown variant `both`"),
            ("cookie = \"a;b\"", "expected the name of a cookie"),
            ("header = \"\"", "expected the name of a header field"),
        ] {
            let said = fault(&ENTRY, lines);
            assert!(said.contains(words), "{said}");
        }
    }
}
