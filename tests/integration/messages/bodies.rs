//! Bodies stream both ways and are not kept.

use std::time::Duration;

use http_body_util::BodyExt as _;

use super::{OK, Way};
use crate::harness::http2;
use crate::harness::wire::{Wire, field, status};

const MB: usize = 1_000_000;

/// Bytes of which none can be lost, doubled or moved unnoticed: 251 is prime, so that no chunk or
/// buffer is a multiple of the period.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A chunked body of chunks of very different sizes.
fn chunked(content: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut rest = content;
    for size in [1, 4096, 7, 100_000, 65_536, 3].into_iter().cycle() {
        let (chunk, behind) = rest.split_at(rest.len().min(size));
        body.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
        // The empty chunk was the last.
        if chunk.is_empty() {
            return body;
        }
        rest = behind;
    }
    body
}

#[tokio::test]
async fn large_responses_arrive_byte_for_byte() {
    let content = pattern(20 * MB);
    let framed = [
        (format!("Content-Length: {}\r\n", content.len()), content.clone()),
        ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(&content)),
    ];
    for (framing, body) in framed {
        let mut way = Way::open("").await;
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
        let mut connection = way.pass("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", head).await;
        let ((), (head, received)) = tokio::join!(connection.send(body), way.client.message());
        let length = content.len().to_string();
        let declared = framing.starts_with("Content-Length").then_some(&*length);
        assert_eq!(field(&head, "content-length"), declared, "{head}");
        assert!(received == content, "{framing}: {} bytes differ", received.len());
        way.close().await;
    }
}

#[tokio::test]
async fn large_requests_arrive_byte_for_byte() {
    let content = pattern(20 * MB);
    let framed = [
        (format!("Content-Length: {}\r\n", content.len()), content.clone()),
        ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(&content)),
    ];
    for (framing, body) in framed {
        let mut way = Way::open("").await;
        let head = format!("PUT /big HTTP/1.1\r\nHost: shop.example\r\n{framing}\r\n");
        let mut connection = way.pass(head, "").await;
        let ((), (head, received)) = tokio::join!(way.client.send(body), connection.message());
        let length = content.len().to_string();
        let declared = framing.starts_with("Content-Length").then_some(&*length);
        assert_eq!(field(&head, "content-length"), declared, "{head}");
        assert!(received == content, "{framing}: {} bytes differ", received.len());
        connection.send(OK).await;
        assert_eq!(status(&way.client.head().await), 200);
        way.close().await;
    }
}

#[tokio::test]
async fn a_body_passes_piece_by_piece_as_it_comes() {
    let mut way = Way::open("").await;
    let head = "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut connection = way.pass(head, "").await;
    connection.head().await;
    for piece in ["3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n"] {
        way.client.send(piece).await;
        assert_eq!(connection.exactly(piece.len()).await, piece.as_bytes(), "to the service");
    }
    connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    way.client.head().await;
    for piece in ["3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n"] {
        connection.send(piece).await;
        assert_eq!(way.client.exactly(piece.len()).await, piece.as_bytes(), "to the client");
    }
    way.close().await;
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_whole() {
    let mut way = Way::open("").await;
    let request = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    drop(way.pass(request, "HTTP/1.1 200 OK\r\n\r\nall of it").await);
    let (head, body) = way.client.message().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
    assert_eq!(body, b"all of it");
    way.pass(request, OK).await;
    assert_eq!(status(&way.client.head().await), 200, "the client's connection goes on");
    way.close().await;
}

#[tokio::test]
async fn trailers_are_never_headers_and_pass_over_http2_alone() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Content-Length, Connection\r\n\
                          Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n";
    let mut way = Way::open("").await;
    let request = "POST / HTTP/1.1\r\nHost: shop.example\r\nTE: trailers\r\n\
                   Trailer: X-User\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\nbody\r\n0\r\nX-User: root\r\n\r\n";
    let mut connection = way.pass(request, "").await;
    let sent = connection.head().await;
    assert_eq!(field(&sent, "x-user"), None, "{sent}");
    assert_eq!(connection.chunked().await, (b"body".to_vec(), vec![]), "to the service");
    connection.send(ANSWER).await;
    let returned = way.client.head().await;
    assert_eq!(field(&returned, "x-sum"), None, "{returned}");
    assert_eq!(way.client.chunked().await, (b"body".to_vec(), vec![]), "to the client");

    let mut sender = http2::connect(way.gateway.addr()).await;
    let asked = tokio::spawn(sender.send_request(http2::get("/")));
    connection.head().await;
    connection.send(ANSWER).await;
    let response = asked.await.unwrap().expect("an answer");
    assert!(!response.headers().contains_key("x-sum"), "{:?}", response.headers());
    let body = response.collect().await.expect("a whole body");
    assert_eq!(body.trailers().expect("they pass")["x-sum"], "42");
    assert_eq!(body.to_bytes(), "body");
    drop(sender);
    let endings = way.gateway.settled().await.traffic.totals.by_ending;
    assert_eq!((endings.served, endings.client_gone), (2, 0), "{endings:?}");
    way.close().await;
}

#[tokio::test]
async fn a_service_that_does_not_read_holds_back_its_client() {
    const TOTAL: usize = 100 * MB;
    let mut way = Way::open("").await;
    let head = format!("PUT / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {TOTAL}\r\n\r\n");
    let connection = way.pass(head, "").await;
    let content = pattern(251 * 4000);
    let sent = way.client.send_until_blocked(&content, TOTAL, Duration::from_millis(500)).await;
    assert!(sent < TOTAL, "the gateway keeps {sent} bytes for a service that reads none");
    connection.reset();
    way.close().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_back_its_service_and_nobody_else() {
    // Far more than the kernel buffers on two connections.
    const TOTAL: usize = 100 * MB;
    let mut way = Way::open("").await;
    let request = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n");
    let mut connection = way.pass(request, head).await;
    let content = pattern(251 * 4000);
    let sent = connection.send_until_blocked(&content, TOTAL, Duration::from_millis(500)).await;
    assert!(sent < TOTAL, "the gateway keeps {sent} bytes for a client that reads none");

    // The same worker serves the others meanwhile.
    for _ in 0..3 {
        let mut other = Wire::connect(way.gateway.addr()).await;
        other.send(request).await;
        let mut connection = way.service.accept().await;
        connection.has_head().await;
        connection.send(OK.replace("200 OK\r\n", "200 OK\r\nConnection: close\r\n")).await;
        assert_eq!(status(&other.head().await), 200);
    }

    // Nothing was lost by waiting.
    let rest = async {
        let mut sent = sent;
        while sent < TOTAL {
            let at = sent % content.len();
            let piece = &content[at..content.len().min(at + TOTAL - sent)];
            connection.send(piece).await;
            sent += piece.len();
        }
    };
    let received = async {
        way.client.head().await;
        let mut received = 0;
        while received < TOTAL {
            let piece = way.client.exactly(content.len().min(TOTAL - received)).await;
            assert!(piece == content[..piece.len()], "at {received}");
            received += piece.len();
        }
    };
    tokio::join!(rest, received);
    way.close().await;
}
