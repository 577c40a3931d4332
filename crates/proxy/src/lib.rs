//! The data plane: one thread a core, each with its own listener, connections to the service,
//! counters and ring of records.
//!
//! [`Gateway::start`] opens the port and hands back the evidence that the workers report;
//! [`Publisher::publish`] puts a new [`Snapshot`] of config and modes in force without closing a
//! socket. Nothing here waits for a store, and nothing on the path of a request takes a lock
//! that another worker holds.

mod ask;
mod body;
mod chain;
mod clock;
mod connection;
mod exchange;
mod findings;
mod flight;
mod forward;
mod gateway;
mod http1;
mod learn;
mod local;
pub mod metrics;
mod notes;
mod off_path;
mod own;
mod snapshot;
mod stats;
mod tunnel;
pub mod upstream;
mod worker;

pub use clock::Clock;
pub use findings::{Finding, Findings, Objection};
pub use gateway::{Evidence, Gateway, GatewayOptions, Publisher, StartError};
pub use learn::Sampling;
pub use notes::{Note, NoteSource};
pub use snapshot::{
    Announcement, ConnectionLimits, Link, ModeTable, Modes, Operation, Operations, Route, Snapshot,
    Version, slug,
};
pub use stats::Shard;
