//! What a gateway tells about itself: probes, metrics, request rows, pages.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::ask::{body, get, json, metric, until, value};
use crate::harness::client::PATIENCE;
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Upstream, exchange};

/// Every request has a row of its own, soon.
const ALL_ROWS: &str = "[store.telemetry]\nrows_per_second = 10000\nflush_every = \"100ms\"\n";

/// A service whose answer has the status that ends the path; 200 where none does.
async fn service() -> Upstream {
    Upstream::start(|request, _| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let last = path.rsplit('/').next().and_then(|last| last.parse::<u16>().ok());
        let status = last.unwrap_or(200);
        let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: 5\r\n\r\nhello");
        Answer::Bytes(head.into_bytes())
    })
    .await
}

/// Sends each request on one connection and returns the statuses.
async fn send(addr: SocketAddr, requests: &[String]) -> Vec<u16> {
    exchange(addr, requests.concat().as_bytes(), requests.len()).await.statuses()
}

fn request(method: &str, path: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n")
}

/// A scrape once `series` is `expected`.
async fn scrape_when(console: SocketAddr, series: &str, expected: f64) -> String {
    until(&format!("{series} is {expected}"), async || {
        let text = body(&get(console, "/metrics", &[]).await);
        (value(&text, series) == Some(expected)).then_some(text)
    })
    .await
}

#[tokio::test]
async fn probes_and_metrics_come_in_the_form_that_is_asked_for() {
    let upstream = service().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let console = gateway.console();
    send(gateway.addr(), &[request("GET", "/", "")]).await;
    let cases = [
        ("/healthz", "*/*", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", "*/*", "text/plain; charset=utf-8", "ready\nok    serving: accepting"),
        ("/readyz", "application/json", "application/json", "\"ready\":true"),
        (
            "/metrics",
            "text/plain",
            "text/plain; version=0.0.4; charset=utf-8",
            "# TYPE seaworthy_requests_total counter\n",
        ),
        (
            "/metrics",
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# TYPE seaworthy_requests counter\n",
        ),
    ];
    for (path, accept, content_type, words) in cases {
        let reply = get(console, path, &[&format!("Accept: {accept}")]).await;
        assert_eq!(reply.statuses(), [200], "{path} as {accept}: {}", reply.text);
        let header = format!("content-type: {content_type}\r\n");
        assert!(reply.text.contains(&header), "{path} as {accept}: {}", reply.text);
        assert!(body(&reply).contains(words), "{path} as {accept}: {}", reply.text);
        let ended = body(&reply).ends_with("# EOF\n");
        assert_eq!(ended, accept.contains("openmetrics"), "{path} as {accept}: {}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn readiness_goes_with_the_upstream_and_liveness_does_not() {
    let gone = Upstream::ok().await;
    let config = "[service.health]\npath = \"/\"\ninterval = \"100ms\"\nunhealthy_after = 1";
    let gateway = Gateway::start(gone.addr, config).await;
    let console = gateway.console();
    assert_eq!(get(console, "/readyz", &[]).await.statuses(), [200]);
    drop(gone);
    let reply = until("the upstream is found to be gone", async || {
        let reply = get(console, "/readyz", &["Accept: application/json"]).await;
        (reply.statuses() == [503]).then_some(reply)
    })
    .await;
    let checks: Value = serde_json::from_str(&body(&reply)).unwrap();
    let failed: Vec<&Value> =
        checks["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false).collect();
    assert_eq!((failed.len(), &failed[0]["name"]), (1, &Value::from("upstream")), "{checks}");
    assert_eq!(get(console, "/healthz", &[]).await.statuses(), [200]);
    gateway.stop().await;
}

/// Every family of `/metrics`, as Prometheus names it. Dashboards and alerts are built on these:
/// a name that is gone breaks them.
const FAMILIES: [&str; 52] = [
    "http_server_active_requests",
    "http_server_request_duration_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_threads",
    "process_virtual_memory_bytes",
    "seaworthy_alert_deliveries_total",
    "seaworthy_audit_checkpoint_size",
    "seaworthy_audit_leaves",
    "seaworthy_build_info",
    "seaworthy_config_reload_failed",
    "seaworthy_config_reloads_total",
    "seaworthy_connections_accepted_total",
    "seaworthy_connections_open",
    "seaworthy_connections_refused_total",
    "seaworthy_decisions_total",
    "seaworthy_fetch_failing",
    "seaworthy_fetch_failures_total",
    "seaworthy_findings_total",
    "seaworthy_gateway_overhead_seconds",
    "seaworthy_harm_total",
    "seaworthy_ledger_writable",
    "seaworthy_log_lines_suppressed_total",
    "seaworthy_metrics_overflowed_total",
    "seaworthy_notes_dropped_total",
    "seaworthy_problems_total",
    "seaworthy_records_dropped_total",
    "seaworthy_request_body_bytes_total",
    "seaworthy_requests_total",
    "seaworthy_response_body_bytes_total",
    "seaworthy_rule_mode",
    "seaworthy_samples_dropped_total",
    "seaworthy_samples_judged_total",
    "seaworthy_shapes_dropped_total",
    "seaworthy_store_records_dropped_total",
    "seaworthy_store_rows_dropped_total",
    "seaworthy_store_rows_held",
    "seaworthy_store_rows_written_total",
    "seaworthy_store_size_bytes",
    "seaworthy_store_wal_bytes",
    "seaworthy_store_writable",
    "seaworthy_store_write_duration_seconds",
    "seaworthy_store_write_failures_total",
    "seaworthy_tls_handshake_failures_total",
    "seaworthy_tunnels_open",
    "seaworthy_upstream_connects_total",
    "seaworthy_upstream_ejections_total",
    "seaworthy_upstream_failures_total",
    "seaworthy_upstream_requests_total",
    "seaworthy_upstream_retries_total",
    "seaworthy_upstream_up",
];

/// What the manual names that are labels of alerts.
const LABELS: [&str; 2] = ["seaworthy_rule", "seaworthy_protection"];

/// The names of metrics in the manual and the README.
fn documented_families() -> BTreeSet<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut files = vec![format!("{root}/README.md")];
    for entry in std::fs::read_dir(format!("{root}/docs")).expect("there is a manual") {
        files.push(entry.unwrap().path().display().to_string());
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let spans = text.split('`').skip(1).step_by(2);
        let is_metric = |span: &&str| {
            span.starts_with("seaworthy_")
                && !LABELS.contains(span)
                && span.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        names.extend(spans.filter(is_metric).map(str::to_owned));
    }
    names
}

/// Those of gateways that share their modes; the process tests of fleets read them.
const OF_A_FLEET: &[&str] =
    &["seaworthy_modes_belief", "seaworthy_modes_age_seconds", "seaworthy_modes_leader"];

#[tokio::test]
async fn every_family_is_there_after_traffic() {
    let upstream = service().await;
    let config = r#"
        [protect.host_allowlist]
        hosts = ["b.example"]
        [protect.core_rule_set]
        mode = "enforce"
        crs = ["env:CRS"]
    "#;
    let gateway = Gateway::start(upstream.addr, config).await;
    send(gateway.addr(), &[request("GET", "/?q=drop", ""), request("GET", "/%00", "")]).await;
    let series = "seaworthy_harm_total{protection=\"host_allowlist\",rule=\"host_allowlist\"}";
    let text = scrape_when(gateway.console(), series, 1.0).await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(families, BTreeSet::from(FAMILIES));
    for family in FAMILIES {
        let sampled = text.lines().any(|line| {
            line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
        });
        assert!(sampled, "{family} has no sample: {text}");
    }
    let documented = documented_families();
    assert!(documented.contains("seaworthy_config_reload_failed"), "{documented:?}");
    for name in documented {
        let is_there = families.contains(&*name) || OF_A_FLEET.contains(&&*name);
        assert!(is_there, "the manual names {name}, which is not there");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by scripts/test.sh");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    gateway.stop().await;
}

#[tokio::test]
async fn counters_are_exact() {
    let upstream = service().await;
    let gateway = Gateway::start(upstream.addr, "[[route]]\nmatch = \"/a/{status}\"").await;
    let mut sent = 0;
    for (requests, answer) in [
        (vec![request("GET", "/a/200", ""); 30], 200),
        (vec![request("POST", "/else", "Content-Length: 3\r\n") + "abc"; 5], 200),
        (vec![request("DELETE", "/a/404", ""); 20], 404),
        (vec![request("GET", "/else", ""); 11], 200),
    ] {
        sent += requests.len();
        assert_eq!(send(gateway.addr(), &requests).await, vec![answer; requests.len()]);
    }
    // Each ends its connection.
    for _ in 0..7 {
        assert_eq!(send(gateway.addr(), &[request("GET", "/%00", "")]).await, [400]);
    }
    let console = gateway.console();
    scrape_when(console, "seaworthy_requests_total{ending=\"served\"}", sent as f64).await;
    let text = scrape_when(console, "seaworthy_requests_total{ending=\"refused\"}", 7.0).await;
    let duration = |method: &str, status: u16, route: &str| {
        let labels = format!(
            "http_request_method=\"{method}\",http_response_status_code=\"{status}\",\
             http_route=\"{route}\",network_protocol_version=\"1.1\",url_scheme=\"http\""
        );
        value(&text, &format!("http_server_request_duration_seconds_count{{{labels}}}"))
    };
    assert_eq!(duration("GET", 200, "/a/{status}"), Some(30.0), "{text}");
    assert_eq!(duration("DELETE", 404, "/a/{status}"), Some(20.0), "{text}");
    assert_eq!(duration("GET", 200, "other"), Some(11.0), "{text}");
    assert_eq!(duration("POST", 200, "other"), Some(5.0), "{text}");
    let upstream_label = format!("{{upstream=\"http://{}\"}}", upstream.addr);
    for (series, expected) in [
        ("seaworthy_problems_total{code=\"malformed-target\"}", 7.0),
        ("seaworthy_connections_accepted_total", 4.0 + 7.0),
        ("seaworthy_request_body_bytes_total", 15.0),
        (&format!("seaworthy_upstream_requests_total{upstream_label}"), 66.0),
        (&format!("seaworthy_upstream_failures_total{upstream_label}"), 0.0),
        ("http_server_active_requests", 0.0),
        ("seaworthy_records_dropped_total", 0.0),
        ("seaworthy_metrics_overflowed_total", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}: {text}");
    }
    assert_eq!(upstream.received().len(), 66);
    gateway.stop().await;
}

#[tokio::test]
async fn series_above_the_cap_are_summed_up_and_counted() {
    const ROUTES: usize = 150;
    const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let upstream = service().await;
    let routes: String =
        (0..ROUTES).map(|route| format!("[[route]]\nmatch = \"/r{route}\"\n")).collect();
    let config = format!("[listen]\nworkers = 1\n{routes}");
    let gateway = Gateway::start(upstream.addr, &config).await;
    let mut sent = 0;
    for method in METHODS {
        let requests: Vec<String> =
            (0..ROUTES).map(|route| request(method, &format!("/r{route}"), "")).collect();
        assert_eq!(send(gateway.addr(), &requests).await, [200; ROUTES]);
        sent += ROUTES;
    }
    let served = "seaworthy_requests_total{ending=\"served\"}";
    let text = scrape_when(gateway.console(), served, sent as f64).await;
    let (mut series, mut total, mut overflow) = (0, 0, 0);
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("http_server_request_duration_seconds_count{") else {
            continue;
        };
        let count: usize = rest.rsplit(' ').next().unwrap().parse().unwrap();
        (series, total) = (series + 1, total + count);
        if rest.contains("http_route=\"~overflow\"") {
            overflow = count;
        }
    }
    assert!(series <= 512 + 1, "{series} series");
    assert_eq!(total, sent, "none is lost");
    assert!(overflow >= sent - 512, "{overflow} of {sent}");
    assert_eq!(value(&text, "seaworthy_metrics_overflowed_total"), Some(overflow as f64));
    gateway.stop().await;
}

#[tokio::test]
async fn decisions_tell_protection_rule_mode_and_outcome() {
    let upstream = service().await;
    let config = "
[protect.host_allowlist]
mode = \"warn\"
hosts = [\"b.example\"]
[protect.csrf]
mode = \"enforce 25%\"
[[route]]
match = \"GET /limited\"
[route.protect.rate_limit]
mode = \"enforce\"
limits = [{ per = \"ip\", rate = \"1/hour\", burst = 2 }]
";
    let gateway = Gateway::start(upstream.addr, config).await;
    let limited = vec![request("GET", "/limited", ""); 5];
    assert_eq!(send(gateway.addr(), &limited).await, [200, 200, 429, 429, 429]);
    let other = vec![request("GET", "/", "").replace("a.example", "b.example"); 4];
    assert_eq!(send(gateway.addr(), &other).await, [200; 4]);

    let denied = "seaworthy_requests_total{ending=\"denied\"}";
    scrape_when(gateway.console(), denied, 3.0).await;
    let served = "seaworthy_requests_total{ending=\"served\"}";
    let text = scrape_when(gateway.console(), served, 6.0).await;
    let own = "rate_limit@GET /limited";
    for (protection, rule, mode, outcome, expected) in [
        ("host_allowlist", "host_allowlist", "warn", "allow", Some(4.0)),
        ("host_allowlist", "host_allowlist", "warn", "would_deny", Some(5.0)),
        ("host_allowlist", "host_allowlist", "warn", "deny", None),
        ("rate_limit", own, "enforce", "allow", Some(2.0)),
        ("rate_limit", own, "enforce", "deny", Some(3.0)),
        ("rate_limit", own, "warn", "would_deny", None),
        ("rate_limit", "rate_limit", "warn", "allow", Some(4.0)),
    ] {
        let labels = format!(
            "protection=\"{protection}\",rule=\"{rule}\",mode=\"{mode}\",outcome=\"{outcome}\""
        );
        let series = format!("seaworthy_decisions_total{{{labels}}}");
        assert_eq!(value(&text, &series), expected, "{series}: {text}");
    }
    for (protection, rule, mode, share) in [
        ("host_allowlist", "host_allowlist", "warn", 0.0),
        ("rate_limit", own, "enforce", 1.0),
        ("csrf", "csrf", "enforce", 0.25),
    ] {
        let labels = format!("protection=\"{protection}\",rule=\"{rule}\",mode=\"{mode}\"");
        let series = format!("seaworthy_rule_mode{{{labels}}}");
        assert_eq!(value(&text, &series), Some(share), "{series}: {text}");
    }
    // Of the five that would have been denied for the host's name two were served.
    let harm = "seaworthy_harm_total{protection=\"host_allowlist\",rule=\"host_allowlist\"}";
    assert_eq!(value(&text, harm), Some(2.0), "{text}");
    gateway.stop().await;
}

async fn rows(console: SocketAddr, query: &str) -> (Vec<Value>, Option<String>) {
    let page = json(console, &format!("/api/v1/requests{query}")).await;
    let rows = page["rows"].as_array().expect("a list").clone();
    (rows, page["next"].as_str().map(str::to_owned))
}

/// The ids of all rows, once there are as many.
async fn ids_when(console: SocketAddr, count: usize) -> BTreeSet<String> {
    until(&format!("{count} rows"), async || {
        let (rows, next) = rows(console, "?limit=1000").await;
        assert!(next.is_none() && rows.len() <= count, "{} rows", rows.len());
        (rows.len() == count).then(|| ids(&rows))
    })
    .await
}

fn ids(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn request_rows_are_filtered() {
    let upstream = service().await;
    let config = format!("{ALL_ROWS}[[route]]\nmatch = \"/a/{{status}}\"");
    let gateway = Gateway::start(upstream.addr, &config).await;
    let (traffic, console) = (gateway.addr(), gateway.console());
    let token = "Authorization: Bearer secret-token\r\nX-Tenant-Id: acme\r\n";
    send(traffic, &vec![request("GET", "/a/200", ""); 5]).await;
    send(traffic, &vec![request("GET", "/a/404", ""); 4]).await;
    send(traffic, &vec![request("GET", "/a/410", token); 3]).await;
    send(traffic, &vec![request("GET", "/b/503", token); 2]).await;
    ids_when(console, 14).await;

    let (of_token, _) = rows(console, "?status=410").await;
    let client = of_token[0]["client"].as_str().unwrap();
    assert!(client.starts_with("bearer:") && !client.contains("secret"), "{client}");
    let by_client = format!("?client={client}");
    let both = format!("?client={client}&status=5xx");
    for (query, expected) in [
        ("", 14),
        ("?status=200", 5),
        ("?status=4xx", 7),
        ("?status=410", 3),
        ("?status=3xx", 0),
        ("?route=/a/{status}", 12),
        ("?route=other", 2),
        ("?route=unknown", 0),
        (&*by_client, 5),
        ("?client=ip:127.0.0.1", 9),
        ("?tenant=acme", 5),
        (&*both, 2),
        ("?since=1h", 14),
        ("?since=1ms", 0),
        ("?verdict=denied", 0),
    ] {
        let query = query.replace('{', "%7B").replace('}', "%7D");
        assert_eq!(rows(console, &query).await.0.len(), expected, "{query}");
    }
    let reply = get(console, "/api/v1/requests?stauts=404", &[]).await;
    assert_eq!(reply.statuses(), [400], "a mistyped filter lists nothing: {}", reply.text);
    gateway.stop().await;
}

#[tokio::test]
async fn pages_have_neither_gaps_nor_repeats_while_rows_are_added() {
    let upstream = service().await;
    let gateway = Gateway::start(upstream.addr, ALL_ROWS).await;
    let (traffic, console) = (gateway.addr(), gateway.console());
    send(traffic, &vec![request("GET", "/", ""); 60]).await;
    let mut known = 60;
    let expected = ids_when(console, known).await;
    let (mut seen, mut pages, mut before) = (Vec::new(), 0, String::new());
    loop {
        let (page, next) = rows(console, &format!("?limit=7{before}")).await;
        let times: Vec<i64> = page.iter().filter_map(|row| row["time_unix_ms"].as_i64()).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
        seen.extend(page);
        pages += 1;
        let Some(next) = next else { break };
        before = format!("&before={next}");
        send(traffic, &vec![request("GET", "/", ""); 5]).await;
        known += 5;
        ids_when(console, known).await;
    }
    assert_eq!((pages, seen.len()), (9, 60));
    assert_eq!(ids(&seen), expected);
    gateway.stop().await;
}

#[tokio::test]
async fn the_weights_of_a_sample_add_up_to_the_true_count() {
    let upstream = service().await;
    let config = "[store.telemetry]\nrows_per_second = 4\nflush_every = \"100ms\"";
    let gateway = Gateway::start(upstream.addr, config).await;
    let (traffic, console) = (gateway.addr(), gateway.console());
    let mixed = [request("GET", "/200", ""), request("GET", "/500", ""), request("GET", "/", "")];
    for _ in 0..4 {
        send(traffic, &mixed.iter().cycle().take(90).cloned().collect::<Vec<_>>()).await;
    }
    let weight = |rows: &[Value]| -> f64 {
        rows.iter().map(|row| row["weight"].as_f64().expect("a number")).sum()
    };
    let sample = until("all are accounted for", async || {
        let (rows, _) = rows(console, "?limit=1000").await;
        assert!(weight(&rows) < 360.5, "{rows:?}");
        (weight(&rows).round() == 360.0).then_some(rows)
    })
    .await;
    assert!(sample.len() < 180, "{} rows are no sample of 360", sample.len());
    let (failed, _) = rows(console, "?status=5xx&limit=1000").await;
    assert_eq!(weight(&failed).round(), 120.0, "a stratum's weights are exact: {failed:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn one_id_names_a_request_everywhere_and_its_trace_goes_on() {
    let upstream = service().await;
    let gateway = Gateway::start(upstream.addr, ALL_ROWS).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let sent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let reply = get(gateway.addr(), "/", &[&sent, "tracestate: a=b"]).await;
    let field = |text: &str, name: &str| {
        let lines = text.lines().take_while(|line| !line.is_empty());
        let mut fields = lines.filter_map(|line| line.split_once(": "));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned())
    };
    let id = field(&reply.text, "x-request-id").expect("each answer has an id");
    let request = upstream.received().pop().expect("it was passed on");
    assert_eq!(field(&request, "x-request-id").as_ref(), Some(&id));
    assert_eq!(ids_when(gateway.console(), 1).await, BTreeSet::from([id]));

    let passed = field(&request, "traceparent").expect("it is passed on");
    let parts: Vec<&str> = passed.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", trace, "01"), "{passed}");
    assert!(parts[2].len() == 16 && parts[2] != "00f067aa0ba902b7", "a new span: {passed}");
    assert_eq!(field(&request, "tracestate").as_deref(), Some("a=b"));

    get(gateway.addr(), "/", &["traceparent: 00-0-0-01", "tracestate: a=b"]).await;
    let request = upstream.received().pop().expect("it was passed on");
    let fresh = field(&request, "traceparent").expect("a new one");
    assert!(fresh.len() == 55 && !fresh.contains(trace), "{fresh}");
    assert_eq!(field(&request, "tracestate"), None, "it belonged to no trace");
    gateway.stop().await;
}

#[test]
fn two_gateways_in_one_process_count_apart() {
    let run = |requests: usize| {
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let upstream = service().await;
                let gateway = Gateway::start(upstream.addr, ALL_ROWS).await;
                send(gateway.addr(), &vec![request("GET", "/", ""); requests]).await;
                ids_when(gateway.console(), requests).await;
                let series = "seaworthy_requests_total{ending=\"served\"}";
                let served = metric(gateway.console(), series).await;
                gateway.stop().await;
                served
            })
        }
    };
    let threads = [3, 5].map(|requests| std::thread::spawn(run(requests)));
    assert_eq!(threads.map(|thread| thread.join().unwrap()), [Some(3.0), Some(5.0)]);
}

/// The rows of the table of rules in `html`: the cells of each, by the rule's name.
fn rule_cells(html: &str) -> BTreeMap<String, Vec<String>> {
    let mut rules = BTreeMap::new();
    for row in html.split("<tr").skip(1) {
        let row = row.split("</tr>").next().unwrap_or_default();
        let cells = row.split(['<', '>']).skip(1).step_by(2);
        let cells: Vec<String> =
            cells.map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
        if let Some(name) = cells.first() {
            rules.insert(name.clone(), cells);
        }
    }
    rules
}

const WARNED: &str = "[protect.host_allowlist]\nmode = \"warn\"\nhosts = [\"b.example\"]";

#[tokio::test]
async fn the_first_page_is_whole_without_script() {
    let upstream = service().await;
    let gateway = Gateway::start(upstream.addr, WARNED).await;
    send(gateway.addr(), &vec![request("GET", "/", ""); 13]).await;
    gateway.settled().await;
    let page = body(&get(gateway.console(), "/", &[]).await);
    let (_, table) = page.split_once("id=\"rules\"").expect("a table of rules");
    let (table, _) = table.split_once("</tbody>").expect("it ends");
    let rules = rule_cells(table);
    let view = gateway.settled().await;
    for rule in &view.rules {
        assert!(rules.contains_key(&rule.rule), "{} is not on the page: {table}", rule.rule);
    }
    let cells = &rules["host_allowlist"];
    assert!(cells.contains(&"warn".to_owned()), "{cells:?}");
    let figures = cells.iter().filter(|cell| *cell == "13").count();
    assert_eq!(figures, 3, "evaluated, would deny and harm: {cells:?}");
    assert!(page.contains(&format!("http://{}", upstream.addr)), "the upstream is shown");
    assert!(page.contains("<noscript>"), "{page}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_open_page_is_sent_newer_figures() {
    let upstream = service().await;
    let gateway = Gateway::start(upstream.addr, WARNED).await;
    let mut events = TcpStream::connect(gateway.console()).await.unwrap();
    // HTTP/1.0 has no chunks.
    let request_line = format!("GET /events HTTP/1.0\r\nHost: {}\r\n\r\n", gateway.console());
    events.write_all(request_line.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let mut sent = false;
    let seen = async {
        loop {
            assert!(events.read_buf(&mut read).await.unwrap() > 0, "the stream goes on");
            let text = String::from_utf8_lossy(&read).into_owned();
            // What stands behind the last empty line is not whole yet.
            let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
            for message in whole.split("\n\n").filter_map(|part| part.strip_prefix("data: ")) {
                let parts: Value = serde_json::from_str(message).expect("each message is JSON");
                let rules = rule_cells(parts["rules"].as_str().expect("the rules' rows"));
                let figures = rules["host_allowlist"].iter().filter(|cell| *cell == "17").count();
                if figures == 3 {
                    return text;
                }
            }
            if !sent && whole.contains("data: ") {
                send(gateway.addr(), &vec![request("GET", "/", ""); 17]).await;
                sent = true;
            }
        }
    };
    let text = timeout(PATIENCE, seen).await.expect("the figures come");
    assert!(text.contains("content-type: text/event-stream\r\n"), "{text}");
    assert!(text.contains("\r\n\r\nretry: "), "{text}");
    gateway.stop().await;
}
