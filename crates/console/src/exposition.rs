//! The two forms of `/metrics`: OpenMetrics 1.0, and the Prometheus text format 0.0.4.
//!
//! The registry writes OpenMetrics. [`to_prometheus`] turns that into the older form, which
//! differs in five points:
//!
//! 1. `# HELP` and `# TYPE` of a counter name its samples (`…_total`), not its family; those of
//!    an info family name its samples (`…_info`).
//! 2. The types `info`, `stateset` and `unknown` become `gauge`, `gauge` and `untyped`.
//! 3. There is no `# UNIT` and no `# EOF`; the unit is already the end of the name.
//! 4. Exemplars are left out.
//! 5. Help texts escape the backslash and the line feed, and never the quote.

use std::fmt::Write;

use http::HeaderValue;

/// A form of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    OpenMetrics,
    Prometheus,
}

impl Exposition {
    /// The form that the `Accept` fields ask for (RFC 9110, 12.5.1): OpenMetrics where it is
    /// named and text is not preferred, since a browser, curl and old scrapers read text.
    pub(crate) fn for_accept<'a>(fields: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let (mut openmetrics, mut text) = (0.0, 0.0);
        for field in fields {
            for range in field.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next().unwrap_or_default();
                let (mut quality, mut version) = (1.0, None);
                for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                    if name.eq_ignore_ascii_case("q") {
                        quality = value.trim().parse().unwrap_or(0.0);
                    } else if name.eq_ignore_ascii_case("version") {
                        version = Some(value.trim().trim_matches('"'));
                    }
                }
                if media.eq_ignore_ascii_case("application/openmetrics-text") {
                    if version.is_none_or(|version| version == "1.0.0") {
                        openmetrics = f32::max(openmetrics, quality);
                    }
                } else if media.eq_ignore_ascii_case("text/plain") {
                    text = f32::max(text, quality);
                }
            }
        }
        if openmetrics > 0.0 && openmetrics >= text { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Rewrites OpenMetrics text, as the registry encodes it, to the Prometheus text format 0.0.4.
pub(crate) fn to_prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // HELP comes before TYPE, which decides the name that both lines carry.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((family, kind)) = rest.split_once(' ') else { continue };
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((of, words)) = help.take()
                && of == family
            {
                let words = words.replace("\\\"", "\"");
                writeln!(text, "# HELP {family}{suffix} {words}").expect("a string takes it all");
            }
            writeln!(text, "# TYPE {family}{suffix} {kind}").expect("a string takes it all");
        } else if !line.starts_with('#') {
            text.push_str(without_exemplar(line));
            text.push('\n');
        }
    }
    text
}

/// The sample before ` # {…}`. A `#` inside a quoted label value is not an exemplar.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return line.get(..at).unwrap_or(line).trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::{ConstCounter, Counter};
    use prometheus_client::metrics::exemplar::CounterWithExemplar;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    #[test]
    fn each_kind_of_family_is_rewritten() {
        let cases = [
            (
                "counter",
                "# HELP requests Requests by end.\n# TYPE requests counter\n\
                 requests_total{ending=\"served\"} 3\n# EOF\n",
                "# HELP requests_total Requests by end.\n# TYPE requests_total counter\n\
                 requests_total{ending=\"served\"} 3\n",
            ),
            (
                "gauge with a unit",
                "# HELP size_bytes Size.\n# TYPE size_bytes gauge\n# UNIT size_bytes bytes\n\
                 size_bytes 1\n# EOF\n",
                "# HELP size_bytes Size.\n# TYPE size_bytes gauge\nsize_bytes 1\n",
            ),
            (
                "histogram",
                "# HELP d_seconds D.\n# TYPE d_seconds histogram\n# UNIT d_seconds seconds\n\
                 d_seconds_sum 0.2\nd_seconds_count 2\nd_seconds_bucket{le=\"0.1\"} 1\n\
                 d_seconds_bucket{le=\"+Inf\"} 2 # {trace=\"a # b\"} 0.15\n# EOF\n",
                "# HELP d_seconds D.\n# TYPE d_seconds histogram\n\
                 d_seconds_sum 0.2\nd_seconds_count 2\nd_seconds_bucket{le=\"0.1\"} 1\n\
                 d_seconds_bucket{le=\"+Inf\"} 2\n",
            ),
            (
                "info",
                "# HELP build Build.\n# TYPE build info\nbuild_info{version=\"1\"} 1\n# EOF\n",
                "# HELP build_info Build.\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n",
            ),
            (
                "unknown and stateset",
                "# HELP a A.\n# TYPE a unknown\na 1\n# HELP b B.\n# TYPE b stateset\n\
                 b{b=\"x\"} 1\n# EOF\n",
                "# HELP a A.\n# TYPE a untyped\na 1\n# HELP b B.\n# TYPE b gauge\nb{b=\"x\"} 1\n",
            ),
            (
                "quotes and hashes that are text",
                "# HELP q Say \\\"hi\\\" or \\\\.\n# TYPE q gauge\n\
                 q{route=\"GET /a # {b\\\" # c\"} 1\n# EOF\n",
                "# HELP q Say \"hi\" or \\\\.\n# TYPE q gauge\n\
                 q{route=\"GET /a # {b\\\" # c\"} 1\n",
            ),
            ("a type without help", "# TYPE a gauge\na 1\n# EOF\n", "# TYPE a gauge\na 1\n"),
            ("nothing", "# EOF\n", ""),
        ];
        for (name, openmetrics, want) in cases {
            assert_eq!(to_prometheus(openmetrics), want, "{name}");
        }
    }

    #[test]
    fn what_the_registry_writes_is_what_is_read_here() {
        let mut registry = Registry::default();
        let requests = Family::<[(&str, &str); 1], Counter>::default();
        requests.get_or_create(&[("ending", "served")]).inc_by(3);
        registry.register("seaworthy_requests", "Requests by how they ended", requests);
        let exemplified = CounterWithExemplar::<[(&str, &str); 1]>::default();
        exemplified.inc_by(1, Some([("trace_id", "a # {b}")]), None);
        registry.register("seaworthy_traced", "Traced requests", exemplified);
        registry.register("seaworthy_open", "Connections open", Gauge::<i64>::default());
        let durations = Histogram::new([0.1, 1.0]);
        durations.observe(0.5);
        registry.register_with_unit("took", "Time taken", Unit::Seconds, durations);
        registry.register("seaworthy_build", "Build", Info::new([("version", "0.1.0")]));
        registry.register_with_unit("sent", "Sent", Unit::Bytes, ConstCounter::new(7u64));
        let mut openmetrics = String::new();
        encode(&mut openmetrics, &registry).unwrap();
        assert_eq!(
            to_prometheus(&openmetrics),
            "# HELP seaworthy_requests_total Requests by how they ended.\n\
             # TYPE seaworthy_requests_total counter\n\
             seaworthy_requests_total{ending=\"served\"} 3\n\
             # HELP seaworthy_traced_total Traced requests.\n\
             # TYPE seaworthy_traced_total counter\n\
             seaworthy_traced_total 1\n\
             # HELP seaworthy_open Connections open.\n\
             # TYPE seaworthy_open gauge\n\
             seaworthy_open 0\n\
             # HELP took_seconds Time taken.\n\
             # TYPE took_seconds histogram\n\
             took_seconds_sum 0.5\n\
             took_seconds_count 1\n\
             took_seconds_bucket{le=\"0.1\"} 0\n\
             took_seconds_bucket{le=\"1.0\"} 1\n\
             took_seconds_bucket{le=\"+Inf\"} 1\n\
             # HELP seaworthy_build_info Build.\n\
             # TYPE seaworthy_build_info gauge\n\
             seaworthy_build_info{version=\"0.1.0\"} 1\n\
             # HELP sent_bytes_total Sent.\n\
             # TYPE sent_bytes_total counter\n\
             sent_bytes_total 7\n"
        );
    }

    #[test]
    fn the_accept_field_chooses() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let cases: [(&[&str], Exposition); 10] = [
            (&[], Exposition::Prometheus),
            (&["*/*"], Exposition::Prometheus),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Exposition::Prometheus),
            (&["application/openmetrics-text"], Exposition::OpenMetrics),
            (&["application/openmetrics-text; version=1.0.0"], Exposition::OpenMetrics),
            (&["application/openmetrics-text; version=\"1.0.0\""], Exposition::OpenMetrics),
            (&["application/openmetrics-text;version=0.0.1"], Exposition::Prometheus),
            (&["application/openmetrics-text;q=0"], Exposition::Prometheus),
            (&["application/openmetrics-text;q=0.2", "text/plain"], Exposition::Prometheus),
            (&[prometheus_3], Exposition::OpenMetrics),
        ];
        for (accept, want) in cases {
            let fields: Vec<HeaderValue> = accept.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(Exposition::for_accept(&fields), want, "{accept:?}");
        }
    }
}
