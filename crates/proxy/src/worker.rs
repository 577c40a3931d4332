//! One core: a thread with its own runtime, listener, connections to the service, counters and
//! ring of records. Nothing on the path of a request is shared with another worker but the
//! snapshot, which is read, and the protections' own lock-free state.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use http::HeaderMap;
use seaworthy_policy::Moment;
use seaworthy_policy::learn::Shape;
use seaworthy_policy::record::{RequestId, RequestRecord};
use seaworthy_policy::trace_context::write_hex;
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::connection;
use crate::findings::Findings;
use crate::gateway::Phase;
use crate::learn::{Draws, Sampling};
use crate::notes::Note;
use crate::off_path::{Late, OffPath, Sample};
use crate::snapshot::Snapshot;
use crate::stats::Shard;
use crate::upstream::pool::Pool;

/// How often idle connections to the service are looked over.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// After this long without a free file descriptor the next `accept` is tried.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

pub(crate) struct Worker {
    pub(crate) clock: Clock,
    pub(crate) shard: Arc<Shard>,
    published: Arc<ArcSwap<Snapshot>>,
    pub(crate) findings: Arc<Findings>,
    view: RefCell<Rc<View>>,
    records: RefCell<rtrb::Producer<RequestRecord>>,
    notes: RefCell<rtrb::Producer<Note>>,
    shapes: RefCell<rtrb::Producer<Box<Shape>>>,
    draws: Draws,
    random: Cell<u64>,
    connections: RefCell<HashMap<u64, Waker>>,
    connections_seen: Cell<u64>,
    draining: Cell<bool>,
    recently: Cell<Moment>,
    spare_headers: RefCell<Vec<HeaderMap>>,
    /// Bytes of request bodies that are kept whole for the checks.
    pub(crate) held_bytes: Cell<usize>,
    off_path: Arc<OffPath>,
    /// Bytes of requests that are kept until they have been answered.
    sampled_bytes: Cell<usize>,
    date: Cell<(u64, HttpDate)>,
    emptied: tokio::sync::Notify,
}

/// Room for the fields of most messages.
const FIELDS_USUAL: usize = 24;

/// Empty header maps that a worker keeps.
const SPARE_HEADERS_MAX: usize = 64;

/// Bytes of requests that a worker keeps until they have been answered.
const SAMPLED_BYTES_MAX: usize = 4 << 20;

/// A `Date` field's value.
type HttpDate = [u8; 29];

/// A snapshot as this worker uses it.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) pool: Pool,
}

/// What a worker is given.
pub(crate) struct Outfit {
    pub(crate) clock: Clock,
    pub(crate) shard: Arc<Shard>,
    pub(crate) published: Arc<ArcSwap<Snapshot>>,
    pub(crate) findings: Arc<Findings>,
    pub(crate) records: rtrb::Producer<RequestRecord>,
    pub(crate) notes: rtrb::Producer<Note>,
    pub(crate) shapes: rtrb::Producer<Box<Shape>>,
    pub(crate) off_path: Arc<OffPath>,
    pub(crate) listener: std::net::TcpListener,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Runs a worker on this thread until it has drained.
pub(crate) fn run(outfit: Outfit) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // A turn of 61 tasks between looks at the sockets starves them under load.
        .event_interval(31)
        // Its tasks need not be `Send`, and unlike those of a `LocalSet` they are woken without a
        // lock and scheduled once.
        .build_local(LocalOptions::default())?;
    runtime.block_on(async move {
        let Outfit {
            clock,
            shard,
            published,
            findings,
            records,
            notes,
            shapes,
            off_path,
            listener,
            phase,
        } = outfit;
        let listener = TcpListener::from_std(listener)?;
        let snapshot = published.load_full();
        let pool = Pool::new(&snapshot.upstreams, None);
        let worker = Rc::new(Worker {
            clock,
            shard,
            published,
            findings,
            view: RefCell::new(Rc::new(View { snapshot, pool })),
            records: RefCell::new(records),
            notes: RefCell::new(notes),
            shapes: RefCell::new(shapes),
            draws: Draws::default(),
            random: Cell::new(RandomState::new().hash_one(std::thread::current().id()) | 1),
            connections: RefCell::default(),
            connections_seen: Cell::new(0),
            draining: Cell::new(false),
            recently: Cell::new(clock.now()),
            spare_headers: RefCell::default(),
            held_bytes: Cell::new(0),
            off_path,
            sampled_bytes: Cell::new(0),
            date: Cell::new((0, [0; 29])),
            emptied: tokio::sync::Notify::new(),
        });
        worker.live(listener, phase).await;
        Ok(())
    })
}

impl Worker {
    async fn live(self: Rc<Self>, listener: TcpListener, mut phase: watch::Receiver<Phase>) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                biased;
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer.ip()),
                    Err(error) => {
                        // Out of file descriptors, or a client that is gone already.
                        tracing::debug!(%error, "accept did not succeed");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
                changed = phase.changed() => {
                    let ended = changed.is_err();
                    if ended || !matches!(*phase.borrow(), Phase::Serving) {
                        break;
                    }
                }
                _ = sweep.tick() => {
                    let view = self.view();
                    view.pool.sweep(self.clock.now());
                }
            }
        }
        drop(listener);
        self.drain(phase).await;
    }

    fn admit(self: &Rc<Self>, stream: tokio::net::TcpStream, peer: std::net::IpAddr) {
        let limit = self.view.borrow().snapshot.limits.connections_max;
        if self.connections.borrow().len() >= limit {
            self.shard.connections_refused.add(1);
            return;
        }
        self.shard.connections_accepted.add(1);
        let registered = self.register();
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            connection::serve(worker, stream, peer, registered.id).await;
            drop(registered);
        });
    }

    /// Puts a connection on the list that a drain waits for.
    pub(crate) fn register(self: &Rc<Self>) -> Registered {
        let id = self.connections_seen.get();
        self.connections_seen.set(id + 1);
        self.connections.borrow_mut().insert(id, Waker::noop().clone());
        Registered { worker: Rc::clone(self), id }
    }

    /// Lets every connection finish what it has begun, until the deadline.
    async fn drain(&self, mut phase: watch::Receiver<Phase>) {
        self.draining.set(true);
        for waker in self.connections.borrow().values() {
            waker.wake_by_ref();
        }
        let ended = async {
            loop {
                if let Phase::Draining { deadline } = *phase.borrow_and_update() {
                    return tokio::time::sleep_until(deadline.into()).await;
                }
                if phase.changed().await.is_err() {
                    return;
                }
            }
        };
        let emptied = async {
            while !self.connections.borrow().is_empty() {
                self.emptied.notified().await;
            }
        };
        tokio::select! {
            // Where nothing is left, nothing was cut off.
            biased;
            () = emptied => {}
            () = ended => tracing::warn!(
                connections = self.connections.borrow().len(),
                "the drain deadline has passed; closing what is left"
            ),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// The connection `id` is woken when draining begins.
    pub(crate) fn wake_on_drain(&self, id: u64, waker: &Waker) {
        if let Some(entry) = self.connections.borrow_mut().get_mut(&id) {
            entry.clone_from(waker);
        }
    }

    /// The current snapshot, taken up where there is a new one.
    pub(crate) fn view(&self) -> Rc<View> {
        let view = self.view.borrow();
        let published = self.published.load();
        if published.generation == view.snapshot.generation {
            return Rc::clone(&view);
        }
        let snapshot = Arc::clone(&published);
        let pool = Pool::new(&snapshot.upstreams, Some(&view.pool));
        drop(view);
        let fresh = Rc::new(View { snapshot, pool });
        self.view.replace(Rc::clone(&fresh));
        fresh
    }

    pub(crate) fn now(&self) -> Moment {
        let now = self.clock.now();
        self.recently.set(now);
        now
    }

    /// When the clock was last read: soon enough ago for what is measured in seconds.
    pub(crate) fn recently(&self) -> Moment {
        self.recently.get()
    }

    /// An empty map, with the memory of one that has been used.
    pub(crate) fn empty_headers(&self) -> HeaderMap {
        let spare = self.spare_headers.borrow_mut().pop();
        spare.unwrap_or_else(|| HeaderMap::with_capacity(FIELDS_USUAL))
    }

    /// Keeps the memory of a map. Each request uses two, which would otherwise take four
    /// allocations, larger than most.
    pub(crate) fn reuse_headers(&self, mut headers: HeaderMap) {
        let mut spare = self.spare_headers.borrow_mut();
        if spare.len() < SPARE_HEADERS_MAX && headers.capacity() <= 2 * FIELDS_USUAL {
            headers.clear();
            spare.push(headers);
        }
    }

    /// The time of day for a response, written once a second.
    pub(crate) fn http_date(&self) -> HttpDate {
        let unix_s = (self.clock.unix_ms(self.recently()) / 1000).unsigned_abs();
        let (written_s, mut date) = self.date.get();
        if written_s != unix_s {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_s));
            date.copy_from_slice(text.as_bytes());
            self.date.set((unix_s, date));
        }
        date
    }

    /// Hands a record to the other side, or counts that there was no room.
    pub(crate) fn record(&self, record: RequestRecord) {
        if self.records.borrow_mut().push(record).is_err() {
            self.shard.records_dropped.add(1);
        }
    }

    /// Makes a sample, unless it is too large or those that wait for their answers take all the room
    /// there is.
    pub(crate) fn sampled(&self, make: impl FnOnce() -> Option<Sample>) -> Option<Box<Sample>> {
        if self.sampled_bytes.get() >= SAMPLED_BYTES_MAX {
            return None;
        }
        let sample = Box::new(make()?);
        self.sampled_bytes.set(self.sampled_bytes.get() + sample.bytes());
        Some(sample)
    }

    /// Has a request judged that has been answered; its record then comes from there. Where there
    /// is no room for it, it stays unjudged.
    pub(crate) fn judge_late(&self, sample: Box<Sample>, record: RequestRecord) {
        self.sampled_bytes.set(self.sampled_bytes.get() - sample.bytes());
        if let Err(late) = self.off_path.offer(Box::new(Late { sample: *sample, record })) {
            self.shard.samples_dropped.add(1);
            self.record(late.record);
        }
    }

    pub(crate) fn note(&self, note: Note) {
        if self.notes.borrow_mut().push(note).is_err() {
            self.shard.notes_dropped.add(1);
        }
    }

    /// Whether the request that is here now is learned from.
    pub(crate) fn draw(&self, sampling: Sampling) -> bool {
        self.draws.draw(sampling, self.recently())
    }

    /// Hands on what a request was like.
    pub(crate) fn learned(&self, shape: Box<Shape>) {
        if self.shapes.borrow_mut().push(shape).is_err() {
            self.shard.shapes_dropped.add(1);
        }
    }

    /// The next number of a SplitMix64 sequence, seeded by the operating system. Good enough to
    /// tell requests apart; never used for a secret.
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// 32 hex digits: 48 bits of Unix time in milliseconds, so that ids sort by age, then 80
    /// random bits.
    pub(crate) fn request_id(&self, now: Moment) -> RequestId {
        let millis = u128::from(self.clock.unix_ms(now).unsigned_abs()) << 80;
        let random = (u128::from(self.random()) << 64 | u128::from(self.random())) >> 48;
        let mut digits = [0; 32];
        write_hex(&mut digits, &(millis | random).to_be_bytes());
        let text = std::str::from_utf8(&digits).expect("hex digits are ASCII");
        RequestId::from(text).expect("32 digits fit in 64")
    }
}

/// Takes a connection off the worker's list, however it ends.
pub(crate) struct Registered {
    worker: Rc<Worker>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut connections = self.worker.connections.borrow_mut();
        connections.remove(&self.id);
        if connections.is_empty() {
            self.worker.emptied.notify_one();
        }
    }
}
