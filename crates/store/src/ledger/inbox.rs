//! What waits for the writer: changes, each with whoever awaits it.
//!
//! A lock is right here: it is held to add one change or to take them, never during I/O. The
//! bound is outside of it, a semaphore of bytes that `Ledger::commit` awaits, so a slow disk makes
//! callers wait and memory does not grow.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Change, CommitError, Committed};

pub(super) type Answer = oneshot::Sender<Result<Committed, CommitError>>;

/// A change on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) change: Change,
    pub(super) answer: Answer,
    /// Given back once it is answered.
    pub(super) room: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: VecDeque<Pending>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Open,
    /// Nothing more comes: write what there is and end.
    Closing,
    /// The writer has ended.
    Closed,
}

/// When a group of changes is taken, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) changes_max: usize,
    /// Wait this long for a change that would share the group's write …
    pub(super) linger: Duration,
    /// … as long as there are fewer than this.
    pub(super) wanted: usize,
}

impl Inbox {
    /// Gives the change back where no writer would take it.
    pub(super) fn push(&self, pending: Pending) -> Result<(), Pending> {
        let mut waiting = self.lock();
        if waiting.state != State::Open {
            return Err(pending);
        }
        waiting.changes.push_back(pending);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        if waiting.state == State::Open {
            waiting.state = State::Closing;
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Waits until there is a change, the inbox is closed, or it is `until`; for the writer.
    pub(super) fn take(&self, until: Option<Instant>, group: Group) -> (Vec<Pending>, State) {
        let mut waiting = self.lock();
        while waiting.changes.is_empty() && waiting.state == State::Open {
            match Self::wait(&self.arrived, waiting, until) {
                Ok(again) => waiting = again,
                Err(late) => {
                    waiting = late;
                    break;
                }
            }
        }
        if !waiting.changes.is_empty() && !group.linger.is_zero() {
            let end = Instant::now() + group.linger;
            while waiting.changes.len() < group.wanted && waiting.state == State::Open {
                match Self::wait(&self.arrived, waiting, Some(end)) {
                    Ok(again) => waiting = again,
                    Err(late) => {
                        waiting = late;
                        break;
                    }
                }
            }
        }
        let count = waiting.changes.len().min(group.changes_max);
        let taken = waiting.changes.drain(..count).collect();
        // What is left is taken before the end.
        let state = if waiting.changes.is_empty() { waiting.state } else { State::Open };
        (taken, state)
    }

    /// `Err` once it is `until`.
    fn wait<'a>(
        arrived: &Condvar,
        waiting: MutexGuard<'a, Waiting>,
        until: Option<Instant>,
    ) -> Result<MutexGuard<'a, Waiting>, MutexGuard<'a, Waiting>> {
        let Some(until) = until else {
            return Ok(arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner));
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(waiting);
        }
        Ok(arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Whoever waits now, or comes later, is told that it is closed.
    pub(super) fn writer_ended(&self) {
        *self.lock() = Waiting { state: State::Closed, ..Waiting::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
