//! Pure decisions of Seaworthy: what a protection says of a request, what a mode makes of it,
//! who the client is, how a fault is worded.
//!
//! Nothing here does I/O, awaits, or reads a clock: time is an argument ([`Moment`]), keys and
//! settings are handed in. The data plane calls these functions with what it read from a
//! socket; the tests call them with tables.

pub mod alert;
pub mod client;
pub mod consumer;
pub mod content;
pub mod crs;
pub mod detect;
pub mod evidence;
pub mod gates;
pub mod learn;
pub mod manual;
pub mod mode;
pub mod modes;
pub mod names;
pub mod openapi;
pub mod problem;
pub mod protection;
pub mod protections;
pub mod quantity;
pub mod record;
pub mod registry;
pub mod rollout;
pub mod route;
pub mod signed;
pub mod source;
pub mod statistics;
pub mod target;
pub mod trace_context;
pub mod vocabulary;

mod moment;

pub use moment::Moment;
