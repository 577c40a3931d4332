//! All durable state of Seaworthy, one file per aggregate.
//!
//! [`telemetry`] is `telemetry.db`: sampled request rows and exact rollups, what may lose its
//! last seconds on power loss. [`ledger`] is `ledger.db`: the audit log and what must survive with
//! it, all of it durable before it is acknowledged. Each database file has one writer thread, whose inbox is
//! bounded, and a pool of read-only connections; `sqlite` opens both in the one right way.
//! [`fleet`] shares the rules' modes with other gateways through Redis or Valkey.

mod error;
pub mod fleet;
pub mod ledger;
mod sqlite;
pub mod telemetry;

pub use error::StoreError;
