//! The three charts: how much, how much of it failed, how long it took.

use maud::{Markup, html};

use super::chart::{Chart, Line, Scale, Stroke};
use crate::figures::{count, latency, latency_or_dash, percent, rate};
use crate::live::{SecondView, TrafficView};

/// The lowest latency that the chart shows, in microseconds.
const LATENCY_FLOOR_US: f64 = 100.0;

pub(super) fn render(traffic: &TrafficView) -> Markup {
    html! {
        (requests(traffic).render(tick_rate))
        (errors(traffic).render(tick_rate))
        (durations(traffic).render(|us| tick_latency(us as u64)))
    }
}

fn requests(traffic: &TrafficView) -> Chart {
    let values = column(traffic, |second| Some(f64::from(second.requests)));
    let now = rate(traffic.now.requests_per_s);
    let range = range(&values, |n| count(n as u64));
    Chart {
        title: "Requests",
        unit: "per second",
        scale: Scale::linear(values.iter()),
        description: format!("Requests per second over the last 5 minutes: {now} now{range}"),
        lines: vec![Line { name: "all", class: "all", stroke: Stroke::Filled, values, now }],
    }
}

fn errors(traffic: &TrafficView) -> Chart {
    let client = column(traffic, |second| Some(f64::from(second.client_errors)));
    let server = column(traffic, |second| Some(f64::from(second.server_errors)));
    let client_now = percent(traffic.now.client_error_share);
    let server_now = percent(traffic.now.server_error_share);
    Chart {
        title: "Errors",
        unit: "per second",
        scale: Scale::linear(client.iter().chain(&server)),
        description: format!(
            "Errors per second over the last 5 minutes. 4xx: {client_now} of requests now{}. \
             5xx: {server_now} of requests now{}",
            range(&client, |n| count(n as u64)),
            range(&server, |n| count(n as u64)),
        ),
        lines: vec![
            Line {
                name: "4xx",
                class: "client-error",
                stroke: Stroke::Dashed,
                values: client,
                now: client_now,
            },
            Line {
                name: "5xx",
                class: "server-error",
                stroke: Stroke::Solid,
                values: server,
                now: server_now,
            },
        ],
    }
}

fn durations(traffic: &TrafficView) -> Chart {
    let p50 = column(traffic, |second| second.p50_us.map(f64::from));
    let p99 = column(traffic, |second| second.p99_us.map(f64::from));
    let (p50_now, p99_now) =
        (latency_or_dash(traffic.now.p50_us), latency_or_dash(traffic.now.p99_us));
    Chart {
        title: "Latency",
        unit: "log scale",
        scale: Scale::log(p50.iter().chain(&p99), LATENCY_FLOOR_US),
        description: format!(
            "Latency over the last 5 minutes. Median: {p50_now} now{}. \
             99th percentile: {p99_now} now{}",
            range(&p50, |us| latency(us as u32)),
            range(&p99, |us| latency(us as u32)),
        ),
        lines: vec![
            Line {
                name: "p50",
                class: "typical",
                stroke: Stroke::Solid,
                values: p50,
                now: p50_now,
            },
            Line { name: "p99", class: "slow", stroke: Stroke::Dashed, values: p99, now: p99_now },
        ],
    }
}

fn column(traffic: &TrafficView, value: impl Fn(&SecondView) -> Option<f64>) -> Vec<Option<f64>> {
    traffic.series.iter().map(value).collect()
}

/// `, between 97 and 180`, where there is something to say.
fn range(values: &[Option<f64>], word: impl Fn(f64) -> String) -> String {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.iter().flatten() {
        least = least.min(*value);
        most = most.max(*value);
    }
    if least > most {
        return String::new();
    }
    format!(", between {} and {}", word(least), word(most))
}

/// A round number, or half of one.
fn tick_rate(per_s: f64) -> String {
    if per_s.fract() == 0.0 { count(per_s as u64) } else { per_s.to_string() }
}

/// A whole decade: `100 µs`, `1 ms`, `10 s`.
fn tick_latency(us: u64) -> String {
    match us {
        ..1000 => format!("{us} µs"),
        1000..1_000_000 => format!("{} ms", us / 1000),
        _ => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::NowView;

    #[test]
    fn charts_describe_themselves() {
        let second = SecondView {
            requests: 97,
            client_errors: 2,
            server_errors: 0,
            p50_us: Some(3100),
            p99_us: Some(24_000),
        };
        let traffic = TrafficView {
            now: NowView {
                requests_per_s: 142.0,
                client_error_share: 0.012,
                server_error_share: 0.0,
                p50_us: Some(3100),
                p99_us: Some(24_000),
            },
            series: vec![second, SecondView { requests: 180, ..second }, SecondView::default()],
            ..TrafficView::default()
        };
        assert_eq!(
            requests(&traffic).description,
            "Requests per second over the last 5 minutes: 142 now, between 0 and 180"
        );
        assert_eq!(
            errors(&traffic).description,
            "Errors per second over the last 5 minutes. 4xx: 1.20% of requests now, between 0 \
             and 2. 5xx: 0% of requests now, between 0 and 0"
        );
        assert_eq!(
            durations(&traffic).description,
            "Latency over the last 5 minutes. Median: 3.10 ms now, between 3.10 ms and 3.10 ms. \
             99th percentile: 24.0 ms now, between 24.0 ms and 24.0 ms"
        );
        assert_eq!(
            durations(&TrafficView::default()).description,
            "Latency over the last 5 minutes. Median: – now. 99th percentile: – now"
        );
    }
}
