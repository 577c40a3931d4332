//! Starts what a test needs and ends it again.

pub(crate) mod ask;
pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod upstream;

pub(crate) use client::{Reply, exchange};
pub(crate) use gateway::Gateway;
pub(crate) use upstream::Upstream;
