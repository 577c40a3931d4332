//! Records for the tests of this crate.

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::consumer::{Agent, ConsumerKind};
use seaworthy_policy::problem::Code;
use seaworthy_policy::record::{
    Ending, Marks, MethodLabel, PathText, RequestId, RequestRecord, RouteId, RuleId, Tenant,
    Verdict, Verdicts,
};

use super::consumer_counts::Consumers;
use super::observations::{Observation, Seen};

/// 2026-01-01T12:00:00Z.
pub(super) const NOON_MS: i64 = 1_767_268_800_000;

/// An ordinary request, judged by the first protection and allowed.
pub(super) fn record() -> RequestRecord {
    let mut verdicts = Verdicts::default();
    verdicts.set(0, Verdict::Allow);
    RequestRecord {
        id: RequestId::from("req-1").unwrap(),
        started_unix_ms: NOON_MS,
        duration_us: 1500,
        upstream_us: 1200,
        route: RouteId(0),
        settings: RouteId(0),
        method: MethodLabel::Get,
        status: 200,
        ending: Ending::Served,
        client: ClientKey::Bearer(0xabc),
        kind: ConsumerKind::Internal,
        agent: Agent::from("desk/1").unwrap(),
        tenant: Tenant::from("acme").unwrap(),
        path: PathText::from("/api/complaints").unwrap(),
        request_bytes: 10,
        response_bytes: 900,
        verdicts,
        marks: Marks::default(),
        reason: None,
        upstream: Some(0),
    }
}

pub(super) fn failed() -> RequestRecord {
    RequestRecord {
        status: 502,
        ending: Ending::UpstreamFailed,
        reason: Some(Code::UpstreamReset),
        ..record()
    }
}

/// Denied by the first protection.
pub(super) fn denied() -> RequestRecord {
    let mut record = RequestRecord {
        status: 429,
        ending: Ending::Denied,
        reason: Some(Code::RateLimited),
        upstream_us: 0,
        upstream: None,
        ..record()
    };
    record.verdicts.set(0, Verdict::Deny);
    record
}

/// The first protection would have denied it; the service answered 200.
pub(super) fn would_be_denied() -> RequestRecord {
    let mut record = RequestRecord { reason: Some(Code::RateLimited), ..record() };
    record.verdicts.set(0, Verdict::WouldDeny);
    record
}

/// Counts `record` for its client, by the service's own rules.
pub(super) fn count_client(consumers: &mut Consumers, record: &RequestRecord, ended_ms: i64) {
    let seen = Seen { count: 1, first_unix_ms: ended_ms, last_unix_ms: ended_ms };
    consumers.count(&Observation::of(record), seen, |protection| RuleId(protection as u16));
}
