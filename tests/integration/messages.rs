//! What passes through the gateway unchanged, and what a proxy has to change, byte for byte at
//! both ends.

mod bodies;
mod forwarding;
mod http2;

use crate::harness::Gateway;
use crate::harness::wire::{Service, Wire, field, fields, status};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A gateway with its service and one client. One worker, so that connections are kept in one
/// place.
struct Way {
    gateway: Gateway,
    service: Service,
    client: Wire,
}

impl Way {
    async fn open(config: &str) -> Self {
        let service = Service::bind().await;
        let config = format!("{config}\n[listen]\nworkers = 1");
        let gateway = Gateway::start(service.addr, &config).await;
        let client = Wire::connect(gateway.addr()).await;
        Self { gateway, service, client }
    }

    /// Sends `request` over a new connection to the service, which answers with `answer`.
    /// Returns what the service got.
    async fn pass(&mut self, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) -> Wire {
        self.client.send(request).await;
        let mut connection = self.service.accept().await;
        // An answer to what has not been asked is an error, rightly.
        connection.has_head().await;
        connection.send(answer).await;
        connection
    }

    async fn close(self) {
        drop(self.client);
        self.gateway.stop().await;
    }
}

/// What the service gets for a GET with these header lines, and what the client gets back for
/// this answer.
async fn heads(config: &str, lines: &str, answer: impl AsRef<[u8]>) -> (String, String) {
    let mut way = Way::open(config).await;
    let request = format!("GET /case HTTP/1.1\r\nHost: Shop.example:8080\r\n{lines}\r\n");
    let mut connection = way.pass(request, answer).await;
    let heads = (connection.head().await, way.client.head().await);
    way.close().await;
    heads
}

#[tokio::test]
async fn an_answer_without_a_body_keeps_what_it_says_of_one() {
    for (name, method, answer, length) in [
        ("HEAD", "HEAD", "200 OK\r\nContent-Length: 1234", Some("1234")),
        ("HEAD without a length", "HEAD", "200 OK\r\nETag: \"a\"", None),
        ("HEAD of chunks", "HEAD", "200 OK\r\nTransfer-Encoding: chunked", None),
        ("HEAD of an error", "HEAD", "404 Not Found\r\nContent-Length: 9", Some("9")),
        ("HEAD of nothing", "HEAD", "200 OK\r\nContent-Length: 0", Some("0")),
        ("204", "GET", "204 No Content\r\nETag: \"a\"", None),
        ("204 for a DELETE", "DELETE", "204 No Content", None),
        ("304", "GET", "304 Not Modified\r\nETag: \"a\"", None),
        ("304 with a length", "GET", "304 Not Modified\r\nContent-Length: 1234", Some("1234")),
        ("an empty body", "GET", "200 OK\r\nContent-Length: 0", Some("0")),
    ] {
        let mut way = Way::open("").await;
        let request = format!("{method} / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        let mut connection = way.pass(request, format!("HTTP/1.1 {answer}\r\n\r\n")).await;
        connection.head().await;
        let head = way.client.head().await;
        let wanted: u16 = answer.split(' ').next().unwrap().parse().unwrap();
        assert_eq!((status(&head), field(&head, "content-length")), (wanted, length), "{name}");
        assert_eq!(field(&head, "etag").is_some(), answer.contains("ETag"), "{name}: {head}");

        // The next answer follows at once: no byte of a body was sent, and none was waited for.
        way.client.send("GET /next HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        assert!(connection.head().await.starts_with("GET /next "), "{name}");
        connection.send(OK).await;
        let (head, body) = way.client.message().await;
        assert_eq!((status(&head), body.as_slice()), (200, b"ok".as_slice()), "{name}: {head}");
        way.close().await;
    }
}

#[tokio::test]
async fn interim_answers_do_not_break_the_one_that_counts() {
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: 2\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
    ] {
        for version in ["1.0", "1.1"] {
            let mut way = Way::open("").await;
            let request = format!("GET / HTTP/{version}\r\nHost: shop.example\r\n\r\n");
            way.pass(request, format!("{interim}{OK}")).await;
            let mut head = way.client.head().await;
            while version == "1.1" && status(&head) < 200 {
                head = way.client.head().await;
            }
            assert_eq!(status(&head), 200, "HTTP/{version}, {interim:?}: {head}");
            assert!(field(&head, "x").is_none() && field(&head, "link").is_none(), "{head}");
            assert_eq!(way.client.exactly(2).await, b"ok");
            way.close().await;
        }
    }
}

#[tokio::test]
async fn repeated_fields_survive_in_order() {
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: b=2; Path=/\r\nVary: Accept\r\n\
                  Set-Cookie: a=1\r\nVary: Origin\r\nSet-Cookie: b=3\r\nContent-Length: 0\r\n\r\n";
    let lines = "X-List: 1\r\nAccept: text/plain\r\nX-List: 2, 3\r\nX-List: 1\r\n";
    let (sent, returned) = heads("", lines, answer).await;
    assert_eq!(fields(&sent, "x-list"), ["1", "2, 3", "1"], "{sent}");
    assert_eq!(fields(&returned, "set-cookie"), ["b=2; Path=/", "a=1", "b=3"], "{returned}");
    assert_eq!(fields(&returned, "vary"), ["Accept", "Origin"], "{returned}");
}

#[tokio::test]
async fn every_byte_that_a_field_may_have_passes() {
    // RFC 9110, 5.5: tab, space, visible characters, and obs-text.
    let value: String = (0x21..=0x7e)
        .chain([0x09, 0x20])
        .chain(0x80..=0xff)
        .chain([0x2e])
        .map(char::from)
        .collect();
    // RFC 9110, 5.6.2: a name is a token.
    let name = "x!#$%&'*+-.^_`|~0aZ";
    let bytes = |text: &str| text.chars().map(|char| char as u8).collect::<Vec<u8>>();
    let mut way = Way::open("").await;
    let request = format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{name}: {value}\r\n\r\n");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{name}: {value}\r\n\r\n");
    let mut connection = way.pass(bytes(&request), bytes(&answer)).await;
    assert_eq!(field(&connection.head().await, name), Some(&*value), "to the service");
    assert_eq!(field(&way.client.head().await, name), Some(&*value), "to the client");
    way.close().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut way = Way::open("").await;
    let requests: String = (0..5)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
        .chain([
            "POST /5 HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nbody".to_owned()
        ])
        .chain(["GET /6 HTTP/1.1\r\nHost: shop.example\r\n\r\n".to_owned()])
        .collect();
    way.client.send(requests).await;
    let mut connection = way.service.accept().await;
    for n in 0..7 {
        let (head, body) = connection.message().await;
        assert!(head.split(' ').nth(1) == Some(&*format!("/{n}")), "{head}");
        assert_eq!(body, if n == 5 { b"body".as_slice() } else { b"" });
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}")).await;
    }
    for n in 0..7 {
        let (head, body) = way.client.message().await;
        assert_eq!(body, n.to_string().as_bytes(), "{head}");
    }
    way.close().await;
}

#[tokio::test]
async fn statuses_and_errors_of_the_service_pass_untouched() {
    for code in [201, 206, 302, 400, 404, 418, 429, 500, 502, 503, 599] {
        let mut way = Way::open("").await;
        let answer = format!(
            "HTTP/1.1 {code} Whatever\r\nContent-Type: text/x-own\r\nContent-Length: 3\r\n\r\nown"
        );
        way.pass("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", answer).await;
        let (head, body) = way.client.message().await;
        assert_eq!((status(&head), field(&head, "content-type")), (code, Some("text/x-own")));
        assert_eq!(body, b"own");
        way.close().await;
    }
}
