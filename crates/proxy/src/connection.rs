//! One client connection: TLS, the protocol, hyper, and the watchdog beside it.
//!
//! The watchdog is one timer for all bounds on time, set again only when it fires or when a
//! nearer bound appears: an ordinary request touches no timer.

pub(crate) mod guard;
mod io;
pub(crate) mod shared;

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use seaworthy_policy::Moment;
use seaworthy_policy::protection::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use self::guard::Guard;
use self::io::ClientIo;
use self::shared::Shared;
use crate::exchange::{self, Peer};
use crate::local::LocalExecutor;
use crate::snapshot::ConnectionLimits;
use crate::worker::Worker;

/// hyper's read buffer may grow to this; a head is bounded below it by the guard.
const BUFFER_MAX: usize = 256 << 10;

/// How long a client that was answered early may go on sending before the socket is closed.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// Fields of a head that hyper parses without an allocation. Its own bound is the same, so it
/// is told only of a higher one.
const FIELDS_INLINE: usize = 100;

/// Serves `stream` until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: IpAddr, id: u64) {
    worker.shard.connections_open.add(1);
    let shard = Arc::clone(&worker.shard);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let view = worker.view();
    let limits = view.snapshot.limits;
    let tls = view.snapshot.tls.clone();
    drop(view);
    match tls {
        // Each way is boxed: the task of a connection is as large as the largest of them
        // otherwise, TLS and HTTP/2, whichever it speaks.
        None => {
            Box::pin(serve_http(worker, stream, peer, id, Scheme::Http, None, limits)).await;
        }
        Some(config) => {
            let handshake = Box::pin(TlsAcceptor::from(config).accept(stream));
            match tokio::time::timeout(limits.timeout_head, handshake).await {
                Ok(Ok(stream)) => {
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let http2 = Some(http2);
                    let scheme = Scheme::Https;
                    Box::pin(serve_http(worker, stream, peer, id, scheme, http2, limits)).await;
                }
                Ok(Err(error)) => {
                    shard.tls_failures.add(1);
                    tracing::debug!(%error, %peer, "TLS handshake did not succeed");
                }
                Err(_) => {
                    shard.tls_failures.add(1);
                    tracing::debug!(%peer, "TLS handshake took too long");
                }
            }
        }
    }
    shard.connections_open.sub(1);
}

/// Serves HTTP; `http2` is what ALPN settled on, where it was asked.
async fn serve_http<S>(
    worker: Rc<Worker>,
    stream: S,
    ip: IpAddr,
    id: u64,
    scheme: Scheme,
    http2: Option<bool>,
    limits: ConnectionLimits,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = Arc::new(Shared::new(worker.clock));
    let mut io = ClientIo::new(stream, Guard::new(limits.head()), Arc::clone(&shared));
    let http2 = match http2 {
        Some(true) => io.open(),
        Some(false) => false,
        None => {
            // A connection that was opened ahead of need may wait as long as an idle one.
            let preface = tokio::time::timeout(limits.timeout_idle, io.speaks_http2());
            match preface.await {
                Ok(Ok(http2)) => http2,
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    let peer =
        Rc::new(Peer { worker: Rc::clone(&worker), shared: Arc::clone(&shared), ip, scheme });
    // An exchange takes some 6 KiB while it lasts. Boxed, an idle connection does not hold them,
    // and hyper does not move them.
    let service = service_fn(move |request| Box::pin(exchange::serve(Rc::clone(&peer), request)));
    let watchdog = Watchdog { worker, shared, limits, id };
    if http2 {
        let connection = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams_max)
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            // A peer that opens and resets streams faster than we can serve them is cut off
            // (CVE-2023-44487, CVE-2025-8671).
            .max_pending_accept_reset_streams(32)
            .max_local_error_reset_streams(256)
            .keep_alive_interval(limits.timeout_idle / 2)
            .keep_alive_timeout(limits.timeout_head)
            .serve_connection(io, service);
        Box::pin(watchdog.guard(connection)).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_MAX).pipeline_flush(true);
        if limits.fields_max > FIELDS_INLINE {
            builder.max_headers(limits.fields_max);
        }
        let connection = builder.serve_connection(io, service).with_upgrades();
        Box::pin(watchdog.guard(connection)).await;
    }
}

/// Both of hyper's server connections, as the watchdog sees them.
trait Drive: Future<Output = Result<(), hyper::Error>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S, B> Drive for http1::UpgradeableConnection<I, S>
where
    Self: Future<Output = Result<(), hyper::Error>>,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B, E> Drive for http2::Connection<I, S, E>
where
    Self: Future<Output = Result<(), hyper::Error>>,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Ends a connection that breaks a bound on time, and winds it up when the gateway drains.
struct Watchdog {
    worker: Rc<Worker>,
    shared: Arc<Shared>,
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
    async fn guard<C: Drive>(self, connection: C) {
        let mut connection = pin!(connection);
        let mut due = self.shared.clock.now().after(self.limits.timeout_idle).as_nanos();
        let mut timer = pin!(tokio::time::sleep_until(self.shared.clock.instant(due)));
        let mut registered = false;
        let mut winding_up = false;
        poll_fn(|cx| {
            if !registered {
                self.worker.wake_on_drain(self.id, cx.waker());
                registered = true;
            }
            loop {
                if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                    if let Err(error) = result {
                        tracing::debug!(%error, "connection ended");
                    }
                    return Poll::Ready(());
                }
                if self.worker.is_draining() && !winding_up {
                    winding_up = true;
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                let nearest = self.nearest();
                if nearest < due {
                    due = nearest;
                    timer.as_mut().reset(self.shared.clock.instant(due));
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let now = self.shared.clock.now();
                match self.bite(now) {
                    Bite::Abort => return Poll::Ready(()),
                    Bite::WindUp if winding_up => return Poll::Ready(()),
                    Bite::WindUp => {
                        winding_up = true;
                        connection.as_mut().graceful_shutdown();
                    }
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
