//! The modes of a fleet: what several gateways before one service share through Redis or Valkey.
//!
//! 1. Nothing here is on the path of a request. A task of its own owns the board and the
//!    connection; everybody else reads a [`FleetView`], which is always there.
//! 2. What is believed, in this order: what Redis has said within the last refresh, what was last
//!    known, the snapshot on disk, the config's defaults. Whatever happens to Redis, the last known
//!    modes stand: it can be dead, slow, emptied, or full of what are no modes.
//! 3. Entries are ordered by their epochs ([`ModeBoard`]), here and in Redis: a value is written
//!    only over the one it was compared with. So a late writer never wins, a partition neither
//!    brings `enforce` back nor turns it off, and boards that meet agree.
//! 4. What Redis lacks or has as of earlier is written to it at every refresh, by whoever knows it.
//!    That alone sends what could not be sent, an emergency demotion among it, and mends a Redis
//!    that was emptied or filled with something else. One entry a rule is held for it.
//! 5. Changes are published to those who listen, and everything is read again every `refresh`.
//! 6. Every step has a bound on its time, every answer one on its bytes, and neither waits for the
//!    snapshot's disk.
//! 7. One of a fleet leads. The lease ends by itself where it is not prolonged, here sooner than in
//!    Redis. Two can still believe that they lead, where one was stopped in between; rule 3 settles
//!    what they publish.
//! 8. What was made here and Redis has never had is known by its rule, over a restart as well, for a
//!    demotion by an alert that was superseded unheard is not one that the fleet has let go of.
//! 9. Each change of state is logged once, and is in [`FleetHealth`] for as long as it lasts.

mod address;
mod health;
mod keeper;
mod link;
mod metered;
mod snapshot;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use seaworthy_policy::modes::{BoardError, Cause, ModeBoard, ModeEntry};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use self::address::{RedisUrl, RedisUrlError};
pub use self::health::{Belief, FleetHealth, FleetState};
use self::keeper::{Ask, Keeper};

/// Publications that wait for the task; whoever brings another waits, too.
const ASKS_MAX: usize = 64;

/// Where the modes are shared, and how patiently.
#[derive(Clone)]
pub struct FleetOptions {
    pub url: RedisUrl,
    pub password: Option<String>,
    /// Needed where the URL asks for TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// What the keys of this fleet begin with: `seaworthy:<service>`.
    pub prefix: String,
    /// The file of the snapshot.
    pub snapshot: PathBuf,
    /// How often everything is read.
    pub refresh: Duration,
    /// How long each step may take: connecting, TLS, the greeting, a command.
    pub timeout: Duration,
    /// How long a lease lasts that is not prolonged.
    pub lease: Duration,
}

impl FleetOptions {
    /// Refreshes every 5 s, waits 100 ms for each step, and leads for 10 s.
    pub fn new(url: RedisUrl, prefix: impl Into<String>, snapshot: impl Into<PathBuf>) -> Self {
        Self {
            url,
            password: None,
            tls: None,
            prefix: prefix.into(),
            snapshot: snapshot.into(),
            refresh: Duration::from_secs(5),
            timeout: Duration::from_millis(100),
            lease: Duration::from_secs(10),
        }
    }
}

/// The modes as this gateway knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetView {
    pub board: Arc<ModeBoard>,
    pub belief: Belief,
    /// The rules whose newest entry of this gateway's own no Redis has had: it waits to be sent, or
    /// one of a larger epoch came before it.
    pub untold: Arc<BTreeSet<String>>,
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// Redis has it.
    Taken,
    /// The fleet knows a later one, which is on the board.
    Superseded { by: ModeEntry },
}

/// Why a publication has not reached the fleet. Fits after "failed to publish the mode: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    #[error("{0}")]
    Board(#[from] BoardError),
    /// It is on the board of this gateway, and sent as soon as it can be.
    #[error("it is held back, since Redis has not taken it: {reason}")]
    Held { reason: Cause },
    #[error("the fleet has been left")]
    Closed,
}

/// This gateway's part in a fleet. It ends when this is dropped; [`Fleet::close`] waits for it.
#[derive(Debug)]
pub struct Fleet {
    asks: mpsc::Sender<Ask>,
    view: watch::Receiver<FleetView>,
    health: watch::Receiver<FleetHealth>,
    leads: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Fleet {
    /// Joins the fleet with the modes that this gateway knows by itself. Returns before Redis has
    /// been asked; the view has the snapshot already. Needs a tokio runtime.
    pub fn start(options: FleetOptions, known: ModeBoard) -> Self {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (keeper, watches) = Keeper::new(options, known, asked);
        let keeper::Watches { view, health, leads } = watches;
        let task = tokio::spawn(keeper.run());
        Self { asks, view, health, leads, task }
    }

    pub fn board(&self) -> watch::Receiver<FleetView> {
        self.view.clone()
    }

    pub fn health(&self) -> watch::Receiver<FleetHealth> {
        self.health.clone()
    }

    /// Whether this one of the fleet promotes. False as soon as it may be another.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Puts `entry` on the board, and tells the fleet. Where that fails with
    /// [`FleetError::Held`] it stays on the board of this gateway and is sent as soon as Redis
    /// takes it, unless a later one comes first.
    pub async fn publish(&self, rule: &str, entry: ModeEntry) -> Result<Published, FleetError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { rule: rule.to_owned(), entry, answer };
        self.asks.send(ask).await.map_err(|_| FleetError::Closed)?;
        answered.await.unwrap_or(Err(FleetError::Closed))
    }

    /// Sends what is held back, if that can be done at once, gives the lease back, and writes the
    /// snapshot.
    pub async fn close(self) {
        let Self { asks, task, .. } = self;
        drop(asks);
        if let Err(error) = task.await {
            tracing::error!(%error, "the fleet's task ended early");
        }
    }
}
