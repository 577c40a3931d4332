//! What every request to the console passes through, whatever it asks for.
//!
//! 1. The Host must be a loopback name or address. A page on another site can make a browser
//!    resolve its own name to 127.0.0.1 (DNS rebinding); the name in Host gives it away. The
//!    port is not compared: a tunnel may end at another one. Hooks are answered under any name:
//!    their senders prove themselves with a secret, which no page in a browser has.
//! 2. No other route reads a body, so one of more than [`BODY_MAX`] bytes, or of unknown length, is
//!    refused before any of it is read. Hooks bound their bodies themselves.
//! 3. An answer that takes longer than [`ANSWER_TIMEOUT`] to begin becomes a 503.
//! 4. Every answer carries the security headers. None of the pages has inline script or style,
//!    or anything from another origin.
//! 5. Problems become pages where a browser navigates.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use tokio::time;

use crate::problem::Problem;
use crate::routes::hooks;

/// A body that somebody sends all the same, in bytes.
const BODY_MAX: u64 = 16 * 1024;

/// The slowest answer there should be is a filtered list from a large store.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The layer around all routes.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let headers = request.headers().clone();
    let mut response = match admit(request.uri(), &headers) {
        Err(problem) => problem.into_response(),
        Ok(()) => match time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the answer took too long; ask for less, or look at the store's health",
            )
            .into_response(),
        },
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let rendered = problem.render(&headers);
        // What the route set besides, such as Allow, stays.
        for (name, value) in rendered.headers() {
            response.headers_mut().insert(name, value.clone());
        }
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = rendered.into_body();
    }
    let fields = response.headers_mut();
    for (name, value) in HEADERS {
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn admit(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if uri.path() == hooks::ALERTS {
        return Ok(());
    }
    let authority = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(header::HOST).and_then(|host| host.to_str().ok()),
    };
    if !authority.is_some_and(is_loopback) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the console answers to localhost and loopback addresses alone; \
             the Host of this request is another",
        ));
    }
    let length = headers.get(header::CONTENT_LENGTH).map(|length| {
        length.to_str().ok().and_then(|length| length.parse::<u64>().ok()).unwrap_or(u64::MAX)
    });
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|n| n > BODY_MAX) {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "nothing here takes a request body",
        ));
    }
    Ok(())
}

/// Whether `authority` (a host, with or without a port) can only be this machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if port.is_empty() || port.starts_with(':') => host,
            _ => return false,
        },
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_answered() {
        let cases = [
            ("localhost", true),
            ("LOCALHOST:9900", true),
            ("127.0.0.1", true),
            ("127.0.0.1:9900", true),
            ("127.8.9.1:1", true),
            ("[::1]", true),
            ("[::1]:9900", true),
            ("[::ffff:127.0.0.1]:9900", true),
            ("", false),
            ("example.org", false),
            ("example.org:9900", false),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org", false),
            ("10.0.0.1:9900", false),
            ("[::2]:9900", false),
            ("[::1", false),
            ("[::1]evil", false),
            ("::1", false),
            ("0.0.0.0", false),
            ("user@localhost", false),
        ];
        for (authority, want) in cases {
            assert_eq!(is_loopback(authority), want, "{authority:?}");
        }
    }

    #[test]
    fn bodies_are_refused() {
        let cases: [(&str, &str, Option<StatusCode>); 6] = [
            ("content-length", "0", None),
            ("content-length", "16384", None),
            ("content-length", "16385", Some(StatusCode::PAYLOAD_TOO_LARGE)),
            ("content-length", "10000000000", Some(StatusCode::PAYLOAD_TOO_LARGE)),
            ("content-length", "many", Some(StatusCode::PAYLOAD_TOO_LARGE)),
            ("transfer-encoding", "chunked", Some(StatusCode::PAYLOAD_TOO_LARGE)),
        ];
        for (name, value, want) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost"));
            headers.insert(name, HeaderValue::from_static(value));
            let refused = admit(&Uri::from_static("/"), &headers).err();
            let status = refused.map(|problem| problem.into_response().status());
            assert_eq!(status, want, "{name}: {value}");
        }
    }

    #[test]
    fn hooks_take_bodies_under_any_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("gateway.example:9900"));
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        assert!(admit(&Uri::from_static("/api/v1/hooks/alerts"), &headers).is_ok());
        for other in ["/api/v1/hooks/alerts/", "/api/v1/hooks", "/api/v1/Hooks/alerts"] {
            assert!(admit(&Uri::from_static(other), &headers).is_err(), "{other}");
        }
    }

    #[test]
    fn the_target_goes_before_the_host() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        assert!(admit(&Uri::from_static("http://example.org/"), &headers).is_err());
        assert!(admit(&Uri::from_static("http://localhost:1/"), &headers).is_ok());
        assert!(admit(&Uri::from_static("/"), &HeaderMap::new()).is_err(), "no host at all");
    }
}
