//! Finds SQL injection and cross-site scripting in a value.

mod sql;
