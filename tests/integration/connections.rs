//! What happens on one connection over time: slow heads, slow bodies, upgrades.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::client::read_replies;
use crate::harness::{Gateway, Upstream};

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
