//! What happens right now: the last five minutes second by second, and totals since start.
//!
//! [`LiveWindow`] is fed with every request record by the task that empties the workers' rings,
//! and told when a second is over. It does no I/O and reads no clock. Once a second its
//! [`TrafficView`] goes, with what others count, into a [`LiveView`]: the value that the
//! console's pages, its API and the terminal's summary are drawn from.

use std::collections::VecDeque;

use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_policy::record::{Ending, RequestRecord};
use serde::{Serialize, Serializer};

use self::latency::LatencyCounts;
use crate::figures::count;

mod latency;

/// Seconds that the series reaches back.
pub const WINDOW_S: usize = 300;

/// Seconds over which "now" is measured: long enough to be read, short enough to be news.
pub const NOW_S: usize = 10;

/// Everything the console shows of the running gateway, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LiveView {
    pub gateway: GatewayView,
    pub traffic: TrafficView,
    pub rules: Vec<RuleView>,
    pub upstreams: Vec<UpstreamView>,
}

/// The gateway itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GatewayView {
    /// What the config calls the service.
    pub service: String,
    pub version: String,
    /// Where clients reach the gateway, as a URL.
    pub listen: String,
    pub started_unix_s: i64,
    pub uptime_s: u64,
    /// Counts the configurations that were put in force since start; the first is 1.
    pub config_generation: u64,
    /// Why the newest configuration was not put in force; absent where it was.
    pub config_fault: Option<String>,
    /// Request records that a full ring had no room for, since start. Evidence is incomplete
    /// where this grows.
    pub records_dropped: u64,
}

/// The traffic of the whole service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrafficView {
    /// The end of the newest second of `series`, Unix time.
    pub at_unix_s: i64,
    /// The last [`NOW_S`] seconds taken together.
    pub now: NowView,
    pub totals: TotalsView,
    /// At most [`WINDOW_S`] whole seconds, oldest first, without gaps. Shorter in the first
    /// minutes after the start.
    pub series: Vec<SecondView>,
}

/// The figures of the last few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct NowView {
    pub requests_per_s: f64,
    /// The part of the requests answered with 4xx, 0 to 1; 0 where there were none.
    pub client_error_share: f64,
    /// The part of the requests answered with 5xx, 0 to 1; 0 where there were none.
    pub server_error_share: f64,
    /// Median of the whole duration in the gateway, in microseconds; absent without requests.
    pub p50_us: Option<u32>,
    /// 99th percentile of the whole duration in the gateway, in microseconds.
    pub p99_us: Option<u32>,
}

/// Everything since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TotalsView {
    pub requests: u64,
    pub by_status: StatusClasses,
    pub by_ending: Endings,
    /// Median of the whole duration in the gateway since start, in microseconds.
    pub p50_us: Option<u32>,
    /// 99th percentile of the whole duration in the gateway since start, in microseconds.
    pub p99_us: Option<u32>,
}

/// Requests by the first digit of the status that the client was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatusClasses {
    #[serde(rename = "1xx")]
    pub informational: u64,
    #[serde(rename = "2xx")]
    pub successful: u64,
    #[serde(rename = "3xx")]
    pub redirected: u64,
    #[serde(rename = "4xx")]
    pub client_errors: u64,
    #[serde(rename = "5xx")]
    pub server_errors: u64,
}

/// Requests by how they ended: see [`Ending`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Endings {
    pub served: u64,
    pub answered: u64,
    pub denied: u64,
    pub refused: u64,
    pub upstream_failed: u64,
    pub client_gone: u64,
}

/// One second of traffic. A request counts in the second in which its record arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SecondView {
    pub requests: u32,
    /// Answered with 4xx.
    pub client_errors: u32,
    /// Answered with 5xx.
    pub server_errors: u32,
    /// Microseconds; absent in a second without requests.
    pub p50_us: Option<u32>,
    pub p99_us: Option<u32>,
}

/// What one rule has said since start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleView {
    /// The protection's name in the registry.
    pub protection: &'static str,
    /// `rate_limit`, or `rate_limit@POST /api/traces`.
    pub rule: String,
    /// The mode in force, as text: `off`, `warn`, `enforce`, `enforce 10%`.
    #[serde(serialize_with = "as_text")]
    pub mode: Mode,
    /// What the config says, as text: a mode, or `auto`.
    pub setting: ModeSetting,
    /// Requests that the rule judged.
    pub evaluated: u64,
    /// Requests that it would have denied, had its mode been `enforce` for their clients.
    pub would_deny: u64,
    pub denied: u64,
    /// The would-denied requests that the service answered with 2xx or 3xx.
    pub harm: u64,
}

fn as_text<S: Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mode)
}

impl RuleView {
    /// The numbers as a sentence for a reader in a hurry.
    pub fn sentence(&self) -> String {
        if self.evaluated == 0 {
            return match self.mode {
                Mode::Off => "Off: it judges nothing.".to_owned(),
                _ => "No request has met it yet.".to_owned(),
            };
        }
        let of = match self.evaluated {
            1 => "the one request".to_owned(),
            evaluated => format!("{} requests", count(evaluated)),
        };
        let mut sentence = match (self.denied, self.would_deny) {
            (0, 0) if matches!(self.mode, Mode::Enforce(_)) => {
                return format!("Denied none of {of}.");
            }
            (0, 0) => return format!("Would have denied none of {of}."),
            (denied, 0) => return format!("Denied {} of {of}.", count(denied)),
            (0, would_deny) => format!("Would have denied {} of {of}", count(would_deny)),
            (denied, would_deny) => format!(
                "Denied {} of {of}, and would have denied {} more",
                count(denied),
                count(would_deny)
            ),
        };
        sentence.push_str(match self.harm {
            0 if self.would_deny == 1 => "; the service did not serve it either.",
            0 => "; the service served none of them either.",
            1 if self.would_deny == 1 => "; it was served: a real client would have been broken.",
            1 => "; 1 of them was served: a real client would have been broken.",
            harm => {
                let harm = count(harm);
                return format!(
                    "{sentence}; {harm} of them were served: real clients would have been broken."
                );
            }
        });
        sentence
    }
}

/// One address of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UpstreamView {
    pub name: String,
    /// By the active checks.
    pub healthy: bool,
    /// Left out for a while, because requests failed there.
    pub ejected: bool,
    pub requests: u64,
    /// Requests that failed below HTTP.
    pub failures: u64,
    pub ejections: u64,
}

impl UpstreamView {
    /// Whether requests are sent there.
    pub const fn is_up(&self) -> bool {
        self.healthy && !self.ejected
    }
}

/// Counts requests. One per process, owned by the task that feeds it.
#[derive(Debug)]
pub struct LiveWindow {
    /// The second that is being counted, Unix time.
    open_unix_s: i64,
    open: OpenSecond,
    /// Closed seconds, oldest first, at most [`WINDOW_S`].
    closed: VecDeque<SecondView>,
    /// The latencies of the newest closed seconds, oldest first, at most [`NOW_S`].
    recent: VecDeque<LatencyCounts>,
    totals: TotalsView,
    latencies: LatencyCounts,
}

#[derive(Debug, Default)]
struct OpenSecond {
    requests: u32,
    client_errors: u32,
    server_errors: u32,
    latencies: LatencyCounts,
}

impl LiveWindow {
    /// Begins to count in the second `unix_s`.
    pub fn new(unix_s: i64) -> Self {
        Self {
            open_unix_s: unix_s,
            open: OpenSecond::default(),
            closed: VecDeque::with_capacity(WINDOW_S),
            recent: VecDeque::with_capacity(NOW_S),
            totals: TotalsView::default(),
            latencies: LatencyCounts::default(),
        }
    }

    /// Counts one request. Allocates nothing.
    pub fn observe(&mut self, record: &RequestRecord) {
        let classes = &mut self.totals.by_status;
        match record.status {
            ..200 => classes.informational += 1,
            200..300 => classes.successful += 1,
            300..400 => classes.redirected += 1,
            400..500 => {
                classes.client_errors += 1;
                self.open.client_errors += 1;
            }
            500.. => {
                classes.server_errors += 1;
                self.open.server_errors += 1;
            }
        }
        let endings = &mut self.totals.by_ending;
        *match record.ending {
            Ending::Served => &mut endings.served,
            Ending::Answered => &mut endings.answered,
            Ending::Denied => &mut endings.denied,
            Ending::Refused => &mut endings.refused,
            Ending::UpstreamFailed => &mut endings.upstream_failed,
            Ending::ClientGone => &mut endings.client_gone,
        } += 1;
        self.totals.requests += 1;
        self.open.requests += 1;
        self.open.latencies.count(record.duration_us);
    }

    /// Says that the time is now in the second `unix_s`: all before it are over.
    ///
    /// A clock that was set back moves the labels of the series back and loses nothing; one
    /// that was set ahead leaves empty seconds.
    pub fn tick(&mut self, unix_s: i64) {
        let passed = unix_s.saturating_sub(self.open_unix_s);
        self.open_unix_s = unix_s;
        if passed <= 0 {
            return;
        }
        self.close();
        // More empty seconds than the window holds would push each other out.
        for _ in 1..passed.min(WINDOW_S as i64 + 1) {
            self.close();
        }
    }

    fn close(&mut self) {
        let open = &mut self.open;
        if self.closed.len() == WINDOW_S {
            self.closed.pop_front();
        }
        self.closed.push_back(SecondView {
            requests: open.requests,
            client_errors: open.client_errors,
            server_errors: open.server_errors,
            p50_us: open.latencies.quantile_us(0.50),
            p99_us: open.latencies.quantile_us(0.99),
        });
        self.latencies.add(&open.latencies);
        // The oldest of the recent seconds is emptied and becomes the open one.
        let mut next = if self.recent.len() == NOW_S {
            self.recent.pop_front().unwrap_or_default()
        } else {
            LatencyCounts::default()
        };
        next.clear();
        self.recent.push_back(std::mem::replace(&mut open.latencies, next));
        (open.requests, open.client_errors, open.server_errors) = (0, 0, 0);
    }

    /// The figures of the closed seconds. The totals also count the open one.
    pub fn view(&self) -> TrafficView {
        let mut totals = self.totals;
        let mut latencies = self.latencies.clone();
        latencies.add(&self.open.latencies);
        totals.p50_us = latencies.quantile_us(0.50);
        totals.p99_us = latencies.quantile_us(0.99);
        TrafficView {
            at_unix_s: self.open_unix_s,
            now: self.now(),
            totals,
            series: self.closed.iter().copied().collect(),
        }
    }

    fn now(&self) -> NowView {
        let (mut seconds, mut requests, mut client_errors, mut server_errors) = (0, 0, 0, 0);
        for second in self.closed.iter().rev().take(NOW_S) {
            seconds += 1;
            requests += u64::from(second.requests);
            client_errors += u64::from(second.client_errors);
            server_errors += u64::from(second.server_errors);
        }
        let mut latencies = LatencyCounts::default();
        for second in &self.recent {
            latencies.add(second);
        }
        NowView {
            requests_per_s: share(requests, seconds),
            client_error_share: share(client_errors, requests),
            server_error_share: share(server_errors, requests),
            p50_us: latencies.quantile_us(0.50),
            p99_us: latencies.quantile_us(0.99),
        }
    }
}

/// `part / whole`, and 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use seaworthy_policy::client::ClientKey;
    use seaworthy_policy::consumer::ConsumerKind;
    use seaworthy_policy::mode::Share;
    use seaworthy_policy::record::{
        Marks, MethodLabel, RequestId, RouteId, Tenant, Verdicts, clip,
    };

    use super::*;

    fn record(status: u16, ending: Ending, duration_us: u32) -> RequestRecord {
        RequestRecord {
            id: RequestId::new(),
            started_unix_ms: 0,
            duration_us,
            upstream_us: 0,
            route: RouteId(0),
            settings: RouteId(0),
            method: MethodLabel::Get,
            status,
            ending,
            client: ClientKey::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            kind: ConsumerKind::Unknown,
            agent: clip("curl/8.5.0"),
            tenant: Tenant::new(),
            path: clip("/"),
            request_bytes: 0,
            response_bytes: 0,
            verdicts: Verdicts::default(),
            marks: Marks::default(),
            reason: None,
            upstream: None,
        }
    }

    #[test]
    fn a_second_is_shown_once_it_is_over() {
        let mut window = LiveWindow::new(1000);
        for (status, ending) in [
            (200, Ending::Served),
            (304, Ending::Served),
            (429, Ending::Denied),
            (499, Ending::ClientGone),
            (502, Ending::UpstreamFailed),
            (101, Ending::Served),
        ] {
            window.observe(&record(status, ending, 2000));
        }
        assert_eq!(window.view().series, []);
        assert_eq!(window.view().totals.requests, 6);
        window.tick(1000);
        assert_eq!(window.view().series, [], "the second goes on");
        window.tick(1001);
        let view = window.view();
        assert_eq!(view.at_unix_s, 1001);
        let [second] = view.series[..] else { panic!("{:?}", view.series) };
        assert_eq!((second.requests, second.client_errors, second.server_errors), (6, 2, 1));
        assert_eq!(
            view.totals.by_status,
            StatusClasses {
                informational: 1,
                successful: 1,
                redirected: 1,
                client_errors: 2,
                server_errors: 1
            }
        );
        assert_eq!(
            view.totals.by_ending,
            Endings {
                served: 3,
                answered: 0,
                denied: 1,
                refused: 0,
                upstream_failed: 1,
                client_gone: 1
            }
        );
        let expected_us = 1900..2100;
        for quantile in [second.p50_us, second.p99_us, view.now.p50_us, view.totals.p99_us] {
            assert!(expected_us.contains(&quantile.unwrap()), "{quantile:?}");
        }
    }

    #[test]
    fn the_window_is_bounded_and_has_no_gaps() {
        let mut window = LiveWindow::new(0);
        for second in 1..=2 * WINDOW_S as i64 {
            for _ in 0..second {
                window.observe(&record(200, Ending::Served, 10));
            }
            window.tick(second);
        }
        let series = window.view().series;
        assert_eq!(series.len(), WINDOW_S);
        assert_eq!(series[0].requests, WINDOW_S as u32 + 1, "the oldest second left");
        assert_eq!(series[WINDOW_S - 1].requests, 2 * WINDOW_S as u32);
    }

    #[test]
    fn now_is_the_last_ten_seconds() {
        let mut window = LiveWindow::new(0);
        for _ in 0..1000 {
            window.observe(&record(500, Ending::Served, 1_000_000));
        }
        window.tick(1);
        for second in 2..=11 {
            for _ in 0..30 {
                window.observe(&record(200, Ending::Served, 1000));
            }
            window.tick(second);
        }
        let view = window.view();
        assert_eq!(view.now.requests_per_s, 30.0);
        assert_eq!(view.now.server_error_share, 0.0);
        assert!(view.now.p99_us.unwrap() < 1100, "{:?}", view.now);
        assert!(view.totals.p99_us.unwrap() > 900_000, "{:?}", view.totals);
    }

    #[test]
    fn a_clock_that_is_set_loses_nothing() {
        let cases: [(&str, i64, usize, i64); 4] = [
            ("back by an hour", 1001 - 3600, 1, 1001 - 3600),
            ("ahead by three seconds", 1004, 4, 1004),
            ("ahead by a year", 1001 + 31_536_000, WINDOW_S, 1001 + 31_536_000),
            ("to the end of time", i64::MAX, WINDOW_S, i64::MAX),
        ];
        for (name, to, seconds, at) in cases {
            let mut window = LiveWindow::new(1000);
            window.observe(&record(200, Ending::Served, 10));
            window.tick(1001);
            window.tick(to);
            let view = window.view();
            assert_eq!((view.series.len(), view.at_unix_s), (seconds, at), "{name}");
            assert_eq!(view.totals.requests, 1, "{name}");
        }
    }

    #[test]
    fn a_rules_numbers_are_a_sentence() {
        let share = Share::from_basis_points(1000).unwrap();
        let cases = [
            (Mode::Off, [0, 0, 0, 0], "Off: it judges nothing."),
            (Mode::Warn, [0, 0, 0, 0], "No request has met it yet."),
            (Mode::Warn, [1, 0, 0, 0], "Would have denied none of the one request."),
            (Mode::Warn, [3400, 0, 0, 0], "Would have denied none of 3,400 requests."),
            (
                Mode::Warn,
                [3400, 12, 0, 0],
                "Would have denied 12 of 3,400 requests; the service served none of them either.",
            ),
            (
                Mode::Warn,
                [3400, 1, 0, 1],
                "Would have denied 1 of 3,400 requests; it was served: a real client would have \
                 been broken.",
            ),
            (
                Mode::Warn,
                [3400, 12, 0, 3],
                "Would have denied 12 of 3,400 requests; 3 of them were served: real clients \
                 would have been broken.",
            ),
            (Mode::Enforce(Share::ALL), [3400, 0, 0, 0], "Denied none of 3,400 requests."),
            (Mode::Enforce(Share::ALL), [3400, 0, 1200, 0], "Denied 1,200 of 3,400 requests."),
            (
                Mode::Enforce(share),
                [3400, 12, 2, 1],
                "Denied 2 of 3,400 requests, and would have denied 12 more; 1 of them was \
                 served: a real client would have been broken.",
            ),
        ];
        for (mode, [evaluated, would_deny, denied, harm], want) in cases {
            let rule = RuleView {
                protection: "rate_limit",
                rule: "rate_limit".to_owned(),
                mode,
                setting: ModeSetting::Auto,
                evaluated,
                would_deny,
                denied,
                harm,
            };
            assert_eq!(rule.sentence(), want);
        }
    }

    #[test]
    fn without_requests_there_is_no_latency() {
        let mut window = LiveWindow::new(0);
        window.tick(2);
        let view = window.view();
        assert_eq!(view.series, [SecondView::default(); 2]);
        assert_eq!(view.now, NowView::default());
    }
}
