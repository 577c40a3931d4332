//! What a worker counts: plain atomics that it alone writes and a scrape sums up.
//!
//! One [`Shard`] a worker, so no counter is ever contended; an increment is a load and a store.
//! Everything is allocated at start and bounded.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use seaworthy_policy::mode::Mode;
use seaworthy_policy::names::RULE_NAMES_MAX;
use seaworthy_policy::problem::Code;
use seaworthy_policy::record::{Ending, MethodLabel, RouteId, RuleId, Verdict};

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(by), Relaxed);
    }

    pub(crate) fn sub(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(by), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds in seconds of `http.server.request.duration`, as the semantic conventions
/// advise.
pub(crate) const DURATION_BOUNDS_S: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Upper bounds in seconds of the gateway's own share of a request, from 50 µs.
pub(crate) const OVERHEAD_BOUNDS_S: [f64; 10] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25];

/// A histogram with one writer. `N` finite buckets and one for the rest.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    buckets: [Counter; N],
    rest: Counter,
    sum_ns: Counter,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Counter::default()),
            rest: Counter::default(),
            sum_ns: Counter::default(),
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&self, bounds_s: &[f64; N], value: Duration) {
        let seconds = value.as_secs_f64();
        let bucket = bounds_s.iter().position(|bound| seconds <= *bound);
        bucket.map_or(&self.rest, |bucket| &self.buckets[bucket]).add(1);
        self.sum_ns.add(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn add_to(&self, sum: &mut HistogramSum<N>) {
        for (total, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.get();
        }
        sum.rest += self.rest.get();
        sum.sum_s += self.sum_ns.get() as f64 / 1e9;
    }
}

/// Several workers' histograms added up.
#[derive(Clone, Debug)]
pub(crate) struct HistogramSum<const N: usize> {
    pub(crate) buckets: [u64; N],
    pub(crate) rest: u64,
    pub(crate) sum_s: f64,
}

impl<const N: usize> Default for HistogramSum<N> {
    fn default() -> Self {
        Self { buckets: [0; N], rest: 0, sum_s: 0.0 }
    }
}

/// Series that a worker keeps of the request duration; the last one takes the overflow.
pub(crate) const SERIES_MAX: usize = 512;

/// What tells one request-duration series from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Series {
    pub(crate) route: RouteId,
    pub(crate) method: MethodLabel,
    pub(crate) status: u16,
    /// HTTP/1.0, 1.1 or 2.
    pub(crate) version: WireVersion,
    pub(crate) https: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum WireVersion {
    Http10,
    Http11,
    Http2,
}

impl WireVersion {
    pub(crate) fn of(version: http::Version) -> Self {
        match version {
            http::Version::HTTP_2 => Self::Http2,
            http::Version::HTTP_10 => Self::Http10,
            _ => Self::Http11,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

impl Series {
    /// A key that is never 0.
    fn pack(self) -> u64 {
        1 | u64::from(self.https) << 1
            | (self.version as u64) << 2
            | (self.method as u64) << 8
            | u64::from(self.status) << 16
            | u64::from(self.route.0) << 32
    }

    fn unpack(key: u64) -> Self {
        let method = (key >> 8 & 0xff) as usize;
        Self {
            route: RouteId((key >> 32) as u16),
            method: *MethodLabel::ALL.get(method).unwrap_or(&MethodLabel::Other),
            status: (key >> 16) as u16,
            version: match key >> 2 & 0b11 {
                0 => WireVersion::Http10,
                2 => WireVersion::Http2,
                _ => WireVersion::Http11,
            },
            https: key & 2 != 0,
        }
    }
}

/// An open-addressed table that is only added to, so that a reader needs no lock.
#[derive(Debug)]
struct SeriesTable {
    keys: Box<[AtomicU64]>,
    histograms: Box<[Histogram<14>]>,
    overflow: Histogram<14>,
}

impl SeriesTable {
    fn new() -> Self {
        Self {
            keys: (0..SERIES_MAX).map(|_| AtomicU64::new(0)).collect(),
            histograms: (0..SERIES_MAX).map(|_| Histogram::default()).collect(),
            overflow: Histogram::default(),
        }
    }

    fn observe(&self, series: Series, value: Duration) {
        let key = series.pack();
        // Fibonacci hashing: the high bits of the product depend on all bits of the key.
        let mut place = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize % SERIES_MAX;
        for _ in 0..16 {
            match self.keys[place].load(Relaxed) {
                0 => self.keys[place].store(key, Relaxed),
                taken if taken != key => {
                    place = (place + 1) % SERIES_MAX;
                    continue;
                }
                _ => {}
            }
            return self.histograms[place].observe(&DURATION_BOUNDS_S, value);
        }
        self.overflow.observe(&DURATION_BOUNDS_S, value);
    }
}

/// The decisions of one rule in one mode.
#[derive(Debug, Default)]
pub(crate) struct RuleCounters {
    /// By mode (`warn`, `enforce`) and outcome (`allow`, `would_deny`, `deny`).
    outcomes: [[Counter; 3]; 2],
    pub(crate) harm: Counter,
}

pub(crate) const OUTCOMES: [&str; 3] = ["allow", "would_deny", "deny"];
pub(crate) const MODES: [&str; 2] = ["warn", "enforce"];

impl RuleCounters {
    pub(crate) fn get(&self, mode: usize, outcome: usize) -> u64 {
        self.outcomes[mode][outcome].get()
    }
}

/// Everything that one worker counts.
#[derive(Debug)]
pub struct Shard {
    durations: SeriesTable,
    pub(crate) overhead: Histogram<10>,
    rules: Box<[RuleCounters]>,
    codes: Box<[Counter]>,
    endings: [Counter; Ending::ALL.len()],
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) connections_open: Counter,
    pub(crate) requests_in_flight: Counter,
    pub(crate) request_bytes: Counter,
    pub(crate) response_bytes: Counter,
    pub(crate) records_dropped: Counter,
    pub(crate) notes_dropped: Counter,
    pub(crate) shapes_dropped: Counter,
    pub(crate) samples_judged: Counter,
    pub(crate) samples_dropped: Counter,
    pub(crate) upstream_connects: Counter,
    pub(crate) upstream_retries: Counter,
    pub(crate) tunnels_open: Counter,
    pub(crate) tls_failures: Counter,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            durations: SeriesTable::new(),
            overhead: Histogram::default(),
            rules: (0..RULE_NAMES_MAX).map(|_| RuleCounters::default()).collect(),
            codes: Code::all().iter().map(|_| Counter::default()).collect(),
            endings: std::array::from_fn(|_| Counter::default()),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_open: Counter::default(),
            requests_in_flight: Counter::default(),
            request_bytes: Counter::default(),
            response_bytes: Counter::default(),
            records_dropped: Counter::default(),
            notes_dropped: Counter::default(),
            shapes_dropped: Counter::default(),
            samples_judged: Counter::default(),
            samples_dropped: Counter::default(),
            upstream_connects: Counter::default(),
            upstream_retries: Counter::default(),
            tunnels_open: Counter::default(),
            tls_failures: Counter::default(),
        }
    }
}

impl Shard {
    pub(crate) fn request(&self, series: Series, ending: Ending, duration: Duration) {
        self.durations.observe(series, duration);
        self.endings[ending as usize].add(1);
    }

    pub(crate) fn overhead(&self, value: Duration) {
        self.overhead.observe(&OVERHEAD_BOUNDS_S, value);
    }

    /// Counts what a rule in `mode` said.
    pub(crate) fn decision(&self, rule: RuleId, mode: Mode, verdict: Verdict) {
        let outcome = match verdict {
            Verdict::NotJudged => return,
            Verdict::Allow => 0,
            Verdict::WouldDeny => 1,
            Verdict::Deny => 2,
        };
        let mode = usize::from(matches!(mode, Mode::Enforce(_)));
        self.rules[usize::from(rule.0)].outcomes[mode][outcome].add(1);
    }

    pub(crate) fn would_deny_many(&self, rule: RuleId, mode: Mode, count: u32) {
        let mode = usize::from(matches!(mode, Mode::Enforce(_)));
        self.rules[usize::from(rule.0)].outcomes[mode][1].add(u64::from(count));
    }

    pub(crate) fn harm(&self, rule: RuleId) {
        self.rules[usize::from(rule.0)].harm.add(1);
    }

    pub(crate) fn code(&self, code: Code) {
        self.codes[code as usize].add(1);
    }

    pub(crate) fn code_count(&self, code: Code) -> u64 {
        self.codes[code as usize].get()
    }

    pub(crate) fn ending_count(&self, ending: Ending) -> u64 {
        self.endings[ending as usize].get()
    }

    pub(crate) fn rule(&self, rule: usize) -> &RuleCounters {
        &self.rules[rule]
    }

    /// Adds this worker's duration series to `sums`, and its overflow to `overflow`.
    pub(crate) fn add_durations(
        &self,
        sums: &mut std::collections::BTreeMap<Series, HistogramSum<14>>,
        overflow: &mut HistogramSum<14>,
    ) {
        for (key, histogram) in self.durations.keys.iter().zip(&self.durations.histograms) {
            match key.load(Relaxed) {
                0 => {}
                key => histogram.add_to(sums.entry(Series::unpack(key)).or_default()),
            }
        }
        self.durations.overflow.add_to(overflow);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn series(route: u16, status: u16) -> Series {
        Series {
            route: RouteId(route),
            method: MethodLabel::Patch,
            status,
            version: WireVersion::Http2,
            https: true,
        }
    }

    #[test]
    fn a_key_holds_every_label() {
        let one = series(1023, 599);
        assert_eq!(Series::unpack(one.pack()), one);
    }

    #[test]
    fn every_request_is_in_one_bucket_of_one_series_or_in_the_overflow() {
        let shard = Shard::default();
        for n in 0..2000u16 {
            shard.request(
                series(n % 1000, 200 + n % 3),
                Ending::Served,
                Duration::from_millis(u64::from(n)),
            );
        }
        let (mut sums, mut overflow) = (BTreeMap::new(), HistogramSum::default());
        shard.add_durations(&mut sums, &mut overflow);
        let count = |sum: &HistogramSum<14>| sum.buckets.iter().sum::<u64>() + sum.rest;
        assert_eq!(sums.values().map(count).sum::<u64>() + count(&overflow), 2000);
        assert!(sums.len() <= SERIES_MAX && count(&overflow) > 0);
    }
}
