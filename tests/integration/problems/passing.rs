//! What the service itself answers is the service's: errors pass byte for byte.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::client::PATIENCE;
use crate::harness::response::get;
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Upstream};

/// What the manual lets the gateway add: the headers of the protections, and an id.
const ADDED: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("permissions-policy", "hid=(self), midi=(self), serial=(self), usb=(self)"),
    ("cross-origin-opener-policy", "same-origin-allow-popups"),
];

/// What it tells browsers of a page besides.
const ADDED_TO_HTML: (&str, &str) = (
    "content-security-policy-report-only",
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; \
     form-action 'self'; frame-ancestors 'self'; report-uri /.seaworthy/csp-report",
);

/// The fields and the body of an answer of the service, beside `Date` and `Content-Length`.
struct Own {
    name: &'static str,
    status_line: &'static str,
    fields: &'static [(&'static str, &'static str)],
    body: &'static [u8],
}

const OWN: &[Own] = &[
    Own {
        name: "a page for what is not there",
        status_line: "404 Not Found",
        fields: &[("content-type", "text/html"), ("server", "shop/1.0")],
        body: b"<!doctype html><h1>Nothing here &amp; nowhere</h1>\n",
    },
    Own {
        name: "a text for what went wrong",
        status_line: "500 Internal Server Error",
        fields: &[("content-type", "text/plain; charset=latin1")],
        // Not UTF-8, with a CR LF and a NUL in it.
        body: b"caf\xe9 is closed\r\n\r\n\0",
    },
    Own {
        name: "a problem of its own",
        status_line: "422 Unprocessable Content",
        fields: &[("content-type", "application/problem+json"), ("cache-control", "max-age=5")],
        body: br#"{"type":"https://shop.example/problems/size", "code":"rate-limited", "request_id":"theirs"}"#,
    },
    Own {
        name: "a limit of its own",
        status_line: "429 Too Many Requests",
        fields: &[("retry-after", "Fri, 31 Dec 2027 23:59:59 GMT"), ("x-limit", "9"), ("x-limit", "10")],
        body: b"slower, please",
    },
    Own {
        name: "a gateway's error of its own",
        status_line: "502 Bad Gateway",
        fields: &[("retry-after", "120")],
        body: b"",
    },
    Own {
        name: "the headers that the gateway would set",
        status_line: "403 Forbidden",
        fields: &[
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("permissions-policy", "usb=()"),
            ("cross-origin-opener-policy", "same-origin"),
            ("x-request-id", "theirs-1"),
            ("set-cookie", "a=1; Path=/"),
            ("set-cookie", "b=2; Path=/"),
        ],
        body: b"no",
    },
    Own {
        name: "a status that nobody has heard of",
        status_line: "599 Out Of Tea",
        fields: &[("x-tea", "none")],
        body: b"kettle",
    },
];

const DATE: (&str, &str) = ("date", "Tue, 01 Jul 2025 08:00:00 GMT");

impl Own {
    fn fields(&self) -> Vec<(String, String)> {
        let length = self.body.len().to_string();
        let framing = [DATE, ("content-length", length.as_str())];
        let all = self.fields.iter().chain(&framing);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {}\r\n", self.status_line).into_bytes();
        for (name, value) in self.fields() {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body);
        bytes
    }
}

/// All bytes that come back for one request.
async fn fetch(addr: SocketAddr, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.expect("the gateway listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut read = Vec::new();
    let all = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    all.expect("it answers").expect("it closes in order");
    read
}

#[tokio::test]
async fn errors_of_the_service_pass_byte_for_byte() {
    let upstream = Upstream::start(|request, _| {
        let index = request.split([' ', '/']).nth(2).expect("a path");
        Answer::Bytes(OWN[index.parse::<usize>().expect("a place in the table")].bytes())
    })
    .await;
    let gateway = Gateway::start(upstream.addr, "").await;
    for (index, own) in OWN.iter().enumerate() {
        let name = own.name;
        let read = fetch(gateway.addr(), &format!("/{index}")).await;
        let end = read.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let (head, body) = (&read[..end], &read[end + 4..]);
        assert_eq!(body, own.body, "{name}");
        let head = std::str::from_utf8(head).expect("text");
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some(&*format!("HTTP/1.1 {}", own.status_line)), "{name}");
        let mut found: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect("a name and a value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            // Asked for by the request.
            .filter(|(name, _)| name != "connection")
            .collect();
        let theirs: BTreeSet<&str> = own.fields.iter().map(|(name, _)| *name).collect();
        if !theirs.contains("x-request-id") {
            let added =
                found.extract_if(.., |(name, value)| name == "x-request-id" && value.len() == 32);
            assert_eq!(added.count(), 1, "{name}: it gets an id");
        }
        let mut expected = own.fields();
        let html = own.fields.contains(&("content-type", "text/html"));
        let added = ADDED.iter().chain(html.then_some(&ADDED_TO_HTML));
        let added = added.filter(|(name, _)| !theirs.contains(name));
        expected.extend(added.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        // The order among different names means nothing (RFC 9110, 5.3); among equal ones it does.
        found.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, expected, "{name}");
    }

    gateway.settled().await;
    let metrics = get(gateway.console(), "/metrics").await.body;
    assert!(!metrics.contains("seaworthy_problems_total{"), "none is the gateway's: {metrics}");
    gateway.stop().await;
}
