//! Starts what a test needs and ends it again.

pub(crate) mod ask;
pub(crate) mod asked;
pub(crate) mod client;
pub(crate) mod echo;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod held;
pub(crate) mod http2;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod wire;

pub(crate) use asked::Idle;
pub(crate) use client::{Reply, exchange};
pub(crate) use gateway::Gateway;
pub(crate) use held::Held;
pub(crate) use request::call;
pub(crate) use response::Response;
pub(crate) use upstream::Upstream;
