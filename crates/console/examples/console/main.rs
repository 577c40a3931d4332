//! The console with made-up traffic, to look at and to work on its pages.
//!
//! `cargo run -p seaworthy-console --example console [-- 127.0.0.1:9900 [empty]]`
//!
//! With `empty` there are no rules, and no ledger.

mod rules;

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use seaworthy_console::control::{Control, NoRules};
use seaworthy_console::live::{
    GatewayView, LiveView, LiveWindow, RuleView, UpstreamView, WINDOW_S,
};
use seaworthy_console::{AlertInputs, Console, ConsoleInputs, Readiness, ReadyCheck};
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::consumer::ConsumerKind;
use seaworthy_policy::mode::{Mode, ModeSetting, Share};
use seaworthy_policy::names::Names;
use seaworthy_policy::problem::Code;
use seaworthy_policy::record::{
    Ending, Marks, MethodLabel, RequestRecord, RouteId, Verdict, Verdicts, clip,
};
use seaworthy_policy::registry;
use seaworthy_store::telemetry::{Aggregator, Batch, Telemetry, TelemetryConfig};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let addr: SocketAddr = match std::env::args().nth(1) {
        Some(addr) => addr.parse()?,
        None => (Ipv4Addr::LOCALHOST, 9900).into(),
    };
    let now_unix_s = SystemTime::UNIX_EPOCH.elapsed()?.as_secs() as i64;
    let dir = tempfile::tempdir()?;
    let names = Arc::new(Names::new());
    let telemetry = Telemetry::open(dir.path(), TelemetryConfig::default(), Arc::clone(&names))?;
    let aggregator = telemetry.aggregator();
    let mut made_up = MadeUp::new(now_unix_s - WINDOW_S as i64, &names, aggregator);
    for second in now_unix_s - WINDOW_S as i64..now_unix_s {
        telemetry.submit(made_up.second(second));
    }
    let is_empty = std::env::args().nth(2).is_some_and(|word| word == "empty");
    let ledger = rules::ledger(dir.path(), now_unix_s * 1000).await?;
    let reader = (!is_empty).then(|| ledger.reader().clone());
    let control: Arc<dyn Control> = match is_empty {
        true => Arc::new(NoRules),
        false => Arc::new(rules::Rules(rules::all(now_unix_s * 1000))),
    };
    let (publish, live) = watch::channel(Arc::new(made_up.view()));
    let console = Console::start(
        addr,
        ConsoleInputs {
            live,
            telemetry: Some(telemetry.clone()),
            registry: Arc::new(metrics()),
            ready: Arc::new(ready),
            alerts: AlertInputs::closed(),
            control,
            ledger: Arc::new(move || reader.clone()),
        },
    )
    .await?;
    println!("http://{}", console.addr());
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    for second in now_unix_s.. {
        tokio::select! {
            _ = seconds.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        telemetry.submit(made_up.second(second));
        publish.send_replace(Arc::new(made_up.view()));
    }
    console.shutdown().await;
    ledger.close().await;
    telemetry.close().await?;
    Ok(())
}

/// A metric of each kind.
fn metrics() -> Registry {
    let mut registry = Registry::default();
    let requests = Family::<[(&str, &str); 1], Counter>::default();
    requests.get_or_create(&[("ending", "served")]).inc_by(45_000);
    requests.get_or_create(&[("ending", "upstream_failed")]).inc_by(102);
    registry.register("seaworthy_requests", "Requests by how they ended", requests);
    let durations = Histogram::new([0.005, 0.05, 0.5]);
    durations.observe(0.003);
    let help = "Duration of HTTP server requests";
    registry.register_with_unit("http_server_request_duration", help, Unit::Seconds, durations);
    let open = Gauge::<i64>::default();
    open.set(7);
    registry.register("seaworthy_connections_open", "Client connections open", open);
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("seaworthy_build", "What is running", build);
    registry
}

fn ready() -> Readiness {
    let check = |name, detail: &str| ReadyCheck { name, ok: true, detail: detail.to_owned() };
    Readiness {
        checks: vec![
            check("config", "generation 3 is in force"),
            check("upstream", "2 of 2 are healthy"),
            check("store", "takes writes"),
        ],
    }
}

/// Traffic that never was: a swell, a few sloppy clients, a short outage every five minutes.
struct MadeUp {
    window: LiveWindow,
    aggregator: Aggregator,
    routes: [RouteId; 3],
    started_unix_s: i64,
    seed: u64,
    judged: u64,
    limited: u64,
    harmed: u64,
}

impl MadeUp {
    fn new(started_unix_s: i64, names: &Names, aggregator: Aggregator) -> Self {
        Self {
            window: LiveWindow::new(started_unix_s),
            aggregator,
            routes: ROUTES
                .map(|(method, path)| names.intern_route(&format!("{} {path}", method.as_str()))),
            started_unix_s,
            seed: 7,
            judged: 0,
            limited: 0,
            harmed: 0,
        }
    }

    /// 0 to 1, the same in every run.
    fn random(&mut self) -> f64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) as f64 / f64::from(u32::MAX >> 1)
    }

    fn second(&mut self, unix_s: i64) -> Batch {
        let swell = (unix_s as f64 / 45.0).sin() * 30.0 + (unix_s as f64 / 11.0).sin() * 8.0;
        let requests = (140.0 + swell + self.random() * 14.0) as u64;
        let outage = (unix_s - self.started_unix_s) % 300 / 14 == 11;
        for n in 0..requests {
            let slow = self.random().powi(9) * if outage { 360_000.0 } else { 60_000.0 };
            let which = (self.random() * 3.0) as usize % 3;
            let mut record = RequestRecord {
                started_unix_ms: unix_s * 1000 + (n * 1000 / requests) as i64,
                duration_us: (1800.0 + self.random() * 1400.0 + slow) as u32,
                route: self.routes[which],
                method: ROUTES[which].0,
                path: clip(ROUTES[which].1),
                tenant: clip(TENANTS[(self.random() * 5.0) as usize % 5]),
                client: ClientKey::Bearer(0x5eed_0000_0000_0000 + (self.random() * 20.0) as u64),
                ..ordinary()
            };
            self.misfortune(&mut record, outage);
            self.window.observe(&record);
            self.aggregator.observe(&record);
        }
        self.judged += requests;
        self.window.tick(unix_s + 1);
        self.aggregator.flush((unix_s + 1) * 1000, 0)
    }

    fn misfortune(&mut self, record: &mut RequestRecord, outage: bool) {
        let luck = self.random();
        let mut judge = |rule, verdict, code| {
            if let Some(position) = registry::position(rule) {
                record.verdicts.set(position, verdict);
                record.reason = Some(code);
            }
        };
        if outage && luck < 0.06 {
            (record.status, record.ending) = (502, Ending::UpstreamFailed);
            record.reason = Some(Code::UpstreamReset);
        } else if luck < 0.000_4 {
            record.status = 500;
        } else if luck < 0.012 {
            record.status = 422;
        } else if luck < 0.014 {
            judge("body_limit", Verdict::Deny, Code::BodyTooLarge);
            (record.status, record.ending) = (413, Ending::Denied);
            record.upstream = None;
        } else if luck < 0.026 {
            judge("rate_limit", Verdict::WouldDeny, Code::RateLimited);
            record.client = ClientKey::Ip(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)));
            record.tenant = clip("initech");
            // Most of them the service refuses by itself.
            record.status = if self.random() < 0.06 { 200 } else { 429 };
            self.limited += 1;
            self.harmed += u64::from(record.status == 200);
        }
    }

    fn view(&self) -> LiveView {
        let n = self.judged;
        let ten_percent = Mode::Enforce(Share::from_basis_points(1000).expect("at most all"));
        let all = Mode::Enforce(Share::ALL);
        let upstream = |name: &str, requests, failures, ejected| UpstreamView {
            name: name.to_owned(),
            healthy: true,
            ejected,
            requests,
            failures,
            ejections: failures / 40,
        };
        LiveView {
            gateway: GatewayView {
                service: "helpdesk".to_owned(),
                version: "0.1.0".to_owned(),
                listen: "http://127.0.0.1:8080".to_owned(),
                started_unix_s: self.started_unix_s,
                uptime_s: (self.window.view().at_unix_s - self.started_unix_s) as u64,
                config_generation: 3,
                config_fault: None,
                records_dropped: 0,
            },
            traffic: self.window.view(),
            rules: vec![
                rule("host_allowlist", "", Mode::Off, ModeSetting::Auto, [0; 4]),
                rule("ip_filter", "", Mode::Warn, ModeSetting::Auto, [n, 0, 0, 0]),
                rule("header_limit", "", all, ModeSetting::ENFORCE, [n, 0, 3, 0]),
                rule(
                    "rate_limit",
                    "",
                    Mode::Warn,
                    ModeSetting::Auto,
                    [n, self.limited, 0, self.harmed],
                ),
                rule(
                    "rate_limit",
                    "@POST /api/traces",
                    ten_percent,
                    ModeSetting::Auto,
                    [n / 9, n / 700, n / 6000, 0],
                ),
                rule("body_limit", "", all, ModeSetting::ENFORCE, [n / 4, 0, n / 500, 0]),
                rule("csrf", "", Mode::Warn, ModeSetting::Auto, [n / 3, 1, 0, 1]),
            ],
            upstreams: vec![
                upstream("http://127.0.0.1:3000", n / 2 + 40, 12, false),
                upstream("http://127.0.0.1:3001", n / 2 - 40, 90, true),
            ],
        }
    }
}

fn rule(
    protection: &'static str,
    route: &str,
    mode: Mode,
    setting: ModeSetting,
    [evaluated, would_deny, denied, harm]: [u64; 4],
) -> RuleView {
    let rule = format!("{protection}{route}");
    RuleView { protection, rule, mode, setting, evaluated, would_deny, denied, harm }
}

const ROUTES: [(MethodLabel, &str); 3] = [
    (MethodLabel::Get, "/api/complaints"),
    (MethodLabel::Post, "/api/complaints"),
    (MethodLabel::Post, "/api/traces"),
];

const TENANTS: [&str; 5] = ["acme", "globex", "initech", "hooli", ""];

fn ordinary() -> RequestRecord {
    RequestRecord {
        id: clip("made-up"),
        started_unix_ms: 0,
        duration_us: 0,
        upstream_us: 0,
        route: RouteId(0),
        settings: RouteId(0),
        method: MethodLabel::Get,
        status: 200,
        ending: Ending::Served,
        client: ClientKey::Bearer(0),
        kind: ConsumerKind::Unknown,
        agent: clip("curl/8.5.0"),
        tenant: clip(""),
        path: clip("/"),
        request_bytes: 0,
        response_bytes: 900,
        verdicts: Verdicts::default(),
        marks: Marks::default(),
        reason: None,
        upstream: Some(0),
    }
}
