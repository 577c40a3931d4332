//! How a command ends: the exit code as a documented type, and the words of a failure.

use std::fmt;
use std::process::{ExitCode, Termination};

/// The exit codes, stable for ever: scripts and CI act on them. From 64 on they are those of
/// BSD's `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// It worked, or the answer is yes.
    Ok = 0,
    /// The answer is no: a gate failed, a launch is no-go, a benchmark regressed.
    No = 1,
    /// There is no verdict: the evidence does not suffice.
    NoVerdict = 2,
    /// The command line makes no sense.
    Usage = 64,
    /// Data handed in makes no sense.
    BadData = 65,
    /// Something needed is not there: a port, a folder, a service.
    Unavailable = 69,
    /// Seaworthy itself is at fault.
    Bug = 70,
    /// The config makes no sense.
    Config = 78,
}

impl Exit {
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::No,
        Self::NoVerdict,
        Self::Usage,
        Self::BadData,
        Self::Unavailable,
        Self::Bug,
        Self::Config,
    ];

    pub const fn code(self) -> u8 {
        self as u8
    }

    /// One clause, for help and the manual.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "it worked, or the answer is yes",
            Self::No => "the answer is no",
            Self::NoVerdict => "no verdict: the evidence does not suffice",
            Self::Usage => "the command line makes no sense",
            Self::BadData => "data handed in makes no sense",
            Self::Unavailable => "something needed is not there: a port, a folder, a service",
            Self::Bug => "Seaworthy itself is at fault",
            Self::Config => "the config makes no sense",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

/// Why a command failed: what happened, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// One line, lowercase, without a full stop.
    pub what: String,
    /// Further lines: the details and what to do; may be empty.
    pub details: String,
}

impl Failure {
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), details: String::new() }
    }

    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
}

impl fmt::Display for Failure {
    /// As it is printed on standard error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seaworthy: {}", self.what)?;
        if !self.details.is_empty() {
            write!(f, "\n{}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<crate::config::Faults> for Failure {
    fn from(faults: crate::config::Faults) -> Self {
        let what = format!("the config has {}", faults.count());
        Self::new(Exit::Config, what).details(faults.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_manual() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 64, 65, 69, 70, 78]);
        for exit in Exit::ALL {
            assert!(!exit.meaning().ends_with('.'), "{exit:?}");
        }
    }

    #[test]
    fn a_failure_says_what_and_then_what_to_do() {
        let failure = Failure::new(Exit::Unavailable, "the port is in use");
        assert_eq!(failure.to_string(), "seaworthy: the port is in use");
        let failure = failure.details("choose another --listen");
        assert_eq!(failure.to_string(), "seaworthy: the port is in use\nchoose another --listen");
    }
}
