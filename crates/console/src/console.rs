//! The running console: a loopback listener, its connections, and their end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use seaworthy_store::ledger::LedgerReader;
use seaworthy_store::telemetry::Telemetry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time;

use crate::alerts::AlertInputs;
use crate::control::Control;
use crate::live::LiveView;
use crate::readiness::Readiness;
use crate::routes;

/// Connections served at once; further ones wait in the listener's backlog. Far above what a
/// few browsers, Prometheus and a script need, and more than may subscribe to events, so that
/// open pages never keep the health checks out.
const CONNECTIONS_MAX: usize = 128;

/// How long a connection may take over a request head, and sit idle. Not a usual interval of
/// scrapes, which would find it closing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of a request head, and of a connection's buffer.
const HEAD_MAX: usize = 16 * 1024;

/// How long a shutdown waits for answers under way.
const GRACE: Duration = Duration::from_secs(2);

/// The pause after a failed accept (most often: no file descriptor left), which would otherwise
/// fail again at once, and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the console shows, and where it hands on what it is told.
#[derive(Clone)]
pub struct ConsoleInputs {
    /// Published once a second.
    pub live: watch::Receiver<Arc<LiveView>>,
    /// Absent where the store could not be opened: the pages then say so and show the rest.
    pub telemetry: Option<Telemetry>,
    /// What `/metrics` encodes.
    pub registry: Arc<Registry>,
    /// Asked on every `/readyz`; must answer at once, without waiting for anything.
    pub ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    pub alerts: AlertInputs,
    /// Where the rules stand, and who moves them.
    pub control: Arc<dyn Control>,
    /// The ledger that has the receipts, where it is open. Asked on every question for them; must
    /// answer at once, without waiting for anything.
    pub ledger: Arc<dyn Fn() -> Option<LedgerReader> + Send + Sync>,
}

impl fmt::Debug for ConsoleInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsoleInputs")
    }
}

/// Why the console did not start. Fits after "failed to start the console: ".
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error(
        "it has no login yet, so it listens on loopback addresses alone and not on {addr}, until \
         a login exists; set the console's address to 127.0.0.1:{port} and reach it through a \
         tunnel, for example ssh -L {port}:127.0.0.1:{port} <this host>",
        port = addr.port()
    )]
    NotLoopback { addr: SocketAddr },
    #[error(
        "{addr} is in use by another process; stop that one, or choose another address for the \
         console (port 0 lets the system choose)"
    )]
    InUse { addr: SocketAddr },
    #[error("could not listen on {addr}: {source}; choose another address for the console")]
    Listen { addr: SocketAddr, source: io::Error },
}

/// A running console. Dropped, it stops as [`shutdown`](Self::shutdown) does, unawaited.
#[derive(Debug)]
pub struct Console {
    addr: SocketAddr,
    /// Its end is the sign to stop.
    running: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Console {
    /// Binds `addr` and serves on the current tokio runtime. Port 0 lets the system choose.
    pub async fn start(addr: SocketAddr, inputs: ConsoleInputs) -> Result<Self, ConsoleError> {
        if !addr.ip().to_canonical().is_loopback() {
            return Err(ConsoleError::NotLoopback { addr });
        }
        let (listener, addr) = listen(addr).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ConsoleError::InUse { addr },
            _ => ConsoleError::Listen { addr, source },
        })?;
        let (running, stop) = watch::channel(());
        let router = routes::router(inputs, stop.clone());
        let acceptor = Acceptor { routes: TowerToHyperService::new(router), stop };
        let accepting = tokio::spawn(acceptor.run(listener));
        Ok(Self { addr, running, accepting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting, ends event streams, lets answers under way go out for up to two
    /// seconds.
    pub async fn shutdown(self) {
        let Self { running, accepting, .. } = self;
        drop(running);
        log_panic(accepting.await);
    }
}

async fn listen(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// Returns when the console is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<()>) {
    while stop.changed().await.is_ok() {}
}

/// What every connection needs.
#[derive(Clone)]
struct Acceptor {
    routes: TowerToHyperService<Router>,
    stop: watch::Receiver<()>,
}

impl Acceptor {
    async fn run(mut self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stopped(&mut self.stop) => break,
                Some(ended) = connections.join_next() => log_panic(ended),
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(self.clone().serve(stream));
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the console failed to accept a connection");
                            time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        }
        drop(listener);
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                log_panic(ended);
            }
        };
        if time::timeout(GRACE, all_ended).await.is_err() {
            connections.shutdown().await;
        }
    }

    async fn serve(mut self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), self.routes)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut self.stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the console failed");
        }
    }
}

/// A panic ends one connection, never the console.
fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection to the console panicked");
    }
}

#[cfg(test)]
mod tests;
