//! The running help desk: a listener, its connections, and the faults in force.
//!
//! Connections are served here and not by axum's `serve`, because a [`Fault::Drop`] has to end a
//! TCP connection in the middle of an exchange. HTTP/1.1 and HTTP/2 (prior knowledge) are both
//! understood.

use std::convert::Infallible;
use std::future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time;

use crate::fault::{End, Fault, FaultPlan};
use crate::routes::{self, error::ApiError};
use crate::store::{Closed, OpenError, Store};

/// Connections served at once; further ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 4096;

/// How long a shutdown waits for requests under way before it ends their connections.
const GRACE: Duration = Duration::from_secs(5);

/// The pause after a failed accept (most often: no file descriptor left), which would otherwise
/// fail again at once, and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a [`Service`] starts.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Where to listen. Port 0 lets the system choose; [`Service::addr`] says what it chose.
    pub addr: SocketAddr,
    /// The database file, made where there is none. `None` is a private one in memory.
    pub database: Option<PathBuf>,
    /// What goes wrong from the start on.
    pub faults: Vec<Fault>,
    /// Chooses the requests that the faults strike.
    pub seed: u64,
}

impl Default for ServiceConfig {
    /// Any free port of 127.0.0.1, a database in memory, no faults.
    fn default() -> Self {
        Self { addr: ([127, 0, 0, 1], 0).into(), database: None, faults: Vec::new(), seed: 0 }
    }
}

/// Why a [`Service`] did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("failed to open the help desk's database: {reason}")]
    Database { reason: String },
}

/// A running help desk. Dropped, it stops as [`shutdown`](Self::shutdown) does, unawaited.
#[derive(Debug)]
pub struct Service {
    addr: SocketAddr,
    seed: u64,
    faults: watch::Sender<Arc<FaultPlan>>,
    /// Its end is the sign to stop.
    running: watch::Sender<()>,
    accepting: JoinHandle<()>,
    database: Closed,
}

impl Service {
    /// Opens the database, binds, and serves on the current tokio runtime.
    pub async fn start(config: ServiceConfig) -> Result<Self, StartError> {
        let ServiceConfig { addr, database, faults, seed } = config;
        let (listener, addr) =
            listen(addr).await.map_err(|source| StartError::Listen { addr, source })?;
        let (store, database) = Store::open(database)
            .await
            .map_err(|error: OpenError| StartError::Database { reason: error.to_string() })?;
        let (faults, fault_plan) = watch::channel(Arc::new(FaultPlan::new(faults, seed)));
        let (running, stop) = watch::channel(());
        let acceptor = Acceptor {
            routes: TowerToHyperService::new(routes::router(store)),
            faults: fault_plan,
            stop,
        };
        let accepting = tokio::spawn(acceptor.run(listener));
        Ok(Self { addr, seed, faults, running, accepting, database })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Replaces the faults in force; requests under way keep their fate.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.faults.send_replace(Arc::new(FaultPlan::new(faults, self.seed)));
    }

    /// Stops accepting, lets requests under way end for up to five seconds, closes the database.
    pub async fn shutdown(self) {
        let Self { running, accepting, database, .. } = self;
        drop(running);
        if let Err(error) = accepting.await {
            tracing::error!(%error, "the help desk's listener failed");
        }
        // The thread sends nothing: its end of the channel goes with it.
        drop(database.await);
    }
}

async fn listen(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// What every connection needs.
#[derive(Clone)]
struct Acceptor {
    routes: TowerToHyperService<Router>,
    faults: watch::Receiver<Arc<FaultPlan>>,
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
                            tracing::warn!(%error, "failed to accept a connection");
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
        let hang_up = Arc::new(Notify::new());
        let faulty =
            Faulty { routes: self.routes, faults: self.faults, hang_up: Arc::clone(&hang_up) };
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new());
        server.http2().timer(TokioTimer::new());
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), faulty));
        let mut stopping = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection failed");
                    }
                    return;
                }
                // Returning drops the stream, which closes it, whatever is under way on it.
                () = hang_up.notified() => return,
                () = stopped(&mut self.stop), if !stopping => {
                    connection.as_mut().graceful_shutdown();
                    stopping = true;
                }
            }
        }
    }
}

/// Resolves when the [`Service`] is gone or shutting down.
async fn stopped(stop: &mut watch::Receiver<()>) {
    while stop.changed().await.is_ok() {}
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

/// The routes behind the faults.
struct Faulty {
    routes: TowerToHyperService<Router>,
    faults: watch::Receiver<Arc<FaultPlan>>,
    /// Tells the connection's task to close it.
    hang_up: Arc<Notify>,
}

impl hyper::service::Service<Request<Incoming>> for Faulty {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let fate = self.faults.borrow().fate(request.uri().path());
        let routes = self.routes.clone();
        let hang_up = Arc::clone(&self.hang_up);
        Box::pin(async move {
            if !fate.delay.is_zero() {
                time::sleep(fate.delay).await;
            }
            match fate.end {
                End::Answer => hyper::service::Service::call(&routes, request).await,
                End::Status(status) => {
                    Ok(ApiError::new(status, "a fault was asked for").into_response())
                }
                End::Drop => {
                    hang_up.notify_one();
                    future::pending().await
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Method, StatusCode};
    use http_body_util::{BodyExt, Empty};
    use hyper::client::conn::http2;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clients::connection::{ExchangeError, Line};
    use crate::harness::{Caller, fault};

    async fn start(faults: &[&str]) -> Service {
        let faults = faults.iter().map(|text| fault(text)).collect();
        Service::start(ServiceConfig { faults, ..ServiceConfig::default() }).await.unwrap()
    }

    fn get(target: &str) -> crate::clients::connection::OutgoingRequest {
        Request::builder().uri(target).header("host", "desk").body(Bytes::new().into()).unwrap()
    }

    #[tokio::test]
    async fn a_dropped_connection_ends_without_a_byte() {
        let service = start(&["drop@/api/messages"]).await;
        for half_sent in [
            "GET /api/messages HTTP/1.1\r\nhost: desk\r\n\r\n",
            "POST /api/messages HTTP/1.1\r\nhost: desk\r\ncontent-length: 100\r\n\r\n{\"from\"",
        ] {
            let mut stream = TcpStream::connect(service.addr()).await.unwrap();
            // The same connection answers before: it is the exchange that breaks off.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: desk\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
            }
            stream.write_all(half_sent.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            match stream.read_to_end(&mut rest).await {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            }
            assert_eq!(rest, b"", "{half_sent}");
        }
        service.shutdown().await;
    }

    #[tokio::test]
    async fn a_status_fault_answers_in_the_services_own_shape_until_it_is_lifted() {
        let service = start(&["status=503@/api"]).await;
        let mut caller = Caller::new(service.addr());
        let (status, body) = caller.get("/api/companies").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, json!({ "error": "a fault was asked for" }));
        assert_eq!(caller.get("/healthz").await.0, StatusCode::OK);
        service.set_faults(Vec::new());
        assert_eq!(caller.get("/api/companies").await.0, StatusCode::OK);
        service.shutdown().await;
    }

    #[tokio::test]
    async fn late_answers_hold_up_nobody_else() {
        let service = start(&["latency=600s@/api/messages"]).await;
        let (mut late, mut prompt) = (Line::new(service.addr(), None), Caller::new(service.addr()));
        tokio::select! {
            biased;
            _ = late.exchange(get("/api/messages")) => panic!("ten minutes are not over"),
            (status, _) = prompt.get("/healthz") => assert_eq!(status, StatusCode::OK),
        }
    }

    #[tokio::test]
    async fn the_same_seed_fails_the_same_requests() {
        let mut runs = Vec::new();
        for seed in [1, 1, 2] {
            let faults = vec![fault("status=500@50%"), fault("drop@20%@/healthz")];
            let config = ServiceConfig { faults, seed, ..ServiceConfig::default() };
            let service = Service::start(config).await.unwrap();
            let mut line = Line::new(service.addr(), None);
            let mut fates = Vec::new();
            for _ in 0..40 {
                let answer = line.exchange(get("/healthz")).await;
                fates.push(answer.ok().map(|answer| answer.status.as_u16()));
            }
            assert!(fates.contains(&None) && fates.contains(&Some(200)), "{fates:?}");
            runs.push(fates);
            service.shutdown().await;
        }
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0], runs[2]);
    }

    #[tokio::test]
    async fn http_2_is_understood() {
        let service = start(&[]).await;
        let stream = TcpStream::connect(service.addr()).await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = Request::get("http://desk/healthz").body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, http::Version::HTTP_2));
        assert_eq!(answer.collect().await.unwrap().to_bytes(), r#"{"status":"ok"}"#);
        service.shutdown().await;
        driver.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_shutdown_lets_a_request_under_way_end_and_frees_address_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let database = Some(dir.path().join("desk.db"));
        let config = ServiceConfig { database, ..ServiceConfig::default() };
        let service = Service::start(config.clone()).await.unwrap();
        let addr = service.addr();

        let body = r#"{"from": "mara", "to": "jonas", "text": "still here"}"#;
        let head = format!(
            "POST /api/messages HTTP/1.1\r\nhost: desk\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nexpect: 100-continue\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 100 "));

        let finish = async {
            stream.write_all(body.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (answer, ()) = tokio::join!(finish, service.shutdown());
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        let refused = Line::new(addr, None).exchange(get("/healthz")).await;
        assert!(matches!(refused, Err(ExchangeError::Connect(_))), "{refused:?}");

        let service = Service::start(ServiceConfig { addr, ..config }).await.unwrap();
        let (_, page) = Caller::new(addr).get("/api/messages?limit=1").await;
        assert_eq!(page["items"][0]["text"], "still here");
        service.shutdown().await;
    }

    #[tokio::test]
    async fn a_start_that_fails_says_why() {
        let service = start(&[]).await;
        let config = ServiceConfig { addr: service.addr(), ..ServiceConfig::default() };
        let error = Service::start(config).await.unwrap_err();
        assert!(matches!(error, StartError::Listen { addr, .. } if addr == service.addr()));

        let dir = tempfile::tempdir().unwrap();
        let database = Some(dir.path().join("no such directory/desk.db"));
        let config = ServiceConfig { database, ..ServiceConfig::default() };
        let error = Service::start(config).await.unwrap_err();
        assert!(matches!(error, StartError::Database { .. }), "{error}");
    }

    #[tokio::test]
    async fn the_page_gives_a_session_to_whoever_has_none() {
        let service = start(&[]).await;
        let mut caller = Caller::new(service.addr());
        let page = caller.send(Method::GET, "/", &[], None).await;
        let cookie = page.headers["set-cookie"].to_str().unwrap();
        assert!(cookie.starts_with("session=") && cookie.ends_with("; Path=/"), "{cookie}");
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        for cookies in ["session=mine", "theme=dark; session=mine"] {
            let page = caller.send(Method::GET, "/", &[("cookie", cookies)], None).await;
            assert!(!page.headers.contains_key("set-cookie"), "{cookies}");
        }
        service.shutdown().await;
    }
}
