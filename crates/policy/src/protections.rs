//! One file a protection. `registry.rs` lists them in chain order.

pub mod access;
pub mod body_limit;
pub mod body_syntax;
pub mod concurrency_limit;
pub mod content_security_policy;
pub mod core_rule_set;
pub mod cors;
pub mod csrf;
pub mod header_limit;
pub mod host_allowlist;
pub mod injection;
pub mod ip_filter;
pub mod rate_limit;
pub mod request_schema;
pub mod request_timeout;
pub mod security_headers;
pub mod signature;
pub mod vocabulary;

pub mod field;
pub mod origin;

pub(crate) mod gcra;
pub(crate) mod quoted;

#[cfg(test)]
pub(crate) mod testing;
