//! Bounds how many requests run at once, in all and for each tenant, and sheds the rest.
//!
//! 1. A request counts from its check until its response has been sent. A WebSocket or an event
//!    stream counts for as long as it is open.
//! 2. A tenant may have `tenant_max` requests running, so that one cannot starve the others; all
//!    together may have `service_max`. The tenant's own limit is judged first: it is the one that
//!    the caller can do something about.
//! 3. A request that names no tenant counts under its client, as if each client were a tenant.
//! 4. A request over a limit takes a place all the same: in `warn` it goes on and really runs. Where
//!    it is denied, the place is given back at once with its permit.
//! 5. Counts are exact: at no instant do more requests that were told "allow" run than a limit
//!    says. Denied ones that are about to give their place back may shed a newcomer early.
//! 6. At most `tenants` tenants are counted apart. A place is reused only once its count is 0; a
//!    tenant that finds none shares one overflow counter with others like it, under the same limit
//!    (beside what it may still have running in a place of its own).

use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::mode::ModeSetting;
use crate::problem::{Code, Denial};
use crate::protection::{Effects, Outcome, Permit, Protection, Release, Request};
use crate::quantity::Period;
use crate::registry::{BuildContext, BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "concurrency_limit",
    summary: "Bounds how many requests run at once, in all and for each tenant.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a service with many open streams may rightly run more than the limit",
    codes: &[Code::OverCapacity, Code::TenantOverCapacity],
    mode: |protect| protect.concurrency_limit.mode,
    settings: |protect| settings_of(&protect.concurrency_limit),
    build: |protect, context| {
        Ok(Arc::new(ConcurrencyLimit::build(&protect.concurrency_limit, context)?))
    },
    ..Entry::PLAIN
};

/// `[protect.concurrency_limit]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// Requests of everyone at once. By Little's law 1024 that take 100 ms each are 10 000 a
    /// second: a small service has long been in trouble by then.
    pub service_max: u64,
    /// Requests of one tenant at once: a quarter of the service, so that four tenants have to
    /// conspire, and forty times what a browser opens.
    pub tenant_max: u64,
    /// What a shed client is asked to wait. A second is many requests' time, and short enough that
    /// nobody gives up.
    pub retry_after: Period,
    /// Tenants counted apart at the same time, 8 bytes each.
    pub tenants: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: ENTRY.default_mode,
            service_max: 1024,
            tenant_max: 256,
            retry_after: Period::secs(1),
            tenants: 4096,
        }
    }
}

/// More than any gateway has sockets for; keeps a count within its bits.
const LIMIT_MAX: u64 = 1 << 20;

/// 8 MiB of counters.
const TENANTS_MAX: usize = 1 << 20;

struct ConcurrencyLimit {
    service_max: u64,
    tenant_max: u64,
    retry_after: Period,
    running: Arc<Running>,
}

impl ConcurrencyLimit {
    fn build(config: &Config, context: &BuildContext<'_>) -> Result<Self, BuildError> {
        for (key, value) in [("service_max", config.service_max), ("tenant_max", config.tenant_max)]
        {
            if !(1..=LIMIT_MAX).contains(&value) {
                return Err(BuildError { key, message: format!("expected 1 to {LIMIT_MAX}") });
            }
        }
        if !(1..=TENANTS_MAX).contains(&config.tenants) {
            let message = format!("expected 1 to {TENANTS_MAX}");
            return Err(BuildError { key: "tenants", message });
        }
        let key = context.key.derive_16("concurrency_limit");
        Ok(Self {
            service_max: config.service_max,
            tenant_max: config.tenant_max,
            retry_after: config.retry_after,
            running: Arc::new(Running::new(config.tenants, &key)),
        })
    }
}

impl Protection for ConcurrencyLimit {
    fn check(&self, request: &Request<'_>, effects: &mut Effects) -> Outcome {
        let Taken { slot, tenant, service } = if request.client.tenant.is_empty() {
            self.running.take(&request.client.key.to_bytes())
        } else {
            self.running.take(request.client.tenant.as_bytes())
        };
        let owner: Arc<dyn Release> = Arc::<Running>::clone(&self.running);
        effects.permit = Some(Permit::new(owner, slot));
        if tenant > self.tenant_max {
            Outcome::Deny(self.tenant_denial(tenant, slot))
        } else if service > self.service_max {
            Outcome::Deny(self.service_denial(service))
        } else {
            Outcome::Allow
        }
    }
}

impl ConcurrencyLimit {
    fn tenant_denial(&self, running: u64, slot: u32) -> Denial {
        let max = self.tenant_max;
        let shared = if slot == OVERFLOW { "; counted with others in the overflow" } else { "" };
        Denial::new(
            Code::TenantOverCapacity,
            format!("at most {max} requests of one tenant are served at once"),
        )
        .internal(format!("{running} requests of the tenant at once, {max} allowed{shared}"))
        .retry_after(self.retry_after.as_duration())
    }

    /// How much the service can take is not for the client to know.
    fn service_denial(&self, running: u64) -> Denial {
        Denial::new(Code::OverCapacity, "too many requests are being served at the moment")
            .internal(format!("{running} requests at once, {} allowed", self.service_max))
            .retry_after(self.retry_after.as_duration())
    }
}

/// The requests that run at this instant.
///
/// A place is one word: 40 bits of the tenant's keyed hash, 24 bits of count, so that a count is
/// never read as another tenant's. A place with count 0 is free; its tag stays until another
/// tenant needs it. Two threads that bring in the same tenant at the same instant may give it two
/// places of its set, and then it has both: a tenant's count is the sum over its places.
struct Running {
    service: AtomicU64,
    overflow: AtomicU64,
    sets: Box<[Set]>,
    hasher: SipHasher13,
}

const WAYS: usize = 8;

/// One cache line.
#[repr(align(64))]
#[derive(Default)]
struct Set {
    places: [AtomicU64; WAYS],
}

/// The slot of a permit that is counted in [`Running::overflow`]; all others are places.
const OVERFLOW: u32 = u32::MAX;

const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// A place that was taken, and the counts with it.
struct Taken {
    slot: u32,
    tenant: u64,
    service: u64,
}

impl Running {
    fn new(tenants: usize, key: &[u8; 16]) -> Self {
        let sets = tenants.div_ceil(WAYS).next_power_of_two();
        Self {
            service: AtomicU64::new(0),
            overflow: AtomicU64::new(0),
            sets: (0..sets).map(|_| Set::default()).collect(),
            hasher: SipHasher13::new_with_key(key),
        }
    }

    /// Counts one request of `tenant`. Each caller adds itself first and reads the counts after,
    /// in one order that all threads agree on (hence `SeqCst`): of the requests that are told to
    /// go on, the last to add itself has seen all the others.
    fn take(&self, tenant: &[u8]) -> Taken {
        let mut hasher = self.hasher;
        hasher.write(tenant);
        let hash = hasher.finish();
        let set = (hash as usize) & (self.sets.len() - 1);
        let tag = hash & !COUNT;
        let service = self.service.fetch_add(1, SeqCst) + 1;
        match self.sets[set].take(tag) {
            Some(way) => Taken {
                slot: u32::try_from(set * WAYS + way).expect("places are far fewer than 2^32"),
                tenant: self.sets[set].count(tag),
                service,
            },
            None => {
                let tenant = self.overflow.fetch_add(1, SeqCst) + 1;
                Taken { slot: OVERFLOW, tenant, service }
            }
        }
    }
}

impl Set {
    /// Adds one to a place of `tag`, or to a free one that becomes it. A failed exchange means that
    /// another thread got on, so this ends.
    fn take(&self, tag: u64) -> Option<usize> {
        loop {
            let mut own = None;
            let mut free = None;
            for (way, place) in self.places.iter().enumerate() {
                let word = place.load(SeqCst);
                if word & !COUNT == tag {
                    own = Some((way, word, word + 1));
                    break;
                }
                if word & COUNT == 0 && free.is_none() {
                    free = Some((way, word, tag | 1));
                }
            }
            let (way, seen, next) = own.or(free)?;
            if self.places[way].compare_exchange(seen, next, SeqCst, SeqCst).is_ok() {
                return Some(way);
            }
        }
    }

    fn count(&self, tag: u64) -> u64 {
        let words = self.places.iter().map(|place| place.load(SeqCst));
        words.filter(|word| word & !COUNT == tag).map(|word| word & COUNT).sum()
    }
}

impl Release for Running {
    fn release(&self, slot: u32) {
        let place = match slot {
            OVERFLOW => &self.overflow,
            slot => &self.sets[slot as usize / WAYS].places[slot as usize % WAYS],
        };
        // A place keeps its tag while its count is above 0, and this permit is part of that count.
        let before = place.fetch_sub(1, SeqCst);
        debug_assert!(before & COUNT > 0, "a permit was given back twice");
        self.service.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use proptest::prelude::*;

    use super::*;
    use crate::protections::testing::{Sample, build, fault};

    fn of(tenant: &str) -> Sample {
        Sample::new("GET", "/", &[]).with_tenant(tenant)
    }

    impl Running {
        fn is_idle(&self) -> bool {
            let places = self.sets.iter().flat_map(|set| &set.places);
            places.map(|place| place.load(SeqCst) & COUNT).sum::<u64>() == 0
                && self.overflow.load(SeqCst) == 0
                && self.service.load(SeqCst) == 0
        }
    }

    #[test]
    fn one_tenant_leaves_room_for_the_others() {
        let limit = build(&ENTRY, "service_max = 4\ntenant_max = 2");
        let mut held = Vec::new();
        for (tenant, want) in [
            ("a", "allow"),
            ("a", "allow"),
            ("a", "tenant-over-capacity"),
            ("b", "allow"),
            ("", "allow"),
            ("c", "over-capacity"),
        ] {
            let (verdict, effects) = of(tenant).check(&*limit);
            assert_eq!(verdict, want, "{tenant}");
            // As the chain does where it enforces: a denied request gives its place back.
            held.extend(effects.permit.filter(|_| verdict == "allow"));
        }
        held.remove(0);
        assert_eq!(of("a").verdict(&*limit), "allow");
        assert_eq!(of("c").verdict(&*limit), "allow");
    }

    #[test]
    fn in_warn_a_request_over_the_limit_runs_and_counts() {
        let limit = build(&ENTRY, "tenant_max = 1");
        let (first, first_effects) = of("a").check(&*limit);
        let (second, second_effects) = of("a").check(&*limit);
        assert_eq!((first.as_str(), second.as_str()), ("allow", "tenant-over-capacity"));
        drop(first_effects);
        assert_eq!(of("a").verdict(&*limit), "tenant-over-capacity");
        drop(second_effects);
        assert_eq!(of("a").verdict(&*limit), "allow");
    }

    #[test]
    fn without_a_tenant_each_client_counts_apart() {
        let limit = build(&ENTRY, "tenant_max = 1");
        let from = |ip| Sample::new("GET", "/", &[]).with_ip(ip);
        let (_, _held) = from("203.0.113.1").check(&*limit);
        assert_eq!(from("203.0.113.1").verdict(&*limit), "tenant-over-capacity");
        assert_eq!(from("203.0.113.2").verdict(&*limit), "allow");
    }

    #[test]
    fn tenants_without_a_place_share_the_overflow() {
        let running = Running::new(WAYS, &[3; 16]);
        let taken: Vec<_> = (0..WAYS as u32 + 2).map(|n| running.take(&n.to_be_bytes())).collect();
        let (places, overflow) = taken.split_at(WAYS);
        assert!(places.iter().all(|taken| taken.slot != OVERFLOW && taken.tenant == 1));
        let counts: Vec<_> = overflow.iter().map(|taken| (taken.slot, taken.tenant)).collect();
        assert_eq!(counts, [(OVERFLOW, 1), (OVERFLOW, 2)]);

        running.release(places[5].slot);
        assert_eq!(running.take(b"newcomer").slot, places[5].slot, "a free place is reused");
        for taken in &taken {
            running.release(taken.slot);
        }
        assert!(running.is_idle());
    }

    #[test]
    fn the_client_is_told_when_to_come_back_and_not_how_much_the_service_takes() {
        let limit = build(&ENTRY, "service_max = 1\nretry_after = \"1500ms\"");
        let (_, _held) = of("a").check(&*limit);
        let denial = of("b").denial(&*limit);
        assert_eq!(denial.detail, "too many requests are being served at the moment");
        assert_eq!(denial.internal, "2 requests at once, 1 allowed");
        assert_eq!(denial.retry_after_secs(), Some(2));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for (line, want) in [
            ("service_max = 0", "service_max: expected 1 to 1048576"),
            ("tenant_max = 2000000", "tenant_max: expected 1 to 1048576"),
            ("tenants = 0", "tenants: expected 1 to 1048576"),
        ] {
            assert_eq!(fault(&ENTRY, line), want);
        }
    }

    #[test]
    fn threads_never_exceed_a_limit_and_every_place_comes_back() {
        const THREADS: usize = 4;
        const TENANTS: usize = 12;
        const TENANT_MAX: u64 = 2;
        // One set for more tenants than it has places: places change hands all the time.
        let running = Running::new(WAYS, &[3; 16]);
        let allowed: [AtomicU64; TENANTS] = Default::default();
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (running, allowed, start) = (&running, &allowed, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut dice = thread as u64 + 1;
                    let mut held: Vec<(usize, u32)> = Vec::new();
                    for _ in 0..200_000 {
                        dice ^= dice << 13;
                        dice ^= dice >> 7;
                        dice ^= dice << 17;
                        let tenant = (dice % TENANTS as u64) as usize;
                        if held.len() > 4 || dice & (1 << 40) == 0 {
                            if let Some((tenant, slot)) = held.pop() {
                                allowed[tenant].fetch_sub(1, SeqCst);
                                running.release(slot);
                            }
                            continue;
                        }
                        let taken = running.take(&tenant.to_be_bytes());
                        // The overflow is one limit for many, so only places are exact by tenant.
                        if taken.slot == OVERFLOW || taken.tenant > TENANT_MAX {
                            running.release(taken.slot);
                        } else {
                            let now = allowed[tenant].fetch_add(1, SeqCst) + 1;
                            assert!(now <= TENANT_MAX, "{now} requests of tenant {tenant}");
                            held.push((tenant, taken.slot));
                        }
                    }
                    for (tenant, slot) in held {
                        allowed[tenant].fetch_sub(1, SeqCst);
                        running.release(slot);
                    }
                });
            }
        });
        assert!(running.is_idle());
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_plain_map(
            steps in proptest::collection::vec((0u8..6, any::<bool>()), 1..200),
        ) {
            // Six tenants fit into eight places, so nothing overflows.
            let running = Running::new(WAYS, &[3; 16]);
            let mut held: Vec<(u8, u32)> = Vec::new();
            for (tenant, enter) in steps {
                if enter {
                    let taken = running.take(&[tenant]);
                    held.push((tenant, taken.slot));
                    let own = held.iter().filter(|(other, _)| *other == tenant).count();
                    prop_assert_eq!(taken.tenant, own as u64);
                    prop_assert_eq!(taken.service, held.len() as u64);
                } else if let Some(index) = held.iter().position(|(other, _)| *other == tenant) {
                    running.release(held.swap_remove(index).1);
                }
            }
            for (_, slot) in held {
                running.release(slot);
            }
            prop_assert!(running.is_idle());
        }
    }
}
