//! Problems over HTTP/2: each ends its stream alone, and the connection goes on.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

use super::manual;
use crate::harness::client::PATIENCE;
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Upstream};

/// A body of these bytes that ends behind them, or pauses there for ever.
struct Piece {
    left: Option<Bytes>,
    ends: bool,
}

impl Body for Piece {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.left.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ends && self.left.is_none()
    }
}

const NONE: Piece = Piece { left: None, ends: true };

fn paused(bytes: &'static str) -> Piece {
    Piece { left: Some(Bytes::from_static(bytes.as_bytes())), ends: false }
}

/// A connection on which HTTP/2 is spoken from the first byte.
async fn connect(addr: SocketAddr) -> SendRequest<Piece> {
    let stream = TcpStream::connect(addr).await.expect("the gateway listens");
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("it speaks HTTP/2");
    tokio::spawn(async move {
        // It ends with the gateway; what a stream made of that is the test's business.
        drop(connection.await);
    });
    sender
}

struct Told {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

async fn ask(sender: &mut SendRequest<Piece>, request: Request<Piece>) -> Told {
    let answered = async {
        sender.ready().await.expect("the connection is open");
        let response = sender.send_request(request).await.expect("the stream is answered");
        assert_eq!(response.version(), Version::HTTP_2);
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the whole answer comes").to_bytes();
        Told { status: head.status.as_u16(), headers: head.headers, body }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the gateway answers")
}

fn request(method: Method, uri: &str, body: Piece) -> Request<Piece> {
    Request::builder().method(method).uri(uri).body(body).expect("a request")
}

fn get(uri: &str) -> Request<Piece> {
    request(Method::GET, uri, NONE)
}

/// `request` with one more field.
fn with(mut request: Request<Piece>, name: &'static str, value: &str) -> Request<Piece> {
    request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a value"));
    request
}

/// The limits on time are short, for the cases that cross them.
const CONFIG: &str = r#"
[listen]
body_timeout = "400ms"

[protect.request_timeout]
mode = "enforce"
max = "200ms"
"#;

#[tokio::test]
async fn a_problem_ends_its_stream_and_not_the_connection() {
    let upstream = Upstream::start(|request, _| match request.split(' ').nth(1) {
        Some("/reset") => Answer::Close(Vec::new()),
        Some("/nonsense") => Answer::Close(b"HTTP/1.1 2xx what\r\n\r\n".to_vec()),
        Some("/silence") => Answer::Silence,
        _ => Answer::ok("ok"),
    })
    .await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    let mut sender = connect(gateway.addr()).await;
    assert_eq!(ask(&mut sender, get("http://a/")).await.status, 200);
    let first = upstream.received();
    let via = first[0].lines().find_map(|line| line.strip_prefix("via: "));
    let via = via.expect("the gateway names itself");
    assert!(via.starts_with("2 seaworthy-"), "{via}");

    let large = "x".repeat(40_000);
    // The code, and whether the service hears of the request.
    let cases = [
        ("connect-refused", false, request(Method::CONNECT, "a:443", NONE)),
        ("expectation-failed", false, with(get("http://a/"), "expect", "a-miracle")),
        ("loop-detected", false, with(get("http://a/"), "via", via)),
        ("malformed-target", false, get("http://a/%00")),
        ("missing-host", false, get("http://user@a/")),
        ("not-found", false, get("http://a/.seaworthy/none")),
        ("too-many-headers", false, with(get("http://a/"), "x-large", &large)),
        (
            "body-too-large",
            false,
            with(request(Method::POST, "http://a/", paused("x")), "content-length", "10000000000"),
        ),
        ("upstream-reset", true, get("http://a/reset")),
        ("upstream-malformed", true, get("http://a/nonsense")),
        ("request-timeout", true, get("http://a/silence")),
        ("body-timeout", true, request(Method::POST, "http://a/slow", paused("half"))),
    ];
    let manual = manual();
    for (code, reaches, request) in cases {
        let before = upstream.received().len();
        let told = ask(&mut sender, request).await;
        let documented = manual.iter().find(|row| row.code == code).expect("it is documented");
        assert_eq!(told.status, documented.status, "{code}: {:?}", told.body);
        assert_eq!(told.headers["content-type"], "application/problem+json", "{code}");
        assert!(!told.headers.contains_key("connection"), "{code}: RFC 9113, 8.2.2");
        let problem: Value = serde_json::from_slice(&told.body).expect("JSON");
        assert_eq!(problem["code"], code);
        assert_eq!(problem["request_id"], told.headers["x-request-id"].to_str().unwrap(), "{code}");
        assert!(reaches || upstream.received().len() == before, "{code} reached the service");
    }
    assert_eq!(ask(&mut sender, get("http://a/")).await.status, 200, "the connection goes on");
    drop(sender);
    gateway.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_over_http2_too() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "[listen]\nhead_bytes_max = \"4KiB\"").await;
    let mut sender = connect(gateway.addr()).await;
    let long = |count| "x".repeat(count);
    for large in
        [with(get("http://a/"), "x-large", &long(5000)), get(&format!("http://a/{}", long(5000)))]
    {
        let told = ask(&mut sender, large).await;
        assert_eq!(told.status, 431);
        let problem: Value = serde_json::from_slice(&told.body).expect("JSON");
        assert_eq!(problem["code"], "head-too-large");
    }
    // One that is twice as large as it may be is not even taken in.
    let told = ask(&mut sender, with(get("http://a/"), "x-large", &long(10_000))).await;
    assert_eq!((told.status, told.body), (431, Bytes::new()));
    assert_eq!(upstream.received(), Vec::<String>::new());

    let fits = with(get("http://a/"), "x-large", &long(3000));
    assert_eq!(ask(&mut sender, fits).await.status, 200, "the connection goes on");
    drop(sender);
    gateway.stop().await;
}
