//! Clients that mean harm, or act as if they did. Whatever they do, others are served meanwhile
//! and afterwards, and nothing of them stays.

use std::io::Write as _;

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::ask::{json, metric, until};
use crate::harness::client::{PATIENCE, read_replies};
use crate::harness::echo::{Client, Echo, body};
use crate::harness::frames::{self, Frames, block, frame};
use crate::harness::{Gateway, Held, Idle, Upstream, call, exchange};

const CHUNKED: &str = "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A new client is served, and no request is left over.
async fn unharmed(gateway: &Gateway) {
    let reply = call(gateway.addr(), "GET /", &[], "").await;
    assert_eq!(reply.status(), 200, "{}", reply.text);
    settles(gateway, "http_server_active_requests", 0.0).await;
}

async fn settles(gateway: &Gateway, series: &str, value: f64) {
    until(&format!("{series} is {value}"), async || {
        (metric(gateway.console(), series).await == Some(value)).then_some(())
    })
    .await;
}

/// Waits until as many requests have ended because their client was gone.
async fn gone(gateway: &Gateway, count: f64) {
    settles(gateway, "seaworthy_requests_total{ending=\"client_gone\"}", count).await;
}

/// Answers the one connection after a test's own, for [`unharmed`].
fn answer_next(service: Idle) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut asked = service.asked().await;
        asked.read_to("\r\n\r\n").await;
        asked.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        asked.read_to_close().await;
    })
}

/// What `open` sends for each of the first `count` streams of a client.
fn streams(count: u32, open: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|number| open(2 * number + 1)).collect()
}

fn open_get(stream: u32, flags: u8) -> Vec<u8> {
    frame(frames::HEADERS, frames::END_HEADERS | flags, stream, &frames::get("/"))
}

#[tokio::test]
async fn a_flood_of_http2_frames_is_cut_off() {
    use frames::{
        CANCEL, CONTINUATION, DATA, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, RST_STREAM,
        WINDOW_UPDATE,
    };
    let cancel = |stream| frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    let field = block(&[("x", &"a".repeat(15_000))]);
    let attacks = [
        (
            "streams opened and reset (CVE-2023-44487)",
            streams(2000, |stream| [open_get(stream, END_STREAM), cancel(stream)].concat()),
            ENHANCE_YOUR_CALM,
        ),
        (
            "streams that the gateway has to reset (CVE-2025-8671)",
            streams(2000, |stream| {
                [open_get(stream, 0), frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])]
                    .concat()
            }),
            ENHANCE_YOUR_CALM,
        ),
        (
            "malformed requests without an end",
            streams(2000, |stream| {
                frame(HEADERS, frames::END_HEADERS | END_STREAM, stream, &block(&[("x", "a")]))
            }),
            ENHANCE_YOUR_CALM,
        ),
        (
            "field blocks that go on and on",
            [
                frame(HEADERS, 0, 1, &frames::get("/")),
                frame(CONTINUATION, 0, 1, &[]).repeat(10_000),
            ]
            .concat(),
            ENHANCE_YOUR_CALM,
        ),
        (
            "fields that go on and on",
            [
                frame(HEADERS, 0, 1, &frames::get("/")),
                frame(CONTINUATION, 0, 1, &field).repeat(1000),
            ]
            .concat(),
            ENHANCE_YOUR_CALM,
        ),
        (
            "one field that goes on and on",
            {
                // A literal of 2 MiB, of which every frame brings a piece.
                let start = [&frames::get("/")[..], b"\0\x01x\x7f\x81\xff\x7f"].concat();
                let piece = frame(CONTINUATION, 0, 1, &[b'a'; 16_384]);
                [frame(HEADERS, 0, 1, &start), piece.repeat(128)].concat()
            },
            ENHANCE_YOUR_CALM,
        ),
        (
            "a body of nothing",
            [open_get(1, 0), frame(DATA, 0, 1, &[]).repeat(100_000)].concat(),
            ENHANCE_YOUR_CALM,
        ),
    ];
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let other = Client::connect(gateway.addr()).await;
    for (name, bytes, code) in attacks {
        let mut attacker = Frames::connect(gateway.addr()).await;
        attacker.send(&bytes).await;
        assert_eq!(attacker.goaway().await, Some(code), "{name}");
        assert_eq!(other.get("/").await.status(), 200, "{name}: another connection");
        unharmed(&gateway).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_asks_and_takes_no_answer_is_cut_off() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "[listen]\nbody_timeout = \"300ms\"").await;
    for (name, kind, payload) in [
        ("pings", frames::PING, &[0; 8][..]),
        // SETTINGS_HEADER_TABLE_SIZE, the same each time.
        ("settings", frames::SETTINGS, &[0, 1, 0, 0, 0x10, 0]),
    ] {
        let mut attacker = Frames::connect(gateway.addr()).await;
        let flood = frame(kind, 0, 0, payload).repeat(4000);
        let mut sent = 0;
        // It reads nothing: answers pile up until the gateway reads no more either.
        while attacker.send(&flood).await {
            sent += 1;
            assert!(sent < 2000, "{name}: the gateway goes on answering nobody");
            if sent % 16 == 0 {
                assert_eq!(call(gateway.addr(), "GET /", &[], "").await.status(), 200, "{name}");
            }
        }
        unharmed(&gateway).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn http2_streams_above_the_cap_are_refused_or_wait() {
    let service = Held::start().await;
    let gateway = Gateway::start(service.addr, "[listen]\nhttp2_streams_max = 4").await;
    let mut rude = Frames::connect(gateway.addr()).await;
    let held = |stream| {
        let flags = frames::END_HEADERS | frames::END_STREAM;
        frame(frames::HEADERS, flags, stream, &frames::get("/held"))
    };
    rude.send(&streams(10, held)).await;
    for stream in [9, 11, 13, 15, 17, 19] {
        let refused = rude.until(|frame| frame.kind == frames::RST_STREAM).await;
        let refused = refused.map(|frame| (frame.stream, frame.error()));
        assert_eq!(refused, Some((stream, Some(frames::REFUSED_STREAM))));
    }
    service.arrived(4).await;
    assert_eq!(call(gateway.addr(), "GET /", &[], "").await.status(), 200);
    drop(rude);
    unharmed(&gateway).await;

    // One that heeds the cap gets all its answers.
    let client = Client::connect(gateway.addr()).await;
    client.get("/").await;
    let answers: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/held").await.status() })
        })
        .collect();
    service.arrived(8).await;
    settles(&gateway, "http_server_active_requests", 4.0).await;
    service.release(10);
    for answer in answers {
        assert_eq!(answer.await.unwrap(), 200);
    }
    unharmed(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_giant_head_is_refused_and_never_reaches_the_service() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let start = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (name, head) in [
        ("100,000 fields", format!("{start}{}\r\n", "X: y\r\n".repeat(100_000))),
        ("101 fields", format!("{start}{}\r\n", "X: y\r\n".repeat(100))),
        ("a field of 10 MB", format!("{start}X: {}\r\n\r\n", "y".repeat(10_000_000))),
        ("a name of 10 MB", format!("{start}{}: y\r\n\r\n", "y".repeat(10_000_000))),
        ("a target of 10 MB", format!("GET /{} HTTP/1.1\r\n", "y".repeat(10_000_000))),
        ("a method of 10 MB", "G".repeat(10_000_000)),
        ("empty lines without end", "\r\n".repeat(5_000_000)),
    ] {
        let reply = exchange(gateway.addr(), head.as_bytes(), 0).await;
        assert_eq!((reply.statuses(), reply.code()), (vec![431], Some("head-too-large")), "{name}");
        assert!(reply.closed, "{name}");
    }
    // Over HTTP/2 the head is refused and the connection goes on.
    let client = Client::connect(gateway.addr()).await;
    let request = Request::get("http://shop.example/").header("x", "y".repeat(100_000));
    let response = client.send(request.body(body("", None)).unwrap()).await.expect("an answer");
    assert_eq!(response.status(), 431);
    assert!(upstream.received().is_empty());
    assert_eq!(client.get("/").await.status(), 200);
    unharmed(&gateway).await;
    gateway.stop().await;
}

/// Sends `piece` until the gateway takes no more of it. Returns what it answered.
async fn send_without_end(gateway: &Gateway, head: &str, piece: Vec<u8>) -> crate::harness::Reply {
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let sending = async { while write.write_all(&piece).await.is_ok() {} };
    let (reply, ()) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(read_replies(&mut read, 0), sending) })
            .await
            .expect("the gateway closes");
    reply
}

#[tokio::test]
async fn an_endless_body_is_cut_off_where_its_limit_is_crossed() {
    let service = Idle::start().await;
    let config = "[protect.body_limit]\nmode = \"enforce\"\nmax = \"256KiB\"";
    let gateway = Gateway::start(service.addr(), config).await;
    let piece = [b"2000\r\n", &[b'x'; 0x2000][..], b"\r\n"].concat();
    let (reply, received) = tokio::join!(send_without_end(&gateway, CHUNKED, piece), async {
        service.asked().await.read_to_close().await
    });
    assert_eq!((reply.statuses(), reply.code()), (vec![413], Some("body-too-large")));
    // What came is a part, and looks like one.
    assert!(received.contains("\r\ntransfer-encoding: chunked\r\n"), "{received:.200}");
    assert!(!received.ends_with("0\r\n\r\n"), "the service takes it for whole");
    assert!(received.len() < 512 << 10, "{} bytes were passed on", received.len());
    let answering = answer_next(service);
    unharmed(&gateway).await;
    gateway.stop().await;
    answering.await.unwrap();
}

#[tokio::test]
async fn absurd_chunks_end_the_request_at_the_service() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), "").await;
    let long = "x".repeat(5000);
    let cases = [
        ("an extension of 5000 bytes", format!("5;{long}\r\nhello\r\n0\r\n\r\n")),
        ("an extension behind the last size", format!("5\r\nhello\r\n0;{long}\r\n\r\n")),
        ("a size of sixteen digits", "5\r\nhello\r\n0000000000000005\r\nhello\r\n".to_owned()),
        ("a size that overflows", "5\r\nhello\r\nfffffffffffffffff\r\n".to_owned()),
        ("trailers of 5000 bytes", format!("5\r\nhello\r\n0\r\nX: {long}\r\n\r\n")),
        ("a bare LF in an extension", "5\r\nhello\r\n5;a\nb\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("more data than its size", "5\r\nhello!!\r\n0\r\n\r\n".to_owned()),
    ];
    for (name, chunks) in cases {
        let sent = format!("{CHUNKED}{chunks}");
        let (reply, received) = tokio::join!(exchange(gateway.addr(), sent.as_bytes(), 0), async {
            service.asked().await.read_to_close().await
        });
        assert_eq!(reply.statuses(), [400], "{name}: {}", reply.text);
        assert_eq!((reply.code(), reply.closed), (Some("malformed-body"), true), "{name}");
        assert!(!received.ends_with("0\r\n\r\n"), "{name}: the service takes it for whole");
    }
    // Many that are each within the bound are no more than a body.
    let extension = "x".repeat(4000);
    let sent = format!("{CHUNKED}{}0\r\n\r\n", format!("1;{extension}\r\na\r\n").repeat(500));
    let (reply, ()) = tokio::join!(exchange(gateway.addr(), sent.as_bytes(), 1), async {
        let mut asked = service.asked().await;
        let received = asked.read_to("0\r\n\r\n").await;
        assert!(!received.contains(';'), "extensions end at the gateway");
        asked.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    });
    assert_eq!(reply.statuses(), [200]);
    let answering = answer_next(service);
    unharmed(&gateway).await;
    gateway.stop().await;
    answering.await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_of_its_body_takes_its_request_along() {
    let service = Idle::start().await;
    let config = "[protect.body_limit]\nmode = \"off\"\n[store.telemetry]\nflush_every = \"100ms\"";
    let gateway = Gateway::start(service.addr(), config).await;
    let length = CHUNKED.replace("Transfer-Encoding: chunked", "Content-Length: 1000000000000");
    for (count, (sent, end)) in
        [(CHUNKED, "8000\r\n"), (length.as_str(), "")].into_iter().enumerate()
    {
        let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
        client.write_all(format!("{sent}{end}").as_bytes()).await.unwrap();
        client.write_all(&[b'x'; 0x8000]).await.unwrap();
        let mut asked = service.asked().await;
        asked.read_to("xxx").await;
        drop(client);
        let received = asked.read_to_close().await;
        assert!(!received.ends_with("0\r\n\r\n"), "the service takes it for whole");
        gone(&gateway, count as f64 + 1.0).await;
    }
    // One that is read by the gateway itself.
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    let report = "POST /.seaworthy/csp-report HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{";
    client.write_all(report.as_bytes()).await.unwrap();
    settles(&gateway, "http_server_active_requests", 1.0).await;
    drop(client);
    gone(&gateway, 3.0).await;
    // The same over HTTP/2, whatever the client says that it means by it.
    for (count, code) in [(4.0, frames::CANCEL), (5.0, frames::NO_ERROR)] {
        let mut client = post_part(&gateway).await;
        let mut asked = service.asked().await;
        asked.read_to("xxx\r\n").await;
        client.send(&frame(frames::RST_STREAM, 0, 1, &code.to_be_bytes())).await;
        let received = asked.read_to_close().await;
        assert!(!received.ends_with("0\r\n\r\n"), "the service takes it for whole");
        gone(&gateway, count).await;
    }
    // With its connection.
    let client = post_part(&gateway).await;
    let asked = service.asked().await;
    drop(client);
    asked.read_to_close().await;
    gone(&gateway, 6.0).await;

    let rows = until("the rows are written", async || {
        let page = json(gateway.console(), "/api/v1/requests").await;
        let rows = page["rows"].as_array().expect("a list").clone();
        (rows.len() == 6).then_some(rows)
    })
    .await;
    for row in rows {
        assert_eq!((&row["status"], &row["ending"]), (&499.into(), &"client_gone".into()), "{row}");
    }
    let answering = answer_next(service);
    unharmed(&gateway).await;
    gateway.stop().await;
    answering.await.unwrap();
}

/// Begins a request over HTTP/2 whose body goes on.
async fn post_part(gateway: &Gateway) -> Frames {
    let mut client = Frames::connect(gateway.addr()).await;
    let head = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    client.send(&frame(frames::HEADERS, frames::END_HEADERS, 1, &block(&head))).await;
    client.send(&frame(frames::DATA, 0, 1, &[b'x'; 0x2000])).await;
    client
}

#[tokio::test]
async fn an_http2_service_takes_no_part_of_a_body_for_the_whole() {
    let service = Echo::http2().await;
    let gateway = Gateway::start(service.addr, "[service]\nprotocol = \"http2\"").await;
    for (count, code) in [(1.0, frames::CANCEL), (2.0, frames::NO_ERROR)] {
        let mut client = post_part(&gateway).await;
        settles(&gateway, "http_server_active_requests", 1.0).await;
        client.send(&frame(frames::RST_STREAM, 0, 1, &code.to_be_bytes())).await;
        gone(&gateway, count).await;
    }
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    client.write_all(format!("{CHUNKED}5\r\nhello\r\n").as_bytes()).await.unwrap();
    settles(&gateway, "http_server_active_requests", 1.0).await;
    drop(client);
    gone(&gateway, 3.0).await;
    unharmed(&gateway).await;
    let whole = service.take();
    assert_eq!(whole.len(), 1, "the last: {whole:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_of_its_answer_stops_the_service() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), "").await;
    for (count, over_http2) in [false, true].into_iter().enumerate() {
        let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
        let request = if over_http2 {
            let settings = frame(frames::SETTINGS, 0, 0, &[]);
            [frames::PREFACE, &settings, &open_get(1, frames::END_STREAM)].concat()
        } else {
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()
        };
        client.write_all(&request).await.unwrap();
        let mut asked = service.asked().await;
        asked.read_to("\r\n\r\n").await;
        let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        asked.write(start).await;
        let mut read = Vec::new();
        while !read.windows(5).any(|window| window == b"first") {
            assert!(client.read_buf(&mut read).await.unwrap() > 0, "the gateway goes on");
        }
        drop(client);
        asked.read_to_close().await;
        gone(&gateway, count as f64 + 1.0).await;
    }
    let answering = answer_next(service);
    unharmed(&gateway).await;
    gateway.stop().await;
    answering.await.unwrap();
}

#[tokio::test]
async fn partial_heads_hold_nobody_up_and_do_not_last() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "[listen]\nhead_timeout = \"2s\"").await;
    // The first byte of the HTTP/2 preface is also that of POST.
    let starts =
        ["P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX"];
    let mut slow = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
        stream.write_all(starts[number % starts.len()].as_bytes()).await.unwrap();
        slow.push(stream);
        if number % 20 == 0 {
            assert_eq!(call(gateway.addr(), "GET /", &[], "").await.status(), 200);
        }
    }
    for (number, mut stream) in slow.into_iter().enumerate() {
        let reply = read_replies(&mut stream, 0).await;
        let start = starts[number % starts.len()];
        let answer = (reply.statuses(), reply.code());
        assert_eq!(answer, (vec![408], Some("head-timeout")), "{start:?}");
        assert!(reply.closed, "{start:?}");
    }
    assert_eq!(upstream.received().len(), 20, "those in between");
    unharmed(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_thousand_connections_come_and_go() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    for sent in [&b""[..], b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", frames::PREFACE] {
        let mut streams = Vec::new();
        for _ in 0..1000 {
            let mut stream = std::net::TcpStream::connect(gateway.addr()).unwrap();
            stream.write_all(sent).unwrap();
            streams.push(stream);
        }
        drop(streams);
        settles(&gateway, "seaworthy_connections_open", 0.0).await;
        unharmed(&gateway).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_over_the_bound_is_closed_and_its_place_comes_back() {
    let upstream = Upstream::ok().await;
    let config = "[listen]\nworkers = 1\nconnections_max = 2";
    let gateway = Gateway::start(upstream.addr, config).await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
        stream.write_all(request).await.unwrap();
        assert_eq!(read_replies(&mut stream, 1).await.statuses(), [200]);
        kept.push(stream);
    }
    for count in 1..4 {
        let reply = exchange(gateway.addr(), request, 1).await;
        assert!(reply.closed && reply.text.is_empty(), "{}", reply.text);
        settles(&gateway, "seaworthy_connections_refused_total", f64::from(count)).await;
    }
    for stream in &mut kept {
        stream.write_all(request).await.unwrap();
        assert_eq!(read_replies(stream, 1).await.statuses(), [200], "those that are in go on");
    }
    drop(kept.pop());
    settles(&gateway, "seaworthy_connections_open", 1.0).await;
    unharmed(&gateway).await;
    settles(&gateway, "seaworthy_connections_refused_total", 3.0).await;
    assert_eq!(upstream.received().len(), 5, "of those who were refused nothing");
    gateway.stop().await;
}
