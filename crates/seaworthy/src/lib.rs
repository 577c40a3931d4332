//! Seaworthy: one binary that takes an HTTP service from "works" to "safe to launch".
//!
//! [`cli`] reads the command line, [`config`] the config, [`app`] starts the parts and wires
//! them together; every end is an [`exit::Exit`]. The binary is this library and nothing else,
//! so that tests start the same gateway in their own process.

pub mod app;
pub mod cli;
pub mod config;
pub mod exit;
