//! A stream that gives no more than it was allowed.
//!
//! The client reads a reply into memory before it hands it over, however long it says that it is.
//! So the stream has an allowance of bytes, renewed with every command and every message, and ends
//! with an error where more comes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What may still be read. Shared by the stream and by whoever renews it.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    left: Arc<AtomicUsize>,
    bytes: usize,
}

impl Allowance {
    pub(super) fn of(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)), bytes }
    }

    pub(super) fn renew(&self) {
        self.left.store(self.bytes, Ordering::Relaxed);
    }

    /// Whether there were `bytes` left.
    fn take(&self, bytes: usize) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(bytes), Ordering::Relaxed);
        left >= bytes
    }
}

#[derive(Debug)]
pub(super) struct Metered<S> {
    pub(super) inner: S,
    pub(super) allowance: Allowance,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if self.allowance.take(buffer.filled().len() - before) {
            return polled;
        }
        Poll::Ready(Err(io::Error::other("it sends more than modes can have")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn more_than_the_allowance_is_an_error_and_a_renewal_gives_all_of_it_again() {
        let (mut far, near) = tokio::io::duplex(64);
        let allowance = Allowance::of(8);
        let mut near = Metered { inner: near, allowance: allowance.clone() };
        let mut read = [0; 8];
        for _ in 0..3 {
            far.write_all(b"12345678").await.unwrap();
            assert_eq!(near.read_exact(&mut read).await.unwrap(), 8);
            allowance.renew();
        }
        far.write_all(b"123456789").await.unwrap();
        near.read_exact(&mut read).await.unwrap();
        let error = near.read(&mut read).await.unwrap_err();
        assert_eq!(error.to_string(), "it sends more than modes can have");
    }
}
