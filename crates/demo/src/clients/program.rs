//! A well-behaved program: JSON over one connection, with a token or an API key.

use http::header;

use super::connection::{Answer, OutgoingRequest};
use super::errands::Errands;
use super::script::{Caller, Script, with_json, without_body};
use crate::random::Random;

/// How a program says who it is.
pub(super) enum Credential {
    Bearer(String),
    ApiKey(String),
}

pub(super) struct Program {
    caller: Caller,
    credential: Credential,
    errands: Errands,
}

impl Program {
    pub(super) fn new(caller: Caller, credential: Credential) -> Self {
        Self { caller, credential, errands: Errands::default() }
    }
}

impl Script for Program {
    fn next(&mut self, random: &mut Random) -> OutgoingRequest {
        let errand = self.errands.next(random);
        let request = self
            .caller
            .request(errand.method, &errand.target)
            .header(header::USER_AGENT, format!("{}/2.1", self.caller.name))
            .header(header::ACCEPT, "application/json");
        let request = match &self.credential {
            Credential::Bearer(token) => {
                request.header(header::AUTHORIZATION, format!("Bearer {token}"))
            }
            Credential::ApiKey(key) => request.header("x-api-key", key),
        };
        match &errand.body {
            Some(body) => with_json(request, body),
            None => without_body(request),
        }
    }

    fn learn(&mut self, answer: &Answer) {
        self.errands.learn(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::rehearsal::{CALLER, header, requests};
    use super::*;

    #[test]
    fn a_program_says_who_it_is_and_nothing_of_a_browser() {
        let cases = [
            (Credential::Bearer("t-1".to_owned()), "Bearer t-1", ""),
            (Credential::ApiKey("k-1".to_owned()), "", "k-1"),
        ];
        for (credential, authorization, api_key) in cases {
            for request in requests(Program::new(CALLER, credential), 300) {
                assert_eq!(header(&request, "authorization"), authorization);
                assert_eq!(header(&request, "x-api-key"), api_key);
                assert_eq!(header(&request, "x-tenant-id"), "acme");
                for absent in ["cookie", "origin", "sec-fetch-site"] {
                    assert_eq!(header(&request, absent), "", "{absent}");
                }
            }
        }
    }
}
