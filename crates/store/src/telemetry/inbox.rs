//! The writer's inbox: one batch that what is submitted merges into, and who waits for it.
//!
//! A lock is right here. It is held to merge one batch or to take all of them, never during
//! I/O, and a queue of batches would have to be merged when it is full anyway. Whatever the
//! disk does, [`Inbox::submit`] returns at once and what it keeps is bounded.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::batch::{Batch, Bounds, Overflow};
use crate::error::StoreError;

pub(super) type Answer = oneshot::Sender<Result<(), StoreError>>;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    work: Mutex<Work>,
    arrived: Condvar,
}

/// What the writer is to do next.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) batch: Batch,
    /// Told when everything submitted before is committed, or why it is not.
    pub(super) flushes: Vec<Answer>,
    /// Told when nothing is left that retention would delete.
    pub(super) retentions: Vec<Answer>,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Open,
    /// Nothing more will be submitted: write what there is and end.
    Closing,
    /// The writer has ended.
    Closed,
}

impl Work {
    fn is_waiting(&self) -> bool {
        !self.batch.is_empty()
            || !self.flushes.is_empty()
            || !self.retentions.is_empty()
            || self.state != State::Open
    }
}

impl Inbox {
    /// Returns what there was no room for.
    pub(super) fn submit(&self, batch: Batch) -> Overflow {
        let mut work = self.lock();
        let overflow = work.batch.absorb(batch, Bounds::default());
        drop(work);
        self.arrived.notify_one();
        overflow
    }

    /// Adds what `ask` says; does nothing where no writer would answer.
    pub(super) fn ask(&self, ask: impl FnOnce(&mut Work)) {
        let mut work = self.lock();
        if work.state != State::Closed {
            ask(&mut work);
        }
        drop(work);
        self.arrived.notify_one();
    }

    pub(super) fn close(&self) {
        self.ask(|work| work.state = State::Closing);
    }

    /// Waits until there is something to do or it is `until`; for the writer.
    pub(super) fn take(&self, until: Instant) -> Work {
        let mut work = self.lock();
        while !work.is_waiting() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.arrived.wait_timeout(work, left);
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let state = work.state;
        let taken = std::mem::take(&mut *work);
        work.state = state;
        taken
    }

    /// Whoever waits now, or asks later, finds the answer's sender gone.
    pub(super) fn writer_ended(&self) {
        *self.lock() = Work { state: State::Closed, ..Work::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
