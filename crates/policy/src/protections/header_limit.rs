//! Bounds how many header fields a request has and how many bytes its head takes.
//!
//! 1. Every field counts, repeated ones each time, without the hop-by-hop fields that end at the
//!    gateway.
//! 2. The bytes are those of the target and of each field's name and value, plus four a field:
//!    the colon, the space and the line end of HTTP/1.1, so that both versions count alike.
//! 3. The parser has a harder limit of its own, before any protection: `head-too-large`.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::mode::ModeSetting;
use crate::problem::{Code, Denial, FieldError};
use crate::protection::{Effects, Outcome, Protection, Request};
use crate::quantity::ByteSize;
use crate::registry::{BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "header_limit",
    summary: "Bounds how many header fields a request has and how many bytes its head takes.",
    default_mode: ModeSetting::ENFORCE,
    default_mode_reason: "the limits are those that common servers set, so no client is used to more",
    codes: &[Code::TooManyHeaders],
    mode: |protect| protect.header_limit.mode,
    settings: |protect| settings_of(&protect.header_limit),
    build: |protect, _| Ok(Arc::new(HeaderLimit::build(&protect.header_limit)?)),
    ..Entry::PLAIN
};

/// `[protect.header_limit]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// Header fields of a request. 100 is what Apache and hyper take; a browser sends about 20.
    pub count_max: usize,
    /// Bytes of the target and all fields. 32KiB is what nginx takes, and twice Node's limit.
    pub bytes_max: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: ENTRY.default_mode, count_max: 100, bytes_max: ByteSize::kib(32) }
    }
}

/// Less than this a browser's ordinary request would not fit into.
const BYTES_LEAST: ByteSize = ByteSize::kib(1);

struct HeaderLimit {
    count_max: usize,
    bytes_max: ByteSize,
}

impl HeaderLimit {
    fn build(config: &Config) -> Result<Self, BuildError> {
        let Config { count_max, bytes_max, .. } = *config;
        if count_max == 0 {
            let message = "expected at least 1: every request has a header field".to_owned();
            return Err(BuildError { key: "count_max", message });
        }
        if bytes_max < BYTES_LEAST {
            let message = format!("expected at least {BYTES_LEAST}, not {bytes_max}");
            return Err(BuildError { key: "bytes_max", message });
        }
        Ok(Self { count_max, bytes_max })
    }
}

impl Protection for HeaderLimit {
    fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
        let count = request.headers.len();
        if count > self.count_max {
            return Outcome::Deny(self.too_many(count));
        }
        let fields: usize = request.headers.iter().map(size).sum();
        let bytes = request.target.as_str().len() + fields;
        if bytes as u64 > self.bytes_max.0 {
            return Outcome::Deny(self.too_large(bytes, request));
        }
        Outcome::Allow
    }
}

fn size((name, value): (&HeaderName, &HeaderValue)) -> usize {
    name.as_str().len() + value.len() + 4
}

impl HeaderLimit {
    fn too_many(&self, count: usize) -> Denial {
        let max = self.count_max;
        Denial::new(
            Code::TooManyHeaders,
            format!("at most {max} header fields are accepted; the request has {count}"),
        )
    }

    /// Names the largest field: it is nearly always the one at fault.
    fn too_large(&self, bytes: usize, request: &Request<'_>) -> Denial {
        let max = self.bytes_max;
        let mut denial = Denial::new(
            Code::TooManyHeaders,
            format!(
                "a target and header fields of at most {max} are accepted; these have {bytes}B"
            ),
        );
        if let Some((name, value)) = request.headers.iter().max_by_key(|field| size(*field)) {
            denial.errors = vec![FieldError::new(
                format!("header:{name}"),
                format!("the largest field: {}B", size((name, value))),
            )];
        }
        denial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Fields, Sample, build, fault};

    #[test]
    fn the_limits_are_inclusive() {
        let limit = build(&ENTRY, "count_max = 3\nbytes_max = \"1KiB\"");
        // "/" takes 1, "a: …" 5 and the value's length, so 1018 characters fill 1024 bytes.
        let fits = "x".repeat(1018);
        let over = "x".repeat(1019);
        let cases: [(Fields<'_>, &str); 6] = [
            (&[], "allow"),
            (&[("a", "1"), ("b", "2"), ("c", "3")], "allow"),
            (&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")], "too-many-headers"),
            (&[("a", "1"), ("a", "2"), ("a", "3"), ("a", "4")], "too-many-headers"),
            (&[("a", &fits)], "allow"),
            (&[("a", &over)], "too-many-headers"),
        ];
        for (headers, want) in cases {
            let verdict = Sample::new("GET", "/", headers).verdict(&*limit);
            assert_eq!(verdict, want, "{} fields", headers.len());
        }
        let target = format!("/{}", "x".repeat(1024));
        assert_eq!(Sample::new("GET", &target, &[]).verdict(&*limit), "too-many-headers");
    }

    #[test]
    fn the_largest_field_is_named() {
        let cookie = "c=".to_owned() + &"x".repeat(40_000);
        let sample = Sample::new("GET", "/", &[("accept", "*/*"), ("cookie", &cookie)]);
        let denial = sample.denial(&*build(&ENTRY, ""));
        assert_eq!(
            denial.detail,
            "a target and header fields of at most 32KiB are accepted; these have 40026B"
        );
        assert_eq!(denial.errors[0].at, "header:cookie");
        assert_eq!(denial.errors[0].detail, "the largest field: 40012B");
    }

    #[test]
    fn limits_that_refuse_everything_are_refused() {
        for (lines, words) in [
            ("count_max = 0", "count_max: expected at least 1"),
            ("bytes_max = \"100B\"", "bytes_max: expected at least 1KiB, not 100B"),
        ] {
            let said = fault(&ENTRY, lines);
            assert!(said.starts_with(words), "{said}");
        }
    }
}
