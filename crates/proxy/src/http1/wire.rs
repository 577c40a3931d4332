//! A socket with what was read from it and not yet used, and what is on its way into it.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// One read.
const READ_MAX: usize = 64 << 10;

/// A piece of a body up to this size is copied behind what is already to be written: cheaper
/// than a second slice for the kernel.
const COPIED_MAX: usize = 8 << 10;

thread_local! {
    // One buffer a worker: an idle connection holds no memory for reads.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into());
}

/// A connection in the clear or in TLS, from either side.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Whether ALPN settled on HTTP/2.
    pub(crate) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// The other side is to see that what it was sent is not whole: once this is dropped, the
    /// connection ends with a reset.
    pub(crate) fn reset_on_drop(&self) {
        let tcp = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        if let Err(error) = tcp.set_zero_linger() {
            tracing::debug!(%error, "SO_LINGER was not set");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A socket, and the bytes that were read from it and not yet used.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    pub(crate) unread: BytesMut,
}

impl Wire {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, unread: BytesMut::new() }
    }

    /// Reads once, behind what is unread. Returns how many bytes came, 0 at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
            let fresh = buf.filled();
            self.unread.extend_from_slice(fresh);
            Poll::Ready(Ok(fresh.len()))
        })
    }

    /// Whether the other side has sent nothing, not even its end, since the last message.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.unread.is_empty()
            && self.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Reads and throws away until the other side ends, or `left` bytes have come.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        self.unread.clear();
        while *left > 0 {
            match ready!(self.poll_fill(cx)) {
                Ok(count) if count > 0 => *left = left.saturating_sub(count),
                _ => break,
            }
            self.unread.clear();
        }
        Poll::Ready(())
    }

    /// Writes what `outlet` holds. Ready once all of it is with the kernel.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        outlet: &mut Outlet,
    ) -> Poll<io::Result<()>> {
        if outlet.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut socket = Pin::new(&mut self.socket);
        while !outlet.is_empty() {
            let written = ready!(outlet.poll_write(socket.as_mut(), cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outlet.sent(written);
        }
        socket.poll_flush(cx)
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Takes the first `count` bytes of `unread`, which gives up its memory with the last of them.
pub(crate) fn take(unread: &mut BytesMut, count: usize) -> Bytes {
    if count == unread.len() {
        std::mem::take(unread).freeze()
    } else {
        unread.split_to(count).freeze()
    }
}

/// Takes the first `count` bytes of `unread` away.
pub(crate) fn skip(unread: &mut BytesMut, count: usize) {
    if count == unread.len() {
        *unread = BytesMut::new();
    } else {
        unread.advance(count);
    }
}

/// After a tunnel has been agreed on, the wire is a stream of bytes.
impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let count = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..count]);
        skip(&mut self.unread, count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Bytes on their way into a socket: heads and small pieces in one buffer, then at most one
/// large piece of a body, which is not copied, then what follows it.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    front: Vec<u8>,
    sent: usize,
    piece: Bytes,
    back: Vec<u8>,
}

impl Outlet {
    pub(crate) const fn is_empty(&self) -> bool {
        self.front.len() == self.sent && self.piece.is_empty() && self.back.is_empty()
    }

    /// Whether another piece may be put in before it is flushed.
    pub(crate) const fn has_room(&self) -> bool {
        self.front.len() < READ_MAX && self.piece.is_empty()
    }

    /// Where heads and framing are written.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        if self.piece.is_empty() { &mut self.front } else { &mut self.back }
    }

    /// Puts a piece of a body in. There is room.
    pub(crate) fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty(), "one large piece at a time");
        if piece.len() <= COPIED_MAX {
            self.front.extend_from_slice(&piece);
        } else {
            self.piece = piece;
        }
    }

    fn poll_write(
        &self,
        mut socket: Pin<&mut Socket>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let front = &self.front[self.sent..];
        if self.piece.is_empty() && self.back.is_empty() {
            return socket.as_mut().poll_write(cx, front);
        }
        let slices = [front, &self.piece, &self.back].map(IoSlice::new);
        socket.as_mut().poll_write_vectored(cx, &slices)
    }

    fn sent(&mut self, count: usize) {
        let front = count.min(self.front.len() - self.sent);
        self.sent += front;
        let piece = (count - front).min(self.piece.len());
        self.piece.advance(piece);
        if self.front.len() == self.sent && self.piece.is_empty() {
            // An idle connection holds no memory for writes, either.
            self.piece = Bytes::new();
            self.front = std::mem::take(&mut self.back);
            self.sent = count - front - piece;
            if self.front.len() == self.sent {
                self.front = Vec::new();
                self.sent = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_order_however_it_is_written() {
        for step in [1, 3, 7, 1000] {
            let mut outlet = Outlet::default();
            outlet.end().extend_from_slice(b"head ");
            outlet.push(Bytes::from_static(b"small "));
            let large = Bytes::from(vec![b'x'; COPIED_MAX + 1]);
            outlet.push(large.clone());
            assert!(!outlet.has_room());
            outlet.end().extend_from_slice(b" end");
            let want = [b"head small ", &large[..], b" end"].concat();
            let mut got = Vec::new();
            while !outlet.is_empty() {
                let all = [&outlet.front[outlet.sent..], &outlet.piece, &outlet.back].concat();
                let count = step.min(all.len());
                got.extend_from_slice(&all[..count]);
                outlet.sent(count);
            }
            assert_eq!(got, want, "in steps of {step}");
            assert!(outlet.has_room());
        }
    }
}
