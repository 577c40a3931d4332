//! The sloppy client: a batch that means well. It sends all it has at once, knows the service by
//! an old host name, writes with somebody's session cookie from another site's origin without
//! saying how (no Fetch Metadata), uploads traces without a look at their size, and writes the
//! stages of companies as its own people do.

use bytes::Bytes;
use http::{Method, header};
use serde_json::json;

use super::connection::OutgoingRequest;
use super::script::{Caller, Script, with_body, with_json, without_body};
use crate::random::Random;

/// One request in this many is a large upload.
const UPLOAD_EVERY: u64 = 20;

/// 24 steps of 64,000 bytes: about one and a half mebibytes.
const UPLOAD_STEPS: usize = 24;
const UPLOAD_STEP_BYTES: usize = 64_000;

/// How the batch spells stages: one as the service does, two in other ways, one wrongly.
const STAGES: [&str; 4] = ["series-a", "Series A", "IPO", "serie-a"];

pub(super) struct Batch {
    caller: Caller,
    sent: u64,
    /// Made once: it is the same each time.
    upload: Bytes,
}

impl Batch {
    pub(super) fn new(caller: Caller) -> Self {
        let step = json!({ "text": "x".repeat(UPLOAD_STEP_BYTES), "duration_ms": 1000 });
        let upload = json!({ "name": "nightly run", "steps": vec![step; UPLOAD_STEPS] });
        Self { caller, sent: 0, upload: upload.to_string().into() }
    }

    fn request(&self, method: Method, target: &str) -> http::request::Builder {
        let request = self
            .caller
            .request_to("helpdesk.wonka.internal".to_owned(), method.clone(), target)
            .header(header::USER_AGENT, "python-requests/2.32.3")
            .header(header::ACCEPT, "*/*")
            .header(header::COOKIE, "session=wonka-nightly-batch");
        if method == Method::GET {
            request
        } else {
            request.header(header::ORIGIN, "http://reports.wonka.example")
        }
    }
}

impl Script for Batch {
    fn next(&mut self, random: &mut Random) -> OutgoingRequest {
        self.sent += 1;
        if self.sent.is_multiple_of(UPLOAD_EVERY) {
            let request = self
                .request(Method::POST, "/api/traces")
                .header(header::CONTENT_TYPE, "application/json");
            return with_body(request, self.upload.clone());
        }
        match random.below(10) {
            0..4 => {
                let body = json!({
                    "from": "nightly",
                    "to": "everyone",
                    "text": format!("Row {} of the export.", self.sent),
                });
                with_json(self.request(Method::POST, "/api/messages"), &body)
            }
            4..6 => {
                let body = json!({
                    "subject": format!("Imported case {}", self.sent),
                    "body": "From the old system.",
                    "category": "other",
                });
                with_json(self.request(Method::POST, "/api/complaints"), &body)
            }
            6 => {
                let stage = *random.pick(&STAGES);
                let body = json!({ "name": "Brightwater", "stage": stage, "employees": 31 });
                with_json(self.request(Method::PUT, "/api/companies/brightwater"), &body)
            }
            _ => without_body(self.request(Method::GET, "/api/complaints?limit=100")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::rehearsal::{CALLER, body_len, header, requests};
    use super::*;

    #[test]
    fn a_batch_does_each_of_the_things_it_should_not() {
        let requests = requests(Batch::new(CALLER), 100);
        for request in &requests {
            assert_eq!(header(request, "cookie"), "session=wonka-nightly-batch");
            assert_eq!(header(request, "host"), "helpdesk.wonka.internal");
            assert_eq!(header(request, "sec-fetch-site"), "");
            let foreign = header(request, "origin") == "http://reports.wonka.example";
            assert_eq!(foreign, request.method() != Method::GET);
        }
        let large = |request: &&OutgoingRequest| body_len(request) > 1 << 20;
        assert_eq!(requests.iter().filter(large).count(), 5);
        assert!(requests.iter().filter(large).all(|r| r.uri().path() == "/api/traces"));
    }
}
