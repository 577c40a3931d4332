//! The fields that a proxy takes away and puts in: hop-by-hop, forwarding, tracing, `Via`, `Host`.

use super::{OK, Way, heads};
use crate::harness::wire::{field, fields, status};

const TRUSTED: &str = "[client]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";

#[tokio::test]
async fn fields_of_one_hop_end_there_in_both_directions() {
    let lines = "Connection: close, X-Hop\r\nConnection: x-other\r\nX-Hop: 1\r\nX-Other: 1\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
                 Proxy-Authorization: Basic eA==\r\nTE: gzip\r\nTrailer: X-T\r\nUpgrade: websocket\r\n\
                 HTTP2-Settings: AAMAAABkAAQ\r\nX-Kept: 1\r\n";
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nProxy-Connection: close\r\n\
                  Upgrade: h2c\r\nTrailer: X-T\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n";
    let (sent, returned) = heads("", lines, answer).await;
    for name in [
        "x-hop",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "transfer-encoding",
    ] {
        assert_eq!(field(&sent, name), None, "{name} reaches the service: {sent}");
        assert_eq!(field(&returned, name), None, "{name} reaches the client: {returned}");
    }
    // What the gateway says of its own two connections is no field of theirs.
    assert_eq!(field(&sent, "connection"), None, "{sent}");
    assert_eq!(field(&returned, "connection"), Some("close"), "as the client asked: {returned}");
    assert!(field(&sent, "x-kept").is_some() && field(&returned, "x-kept").is_some());
}

#[tokio::test]
async fn connection_cannot_strike_out_what_the_gateway_relies_on() {
    let mut way = Way::open("").await;
    let request = "POST /case HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\
                   Connection: host, content-length, via, x-forwarded-for, x-forwarded-proto, \
                   x-request-id, traceparent\r\n\r\nbody";
    let mut connection = way.pass(request, OK).await;
    let (head, body) = connection.message().await;
    assert_eq!(body, b"body", "{head}");
    for name in
        ["host", "via", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "traceparent"]
    {
        assert!(field(&head, name).is_some(), "{name} is missing: {head}");
    }
    way.close().await;
}

#[tokio::test]
async fn te_trailers_alone_goes_on() {
    for (lines, passed) in [
        ("TE: trailers\r\nConnection: TE\r\n", Some("trailers")),
        ("TE: gzip\r\nConnection: TE\r\n", None),
    ] {
        let (sent, _) = heads("", lines, OK).await;
        assert_eq!(field(&sent, "te"), passed, "{sent}");
    }
}

#[tokio::test]
async fn the_end_of_one_connection_is_not_the_end_of_the_other() {
    let mut way = Way::open("").await;
    let request = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    drop(way.pass(request, closing).await);
    let (head, _) = way.client.message().await;
    assert_eq!((status(&head), field(&head, "connection")), (200, None), "{head}");
    let mut connection = way.pass(request, OK).await;
    connection.head().await;
    way.client.message().await;

    way.client.send("GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(field(&connection.head().await, "connection"), None, "the service's is kept");
    connection.send(OK).await;
    assert!(way.client.rest().await.ends_with("ok"));
    way.close().await;
}

#[tokio::test]
async fn forwarding_fields_are_believed_from_trusted_proxies_alone() {
    let lines = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 198.51.100.1\r\n\
                 X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
                 Forwarded: for=203.0.113.7;proto=https\r\nX-Request-Id: front-1\r\n";
    let (sent, returned) = heads("", lines, OK).await;
    for (name, values) in [
        ("x-forwarded-for", vec!["127.0.0.1"]),
        ("x-forwarded-proto", vec!["http"]),
        ("x-forwarded-host", vec!["shop.example:8080"]),
        ("forwarded", vec![]),
    ] {
        assert_eq!(fields(&sent, name), values, "untrusted: {sent}");
    }
    let id = field(&sent, "x-request-id").expect("there is one");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(field(&returned, "x-request-id"), Some(id), "the client is told the same one");

    let (sent, returned) = heads(TRUSTED, lines, OK).await;
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.7, 198.51.100.1, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=203.0.113.7;proto=https, for=127.0.0.1"),
        ("x-request-id", "front-1"),
    ] {
        assert_eq!(fields(&sent, name), [value], "trusted: {sent}");
    }
    assert_eq!(field(&returned, "x-request-id"), Some("front-1"));
}

#[tokio::test]
async fn an_id_that_is_no_id_is_replaced_even_from_a_trusted_proxy() {
    let long = "x".repeat(65);
    for id in ["", "two words", "a\"b", "a;b", "<script>", &*long] {
        let (sent, _) = heads(TRUSTED, &format!("X-Request-Id: {id}\r\n"), OK).await;
        let given = field(&sent, "x-request-id").expect("there is one");
        assert!(given != id && given.len() == 32, "{id:?} became {given:?}");
    }
}

#[tokio::test]
async fn the_client_is_the_first_untrusted_address_from_the_right() {
    const DENIED: u16 = 403;
    for (name, lines, untrusted, trusted) in [
        ("nothing said", "", 200, 200),
        ("one", "X-Forwarded-For: 203.0.113.7\r\n", 200, DENIED),
        ("the last counts", "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n", 200, DENIED),
        ("claims before it do not", "X-Forwarded-For: 203.0.113.7, 198.51.100.1\r\n", 200, 200),
        (
            "trusted ones are stepped over",
            "X-Forwarded-For: 198.51.100.1, 203.0.113.7, 127.0.0.9\r\n",
            200,
            DENIED,
        ),
        (
            "several lines are one list",
            "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 198.51.100.1\r\n",
            200,
            200,
        ),
        ("nonsense ends the walk", "X-Forwarded-For: 203.0.113.7, nonsense\r\n", 200, 200),
        ("a port is no part of it", "X-Forwarded-For: 203.0.113.7:4711\r\n", 200, DENIED),
        ("Forwarded", "Forwarded: for=203.0.113.7;proto=https\r\n", 200, DENIED),
        ("Forwarded, last", "Forwarded: for=203.0.113.7, For=\"198.51.100.1:80\"\r\n", 200, 200),
        (
            "X-Forwarded-For before Forwarded",
            "Forwarded: for=198.51.100.1\r\nX-Forwarded-For: 203.0.113.7\r\n",
            200,
            DENIED,
        ),
    ] {
        let filter = "[protect.ip_filter]\nmode = \"enforce\"\ndeny = [\"203.0.113.0/24\"]\n";
        for (proxies, expected) in [("", untrusted), (TRUSTED, trusted)] {
            let mut way = Way::open(&format!("{filter}{proxies}")).await;
            let request = format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n");
            if expected == DENIED {
                way.client.send(request).await;
            } else {
                way.pass(request, OK).await.head().await;
            }
            assert_eq!(status(&way.client.head().await), expected, "{name}, {proxies:?}");
            way.close().await;
        }
    }
}

#[tokio::test]
async fn a_valid_trace_is_continued_and_a_bad_one_restarted() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";
    for (name, traceparent, continued) in [
        ("valid", format!("00-{TRACE}-{SPAN}-01"), true),
        ("a later version", format!("01-{TRACE}-{SPAN}-01-more"), true),
        ("no trace id", format!("00-{}-{SPAN}-01", "0".repeat(32)), false),
        ("no span id", format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
        ("upper case", format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
        ("the version that is none", format!("ff-{TRACE}-{SPAN}-01"), false),
        ("too long for its version", format!("00-{TRACE}-{SPAN}-01-more"), false),
        ("too short", format!("00-{TRACE}-{SPAN}"), false),
        ("nonsense", "nonsense".to_owned(), false),
    ] {
        let lines = format!("traceparent: {traceparent}\r\ntracestate: vendor=1\r\n");
        let (sent, _) = heads("", &lines, OK).await;
        let given = field(&sent, "traceparent").expect("there is one");
        let [version, trace, span, flags] = given.split('-').collect::<Vec<_>>()[..] else {
            panic!("{name}: {given}")
        };
        assert_eq!((version, trace.len(), span.len()), ("00", 32, 16), "{name}: {given}");
        assert_eq!(trace == TRACE, continued, "{name}: {given}");
        assert_eq!(flags, if continued { "01" } else { "00" }, "{name}: {given}");
        assert!(span != SPAN && span != "0".repeat(16), "{name}: a span of its own: {given}");
        let state = continued.then_some("vendor=1");
        assert_eq!(field(&sent, "tracestate"), state, "{name}: it belongs to its trace");
    }
}

#[tokio::test]
async fn via_names_every_hop() {
    let named = |via: &str, received: &str| {
        let digits = via.strip_prefix(received).and_then(|via| via.strip_prefix(" seaworthy-"));
        digits.is_some_and(|digits| {
            digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    let (sent, _) = heads("", "", OK).await;
    assert!(named(field(&sent, "via").expect("there is one"), "1.1"), "{sent}");
    let (sent, _) = heads("", "Via: 1.0 front\r\nVia: 1.1 middle (a, b)\r\n", OK).await;
    let via = field(&sent, "via").expect("there is one");
    let own = via.strip_prefix("1.0 front, 1.1 middle (a, b), ").unwrap_or_else(|| panic!("{via}"));
    assert!(named(own, "1.1"), "{via}");

    let mut way = Way::open("").await;
    let mut connection = way.pass("GET / HTTP/1.0\r\n\r\n", OK).await;
    let head = connection.head().await;
    assert!(named(field(&head, "via").expect("there is one"), "1.0"), "{head}");
    assert!(head.starts_with("GET / HTTP/1.1\r\n"), "the gateway's own version: {head}");
    way.close().await;
}

#[tokio::test]
async fn a_request_that_has_been_here_is_a_loop() {
    let mut way = Way::open("").await;
    let mut connection = way.pass("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", OK).await;
    let head = connection.head().await;
    way.client.message().await;
    let via = field(&head, "via").expect("there is one");
    let again = format!("GET / HTTP/1.1\r\nHost: shop.example\r\nVia: 1.1 x, {via}, 1.1 y\r\n\r\n");
    way.client.send(again).await;
    let (head, body) = way.client.message().await;
    assert_eq!(status(&head), 508, "{head}");
    assert!(String::from_utf8(body).unwrap().contains("\"loop-detected\""));
    way.close().await;
}

#[tokio::test]
async fn the_service_sees_the_host_that_the_config_says() {
    for (setting, own) in [("", false), ("host = \"keep\"", false), ("host = \"upstream\"", true)] {
        let mut way = Way::open(&format!("[service]\n{setting}\n")).await;
        let addr = way.service.addr.to_string();
        let request = "GET / HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n";
        let mut connection = way.pass(request, OK).await;
        let head = connection.head().await;
        let expected = if own { &*addr } else { "shop.example:8080" };
        assert_eq!(field(&head, "host"), Some(expected), "{setting}: {head}");
        assert_eq!(field(&head, "x-forwarded-host"), Some("shop.example:8080"), "{setting}");
        way.close().await;
    }
}
