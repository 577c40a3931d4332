use crate::harness::{Gateway, Upstream, call};

const ACCESS: &str = "[protect.access]\nmode = \"enforce\"\n\
    api_keys = { keys = \"env:API_KEYS\" }\nmatrix = \"env:AUTHZ\"";

const KEY: &str = "X-Api-Key: sw_agent";

#[tokio::test]
async fn a_request_is_about_one_tenant_and_that_of_its_key() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, ACCESS).await;
    for (name, tenants, want) in [
        ("its own", &["X-Tenant-Id: acme"][..], 200),
        ("another", &["X-Tenant-Id: globex"], 403),
        ("none", &[], 403),
        ("an empty one", &["X-Tenant-Id:"], 403),
        ("one that is no name", &["X-Tenant-Id: acme/"], 403),
        ("its own, then another", &["X-Tenant-Id: acme", "X-Tenant-Id: globex"], 403),
        ("another, then its own", &["X-Tenant-Id: globex", "X-Tenant-Id: acme"], 403),
        ("its own twice", &["X-Tenant-Id: acme", "X-Tenant-Id: acme"], 403),
        ("two in one field", &["X-Tenant-Id: acme, globex"], 403),
    ] {
        let reply = call(gateway.addr(), "GET /a", &[&[KEY], tenants].concat(), "").await;
        assert_eq!(reply.status(), want, "{name}: {}", reply.text);
        if want == 403 {
            assert_eq!(reply.code(), Some("access-tenant-mismatch"), "{name}");
        }
    }
    assert_eq!(upstream.received().len(), 1);
    gateway.stop().await;
}

/// Whoever is denied can read what the denial means.
#[tokio::test]
async fn the_gateways_own_resources_are_everybodys() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, ACCESS).await;
    for (line, want) in [
        ("GET /a", 401),
        ("GET /.seaworthy/problems/access-credentials-missing", 200),
        ("GET /.seaworthy/deprecations", 200),
        ("GET /.seaworthy/../a", 401),
        ("GET /.seaworthyx", 401),
    ] {
        let reply = call(gateway.addr(), line, &[], "").await;
        assert_eq!(reply.status(), want, "{line}: {}", reply.text);
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}
