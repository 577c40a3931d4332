//! One client connection: TLS, the protocol, and the watchdog beside it.
//!
//! The watchdog is one timer for all bounds on time, set again only when it fires or when a
//! nearer bound appears: an ordinary request touches no timer.

pub(crate) mod http1;
mod http2;
pub(crate) mod shared;

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use seaworthy_policy::Moment;
use seaworthy_policy::protection::Scheme;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use self::shared::Shared;
use crate::exchange::Peer;
use crate::forward::PeerText;
use crate::http1::wire::{Socket, Wire};
use crate::snapshot::ConnectionLimits;
use crate::worker::Worker;

/// How long a client that was answered early may go on sending before the socket is closed.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// Serves `stream` until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream, ip: IpAddr, id: u64) {
    let shard = Arc::clone(&worker.shard);
    shard.connections_open.add(1);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let view = worker.view();
    let limits = view.snapshot.limits;
    let tls = view.snapshot.tls.clone();
    drop(view);
    let shared = Rc::new(Shared::new(worker.clock));
    let watchdog = Watchdog { worker: Rc::clone(&worker), shared: Rc::clone(&shared), limits, id };
    let connection = async {
        let Some((socket, scheme)) = open(&worker, &shared, stream, tls).await else { return };
        let peer = Rc::new(Peer {
            worker: Rc::clone(&worker),
            shared: Rc::clone(&shared),
            ip,
            ip_text: PeerText::new(ip),
            scheme,
        });
        serve_http(peer, Wire::new(socket), limits).await;
    };
    watchdog.guard(connection).await;
    shard.connections_open.sub(1);
}

/// Makes the TLS handshake where there is one to make. It has as much time as a head, and none
/// where the gateway drains.
async fn open(
    worker: &Worker,
    shared: &Shared,
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Option<(Socket, Scheme)> {
    let Some(config) = tls else { return Some((Socket::Plain(stream), Scheme::Http)) };
    let mut handshake = Box::pin(TlsAcceptor::from(config).accept(stream));
    shared.head_began();
    let shaken = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Pending if shared.is_winding_up() || shared.head_expired() => Poll::Ready(None),
        shaken => shaken.map(Some),
    });
    match shaken.await {
        Some(Ok(stream)) => {
            shared.head_ended();
            return Some((Socket::Tls(Box::new(TlsStream::Server(stream))), Scheme::Https));
        }
        Some(Err(error)) => tracing::debug!(%error, "TLS handshake did not succeed"),
        None => tracing::debug!("TLS handshake took too long"),
    }
    worker.shard.tls_failures.add(1);
    None
}

/// Serves the protocol that ALPN settled on or the first bytes tell.
async fn serve_http(peer: Rc<Peer>, mut wire: Wire, limits: ConnectionLimits) {
    let http2 = match &wire.socket {
        Socket::Tls(_) => wire.socket.speaks_http2(),
        Socket::Plain(_) => match poll_fn(|cx| poll_preface(&mut wire, &peer.shared, cx)).await {
            Ok(http2) => http2,
            Err(_) => return,
        },
    };
    // Each way is boxed: the task of a connection is as large as the largest of them otherwise,
    // whichever it speaks.
    if http2 {
        Box::pin(http2::serve(peer, wire, limits)).await;
    } else {
        http1::serve(peer, wire, limits.head()).await;
    }
}

/// Reads until the first bytes tell whether HTTP/2 is spoken without negotiation.
///
/// The preface is 24 bytes that no HTTP/1 request can start with, so as soon as one differs the
/// answer is no. The bytes are kept for the protocol's own reader.
fn poll_preface(wire: &mut Wire, shared: &Shared, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    loop {
        let known = wire.unread.len().min(PREFACE.len());
        if wire.unread[..known] != PREFACE[..known] {
            return Poll::Ready(Ok(false));
        }
        if known == PREFACE.len() {
            shared.head_ended();
            return Poll::Ready(Ok(true));
        }
        if shared.is_winding_up() || shared.head_expired() {
            return Poll::Ready(Ok(false));
        }
        if ready!(wire.poll_fill(cx))? == 0 {
            return Poll::Ready(Ok(false));
        }
        shared.head_began();
    }
}

/// Ends a connection that breaks a bound on time, and winds it up when the gateway drains.
struct Watchdog {
    worker: Rc<Worker>,
    shared: Rc<Shared>,
    limits: ConnectionLimits,
    id: u64,
}

/// What the watchdog does when its timer fires.
enum Bite {
    /// The client has not taken a byte for too long: there is nobody to tell.
    Abort,
    /// A head is unfinished: it is answered with 408.
    ExpireHead,
    /// Nothing is going on: the connection is closed.
    WindUp,
    None,
}

impl Watchdog {
    async fn guard(self, connection: impl Future<Output = ()>) {
        let mut connection = pin!(connection);
        let mut due = self.shared.clock.now().after(self.limits.timeout_idle).as_nanos();
        let mut timer = pin!(tokio::time::sleep_until(self.shared.clock.instant(due)));
        let mut registered = false;
        let mut armed = false;
        poll_fn(|cx| {
            if !registered {
                self.worker.wake_on_drain(self.id, cx.waker());
                registered = true;
            }
            loop {
                if connection.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                if self.worker.is_draining() && !self.shared.is_winding_up() {
                    self.shared.wind_up();
                    continue;
                }
                let nearest = self.nearest();
                if nearest < due {
                    due = nearest;
                    timer.as_mut().reset(self.shared.clock.instant(due));
                    armed = false;
                }
                // Once it is armed it wakes this task, and polling it again would be for nothing.
                if armed && !timer.is_elapsed() {
                    return Poll::Pending;
                }
                armed = timer.as_mut().poll(cx).is_pending();
                if armed {
                    return Poll::Pending;
                }
                let now = self.shared.clock.now();
                match self.bite(now) {
                    Bite::Abort => return Poll::Ready(()),
                    Bite::WindUp if self.shared.is_winding_up() => return Poll::Ready(()),
                    Bite::WindUp => self.shared.wind_up(),
                    Bite::ExpireHead => self.shared.expire_head(),
                    Bite::None => {}
                }
                let next = self.nearest().max(now.after(Duration::from_millis(100)).as_nanos());
                due = next.min(now.after(self.limits.timeout_idle).as_nanos());
                timer.as_mut().reset(self.shared.clock.instant(due));
            }
        })
        .await;
    }

    /// The nearest bound, in nanoseconds on the clock.
    fn nearest(&self) -> u64 {
        self.bounds().into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    fn bounds(&self) -> [Option<u64>; 4] {
        let after = |since: Option<u64>, limit: Duration| {
            since.map(|since| Moment::from_nanos(since).after(limit).as_nanos())
        };
        [
            after(self.shared.blocked_since(), self.limits.timeout_body),
            after(self.shared.head_since(), self.limits.timeout_head),
            after(self.shared.idle_since(), self.limits.timeout_idle),
            after(self.shared.linger_since(), LINGER_MAX),
        ]
    }

    fn bite(&self, now: Moment) -> Bite {
        let passed = |bound: Option<u64>| bound.is_some_and(|bound| bound <= now.as_nanos());
        let [blocked, head, idle, linger] = self.bounds();
        if passed(blocked) || passed(linger) {
            Bite::Abort
        } else if passed(head) && !self.shared.head_expired() {
            Bite::ExpireHead
        } else if passed(idle) && self.shared.is_idle() {
            Bite::WindUp
        } else {
            Bite::None
        }
    }
}
