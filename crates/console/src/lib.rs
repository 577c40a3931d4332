//! The operators' side of the gateway: its pages, its JSON API, its health and its metrics.
//!
//! [`Console`] serves what others hand it, and hands on the alerts that it is sent
//! ([`AlertSink`]); it changes nothing itself. [`live`] counts what happens
//! right now; the terminal's summary is drawn from the same values as the pages.

pub use alerts::{AlertInputs, AlertMetrics, AlertSink, NotKept, Outcome, Taken, Taking};
pub use console::{Console, ConsoleError, ConsoleInputs};
pub use readiness::{Readiness, ReadyCheck};

mod alerts;
mod console;
pub mod control;
mod evidence;
mod exposition;
mod figures;
mod guard;
pub mod live;
mod page;
mod problem;
mod query;
mod readiness;
mod receipts;
mod routes;
mod situation;
