//! What the gateway does with good and bad upstreams: retries, broken answers, early answers,
//! the breaker, balancing, health, reloads, limits.
//!
//! One worker serves in all of these: each worker keeps connections and counts of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::Value;

use crate::harness::upstream::Answer;
use crate::harness::wire::{Service, Wire, field, status};
use crate::harness::{Gateway, Reply, Upstream, exchange};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One worker, and `more`.
fn config(more: &str) -> String {
    format!("[listen]\nworkers = 1\n{more}")
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\n{length}\r\n{body}")
}

async fn get(addr: SocketAddr, path: &str) -> Reply {
    exchange(addr, format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes(), 1).await
}

/// The code of the problem that comes next on `client`, with its status.
async fn problem(client: &mut Wire) -> (u16, String) {
    let (head, body) = client.message().await;
    let body: Value =
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {head}"));
    (status(&head), body["code"].as_str().expect("a problem has a code").to_owned())
}

/// Asks once on `client`, so that the connection which the service returns is kept by the gateway.
async fn warm_up(client: &mut Wire, service: &Service) -> Wire {
    client.send(request("GET", "/warm-up", "")).await;
    let mut kept = service.accept().await;
    kept.head().await;
    kept.send(OK).await;
    client.message().await;
    kept
}

/// How the service ends a kept connection once a request is on it.
#[derive(Clone, Copy)]
enum Death {
    Close,
    Reset,
    /// These bytes, then it is closed.
    Answer(&'static str),
}

impl Death {
    async fn end(self, mut connection: Wire) {
        match self {
            Self::Close => drop(connection),
            Self::Reset => connection.reset(),
            Self::Answer(bytes) => connection.send(bytes).await,
        }
    }
}

#[tokio::test]
async fn a_request_is_repeated_only_where_nothing_can_happen_twice() {
    for (name, method, body, death, repeated) in [
        ("a GET", "GET", "", Death::Close, true),
        ("a GET that is reset", "GET", "", Death::Reset, true),
        ("a HEAD", "HEAD", "", Death::Close, true),
        ("an OPTIONS", "OPTIONS", "", Death::Close, true),
        ("a PUT without a body", "PUT", "", Death::Close, true),
        ("a DELETE", "DELETE", "", Death::Close, true),
        ("a GET with a body", "GET", "body", Death::Close, false),
        ("a PUT with a body", "PUT", "body", Death::Close, false),
        ("a POST without a body", "POST", "", Death::Close, false),
        ("a POST with a body", "POST", "body", Death::Close, false),
        ("a PATCH", "PATCH", "", Death::Reset, false),
        ("a GET after one byte", "GET", "", Death::Answer("H"), false),
        ("a GET after half a head", "GET", "", Death::Answer("HTTP/1.1 200 OK\r\nA: b\r\n"), false),
        ("a GET after an interim answer", "GET", "", Death::Answer(EARLY_HINTS), false),
        ("a GET after nonsense", "GET", "", Death::Answer("nonsense\r\n\r\n"), false),
    ] {
        let service = Service::bind().await;
        let gateway = Gateway::start(service.addr, &config("")).await;
        let mut client = Wire::connect(gateway.addr()).await;
        let mut kept = warm_up(&mut client, &service).await;

        client.send(request(method, "/case", body)).await;
        let (first, _) = kept.message().await;
        assert!(first.starts_with(&format!("{method} /case ")), "{name}: {first}");
        death.end(kept).await;
        if repeated {
            let mut second = service.accept().await;
            assert_eq!(second.head().await, first, "{name}: the same request");
            second.send(OK).await;
            assert_eq!(status(&client.head().await), 200, "{name}");
        } else {
            let (status, code) = problem(&mut client).await;
            assert!(status == 502 && code.starts_with("upstream-"), "{name}: {status} {code}");
            // The next connection carries the next request: there was no other.
            let mut other = Wire::connect(gateway.addr()).await;
            other.send(request("GET", "/next", "")).await;
            let next = service.accept().await.head().await;
            assert!(next.starts_with("GET /next "), "{name}: {next}");
        }
        gateway.stop().await;
    }
}

const EARLY_HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";

#[tokio::test]
async fn a_request_is_never_repeated_twice() {
    let service = Service::bind().await;
    let gateway = Gateway::start(service.addr, &config("")).await;
    // Two requests at once leave two kept connections.
    let mut clients = [Wire::connect(gateway.addr()).await, Wire::connect(gateway.addr()).await];
    let mut kept = Vec::new();
    for client in &mut clients {
        client.send(request("GET", "/warm-up", "")).await;
        let mut connection = service.accept().await;
        connection.head().await;
        kept.push(connection);
    }
    for (client, connection) in clients.iter_mut().zip(&mut kept) {
        connection.send(OK).await;
        client.message().await;
    }

    let [mut client, mut other] = clients;
    client.send(request("GET", "/case", "")).await;
    // The youngest is asked first.
    for mut connection in kept.into_iter().rev() {
        assert!(connection.head().await.starts_with("GET /case "));
        drop(connection);
    }
    assert_eq!(problem(&mut client).await, (502, "upstream-reset".to_owned()));
    other.send(request("GET", "/next", "")).await;
    assert!(service.accept().await.head().await.starts_with("GET /next "), "no third time");
    gateway.stop().await;
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_not_repeated() {
    let service = Service::bind().await;
    let gateway = Gateway::start(service.addr, &config("")).await;
    let mut client = Wire::connect(gateway.addr()).await;
    client.send(request("GET", "/case", "")).await;
    let mut first = service.accept().await;
    first.head().await;
    drop(first);
    assert_eq!(problem(&mut client).await, (502, "upstream-reset".to_owned()));
    client.send(request("GET", "/next", "")).await;
    assert!(service.accept().await.head().await.starts_with("GET /next "));
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_that_died_idle_is_not_used() {
    let service = Service::bind().await;
    let gateway = Gateway::start(service.addr, &config("")).await;
    let mut client = Wire::connect(gateway.addr()).await;
    let kept = warm_up(&mut client, &service).await;
    // The gateway has noticed the end once it has closed its own side.
    assert_eq!(kept.close_and_wait().await, "");
    client.send(request("POST", "/case", "body")).await;
    let mut fresh = service.accept().await;
    let (head, body) = fresh.message().await;
    assert!(head.starts_with("POST /case ") && body == b"body", "{head}");
    fresh.send(OK).await;
    assert_eq!(status(&client.head().await), 200);
    gateway.stop().await;
}

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
