//! Who may send alerts to a gateway, as its config says it.

use std::net::SocketAddr;

use crate::harness::{Gateway, Reply, Upstream, call};

const CONFIG: &str = "[alerts]\nsecrets = [\"env:WEBHOOK_SECRET\"]\n";

async fn post(console: SocketAddr) -> Reply {
    // By the name under which another container knows it.
    let fields = ["Host: gateway.example:9900", "Content-Type: application/json"];
    call(console, "POST /api/v1/hooks/alerts", &fields, "{\"version\":\"4\"}").await
}

#[tokio::test]
async fn a_reload_says_who_may_send_alerts() {
    let service = Upstream::ok().await;
    let gateway = Gateway::start(service.addr, "").await;
    let file = gateway.dir().join("seaworthy.toml");
    let nobody = post(gateway.console()).await;
    assert_eq!(nobody.status(), 404);
    assert!(nobody.body().contains("[alerts] secrets = "), "{}", nobody.body());

    std::fs::write(&file, CONFIG).expect("it is writable");
    gateway.reload().await.expect("the config is right");
    let unproven = post(gateway.console()).await;
    assert_eq!(unproven.status(), 401);
    assert!(unproven.body().contains("the request has no proof"), "{}", unproven.body());

    std::fs::write(&file, "[alerts]\nsecrets = [\"env:NOT_SET\"]\n").expect("it is writable");
    gateway.reload().await.expect_err("the secret is not there");
    assert_eq!(post(gateway.console()).await.status(), 401, "the last config stays in force");
    gateway.stop().await;
}
