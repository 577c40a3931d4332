//! An HTTP/1.1 keep-alive connection with one exchange at a time, made anew when it has ended.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// The largest answer that is read, in bytes: a full page of the longest complaints.
const ANSWER_MAX: usize = 4 << 20;

pub(crate) type OutgoingRequest = Request<Full<Bytes>>;

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("failed to connect: {0}")]
    Connect(#[from] io::Error),
    #[error("failed to exchange: {0}")]
    Http(#[from] hyper::Error),
    #[error("failed to read the answer: {0}")]
    Body(Box<dyn Error + Send + Sync>),
}

/// The way to an address: at most one connection, opened when it is needed.
pub(crate) struct Line {
    to: SocketAddr,
    /// The address to come from, where the system has it.
    source: Option<Ipv4Addr>,
    kept: Option<Connection>,
}

impl Line {
    pub(crate) fn new(to: SocketAddr, source: Option<Ipv4Addr>) -> Self {
        Self { to, source, kept: None }
    }

    /// Sends `request` and reads the whole answer. Where that fails, or is given up half-way, the
    /// connection is closed: what is still to come on it would answer the wrong request.
    pub(crate) async fn exchange(
        &mut self,
        request: OutgoingRequest,
    ) -> Result<Answer, ExchangeError> {
        let kept = match self.kept.take() {
            Some(mut kept) => kept.sender.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => Connection::open(self.to, self.source).await?,
        };
        let answer = connection.exchange(request).await?;
        self.kept = Some(connection);
        Ok(answer)
    }
}

struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// The task that moves the bytes, which ends with this.
    _driver: JoinSet<()>,
}

impl Connection {
    async fn open(to: SocketAddr, source: Option<Ipv4Addr>) -> Result<Self, ExchangeError> {
        let stream = match source.and_then(bound) {
            Some(socket) => socket.connect(to).await?,
            None => TcpStream::connect(to).await?,
        };
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The exchange under way reports the same error.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a synthetic client's connection ended");
            }
        });
        Ok(Self { sender, _driver: driver })
    }

    async fn exchange(&mut self, request: OutgoingRequest) -> Result<Answer, ExchangeError> {
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(ExchangeError::Body)?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

/// A socket bound to `source`. Linux has all of 127.0.0.0/8; other systems may have 127.0.0.1 only,
/// and then any address will do.
fn bound(source: Ipv4Addr) -> Option<TcpSocket> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(SocketAddr::new(source.into(), 0)).ok()?;
    Some(socket)
}
