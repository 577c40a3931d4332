//! A client's socket as hyper sees it: guarded on the way in, timed on the way out, and closed
//! so that the last answer arrives.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::ReadBufCursor;
use seaworthy_policy::problem::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::{Fault, Guard, Refusal};
use super::shared::Shared;

/// What hyper is given in place of a head that was refused, so that the refusal leaves through
/// the one door, in its turn behind the answers to earlier requests.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

/// Bytes read and thrown away after the last answer, so that the client can read it before the
/// kernel answers its unread bytes with a reset.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// One read. Larger than hyper's first buffer, so that the copy is the only limit.
const READ_MAX: usize = 64 << 10;

thread_local! {
    // One buffer a worker: an idle connection holds no memory for reads.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into());
}

pub(crate) struct ClientIo<S> {
    stream: S,
    guard: Guard,
    shared: Arc<Shared>,
    /// Bytes read and not handed on; the first `released` of them may be.
    held: Vec<u8>,
    released: usize,
    lingered: usize,
    shut: bool,
    /// A body broke its framing: once what is released has passed, reads fail.
    broken: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientIo<S> {
    pub(crate) fn new(stream: S, guard: Guard, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            guard,
            shared,
            held: Vec::new(),
            released: 0,
            lingered: 0,
            shut: false,
            broken: false,
        }
    }

    /// ALPN has settled on HTTP/2: every byte belongs to it. Returns true.
    pub(crate) fn open(&mut self) -> bool {
        self.guard.open();
        true
    }

    /// Reads until the first bytes tell whether HTTP/2 is spoken without negotiation.
    ///
    /// The preface is 24 bytes that no HTTP/1 request can start with, so as soon as one differs
    /// the answer is no. The bytes are kept for the protocol's own reader.
    pub(crate) async fn speaks_http2(&mut self) -> io::Result<bool> {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let http2 = loop {
            let known = self.held.len().min(PREFACE.len());
            if self.held[..known] != PREFACE[..known] {
                break false;
            }
            if known == PREFACE.len() {
                break true;
            }
            let mut piece = [0; 1024];
            let count = tokio::io::AsyncReadExt::read(&mut self.stream, &mut piece).await?;
            if count == 0 {
                break false;
            }
            self.shared.head_began();
            self.held.extend_from_slice(&piece[..count]);
        };
        if http2 {
            self.shared.head_ended();
            self.guard.open();
        }
        self.release_held();
        Ok(http2)
    }

    /// Scans what is held and releases what may pass.
    fn release_held(&mut self) {
        let scan = self.guard.scan(&self.held[self.released..]);
        self.released += scan.clear;
        self.note(scan.fault);
    }

    /// Acts on what a scan found, and keeps the time of an unfinished head.
    fn note(&mut self, fault: Option<Fault>) {
        match fault {
            Some(Fault::Head(refusal)) => return self.stand_in(refusal),
            Some(Fault::Body) => {
                self.held.truncate(self.released);
                self.broken = true;
            }
            None => {}
        }
        if self.held.len() > self.released && self.guard.is_between_messages() {
            self.shared.head_began();
        } else {
            self.shared.head_ended();
        }
    }

    /// Replaces everything that was not released by the stand-in.
    fn stand_in(&mut self, refusal: Refusal) {
        self.guard.refuse();
        self.held.truncate(self.released);
        self.held.extend_from_slice(STAND_IN);
        self.released = self.held.len();
        self.shared.refuse(self.guard.heads() + 1, refusal);
    }

    /// Hands released bytes to hyper. Returns whether there were any.
    fn hand_on(&mut self, cursor: &mut ReadBufCursor<'_>) -> bool {
        let count = self.released.min(cursor.remaining());
        if count == 0 {
            return false;
        }
        cursor.put_slice(&self.held[..count]);
        self.held.drain(..count);
        self.released -= count;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        true
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            while self.lingered < LINGER_BYTES_MAX {
                let mut buf = ReadBuf::new(scratch);
                match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                    Ok(()) if !buf.filled().is_empty() => self.lingered += buf.filled().len(),
                    _ => break,
                }
            }
            Poll::Ready(())
        })
    }
}

/// What one attempt to read came to.
enum Step {
    /// hyper has new bytes.
    Delivered,
    /// There are new bytes, but none that may pass yet.
    Held,
    /// The client will send no more.
    Ended,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientIo<S> {
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        cursor: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<Step>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let room = cursor.remaining().min(scratch.len());
            let mut buf = ReadBuf::new(&mut scratch[..room]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            let fresh = buf.filled();
            if fresh.is_empty() {
                return Poll::Ready(Ok(Step::Ended));
            }
            if !self.held.is_empty() {
                self.held.extend_from_slice(fresh);
                self.release_held();
                return Poll::Ready(Ok(Step::Held));
            }
            // The usual case: one read is one whole request, copied once.
            let scan = self.guard.scan(fresh);
            cursor.put_slice(&fresh[..scan.clear]);
            self.held.extend_from_slice(&fresh[scan.clear..]);
            self.note(scan.fault);
            Poll::Ready(Ok(if scan.clear > 0 { Step::Delivered } else { Step::Held }))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Read for ClientIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.guard.awaits_decision()
            && let Some(tunnel) = this.shared.take_decision()
        {
            this.guard.decide(tunnel);
            this.release_held();
        }
        if this.shared.head_expired() && !this.guard.is_refused() {
            this.stand_in(Refusal {
                code: Code::HeadTimeout,
                detail: "The request head did not arrive in time.",
            });
        }
        loop {
            if this.hand_on(&mut cursor) {
                return Poll::Ready(Ok(()));
            }
            if this.broken {
                let fault = "the chunked body breaks its framing";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
            }
            // Nothing may pass until the service has decided, or ever again. Whoever decides
            // wakes this task.
            if this.guard.is_refused() || this.guard.awaits_decision() {
                this.shared.wake_me_to_read(cx.waker());
                return Poll::Pending;
            }
            match ready!(this.poll_step(cx, &mut cursor))? {
                Step::Delivered | Step::Ended => return Poll::Ready(Ok(())),
                Step::Held => {
                    if this.guard.is_between_messages() && this.released == 0 {
                        this.shared.wake_me_to_read(cx.waker());
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Write for ClientIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.shared.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.shared.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.shut = true;
        }
        // A message that was not read to its end is still on its way.
        if !self.guard.is_between_messages() {
            self.shared.linger_began();
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
