//! What happens on one connection over time: slow heads, slow bodies, upgrades.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::client::{PATIENCE, read_replies};
use crate::harness::{Gateway, Idle, Upstream, exchange};

#[tokio::test]
async fn a_head_that_does_not_arrive_is_answered_with_408() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "[listen]\nhead_timeout = \"300ms\"").await;
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow").await.unwrap();
    let reply = read_replies(&mut stream, 0).await;
    assert_eq!((reply.statuses(), reply.code()), (vec![408], Some("head-timeout")));
    assert!(reply.closed && upstream.received().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_pauses_is_answered_with_408() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "[listen]\nbody_timeout = \"300ms\"").await;
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhal").await.unwrap();
    let reply = read_replies(&mut stream, 0).await;
    assert_eq!((reply.statuses(), reply.code()), (vec![408], Some("body-timeout")));
    gateway.stop().await;
}

#[tokio::test]
async fn a_declared_giant_is_refused_before_it_is_read() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let reply = read_replies(&mut stream, 1).await;
    assert_eq!(
        (reply.statuses(), reply.code()),
        (vec![413], Some("body-too-large")),
        "no 100 first"
    );
    assert!(upstream.received().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn an_upgrade_holds_early_bytes_until_the_service_agrees() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::start(listener.local_addr().unwrap(), "").await;
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(format!("{head}early").as_bytes()).await.unwrap();

    let (mut service, _) = listener.accept().await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert!(service.read_buf(&mut read).await.unwrap() > 0, "the gateway goes on");
    }
    let request = String::from_utf8(read).unwrap();
    assert!(
        request.contains("connection: upgrade\r\n") && request.contains("upgrade: websocket\r\n")
    );
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    service.write_all(format!("{switch}hello").as_bytes()).await.unwrap();
    let mut early = [0; 5];
    service.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    service.write_all(b" bye").await.unwrap();
    drop(service);

    let reply = read_replies(&mut client, 0).await;
    assert_eq!(reply.statuses(), [101]);
    assert!(reply.closed && reply.text.ends_with("\r\n\r\nhello bye"), "{}", reply.text);
    // An upgraded connection is over when both sides have closed it.
    drop(client);
    gateway.stop().await;
}

/// The rest of a body that nobody will read, and the next request: both lie unread in the gateway
/// while the answer is sent.
#[tokio::test]
async fn bytes_behind_a_request_hold_no_answer_back() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), "").await;
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    client
        .write_all(format!("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n{next}").as_bytes())
        .await
        .unwrap();
    let mut asked = service.asked().await;
    asked.read_to("\r\n\r\n").await;
    asked.write("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirst").await;
    // The service says the rest only once the client has what came before.
    let mut read = Vec::new();
    while !read.ends_with(b"first") {
        let count = tokio::time::timeout(PATIENCE, client.read_buf(&mut read)).await;
        assert!(count.expect("the first part arrives").unwrap() > 0);
    }
    asked.write(" event").await;
    drop(client);
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_reads_no_body_arrives_whatever_the_body_is() {
    // The service answers as soon as it has the head, as one does that wants no upload.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut read = Vec::new();
                while !read.windows(4).any(|window| window == b"\r\n\r\n") {
                    assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the gateway goes on");
                }
                let answer =
                    "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
                stream.write_all(answer.as_bytes()).await.unwrap();
                // To close on unread bytes would take the answer back.
                while matches!(stream.read_buf(&mut read).await, Ok(1..)) {}
            });
        }
    });
    let gateway =
        Gateway::start(addr, "[protect.host_allowlist]\nmode = \"enforce\"\nhosts = [\"a\"]").await;
    let chunks = "1\r\nx\r\n".repeat(100) + "0\r\n\r\n";
    for (host, status) in [("a", 401), ("b", 421)] {
        let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\n");
        for (name, behind) in [
            ("chunks in the same packet", format!("Transfer-Encoding: chunked\r\n\r\n{chunks}")),
            (
                "a body in the same packet",
                format!("Content-Length: 500\r\n\r\n{}", "x".repeat(500)),
            ),
            (
                "a large body, of which a part is there",
                format!("Content-Length: 5000000\r\n\r\n{}", "x".repeat(500)),
            ),
            (
                "the last request, and one more",
                "Connection: close\r\n\r\nGET / HTTP/1.1\r\n".to_owned(),
            ),
        ] {
            let reply = exchange(gateway.addr(), format!("{head}{behind}").as_bytes(), 1).await;
            assert_eq!(reply.statuses(), [status], "{name}, Host: {host}: {}", reply.text);
        }
    }
    service.abort();
    gateway.stop().await;
}
