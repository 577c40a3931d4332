//! What a connection, its exchanges and the watchdog tell each other.

use std::cell::Cell;

use seaworthy_policy::Moment;

use crate::clock::Clock;

/// Nanoseconds on the worker's clock; 0 means "not".
type Since = Cell<u64>;

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
    in_flight: Cell<u32>,
    /// Set by the watchdog: the head took too long.
    head_expired: Cell<bool>,
    /// Set by the watchdog: no further request is wanted.
    winding_up: Cell<bool>,
}

impl Shared {
    pub(crate) fn new(clock: Clock) -> Self {
        let shared = Self {
            clock,
            idle_since: Cell::new(0),
            head_since: Cell::new(0),
            blocked_since: Cell::new(0),
            linger_since: Cell::new(0),
            in_flight: Cell::new(0),
            head_expired: Cell::new(false),
            winding_up: Cell::new(false),
        };
        shared.begin(&shared.idle_since);
        shared
    }

    /// Starts counting, unless it has begun.
    fn begin(&self, since: &Since) {
        if since.get() == 0 {
            since.set(self.clock.now().as_nanos().max(1));
        }
    }

    /// A request has come.
    pub(crate) fn request_began(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.idle_since.set(0);
    }

    /// Its response has left or was given up.
    pub(crate) fn request_ended(&self, now: Moment) {
        self.in_flight.set(self.in_flight.get() - 1);
        if self.in_flight.get() == 0 {
            self.idle_since.set(now.as_nanos().max(1));
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.get() == 0
    }

    pub(crate) fn head_began(&self) {
        self.begin(&self.head_since);
    }

    pub(crate) fn head_ended(&self) {
        self.head_since.set(0);
    }

    pub(crate) fn expire_head(&self) {
        self.head_expired.set(true);
    }

    pub(crate) fn head_expired(&self) -> bool {
        self.head_expired.get()
    }

    pub(crate) fn wind_up(&self) {
        self.winding_up.set(true);
    }

    pub(crate) fn is_winding_up(&self) -> bool {
        self.winding_up.get()
    }

    pub(crate) fn linger_began(&self) {
        self.begin(&self.linger_since);
    }

    /// Bytes were written, or the client did not take them.
    pub(crate) fn wrote(&self, blocked: bool) {
        if blocked {
            self.begin(&self.blocked_since);
        } else {
            self.blocked_since.set(0);
        }
    }

    pub(crate) fn head_since(&self) -> Option<u64> {
        set(&self.head_since)
    }

    pub(crate) fn idle_since(&self) -> Option<u64> {
        set(&self.idle_since)
    }

    pub(crate) fn blocked_since(&self) -> Option<u64> {
        set(&self.blocked_since)
    }

    pub(crate) fn linger_since(&self) -> Option<u64> {
        set(&self.linger_since)
    }
}

fn set(since: &Since) -> Option<u64> {
    Some(since.get()).filter(|since| *since != 0)
}
