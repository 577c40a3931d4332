//! Whose fault it is that a request stands still: the client's, while it has more of the body to
//! send; the service's, as soon as it has more to take.

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::client::{PATIENCE, read_replies};
use crate::harness::{Gateway, Reply, Upstream, exchange};

/// The service has less time than a client may pause.
const CONFIG: &str = r#"
[listen]
body_timeout = "600ms"

[protect.request_timeout]
mode = "enforce"
max = "200ms"
"#;

fn told(reply: &Reply) -> (Vec<u16>, Option<&str>) {
    (reply.statuses(), reply.code())
}

#[tokio::test]
async fn a_client_that_pauses_is_not_counted_against_the_service() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    for half in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhal",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
    ] {
        let reply = exchange(gateway.addr(), half.as_bytes(), 0).await;
        let reply = Reply { text: reply.text.replace("HTTP/1.1 100", ""), ..reply };
        assert_eq!(told(&reply), (vec![408], Some("body-timeout")), "{half}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_service_that_takes_no_more_of_the_body_is_too_slow() {
    // The system accepts the connection; nobody reads what comes on it.
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::start(service.local_addr().unwrap(), CONFIG).await;
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    // More than all buffers on the way hold, and less than the limit on bodies.
    let sending = tokio::spawn(async move {
        let piece = vec![b'x'; 1 << 20];
        while writer.write_all(&piece).await.is_ok() {}
    });
    let reply = read_replies(&mut reader, 1).await;
    assert_eq!(told(&reply), (vec![504], Some("request-timeout")), "{}", reply.text);
    // The client is cut off at once, and not when the service deigns to read on.
    let cut_off = tokio::time::timeout(PATIENCE, sending).await;
    cut_off.expect("the rest of the body is not waited for").unwrap();
    gateway.stop().await;
}
