//! A help desk: a small real service to put a gateway before, and the clients that use it.
//!
//! [`Service`] is an HTTP service over SQLite with complaints, messages, simulations, gradings,
//! traces and companies of several tenants, described by [`openapi()`]. It has no protection of
//! its own, on purpose: whatever is refused was refused by what stands before it, and its own
//! errors are plain `{"error": "…"}`, which no gateway would send. A [`Fault`] makes it slow,
//! failing or silent when a test wants that.
//!
//! [`Clients`] are the people and programs of five tenants: most behave, one is sloppy, one is
//! hostile.

pub use clients::{
    ClientReport, Clients, ClientsConfig, ClientsReport, Manners, NotLoopback, StatusClasses,
    WEBHOOK_SECRET,
};
pub use fault::{Fault, FaultError, Scope, Share};
pub use openapi::openapi;
pub use service::{Service, ServiceConfig, StartError};

mod clients;
mod fault;
mod openapi;
mod random;
mod routes;
mod service;
mod store;

#[cfg(test)]
mod harness;
