//! How a body is read: whole or not at all, from both protocols, within its bounds, and sent on.

use std::time::Duration;

use http::Request;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{JSON, deflate, gzip, post, post_chunked};
use crate::harness::ask::{metric, until};
use crate::harness::client::read_replies;
use crate::harness::echo::{Client, Echo, body};
use crate::harness::wire::{Service, Wire, field, status};
use crate::harness::{Gateway, Upstream, exchange};

const ENFORCED: &str = "[protect.body_syntax]\nmode = \"enforce\"\n";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A JSON string of `bytes` bytes in all.
fn string(bytes: usize) -> Vec<u8> {
    format!("\"{}\"", "s".repeat(bytes - 2)).into_bytes()
}

#[tokio::test]
async fn a_body_that_was_read_arrives_byte_for_byte() {
    let service = Service::bind().await;
    let gateway = Gateway::start(service.addr, ENFORCED).await;
    let (large, small) = (string(900_000), string(2000));
    for (name, content, sent) in [
        ("declared", &large, post(&[JSON], &large)),
        ("in chunks", &large, post_chunked(&[JSON], &large, 4099)),
        ("in chunks of a byte", &small, post_chunked(&[JSON], &small, 1)),
    ] {
        let mut client = Wire::connect(gateway.addr()).await;
        let answer = async {
            let mut asked = service.accept().await;
            let (head, arrived) = asked.message().await;
            asked.send(OK).await;
            (head, arrived, asked)
        };
        let ((), (head, arrived, _asked)) = tokio::join!(client.send(sent), answer);
        assert!(arrived == *content, "{name}: {} bytes, {head}", arrived.len());
        assert_eq!(status(&client.message().await.0), 200, "{name}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_coded_body_arrives_decoded_with_its_length() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, ENFORCED).await;
    let plain = b"{\"text\":\"the printer is on fire\"}";
    for (index, sent) in [
        post(&[JSON, "Content-Encoding: gzip"], &gzip(plain)),
        post(&[JSON, "Content-Encoding: deflate"], &deflate(plain)),
        post_chunked(&[JSON, "Content-Encoding: x-gzip, identity"], &gzip(plain), 3),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = exchange(gateway.addr(), &sent, 1).await;
        assert_eq!(reply.statuses(), [200], "{}", reply.text);
        let received = upstream.received();
        let (head, arrived) = received[index].split_once("\r\n\r\n").expect("a whole head");
        assert_eq!(arrived.as_bytes(), plain, "{head}");
        assert_eq!(field(head, "content-length"), Some("33"), "{head}");
        assert_eq!(field(head, "transfer-encoding"), None, "{head}");
        assert_eq!(field(head, "content-encoding"), None, "{head}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_beyond_the_bound_streams_where_nothing_enforces() {
    let service = Service::bind().await;
    let config = "[listen]\nchecked_body_max = \"64KiB\"\n[protect.body_limit]\nmode = \"off\"";
    let gateway = Gateway::start(service.addr, config).await;
    let content = string(1_000_000);
    for (name, sent) in
        [("declared", post(&[JSON], &content)), ("chunked", post_chunked(&[JSON], &content, 1000))]
    {
        let mut client = Wire::connect(gateway.addr()).await;
        // The service has the first part before the client has sent the last.
        let (first, last) = sent.split_at(sent.len() - 1000);
        let begun = async {
            let mut asked = service.accept().await;
            asked.has_head().await;
            asked
        };
        let ((), mut asked) = tokio::join!(client.send(first), begun);
        let ((), (head, arrived)) = tokio::join!(client.send(last), asked.message());
        assert!(arrived == content, "{name}: {} bytes, {head}", arrived.len());
        asked.send(OK).await;
        assert_eq!(status(&client.message().await.0), 200, "{name}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_client_is_told_to_continue_before_its_body_is_read() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, ENFORCED).await;
    for (content, want) in [("{\"a\":1}", 200), ("{\"a\":1,", 400)] {
        let mut client = Wire::connect(gateway.addr()).await;
        let sent = post(&[JSON, "Expect: 100-continue"], content.as_bytes());
        let (head, rest) = sent.split_at(sent.len() - content.len());
        client.send(head).await;
        assert_eq!(status(&client.head().await), 100, "{content}");
        client.send(rest).await;
        assert_eq!(status(&client.message().await.0), want, "{content}");
    }
    assert_eq!(upstream.received().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn requests_behind_one_that_is_read_are_answered_in_their_turn() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, ENFORCED).await;
    let next = b"GET /next HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    for (name, first, statuses) in [
        ("a good body", post(&[JSON], b"{\"a\":1}"), [200, 200]),
        ("a bad body", post(&[JSON], b"{\"a\":"), [400, 200]),
        ("a bad body in chunks", post_chunked(&[JSON], b"{\"a\":", 2), [400, 200]),
    ] {
        let reply = exchange(gateway.addr(), &[&first[..], next].concat(), 2).await;
        assert_eq!(reply.statuses(), statuses, "{name}: {}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_breaks_off_leaves_nothing() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, ENFORCED).await;
    let sent = post(&[JSON], b"{\"text\":\"half of it\"}");
    let mut client = Wire::connect(gateway.addr()).await;
    client.send(&sent[..sent.len() - 5]).await;
    client.reset();
    let ended = "seaworthy_requests_total{ending=\"client_gone\"}";
    until("it is counted as gone", async || {
        (metric(gateway.console(), ended).await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_is_checked_has_to_arrive_in_time() {
    let upstream = Upstream::ok().await;
    let config = format!("{ENFORCED}[listen]\nbody_timeout = \"300ms\"");
    let gateway = Gateway::start(upstream.addr, &config).await;
    let client = TcpStream::connect(gateway.addr()).await.expect("the gateway listens");
    let (mut answer, mut client) = client.into_split();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    client.write_all(head.as_bytes()).await.expect("it is open");
    client.write_all(b"Content-Length: 1000000\r\n\r\n\"").await.expect("it is open");
    // Each byte comes in time, and all of them together never.
    let drip = async {
        let mut pace = tokio::time::interval(Duration::from_millis(30));
        while client.write_all(b"s").await.is_ok() {
            pace.tick().await;
        }
        std::future::pending::<()>().await;
    };
    let reply = tokio::select! {
        reply = read_replies(&mut answer, 1) => reply,
        () = drip => unreachable!("it goes on for ever"),
    };
    assert_eq!((reply.status(), reply.code()), (408, Some("body-timeout")), "{}", reply.text);
    assert_eq!(upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn bodies_together_have_a_bound() {
    let upstream = Upstream::ok().await;
    let config = format!(
        "{ENFORCED}[listen]\nworkers = 1\nchecked_body_max = \"64KiB\"\nchecked_bodies_max = \"96KiB\""
    );
    let gateway = Gateway::start(upstream.addr, &config).await;
    let content = string(60_000);
    let sent = post(&[JSON], &content);
    let mut slow = Wire::connect(gateway.addr()).await;
    slow.send(&sent[..sent.len() - 1]).await;
    // Once the slow one's are there, there is no room for as many again.
    let refused = until("the bodies are held", async || {
        let reply = exchange(gateway.addr(), &sent, 1).await;
        (reply.statuses() == [503]).then_some(reply)
    })
    .await;
    assert_eq!(refused.code(), Some("checks-over-capacity"));
    assert!(refused.text.contains("retry-after: 1"), "{}", refused.text);
    // A body that needs no check passes, and so does a small one.
    let plain = post(&["Content-Type: text/plain"], &content);
    assert_eq!(exchange(gateway.addr(), &plain, 1).await.statuses(), [200]);
    assert_eq!(exchange(gateway.addr(), &post(&[JSON], b"{}"), 1).await.statuses(), [200]);
    slow.send("\"").await;
    assert_eq!(status(&slow.message().await.0), 200);
    assert_eq!(exchange(gateway.addr(), &sent, 1).await.statuses(), [200], "the room is back");
    gateway.stop().await;
}

#[tokio::test]
async fn over_http2_the_same_is_read() {
    let echo = Echo::http2().await;
    let config = format!("{ENFORCED}[service]\nprotocol = \"http2\"");
    let gateway = Gateway::start(echo.addr, &config).await;
    let client = Client::connect(gateway.addr()).await;
    let send = async |fields: &[(&str, &str)], content: Vec<u8>| {
        let mut request =
            Request::post("http://shop.example/").header("content-type", "application/json");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(body(content, None)).expect("a request");
        client.send(request).await.expect("an answer")
    };
    let bad = send(&[], b"{\"a\":1,\"a\":2}".to_vec()).await;
    assert_eq!((bad.status(), bad.code()), (400, Some("ambiguous-body".to_owned())));
    let large = string(900_000);
    let good = send(&[], large.clone()).await;
    assert_eq!(good.status(), 200);
    assert!(good.body == large, "{} bytes", good.body.len());
    let coded = send(&[("content-encoding", "gzip")], gzip(b"{\"a\":1}")).await;
    assert_eq!((coded.status(), coded.text()), (200, "{\"a\":1}"));
    let arrived = echo.take();
    assert_eq!(arrived.len(), 2, "the bad one never arrived");
    assert_eq!(arrived[1].head.headers.get("content-encoding"), None);
    let length = arrived[1].head.headers.get("content-length").map(|value| value.to_str().unwrap());
    assert!(matches!(length, None | Some("7")), "{length:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_rewritten_is_framed_anew_and_nothing_else_changes() {
    let upstream = Upstream::ok().await;
    let config = "[protect.vocabulary]\nmode = \"enforce\"\n\
        fields = [{ route = \"POST /\", at = \"/weights\", vocabulary = \"stages\", shape = \"weights\", on_alias = \"rewrite\" }]";
    let gateway = Gateway::start(upstream.addr, config).await;
    let before = "{ \"note\" : \"Series A\\u0021\",\"weights\":{\"Series A\": 0.60, \"seed\":0.4 },\n\"n\":1.000e2 }";
    let after = before.replace("\"Series A\": 0.60", "\"series-a\": 0.60");
    for (index, sent) in
        [post(&[JSON], before.as_bytes()), post_chunked(&[JSON], before.as_bytes(), 5)]
            .into_iter()
            .enumerate()
    {
        let reply = exchange(gateway.addr(), &sent, 1).await;
        assert_eq!(reply.statuses(), [200], "{}", reply.text);
        let received = upstream.received();
        let (head, arrived) = received[index].split_once("\r\n\r\n").expect("a whole head");
        assert_eq!(arrived, after);
        assert_eq!(field(head, "content-length"), Some(&*after.len().to_string()), "{head}");
        assert_eq!(field(head, "transfer-encoding"), None, "{head}");
    }
    gateway.stop().await;
}
