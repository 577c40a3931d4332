//! The bodies of one exchange: they stream, are counted, and end a request when they end.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use seaworthy_policy::content::Unread;
use seaworthy_policy::problem::{Code, Denial};
use seaworthy_policy::protection::BodyLength;
use seaworthy_policy::record::Ending;
use tokio::time::Sleep;

use crate::chain::Decoration;
use crate::connection::http1::Upload;
use crate::flight::Flight;
use crate::http1::body::BodyError;
use crate::http1::wire::Wire;
use crate::tunnel;
use crate::upstream::pool::Lease;
use crate::worker::Worker;

/// What the client sends, as its protocol carries it.
pub(crate) enum ClientBody {
    None,
    Http1(Upload),
    Http2(Incoming),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenBody {
    #[error("{0}")]
    Http1(#[from] BodyError),
    #[error("{0}")]
    Http2(#[from] hyper::Error),
    #[error("the stream was reset in the middle of the body")]
    Reset,
}

impl BrokenBody {
    /// Whether the sender is gone, so that there is nobody to be told of a fault.
    pub(crate) const fn is_gone(&self) -> bool {
        match self {
            Self::Http1(error) => error.is_gone(),
            Self::Http2(_) | Self::Reset => true,
        }
    }
}

impl ClientBody {
    pub(crate) fn length(&self) -> BodyLength {
        if self.is_end_stream() {
            return BodyLength::None;
        }
        self.size_hint().exact().map_or(BodyLength::Unknown, BodyLength::Declared)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Http1(upload) => Pin::new(upload).poll_frame(cx).map_err(BrokenBody::Http1),
            Self::Http2(incoming) => match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
                None if incoming.is_end_stream() => Poll::Ready(None),
                // hyper says no more of a body whose stream was reset with NO_ERROR.
                None => Poll::Ready(Some(Err(BrokenBody::Reset))),
                Some(Err(error)) => Poll::Ready(Some(Err(BrokenBody::Http2(error)))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(upload) => upload.is_end_stream(),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Http1(upload) => upload.size_hint(),
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}

/// What the client sends, on its way to the service. The checks can read it first; then what they
/// have read comes first again, or what they have put in its place.
///
/// It ends with an error, which cancels the request to the service, where the client breaks
/// off, pauses for too long, or crosses an enforced size limit; the reason is left in
/// [`Flight::body_fault`].
pub(crate) struct RequestBody {
    read: VecDeque<Frame<Bytes>>,
    inner: Option<(ClientBody, Rc<Flight>)>,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Bytes of request bodies that a worker holds for the checks; dropping it gives the room back.
pub(crate) struct Held {
    worker: Rc<Worker>,
    bytes: usize,
}

impl Held {
    pub(crate) const fn none(worker: Rc<Worker>) -> Self {
        Self { worker, bytes: 0 }
    }

    /// Takes room for `bytes` more, unless all bodies together would have more than `bytes_max`.
    fn grow(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let all = self.worker.held_bytes.get() + bytes;
        let fits = all <= bytes_max;
        if fits {
            self.worker.held_bytes.set(all);
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.worker.held_bytes.set(self.worker.held_bytes.get() - self.bytes);
    }
}

/// The request body ended early. The reason is in [`Flight::body_fault`].
#[derive(Debug, thiserror::Error)]
#[error("the request body ended early")]
pub(crate) struct BodyEnded;

impl RequestBody {
    pub(crate) const fn empty() -> Self {
        Self { read: VecDeque::new(), inner: None, pause: None }
    }

    pub(crate) fn new(body: ClientBody, flight: Rc<Flight>) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self { inner: Some((body, flight)), ..Self::empty() }
    }

    /// Reads all of it, where it is within the bounds; what was read is sent all the same. In
    /// time, too: each byte of a body that arrives one by one would hold the others for hours.
    pub(crate) async fn read(
        &mut self,
        held: &mut Held,
        bytes_max: usize,
    ) -> Result<Result<Bytes, Unread>, BodyEnded> {
        let Some((_, flight)) = &self.inner else {
            let bytes = self.read.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
            return Ok(Ok(join(&mut self.read, bytes)));
        };
        let flight = Rc::clone(flight);
        let limits = flight.view.snapshot.limits;
        let end = flight.worker.now().after(limits.timeout_body);
        if self.size_hint().exact().is_some_and(|bytes| bytes > bytes_max as u64) {
            return Ok(Err(Unread::TooLarge { bytes_max }));
        }
        let (mut frames, mut bytes) = (VecDeque::new(), 0);
        let outcome = loop {
            let Some(frame) = poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await else {
                break Ok(());
            };
            let frame = frame?;
            let more = frame.data_ref().map_or(0, Bytes::len);
            bytes += more;
            frames.push_back(frame);
            if bytes > bytes_max {
                break Err(Unread::TooLarge { bytes_max });
            }
            if !held.grow(more, limits.checked_bodies_bytes_max) {
                break Err(Unread::NoRoom);
            }
            if flight.worker.now() > end {
                break Err(Unread::TooSlow);
            }
        };
        if outcome.is_ok() {
            self.inner = None;
        }
        let whole = outcome.map(|()| join(&mut frames, bytes));
        self.read = frames;
        Ok(whole)
    }

    /// Sends `content` in place of a body that was read whole.
    pub(crate) fn replace(&mut self, content: Bytes) {
        debug_assert!(self.inner.is_none(), "only a whole body is replaced");
        self.read.retain(|frame| !frame.is_data());
        if !content.is_empty() {
            self.read.push_front(Frame::data(content));
        }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>, limit: std::time::Duration) -> Poll<()> {
        self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyEnded;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyEnded>>> {
        if let Some(frame) = self.read.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some((body, flight)) = &mut self.inner else { return Poll::Ready(None) };
        let flight = Rc::clone(flight);
        let denial = match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.pause = None;
                let count = frame.data_ref().map_or(0, |data| data.len() as u64);
                match flight.receive(count) {
                    None => return Poll::Ready(Some(Ok(frame))),
                    Some(denial) => denial,
                }
            }
            Poll::Ready(Some(Err(error))) => {
                flight.client_gone.set(error.is_gone());
                Denial::new(Code::MalformedBody, "").internal(error.to_string())
            }
            Poll::Ready(None) => {
                flight.body_moved();
                return Poll::Ready(None);
            }
            Poll::Pending => {
                flight.body_pauses.set(true);
                let limit = flight.view.snapshot.limits.timeout_body;
                ready!(self.poll_pause(cx, limit));
                Denial::new(Code::BodyTimeout, "The request body paused for too long.")
            }
        };
        flight.body_fault.borrow_mut().get_or_insert(denial);
        Poll::Ready(Some(Err(BodyEnded)))
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.inner.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let read: usize = self.read.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let rest = self.inner.as_ref().map_or(Some(0), |(body, _)| body.size_hint().exact());
        rest.map_or_else(SizeHint::new, |rest| SizeHint::with_exact(read as u64 + rest))
    }
}

/// Makes one frame of the data of all of `frames`, and returns it.
fn join(frames: &mut VecDeque<Frame<Bytes>>, bytes: usize) -> Bytes {
    if let Some(Ok(whole)) = frames.front().map(|frame| frame.data_ref().cloned().ok_or(()))
        && whole.len() == bytes
    {
        frames.retain(|frame| !frame.is_data());
        frames.push_front(Frame::data(whole.clone()));
        return whole;
    }
    let mut whole = Vec::with_capacity(bytes);
    frames.retain(|frame| match frame.data_ref() {
        Some(data) => {
            whole.extend_from_slice(data);
            false
        }
        None => true,
    });
    let whole = Bytes::from(whole);
    if !whole.is_empty() {
        frames.push_front(Frame::data(whole.clone()));
    }
    whole
}

/// What the client is sent. When it is dropped, the request is over.
pub(crate) struct ResponseBody {
    content: Content,
    decoration: Decoration,
    flight: Rc<Flight>,
    failed: bool,
}

enum Content {
    Whole(Bytes),
    /// The service's body; the connection it comes on is lent until its last byte.
    Http1(Option<Lease>),
    Http2(Incoming, Option<Lease>),
}

impl ResponseBody {
    pub(crate) fn whole(content: Bytes, flight: Rc<Flight>) -> Self {
        Self::new(Content::Whole(content), flight)
    }

    fn new(content: Content, flight: Rc<Flight>) -> Self {
        Self { content, decoration: Decoration::default(), flight, failed: false }
    }

    /// The service's body; `incoming` where it comes over HTTP/2.
    pub(crate) fn stream(incoming: Option<Incoming>, lease: Lease, flight: Rc<Flight>) -> Self {
        let content = match incoming {
            Some(incoming) => Content::Http2(incoming, Some(lease)),
            None => Content::Http1(Some(lease)),
        };
        Self::new(content, flight)
    }

    /// The changes to the headers that this is the body of.
    pub(crate) fn decorate(&mut self, decoration: Decoration) {
        self.decoration = decoration;
    }

    pub(crate) fn take_decoration(&mut self) -> Decoration {
        std::mem::take(&mut self.decoration)
    }

    /// Gives the connection back as soon as the last byte has come, before it has been sent on.
    fn settle(&mut self) {
        let lease = match &mut self.content {
            Content::Http1(lease)
                if lease.as_ref().is_some_and(|lease| lease.http1().has_ended()) =>
            {
                lease.take()
            }
            Content::Http2(incoming, lease) if incoming.is_end_stream() => lease.take(),
            _ => None,
        };
        if let Some(lease) = lease {
            // The service is done with the request, and so are the places that it took.
            self.flight.judgement.borrow_mut().permits.clear();
            lease.give_back(self.flight.worker.recently());
        }
    }

    /// Behind a 101: copies between `client` and the service until both have ended.
    pub(crate) async fn tunnel(mut self, client: Wire) {
        let Content::Http1(lease) = &mut self.content else { return };
        let Some(lease) = lease.take() else { return };
        self.flight.record(Ending::Served);
        // As long as it is open, the connection is not idle.
        self.flight.connection.request_began();
        tunnel::run(&self.flight, client, lease).await;
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Whole(content) if content.is_empty() => None,
            Content::Whole(content) => Some(Ok(Frame::data(std::mem::take(content)))),
            Content::Http1(None) => None,
            Content::Http1(Some(lease)) => ready!(lease.http1_mut().poll_frame(cx))
                .map(|frame| frame.map_err(BrokenBody::Http1)),
            Content::Http2(incoming, _) => ready!(Pin::new(incoming).poll_frame(cx))
                .map(|frame| frame.map_err(BrokenBody::Http2)),
        };
        match &frame {
            Some(Ok(frame)) => {
                let count = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.flight.response_bytes.set(this.flight.response_bytes.get() + count);
            }
            Some(Err(_)) => this.failed = true,
            None => {}
        }
        this.settle();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(content) => content.is_empty(),
            Content::Http1(lease) => lease.as_ref().is_none_or(|lease| lease.http1().has_ended()),
            Content::Http2(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(content) => SizeHint::with_exact(content.len() as u64),
            Content::Http1(Some(lease)) => lease.http1().size_hint(),
            Content::Http1(None) => SizeHint::with_exact(0),
            Content::Http2(incoming, _) => incoming.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.settle();
        self.flight.record(match (self.is_end_stream(), self.failed) {
            // Its own body's end is what broke the answer off.
            (_, true) if self.flight.client_gone.get() => Ending::ClientGone,
            (_, true) => Ending::UpstreamFailed,
            (true, false) => Ending::Served,
            (false, false) => Ending::ClientGone,
        });
    }
}
