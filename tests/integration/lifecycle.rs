//! How a gateway stops, and what a changed config leaves alone.
//!
//! What needs a process of its own (signals, exit codes) is in `crates/seaworthy/tests`.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::ask::{get, metric, until};
use crate::harness::client::{PATIENCE, read_replies};
use crate::harness::{Gateway, Upstream};

/// A service that answers when the test says so.
async fn service() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    (listener, addr)
}

/// Accepts a connection and reads the head of its first request.
async fn asked(service: &TcpListener) -> TcpStream {
    let (mut stream, _) = timeout(PATIENCE, service.accept()).await.expect("it is asked").unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the gateway goes on");
    }
    stream
}

async fn connect(addr: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.expect("the gateway listens");
    stream.write_all(bytes).await.expect("the gateway reads");
    stream
}

/// Nothing comes any more.
async fn ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
    drop(read);
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

async fn is_draining(console: SocketAddr) {
    until("/readyz says that the gateway is draining", async || {
        let reply = get(console, "/readyz", &[]).await;
        (reply.statuses() == [503] && reply.text.contains("FAIL  serving: draining")).then_some(())
    })
    .await;
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate";

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_closes_what_is_idle() {
    let (service, addr) = service().await;
    let gateway = Gateway::start(addr, "").await;
    let (traffic, console) = (gateway.addr(), gateway.console());
    assert_eq!(get(console, "/readyz", &[]).await.statuses(), [200]);

    let mut idle = connect(traffic, REQUEST).await;
    asked(&service).await.write_all(ANSWER).await.unwrap();
    assert_eq!(read_replies(&mut idle, 1).await.statuses(), [200]);
    let mut unused = connect(traffic, b"").await;
    let mut under_way = connect(traffic, REQUEST).await;
    let mut answering = asked(&service).await;

    let stopping = tokio::spawn(gateway.stop());
    is_draining(console).await;
    assert_eq!(get(console, "/healthz", &[]).await.statuses(), [200], "it is alive meanwhile");
    until("new connections are refused", async || TcpStream::connect(traffic).await.err()).await;
    ended(&mut idle).await;
    ended(&mut unused).await;
    assert!(!stopping.is_finished(), "a request is under way");

    answering.write_all(ANSWER).await.unwrap();
    let reply = read_replies(&mut under_way, 0).await;
    assert_eq!(reply.statuses(), [200]);
    assert!(reply.text.contains("connection: close\r\n"), "{}", reply.text);
    assert!(reply.closed && reply.text.ends_with("late"), "{}", reply.text);
    timeout(PATIENCE, stopping).await.expect("nothing is left to wait for").unwrap();
    TcpStream::connect(console).await.expect_err("the console is closed last");
}

#[tokio::test]
async fn the_drain_deadline_ends_what_is_left() {
    let upstream = Upstream::start(|_, _| crate::harness::upstream::Answer::Silence).await;
    let config = "[listen]\ndrain_timeout = \"200ms\"";
    let gateway = Gateway::start(upstream.addr, config).await;
    let mut waiting = connect(gateway.addr(), REQUEST).await;
    let mut sending = connect(gateway.addr(), b"GET / HTTP/1.1\r\nHost: a").await;
    until("the service is asked", async || upstream.received().pop()).await;
    timeout(PATIENCE, gateway.stop()).await.expect("it does not wait for the service");
    ended(&mut waiting).await;
    ended(&mut sending).await;
}

#[tokio::test]
async fn a_tunnel_may_go_on_until_the_drain_deadline() {
    let (service, addr) = service().await;
    let gateway = Gateway::start(addr, "[listen]\ndrain_timeout = \"1s\"").await;
    let console = gateway.console();
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = connect(gateway.addr(), upgrade).await;
    let mut server = asked(&service).await;
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    server.write_all(switch.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(client.read_buf(&mut head).await.unwrap() > 0, "the tunnel opens");
    }
    until("the tunnel is counted", async || {
        metric(console, "seaworthy_tunnels_open").await.filter(|open| *open == 1.0)
    })
    .await;

    let stopping = tokio::spawn(gateway.stop());
    is_draining(console).await;
    server.write_all(b"still here").await.unwrap();
    let mut said = [0; 10];
    client.read_exact(&mut said).await.expect("the tunnel is open while it drains");
    assert_eq!(&said, b"still here");
    timeout(PATIENCE, stopping).await.expect("an open tunnel ends at the deadline").unwrap();
    ended(&mut client).await;
}

/// The kinds of HTTP/2 frames that are looked at here (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Reads frames, answering what must be answered, until one fits.
async fn frame_like(stream: &mut TcpStream, fits: impl Fn(u8, u8) -> bool) -> Vec<u8> {
    loop {
        let mut head = [0; 9];
        let read = timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("a frame comes");
        read.expect("the connection is open");
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        stream.read_exact(&mut payload).await.expect("a whole frame");
        let (kind, flags) = (head[3], head[4]);
        if matches!(kind, PING | SETTINGS) && flags & ACK == 0 {
            let echo = if kind == PING { &*payload } else { &[] };
            stream.write_all(&frame(kind, ACK, 0, echo)).await.expect("it is open");
        }
        if fits(kind, flags) {
            return payload;
        }
    }
}

#[tokio::test]
async fn http2_is_told_to_go_away_and_its_open_stream_finishes() {
    let (service, addr) = service().await;
    let gateway = Gateway::start(addr, "").await;
    let console = gateway.console();
    // `:method GET`, `:scheme http`, `:path /` of the static table and a literal `:authority`
    // (RFC 7541, appendix A).
    let get = frame(HEADERS, 0x5, 1, &[0x82, 0x86, 0x84, 0x41, 1, b'a']);
    let opening =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(SETTINGS, 0, 0, &[]), &get].concat();
    let mut client = connect(gateway.addr(), &opening).await;
    let mut answering = asked(&service).await;

    let stopping = tokio::spawn(gateway.stop());
    is_draining(console).await;
    let away = frame_like(&mut client, |kind, _| kind == GOAWAY).await;
    assert_eq!(away.get(4..8), Some(&[0; 4][..]), "it is no error");
    answering.write_all(ANSWER).await.unwrap();
    let head = frame_like(&mut client, |kind, _| kind == HEADERS).await;
    assert_eq!(head.first(), Some(&0x88), "`:status 200` of the static table");
    let body = frame_like(&mut client, |kind, _| kind == DATA).await;
    assert_eq!(body, b"late");
    // The end may come in a frame of its own.
    if timeout(PATIENCE, client.peek(&mut [0])).await.expect("it goes on").is_ok_and(|n| n > 0) {
        frame_like(&mut client, |kind, flags| {
            kind == GOAWAY || kind == DATA && flags & END_STREAM != 0
        })
        .await;
    }
    timeout(PATIENCE, stopping).await.expect("nothing is left to wait for").unwrap();
}

fn write_config(dir: &Path, toml: &str) {
    std::fs::write(dir.join("seaworthy.toml"), toml).expect("it is writable");
}

async fn ask(stream: &mut TcpStream, host: &str) -> (Vec<u16>, bool) {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the connection is open");
    let reply = read_replies(stream, 1).await;
    (reply.statuses(), reply.closed)
}

#[tokio::test]
async fn a_reload_keeps_client_connections_and_those_to_the_service() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    assert_eq!(ask(&mut client, "a.example").await, (vec![200], false));
    let hosts = "[protect.host_allowlist]\nmode = \"enforce\"\nhosts = [\"b.example\"]";
    write_config(gateway.dir(), hosts);
    gateway.reload().await.expect("it is right");
    assert_eq!(ask(&mut client, "b.example").await, (vec![200], false), "on the same socket");
    assert_eq!(ask(&mut client, "a.example").await.0, [421], "the new config is in force");
    assert_eq!(metric(gateway.console(), "seaworthy_connections_accepted_total").await, Some(1.0));
    assert_eq!(metric(gateway.console(), "seaworthy_upstream_connects_total").await, Some(1.0));
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_has_used_its_burst_is_still_limited_after_a_reload() {
    let upstream = Upstream::ok().await;
    let limit = |mode: &str| {
        format!(
            "[protect.rate_limit]\nmode = \"{mode}\"\n\
             limits = [{{ per = \"ip\", rate = \"1/hour\", burst = 2 }}]\n"
        )
    };
    let gateway = Gateway::start(upstream.addr, &limit("enforce")).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.extend(get(gateway.addr(), "/", &[]).await.statuses());
    }
    assert_eq!(statuses, [200, 200, 429]);

    let changes = [
        ("another section", format!("{}[protect.cors]\nmode = \"off\"", limit("enforce")), 429),
        ("its own mode", limit("warn"), 200),
        ("its own mode again", limit("enforce"), 429),
        ("its own limits", limit("enforce").replace("burst = 2", "burst = 3"), 200),
    ];
    for (name, toml, status) in changes {
        write_config(gateway.dir(), &toml);
        gateway.reload().await.expect("it is right");
        let reply = get(gateway.addr(), "/", &[]).await;
        assert_eq!(reply.statuses(), [status], "{name}: {}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_changed_file_is_taken_up_without_a_signal() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    write_config(
        gateway.dir(),
        "[protect.host_allowlist]\nmode = \"enforce\"\nhosts = [\"b.example\"]",
    );
    until("the file is noticed", async || {
        (get(gateway.addr(), "/", &[]).await.statuses() == [421]).then_some(())
    })
    .await;
    write_config(gateway.dir(), "[protect.host_allowlist]\nmode = \"enforse\"");
    until("its fault is noticed", async || {
        metric(gateway.console(), "seaworthy_config_reload_failed").await.filter(|is| *is == 1.0)
    })
    .await;
    assert_eq!(get(gateway.addr(), "/", &[]).await.statuses(), [421], "the last one holds");
    write_config(gateway.dir(), "");
    until("the fault is mended", async || {
        metric(gateway.console(), "seaworthy_config_reload_failed").await.filter(|is| *is == 0.0)
    })
    .await;
    assert_eq!(get(gateway.addr(), "/", &[]).await.statuses(), [200]);
    gateway.stop().await;
}
