//! What the gateway does with good and bad upstreams: retries, the breaker, balancing, health,
//! reloads, limits.
//!
//! One worker serves in all of these: each worker keeps connections and counts of its own.

mod answers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::Value;

use crate::harness::client::PATIENCE;
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
#[derive(Clone, Copy, Debug)]
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
async fn an_upstream_that_cannot_be_connected_to_is_a_502() {
    let gateway = Gateway::start(nobody().await, &config("")).await;
    for (method, body) in [("GET", ""), ("POST", "body")] {
        let mut client = Wire::connect(gateway.addr()).await;
        client.send(request(method, "/", body)).await;
        assert_eq!(problem(&mut client).await, (502, "upstream-connect-failed".to_owned()));
    }
    gateway.stop().await;
}

/// An address where nothing listens.
async fn nobody() -> SocketAddr {
    Service::bind().await.addr
}

/// A service that can be broken: it closes the connections of its requests without an answer.
/// Its health checks it answers with 500 where it is sick.
struct Breakable {
    upstream: Upstream,
    broken: Arc<AtomicBool>,
    sick: Arc<AtomicBool>,
}

impl Breakable {
    async fn start() -> Self {
        let [broken, sick] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let states = (Arc::clone(&broken), Arc::clone(&sick));
        let upstream = Upstream::start(move |request, _| {
            if request.starts_with("GET /healthz ") {
                let status = if states.1.load(SeqCst) { "500 Sick" } else { "204 Well" };
                Answer::Close(format!("HTTP/1.1 {status}\r\n\r\n").into_bytes())
            } else if states.0.load(SeqCst) {
                Answer::Close(Vec::new())
            } else {
                Answer::ok("ok")
            }
        })
        .await;
        Self { upstream, broken, sick }
    }

    /// How many requests have come, health checks left out.
    fn asked(&self) -> usize {
        let received = self.upstream.received();
        received.iter().filter(|request| !request.starts_with("GET /healthz ")).count()
    }
}

#[tokio::test]
async fn an_upstream_that_fails_in_a_row_is_ejected() {
    let service = Breakable::start().await;
    service.broken.store(true, SeqCst);
    let config = config("[service.eject]\nfailures = 3\nfor = \"1h\"\nfor_max = \"1h\"");
    let gateway = Gateway::start(service.upstream.addr, &config).await;
    for _ in 0..3 {
        assert_eq!(get(gateway.addr(), "/").await.code(), Some("upstream-reset"));
    }
    let reply = get(gateway.addr(), "/").await;
    assert_eq!((reply.statuses(), reply.code()), (vec![503], Some("upstream-unavailable")));
    let (head, _) = reply.text.split_once("\r\n\r\n").unwrap();
    assert_eq!(field(head, "retry-after"), Some("1"), "{head}");
    assert_eq!(service.asked(), 3, "it is left alone");

    let view = gateway.settled().await;
    let [upstream] = &*view.upstreams else { panic!("one: {view:?}") };
    assert!(upstream.ejected && upstream.healthy, "{upstream:?}");
    assert_eq!((upstream.ejections, upstream.failures), (1, 3));
    let ready = get(gateway.console(), "/readyz").await;
    assert_eq!(ready.statuses(), [503], "{}", ready.text);
    let metrics = get(gateway.console(), "/metrics").await.text;
    let name = format!("{{upstream=\"http://{}\"}}", service.upstream.addr);
    for sample in [
        format!("seaworthy_upstream_up{name} 0"),
        format!("seaworthy_upstream_ejections_total{name} 1"),
    ] {
        assert!(metrics.contains(&sample), "{sample} is missing: {metrics}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_ejected_upstream_comes_back_with_its_first_success() {
    let service = Breakable::start().await;
    service.broken.store(true, SeqCst);
    let config = config("[service.eject]\nfailures = 2\nfor = \"50ms\"");
    let gateway = Gateway::start(service.upstream.addr, &config).await;
    for _ in 0..2 {
        assert_eq!(get(gateway.addr(), "/").await.statuses(), [502]);
    }
    service.broken.store(false, SeqCst);
    let back = async {
        loop {
            let reply = get(gateway.addr(), "/").await;
            if reply.statuses() == [200] {
                break;
            }
            assert_eq!(reply.code(), Some("upstream-unavailable"));
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it is tried again");
    for _ in 0..10 {
        assert_eq!(get(gateway.addr(), "/").await.statuses(), [200], "one success is enough");
    }
    let view = gateway.settled().await;
    assert!(view.upstreams[0].is_up(), "{:?}", view.upstreams);
    gateway.stop().await;
}

#[tokio::test]
async fn errors_of_the_service_itself_eject_nobody() {
    let service = Upstream::start(|_, _| {
        Answer::Bytes(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops".to_vec())
    })
    .await;
    let gateway = Gateway::start(service.addr, &config("[service.eject]\nfailures = 1")).await;
    for _ in 0..10 {
        let reply = get(gateway.addr(), "/").await;
        assert!(reply.statuses() == [500] && reply.text.ends_with("oops"), "{}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_upstream_with_the_fewest_requests_under_way_is_asked() {
    let start = || {
        Upstream::start(|request, _| match request.split(' ').nth(1) {
            Some("/hold") => Answer::Silence,
            _ => Answer::ok("ok"),
        })
    };
    let upstreams = [start().await, start().await];
    let counts = || upstreams.each_ref().map(|upstream| upstream.received().len());
    let addrs = upstreams.each_ref().map(|upstream| upstream.addr);
    let gateway = Gateway::start_before(&addrs, &config("")).await;
    for _ in 0..10 {
        assert_eq!(get(gateway.addr(), "/").await.statuses(), [200]);
    }
    assert_eq!(counts(), [5, 5], "ties go round");

    let mut client = Wire::connect(gateway.addr()).await;
    client.send(request("GET", "/hold", "")).await;
    let held = async {
        while counts() == [5, 5] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.expect("one of them is asked");
    let before = counts();
    for _ in 0..10 {
        assert_eq!(get(gateway.addr(), "/").await.statuses(), [200]);
    }
    // The one that holds a request had six of eleven, and has them still.
    let expected = before.map(|count| if count == 6 { 6 } else { 15 });
    assert_eq!(counts(), expected);
    drop(client);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_gone_is_passed_over() {
    let alive = Upstream::ok().await;
    let upstreams = [nobody().await, alive.addr];
    let config = config("[service.eject]\nfailures = 3\nfor = \"1h\"\nfor_max = \"1h\"");
    let gateway = Gateway::start_before(&upstreams, &config).await;
    for n in 0..20 {
        let body = if n % 2 == 0 { "" } else { "body" };
        let mut client = Wire::connect(gateway.addr()).await;
        client.send(request("POST", "/", body)).await;
        assert_eq!(status(&client.head().await), 200, "no client notices");
    }
    assert_eq!(alive.received().len(), 20);
    let view = gateway.settled().await;
    let [gone, alive] = &*view.upstreams else { panic!("two: {view:?}") };
    assert!(gone.ejected && gone.failures == 3 && alive.is_up(), "{:?}", view.upstreams);
    assert_eq!(get(gateway.console(), "/readyz").await.statuses(), [200], "one is enough");
    gateway.stop().await;
}

/// Waits until the console shows these upstreams as up.
async fn until_up(gateway: &Gateway, up: [bool; 2]) {
    let shown = async {
        loop {
            gateway.settled().await;
            let reply = get(gateway.console(), "/api/v1/overview").await;
            let (_, body) = reply.text.split_once("\r\n\r\n").expect("a whole response");
            let overview: Value = serde_json::from_str(body).expect("JSON");
            let healthy = [0, 1].map(|n| overview["upstreams"][n]["healthy"] == true);
            if healthy == up {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.expect("the checks notice it");
}

#[tokio::test]
async fn health_checks_take_an_upstream_out_and_bring_it_back() {
    let services = [Breakable::start().await, Breakable::start().await];
    let [first, second] = &services;
    let config = config(
        "[service.health]\npath = \"/healthz\"\ninterval = \"100ms\"\nunhealthy_after = 2\nhealthy_after = 1",
    );
    let addrs = [first.upstream.addr, second.upstream.addr];
    let gateway = Gateway::start_before(&addrs, &config).await;
    let ask = async |count: usize| {
        for _ in 0..count {
            assert_eq!(get(gateway.addr(), "/").await.statuses(), [200]);
        }
    };
    first.sick.store(true, SeqCst);
    until_up(&gateway, [false, true]).await;
    ask(10).await;
    assert_eq!((first.asked(), second.asked()), (0, 10), "no request went to the sick one");
    assert_eq!(get(gateway.console(), "/readyz").await.statuses(), [200]);
    let metrics = get(gateway.console(), "/metrics").await.text;
    for (service, up) in services.iter().zip([0, 1]) {
        let sample =
            format!("seaworthy_upstream_up{{upstream=\"http://{}\"}} {up}", service.upstream.addr);
        assert!(metrics.contains(&sample), "{sample} is missing: {metrics}");
    }

    second.sick.store(true, SeqCst);
    until_up(&gateway, [false, false]).await;
    assert_eq!(get(gateway.console(), "/readyz").await.statuses(), [503]);
    // A wrong check must not take the service down.
    ask(10).await;

    first.sick.store(false, SeqCst);
    until_up(&gateway, [true, false]).await;
    let before = first.asked();
    ask(10).await;
    assert_eq!(first.asked(), before + 10);
    assert_eq!(get(gateway.console(), "/readyz").await.statuses(), [200]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_reload_keeps_connections_and_requests_under_way() {
    let service = Service::bind().await;
    let gateway = Gateway::start(service.addr, &config("")).await;
    let mut client = Wire::connect(gateway.addr()).await;
    let mut kept = warm_up(&mut client, &service).await;
    client.send(request("GET", "/held", "")).await;
    assert!(kept.head().await.starts_with("GET /held "));

    let changed = config("[protect.security_headers]\nmode = \"off\"");
    std::fs::write(gateway.dir().join("seaworthy.toml"), changed).unwrap();
    gateway.reload().await.expect("it is right");
    kept.send(OK).await;
    let (before, _) = client.message().await;
    assert_eq!(field(&before, "x-content-type-options"), Some("nosniff"), "judged before it");

    client.send(request("GET", "/after", "")).await;
    assert!(kept.head().await.starts_with("GET /after "), "on the same connection");
    kept.send(OK).await;
    let (after, _) = client.message().await;
    assert_eq!(field(&after, "x-content-type-options"), None, "the new config is in force");
    gateway.stop().await;
}

#[tokio::test]
async fn connections_to_the_service_have_a_bound() {
    let service = Service::bind().await;
    let gateway = Gateway::start(service.addr, &config("[service]\nconnections_max = 2")).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Wire::connect(gateway.addr()).await;
        client.send(request("GET", "/held", "")).await;
        let mut connection = service.accept().await;
        connection.head().await;
        held.push((client, connection));
    }
    let mut third = Wire::connect(gateway.addr()).await;
    third.send(request("GET", "/third", "")).await;
    let (head, body) = third.message().await;
    assert_eq!((status(&head), field(&head, "retry-after")), (503, Some("1")), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("\"upstream-unavailable\""));

    // A place is free again however a request ends: with an answer, or with its client.
    let (mut client, mut kept) = held.remove(0);
    kept.send(OK).await;
    client.message().await;
    third.send(request("GET", "/again", "")).await;
    assert!(kept.head().await.starts_with("GET /again "));
    kept.send(OK).await;
    assert_eq!(status(&third.message().await.0), 200);
    let (client, mut connection) = held.remove(0);
    drop(client);
    assert_eq!(connection.rest().await, "", "it is cancelled at the service");
    let mut fourth = Wire::connect(gateway.addr()).await;
    for client in [&mut third, &mut fourth] {
        client.send(request("GET", "/held", "")).await;
    }
    assert!(kept.head().await.starts_with("GET /held "), "the kept one");
    service.accept().await.head().await;
    drop((third, fourth));
    gateway.stop().await;
}
