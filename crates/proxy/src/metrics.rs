//! The data plane's metrics: the workers' counters, summed up when somebody asks.
//!
//! The families follow the semantic conventions for HTTP servers where there is one, and start
//! with `seaworthy_` where there is none. Every family has a bound on its series.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use seaworthy_policy::names::Names;
use seaworthy_policy::problem::Code;
use seaworthy_policy::record::{Ending, RuleId};
use seaworthy_policy::registry::REGISTRY;

use crate::clock::Clock;
use crate::gateway::{Gateway, Publisher};
use crate::stats::{
    Counter, DURATION_BOUNDS_S, HistogramSum, MODES, OUTCOMES, OVERHEAD_BOUNDS_S, Shard,
};

/// Series of the request duration over all workers; the others are summed up as `~overflow`.
pub const DURATION_SERIES_MAX: usize = 512;

/// The label value of what did not fit under a family's bound.
pub const OVERFLOW: &str = "~overflow";

/// Collects from a running gateway. Register it once.
pub struct GatewayMetrics {
    shards: Vec<Arc<Shard>>,
    publisher: Publisher,
    names: Arc<Names>,
    clock: Clock,
}

/// The decisions of one rule since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTotals {
    pub evaluated: u64,
    pub would_deny: u64,
    pub denied: u64,
    /// Would-denials that the service answered with 2xx or 3xx.
    pub harm: u64,
}

impl fmt::Debug for GatewayMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayMetrics")
    }
}

impl GatewayMetrics {
    pub fn new(gateway: &Gateway, names: Arc<Names>, clock: Clock) -> Self {
        Self { shards: gateway.shards().to_vec(), publisher: gateway.publisher(), names, clock }
    }

    /// What the workers' rings had no room for, since start.
    pub fn records_dropped(&self) -> u64 {
        self.sum(|shard| &shard.records_dropped)
    }

    /// What a rule has said since start, in all modes.
    pub fn rule(&self, rule: RuleId) -> RuleTotals {
        let mut totals = RuleTotals::default();
        for shard in &self.shards {
            let counters = shard.rule(usize::from(rule.0));
            for mode in 0..MODES.len() {
                let [allowed, would_deny, denied] =
                    std::array::from_fn(|outcome| counters.get(mode, outcome));
                totals.evaluated += allowed + would_deny + denied;
                totals.would_deny += would_deny;
                totals.denied += denied;
            }
            totals.harm += counters.harm.get();
        }
        totals
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| counter(shard).get()).sum()
    }

    fn durations(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (mut sums, mut overflow) = (BTreeMap::new(), HistogramSum::default());
        for shard in &self.shards {
            shard.add_durations(&mut sums, &mut overflow);
        }
        let mut family = out.encode_descriptor(
            "http_server_request_duration",
            "Duration of HTTP server requests, from the whole head to the last byte of the answer",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        let over = sums.len().saturating_sub(DURATION_SERIES_MAX);
        // The busiest series keep their names.
        let mut ranked: Vec<_> =
            sums.into_iter().map(|(key, sum)| (count(&sum), key, sum)).collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, _, sum) in ranked.split_off(ranked.len() - over) {
            merge(&mut overflow, &sum);
        }
        for (_, series, sum) in ranked {
            let route = self.names.route(series.route);
            let status = series.status.to_string();
            let labels = [
                ("http_request_method", series.method.as_str()),
                ("http_response_status_code", &status),
                ("http_route", &route),
                ("network_protocol_version", series.version.as_str()),
                ("url_scheme", if series.https { "https" } else { "http" }),
            ];
            histogram(&mut family.encode_family(&labels)?, &DURATION_BOUNDS_S, &sum)?;
        }
        if count(&overflow) > 0 {
            let labels = [
                ("http_request_method", OVERFLOW),
                ("http_response_status_code", OVERFLOW),
                ("http_route", OVERFLOW),
                ("network_protocol_version", OVERFLOW),
                ("url_scheme", OVERFLOW),
            ];
            histogram(&mut family.encode_family(&labels)?, &DURATION_BOUNDS_S, &overflow)?;
        }
        counter(
            out,
            "seaworthy_metrics_overflowed",
            "Requests whose duration series did not fit under the bound",
            count(&overflow),
        )
    }

    fn overhead(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut sum = HistogramSum::default();
        for shard in &self.shards {
            shard.overhead.add_to(&mut sum);
        }
        let mut family = out.encode_descriptor(
            "seaworthy_gateway_overhead",
            "The gateway's own share of a request: its duration without the wait for the service",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        histogram(&mut family, &OVERHEAD_BOUNDS_S, &sum)
    }

    fn decisions(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let rules = self.names.rules();
        let mut family = out.encode_descriptor(
            "seaworthy_decisions",
            "What each rule said of requests, by the mode it was in",
            None,
            MetricType::Counter,
        )?;
        for (index, rule) in rules.iter().enumerate() {
            let name = rule.to_string();
            for (mode, mode_name) in MODES.iter().enumerate() {
                for (outcome, outcome_name) in OUTCOMES.iter().enumerate() {
                    let total: u64 =
                        self.shards.iter().map(|shard| shard.rule(index).get(mode, outcome)).sum();
                    if total > 0 {
                        let labels = [
                            ("protection", REGISTRY[rule.protection].name),
                            ("rule", &name),
                            ("mode", mode_name),
                            ("outcome", outcome_name),
                        ];
                        count_labelled(&mut family, &labels, total)?;
                    }
                }
            }
        }
        let mut family = out.encode_descriptor(
            "seaworthy_harm",
            "Requests that a rule would have denied and the service answered with 2xx or 3xx",
            None,
            MetricType::Counter,
        )?;
        for (index, rule) in rules.iter().enumerate() {
            let total: u64 = self.shards.iter().map(|shard| shard.rule(index).harm.get()).sum();
            if total > 0 {
                let name = rule.to_string();
                let labels = [("protection", REGISTRY[rule.protection].name), ("rule", &name)];
                count_labelled(&mut family, &labels, total)?;
            }
        }
        Ok(())
    }

    /// What parts of protections have found; each has a bound on its parts.
    fn findings(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.publisher.snapshot();
        let mut family = out.encode_descriptor(
            "seaworthy_findings",
            "What each part of a rule found, in any mode, since its settings were last changed",
            None,
            MetricType::Counter,
        )?;
        let mut known = BTreeSet::new();
        for link in snapshot.links().filter(|link| known.insert(link.rule)) {
            for (finding, total) in link.current.protection.counts() {
                let labels = [
                    ("protection", REGISTRY[link.position].name),
                    ("rule", &*link.rule_name),
                    ("finding", &finding),
                ];
                count_labelled(&mut family, &labels, total)?;
            }
        }
        Ok(())
    }

    fn modes(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.publisher.snapshot();
        let mut family = out.encode_descriptor(
            "seaworthy_rule_mode",
            "The mode in force of each rule; the value is the enforced share of clients, 0 to 1",
            None,
            MetricType::Gauge,
        )?;
        for (index, rule) in self.names.rules().iter().enumerate() {
            let mode = snapshot.modes.get(RuleId(index as u16));
            let share = match mode {
                seaworthy_policy::mode::Mode::Enforce(share) => {
                    f64::from(share.basis_points()) / 10_000.0
                }
                _ => 0.0,
            };
            let name = rule.to_string();
            let labels = [
                ("protection", REGISTRY[rule.protection].name),
                ("rule", &name),
                ("mode", mode.word()),
            ];
            family.encode_family(&labels)?.encode_gauge(&share)?;
        }
        Ok(())
    }

    fn endings(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = out.encode_descriptor(
            "seaworthy_requests",
            "Requests by how they ended",
            None,
            MetricType::Counter,
        )?;
        for ending in Ending::ALL {
            let total: u64 = self.shards.iter().map(|shard| shard.ending_count(ending)).sum();
            count_labelled(&mut family, &[("ending", ending.as_str())], total)?;
        }
        let mut family = out.encode_descriptor(
            "seaworthy_problems",
            "Problem responses of the gateway's own, by code",
            None,
            MetricType::Counter,
        )?;
        for entry in Code::all() {
            let total: u64 = self.shards.iter().map(|shard| shard.code_count(entry.code)).sum();
            if total > 0 {
                count_labelled(&mut family, &[("code", entry.name)], total)?;
            }
        }
        Ok(())
    }

    fn upstreams(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.publisher.snapshot();
        let now = self.clock.now();
        let list = &snapshot.upstreams.list;
        let mut family = out.encode_descriptor(
            "seaworthy_upstream_up",
            "Whether an upstream is asked: healthy by the active checks and not ejected",
            None,
            MetricType::Gauge,
        )?;
        for upstream in list {
            let up = upstream.is_healthy() && !upstream.is_ejected(now);
            family.encode_family(&[("upstream", &*upstream.name)])?.encode_gauge(&i64::from(up))?;
        }
        for (name, help, value) in [
            ("seaworthy_upstream_requests", "Requests sent to an upstream", 0),
            ("seaworthy_upstream_failures", "Requests that failed below HTTP at an upstream", 1),
            ("seaworthy_upstream_ejections", "Times that an upstream was ejected", 2),
        ] {
            let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
            for upstream in list {
                let (requests, failures) = upstream.counts();
                let total = [requests, failures, upstream.ejections()][value];
                count_labelled(&mut family, &[("upstream", &*upstream.name)], total)?;
            }
        }
        Ok(())
    }

    fn totals(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&Shard) -> &Counter;
        let counters: [(&str, &str, Read); 12] = [
            ("seaworthy_connections_accepted", "Client connections accepted", |s| {
                &s.connections_accepted
            }),
            ("seaworthy_connections_refused", "Client connections over the bound", |s| {
                &s.connections_refused
            }),
            ("seaworthy_request_body_bytes", "Body bytes from clients", |s| &s.request_bytes),
            ("seaworthy_response_body_bytes", "Body bytes to clients", |s| &s.response_bytes),
            (
                "seaworthy_records_dropped",
                "Request records that a full ring had no room for",
                |s| &s.records_dropped,
            ),
            ("seaworthy_notes_dropped", "Log notes that a full ring had no room for", |s| {
                &s.notes_dropped
            }),
            (
                "seaworthy_shapes_dropped",
                "Shapes to learn from that a full ring had no room for",
                |s| &s.shapes_dropped,
            ),
            ("seaworthy_samples_judged", "Requests judged after their answer", |s| {
                &s.samples_judged
            }),
            (
                "seaworthy_samples_dropped",
                "Requests drawn to be judged after their answer that there was no room for",
                |s| &s.samples_dropped,
            ),
            ("seaworthy_upstream_connects", "Connections opened to upstreams", |s| {
                &s.upstream_connects
            }),
            ("seaworthy_upstream_retries", "Requests sent to upstreams a second time", |s| {
                &s.upstream_retries
            }),
            ("seaworthy_tls_handshake_failures", "TLS handshakes that did not succeed", |s| {
                &s.tls_failures
            }),
        ];
        for (name, help, read) in counters {
            counter(out, name, help, self.sum(read))?;
        }
        let gauges: [(&str, &str, Read); 3] = [
            ("seaworthy_connections_open", "Client connections open", |s| &s.connections_open),
            ("http_server_active_requests", "Requests in flight", |s| &s.requests_in_flight),
            ("seaworthy_tunnels_open", "Upgraded connections open", |s| &s.tunnels_open),
        ];
        for (name, help, read) in gauges {
            let value = i64::try_from(self.sum(read)).unwrap_or(i64::MAX);
            out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

impl Collector for GatewayMetrics {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        self.durations(&mut out)?;
        self.overhead(&mut out)?;
        self.decisions(&mut out)?;
        self.findings(&mut out)?;
        self.modes(&mut out)?;
        self.endings(&mut out)?;
        self.upstreams(&mut out)?;
        self.totals(&mut out)
    }
}

fn count<const N: usize>(sum: &HistogramSum<N>) -> u64 {
    sum.buckets.iter().sum::<u64>() + sum.rest
}

fn merge<const N: usize>(into: &mut HistogramSum<N>, from: &HistogramSum<N>) {
    for (total, bucket) in into.buckets.iter_mut().zip(from.buckets) {
        *total += bucket;
    }
    into.rest += from.rest;
    into.sum_s += from.sum_s;
}

fn histogram<const N: usize>(
    encoder: &mut MetricEncoder<'_>,
    bounds_s: &[f64; N],
    sum: &HistogramSum<N>,
) -> fmt::Result {
    let mut buckets: Vec<_> = bounds_s.iter().copied().zip(sum.buckets).collect();
    buckets.push((f64::INFINITY, sum.rest));
    encoder.encode_histogram::<NoLabelSet>(sum.sum_s, count(sum), &buckets, None)
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, total: u64) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, u64, u64>(&total, None)
}

fn count_labelled(
    family: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    total: u64,
) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&total, None)
}
