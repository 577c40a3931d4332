//! What clients are told, in time, of rules that do not enforce yet.

use serde_json::Value;

use crate::harness::response::get;
use crate::harness::{Gateway, Response, Upstream, exchange};

const CONFIG: &str = r#"
[announce]
dates = { host_allowlist = 2027-01-15, "body_limit@POST /old" = 2027-02-01 }
[protect.host_allowlist]
hosts = ["desk.example"]
[protect.body_limit]
mode = "warn"
[[route]]
match = "POST /old"
body_limit = "4B"
sunset = 2027-06-30
[[route]]
match = "/items/{id}"
"#;

async fn ask(gateway: &Gateway, request: &str) -> Response {
    Response::only(&exchange(gateway.addr(), request.as_bytes(), 1).await)
}

fn named(response: &Response, name: &str) -> Vec<String> {
    let fields = response.fields.iter().filter(|(known, _)| known == name);
    fields.map(|(_, value)| value.clone()).collect()
}

#[tokio::test]
async fn a_request_that_would_be_denied_is_answered_with_a_notice() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    let fine = ask(&gateway, "GET / HTTP/1.1\r\nHost: desk.example\r\n\r\n").await;
    for name in ["deprecation", "link", "seaworthy-enforcement", "sunset"] {
        assert_eq!(named(&fine, name), Vec::<String>::new(), "{name}");
    }
    let other = ask(&gateway, "GET / HTTP/1.1\r\nHost: old.example\r\n\r\n").await;
    assert_eq!(other.status, 200, "nothing is denied");
    assert_eq!(named(&other, "deprecation"), ["@1799971200"], "midnight of the day, in UTC");
    let link = "</.seaworthy/deprecations#host_allowlist>; rel=\"deprecation\"";
    assert_eq!(named(&other, "link"), [link]);
    let enforcement = "host_allowlist; mode=warn; at=2027-01-15";
    assert_eq!(named(&other, "seaworthy-enforcement"), [enforcement]);

    let old = "POST /old HTTP/1.1\r\nHost: old.example\r\nContent-Length: 5\r\n\r\nhello";
    let both = ask(&gateway, old).await;
    assert_eq!(
        named(&both, "seaworthy-enforcement"),
        [enforcement, "\"body_limit@POST /old\"; mode=warn; at=2027-02-01"]
    );
    assert_eq!(named(&both, "sunset"), ["Wed, 30 Jun 2027 00:00:00 GMT"]);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_enforced_or_not_announced_is_not_told() {
    let upstream = Upstream::ok().await;
    let silent = "[announce]\nenabled = false\n[protect.host_allowlist]\nhosts = [\"a.example\"]";
    let gateway = Gateway::start(upstream.addr, silent).await;
    let response = ask(&gateway, "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n").await;
    assert_eq!((response.status, response.field("deprecation")), (200, None));
    for path in ["deprecations", "me"] {
        let page = get(gateway.addr(), &format!("/.seaworthy/{path}")).await;
        assert_eq!(page.status, 404, "{path}");
    }
    gateway.stop().await;

    let enforced = "[protect.host_allowlist]\nmode = \"enforce\"\nhosts = [\"a.example\"]";
    let gateway = Gateway::start(upstream.addr, enforced).await;
    let response = ask(&gateway, "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n").await;
    assert_eq!((response.status, response.field("deprecation")), (421, None));
    gateway.stop().await;
}

#[tokio::test]
async fn the_rules_are_explained_to_a_developer() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    let told = get(gateway.addr(), "/.seaworthy/deprecations").await;
    assert_eq!(told.field("content-type"), Some("application/json"));
    let told = told.json();
    let rules = told["rules"].as_array().expect("a list");
    let rule = |name: &str| rules.iter().find(|rule| rule["rule"] == name);
    let hosts = rule("host_allowlist").expect("it is in warn");
    assert_eq!((&hosts["mode"], &hosts["enforced_from"]), (&"warn".into(), &"2027-01-15".into()));
    assert_eq!(hosts["codes"][0]["code"], "host-not-allowed");
    assert!(hosts["codes"][0]["remedy"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(rule("body_limit@POST /old").is_some());
    assert!(rule("header_limit").is_none(), "it enforces for everybody");
    let page =
        "GET /.seaworthy/deprecations HTTP/1.1\r\nHost: desk.example\r\nAccept: text/html\r\n\r\n";
    let page = ask(&gateway, page).await;
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    // Where the Link leads.
    for id in ["host_allowlist", "body_limit-POST--old"] {
        assert!(page.body.contains(&format!("<h2 id=\"{id}\">")), "{id}: {}", page.body);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_sees_its_own_would_be_denials_and_nobody_elses() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    let asked = |key: &str, host: &str, path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{key}\r\n")
    };
    let (mine, theirs) = ("X-Api-Key: mine\r\n", "X-Api-Key: theirs\r\n");
    // The paths of one route are one finding, which shows the last of them that was told: each
    // request is a connection, and two workers tell of theirs in no order.
    for path in ["/a", "/b", "/a", "/items/1", "/items/2", "/items/3"] {
        ask(&gateway, &asked(mine, "old.example", path)).await;
    }
    ask(&gateway, &asked(theirs, "old.example", "/secret")).await;
    let me = async |key: &str| ask(&gateway, &asked(key, "desk.example", "/.seaworthy/me")).await;
    let found = |told: &Value| -> Vec<(String, u64)> {
        let list = told["would_deny"].as_array().expect("a list").iter();
        let mut found: Vec<_> = list
            .map(|found| {
                assert_eq!(found["code"], "host-not-allowed");
                assert_eq!(found["rule"], "host_allowlist");
                let path = found["path"].as_str().expect("a path").to_owned();
                (path, found["count"].as_u64().expect("a number"))
            })
            .collect();
        found.sort();
        found
    };
    let told = crate::harness::ask::until("all are noted", async || {
        let told = me(mine).await.json();
        let counts: Vec<_> = found(&told).iter().map(|(_, count)| *count).collect();
        (counts == [2, 1, 3]).then_some(told)
    })
    .await;
    let found_mine = found(&told);
    let item = found_mine[2].0.clone();
    assert!(["/items/1", "/items/2", "/items/3"].contains(&&*item), "{item}");
    let want = [("/a", 2), ("/b", 1), (&*item, 3)];
    assert_eq!(found_mine, want.map(|(path, count)| (path.to_owned(), count)));
    assert!(told["client"].as_str().is_some_and(|client| client.starts_with("key:")));
    assert_eq!(found(&me("X-Api-Key: another\r\n").await.json()), []);
    let nobody = me("").await;
    assert_eq!((nobody.status, nobody.json()["code"].as_str()), (401, Some("client-unidentified")));
    gateway.stop().await;
}
