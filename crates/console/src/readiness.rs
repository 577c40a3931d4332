//! Whether this gateway should be sent traffic, and what says so.

use std::fmt::Write;

use serde::Serialize;

/// All checks together. Nothing to check is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub checks: Vec<ReadyCheck>,
}

/// One condition: a config is loaded, an upstream is healthy, the store takes writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadyCheck {
    pub name: &'static str,
    pub ok: bool,
    /// What is so, or what is wrong and what to do. One line.
    pub detail: String,
}

impl Readiness {
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// A line a check, for a terminal.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::from(if self.is_ready() { "ready\n" } else { "not ready\n" });
        for ReadyCheck { name, ok, detail } in &self.checks {
            let mark = if *ok { "ok  " } else { "FAIL" };
            writeln!(text, "{mark}  {name}: {detail}").expect("a string takes it all");
        }
        text
    }
}
