//! Bounds how long the service may take to start its answer.
//!
//! 1. The bound is on the wait for the head of the answer, after the request has been passed on.
//!    How long a client takes to upload is not the service's doing, and has a timeout of its own.
//! 2. Once the answer has started it may take as long as it likes: downloads, event streams and
//!    WebSockets are not cut.
//! 3. An answer that comes too late is given up, and the client told.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mode::ModeSetting;
use crate::problem::{Code, Denial};
use crate::protection::{Bound, Effects, Outcome, Protection, Request};
use crate::quantity::Period;
use crate::registry::{BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "request_timeout",
    summary: "Bounds how long the service may take to start its answer.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a long poll or a slow report may rightly take longer than a minute",
    codes: &[Code::RequestTimeout],
    mode: |protect| protect.request_timeout.mode,
    settings: |protect| settings_of(&protect.request_timeout),
    build: |protect, _| Ok(Arc::new(RequestTimeout::build(&protect.request_timeout)?)),
    ..Entry::PLAIN
};

/// `[protect.request_timeout]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// How long the service is waited for. 60s is what nginx, HAProxy's examples and the load
    /// balancers of the large clouds wait, so services that were behind one are used to it.
    pub max: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: ENTRY.default_mode, max: Period::secs(60) }
    }
}

struct RequestTimeout {
    max: Period,
}

impl RequestTimeout {
    fn build(config: &Config) -> Result<Self, BuildError> {
        if config.max.as_duration().is_zero() {
            let message = "expected more than nothing: no service answers in no time".to_owned();
            return Err(BuildError { key: "max", message });
        }
        Ok(Self { max: config.max })
    }
}

impl Protection for RequestTimeout {
    fn check(&self, _request: &Request<'_>, effects: &mut Effects) -> Outcome {
        effects.deadline = Some(self.max.as_duration());
        Outcome::Allow
    }

    fn crossed(&self, _bound: Bound) -> Denial {
        let detail = format!("the service did not start to answer within {}", self.max);
        Denial::new(Code::RequestTimeout, detail)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protections::testing::{Sample, build, fault};

    #[test]
    fn every_request_gets_the_deadline() {
        for (lines, want) in [("", 60_000), ("max = \"250ms\"", 250), ("max = \"10m\"", 600_000)] {
            let (verdict, effects) = Sample::new("GET", "/", &[]).check(&*build(&ENTRY, lines));
            assert_eq!(verdict, "allow");
            assert_eq!(effects.deadline, Some(Duration::from_millis(want)), "{lines}");
        }
    }

    #[test]
    fn the_client_is_told_how_long_was_waited() {
        let denial = build(&ENTRY, "").crossed(Bound::Deadline(Duration::from_secs(60)));
        assert_eq!(denial.code, Code::RequestTimeout);
        assert_eq!(denial.detail, "the service did not start to answer within 1m");
    }

    #[test]
    fn no_time_at_all_is_refused() {
        assert!(fault(&ENTRY, "max = \"0s\"").starts_with("max: expected more"));
    }
}
