//! What docs/protections.md promises of each protection, through real sockets: what a client is
//! answered, and what of it reaches the service.
//!
//! The rules are numbered at the top of `crates/policy/src/protections/<name>.rs`; each protection
//! has a file of tests of the same name here.

use crate::harness::Gateway;

mod access;
mod body_limit;
mod concurrency_limit;
mod content_security_policy;
mod core_rule_set;
mod cors;
mod csrf;
mod header_limit;
mod host_allowlist;
mod ip_filter;
mod rate_limit;
mod request_schema;
mod request_timeout;
mod security_headers;
mod shares;
mod signature;

/// What a rule has said since start.
#[derive(Debug, PartialEq, Eq)]
struct Evidence {
    evaluated: u64,
    would_deny: u64,
    denied: u64,
}

async fn evidence(gateway: &Gateway, rule: &str) -> Evidence {
    let view = gateway.settled().await;
    let found = view.rules.iter().find(|found| found.rule == rule);
    let found = found.unwrap_or_else(|| panic!("{rule} is none of {:?}", view.rules));
    Evidence { evaluated: found.evaluated, would_deny: found.would_deny, denied: found.denied }
}
