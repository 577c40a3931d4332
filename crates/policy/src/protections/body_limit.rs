//! Bounds how many bytes a request body has.
//!
//! 1. A body whose declared length is over the limit is refused before a byte of it is read.
//! 2. A body of unknown length is counted as it streams by; where it passes the limit, the
//!    service's request is given up and the client told.
//! 3. A request without a body is not judged.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mode::ModeSetting;
use crate::problem::{Code, Denial};
use crate::protection::{BodyLength, Bound, Effects, Outcome, Protection, Request};
use crate::quantity::ByteSize;
use crate::registry::{Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "body_limit",
    summary: "Bounds how many bytes a request body has, declared or streamed.",
    default_mode: ModeSetting::ENFORCE,
    default_mode_reason: "few services take bodies near the limit, and those that do know it",
    codes: &[Code::BodyTooLarge],
    mode: |protect| protect.body_limit.mode,
    settings: |protect| settings_of(&protect.body_limit),
    build: |protect, _| Ok(Arc::new(BodyLimit { max: protect.body_limit.max })),
    ..Entry::PLAIN
};

/// `[protect.body_limit]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// Bytes of a body. Bodies stream, so the limit guards the service's memory and disk and not
    /// the gateway's. 100MiB is about what the large content networks let through by default, so
    /// that it stops a body without end and no ordinary upload; most routes want far less.
    pub max: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: ENTRY.default_mode, max: ByteSize::mib(100) }
    }
}

struct BodyLimit {
    max: ByteSize,
}

impl Protection for BodyLimit {
    fn check(&self, request: &Request<'_>, effects: &mut Effects) -> Outcome {
        match request.body {
            BodyLength::None => Outcome::NotApplicable,
            BodyLength::Declared(bytes) if bytes > self.max.0 => {
                Outcome::Deny(self.denial(&format!("the request declares {bytes}B")))
            }
            BodyLength::Declared(_) | BodyLength::Unknown => {
                effects.body_max = Some(self.max.0);
                Outcome::Allow
            }
        }
    }

    fn crossed(&self, _bound: Bound) -> Denial {
        self.denial("the request went on past that")
    }
}

impl BodyLimit {
    fn denial(&self, found: &str) -> Denial {
        Denial::new(
            Code::BodyTooLarge,
            format!("a body of at most {} is accepted here; {found}", self.max),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Sample, build};

    #[test]
    fn a_declared_length_is_judged_and_an_unknown_one_bounded() {
        use BodyLength::{Declared, Unknown};
        let limit = build(&ENTRY, "max = \"1KiB\"");
        for (body, verdict, bound) in [
            (BodyLength::None, "n/a", None),
            (Declared(0), "allow", Some(1024)),
            (Declared(1024), "allow", Some(1024)),
            (Declared(1025), "body-too-large", None),
            (Declared(u64::MAX), "body-too-large", None),
            (Unknown, "allow", Some(1024)),
        ] {
            let mut sample = Sample::new("POST", "/", &[]);
            sample.body = body;
            let (said, effects) = sample.check(&*limit);
            assert_eq!((said.as_str(), effects.body_max), (verdict, bound), "{body:?}");
        }
    }

    #[test]
    fn the_client_is_told_the_limit() {
        let limit = build(&ENTRY, "max = \"1MiB\"");
        let mut sample = Sample::new("POST", "/", &[]);
        sample.body = BodyLength::Declared(10_000_000_000);
        assert_eq!(
            sample.denial(&*limit).detail,
            "a body of at most 1MiB is accepted here; the request declares 10000000000B"
        );
        let crossed = limit.crossed(Bound::BodyMax(1 << 20));
        assert_eq!(crossed.code, Code::BodyTooLarge);
        assert_eq!(
            crossed.detail,
            "a body of at most 1MiB is accepted here; the request went on past that"
        );
    }
}
