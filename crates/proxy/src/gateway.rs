//! The data plane as a whole: the listeners, the workers, and what they share with the rest.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use seaworthy_policy::learn::Shape;
use seaworthy_policy::record::{RequestRecord, RuleId};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::findings::Findings;
use crate::notes::Note;
use crate::off_path::OffPath;
use crate::snapshot::{Modes, Snapshot};
use crate::stats::Shard;
use crate::worker::{self, Outfit};

/// Records that a worker's ring holds: half a second at 16 000 requests a second.
const RECORDS: usize = 8192;

/// Notes that a worker's ring holds.
const NOTES: usize = 1024;

/// Shapes that a worker's ring holds: the most draws that it can have saved up.
const SHAPES: usize = 1024;

/// Connections that the kernel keeps for a worker until it accepts them.
const BACKLOG: i32 = 4096;

/// What is settled at start and not by a reload.
#[derive(Clone, Copy, Debug)]
pub struct GatewayOptions {
    pub addr: SocketAddr,
    pub workers: usize,
}

/// Why the data plane could not start. Fits after "failed to start the gateway: ".
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0} is in use: stop what listens there or choose another `listen.addr`")]
    InUse(SocketAddr),
    #[error("{0} cannot be listened on ({1}): choose another `listen.addr`")]
    Listen(SocketAddr, io::Error),
    #[error("a worker thread could not be started: {0}")]
    Thread(io::Error),
}

/// How far along its life the data plane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    Draining { deadline: Instant },
}

/// The evidence of one worker, or of what judges beside them, for whoever writes it down.
pub struct Evidence {
    pub records: rtrb::Consumer<RequestRecord>,
    pub notes: rtrb::Consumer<Note>,
    /// What requests were like that the service answered with success, where it is learned.
    pub shapes: rtrb::Consumer<Box<Shape>>,
}

/// The running data plane.
pub struct Gateway {
    addr: SocketAddr,
    published: Arc<ArcSwap<Snapshot>>,
    turn: Arc<Mutex<()>>,
    shards: Vec<Arc<Shard>>,
    phase: watch::Sender<Phase>,
    findings: Arc<Findings>,
    off_path: Arc<OffPath>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// The snapshot in force, to be read and to be replaced.
#[derive(Clone)]
pub struct Publisher {
    published: Arc<ArcSwap<Snapshot>>,
    // Held while a snapshot is made from the one before: two that are made at once would lose one.
    turn: Arc<Mutex<()>>,
}

impl Publisher {
    /// Puts the snapshot of a new config in force for every request that starts from now on. Which
    /// config that is is set here and returned.
    pub fn publish(&self, mut snapshot: Snapshot) -> u64 {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.published.load();
        let config = before.config + 1;
        (snapshot.generation, snapshot.config) = (before.generation + 1, config);
        self.published.store(Arc::new(snapshot));
        config
    }

    /// Changes the modes of some rules and nothing else, for every request that starts from now on.
    pub fn put_modes(&self, modes: impl IntoIterator<Item = (RuleId, Modes)>) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = Snapshot::clone(&self.published.load());
        snapshot.generation += 1;
        for (rule, modes) in modes {
            snapshot.modes.set(rule, modes);
        }
        self.published.store(Arc::new(snapshot));
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }
}

impl Gateway {
    /// Opens the ports and starts the workers. The evidence has one element a worker, and one of
    /// what is judged off their paths.
    pub fn start(
        options: GatewayOptions,
        snapshot: Snapshot,
        clock: Clock,
    ) -> Result<(Self, Vec<Evidence>), StartError> {
        let listeners = listen(options.addr, options.workers.max(1))?;
        let addr = listeners[0].local_addr().map_err(|e| StartError::Listen(options.addr, e))?;
        let published = Arc::new(ArcSwap::from_pointee(snapshot));
        let (phase, _) = watch::channel(Phase::Serving);
        let off_path_shard = Arc::new(Shard::default());
        let (off_path, late) = OffPath::new(Arc::clone(&off_path_shard));
        let mut gateway = Self {
            addr,
            published,
            turn: Arc::default(),
            shards: Vec::new(),
            phase,
            findings: Arc::default(),
            off_path: Arc::new(off_path),
            threads: Vec::new(),
        };
        let mut evidence = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let (records, records_out) = rtrb::RingBuffer::new(RECORDS);
            let (notes, notes_out) = rtrb::RingBuffer::new(NOTES);
            let (shapes, shapes_out) = rtrb::RingBuffer::new(SHAPES);
            let shard = Arc::new(Shard::default());
            let outfit = Outfit {
                clock,
                shard: Arc::clone(&shard),
                published: Arc::clone(&gateway.published),
                findings: Arc::clone(&gateway.findings),
                records,
                notes,
                shapes,
                off_path: Arc::clone(&gateway.off_path),
                listener,
                phase: gateway.phase.subscribe(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || worker::run(outfit))
                .map_err(StartError::Thread)?;
            gateway.threads.push(thread);
            gateway.shards.push(shard);
            evidence.push(Evidence { records: records_out, notes: notes_out, shapes: shapes_out });
        }
        gateway.shards.push(off_path_shard);
        evidence.push(late);
        Ok((gateway, evidence))
    }

    /// Where the traffic port is; the real one where port 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What puts new snapshots in force; it may outlive the gateway.
    pub fn publisher(&self) -> Publisher {
        Publisher { published: Arc::clone(&self.published), turn: Arc::clone(&self.turn) }
    }

    /// What clients are shown of their own requests; whoever reads the notes fills it.
    pub fn findings(&self) -> Arc<Findings> {
        Arc::clone(&self.findings)
    }

    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// Stops accepting, lets requests in flight finish for at most `within`, then closes the
    /// rest. Blocks until the workers have ended.
    pub fn drain(self, within: Duration) {
        let deadline = Instant::now() + within;
        self.phase.send_replace(Phase::Draining { deadline });
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a worker ended early"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
        // Only a worker that panicked still has a hand on it.
        if let Some(off_path) = Arc::into_inner(self.off_path) {
            off_path.finish(deadline);
        }
    }
}

/// Opens one listener a worker on the same port; the kernel spreads the connections.
fn listen(addr: SocketAddr, workers: usize) -> Result<Vec<std::net::TcpListener>, StartError> {
    let fault = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse(addr),
        _ => StartError::Listen(addr, error),
    };
    if addr.port() != 0 {
        // With SO_REUSEPORT a second gateway would silently take half of the clients.
        open(addr, false).map_err(fault)?;
    }
    let first = open(addr, true).map_err(fault)?;
    let addr = first.local_addr().map_err(fault)?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(open(addr, true).map_err(fault)?);
    }
    Ok(listeners)
}

fn open(addr: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
