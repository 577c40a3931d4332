//! Query strings, read so that a mistyped filter never lists everything.
//!
//! Every fault is named, and nothing is ignored. A parameter without a value is no filter,
//! since that is what an empty form field sends.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract;
use http::Uri;
use seaworthy_policy::problem::FieldError;
use seaworthy_policy::quantity::Period;
use seaworthy_store::telemetry::{ConsumerFilter, RequestFilter};

use crate::receipts::{MoveFilter, MoveLimit};

/// What a list of requests can be asked for.
pub(crate) const REQUEST_FILTERS: &[&str] =
    &["status", "route", "client", "tenant", "verdict", "since", "limit", "before"];

/// What a list of clients can be asked for.
pub(crate) const CONSUMER_FILTERS: &[&str] =
    &["rule", "kind", "tenant", "client", "since", "limit", "before"];

/// What a list of moves can be asked for.
pub(crate) const MOVE_FILTERS: &[&str] = &["rule", "before", "limit"];

/// What the page of the rules can be asked for: one rule, and a page of its history.
pub(crate) const RULE_FILTERS: &[&str] = &["rule", "before"];

/// How far back a list of clients goes where nobody says.
pub(crate) const CONSUMERS_SINCE: Period = Period::secs(7 * 24 * 3600);

/// The longest value of a parameter, in bytes: longer than any name that telemetry has.
const VALUE_MAX: usize = 512;

/// The parameters of one request, as they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    names: &'static [&'static str],
    /// Beside `names`; what is absent is empty.
    values: Vec<String>,
    faults: Vec<FieldError>,
}

impl Query {
    /// Reads the query of `uri`, of which `names` are known.
    pub(crate) fn of(uri: &Uri, names: &'static [&'static str]) -> Self {
        let mut query = Self { names, values: vec![String::new(); names.len()], faults: vec![] };
        match extract::Query::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(extract::Query(pairs)) => {
                for (name, value) in pairs {
                    query.set(&name, value);
                }
            }
            Err(_) => query.fault("", "the query string is not well-formed".to_owned()),
        }
        query
    }

    fn set(&mut self, name: &str, value: String) {
        let Some(index) = self.names.iter().position(|known| *known == name) else {
            let known = self.names.join(", ");
            self.fault(name, format!("there is no parameter {name:?}, only {known}"));
            return;
        };
        if value.len() > VALUE_MAX {
            self.fault(name, format!("{name} is longer than {VALUE_MAX} bytes"));
        } else if !self.values[index].is_empty() && !value.is_empty() {
            self.fault(name, format!("{name} is there twice"));
        } else if !value.is_empty() {
            self.values[index] = value;
        }
    }

    fn fault(&mut self, name: &str, detail: String) {
        self.faults.push(FieldError::new(format!("query:{name}"), detail));
    }

    /// The value of a parameter as it was sent; empty where it was not.
    pub(crate) fn value(&self, name: &str) -> &str {
        let index = self.names.iter().position(|known| *known == name);
        index.map_or("", |index| &self.values[index])
    }

    /// The value of a parameter as a `T`. `None` where it is absent, or wrong: then it is among
    /// the faults.
    pub(crate) fn read<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let value = self.value(name);
        if value.is_empty() {
            return None;
        }
        match value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, format!("{name}: {error}"));
                None
            }
        }
    }

    /// `value`, unless there was a fault.
    pub(crate) fn checked<T>(self, value: T) -> Result<T, Vec<FieldError>> {
        if self.faults.is_empty() { Ok(value) } else { Err(self.faults) }
    }

    /// [`REQUEST_FILTERS`] as a filter, or every fault.
    pub(crate) fn request_filter(
        mut self,
        now_unix_ms: i64,
    ) -> Result<RequestFilter, Vec<FieldError>> {
        let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        let since: Option<Period> = self.read("since");
        let filter = RequestFilter {
            status: self.read("status"),
            route: text(self.value("route")),
            client: text(self.value("client")),
            tenant: text(self.value("tenant")),
            verdict: self.read("verdict"),
            since_unix_ms: since.map(|since| before(now_unix_ms, since)),
            until_unix_ms: None,
            before: self.read("before"),
            limit: self.read("limit").unwrap_or_default(),
        };
        self.checked(filter)
    }

    /// [`CONSUMER_FILTERS`] as a filter, or every fault.
    pub(crate) fn consumer_filter(
        mut self,
        now_unix_ms: i64,
    ) -> Result<ConsumerFilter, Vec<FieldError>> {
        let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        let since: Period = self.read("since").unwrap_or(CONSUMERS_SINCE);
        let filter = ConsumerFilter {
            kind: self.read("kind"),
            tenant: text(self.value("tenant")),
            client: text(self.value("client")),
            rule: self.read("rule"),
            since_unix_ms: Some(before(now_unix_ms, since)),
            before: self.read("before"),
            limit: self.read("limit").unwrap_or_default(),
        };
        self.checked(filter)
    }

    /// [`MOVE_FILTERS`] as a filter, or every fault.
    pub(crate) fn move_filter(mut self) -> Result<MoveFilter, Vec<FieldError>> {
        let filter = MoveFilter {
            rule: self.read("rule"),
            before: self.read("before"),
            limit: self.read("limit").unwrap_or_default(),
        };
        self.checked(filter)
    }

    /// [`RULE_FILTERS`] as a filter of the history, or every fault.
    pub(crate) fn history_filter(mut self) -> Result<MoveFilter, Vec<FieldError>> {
        let rule: Option<String> = self.read("rule");
        if rule.is_none() && !self.value("before").is_empty() {
            self.fault("before", "before is of one rule's history: rule is missing".to_owned());
        }
        let filter = MoveFilter { rule, before: self.read("before"), limit: MoveLimit::HISTORY };
        self.checked(filter)
    }

    /// The same filters with another page to begin at, as a query string.
    pub(crate) fn with_before(&self, before: &str) -> String {
        let mut query = String::new();
        for (name, value) in self.names.iter().zip(&self.values) {
            let value = if *name == "before" { before } else { value };
            if value.is_empty() {
                continue;
            }
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(name);
            query.push('=');
            push_encoded(&mut query, value);
        }
        query
    }
}

/// The Unix millisecond that lies `period` before `now_unix_ms`.
pub(crate) fn before(now_unix_ms: i64, period: Period) -> i64 {
    let period_ms = i64::try_from(period.as_duration().as_millis()).unwrap_or(i64::MAX);
    now_unix_ms.saturating_sub(period_ms)
}

/// A link to `path` with one parameter.
pub(crate) fn link(path: &str, name: &str, value: &str) -> String {
    let mut link = format!("{path}?{name}=");
    push_encoded(&mut link, value);
    link
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn push_encoded(query: &mut String, value: &str) {
    const HEX: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            query.push('%');
            query.push(HEX[usize::from(byte >> 4)]);
            query.push(HEX[usize::from(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use seaworthy_policy::consumer::ConsumerKind;
    use seaworthy_store::telemetry::{PageLimit, StatusFilter, VerdictFilter};

    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/api/v1/requests{text}").parse().unwrap(), REQUEST_FILTERS)
    }

    #[test]
    fn every_filter_is_read() {
        let filter = query(
            "?status=4xx&route=POST%20/api/traces&client=ip:10.0.0.1&tenant=acme+north&\
             verdict=would_deny&since=15m&limit=50&before=1767268800000_7",
        )
        .request_filter(1_000_000)
        .unwrap();
        assert_eq!(
            filter,
            RequestFilter {
                status: Some(StatusFilter::Class(4)),
                route: Some("POST /api/traces".to_owned()),
                client: Some("ip:10.0.0.1".to_owned()),
                tenant: Some("acme north".to_owned()),
                verdict: Some(VerdictFilter::WouldDeny),
                since_unix_ms: Some(100_000),
                until_unix_ms: None,
                before: Some("1767268800000_7".parse().unwrap()),
                limit: PageLimit::new(50).unwrap(),
            }
        );
        for nothing in ["", "?", "?status=&route=&since="] {
            assert_eq!(query(nothing).request_filter(0), Ok(RequestFilter::default()), "{nothing}");
        }
    }

    #[test]
    fn every_fault_is_named() {
        let cases: [(&str, &[(&str, &str)]); 9] = [
            ("?status=6xx", &[("query:status", "status: expected a status such as")]),
            ("?verdict=maybe", &[("query:verdict", "verdict: expected \"would_deny\"")]),
            ("?since=yesterday", &[("query:since", "since: expected a duration such as")]),
            ("?limit=0", &[("query:limit", "limit: expected a limit from 1 to 1000")]),
            ("?before=x", &[("query:before", "before: expected the `next` of another page")]),
            ("?stauts=404", &[("query:stauts", "there is no parameter \"stauts\", only status,")]),
            ("?status=404&status=500", &[("query:status", "status is there twice")]),
            (
                "?limit=a&status=b&foo=c",
                &[("query:foo", "there is no"), ("query:status", ""), ("query:limit", "")],
            ),
            ("?status=%ff", &[("query:status", "status: expected")]),
        ];
        for (text, want) in cases {
            let faults = query(text).request_filter(0).unwrap_err();
            assert_eq!(faults.len(), want.len(), "{text}: {faults:?}");
            for (fault, (at, detail)) in faults.iter().zip(want) {
                assert_eq!(fault.at, *at, "{text}");
                assert!(fault.detail.starts_with(detail), "{text}: {}", fault.detail);
            }
        }
        let long = query(&format!("?route={}", "x".repeat(VALUE_MAX + 1)));
        assert_eq!(long.request_filter(0).unwrap_err()[0].detail, "route is longer than 512 bytes");
    }

    #[test]
    fn clients_are_asked_for_by_what_they_are() {
        let query =
            |text: &str| Query::of(&format!("/consumers{text}").parse().unwrap(), CONSUMER_FILTERS);
        let week_ms = 7 * 24 * 3600 * 1000;
        let filter =
            query("?rule=csrf@POST+/a&kind=internal&tenant=acme&since=1d&limit=5&before=1_2_3");
        assert_eq!(
            filter.consumer_filter(week_ms).unwrap(),
            ConsumerFilter {
                kind: Some(ConsumerKind::Internal),
                tenant: Some("acme".to_owned()),
                client: None,
                rule: Some("csrf@POST /a".parse().unwrap()),
                since_unix_ms: Some(6 * 24 * 3600 * 1000),
                before: Some("1_2_3".parse().unwrap()),
                limit: PageLimit::new(5).unwrap(),
            }
        );
        let ever = query("").consumer_filter(week_ms).unwrap();
        assert_eq!(ever, ConsumerFilter { since_unix_ms: Some(0), ..ConsumerFilter::default() });
        let faults = query("?rule=cfrs&kind=mixed&since=x&verdict=denied").consumer_filter(0);
        let at: Vec<_> = faults.unwrap_err().iter().map(|fault| fault.at.clone()).collect();
        assert_eq!(at, ["query:verdict", "query:since", "query:kind", "query:rule"]);
        assert_eq!(
            link("/consumers", "client", "ip:2001:db8::/64"),
            "/consumers?client=ip%3A2001%3Adb8%3A%3A%2F64"
        );
    }

    #[test]
    fn the_next_page_has_the_same_filters() {
        let first = query("?route=POST+/a%26b&before=1_1&limit=5&status=");
        assert_eq!(first.with_before("9_2"), "?route=POST%20%2Fa%26b&limit=5&before=9_2");
        assert_eq!(first.with_before(""), "?route=POST%20%2Fa%26b&limit=5");
        let next = query(&first.with_before("9_2"));
        assert_eq!(next.value("route"), "POST /a&b");
        assert_eq!(query("").with_before(""), "");
    }
}
