//! What a client says: a script makes one request after the other and learns from the answers.
//! Scripts do no I/O.

use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Builder;
use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::Value;

use super::connection::{Answer, OutgoingRequest};
use crate::random::Random;

pub(super) trait Script: Send {
    fn next(&mut self, random: &mut Random) -> OutgoingRequest;

    /// Called with the answer to the request before, unless none came.
    fn learn(&mut self, _answer: &Answer) {}
}

/// Who is calling, and where.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    pub(super) gateway: SocketAddr,
    pub(super) name: &'static str,
    pub(super) tenant: &'static str,
}

impl Caller {
    /// The start of a request to the gateway by its own name.
    pub(super) fn request(&self, method: Method, target: &str) -> Builder {
        self.request_to(self.gateway.to_string(), method, target)
    }

    /// The start of a request that names another host.
    pub(super) fn request_to(&self, host: String, method: Method, target: &str) -> Builder {
        Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, host)
            .header("x-tenant-id", self.tenant)
    }
}

pub(super) fn without_body(request: Builder) -> OutgoingRequest {
    with_body(request, Bytes::new())
}

pub(super) fn with_json(request: Builder, body: &Value) -> OutgoingRequest {
    let request = request.header(header::CONTENT_TYPE, "application/json");
    with_body(request, body.to_string().into())
}

pub(super) fn with_body(request: Builder, body: Bytes) -> OutgoingRequest {
    request.body(Full::new(body)).expect("scripts are written with well-formed parts")
}

#[cfg(test)]
pub(super) mod rehearsal {
    //! Runs scripts without a gateway.

    use std::net::Ipv4Addr;

    use super::*;

    pub(in super::super) const CALLER: Caller = Caller {
        gateway: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
        name: "rehearsal",
        tenant: "acme",
    };

    /// The first `count` requests of `script`, unanswered.
    pub(in super::super) fn requests(
        mut script: impl Script,
        count: usize,
    ) -> Vec<OutgoingRequest> {
        let mut random = Random::new(1, 1);
        (0..count).map(|_| script.next(&mut random)).collect()
    }

    pub(in super::super) fn header<'a>(request: &'a OutgoingRequest, name: &str) -> &'a str {
        request.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(in super::super) fn body_len(request: &OutgoingRequest) -> u64 {
        use hyper::body::Body;
        request.body().size_hint().exact().unwrap()
    }
}
