//! One client's HTTP/2 connection, which hyper drives.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::Shared;
use crate::body::ClientBody;
use crate::exchange::{self, Peer};
use crate::http1::wire::Wire;
use crate::local::LocalExecutor;
use crate::snapshot::ConnectionLimits;

/// Serves the connection until it ends.
pub(super) async fn serve(peer: Rc<Peer>, wire: Wire, limits: ConnectionLimits) {
    let shared = Rc::clone(&peer.shared);
    let io = TimedIo { wire, shared: Rc::clone(&shared) };
    // An exchange takes some KiB while it lasts. Boxed, hyper does not move them.
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (head, body) = request.into_parts();
        let exchange = exchange::serve(Rc::clone(&peer), head, ClientBody::Http2(body));
        Box::pin(async move {
            let mut response = exchange.await;
            let decoration = response.body_mut().take_decoration();
            decoration.apply(response.headers_mut());
            Ok::<_, std::convert::Infallible>(response)
        })
    });
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        // h2 answers a larger head by itself, without a problem and without a record. So it is
        // told of twice the limit, and the exchange refuses what lies between. Heads come one at
        // a time, so this costs a connection no more memory than one head.
        .max_header_list_size(u32::try_from(2 * limits.head_bytes_max).unwrap_or(u32::MAX))
        // A peer that opens and resets streams faster than we can serve them is cut off
        // (CVE-2023-44487, CVE-2025-8671).
        .max_pending_accept_reset_streams(32)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(limits.timeout_idle / 2)
        .keep_alive_timeout(limits.timeout_head)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut told = false;
    let ended = poll_fn(|cx| {
        if shared.is_winding_up() && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "connection ended");
    }
}

/// A socket that notes since when the client has taken nothing.
struct TimedIo {
    wire: Wire,
    shared: Rc<Shared>,
}

impl AsyncRead for TimedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire.socket).poll_write(cx, bytes);
        self.shared.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire.socket).poll_write_vectored(cx, slices);
        self.shared.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire.socket).poll_shutdown(cx)
    }
}
