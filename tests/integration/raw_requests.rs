//! What clients send, byte for byte, and what the service then gets, byte for byte.
//!
//! Each case speaks raw bytes over TCP. A refused request must leave nothing at the service; an
//! accepted one must arrive in exactly one form.

use crate::harness::{Gateway, Upstream, exchange};

/// A request that is refused: the service never hears of it.
struct Refused {
    name: &'static str,
    sent: &'static str,
    status: u16,
    code: &'static str,
}

const fn refused(
    name: &'static str,
    sent: &'static str,
    status: u16,
    code: &'static str,
) -> Refused {
    Refused { name, sent, status, code }
}

const REFUSED: &[Refused] = &[
    // Framing (RFC 9112, 6).
    refused(
        "content-length before transfer-encoding",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous-framing",
    ),
    refused(
        "transfer-encoding before content-length",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous-framing",
    ),
    refused(
        "two content-lengths that differ",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
        "ambiguous-framing",
    ),
    refused(
        "a list of content-lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
        400,
        "ambiguous-framing",
    ),
    refused(
        "a signed content-length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        400,
        "ambiguous-framing",
    ),
    refused(
        "a content-length that overflows",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na",
        400,
        "ambiguous-framing",
    ),
    refused(
        "an empty content-length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
        400,
        "ambiguous-framing",
    ),
    refused(
        "transfer-encoding on HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous-framing",
    ),
    refused(
        "transfer-encoding that does not end in chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous-framing",
    ),
    refused(
        "a transfer-encoding that only looks like chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
        "malformed-request",
    ),
    refused(
        "chunked twice",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous-framing",
    ),
    // Lines and fields (RFC 9112, 2 and 5).
    refused("bare LF line ends", "GET / HTTP/1.1\nHost: a\n\n", 400, "malformed-request"),
    refused("one bare LF", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, "malformed-request"),
    refused(
        "a bare CR in a value",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
        400,
        "malformed-request",
    ),
    refused(
        "a folded field",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        400,
        "malformed-request",
    ),
    refused(
        "space before the colon",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        400,
        "malformed-request",
    ),
    refused(
        "a field without a name",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        400,
        "malformed-request",
    ),
    refused(
        "a field without a colon",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        400,
        "malformed-request",
    ),
    refused(
        "a NUL in a value",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
        400,
        "malformed-request",
    ),
    refused(
        "space before the first field",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        400,
        "malformed-request",
    ),
    // The request line (RFC 9112, 3).
    refused("no version", "GET /\r\nHost: a\r\n\r\n", 400, "malformed-request"),
    refused(
        "a method that is no token",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "malformed-request",
    ),
    refused("HTTP/3 in text", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "version-not-supported"),
    refused(
        "a space in the target",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "malformed-target",
    ),
    refused("a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-target"),
    refused(
        "a control byte in the target",
        "GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "malformed-request",
    ),
    refused("an encoded NUL", "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-target"),
    refused(
        "a broken percent-encoding",
        "GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "malformed-target",
    ),
    refused("a backslash", "GET /a\\..\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-target"),
    refused(
        "a target without a slash",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "malformed-target",
    ),
    refused("another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-target"),
    refused("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "connect-refused"),
    refused(
        "an unknown expectation",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n",
        417,
        "expectation-failed",
    ),
    // Host (RFC 9112, 3.2).
    refused("no host", "GET / HTTP/1.1\r\n\r\n", 400, "missing-host"),
    refused("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "missing-host"),
    refused("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "missing-host"),
    refused("a host with user info", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "missing-host"),
];

#[tokio::test]
async fn what_has_two_readings_never_reaches_the_service() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    for case in REFUSED {
        let reply = exchange(gateway.addr(), case.sent.as_bytes(), 0).await;
        assert_eq!(reply.statuses(), [case.status], "{}: {}", case.name, reply.text);
        assert_eq!(reply.code(), Some(case.code), "{}: {}", case.name, reply.text);
        assert!(reply.closed, "{}: the connection goes on", case.name);
        assert!(reply.text.contains("content-type: application/problem+json"), "{}", case.name);
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn a_refusal_waits_its_turn_behind_earlier_answers() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let sent = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost : a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    let reply = exchange(gateway.addr(), sent.as_bytes(), 0).await;
    assert_eq!(reply.statuses(), [200, 400], "{}", reply.text);
    assert_eq!(upstream.received().len(), 1, "what follows a refused request is not read");
    gateway.stop().await;
}

/// A request that is forwarded, and the one form in which it arrives.
struct Forwarded {
    name: &'static str,
    sent: &'static str,
    arrives: &'static str,
}

const fn forwarded(name: &'static str, sent: &'static str, arrives: &'static str) -> Forwarded {
    Forwarded { name, sent, arrives }
}

/// Own fields, in the order in which they are sent, with what changes from run to run replaced.
const OWN: &str = "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\nvia: 1.1 GATEWAY\r\nx-request-id: ID\r\ntraceparent: TRACE\r\n";

const FORWARDED: &[Forwarded] = &[
    forwarded(
        "plain",
        "GET /x?y=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /x?y=1 HTTP/1.1\r\nhost: a\r\nOWN\r\n",
    ),
    forwarded(
        "dot segments are gone",
        "GET /x/../%2e%2e/y/./z HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /y/z HTTP/1.1\r\nhost: a\r\nOWN\r\n",
    ),
    forwarded(
        "one spelling of an encoding",
        "GET /%7ea%2fb%41 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /~a%2FbA HTTP/1.1\r\nhost: a\r\nOWN\r\n",
    ),
    forwarded(
        "absolute form beats host",
        "GET http://a/x HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\r\nOWN\r\n",
    ),
    forwarded(
        "asterisk form",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: a\r\nOWN\r\n",
    ),
    forwarded(
        "hop-by-hop fields and those that Connection names",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nX-Kept: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-kept: 1\r\nOWN\r\n",
    ),
    forwarded(
        "own fields cannot be struck out or forged",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-forwarded-for, via, host\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\nTraceparent: 00-bad\r\nTracestate: a=b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\nx-request-id: ID\r\ntraceparent: TRACE\r\nx-forwarded-for: 127.0.0.1\r\nvia: 1.1 GATEWAY\r\n\r\n",
    ),
    forwarded(
        "via is appended",
        "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 front\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nvia: 1.0 front, 1.1 GATEWAY\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\nx-request-id: ID\r\ntraceparent: TRACE\r\n\r\n",
    ),
    forwarded(
        "a body with a length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nOWN\r\nhello",
    ),
    forwarded(
        "a content-length said twice",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nOWN\r\nhello",
    ),
    forwarded(
        "a chunked body, its extensions and trailers gone",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nHost: evil\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nOWNtransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    forwarded(
        "an expectation is answered here",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nOWN\r\nhi",
    ),
    forwarded(
        "HTTP/1.0 without a host",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: \r\nvia: 1.0 GATEWAY\r\nx-request-id: ID\r\ntraceparent: TRACE\r\nhost: \r\n\r\n",
    ),
    forwarded(
        "an empty line too many",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nOWN\r\n",
    ),
    forwarded(
        "an upgrade to HTTP/2 is not passed on",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nOWN\r\n",
    ),
];

#[tokio::test]
async fn what_was_checked_is_what_the_service_gets() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    for (index, case) in FORWARDED.iter().enumerate() {
        let reply = exchange(gateway.addr(), case.sent.as_bytes(), 1).await;
        assert!(reply.text.contains(" 200 OK"), "{}: {}", case.name, reply.text);
        let received = upstream.received();
        assert_eq!(received.len(), index + 1, "{}", case.name);
        let arrives = case.arrives.replace("OWN", OWN);
        assert_eq!(settled(&received[index]), settled(&arrives), "{}", case.name);
    }
    gateway.stop().await;
}

/// `message` with what changes from run to run replaced, and its fields sorted: their order
/// among different names means nothing (RFC 9110, 5.3).
fn settled(message: &str) -> String {
    let (head, body) = message.split_once("\r\n\r\n").expect("a whole head");
    let mut lines: Vec<String> = head
        .split("\r\n")
        .map(|line| match line.split_once(": ") {
            Some(("x-request-id", id)) if id.len() == 32 => "x-request-id: ID".to_owned(),
            Some(("traceparent", trace)) if trace.len() == 55 => "traceparent: TRACE".to_owned(),
            Some(("via", hops)) => {
                let (before, _) = hops.rsplit_once(' ').expect("a protocol and a name");
                format!("via: {before} GATEWAY")
            }
            _ => line.to_owned(),
        })
        .collect();
    lines[1..].sort();
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}
