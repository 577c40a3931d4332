//! The console over real sockets: a listener on port 0, requests as bytes.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prometheus_client::metrics::counter::Counter;
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::consumer::ConsumerKind;
use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_policy::names::Names;
use seaworthy_policy::problem::Code;
use seaworthy_policy::record::{
    Ending, Marks, MethodLabel, RequestRecord, RouteId, Verdict, Verdicts, clip,
};
use seaworthy_policy::registry;
use seaworthy_store::telemetry::TelemetryConfig;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::control::NoRules;
use crate::live::{GatewayView, LiveWindow, RuleView, UpstreamView};
use crate::readiness::ReadyCheck;

mod alerts;

/// A running console and what a test does to it.
struct Running {
    console: Console,
    live: watch::Sender<Arc<LiveView>>,
    ready: Arc<AtomicBool>,
}

impl Running {
    async fn start(telemetry: Option<Telemetry>) -> Self {
        Self::start_with(telemetry, AlertInputs::closed()).await
    }

    async fn start_with(telemetry: Option<Telemetry>, alerts: AlertInputs) -> Self {
        let (publish, live) = watch::channel(Arc::new(view(3400)));
        let mut registry = Registry::default();
        let requests: Counter = Counter::default();
        requests.inc_by(3400);
        registry.register("seaworthy_requests", "Requests", requests);
        let ready = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&ready);
        let readiness = move || {
            let (ok, detail) = (state.load(Relaxed), "1 of 2 are <healthy>".to_owned());
            Readiness { checks: vec![ReadyCheck { name: "upstream", ok, detail }] }
        };
        let inputs = ConsoleInputs {
            live,
            telemetry,
            registry: Arc::new(registry),
            ready: Arc::new(readiness),
            alerts,
            control: Arc::new(NoRules),
            ledger: Arc::new(|| None),
        };
        let console = Console::start(loopback(0), inputs).await.unwrap();
        Self { console, live: publish, ready }
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n")).await
    }

    async fn json(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
        serde_json::from_str(&reply.body).unwrap()
    }

    /// Sends a head without its empty line, and reads to the end.
    async fn ask(&self, head: &str) -> Reply {
        let mut stream = TcpStream::connect(self.console.addr()).await.unwrap();
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Reply::of(&String::from_utf8(bytes).unwrap())
    }

    async fn subscribe(&self) -> Stream {
        let mut stream = TcpStream::connect(self.console.addr()).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        Stream { stream, read: String::new() }
    }
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> &str {
        let field = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        field.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

/// An open `/events`.
struct Stream {
    stream: TcpStream,
    read: String,
}

impl Stream {
    /// Reads until `what` has come; `None` where the stream ends first.
    async fn until(&mut self, what: &str) -> Option<&str> {
        let mut buffer = [0; 4096];
        while !self.read.contains(what) {
            match self.stream.read(&mut buffer).await.unwrap() {
                0 => return None,
                n => self.read.push_str(&String::from_utf8_lossy(&buffer[..n])),
            }
        }
        Some(&self.read)
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn view(evaluated: u64) -> LiveView {
    LiveView {
        gateway: GatewayView {
            service: "help<desk>".to_owned(),
            version: "0.1.0".to_owned(),
            listen: "http://127.0.0.1:8080".to_owned(),
            started_unix_s: 1_767_268_800,
            uptime_s: 61,
            config_generation: 2,
            config_fault: Some("line 3: no such key".to_owned()),
            records_dropped: 0,
        },
        traffic: LiveWindow::new(1_767_268_861).view(),
        rules: vec![RuleView {
            protection: "rate_limit",
            rule: "rate_limit".to_owned(),
            mode: Mode::Warn,
            setting: ModeSetting::Auto,
            evaluated,
            would_deny: 12,
            denied: 0,
            harm: 3,
        }],
        upstreams: vec![UpstreamView {
            name: "http://127.0.0.1:3000".to_owned(),
            healthy: true,
            ejected: true,
            requests: 3400,
            failures: 7,
            ejections: 1,
        }],
    }
}

fn record(started_unix_ms: i64, verdict: Verdict) -> RequestRecord {
    let mut verdicts = Verdicts::default();
    verdicts.set(registry::position("rate_limit").unwrap(), verdict);
    let (status, ending) = match verdict {
        Verdict::Deny => (429, Ending::Denied),
        _ => (200, Ending::Served),
    };
    RequestRecord {
        id: clip("r1"),
        started_unix_ms,
        duration_us: 1500,
        upstream_us: 1000,
        route: RouteId(0),
        settings: RouteId(0),
        method: MethodLabel::Post,
        status,
        ending,
        client: ClientKey::Ip(Ipv4Addr::new(203, 0, 113, 7).into()),
        kind: ConsumerKind::Unknown,
        agent: clip("curl/8.5.0"),
        tenant: clip("acme"),
        path: clip("/api/<traces>"),
        request_bytes: 0,
        response_bytes: 0,
        verdicts,
        marks: Marks::default(),
        reason: Some(Code::RateLimited),
        upstream: None,
    }
}

/// A store with two requests allowed, one that would have been denied and one that was.
async fn store(dir: &tempfile::TempDir) -> Telemetry {
    let names = Arc::new(Names::new());
    let telemetry = Telemetry::open(dir.path(), TelemetryConfig::default(), names).unwrap();
    let now_unix_ms = jiff::Timestamp::now().as_millisecond();
    let mut aggregator = telemetry.aggregator();
    let verdicts = [Verdict::Allow, Verdict::WouldDeny, Verdict::Deny, Verdict::Allow];
    for (n, verdict) in verdicts.into_iter().enumerate() {
        aggregator.observe(&record(now_unix_ms - 1000 + n as i64, verdict));
    }
    telemetry.submit(aggregator.flush(now_unix_ms, 0));
    telemetry.flush().await.unwrap();
    telemetry
}

#[tokio::test]
async fn the_first_page_is_whole_without_script() {
    let running = Running::start(None).await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 200);
    for words in [
        "<title>help&lt;desk&gt; · Seaworthy</title>",
        "Would have denied 12 of 3,400 requests; 3 of them were served",
        "1 min 1 s",
        "Requests per second over the last 5 minutes: 0 now",
        "http://127.0.0.1:3000",
        "ejected",
        "Ready",
        "last reload refused</span>: line 3: no such key",
        "the telemetry store is not open",
        "12:01:01 UTC",
    ] {
        assert!(reply.body.contains(words), "{words:?} is not in {}", reply.body);
    }
    // What the content policy would block.
    for inline in [" style=", "<style", "onclick", "<script>", "http-equiv"] {
        assert!(!reply.body.contains(inline), "{inline:?} is inline");
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let running = Running::start(None).await;
    for path in [
        "/",
        "/requests",
        "/consumers",
        "/assets/console.css",
        "/assets/console.js",
        "/assets/icon.svg",
        "/api/v1/overview",
        "/api/v1/requests?limit=0",
        "/healthz",
        "/readyz",
        "/metrics",
        "/nothing",
    ] {
        let reply = running.get(path).await;
        assert!(
            reply.header("content-security-policy").starts_with("default-src 'none'; "),
            "{path}"
        );
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin", "{path}");
        let caching = if path.starts_with("/assets") { "no-cache" } else { "no-store" };
        assert_eq!(reply.header("cache-control"), caching, "{path}");
    }
}

#[tokio::test]
async fn refusals_are_problems() {
    let running = Running::start(None).await;
    let cases = [
        ("GET / HTTP/1.1\r\nhost: evil.example\r\n", 403, "is another"),
        ("GET /metrics HTTP/1.1\r\nhost: evil.example:9900\r\n", 403, "is another"),
        ("GET / HTTP/1.0\r\n", 403, "is another"),
        ("GET /nothing HTTP/1.1\r\nhost: localhost\r\n", 404, "nothing is here"),
        ("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n", 405, "POST is not offered"),
        (
            "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10000000000\r\n",
            413,
            "nothing here takes a request body",
        ),
        (
            "GET /api/v1/requests?status=9&foo=1 HTTP/1.1\r\nhost: localhost\r\n",
            400,
            "there is no parameter \"foo\"",
        ),
        (
            "GET /api/v1/protections?since=1y HTTP/1.1\r\nhost: localhost\r\n",
            400,
            "since: expected a duration",
        ),
        ("GET /api/v1/requests HTTP/1.1\r\nhost: localhost\r\n", 503, "store is not open"),
        ("GET /api/v1/consumers HTTP/1.1\r\nhost: localhost\r\n", 503, "store is not open"),
        (
            "GET /api/v1/consumers?rule=cfrs HTTP/1.1\r\nhost: localhost\r\n",
            400,
            "rule: expected a rule such as",
        ),
    ];
    for (head, status, words) in cases {
        let reply = running.ask(head).await;
        assert_eq!(reply.status, status, "{head}");
        assert_eq!(reply.header("content-type"), "application/problem+json", "{head}");
        let problem: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(problem["status"], status, "{head}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{head}: {detail}");
    }
    let post = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n";
    assert_eq!(running.ask(post).await.header("allow"), "GET,HEAD");
    let browser = "GET /nothing HTTP/1.1\r\nhost: localhost\r\nsec-fetch-mode: navigate\r\n";
    let page = running.ask(browser).await;
    assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"));
    assert!(page.body.contains("<h1>Not Found</h1>"), "{}", page.body);
}

#[tokio::test]
async fn probes_answer_machines_and_terminals() {
    let running = Running::start(None).await;
    let alive = running.get("/healthz").await;
    assert_eq!((alive.status, alive.body.as_str()), (200, "ok\n"));
    let ready = running.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.body, "ready\nok    upstream: 1 of 2 are <healthy>\n");
    running.ready.store(false, Relaxed);
    assert_eq!(running.get("/healthz").await.status, 200);
    let json = "GET /readyz HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n";
    let reply = running.ask(json).await;
    assert_eq!((reply.status, reply.header("content-type")), (503, "application/json"));
    assert_eq!(
        serde_json::from_str::<Value>(&reply.body).unwrap(),
        serde_json::json!({
            "ready": false,
            "checks": [{ "name": "upstream", "ok": false, "detail": "1 of 2 are <healthy>" }],
        })
    );
    let page = running.get("/").await;
    assert!(page.body.contains("Not ready"), "{}", page.body);
    assert!(page.body.contains("upstream: 1 of 2 are &lt;healthy&gt;"), "{}", page.body);
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let running = Running::start(None).await;
    let text = running.get("/metrics").await;
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(
        text.body,
        "# HELP seaworthy_requests_total Requests.\n\
         # TYPE seaworthy_requests_total counter\n\
         seaworthy_requests_total 3400\n"
    );
    let accept = "application/openmetrics-text; version=1.0.0";
    let head = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n");
    let openmetrics = running.ask(&head).await;
    assert_eq!(openmetrics.header("content-type"), format!("{accept}; charset=utf-8"));
    assert!(openmetrics.body.ends_with("seaworthy_requests_total 3400\n# EOF\n"));
}

#[tokio::test]
async fn the_api_gives_the_figures_of_the_page() {
    let running = Running::start(None).await;
    let overview = running.json("/api/v1/overview").await;
    assert_eq!(overview["ready"], true);
    assert_eq!(overview["gateway"]["service"], "help<desk>");
    assert_eq!(overview["store"], Value::Null);
    assert_eq!(overview["upstreams"][0]["ejected"], true);
    let protections = running.json("/api/v1/protections").await;
    assert_eq!(protections["since_unix_ms"], 1_767_268_800_000i64);
    let list = protections["protections"].as_array().unwrap();
    let names: Vec<_> = list.iter().map(|protection| &protection["name"]).collect();
    assert_eq!(names, registry::REGISTRY.iter().map(|entry| entry.name).collect::<Vec<_>>());
    let rate_limit = &list[registry::position("rate_limit").unwrap()];
    assert_eq!(rate_limit["codes"], serde_json::json!(["rate-limited"]));
    let rule = &rate_limit["rules"][0];
    assert_eq!((&rule["mode"], &rule["setting"]), (&"warn".into(), &"auto".into()));
    assert_eq!((&rule["would_deny"], &rule["harm"]), (&12.into(), &3.into()));
    assert!(rule["sentence"].as_str().unwrap().starts_with("Would have denied 12 of 3,400"));
}

#[tokio::test]
async fn consumers_come_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = store(&dir).await;
    let running = Running::start(Some(telemetry)).await;
    let all = running.json("/api/v1/consumers").await;
    assert_eq!((&all["consumers"], &all["sentence"]), (&1.into(), &Value::Null));
    let row = &all["rows"][0];
    assert_eq!((&row["client"], &row["requests"]), (&"ip:203.0.113.7".into(), &4.into()));
    assert_eq!(row["agents"]["names"][0]["name"], "curl/8.5.0");
    let rule = running.json("/api/v1/consumers?rule=rate_limit&kind=unknown&since=1d").await;
    assert_eq!(
        rule["sentence"],
        "enforcing rate_limit today breaks 1 of 1 client: ip:203.0.113.7 (1 request)"
    );
    assert_eq!(
        rule["rows"][0]["objections"],
        serde_json::json!([{ "rule": "rate_limit", "would_deny": 1, "denied": 1, "harm": 1 }])
    );

    for (path, status, words) in [
        ("/consumers", 200, "<time datetime="),
        ("/consumers", 200, "/requests?client=ip%3A203.0.113.7"),
        ("/consumers", 200, "would deny 1 of 4 <span class=\"harm\">▲ 1 harm</span>"),
        ("/consumers?rule=rate_limit", 200, "Enforcing rate_limit today breaks 1 of 1 client: "),
        ("/consumers?rule=csrf", 200, "The rule objects to none of them."),
        ("/consumers?tenant=nobody", 200, "No clients match these filters."),
        ("/consumers?kind=mixed", 400, "kind: expected &quot;internal&quot;"),
        ("/requests", 200, "<a href=\"/consumers?client=ip%3A203.0.113.7\">"),
    ] {
        let page = running.get(path).await;
        assert_eq!(page.status, status, "{path}");
        assert!(page.body.contains(words), "{words:?} is not in {path}: {}", page.body);
    }
    let empty = Running::start(None).await.get("/consumers").await;
    assert_eq!(empty.status, 503);
    assert!(empty.body.contains("No consumers to show: "), "{}", empty.body);
}

#[tokio::test]
async fn requests_come_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = store(&dir).await;
    let running = Running::start(Some(telemetry.clone())).await;

    let first = running.json("/api/v1/requests?limit=3").await;
    assert_eq!(first["rows"].as_array().unwrap().len(), 3);
    let next = first["next"].as_str().unwrap();
    let rest = running.json(&format!("/api/v1/requests?limit=3&before={next}")).await;
    assert_eq!(rest["rows"].as_array().unwrap().len(), 1);
    assert_eq!(rest["next"], Value::Null);

    let would = running.json("/api/v1/requests?verdict=would_deny&since=15m&status=2xx").await;
    assert_eq!(would["rows"].as_array().unwrap().len(), 1);
    assert_eq!(would["rows"][0]["would_deny"], serde_json::json!(["rate_limit"]));
    assert_eq!(would["rows"][0]["client"], "ip:203.0.113.7");

    let remembered = running.json("/api/v1/protections?since=1h").await;
    let position = registry::position("rate_limit").unwrap();
    let rule = &remembered["protections"][position]["rules"][0];
    assert_eq!(
        [&rule["evaluated"], &rule["would_deny"], &rule["denied"], &rule["harm"]],
        [4, 1, 1, 1].map(Value::from).each_ref()
    );
    assert_eq!(running.json("/api/v1/overview").await["store"]["rows_written"], 4);

    let page = running.get("/").await.body;
    assert!(page.contains("would deny <code>rate_limit</code>"), "{page}");
    assert!(page.contains("denied <code>rate_limit</code>"), "{page}");
    assert!(page.contains("POST /api/&lt;traces&gt;"), "{page}");
    assert!(page.contains("4 requests written"), "{page}");

    let list = running.get("/requests?limit=2&tenant=acme&verdict=").await;
    assert_eq!(list.status, 200);
    assert!(list.body.contains("/requests?tenant=acme&amp;limit=2&amp;before="), "{}", list.body);
    let none = running.get("/requests?tenant=nobody").await;
    assert!(none.body.contains("No requests match these filters."), "{}", none.body);
    let wrong = running.get("/requests?status=%3Cb%3E").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("value=\"&lt;b&gt;\""), "{}", wrong.body);
    assert!(wrong.body.contains("status: expected a status"), "{}", wrong.body);

    running.console.shutdown().await;
    telemetry.close().await.unwrap();
}

#[tokio::test]
async fn open_pages_are_sent_each_new_view() {
    let running = Running::start(None).await;
    let mut pages = [running.subscribe().await, running.subscribe().await];
    for page in &mut pages {
        let opening = page.until("retry: 2000\n\n").await.unwrap();
        assert!(opening.contains("content-type: text/event-stream"), "{opening}");
    }
    running.live.send_replace(Arc::new(view(5600)));
    for page in &mut pages {
        let message = page.until("\"}\n\n").await.unwrap();
        let (_, data) = message.split_once("data: ").unwrap();
        let (parts, _) = data.split_once("\n\n").unwrap();
        let parts: Value = serde_json::from_str(parts).unwrap();
        let rules = parts["rules"].as_str().unwrap();
        assert!(rules.contains("Would have denied 12 of 5,600 requests"), "{rules}");
    }
    running.console.shutdown().await;
    for page in &mut pages {
        assert_eq!(page.until("there is no more").await, None, "the stream ends");
    }
}

#[tokio::test]
async fn so_many_pages_may_be_open_and_no_more() {
    let running = Running::start(None).await;
    let mut pages = Vec::new();
    loop {
        let mut page = running.subscribe().await;
        let reply = page.until("\r\n\r\n").await.unwrap();
        if reply.starts_with("HTTP/1.1 503 ") {
            break;
        }
        page.until("retry: 2000\n\n").await.unwrap();
        pages.push(page);
    }
    assert_eq!(pages.len(), 32);
    assert_eq!(running.get("/healthz").await.status, 200, "others are still answered");
    // A place is free again once the next message finds its page gone.
    pages.clear();
    let free = async {
        loop {
            running.live.send_replace(Arc::new(view(1)));
            let mut page = running.subscribe().await;
            if page.until("\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 200 ") {
                break;
            }
        }
    };
    time::timeout(Duration::from_secs(30), free).await.expect("places are given back");
}

#[tokio::test]
async fn it_starts_on_a_free_loopback_address_alone() {
    let inputs = || {
        let (_, live) = watch::channel(Arc::new(view(0)));
        ConsoleInputs {
            live,
            telemetry: None,
            registry: Arc::default(),
            ready: Arc::new(Readiness::default),
            alerts: AlertInputs::closed(),
            control: Arc::new(NoRules),
            ledger: Arc::new(|| None),
        }
    };
    for public in ["0.0.0.0:9900", "[::]:9900", "192.0.2.1:9900", "[::ffff:10.0.0.1]:9900"] {
        let error = Console::start(public.parse().unwrap(), inputs()).await.unwrap_err();
        let words = error.to_string();
        assert!(words.contains("until a login exists"), "{words}");
        assert!(words.contains("127.0.0.1:9900"), "{words}");
    }
    let first = Console::start(loopback(0), inputs()).await.unwrap();
    let second = Console::start(first.addr(), inputs()).await.unwrap_err();
    assert!(matches!(second, ConsoleError::InUse { addr } if addr == first.addr()), "{second}");
    let addr = first.addr();
    first.shutdown().await;
    Console::start(addr, inputs()).await.unwrap().shutdown().await;
}
