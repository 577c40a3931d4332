//! The gateway as a process: its signals, its exit codes, and the commands that the manual shows.
//!
//! These need the binary, which only the tests of its own package can name. What can be had in
//! one process is tested in `tests/integration`, whose client is used here.

mod alertmanager;
mod alerts;
mod audit;
mod documented;
mod fast_rollout;
mod harness;
mod lifecycle;
mod operator;
mod operators;
mod pages;
mod redis;
mod rollout;
