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
    ..Entry::PLAIN
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
        // `"client";r=12;t=3`, in pieces: `write!` takes four times as long.
        let mut digits = (itoa::Buffer::new(), itoa::Buffer::new());
        for piece in [
            "\"",
            self.limit.per.as_str(),
            "\";r=",
            digits.0.format(remaining),
            ";t=",
            digits.1.format(seconds),
        ] {
            text.push_str(piece);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Sample, build, edits, fault};
    use crate::record::RouteId;

    fn get() -> Sample {
        Sample::new("GET", "/", &[])
    }

    fn limit(per: &str, rate: &str, burst: u32) -> String {
        format!("{{ per = \"{per}\", rate = \"{rate}\", burst = {burst} }}")
    }

    fn limits(limits: &[String]) -> String {
        format!("limits = [{}]", limits.join(", "))
    }

    #[test]
    fn a_burst_passes_and_the_next_request_waits() {
        let rate_limit = build(&ENTRY, &limits(&[limit("client", "60/min", 3)]));
        for (millis, want) in [
            (0, "allow"),
            (0, "allow"),
            (0, "allow"),
            (0, "rate-limited"),
            (999, "rate-limited"),
            (1000, "allow"),
            (1000, "rate-limited"),
            (60_000, "allow"),
            (60_000, "allow"),
            (60_000, "allow"),
            (60_000, "rate-limited"),
        ] {
            let mut sample = get();
            sample.now = sample.now.after(Duration::from_millis(millis));
            assert_eq!(sample.verdict(&*rate_limit), want, "{millis} ms");
        }
    }

    #[test]
    fn each_limit_counts_by_its_own_key() {
        let on_route = |route| {
            let mut sample = get();
            sample.route = RouteId(route);
            sample
        };
        for (per, first, same, other) in [
            ("client", get().with_ip("203.0.113.1"), get().with_ip("203.0.113.1"), get()),
            ("tenant", get().with_tenant("a"), get().with_tenant("a"), get().with_tenant("b")),
            ("tenant", get(), get().with_ip("203.0.113.1"), get().with_tenant("a")),
            ("route", on_route(1), on_route(1).with_ip("203.0.113.1"), on_route(2)),
            ("ip", get(), get().with_tenant("a"), get().with_ip("203.0.113.1")),
            (
                "ip",
                get().with_ip("2001:db8::1"),
                get().with_ip("2001:db8::ffff:1"),
                get().with_ip("2001:db8:0:1::1"),
            ),
        ] {
            let rate_limit = build(&ENTRY, &limits(&[limit(per, "1/min", 1)]));
            assert_eq!(first.verdict(&*rate_limit), "allow", "{per}");
            assert_eq!(same.verdict(&*rate_limit), "rate-limited", "{per}");
            assert_eq!(other.verdict(&*rate_limit), "allow", "{per}");
        }
    }

    #[test]
    fn an_address_is_counted_however_many_identities_it_makes_up() {
        let rate_limit =
            build(&ENTRY, &limits(&[limit("client", "1/min", 1), limit("ip", "1/min", 2)]));
        let verdicts: Vec<_> = (0..3)
            .map(|token| {
                let mut sample = get();
                sample.client.key = ClientKey::Bearer(token);
                sample.verdict(&*rate_limit)
            })
            .collect();
        assert_eq!(verdicts, ["allow", "allow", "rate-limited"]);
    }

    #[test]
    fn the_first_limit_exceeded_denies_and_later_ones_are_not_charged() {
        let rate_limit =
            build(&ENTRY, &limits(&[limit("client", "1/min", 1), limit("tenant", "1/min", 2)]));
        let from = |ip| get().with_tenant("a").with_ip(ip);
        assert_eq!(from("203.0.113.1").verdict(&*rate_limit), "allow");
        assert_eq!(from("203.0.113.1").verdict(&*rate_limit), "rate-limited");
        assert_eq!(from("203.0.113.2").verdict(&*rate_limit), "allow");
        let denial = from("203.0.113.3").denial(&*rate_limit);
        assert_eq!(denial.detail, "1/min with a burst of 2 are allowed per tenant");
        assert_eq!(denial.retry_after_secs(), Some(60));
    }

    #[test]
    fn the_client_is_told_of_the_limit_that_has_the_least_left() {
        let rate_limit =
            build(&ENTRY, &limits(&[limit("client", "60/min", 5), limit("ip", "120/min", 2)]));
        for want in [
            ["ratelimit: \"ip\";r=1;t=1", "ratelimit-policy: \"ip\";q=120;w=60"],
            ["ratelimit: \"ip\";r=0;t=1", "ratelimit-policy: \"ip\";q=120;w=60"],
            ["ratelimit: \"ip\";r=0;t=1", "ratelimit-policy: \"ip\";q=120;w=60"],
        ] {
            let (_, effects) = get().check(&*rate_limit);
            assert_eq!(edits(&effects), want);
        }
    }

    #[test]
    fn no_limits_say_nothing() {
        let (verdict, effects) = get().check(&*build(&ENTRY, "limits = []"));
        assert_eq!((verdict.as_str(), effects.headers.len()), ("n/a", 0));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        let nine: Vec<_> = (0..9).map(|_| limit("ip", "1/s", 1)).collect();
        for (lines, words) in [
            (limits(&[limit("client", "1/s", 0)]), "limits: burst is at least 1"),
            (limits(&nine), "limits: at most 8 limits a rule"),
            ("keys = 0".to_owned(), "keys: expected 1 to 4194304"),
            (limits(&[limit("client", "0/s", 1)]), "expected a rate"),
            (limits(&[limit("user", "1/s", 1)]), "unknown variant `user`"),
            (limits(&["{ per = \"ip\", rate = \"1/s\" }".to_owned()]), "missing field `burst`"),
        ] {
            let said = fault(&ENTRY, &lines);
            assert!(said.contains(words), "{said}");
        }
    }
}
