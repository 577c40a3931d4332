use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Evidence, evidence};
use crate::harness::client::{PATIENCE, read_replies};
use crate::harness::request::request;
use crate::harness::{Gateway, Held, Idle, call, exchange};

fn config(mode: &str, service_max: u64, tenant_max: u64) -> String {
    format!(
        "[protect.concurrency_limit]\nmode = \"{mode}\"\nretry_after = \"7s\"\n\
         service_max = {service_max}\ntenant_max = {tenant_max}"
    )
}

/// Starts a request that the service holds, the `count`th of them.
async fn hold(service: &Held, gateway: &Gateway, fields: &[&str], count: usize) -> TcpStream {
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    client.write_all(request("GET /held", fields, "").as_bytes()).await.unwrap();
    service.arrived(count).await;
    client
}

/// Waits until a request passes. A place is given back when the gateway notices that it is over,
/// which a test cannot see.
async fn passes_again(gateway: &Gateway) {
    let passes = async {
        while call(gateway.addr(), "GET /", &[], "").await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, passes).await.expect("the place is free again");
}

#[tokio::test]
async fn what_is_over_the_services_limit_is_shed() {
    let service = Held::start().await;
    let gateway = Gateway::start(service.addr, &config("enforce", 2, 2)).await;
    let mut first = hold(&service, &gateway, &["X-Api-Key: a"], 1).await;
    let mut second = hold(&service, &gateway, &["X-Api-Key: b"], 2).await;

    let reply = call(gateway.addr(), "GET /", &["X-Api-Key: c"], "").await;
    assert_eq!((reply.status(), reply.code()), (503, Some("over-capacity")), "{}", reply.text);
    assert_eq!(reply.field("retry-after"), Some("7"));
    let detail = "\"detail\":\"too many requests are being served at the moment\"";
    assert!(reply.body().contains(detail), "how many are too many is not said: {}", reply.text);

    service.release(2);
    for client in [&mut first, &mut second] {
        assert_eq!(read_replies(client, 1).await.status(), 200, "those inside are served");
    }
    for key in ["a", "c"] {
        let reply = call(gateway.addr(), "GET /", &[&format!("X-Api-Key: {key}")], "").await;
        assert_eq!(reply.status(), 200, "an answered request has given its place back");
    }
    let found = evidence(&gateway, "concurrency_limit").await;
    assert_eq!(found, Evidence { evaluated: 5, would_deny: 0, denied: 1 });
    gateway.stop().await;
}

#[tokio::test]
async fn one_tenant_cannot_starve_another() {
    let service = Held::start().await;
    let gateway = Gateway::start(service.addr, &config("enforce", 100, 1)).await;
    // A request that names no tenant counts under its client.
    for (held, (full, free)) in [
        (["X-Tenant-Id: acme", "X-Api-Key: a"], ["X-Tenant-Id: globex", "X-Api-Key: a"]),
        (["X-Tenant-Id: initech", "X-Api-Key: a"], ["X-Tenant-Id: hooli", "X-Api-Key: b"]),
        (["X-Tenant-Id: ", "X-Api-Key: a"], ["X-Tenant-Id: ", "X-Api-Key: b"]),
        (["X-Tenant-Id: ", "X-Api-Key: c"], ["X-Tenant-Id: umbrella", "X-Api-Key: c"]),
    ]
    .into_iter()
    .enumerate()
    {
        let _held = hold(&service, &gateway, &full, held + 1).await;
        for _ in 0..3 {
            let reply = call(gateway.addr(), "GET /", &full, "").await;
            let found = (reply.status(), reply.code());
            assert_eq!(found, (503, Some("tenant-over-capacity")), "{full:?}: {}", reply.text);
            assert_eq!(reply.field("retry-after"), Some("7"), "{full:?}");
            let reply = call(gateway.addr(), "GET /", &free, "").await;
            assert_eq!(reply.status(), 200, "{free:?}: {}", reply.text);
        }
        service.release(1);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn one_after_the_other_always_fits() {
    let service = Held::start().await;
    let gateway = Gateway::start(service.addr, &config("enforce", 1, 1)).await;
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    for _ in 0..50 {
        client.write_all(request("GET /", &[], "").as_bytes()).await.unwrap();
        let reply = read_replies(&mut client, 1).await;
        assert_eq!(reply.status(), 200, "{}", reply.text);
    }
    // Those that were sent at once on one connection run one after the other, too.
    let batch = request("GET /", &[], "").repeat(20);
    let reply = exchange(gateway.addr(), batch.as_bytes(), 20).await;
    assert_eq!(reply.statuses(), [200; 20]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_denied_request_holds_no_place() {
    let service = Held::start().await;
    let toml = config("enforce", 1, 1) + "\n[protect.csrf]\nmode = \"enforce\"";
    let gateway = Gateway::start(service.addr, &toml).await;
    let mut held = hold(&service, &gateway, &[], 1).await;
    for _ in 0..20 {
        assert_eq!(call(gateway.addr(), "GET /", &["X-Api-Key: a"], "").await.status(), 503);
    }
    service.release(1);
    assert_eq!(read_replies(&mut held, 1).await.status(), 200);
    let fields = ["Cookie: session=s", "Sec-Fetch-Site: cross-site"];
    for _ in 0..20 {
        assert_eq!(call(gateway.addr(), "POST /", &fields, "").await.status(), 403);
    }
    assert_eq!(call(gateway.addr(), "GET /", &["X-Api-Key: a"], "").await.status(), 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let service = Held::start().await;
    let gateway = Gateway::start(service.addr, &config("enforce", 1, 1)).await;
    let held = hold(&service, &gateway, &[], 1).await;
    assert_eq!(call(gateway.addr(), "GET /", &["X-Api-Key: a"], "").await.status(), 503);
    drop(held);
    passes_again(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_service_that_breaks_off_gives_the_place_back() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), &config("enforce", 1, 1)).await;
    for _ in 0..3 {
        let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
        client.write_all(request("GET /", &[], "").as_bytes()).await.unwrap();
        drop(service.asked().await);
        let reply = read_replies(&mut client, 1).await;
        assert_eq!((reply.status(), reply.code()), (502, Some("upstream-reset")), "{}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_open_tunnel_holds_its_place_until_it_ends() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), &config("enforce", 1, 1)).await;
    let mut client = TcpStream::connect(gateway.addr()).await.unwrap();
    let upgrade = request("GET /ws", &["Connection: Upgrade", "Upgrade: websocket"], "");
    client.write_all(upgrade.as_bytes()).await.unwrap();
    let mut tunnel = service.asked().await;
    tunnel.read_to("\r\n\r\n").await;
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    tunnel.write(&format!("{switch}\r\n")).await;
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert!(client.read_buf(&mut read).await.unwrap() > 0, "the upgrade is agreed on");
    }
    assert!(read.starts_with(b"HTTP/1.1 101 "));

    let reply = call(gateway.addr(), "GET /", &["X-Api-Key: a"], "").await;
    assert_eq!((reply.status(), reply.code()), (503, Some("over-capacity")), "{}", reply.text);
    drop((client, tunnel));
    let answers = async {
        loop {
            let mut asked = service.asked().await;
            asked.read_to("\r\n\r\n").await;
            asked
                .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .await;
        }
    };
    tokio::select! {
        () = passes_again(&gateway) => {}
        () = answers => {}
    }
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_what_is_over_the_limit_runs_and_is_counted() {
    let service = Held::start().await;
    let gateway = Gateway::start(service.addr, &config("warn", 1, 1)).await;
    let mut clients = Vec::new();
    for count in 1..=3 {
        clients.push(hold(&service, &gateway, &[], count).await);
    }
    service.release(3);
    for client in &mut clients {
        assert_eq!(read_replies(client, 1).await.status(), 200);
    }
    let found = evidence(&gateway, "concurrency_limit").await;
    assert_eq!(found, Evidence { evaluated: 3, would_deny: 2, denied: 0 });
    gateway.stop().await;
}
