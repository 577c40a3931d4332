//! The list of sampled requests: filters, pages by key, newest first.

use std::fmt;
use std::str::FromStr;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, Row, params_from_iter};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::TelemetryReader;
use crate::error::StoreError;

/// Which requests to list; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestFilter {
    pub status: Option<StatusFilter>,
    /// A route by its name, such as `POST /api/traces` or `other`.
    pub route: Option<String>,
    /// A client as [`RequestRow::client`] has it.
    pub client: Option<String>,
    pub tenant: Option<String>,
    pub verdict: Option<VerdictFilter>,
    /// From this Unix millisecond on.
    pub since_unix_ms: Option<i64>,
    /// Before this Unix millisecond.
    pub until_unix_ms: Option<i64>,
    /// Older than this row: [`Page::next`] of the page before.
    pub before: Option<PageKey>,
    pub limit: PageLimit,
}

/// `404`, or `4xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    Exact(u16),
    /// 1 to 5.
    Class(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictFilter {
    /// At least one rule would have denied it.
    WouldDeny,
    /// At least one rule denied it.
    Denied,
}

/// The place of a row in the list, as text `<unix ms>_<sequence number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageKey {
    time_ms: i64,
    seq: i64,
}

/// How many rows a page has: 1 to 1000; 100 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit(u16);

/// Why a part of a filter could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("expected a status such as \"404\" or \"4xx\", not {0:?}")]
    Status(String),
    #[error("expected \"would_deny\" or \"denied\", not {0:?}")]
    Verdict(String),
    #[error("expected a rule such as \"csrf\" or \"rate_limit@POST /api/traces\", not {0:?}")]
    Rule(String),
    #[error("expected a limit from 1 to {max}, not {0:?}", max = PageLimit::MAX)]
    Limit(String),
    #[error("expected the `next` of another page, not {0:?}")]
    PageKey(String),
}

/// Rows, newest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// What to ask for as `before` to see the next page; `None` after the last.
    pub next: Option<PageKey>,
}

/// One request that stands for `weight` requests of its kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestRow {
    /// Unix milliseconds at which the head was complete.
    pub time_unix_ms: i64,
    /// The request id, as the client and the log know it.
    pub id: String,
    /// Microseconds from the complete head to the last byte of the answer.
    pub duration_us: u32,
    /// Microseconds of that spent waiting for the service's head; 0 where it was not asked.
    pub upstream_us: u32,
    pub route: String,
    /// `_OTHER` for a method without a name of its own.
    pub method: String,
    pub status: u16,
    /// `served`, `answered`, `denied`, `refused`, `upstream_failed` or `client_gone`.
    pub ending: String,
    /// `ip:203.0.113.7`, or a kind of identity and a hash: `bearer:0123456789abcdef`.
    pub client: String,
    /// `None` where the request named none.
    pub tenant: Option<String>,
    /// Without the query; cut at 120 bytes.
    pub path: String,
    /// Bytes of bodies.
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// The code of the first denial, else of the first would-denial, else of the failure.
    pub reason: Option<String>,
    /// The rules that would have denied it.
    pub would_deny: Vec<String>,
    /// The rules that denied it.
    pub denied: Vec<String>,
    /// The position of the upstream in the config, where one was asked.
    pub upstream: Option<u8>,
    /// How many requests this row stands for: at least 1. Weights add up to unbiased counts.
    pub weight: f64,
}

impl TelemetryReader {
    /// One page of the requests that `filter` lets through.
    pub fn requests(&self, filter: &RequestFilter) -> Result<Page<RequestRow>, StoreError> {
        let limit = usize::from(filter.limit.0);
        let (sql, values) = list_sql(filter);
        let mut rows: Vec<(PageKey, RequestRow)> = self.readers.read(|connection| {
            connection
                .prepare_cached(&sql)?
                .query_map(params_from_iter(values), read_row)?
                .collect()
        })?;
        // One row more than the page has room for says that there is another page.
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(key, _)| *key);
        Ok(Page { rows: rows.into_iter().map(|(_, row)| row).collect(), next })
    }

    /// The newest request with this id, where it is among those that were kept.
    ///
    /// There is no index on ids, which would cost more than all others: the time in the id leads to
    /// it, and where there is none all rows are read.
    pub fn request(&self, id: &str) -> Result<Option<RequestRow>, StoreError> {
        let near = time_of_id(id).map(|time_ms| {
            let slack = ID_TIME_SLACK_MS;
            (time_ms.saturating_sub(slack), time_ms.saturating_add(slack))
        });
        for (from, to) in near.into_iter().chain([(i64::MIN, i64::MAX)]) {
            let sql = format!(
                "{SELECT} AND time_ms BETWEEN ? AND ? AND id = ? \
                 ORDER BY time_ms DESC, seq DESC LIMIT 1"
            );
            let found = self.readers.read(|connection| {
                connection.prepare_cached(&sql)?.query_row((from, to, id), read_row).optional()
            })?;
            if let Some((_, row)) = found {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// What [`read_row`] reads.
const SELECT: &str = "SELECT seq, time_ms, id, duration_us, upstream_us, \
                      (SELECT name FROM route WHERE route.id = route_id), method, status, ending, \
                      client, tenant, path, request_bytes, response_bytes, reason, would_deny, \
                      denied, upstream, weight FROM request WHERE true";

/// Milliseconds around the time in an id within which its request is looked for first.
const ID_TIME_SLACK_MS: i64 = 60_000;

/// The Unix millisecond with which the ids begin that a gateway makes: 48 of 128 bits. Those that
/// trusted proxies bring are any text.
fn time_of_id(id: &str) -> Option<i64> {
    let is_own = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.get(..12).filter(|_| is_own).and_then(|digits| i64::from_str_radix(digits, 16).ok())
}

/// The text depends on which filters there are, never on what they say: it is compiled once.
fn list_sql(filter: &RequestFilter) -> (String, Vec<Value>) {
    let mut sql = SELECT.to_owned();
    let mut values = Vec::new();
    let mut only = |condition: &str, value: Option<Value>| {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(value);
        }
    };
    let text = |text: &Option<String>| text.clone().map(Value::from);
    match filter.status {
        Some(StatusFilter::Exact(status)) => only(" AND status = ?", Some(status.into())),
        Some(StatusFilter::Class(class)) => only(" AND status / 100 = ?", Some(class.into())),
        None => {}
    }
    only(" AND route_id = (SELECT id FROM route WHERE name = ?)", text(&filter.route));
    only(" AND client = ?", text(&filter.client));
    only(" AND tenant = ?", text(&filter.tenant));
    only(" AND time_ms >= ?", filter.since_unix_ms.map(Value::from));
    only(" AND time_ms < ?", filter.until_unix_ms.map(Value::from));
    if let Some(PageKey { time_ms, seq }) = filter.before {
        sql.push_str(" AND (time_ms, seq) < (?, ?)");
        values.extend([time_ms.into(), seq.into()]);
    }
    match filter.verdict {
        Some(VerdictFilter::WouldDeny) => sql.push_str(" AND would_deny IS NOT NULL"),
        Some(VerdictFilter::Denied) => sql.push_str(" AND denied IS NOT NULL"),
        None => {}
    }
    sql.push_str(" ORDER BY time_ms DESC, seq DESC LIMIT ?");
    values.push((i64::from(filter.limit.0) + 1).into());
    (sql, values)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<(PageKey, RequestRow)> {
    let bytes = |column| row.get(column).map(|n: i64| u64::try_from(n).unwrap_or(0));
    let names = |column| {
        row.get(column).map(|names: Option<String>| {
            names.iter().flat_map(|names| names.lines()).map(str::to_owned).collect()
        })
    };
    let key = PageKey { seq: row.get(0)?, time_ms: row.get(1)? };
    let tenant: String = row.get(10)?;
    let row = RequestRow {
        time_unix_ms: key.time_ms,
        id: row.get(2)?,
        duration_us: row.get(3)?,
        upstream_us: row.get(4)?,
        route: row.get(5)?,
        method: row.get(6)?,
        status: row.get(7)?,
        ending: row.get(8)?,
        client: row.get(9)?,
        tenant: Some(tenant).filter(|tenant| !tenant.is_empty()),
        path: row.get(11)?,
        request_bytes: bytes(12)?,
        response_bytes: bytes(13)?,
        reason: row.get(14)?,
        would_deny: names(15)?,
        denied: names(16)?,
        upstream: row.get(17)?,
        weight: row.get(18)?,
    };
    Ok((key, row))
}

impl FromStr for StatusFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || FilterError::Status(text.to_owned());
        match text.strip_suffix("xx") {
            Some(class) => match class.parse() {
                Ok(class @ 1..=5) => Ok(Self::Class(class)),
                _ => Err(fault()),
            },
            None => match text.parse() {
                Ok(status @ 100..=599) => Ok(Self::Exact(status)),
                _ => Err(fault()),
            },
        }
    }
}

impl fmt::Display for StatusFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl FromStr for VerdictFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "would_deny" => Ok(Self::WouldDeny),
            "denied" => Ok(Self::Denied),
            other => Err(FilterError::Verdict(other.to_owned())),
        }
    }
}

impl FromStr for PageKey {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('_')
            .and_then(|(time, seq)| Some((time.parse().ok()?, seq.parse().ok()?)))
            .map(|(time_ms, seq)| Self { time_ms, seq })
            .ok_or_else(|| FilterError::PageKey(text.to_owned()))
    }
}

impl fmt::Display for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.time_ms, self.seq)
    }
}

impl PageLimit {
    pub const MAX: u16 = 1000;

    pub fn new(rows: u16) -> Result<Self, FilterError> {
        match rows {
            1..=Self::MAX => Ok(Self(rows)),
            _ => Err(FilterError::Limit(rows.to_string())),
        }
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(100)
    }
}

impl FromStr for PageLimit {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .ok()
            .and_then(|rows| Self::new(rows).ok())
            .ok_or_else(|| FilterError::Limit(text.to_owned()))
    }
}

impl fmt::Display for PageLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

pub(super) use serde_as_text;

// As text, since that is how a query string has them.
serde_as_text!(StatusFilter, PageKey, PageLimit);

#[cfg(test)]
mod tests {
    use super::super::SCHEMA;
    use super::*;
    use crate::sqlite::open_writer;

    #[test]
    fn filters_are_read_and_written() {
        for text in ["404", "4xx", "100", "5xx"] {
            assert_eq!(text.parse::<StatusFilter>().unwrap().to_string(), text);
        }
        for text in ["", "xx", "0xx", "6xx", "99", "600", "4XX", "404xx"] {
            assert_eq!(text.parse::<StatusFilter>(), Err(FilterError::Status(text.to_owned())));
        }
        for text in ["1_2", "-5_2"] {
            assert_eq!(text.parse::<PageKey>().unwrap().to_string(), text);
        }
        for text in ["", "1", "_", "1_", "a_1"] {
            assert_eq!(text.parse::<PageKey>(), Err(FilterError::PageKey(text.to_owned())));
        }
        for text in ["0", "1001", "", "many"] {
            assert_eq!(text.parse::<PageLimit>(), Err(FilterError::Limit(text.to_owned())));
        }
        assert_eq!("1000".parse::<PageLimit>().unwrap().get(), 1000);
        let read: RequestFilter =
            serde_json::from_str(r#"{"status": "4xx", "limit": "5"}"#).unwrap();
        assert_eq!((read.status, read.limit), (Some(StatusFilter::Class(4)), PageLimit(5)));
    }

    /// Whatever is combined, an index gives the rows in the order of the list, and a key skips
    /// to its place: no page is found by sorting or by walking over the pages before it.
    #[test]
    fn every_list_has_its_index() {
        let dir = tempfile::tempdir().unwrap();
        let (connection, _lock) = open_writer(dir.path(), &SCHEMA).unwrap();
        let statuses = [None, Some(StatusFilter::Exact(404)), Some(StatusFilter::Class(4))];
        let verdicts = [None, Some(VerdictFilter::WouldDeny), Some(VerdictFilter::Denied)];
        for (status, verdict) in statuses.iter().flat_map(|s| verdicts.map(|v| (*s, v))) {
            for set in 0..64 {
                let has = |bit: u32| set & (1 << bit) != 0;
                let text = |bit: u32| has(bit).then(|| "x".to_owned());
                let filter = RequestFilter {
                    status,
                    verdict,
                    route: text(0),
                    client: text(1),
                    tenant: text(2),
                    since_unix_ms: has(3).then_some(1),
                    until_unix_ms: has(4).then_some(2),
                    before: has(5).then_some(PageKey { time_ms: 1, seq: 1 }),
                    limit: PageLimit::default(),
                };
                let (sql, values) = list_sql(&filter);
                let plan: Vec<String> = connection
                    .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                    .unwrap()
                    .query_map(params_from_iter(values), |row| row.get(3))
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap();
                let on_requests = plan.iter().find(|step| step.contains(" request ")).unwrap();
                assert!(on_requests.contains("USING INDEX request_by_"), "{filter:?}: {plan:?}");
                assert!(!plan.iter().any(|step| step.contains("B-TREE")), "{filter:?}: {plan:?}");
                let limited = filter.before.is_some() || filter.until_unix_ms.is_some();
                let skips =
                    on_requests.contains("time_ms<") || on_requests.contains("(time_ms,seq)<");
                assert!(!limited || skips, "{filter:?}: {plan:?}");
            }
        }
    }
}
