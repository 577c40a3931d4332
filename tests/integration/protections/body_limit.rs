use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Evidence, evidence};
use crate::harness::client::read_replies;
use crate::harness::request::request;
use crate::harness::{Gateway, Idle, Upstream, call, exchange};

const CONFIG: &str = r#"
[protect.body_limit]
mode = "enforce"
max = "16B"

[[route]]
match = "POST /upload"
body_limit = "1KiB"

[[route]]
match = "PUT /note"

[route.protect.body_limit]
max = "4B"
"#;

/// `body` in chunks of at most `size` bytes.
fn chunked(line: &str, body: &str, size: usize) -> String {
    let head = request(line, &["Transfer-Encoding: chunked"], "");
    let text = |chunk| std::str::from_utf8(chunk).expect("ASCII");
    let chunks = body.as_bytes().chunks(size);
    let chunks = chunks.map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), text(chunk)));
    head + &chunks.collect::<String>() + "0\r\n\r\n"
}

#[tokio::test]
async fn a_body_passes_up_to_the_last_byte_of_its_routes_limit() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    for (line, max) in
        [("POST /", 16), ("POST /upload", 1024), ("PUT /note", 4), ("PUT /upload", 16)]
    {
        for (bytes, status) in [(max, 200), (max + 1, 413), (4 * max, 413)] {
            let body = "x".repeat(bytes);
            let declared = request(line, &[], &body);
            for (form, sent) in [
                ("declared", declared),
                ("in one chunk", chunked(line, &body, bytes)),
                ("byte by byte", chunked(line, &body, 1)),
            ] {
                let reply = exchange(gateway.addr(), sent.as_bytes(), 1).await;
                let code = (status == 413).then_some("body-too-large");
                assert_eq!(
                    (reply.statuses(), reply.code()),
                    (vec![status], code),
                    "{line}, {bytes} bytes, {form}: {}",
                    reply.text
                );
            }
        }
    }
    let found = evidence(&gateway, "body_limit@POST /upload").await;
    assert_eq!(found, Evidence { evaluated: 9, would_deny: 0, denied: 6 });
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_without_a_body_is_not_judged() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    for fields in [&[][..], &["Content-Length: 0"]] {
        assert_eq!(call(gateway.addr(), "POST /", fields, "").await.status(), 200);
    }
    let found = evidence(&gateway, "body_limit").await;
    assert_eq!(found, Evidence { evaluated: 0, would_deny: 0, denied: 0 });
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_declares_too_much_is_refused_before_a_byte_of_it_is_asked_for() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    for (name, fields) in [
        ("the client waits for leave", &["Content-Length: 17", "Expect: 100-continue"][..]),
        ("the client has sent nothing yet", &["Content-Length: 1000000000000"]),
    ] {
        let reply = call(gateway.addr(), "POST /", fields, "").await;
        assert_eq!(reply.statuses(), [413], "{name}, and no 100 first: {}", reply.text);
        assert_eq!(reply.code(), Some("body-too-large"), "{name}");
        assert!(reply.text.contains("at most 16B"), "{name}: it says how much: {}", reply.text);
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_cancelled_at_the_service_before_the_client_is_told() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), CONFIG).await;
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    let head = request("POST /", &["Transfer-Encoding: chunked"], "");
    client.write_all(format!("{head}10\r\n0123456789abcdef\r\n").as_bytes()).await.unwrap();
    let mut asked = service.asked().await;
    asked.read_to("0123456789abcdef\r\n").await;

    client.write_all(b"1\r\nx\r\n").await.unwrap();
    let reply = read_replies(&mut client, 1).await;
    assert_eq!((reply.status(), reply.code()), (413, Some("body-too-large")), "{}", reply.text);
    assert!(asked.has_been_closed(), "the service still waits for the rest");
    assert!(read_replies(&mut client, 0).await.closed, "the rest is never read as a request");
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_a_body_passes_whole_and_counts_once() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &CONFIG.replace("enforce", "warn")).await;
    let body = "x".repeat(100);
    for (index, sent) in
        [request("POST /", &[], &body), chunked("POST /", &body, 1), chunked("POST /", &body, 20)]
            .into_iter()
            .enumerate()
    {
        let reply = exchange(gateway.addr(), sent.as_bytes(), 1).await;
        assert_eq!(reply.status(), 200, "{}", reply.text);
        let received = upstream.received();
        let arrived = received[index].split_once("\r\n\r\n").expect("a whole head").1;
        assert_eq!(arrived.matches('x').count(), 100, "all of it arrives: {arrived}");
    }
    let found = evidence(&gateway, "body_limit").await;
    assert_eq!(found, Evidence { evaluated: 3, would_deny: 3, denied: 0 });
    gateway.stop().await;
}
