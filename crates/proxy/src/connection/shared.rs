//! What the layers of one connection tell each other.
//!
//! The socket, hyper, the exchanges and the watchdog of a connection run on one thread, but
//! hyper wants an upgraded socket to be `Send`, so the cells are atomics. All of them are
//! relaxed: nobody else writes.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use super::guard::Refusal;
use crate::clock::Clock;

/// Nanoseconds on the worker's clock; 0 means "not".
type Since = AtomicU64;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// The connection has no request and no part of one since then.
    idle_since: Since,
    /// The first byte of an unfinished head came then.
    head_since: Since,
    /// The client has not taken a byte of the response since then.
    blocked_since: Since,
    /// The last answer was sent then, and what the client still sends is thrown away.
    linger_since: Since,
    in_flight: AtomicU32,
    /// Heads that reached the service function.
    served: AtomicU64,
    /// Upgrade decided: 0 no, 1 keep HTTP, 2 tunnel.
    decision: AtomicU8,
    /// Set by the watchdog: the head took too long.
    head_expired: AtomicBool,
    // Touched on refusals, upgrades and heads that come in several reads, never by an ordinary
    // request.
    rare: Mutex<Rare>,
}

#[derive(Debug, Default)]
struct Rare {
    /// The head with this number is the guard's stand-in for a refused one.
    refusal: Option<(u64, Refusal)>,
    reader: Option<Waker>,
}

impl Shared {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            idle_since: AtomicU64::new(clock.now().as_nanos().max(1)),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            linger_since: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            served: AtomicU64::new(0),
            decision: AtomicU8::new(0),
            head_expired: AtomicBool::new(false),
            rare: Mutex::default(),
        }
    }

    fn rare(&self) -> std::sync::MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request reached the service. Returns the guard's refusal where this is its stand-in.
    pub(crate) fn begin(&self) -> Option<Refusal> {
        self.in_flight.fetch_add(1, Relaxed);
        self.idle_since.store(0, Relaxed);
        let number = self.served.fetch_add(1, Relaxed) + 1;
        // The lock is taken for the last request of a refused connection only.
        if self.head_since.load(Relaxed) != REFUSED {
            return None;
        }
        self.rare().refusal.and_then(|(head, refusal)| (head == number).then_some(refusal))
    }

    /// A response has left or was given up.
    pub(crate) fn end(&self) {
        if self.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.idle_since.store(self.clock.now().as_nanos().max(1), Relaxed);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.load(Relaxed) == 0
    }

    pub(crate) fn head_began(&self) {
        if self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.clock.now().as_nanos().max(1), Relaxed);
        }
    }

    pub(crate) fn head_ended(&self) {
        if self.head_since.load(Relaxed) != 0 {
            self.head_since.store(0, Relaxed);
        }
    }

    /// The head with the number `head` is a stand-in for a refused one.
    pub(crate) fn refuse(&self, head: u64, refusal: Refusal) {
        self.rare().refusal = Some((head, refusal));
        self.head_since.store(REFUSED, Relaxed);
    }

    pub(crate) fn expire_head(&self) {
        self.head_expired.store(true, Relaxed);
        self.wake_reader();
    }

    pub(crate) fn head_expired(&self) -> bool {
        self.head_expired.load(Relaxed)
    }

    /// Nanoseconds since which a head is unfinished.
    pub(crate) fn head_since(&self) -> Option<u64> {
        Some(self.head_since.load(Relaxed)).filter(|since| !matches!(*since, 0 | REFUSED))
    }

    pub(crate) fn idle_since(&self) -> Option<u64> {
        Some(self.idle_since.load(Relaxed)).filter(|since| *since != 0)
    }

    pub(crate) fn blocked_since(&self) -> Option<u64> {
        Some(self.blocked_since.load(Relaxed)).filter(|since| *since != 0)
    }

    pub(crate) fn linger_began(&self) {
        if self.linger_since.load(Relaxed) == 0 {
            self.linger_since.store(self.clock.now().as_nanos().max(1), Relaxed);
        }
    }

    pub(crate) fn linger_since(&self) -> Option<u64> {
        Some(self.linger_since.load(Relaxed)).filter(|since| *since != 0)
    }

    pub(crate) fn wrote(&self, blocked: bool) {
        let since = self.blocked_since.load(Relaxed);
        if blocked && since == 0 {
            self.blocked_since.store(self.clock.now().as_nanos().max(1), Relaxed);
        } else if !blocked && since != 0 {
            self.blocked_since.store(0, Relaxed);
        }
    }

    /// Says what the bytes behind a request for an upgrade are.
    pub(crate) fn decide_upgrade(&self, tunnel: bool) {
        self.decision.store(if tunnel { 2 } else { 1 }, Relaxed);
        self.wake_reader();
    }

    pub(crate) fn take_decision(&self) -> Option<bool> {
        match self.decision.swap(0, Relaxed) {
            0 => None,
            decision => Some(decision == 2),
        }
    }

    /// Whoever waits to read is woken by the next decision or expiry.
    pub(crate) fn wake_me_to_read(&self, waker: &Waker) {
        self.rare().reader = Some(waker.clone());
    }

    fn wake_reader(&self) {
        if let Some(waker) = self.rare().reader.take() {
            waker.wake();
        }
    }
}

/// A value of `head_since` that no clock reaches: the head was refused.
const REFUSED: u64 = u64::MAX;
