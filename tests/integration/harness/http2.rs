//! A client that speaks HTTP/2 with prior knowledge.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Opens a connection, which lives as long as what is returned.
pub(crate) async fn connect<B>(addr: SocketAddr) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(addr).await.expect("the gateway listens");
    let connected = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = connected.expect("the gateway speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A GET of `path` on the host `shop.example`.
pub(crate) fn get(path: &str) -> http::Request<Full<Bytes>> {
    http::Request::get(format!("http://shop.example{path}"))
        .body(Full::default())
        .expect("a path makes a request")
}

/// A body of which the test sends every frame.
pub(crate) struct Frames(mpsc::Receiver<Frame<Bytes>>);

impl Frames {
    pub(crate) fn new() -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (sender, frames) = mpsc::channel(8);
        (sender, Self(frames))
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}
