use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Evidence, evidence};
use crate::harness::client::{PATIENCE, read_replies};
use crate::harness::request::request;
use crate::harness::{Gateway, Idle, Upstream};

fn config(mode: &str, max: &str) -> String {
    format!("[protect.request_timeout]\nmode = \"{mode}\"\nmax = \"{max}\"")
}

/// Starts a request, and waits until the service has it whole.
async fn ask(
    service: &Idle,
    gateway: &Gateway,
    (line, body): (&str, &str),
) -> (TcpStream, crate::harness::asked::Asked) {
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    client.write_all(request(line, &[], body).as_bytes()).await.unwrap();
    let mut asked = service.asked().await;
    asked.read_to(&format!("\r\n\r\n{body}")).await;
    (client, asked)
}

#[tokio::test]
async fn a_silent_service_is_given_up_before_the_client_is_told() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), &config("enforce", "300ms")).await;
    for request in [("GET /", ""), ("POST /", "hello")] {
        let (mut client, asked) = ask(&service, &gateway, request).await;
        let reply = read_replies(&mut client, 1).await;
        assert_eq!((reply.status(), reply.code()), (504, Some("request-timeout")), "{request:?}");
        assert!(reply.text.contains("300ms"), "it says how long: {}", reply.text);
        assert!(asked.has_been_closed(), "{request:?}: the service works on for nobody");
        assert!(!reply.closed, "{request:?}: the client may go on on its connection");
    }
    let found = evidence(&gateway, "request_timeout").await;
    assert_eq!(found, Evidence { evaluated: 2, would_deny: 0, denied: 2 });
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_has_begun_may_take_its_time() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), &config("enforce", "2s")).await;
    let (mut client, mut asked) = ask(&service, &gateway, ("GET /", "")).await;
    asked.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl").await;
    // The pause is what is tested: it is longer than the whole limit.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    asked.write("ow").await;
    let reply = read_replies(&mut client, 1).await;
    assert_eq!((reply.status(), reply.body()), (200, "slow"), "{}", reply.text);
    gateway.stop().await;
}

#[tokio::test]
async fn a_slow_upload_is_not_the_services_doing() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("enforce", "2s")).await;
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    client.write_all(request("POST /", &["Content-Length: 6"], "").as_bytes()).await.unwrap();
    // Six pauses, each well below the limit, and together above it.
    for byte in b"slowly" {
        tokio::time::sleep(Duration::from_millis(500)).await;
        client.write_all(&[*byte]).await.unwrap();
    }
    let reply = read_replies(&mut client, 1).await;
    assert_eq!(reply.status(), 200, "{}", reply.text);
    let found = evidence(&gateway, "request_timeout").await;
    assert_eq!(found, Evidence { evaluated: 1, would_deny: 0, denied: 0 });
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_may_take_longer() {
    let service = Idle::start().await;
    let toml = config("enforce", "300ms")
        + "\n[[route]]\nmatch = \"/report\"\n[route.protect.request_timeout]\nmax = \"1h\"";
    let gateway = Gateway::start(service.addr(), &toml).await;
    let (mut report, mut asked) = ask(&service, &gateway, ("GET /report", "")).await;
    let (mut other, _held) = ask(&service, &gateway, ("GET /", "")).await;
    // The other was started later and has had its time: so has the report, twice over.
    assert_eq!(read_replies(&mut other, 1).await.status(), 504);
    asked.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(read_replies(&mut report, 1).await.status(), 200);
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_a_late_answer_is_passed_on_and_counted() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), &config("warn", "1ms")).await;
    let (mut client, mut asked) = ask(&service, &gateway, ("GET /", "")).await;
    // Over the limit on any clock.
    tokio::time::sleep(Duration::from_millis(50)).await;
    asked.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
    let reply = tokio::time::timeout(PATIENCE, read_replies(&mut client, 1)).await.unwrap();
    assert_eq!((reply.status(), reply.body()), (200, "late"), "{}", reply.text);
    let found = evidence(&gateway, "request_timeout").await;
    assert_eq!(found, Evidence { evaluated: 1, would_deny: 1, denied: 0 });
    gateway.stop().await;
}
