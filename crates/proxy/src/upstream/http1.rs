//! An HTTP/1 connection to an upstream, driven by whoever has it: there is no task beside it.
//!
//! 1. The request and its answer move at the same time: an answer may come before the request
//!    has been sent to its end, and then the rest of the request goes on beside it.
//! 2. A service that stops reading may have answered; its answer is read all the same.
//! 3. Interim answers (1xx) are passed over, so many and no more.
//! 4. A connection is used again where both sides have said so, both messages have ended and
//!    nothing follows them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::http1::body::{BodyError, BodyReader};
use crate::http1::chunked::Sender;
use crate::http1::response::{self, MalformedResponse, ResponseHead};
use crate::http1::wire::{Outlet, Socket, Wire};
use crate::http1::{Framing, encode};

/// Interim answers before the one that counts.
const INTERIM_MAX: usize = 16;

/// A connection, and the exchange that is on it.
#[derive(Debug)]
pub(crate) struct Connection<B> {
    wire: Wire,
    outlet: Outlet,
    method: Method,
    /// What is still to be sent of the request's body.
    upload: Option<B>,
    chunked: bool,
    /// Bytes of the request's body that were put on their way.
    uploaded: u64,
    /// Interim answers so far.
    interim: usize,
    answer: BodyReader,
    keep_alive: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Not a byte of one came.
    #[error("the connection ended before an answer: {0}")]
    Ended(io::Error),
    #[error("the answer is malformed: {0}")]
    Malformed(#[from] MalformedResponse),
    #[error("the connection ended in the middle of the answer's head")]
    Truncated,
    #[error("there are too many interim answers")]
    Interim,
    /// The request's own body ended early.
    #[error("the request body ended early")]
    Upload,
}

impl<B: Body<Data = Bytes> + Unpin> Connection<B> {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            wire: Wire::new(socket),
            outlet: Outlet::default(),
            method: Method::GET,
            upload: None,
            chunked: false,
            uploaded: 0,
            interim: 0,
            answer: BodyReader::new(Framing::None, Sender::Service),
            keep_alive: true,
        }
    }

    /// Begins an exchange. `write` writes the head, up to its last field.
    pub(crate) fn ask(
        &mut self,
        method: &Method,
        body: B,
        write: impl FnOnce(&mut Vec<u8>, Framing),
    ) {
        let framing = match body.size_hint().exact() {
            _ if body.is_end_stream() => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let out = self.outlet.end();
        write(out, framing);
        out.extend_from_slice(b"\r\n");
        self.method = method.clone();
        self.chunked = framing == Framing::Chunked;
        self.upload = (framing != Framing::None).then_some(body);
        self.interim = 0;
        self.keep_alive = false;
    }

    /// Sends the request, and reads the head of its answer. `empty` makes the map for its fields.
    pub(crate) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        empty: impl Fn() -> HeaderMap,
    ) -> Poll<Result<ResponseHead, NoAnswer>> {
        loop {
            if !self.wire.unread.is_empty()
                && let Some(head) = response::take(&mut self.wire.unread, &self.method, &empty)?
            {
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
                {
                    self.answer = BodyReader::new(head.framing, Sender::Service);
                    self.keep_alive = head.keep_alive;
                    return Poll::Ready(Ok(head));
                }
                self.interim += 1;
                if self.interim > INTERIM_MAX {
                    return Poll::Ready(Err(NoAnswer::Interim));
                }
                continue;
            }
            self.poll_upload(cx)?;
            let ended = match ready!(self.wire.poll_fill(cx)) {
                Ok(1..) => continue,
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Err(error) => error,
            };
            return Poll::Ready(Err(if self.interim == 0 && self.wire.unread.is_empty() {
                NoAnswer::Ended(ended)
            } else {
                NoAnswer::Truncated
            }));
        }
    }

    /// Sends as much of the request as the service takes.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), NoAnswer> {
        loop {
            if !self.outlet.has_room() && !self.flush(cx) {
                return Ok(());
            }
            let Some(body) = &mut self.upload else { break };
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let last = body.is_end_stream();
                    // Trailers of a request would go past every check.
                    if let Ok(data) = frame.into_data() {
                        self.put(data);
                    }
                    if last {
                        self.end_upload();
                    }
                }
                Poll::Ready(Some(Err(_))) => return Err(NoAnswer::Upload),
                Poll::Ready(None) => self.end_upload(),
                Poll::Pending => break,
            }
        }
        self.flush(cx);
        Ok(())
    }

    fn put(&mut self, data: Bytes) {
        self.uploaded += data.len() as u64;
        if self.chunked && !data.is_empty() {
            encode::chunk_size(self.outlet.end(), data.len());
            self.outlet.push(data);
            self.outlet.end().extend_from_slice(b"\r\n");
        } else {
            self.outlet.push(data);
        }
    }

    fn end_upload(&mut self) {
        if self.chunked {
            self.outlet.end().extend_from_slice(encode::LAST_CHUNK);
        }
        self.upload = None;
    }

    /// Returns whether everything was taken.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        match self.wire.poll_flush(cx, &mut self.outlet) {
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "the service stopped reading a request");
                self.upload = None;
                self.outlet = Outlet::default();
                self.keep_alive = false;
                false
            }
        }
    }

    /// The next frame of the answer.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if (self.upload.is_some() || !self.outlet.is_empty()) && self.poll_upload(cx).is_err() {
            return Poll::Ready(Some(Err(BodyError::Truncated)));
        }
        self.answer.poll_frame(&mut self.wire, cx)
    }

    /// Ready once the rest of a request, whose answer has ended, is sent.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoAnswer>> {
        self.poll_upload(cx)?;
        if self.upload.is_none() && self.outlet.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // Whatever comes now is no answer, and the end is one to both.
        match self.wire.poll_fill(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(Err(NoAnswer::Truncated)),
        }
    }

    /// Whether only the rest of the request keeps it from being used again.
    pub(crate) fn is_uploading(&self) -> bool {
        self.keep_alive && self.upload.is_some() && self.answer.has_ended()
    }

    pub(crate) const fn uploaded(&self) -> u64 {
        self.uploaded
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.answer.has_ended()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }

    /// Whether another exchange may follow the one that was on it.
    pub(crate) fn is_reusable(&self) -> bool {
        self.keep_alive
            && self.upload.is_none()
            && self.outlet.is_empty()
            && self.answer.has_ended()
            && self.wire.unread.is_empty()
    }

    /// Whether it is as it was left: open, and without a byte that nobody asked for.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.wire.is_quiet()
    }

    /// The bytes behind a 101.
    pub(crate) fn into_wire(self) -> Wire {
        self.wire
    }
}
