//! The audit log beside a gateway that serves whatever its disk does.
//!
//! 1. What the gateway itself does (start, stop, reload) is recorded without waiting: it has
//!    happened, and is written in order as soon as the ledger can. Up to [`HELD_MAX`] entries
//!    wait; what finds no room is counted and logged.
//! 2. A ledger that cannot be opened is tried again every ten seconds; until then readiness says
//!    so, and there is none to commit to, so that what must not happen unaudited does not.

mod entries;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use seaworthy_store::StoreError;
use seaworthy_store::ledger::{Change, CommitError, Entry, Ledger, LedgerHealth, LedgerOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub(super) use self::entries::{ConfigText, reloaded, started, stopped};

/// Entries that wait for a ledger that cannot be written.
const HELD_MAX: usize = 256;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Records what the gateway does. A cheap handle.
#[derive(Clone)]
pub(super) struct Auditor {
    ask: mpsc::Sender<Ask>,
    state: watch::Receiver<State>,
}

enum Ask {
    Record(Box<Entry>),
    Stop(oneshot::Sender<()>),
}

/// The ledger, or why there is none.
#[derive(Clone)]
enum State {
    Open(Ledger),
    Failed(Arc<str>),
}

impl Auditor {
    /// Opens the ledger in `dir`, or goes on without one and tries again.
    pub(super) async fn start(dir: PathBuf) -> Self {
        let (publish, state) = watch::channel(State::Failed("not opened yet".into()));
        let (ask, asked) = mpsc::channel(HELD_MAX);
        let mut task = Task { dir, publish, held: VecDeque::new(), retry: Retry::default() };
        task.open().await;
        tokio::spawn(task.run(asked));
        Self { ask, state }
    }

    /// Has `entry` written as soon as that can be.
    pub(super) fn record(&self, entry: Entry) {
        let action = entry.action;
        if self.ask.try_send(Ask::Record(Box::new(entry))).is_err() {
            tracing::error!(%action, "an entry of the audit log found no room and is lost");
        }
    }

    /// What modes and receipts are committed to; `None` while it cannot be opened.
    pub(super) fn ledger(&self) -> Option<Ledger> {
        match &*self.state.borrow() {
            State::Open(ledger) => Some(ledger.clone()),
            State::Failed(_) => None,
        }
    }

    /// How the ledger is doing; not writable where there is none.
    pub(super) fn health(&self) -> LedgerHealth {
        match &*self.state.borrow() {
            State::Open(ledger) => ledger.health(),
            State::Failed(error) => {
                LedgerHealth { last_error: Some(error.to_string()), ..LedgerHealth::default() }
            }
        }
    }

    /// Writes what is held, if that can be, and gives up the file.
    pub(super) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.ask.send(Ask::Stop(done)).await.is_err() || stopped.await.is_err() {
            tracing::error!("the audit log was closed early");
        }
    }
}

struct Task {
    dir: PathBuf,
    publish: watch::Sender<State>,
    /// Not written yet, oldest first.
    held: VecDeque<Entry>,
    retry: Retry,
}

/// When to try again, where something failed.
#[derive(Default)]
struct Retry {
    at: Option<Instant>,
    wait: Duration,
}

impl Retry {
    fn failed(&mut self) {
        self.wait = (self.wait * 2).clamp(RETRY_FIRST, RETRY_MAX);
        self.at = Some(Instant::now() + self.wait);
    }
}

impl Task {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        loop {
            let retry = async {
                match self.retry.at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ask = asked.recv() => match ask {
                    Some(Ask::Record(entry)) => {
                        self.hold(*entry);
                        if self.retry.at.is_none() {
                            self.write().await;
                        }
                    }
                    Some(Ask::Stop(done)) => {
                        self.write().await;
                        self.close().await;
                        if done.send(()).is_err() {
                            tracing::debug!("nobody waits for the end of the audit log");
                        }
                        return;
                    }
                    None => return self.close().await,
                },
                () = retry => {
                    self.open().await;
                    self.write().await;
                }
            }
        }
    }

    fn hold(&mut self, entry: Entry) {
        if self.held.len() == HELD_MAX {
            let action = entry.action;
            tracing::error!(%action, "an entry of the audit log found no room and is lost");
            return;
        }
        self.held.push_back(entry);
    }

    /// Opens the ledger where it is not.
    async fn open(&mut self) {
        if matches!(*self.publish.borrow(), State::Open(_)) {
            return;
        }
        let dir = self.dir.clone();
        let opening =
            tokio::task::spawn_blocking(move || Ledger::open(&dir, LedgerOptions::default()));
        match opening.await.unwrap_or(Err(StoreError::Closed)) {
            Ok(ledger) => {
                self.retry = Retry::default();
                self.publish.send_replace(State::Open(ledger));
            }
            Err(error) => {
                if self.retry.at.is_none() {
                    tracing::error!(%error, "the ledger cannot be opened; traffic goes on unaudited and modes stay");
                }
                self.retry.failed();
                self.publish.send_replace(State::Failed(error.to_string().into()));
            }
        }
    }

    /// Writes what is held, in order, up to what cannot be.
    async fn write(&mut self) {
        let State::Open(ledger) = self.publish.borrow().clone() else { return };
        while let Some(entry) = self.held.front() {
            let committed = match Change::new().audit(entry) {
                Ok(change) => ledger.commit(change).await.map(|_| ()),
                Err(error) => {
                    tracing::error!(action = %entry.action, %error, "an entry of the audit log is out of bounds and is lost");
                    Ok(())
                }
            };
            match committed {
                Ok(()) => {
                    self.retry = Retry::default();
                    self.held.pop_front();
                }
                Err(CommitError::Disk(error)) => {
                    tracing::debug!(%error, "the audit log is tried again");
                    return self.retry.failed();
                }
                Err(error) => {
                    tracing::error!(action = %entry.action, %error, "an entry of the audit log was refused and is lost");
                    self.held.pop_front();
                }
            }
        }
    }

    async fn close(&self) {
        if !self.held.is_empty() {
            let entries = self.held.len();
            tracing::error!(entries, "closed with entries of the audit log unwritten");
        }
        let state = self.publish.borrow().clone();
        if let State::Open(ledger) = state {
            ledger.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use seaworthy_store::ledger::{Action, LedgerReader, Verdict, VerifyOptions, verify};

    use super::*;

    fn actions(dir: &std::path::Path) -> Vec<String> {
        let rows = LedgerReader::open_read_only(dir).unwrap().leaves_from(0).unwrap();
        rows.iter()
            .map(|row| serde_json::from_str::<serde_json::Value>(&row.leaf).unwrap())
            .map(|leaf| leaf["action"].as_str().unwrap().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn what_happened_while_there_was_no_ledger_is_written_once_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        // A file where the folder should be.
        std::fs::write(&data, "").unwrap();
        let auditor = Auditor::start(data.clone()).await;
        let health = auditor.health();
        assert!(!health.writable && health.last_error.unwrap().contains("data"));
        auditor.record(Entry::new("gateway", Action::GatewayStart, "gateway"));
        auditor.record(Entry::new("gateway", Action::ConfigReload, "seaworthy.toml"));

        std::fs::remove_file(&data).unwrap();
        let mut state = auditor.state.clone();
        state.wait_for(|state| matches!(state, State::Open(_))).await.unwrap();
        auditor.record(Entry::new("gateway", Action::GatewayStop, "gateway"));
        auditor.stop().await;
        assert_eq!(
            actions(&data),
            ["key.change", "gateway.start", "config.reload", "gateway.stop"]
        );
        assert!(matches!(verify(&data, &VerifyOptions::default()), Ok(Verdict::Sound(_))));
    }
}
