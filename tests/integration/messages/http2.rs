//! Messages that are HTTP/2 on one side, or on both.

use http::header::{COOKIE, HOST, TE};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::{OK, Way};
use crate::harness::Gateway;
use crate::harness::http2::{self, Frames};
use crate::harness::wire::{field, fields};

#[tokio::test]
async fn cookies_that_came_apart_are_one_field_again() {
    // RFC 9113, 8.2.3: browsers send them one by one, and a service over HTTP/1.1 must not see it.
    let way = Way::open("").await;
    let mut request = http2::get("/case");
    for crumb in ["a=1", "session=x", "b=2; c=3"] {
        request.headers_mut().append(COOKIE, HeaderValue::from_static(crumb));
    }
    let mut sender = http2::connect(way.gateway.addr()).await;
    let asked = tokio::spawn(sender.send_request(request));
    let mut connection = way.service.accept().await;
    let head = connection.head().await;
    connection.send(OK).await;
    assert_eq!(fields(&head, "cookie"), ["a=1; session=x; b=2; c=3"], "{head}");
    asked.await.unwrap().expect("an answer");
    drop(sender);
    way.close().await;
}

#[tokio::test]
async fn the_authority_is_the_host_whatever_the_field_says() {
    let way = Way::open("").await;
    let mut request = http2::get("/case?q=1");
    request.headers_mut().insert(HOST, HeaderValue::from_static("evil.example"));
    let mut sender = http2::connect(way.gateway.addr()).await;
    let asked = tokio::spawn(sender.send_request(request));
    let mut connection = way.service.accept().await;
    let head = connection.head().await;
    connection.send(OK).await;
    assert!(head.starts_with("GET /case?q=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), Some("shop.example"), "{head}");
    assert_eq!(field(&head, "x-forwarded-host"), Some("shop.example"), "{head}");
    assert!(field(&head, "via").is_some_and(|via| via.starts_with("2 seaworthy-")), "{head}");
    asked.await.unwrap().expect("an answer");
    drop(sender);
    way.close().await;
}

#[tokio::test]
async fn a_body_without_a_length_becomes_chunks() {
    let way = Way::open("").await;
    let (frames, body) = Frames::new();
    let request = http::Request::post("http://shop.example/").body(body).unwrap();
    let mut sender = http2::connect(way.gateway.addr()).await;
    let asked = tokio::spawn(sender.send_request(request));
    frames.send(Frame::data("one".into())).await.unwrap();
    let mut connection = way.service.accept().await;
    let head = connection.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
    assert_eq!(connection.exactly(8).await, b"3\r\none\r\n", "before the rest is there");
    frames.send(Frame::data("two".into())).await.unwrap();
    drop(frames);
    assert_eq!(connection.chunked().await, (b"two".to_vec(), vec![]));
    connection.send(OK).await;
    let response = asked.await.unwrap().expect("an answer");
    assert_eq!(response.collect().await.unwrap().to_bytes(), "ok");
    drop(sender);
    way.close().await;
}

/// A service over HTTP/2 that answers each request with its own body, frame by frame.
async fn echo() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
                let te = request.headers().get(TE).cloned();
                let mut response = http::Response::new(request.into_body());
                if let Some(te) = te {
                    response.headers_mut().insert("x-te", te);
                }
                Ok::<_, std::convert::Infallible>(response)
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    (addr, task)
}

#[tokio::test]
async fn a_call_over_http2_streams_both_ways_with_its_trailers() {
    let (addr, service) = echo().await;
    let gateway = Gateway::start(addr, "[service]\nprotocol = \"http2\"").await;
    let mut sender = http2::connect(gateway.addr()).await;
    let (frames, body) = Frames::new();
    let request = http::Request::post("http://shop.example/Echo").header(TE, "trailers").body(body);
    let response = sender.send_request(request.unwrap()).await.expect("it begins before the body");
    assert_eq!(response.headers()["x-te"], "trailers");
    let mut echoed = response.into_body();
    for piece in ["one", "two"] {
        frames.send(Frame::data(piece.into())).await.unwrap();
        let frame = echoed.frame().await.expect("it goes on").unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    frames.send(Frame::trailers(trailers.clone())).await.unwrap();
    let frame = echoed.frame().await.expect("its trailers").unwrap();
    assert_eq!(frame.into_trailers().unwrap(), trailers);
    assert!(echoed.frame().await.is_none());
    drop(sender);
    let endings = gateway.settled().await.traffic.totals.by_ending;
    assert_eq!((endings.served, endings.client_gone), (1, 0), "{endings:?}");
    gateway.stop().await;
    service.abort();
}
