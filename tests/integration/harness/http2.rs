//! A client that speaks HTTP/2 with prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Opens a connection, which lives as long as what is returned.
pub(crate) async fn connect(addr: SocketAddr) -> SendRequest<Full<Bytes>> {
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
