//! TLS, HTTP/2 and what becomes of a request that comes over one protocol and leaves over another.

use http::{HeaderMap, HeaderValue, Method, Request, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::ask::{metric, until};
use crate::harness::client::read_replies;
use crate::harness::echo::{Client, Echo, body};
use crate::harness::frames::{self, Frames, block};
use crate::harness::tls::Authority;
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Idle, Upstream, call, exchange};

const HTTP2_SERVICE: &str = "[service]\nprotocol = \"http2\"\n";

/// A gateway before an `https` service at `localhost`, whose certificates `authority` signs.
async fn before_https(port: u16, authority: &Authority, protocol: &str) -> Gateway {
    let service = format!("[service]\nca = {:?}\nprotocol = \"{protocol}\"", authority.ca());
    let toml = format!("{service}\n[listen]\nworkers = 1");
    let urls = vec![format!("https://localhost:{port}")];
    Gateway::try_start_at(urls, &toml).await.expect("the gateway starts")
}

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    [(name.parse().expect("a name"), HeaderValue::from_static(value))].into_iter().collect()
}

#[tokio::test]
async fn alpn_settles_the_protocol_and_hsts_goes_over_tls_alone() {
    let authority = Authority::new();
    let upstream = Upstream::ok().await;
    let toml = authority.issue("localhost").listen();
    let gateway = Gateway::start(upstream.addr, &toml).await;

    for alpn in [&["http/1.1"][..], &[]] {
        let mut stream = authority.connect(gateway.addr(), alpn).await;
        stream.write_all(b"GET /one HTTP/1.1\r\nHost: shop.example\r\n\r\n").await.unwrap();
        let reply = read_replies(&mut stream, 1).await;
        assert_eq!(reply.status(), 200, "{alpn:?}: {}", reply.text);
        let hsts = reply.field("strict-transport-security");
        assert_eq!(hsts, Some("max-age=31536000"), "{alpn:?}");
    }

    let stream = authority.connect(gateway.addr(), &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let response = Client::over(stream).await.get("/two").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.head.headers["strict-transport-security"], "max-age=31536000");

    for (request, via) in upstream.received().iter().zip(["1.1", "1.1", "2"]) {
        assert!(request.contains("\r\nx-forwarded-proto: https\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nvia: {via} seaworthy-")), "{request}");
    }
    gateway.stop().await;

    let gateway = Gateway::start(upstream.addr, "").await;
    let reply = call(gateway.addr(), "GET /", &[], "").await;
    assert_eq!((reply.status(), reply.field("strict-transport-security")), (200, None));
    let response = Client::connect(gateway.addr()).await.get("/").await;
    assert!(!response.head.headers.contains_key("strict-transport-security"));
    gateway.stop().await;
}

#[tokio::test]
async fn an_https_service_is_asked_over_what_alpn_settles_on() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    for (offered, protocol, version) in [
        (&["http/1.1"][..], "auto", Version::HTTP_11),
        (&["h2", "http/1.1"], "auto", Version::HTTP_2),
        (&[], "auto", Version::HTTP_11),
        (&["h2", "http/1.1"], "http1", Version::HTTP_11),
        (&["h2", "http/1.1"], "http2", Version::HTTP_2),
    ] {
        let service = Echo::tls(Authority::server(&identity, offered)).await;
        let gateway = before_https(service.addr.port(), &authority, protocol).await;
        // The second request goes over the connection that the first has opened.
        for content in ["once", "twice"] {
            let reply = call(gateway.addr(), "POST /form?a=b", &[], content).await;
            assert_eq!((reply.status(), reply.body()), (200, content), "{offered:?} {protocol}");
        }
        for request in service.take() {
            let uri = &request.head.uri;
            assert_eq!(request.head.version, version, "{offered:?} {protocol}");
            assert_eq!(uri.path_and_query().unwrap(), "/form?a=b");
            let host = request.head.headers.get("host").map(|host| host.to_str().unwrap());
            let named = uri.authority().map(http::uri::Authority::as_str);
            assert_eq!(named.or(host), Some("shop.example"), "{offered:?} {protocol}");
        }
        let connects = metric(gateway.console(), "seaworthy_upstream_connects_total").await;
        assert_eq!(connects, Some(1.0), "{offered:?} {protocol}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_trusted_is_a_502_that_says_no_more() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (name, identity, offered, protocol) in [
        ("a certificate for another name", ours.issue("elsewhere.example"), "http/1.1", "auto"),
        ("an unknown authority", theirs.issue("localhost"), "http/1.1", "auto"),
        ("HTTP/2 wanted and not offered", ours.issue("localhost"), "http/1.1", "http2"),
    ] {
        let service = Echo::tls(Authority::server(&identity, &[offered])).await;
        let gateway = before_https(service.addr.port(), &ours, protocol).await;
        let reply = call(gateway.addr(), "POST /", &[], "a secret").await;
        let answered = (reply.status(), reply.code());
        assert_eq!(answered, (502, Some("upstream-connect-failed")), "{name}");
        let said = reply.text.to_ascii_lowercase();
        let port = service.addr.port().to_string();
        for word in ["certificate", "issuer", "tls", "alpn", "http/2", "localhost", &port] {
            assert!(!said.contains(word), "{name}: the client is told {word}: {}", reply.text);
        }
        assert!(service.take().is_empty(), "{name}: nothing is sent");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn http2_carries_bodies_and_trailers_both_ways() {
    let service = Echo::http2().await;
    let gateway = Gateway::start(service.addr, HTTP2_SERVICE).await;
    let client = Client::connect(gateway.addr()).await;
    // Larger than the windows of a stream and of a connection.
    let large = "seaworthy ".repeat(50_000);
    for (content, trailer) in
        [("", None), ("short", Some("1")), (&large, Some("2")), (&large, None)]
    {
        let sent = trailer.map(|value| trailers("sum", value));
        let request = Request::post("http://shop.example/").header("te", "trailers");
        let request = request.body(body(content.to_owned(), sent.clone())).unwrap();
        let response = client.send(request).await.expect("an answer");
        assert_eq!((response.status(), response.text()), (200, content));
        assert_eq!(response.trailers, sent, "back to the client");
        let [request] = &service.take()[..] else { panic!("one request") };
        assert_eq!(request.trailers, sent, "on to the service");
        assert_eq!(request.head.headers["te"], "trailers");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn trailers_of_a_request_are_no_headers_of_an_http1_service() {
    let answer = "HTTP/1.1 200 OK\r\nTrailer: sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = format!("{answer}2\r\nok\r\n0\r\nSum: 7\r\n\r\n");
    let upstream = Upstream::start(move |_, _| Answer::Bytes(answer.clone().into_bytes())).await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let client = Client::connect(gateway.addr()).await;
    let sent = trailers("x-admin", "yes");
    let request = Request::post("http://shop.example/").body(body("hello", Some(sent))).unwrap();
    let response = client.send(request).await.expect("an answer");
    assert_eq!((response.status(), response.text()), (200, "ok"));
    assert!(!response.head.headers.contains_key("sum"), "{:?}", response.head);
    let [request] = &upstream.received()[..] else { panic!("one request") };
    assert!(request.ends_with("\r\n\r\nhello"), "{request}");
    assert!(!request.contains("x-admin"), "{request}");
    gateway.stop().await;
}

#[tokio::test]
async fn streams_of_one_connection_run_at_once() {
    let service = Idle::start().await;
    let gateway = Gateway::start(service.addr(), "").await;
    let client = Client::connect(gateway.addr()).await;
    let mut answers = Vec::new();
    let mut asked = Vec::new();
    for number in 0..50 {
        let client = client.clone();
        answers.push(tokio::spawn(async move { client.get(&format!("/{number}")).await }));
        asked.push(service.asked().await);
    }
    // The last is answered first.
    for (number, mut connection) in asked.into_iter().enumerate().rev() {
        let head = connection.read_to("\r\n\r\n").await;
        assert!(head.starts_with(&format!("GET /{number} HTTP/1.1\r\n")), "{head}");
        let text = format!("{number:02}");
        connection.write(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{text}")).await;
        let response = answers.pop().expect("one for each").await.unwrap();
        assert_eq!((response.status(), response.text()), (200, text.as_str()));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn many_requests_share_one_http2_connection_to_the_service() {
    let service = Echo::http2().await;
    let toml = format!("{HTTP2_SERVICE}connections_max = 1\n[listen]\nworkers = 1");
    let gateway = Gateway::start(service.addr, &toml).await;
    let client = Client::connect(gateway.addr()).await;
    // All of them come before there is a connection.
    let answers: Vec<_> = (0..50)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.get(&format!("/{number}")).await })
        })
        .collect();
    for answer in answers {
        let response = answer.await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text());
    }
    assert_eq!(service.take().len(), 50);
    gateway.stop().await;
}

#[tokio::test]
async fn an_http2_request_reaches_an_http1_service_in_its_own_form() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let client = Client::connect(gateway.addr()).await;
    let request = Request::post("http://shop.example/a?b=c")
        .header("host", "evil.example")
        .header("cookie", "session=1")
        .header("cookie", "theme=dark")
        .header("cookie", "lang=de")
        .header("x-twice", "1")
        .header("x-twice", "2")
        .body(body("hello", None))
        .unwrap();
    assert_eq!(client.send(request).await.unwrap().status(), 200);
    let [request] = &upstream.received()[..] else { panic!("one request") };
    let (head, content) = request.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    assert_eq!((lines.next(), content), (Some("POST /a?b=c HTTP/1.1"), "hello"), "{request}");
    let fields: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    let values = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| *value).collect()
    };
    assert_eq!(values("host"), ["shop.example"], ":authority beats Host");
    assert_eq!(values("x-forwarded-host"), ["shop.example"]);
    assert_eq!(values("content-length"), ["5"]);
    assert_eq!(values("x-twice"), ["1", "2"], "only cookies are joined");
    // RFC 9113, 8.2.3: HTTP/1 has one Cookie field.
    assert_eq!(values("cookie"), ["session=1; theme=dark; lang=de"]);
    assert!(!head.contains("\r\n:") && !head.contains("evil"), "no pseudo-field: {head}");
    gateway.stop().await;
}

/// What an HTTP/2 client may say that an HTTP/1 service would read as something else.
#[tokio::test]
async fn an_http2_request_that_has_two_readings_never_reaches_the_service() {
    const START: &[(&str, &str)] = &[(":method", "POST"), (":scheme", "http")];
    const REST: &[(&str, &str)] = &[(":path", "/"), (":authority", "shop.example")];
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("transfer-encoding", &[("transfer-encoding", "chunked")]),
        ("a connection field", &[("connection", "x-secret")]),
        ("an upgrade", &[("upgrade", "websocket")]),
        ("a length where no body comes", &[("content-length", "5")]),
        ("two lengths", &[("content-length", "0"), ("content-length", "5")]),
        ("a signed length", &[("content-length", "+0")]),
        ("a list of lengths", &[("content-length", "0, 5")]),
        ("a line end in a value", &[("x", "a\r\nevil: b")]),
        ("a line feed in a value", &[("x", "a\nevil: b")]),
        ("a NUL in a value", &[("x", "a\0b")]),
        ("a line end in a name", &[("x: a\r\nevil", "b")]),
        ("a colon in a name", &[("evil:", "b")]),
        ("a space in a name", &[("content-length ", "5")]),
        ("an upper-case name", &[("Content-Length", "5")]),
        ("an empty name", &[("", "5")]),
        ("a pseudo-field behind a field", &[("x", "a"), (":path", "/evil")]),
        ("a second path", &[(":path", "/evil")]),
        ("an unknown pseudo-field", &[(":evil", "a")]),
        ("a status", &[(":status", "200")]),
        ("te with more than trailers", &[("te", "gzip")]),
    ];
    let paths = ["", "evil", "*", "/a b", "/a\r\nevil: b", "/a\\b", "/%00", "http://b/"];
    let hosts = ["", "a@b", "a/b", "a b", "a\r\nevil: b", "a,b"];
    let methods = ["", "GE T", "GET / HTTP/1.1\r\nevil:", "G(T"];
    let mut blocks: Vec<(String, Vec<u8>)> = cases
        .iter()
        .map(|(name, fields)| ((*name).to_owned(), block(&[START, REST, fields].concat())))
        .collect();
    blocks.extend(paths.map(|path| {
        let rest = [(":path", path), (":authority", "shop.example")];
        (format!("path {path:?}"), block(&[START, &rest].concat()))
    }));
    blocks.extend(hosts.map(|host| {
        let rest = [(":path", "/"), (":authority", host)];
        (format!("authority {host:?}"), block(&[START, &rest].concat()))
    }));
    blocks.extend(methods.map(|method| {
        let start = [(":method", method), (":scheme", "http")];
        (format!("method {method:?}"), block(&[&start, REST].concat()))
    }));

    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    for (name, block) in blocks {
        let mut client = Frames::connect(gateway.addr()).await;
        let flags = frames::END_HEADERS | frames::END_STREAM;
        client.send(&frames::frame(frames::HEADERS, flags, 1, &block)).await;
        let ends = |frame: &frames::Frame| match frame.kind {
            frames::RST_STREAM | frames::GOAWAY => true,
            _ => frame.stream == 1 && frame.flags & frames::END_STREAM != 0,
        };
        client.until(ends).await;
        assert_eq!(upstream.received(), [""; 0], "{name}");
    }
    // What they all are variations of is taken.
    let mut client = Frames::connect(gateway.addr()).await;
    let flags = frames::END_HEADERS | frames::END_STREAM;
    let block = block(&[START, REST].concat());
    client.send(&frames::frame(frames::HEADERS, flags, 1, &block)).await;
    client.until(|frame| frame.stream == 1 && frame.flags & frames::END_STREAM != 0).await;
    assert_eq!(upstream.received().len(), 1);
    // It answers no ping, which a drain would wait for.
    drop(client);
    gateway.stop().await;
}

#[tokio::test]
async fn connect_is_refused_over_http1_and_http2() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let sent = b"CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n";
    let reply = exchange(gateway.addr(), sent, 0).await;
    assert_eq!((reply.status(), reply.code()), (405, Some("connect-refused")));

    let client = Client::connect(gateway.addr()).await;
    let request = Request::builder().method(Method::CONNECT).uri("shop.example:443");
    let response = client.send(request.body(body("", None)).unwrap()).await.expect("an answer");
    assert_eq!((response.status(), response.code().as_deref()), (405, Some("connect-refused")));
    assert_eq!(client.get("/").await.status(), 200, "the connection goes on");
    assert_eq!(upstream.received().len(), 1, "the GET");
    gateway.stop().await;
}

#[tokio::test]
async fn a_websocket_passes_through_tls() {
    let authority = Authority::new();
    let service = Idle::start().await;
    let toml = authority.issue("localhost").listen();
    let gateway = Gateway::start(service.addr(), &toml).await;
    let mut client = authority.connect(gateway.addr(), &["http/1.1"]).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let fields = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let head = format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{upgrade}{fields}\r\n");
    client.write_all(head.as_bytes()).await.unwrap();

    let mut asked = service.asked().await;
    let request = asked.read_to("\r\n\r\n").await;
    assert!(request.contains("\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{request}");
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    asked.write(&format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}{accept}\r\n")).await;
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert!(client.read_buf(&mut read).await.unwrap() > 0, "the gateway goes on");
    }
    let answer = String::from_utf8(read).unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"));

    for message in ["\u{1}ping", "\u{2}a longer message"] {
        client.write_all(message.as_bytes()).await.unwrap();
        asked.read_to(message).await;
        asked.write(message).await;
        let mut echo = vec![0; message.len()];
        client.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, message.as_bytes());
    }
    drop((client, asked));
    until("the tunnel ends", async || {
        let open = metric(gateway.console(), "seaworthy_tunnels_open").await;
        (open == Some(0.0)).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_no_tls_leaves_a_tls_port_serving() {
    let authority = Authority::new();
    let upstream = Upstream::ok().await;
    let toml = authority.issue("localhost").listen();
    let gateway = Gateway::start(upstream.addr, &toml).await;
    let attempts: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        frames::PREFACE,
        &[0; 1000],
        &[0xff; 100_000],
        // A handshake record that announces more than a record holds.
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ];
    for bytes in attempts {
        let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
        let sent = stream.write_all(bytes).await;
        drop(sent);
        let reply = read_replies(&mut stream, 0).await;
        assert!(reply.closed && reply.statuses().is_empty(), "{}", reply.text);
    }
    // One that goes away in the middle of the handshake.
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").await.unwrap();
    drop(stream);
    until("each of them is counted", async || {
        let failures = metric(gateway.console(), "seaworthy_tls_handshake_failures_total").await;
        (failures == Some(7.0)).then_some(())
    })
    .await;
    let stream = authority.connect(gateway.addr(), &["h2"]).await;
    assert_eq!(Client::over(stream).await.get("/").await.status(), 200);
    assert_eq!(upstream.received().len(), 1, "that one");
    gateway.stop().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_refused_at_start() {
    let authority = Authority::new();
    let (ours, other) = (authority.issue("localhost"), authority.issue("other.example"));
    let missing = ours.key.with_file_name("missing.pem");
    let garbage = ours.key.with_file_name("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
    let listen = |cert, key| format!("[listen]\ntls = {{ cert = {cert:?}, key = {key:?} }}\n");
    for (name, toml, file, reason) in [
        (
            "another key",
            listen(&ours.cert, &other.key),
            &other.key,
            "not the key of the certificate",
        ),
        ("no such key", listen(&ours.cert, &missing), &missing, "No such file"),
        ("no such certificate", listen(&missing, &ours.key), &missing, "No such file"),
        ("a certificate for a key", listen(&ours.cert, &ours.cert), &ours.cert, "private key"),
        ("a key for a certificate", listen(&ours.key, &ours.key), &ours.key, "certificate"),
        ("a damaged certificate", listen(&garbage, &ours.key), &garbage, "PEM"),
        ("no such ca", format!("[service]\nca = {missing:?}"), &missing, "No such file"),
    ] {
        let urls = vec!["http://127.0.0.1:1".to_owned()];
        let fault = Gateway::try_start_at(urls, &toml).await.err().expect(name);
        let file = file.display().to_string();
        assert!(fault.contains(&file) && fault.contains(reason), "{name}: {fault}");
    }
}
