//! Limits how fast a client, a tenant, a route or an address may send requests.
//!
//! 1. Each limit is a GCRA bucket per key: `burst` requests pass at once, `rate` in the long run.
//! 2. Limits are charged in the order in which they are listed. The first that is exceeded
//!    denies the request; those before it stay charged, those after it are not touched.
//! 3. A denied request costs nothing, so a client that goes on asking is let in as soon as
//!    `Retry-After` has passed. In `warn` the same holds: what is judged is what would happen.
//! 4. `per = "client"` counts by identity, and identities are claims: list an `ip` limit too.
//!    IPv6 addresses count by /64.
//! 5. A request that names no tenant is counted in one bucket for all such requests.
//! 6. At most `keys` keys a limit are remembered. A flood of new keys makes old ones start
//!    afresh, never the reverse.
//! 7. `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) tell the client
//!    where it stands with the limit that has the least left.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayString;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::gcra::{Charge, GcraTable, Quota};
use crate::client::{ClientKey, prefix};
use crate::mode::ModeSetting;
use crate::problem::{Code, Denial};
use crate::protection::{Apply, Conflict, Edit, Effects, Outcome, Protection, Request};
use crate::quantity::Rate;
use crate::registry::{BuildContext, BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "rate_limit",
    summary: "Limits how fast a client, a tenant, a route or an address may send requests.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a real client may be faster than the limit",
    codes: &[Code::RateLimited],
    mode: |protect| protect.rate_limit.mode,
    settings: |protect| settings_of(&protect.rate_limit),
    build: |protect, context| Ok(Arc::new(RateLimit::build(&protect.rate_limit, context)?)),
};

/// `[protect.rate_limit]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    pub limits: Vec<Limit>,
    /// Keys remembered for each limit, 16 bytes each. 65 536 is 1 MiB.
    pub keys: usize,
}

impl Default for Config {
    fn default() -> Self {
        let limit = |per, count, burst| Limit { per, rate: Rate::per_minute(count), burst };
        Self {
            mode: ENTRY.default_mode,
            limits: vec![
                // Well above a person with a busy page, well below a loop gone wrong.
                limit(Per::Client, 300, 100),
                limit(Per::Tenant, 5000, 500),
                // Several people share an address; a script that makes up identities does too.
                limit(Per::Ip, 3000, 500),
            ],
            keys: 65_536,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    pub per: Per,
    pub rate: Rate,
    /// Requests that may come at once; at least 1.
    pub burst: u32,
}

/// What a limit counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    Client,
    Tenant,
    Route,
    Ip,
}

impl Per {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Tenant => "tenant",
            Self::Route => "route",
            Self::Ip => "ip",
        }
    }
}

/// Limits of one rule.
const LIMITS_MAX: usize = 8;

/// Keys of one limit: 64 MiB of table.
const KEYS_MAX: usize = 1 << 22;

struct RateLimit {
    limits: Vec<Compiled>,
}

struct Compiled {
    limit: Limit,
    quota: Quota,
    table: GcraTable,
    /// `"client";q=300;w=60`
    policy: HeaderValue,
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl RateLimit {
    fn build(config: &Config, context: &BuildContext<'_>) -> Result<Self, BuildError> {
        let fault = |key, message: String| Err(BuildError { key, message });
        if config.limits.len() > LIMITS_MAX {
            return fault("limits", format!("at most {LIMITS_MAX} limits a rule"));
        }
        if config.limits.iter().any(|limit| limit.burst == 0) {
            return fault("limits", "burst is at least 1: a burst of 0 lets nothing in".to_owned());
        }
        if !(1..=KEYS_MAX).contains(&config.keys) {
            return fault("keys", format!("expected 1 to {KEYS_MAX}"));
        }
        let key = context.key.derive_16("rate_limit");
        let limits = config
            .limits
            .iter()
            .map(|limit| {
                let (count, window) = (limit.rate.count(), limit.rate.window());
                let policy = format!("{:?};q={count};w={}", limit.per.as_str(), window.as_secs());
                Compiled {
                    limit: *limit,
                    quota: Quota::new(count, window, limit.burst),
                    table: GcraTable::new(config.keys, &key),
                    policy: HeaderValue::from_str(&policy).expect("quoted name and numbers"),
                }
            })
            .collect();
        Ok(Self { limits })
    }
}

impl Protection for RateLimit {
    fn check(&self, request: &Request<'_>, effects: &mut Effects) -> Outcome {
        let mut tightest: Option<(&Compiled, u64, Duration)> = None;
        for compiled in &self.limits {
            let charge = match compiled.limit.per {
                Per::Client => compiled.charge(&request.client.key.to_bytes(), request),
                Per::Tenant => compiled.charge(request.client.tenant.as_bytes(), request),
                Per::Route => compiled.charge(&request.route.0.to_be_bytes(), request),
                Per::Ip => {
                    let key = ClientKey::Ip(prefix(request.client.ip));
                    compiled.charge(&key.to_bytes(), request)
                }
            };
            match charge {
                Charge::Conforming { remaining, full_in } => {
                    if tightest.is_none_or(|(_, least, _)| remaining < least) {
                        tightest = Some((compiled, remaining, full_in));
                    }
                }
                Charge::Exceeding { wait } => {
                    compiled.tell(0, wait, effects);
                    return Outcome::Deny(compiled.denial(wait));
                }
            }
        }
        let Some((compiled, remaining, full_in)) = tightest else {
            return Outcome::NotApplicable;
        };
        compiled.tell(remaining, full_in, effects);
        Outcome::Allow
    }
}

impl Compiled {
    fn charge(&self, key: &[u8], request: &Request<'_>) -> Charge {
        self.table.charge(key, self.quota, request.now)
    }

    fn tell(&self, remaining: u64, reset: Duration, effects: &mut Effects) {
        let mut text = ArrayString::<64>::new();
        let seconds = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
        let per = self.limit.per.as_str();
        write!(text, "{per:?};r={remaining};t={seconds}").expect("a short name and two numbers");
        let value = HeaderValue::from_str(&text).expect("quoted name and numbers");
        for (name, value) in [(RATE_LIMIT, value), (RATE_LIMIT_POLICY, self.policy.clone())] {
            let (apply, conflict) = (Apply::Enforced, Conflict::Replace);
            effects.headers.push(Edit { name, value, apply, conflict });
        }
    }

    fn denial(&self, wait: Duration) -> Denial {
        let Limit { per, rate, burst } = self.limit;
        Denial::new(
            Code::RateLimited,
            format!("{rate} with a burst of {burst} are allowed per {}", per.as_str()),
        )
        .retry_after(wait)
    }
}
