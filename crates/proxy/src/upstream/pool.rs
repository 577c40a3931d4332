//! One worker's connections to the upstreams, and the choice of one for a request.
//!
//! 1. The upstream with the fewest requests of this worker in flight is asked; ties go round.
//! 2. One that is unhealthy or ejected is passed over. Where the active checks find all of them
//!    unhealthy, they are asked all the same: a wrong check must not take the service down.
//! 3. A connection is used again last in, first out, so that spare ones grow old and are closed.
//! 4. Where a connection carries many requests (HTTP/2), one is opened, and those who come
//!    meanwhile wait for it.
//! 5. Nothing here is shared with another worker.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2;
use seaworthy_policy::Moment;
use tokio::sync::watch;

use super::connect::{self, ConnectError, Sender};
use super::http1::Connection;
use super::{Upstream, UpstreamOptions, Upstreams};
use crate::body::RequestBody;
use crate::http1::wire::Wire;

/// The connections of one worker to all upstreams.
pub(crate) struct Pool {
    targets: Vec<Rc<Target>>,
    options: UpstreamOptions,
    turn: Cell<usize>,
}

/// The connections of one worker to one upstream.
pub(crate) struct Target {
    pub(crate) upstream: Arc<Upstream>,
    idle: RefCell<Vec<Idle>>,
    http2: RefCell<Option<http2::SendRequest<RequestBody>>>,
    /// Whether the next connection is likely to speak HTTP/2.
    expects_http2: Cell<bool>,
    /// Closes when the attempt to open such a connection is over, however it ended.
    opening: RefCell<Option<watch::Receiver<()>>>,
    in_flight: Cell<usize>,
    /// Connections that carry one request at a time, and those that are being opened.
    open: Cell<usize>,
}

struct Idle {
    connection: Box<Connection<RequestBody>>,
    since: Moment,
}

/// A connection lent to one request. Dropping it closes an HTTP/1 connection, because its
/// response may be unread; [`Lease::give_back`] keeps it.
pub(crate) struct Lease {
    target: Rc<Target>,
    sender: Option<Sender<RequestBody>>,
    /// Whether the connection has carried a request before, so that it may have died unnoticed.
    pub(crate) reused: bool,
}

/// Why no connection could be lent.
#[derive(Debug)]
pub(crate) enum LendError {
    Connect(ConnectError),
    /// The worker has as many connections to this upstream as it may.
    Full,
}

impl Pool {
    /// Builds the pool, keeping what `before` has open to the same upstreams.
    pub(crate) fn new(upstreams: &Upstreams, before: Option<&Self>) -> Self {
        let targets = upstreams
            .list
            .iter()
            .map(|upstream| {
                let kept = before.and_then(|before| {
                    before.targets.iter().find(|target| Arc::ptr_eq(&target.upstream, upstream))
                });
                kept.map_or_else(|| Rc::new(Target::new(Arc::clone(upstream))), Rc::clone)
            })
            .collect();
        Self { targets, options: upstreams.options.clone(), turn: Cell::new(0) }
    }

    /// Picks the upstream for a request; `tried` is left out.
    pub(crate) fn pick(&self, now: Moment, tried: Option<&Rc<Target>>) -> Option<Rc<Target>> {
        let count = self.targets.len();
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        let best = |healthy: bool, left_out: [Option<&Rc<Target>>; 2]| {
            let left_out = |target: &&Rc<Target>| {
                left_out.iter().flatten().any(|left_out| Rc::ptr_eq(left_out, target))
            };
            (0..count)
                .map(|step| &self.targets[(turn.wrapping_add(step)) % count])
                .filter(|target| !left_out(target))
                .filter(|target| !healthy || target.upstream.is_healthy())
                .filter(|target| !target.upstream.is_ejected(now))
                .min_by_key(|target| target.in_flight.get())
        };
        let best = |left_out| best(true, left_out).or_else(|| best(false, left_out));
        let first = best([tried, None])?;
        if first.upstream.breaker.admits(now) {
            return Some(Rc::clone(first));
        }
        // Another request has just taken the one try that this upstream is due for.
        let second = best([tried, Some(first)])?;
        second.upstream.breaker.admits(now).then(|| Rc::clone(second))
    }

    /// Lends a connection to `target`, an open one where there is one.
    pub(crate) async fn lend(&self, target: &Rc<Target>, now: Moment) -> Result<Lease, LendError> {
        if let Some(sender) = target.reuse(now, self.options.timeout_idle) {
            return Ok(target.lease(sender, true));
        }
        if target.expects_http2.get()
            && target.opened().await
            && let Some(sender) = target.reuse(now, self.options.timeout_idle)
        {
            return Ok(target.lease(sender, true));
        }
        // The bound is for connections that carry one request each.
        let shared = target.expects_http2.get();
        if !shared && target.open.get() >= self.options.connections_max {
            return Err(LendError::Full);
        }
        let _opening = shared.then(|| target.announce());
        target.open.set(target.open.get() + 1);
        // Counted before the await, so that a burst cannot open more than the maximum.
        let mut slot = OpenSlot { target, kept: false };
        // Boxed, as it is rare and would make every exchange larger.
        let sender = Box::pin(connect::connect(&target.upstream, self.options.timeout_connect))
            .await
            .map_err(LendError::Connect)?;
        target.expects_http2.set(matches!(sender, Sender::Http2(_)));
        match &sender {
            Sender::Http2(sender) => drop(target.http2.replace(Some(sender.clone()))),
            Sender::Http1(_) => slot.kept = true,
        }
        Ok(target.lease(sender, false))
    }

    /// Closes what has been idle for too long. Called every few seconds.
    pub(crate) fn sweep(&self, now: Moment) {
        for target in &self.targets {
            let mut idle = target.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|idle| {
                now.since(idle.since) < self.options.timeout_idle && idle.connection.is_quiet()
            });
            target.open.set(target.open.get() - (before - idle.len()));
        }
    }
}

/// Gives a place under `connections_max` back where connecting failed or was given up, or where
/// the connection is one that others share.
struct OpenSlot<'a> {
    target: &'a Target,
    kept: bool,
}

impl Drop for OpenSlot<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.target.open.set(self.target.open.get() - 1);
        }
    }
}

impl Target {
    fn new(upstream: Arc<Upstream>) -> Self {
        Self {
            expects_http2: Cell::new(upstream.may_speak_http2()),
            upstream,
            idle: RefCell::default(),
            http2: RefCell::default(),
            opening: RefCell::default(),
            in_flight: Cell::new(0),
            open: Cell::new(0),
        }
    }

    fn lease(self: &Rc<Self>, sender: Sender<RequestBody>, reused: bool) -> Lease {
        self.in_flight.set(self.in_flight.get() + 1);
        Lease { target: Rc::clone(self), sender: Some(sender), reused }
    }

    fn keep(&self, connection: Box<Connection<RequestBody>>, since: Moment) {
        if connection.is_reusable() {
            self.idle.borrow_mut().push(Idle { connection, since });
        } else {
            self.open.set(self.open.get() - 1);
        }
    }

    /// Waits for the attempt that is under way, where there is one. Returns whether there was.
    ///
    /// Nobody waits twice: where it failed, each makes an attempt of its own, so that no request
    /// stands in line behind the timeouts of others.
    async fn opened(&self) -> bool {
        let Some(mut opening) = self.opening.borrow().clone() else { return false };
        while opening.changed().await.is_ok() {}
        true
    }

    /// Says that a connection is being opened, for as long as what it returns lives.
    fn announce(&self) -> watch::Sender<()> {
        let (sender, receiver) = watch::channel(());
        let mut opening = self.opening.borrow_mut();
        if opening.as_ref().is_none_or(|opening| opening.has_changed().is_err()) {
            *opening = Some(receiver);
        }
        sender
    }

    fn reuse(&self, now: Moment, timeout_idle: Duration) -> Option<Sender<RequestBody>> {
        if let Some(sender) = self.http2.borrow().as_ref().filter(|sender| !sender.is_closed()) {
            return Some(Sender::Http2(sender.clone()));
        }
        self.http2.replace(None);
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut connection, since }) = idle.pop() {
            if now.since(since) < timeout_idle && connection.is_quiet() {
                return Some(Sender::Http1(connection));
            }
            self.open.set(self.open.get() - 1);
        }
        None
    }
}

impl Lease {
    pub(crate) fn sender(&mut self) -> &mut Sender<RequestBody> {
        self.sender.as_mut().expect("a lease holds its sender until it is given back")
    }

    /// The connection of an HTTP/1 lease.
    pub(crate) fn http1(&self) -> &Connection<RequestBody> {
        let Some(Sender::Http1(connection)) = &self.sender else { unreachable!("{NOT_HTTP1}") };
        connection
    }

    pub(crate) fn http1_mut(&mut self) -> &mut Connection<RequestBody> {
        let Some(Sender::Http1(connection)) = &mut self.sender else { unreachable!("{NOT_HTTP1}") };
        connection
    }

    /// Takes the connection out of the pool for good.
    pub(crate) fn into_wire(mut self) -> Option<Wire> {
        let Some(Sender::Http1(connection)) = self.sender.take() else { return None };
        self.target.open.set(self.target.open.get() - 1);
        Some(connection.into_wire())
    }

    /// Keeps the connection for the next request, if it can carry one; where the service has
    /// answered early, once the rest of the request is sent.
    pub(crate) fn give_back(mut self, now: Moment) {
        let Some(Sender::Http1(mut connection)) = self.sender.take() else { return };
        let target = Rc::clone(&self.target);
        if !connection.is_uploading() {
            return target.keep(connection, now);
        }
        tokio::task::spawn_local(async move {
            loop {
                let before = connection.uploaded();
                let rest = poll_fn(|cx| connection.poll_rest(cx));
                match tokio::time::timeout(REST_PAUSE_MAX, rest).await {
                    Ok(Ok(())) => return target.keep(connection, now),
                    Err(_) if connection.uploaded() > before => {}
                    Ok(Err(_)) | Err(_) => return target.open.set(target.open.get() - 1),
                }
            }
        });
    }
}

/// How long a service that has answered early may leave the rest of the request unread.
const REST_PAUSE_MAX: Duration = Duration::from_secs(30);

const NOT_HTTP1: &str = "only what was asked over HTTP/1 is read over it";

impl Drop for Lease {
    fn drop(&mut self) {
        self.target.in_flight.set(self.target.in_flight.get() - 1);
        if let Some(Sender::Http1(_)) = self.sender.take() {
            self.target.open.set(self.target.open.get() - 1);
        }
    }
}
