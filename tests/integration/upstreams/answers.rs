//! Answers that are broken, break off, or come before the request has ended.

use http_body_util::BodyExt as _;

use super::{Death, config, problem, request};
use crate::harness::wire::{Service, Wire, field, status};
use crate::harness::{Gateway, http2};

#[tokio::test]
async fn an_answer_that_is_not_one_becomes_a_502() {
    for (name, bytes, reset, code) in [
        ("nothing", "", false, "upstream-reset"),
        ("a reset", "", true, "upstream-reset"),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le", false, "upstream-reset"),
        ("a reset in the head", "HTTP/1.1 200 OK\r\nContent-Le", true, "upstream-reset"),
        ("another protocol", "SSH-2.0-OpenSSH_9.6\r\n\r\n", false, "upstream-malformed"),
        ("a bad status", "HTTP/1.1 20x OK\r\n\r\n", false, "upstream-malformed"),
        ("a bad field", "HTTP/1.1 200 OK\r\nA B: c\r\n\r\n", false, "upstream-malformed"),
        (
            "lengths that differ",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            false,
            "upstream-malformed",
        ),
        (
            "a switch that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n",
            false,
            "upstream-malformed",
        ),
    ] {
        let service = Service::bind().await;
        let gateway = Gateway::start(service.addr, &config("")).await;
        let mut client = Wire::connect(gateway.addr()).await;
        client.send(request("GET", "/case", "")).await;
        let mut connection = service.accept().await;
        connection.head().await;
        connection.send(bytes).await;
        if reset {
            connection.reset();
        } else {
            drop(connection);
        }
        assert_eq!(problem(&mut client).await, (502, code.to_owned()), "{name}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_part_of_an_answer_is_never_taken_for_the_whole() {
    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\nhalf";
    let service = Service::bind().await;
    let gateway = Gateway::start(service.addr, &config("")).await;
    let cases = [
        ("a length, closed", LENGTH, Death::Close),
        ("a length, reset", LENGTH, Death::Reset),
        ("chunks, closed", CHUNKED, Death::Close),
        ("chunks, reset", CHUNKED, Death::Reset),
        ("chunks, nonsense", CHUNKED, Death::Answer("nonsense\r\n")),
        ("chunks, cut before the last line", CHUNKED, Death::Answer("0\r\n")),
        ("until the end, reset", UNTIL_CLOSE, Death::Reset),
    ];
    for (name, begun, death) in cases {
        let mut client = Wire::connect(gateway.addr()).await;
        client.send(request("GET", "/case", "")).await;
        let mut connection = service.accept().await;
        connection.head().await;
        connection.send(begun).await;
        let head = client.head().await;
        assert_eq!(status(&head), 200, "{name}: what has begun goes on");
        let chunked = field(&head, "transfer-encoding") == Some("chunked");
        let begun_body = client.exactly(if chunked { "4\r\nhalf\r\n".len() } else { 4 }).await;
        death.end(connection).await;
        // Ended, and without the last chunk or the rest of the declared length.
        assert_eq!(client.rest().await, "", "{name}: after {begun_body:?}");

        let mut sender = http2::connect(gateway.addr()).await;
        let asked = tokio::spawn(sender.send_request(http2::get("/case")));
        let mut connection = service.accept().await;
        connection.head().await;
        connection.send(begun).await;
        let mut response = asked.await.unwrap().expect("an answer begins");
        let data = response.frame().await.unwrap().expect("it has a body").into_data();
        assert_eq!(data.unwrap(), "half", "{name}");
        death.end(connection).await;
        let end = response.collect().await;
        assert!(end.is_err(), "{name}: a clean end over HTTP/2: {end:?}");
    }
    let view = gateway.settled().await;
    let failed = view.traffic.totals.by_ending.upstream_failed;
    assert_eq!(failed, 2 * cases.len() as u64, "each is recorded as a failure");
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_knows_no_chunks_is_told_by_a_reset_that_it_got_a_part() {
    const BEGUN: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let service = Service::bind().await;
    let gateway = Gateway::start(service.addr, &config("")).await;
    for (death, part) in [
        (Death::Answer("0\r\n\r\n"), false),
        (Death::Close, true),
        (Death::Reset, true),
        (Death::Answer("nonsense\r\n"), true),
    ] {
        let mut client = Wire::connect(gateway.addr()).await;
        client.send("GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n").await;
        let mut connection = service.accept().await;
        connection.head().await;
        connection.send(BEGUN).await;
        assert_eq!(field(&client.head().await, "transfer-encoding"), None, "HTTP/1.0 has none");
        assert_eq!(client.exactly(4).await, b"half");
        death.end(connection).await;
        assert_eq!(client.is_reset().await, part, "{death:?}");
    }
    gateway.stop().await;
}

/// What must never be read as a request: it is the middle of a body.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n";

/// A request whose body is sent in two parts, in the second of which a request is hidden.
fn upload() -> (String, String) {
    let body = format!("first part{}{SMUGGLED}{}", "x".repeat(100_000), "y".repeat(100_000));
    let whole = request("POST", "/upload", &body);
    let at = whole.find("first part").expect("it is there") + "first part".len();
    let (begun, rest) = whole.split_at(at);
    (begun.to_owned(), rest.to_owned())
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_passes_while_the_body_goes_on() {
    for (code, answer) in [
        (413, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"),
        (200, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"),
    ] {
        let service = Service::bind().await;
        let gateway = Gateway::start(service.addr, &config("")).await;
        let (begun, rest) = upload();
        let mut client = Wire::connect(gateway.addr()).await;
        client.send(begun).await;
        let mut connection = service.accept().await;
        assert!(connection.head().await.starts_with("POST /upload "));
        assert_eq!(connection.exactly(10).await, b"first part");
        connection.send(answer).await;
        let (head, body) = client.message().await;
        assert_eq!((status(&head), body.len()), (code, 3), "{head}");

        // The rest is a body still, on both sides.
        client.send(&rest).await;
        assert!(connection.exactly(rest.len()).await == rest.as_bytes(), "{code}");
        client.send(request("GET", "/next", "")).await;
        assert!(connection.head().await.starts_with("GET /next "), "{code}");
        connection.send(super::OK).await;
        assert_eq!(status(&client.head().await), 200);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn after_an_early_answer_and_an_end_no_rest_of_a_body_becomes_a_request() {
    let service = Service::bind().await;
    let gateway = Gateway::start(service.addr, &config("")).await;
    let (begun, rest) = upload();
    let mut client = Wire::connect(gateway.addr()).await;
    client.send(begun).await;
    let mut connection = service.accept().await;
    connection.head().await;
    connection.exactly(10).await;
    connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
    drop(connection);
    let (head, body) = client.message().await;
    assert_eq!((status(&head), body.as_slice()), (413, b"big".as_slice()), "{head}");
    client.offer(&rest).await;
    client.offer(request("GET", "/behind", "")).await;
    assert_eq!(client.rest().await, "", "nothing of it was answered");

    let mut other = Wire::connect(gateway.addr()).await;
    other.send(request("GET", "/next", "")).await;
    let next = service.accept().await.head().await;
    assert!(next.starts_with("GET /next "), "nothing of it was passed on: {next}");
    gateway.stop().await;
}
