//! The carrier of one tenant's parcels: a webhook that says where they are, signed over its body
//! with a secret that the gateway knows, too, as GitHub signs its deliveries.

use std::fmt::Write as _;

use http::{Method, header};
use ring::hmac;
use serde_json::json;

use super::connection::OutgoingRequest;
use super::script::{Caller, Script, with_body};
use crate::random::Random;

/// What the carrier signs with. It guards nothing but the demo.
pub const WEBHOOK_SECRET: &str = "helpdesk-demo-webhook-secret-of-the-carrier";

const STATES: [&str; 4] = ["sent", "sent", "delivered", "lost"];

pub(super) struct Carrier {
    caller: Caller,
    key: hmac::Key,
}

impl Carrier {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, key: hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_SECRET.as_bytes()) }
    }
}

impl Script for Carrier {
    fn next(&mut self, random: &mut Random) -> OutgoingRequest {
        let parcel = format!("PX-{:012x}", random.next() >> 16);
        let body = json!({ "parcel": parcel, "state": random.pick(&STATES) }).to_string();
        let mut signature = "sha256=".to_owned();
        for byte in hmac::sign(&self.key, body.as_bytes()).as_ref() {
            write!(signature, "{byte:02x}").expect("a String takes every write");
        }
        let request = self
            .caller
            .request(Method::POST, "/api/hooks/parcels")
            .header(header::USER_AGENT, "parcel-hooks/1.4")
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-hub-signature-256", signature);
        with_body(request, body.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::script::rehearsal::{CALLER, header, requests};
    use super::*;

    #[test]
    fn every_delivery_is_signed_and_none_is_sent_twice() {
        let requests = requests(Carrier::new(CALLER), 200);
        let signatures: HashSet<_> =
            requests.iter().map(|request| header(request, "x-hub-signature-256")).collect();
        assert_eq!(signatures.len(), 200);
        for signature in signatures {
            let digits = signature.strip_prefix("sha256=").unwrap();
            assert!(digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
