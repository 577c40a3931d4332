//! Everything that needs a running gateway, in one binary.
//!
//! The harness starts the real thing: the gateway with its console and store, on ports that the
//! system chooses, in a temporary folder, before services that the test controls.

mod alerts;
mod announcements;
mod bodies;
mod connections;
mod consumers;
mod demo;
mod edges;
mod fetched_keys;
mod first_day;
mod harness;
mod hostile;
mod learn;
mod lifecycle;
mod messages;
mod observability;
mod problems;
mod protections;
mod protocols;
mod raw_requests;
mod registry;
mod upstreams;
