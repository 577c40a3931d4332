//! A well-behaved agent with a browser: opens the page, keeps its session cookie, and from then
//! on sends what the page's script would, with the headers that browsers add by themselves
//! (Fetch Metadata, Origin, Referer). Where the page comes with a content policy that reports,
//! its inline style is reported, as a real browser would.

use http::{HeaderMap, Method, header};
use serde_json::json;

use super::connection::{Answer, OutgoingRequest};
use super::errands::Errands;
use super::script::{Caller, Script, with_body, with_json, without_body};
use crate::random::Random;

const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// How often the page is loaded again, in percent of requests.
const RELOAD_PERCENT: u64 = 4;

pub(super) struct Browser {
    caller: Caller,
    errands: Errands,
    /// The cookie as it is sent: `session=…`.
    session: Option<String>,
    navigating: bool,
    /// Where the next request reports a violation of the page's policy to.
    violation: Option<String>,
}

impl Browser {
    pub(super) fn new(caller: Caller) -> Self {
        Self {
            caller,
            errands: Errands::default(),
            session: None,
            navigating: false,
            violation: None,
        }
    }

    fn request(&self, method: Method, target: &str) -> http::request::Builder {
        let request = self
            .caller
            .request(method, target)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT_LANGUAGE, "en-GB,en;q=0.7")
            .header(header::ACCEPT_ENCODING, "gzip, deflate");
        match &self.session {
            Some(session) => request.header(header::COOKIE, session),
            None => request,
        }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.caller.gateway)
    }

    fn navigation(&self) -> OutgoingRequest {
        without_body(
            self.request(Method::GET, "/")
                .header(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")
                .header(header::UPGRADE_INSECURE_REQUESTS, "1")
                .header("sec-fetch-site", "none")
                .header("sec-fetch-mode", "navigate")
                .header("sec-fetch-dest", "document")
                .header("sec-fetch-user", "?1"),
        )
    }

    /// The body is the one of CSP's `report-uri` (Content Security Policy Level 3, section 5.3).
    fn violation_report(&self, target: &str) -> OutgoingRequest {
        let page = format!("{}/", self.origin());
        let body = json!({ "csp-report": {
            "document-uri": page,
            "violated-directive": "style-src-elem",
            "effective-directive": "style-src-elem",
            "blocked-uri": "inline",
            "disposition": "report",
            "status-code": 200,
        }});
        let request = self
            .request(Method::POST, target)
            .header(header::CONTENT_TYPE, "application/csp-report")
            .header(header::ORIGIN, self.origin())
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-mode", "no-cors")
            .header("sec-fetch-dest", "report");
        with_body(request, body.to_string().into())
    }
}

impl Script for Browser {
    fn next(&mut self, random: &mut Random) -> OutgoingRequest {
        if let Some(target) = self.violation.take() {
            self.navigating = false;
            return self.violation_report(&target);
        }
        self.navigating = self.session.is_none() || random.chance(RELOAD_PERCENT);
        if self.navigating {
            return self.navigation();
        }
        let errand = self.errands.next(random);
        let reads = errand.method == Method::GET;
        let mut request = self
            .request(errand.method, &errand.target)
            .header(header::ACCEPT, "*/*")
            .header(header::REFERER, format!("{}/", self.origin()))
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-dest", "empty");
        if !reads {
            request = request.header(header::ORIGIN, self.origin());
        }
        match &errand.body {
            Some(body) => with_json(request, body),
            None => without_body(request),
        }
    }

    fn learn(&mut self, answer: &Answer) {
        if !self.navigating {
            self.errands.learn(answer);
            return;
        }
        if let Some(session) = new_session(&answer.headers) {
            self.session = Some(session);
        }
        self.violation = report_target(&answer.headers);
    }
}

/// The `session=…` of a Set-Cookie header.
fn new_session(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok()?.split(';').next())
        .find(|pair| pair.starts_with("session="))
        .map(str::to_owned)
}

/// Where a policy that forbids inline styles wants to hear of them, if it is a path of this host.
fn report_target(headers: &HeaderMap) -> Option<String> {
    let names = [header::CONTENT_SECURITY_POLICY, header::CONTENT_SECURITY_POLICY_REPORT_ONLY];
    let policies = names.iter().flat_map(|name| headers.get_all(name));
    policies.filter_map(|policy| policy.to_str().ok()).find_map(report_target_of_policy)
}

fn report_target_of_policy(policy: &str) -> Option<String> {
    let directive = |name: &str| {
        policy.split(';').find_map(|directive| {
            let mut words = directive.split_ascii_whitespace();
            (words.next() == Some(name)).then_some(words)
        })
    };
    let mut styles = directive("style-src").or_else(|| directive("default-src"))?;
    let target = directive("report-uri")?.next()?;
    let forbidden = !styles.any(|source| source == "'unsafe-inline'");
    (forbidden && target.starts_with('/')).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderName, HeaderValue, StatusCode};

    use super::super::script::rehearsal::{CALLER, header};
    use super::*;

    fn answer(headers: &[(&'static str, &'static str)]) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Answer { status: StatusCode::OK, headers: headers.collect(), body: Bytes::new() }
    }

    #[test]
    fn a_browser_opens_the_page_first_and_keeps_its_cookie() {
        let mut random = Random::new(3, 3);
        let mut browser = Browser::new(CALLER);
        let page = browser.next(&mut random);
        assert_eq!((page.uri().path(), header(&page, "sec-fetch-mode")), ("/", "navigate"));
        assert_eq!(header(&page, "cookie"), "");
        browser.learn(&answer(&[("set-cookie", "session=abc; Path=/")]));

        let mut writes = 0;
        for _ in 0..300 {
            let request = browser.next(&mut random);
            browser.learn(&answer(&[]));
            assert_eq!(header(&request, "cookie"), "session=abc");
            if request.method() != Method::GET {
                writes += 1;
                assert_eq!(header(&request, "origin"), "http://127.0.0.1:8080");
                assert_eq!(header(&request, "host"), "127.0.0.1:8080");
                assert_eq!(header(&request, "sec-fetch-site"), "same-origin");
            }
        }
        assert!(writes > 50, "{writes}");
    }

    #[test]
    fn a_policy_that_reports_gets_one_report_for_each_page() {
        let mut random = Random::new(3, 3);
        let mut browser = Browser::new(CALLER);
        browser.next(&mut random);
        browser.learn(&answer(&[
            ("set-cookie", "session=abc"),
            ("content-security-policy-report-only", "default-src 'self'; report-uri /csp"),
        ]));
        let report = browser.next(&mut random);
        assert_eq!((report.method(), report.uri().path()), (&Method::POST, "/csp"));
        assert_eq!(header(&report, "content-type"), "application/csp-report");
        browser.learn(&answer(&[]));
        assert_ne!(browser.next(&mut random).uri().path(), "/csp");
    }

    #[test]
    fn only_a_policy_that_forbids_the_style_hears_of_it_and_only_here() {
        let cases = [
            ("default-src 'self'; report-uri /csp", Some("/csp")),
            ("default-src 'self';report-uri  /csp /other ; img-src *", Some("/csp")),
            ("default-src *; style-src 'self'; report-uri /csp", Some("/csp")),
            ("default-src 'self'; style-src 'unsafe-inline'; report-uri /csp", None),
            ("default-src 'self'", None),
            ("report-uri /csp", None),
            ("default-src 'self'; report-uri https://elsewhere.example/csp", None),
        ];
        for (policy, target) in cases {
            assert_eq!(report_target_of_policy(policy).as_deref(), target, "{policy}");
        }
    }
}
