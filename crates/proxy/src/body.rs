//! The bodies of one exchange: they stream, are counted, and end a request when they end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use seaworthy_policy::problem::{Code, Denial};
use seaworthy_policy::record::Ending;
use tokio::time::Sleep;

use crate::flight::Flight;
use crate::upstream::pool::Lease;

/// What the client sends, on its way to the service.
///
/// It ends with an error, which cancels the request to the service, where the client breaks
/// off, pauses for too long, or crosses an enforced size limit; the reason is left in
/// [`Flight::body_fault`].
pub(crate) struct RequestBody {
    inner: Option<(Incoming, Rc<Flight>)>,
    pause: Option<Pin<Box<Sleep>>>,
}

/// The request body ended early. The reason is in [`Flight::body_fault`].
#[derive(Debug, thiserror::Error)]
#[error("the request body ended early")]
pub(crate) struct BodyEnded;

impl RequestBody {
    pub(crate) const fn empty() -> Self {
        Self { inner: None, pause: None }
    }

    pub(crate) fn new(incoming: Incoming, flight: Rc<Flight>) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self { inner: Some((incoming, flight)), pause: None }
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
        let Some((incoming, flight)) = &mut self.inner else { return Poll::Ready(None) };
        let flight = Rc::clone(flight);
        let denial = match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.pause = None;
                let count = frame.data_ref().map_or(0, |data| data.len() as u64);
                match flight.receive(count) {
                    None => return Poll::Ready(Some(Ok(frame))),
                    Some(denial) => denial,
                }
            }
            Poll::Ready(Some(Err(error))) => {
                Denial::new(Code::MalformedBody, "").internal(error.to_string())
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                let limit = flight.view.snapshot.limits.timeout_body;
                ready!(self.poll_pause(cx, limit));
                Denial::new(Code::BodyTimeout, "The request body paused for too long.")
            }
        };
        flight.body_fault.borrow_mut().get_or_insert(denial);
        Poll::Ready(Some(Err(BodyEnded)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|(incoming, _)| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

/// What the client is sent. When it is dropped, the request is over.
pub(crate) struct ResponseBody {
    content: Content,
    flight: Option<Rc<Flight>>,
    failed: bool,
}

enum Content {
    Whole(Option<Bytes>),
    Stream { incoming: Incoming, lease: Option<Lease> },
}

impl ResponseBody {
    pub(crate) fn whole(content: Bytes, flight: Rc<Flight>) -> Self {
        let content = Some(content).filter(|content| !content.is_empty());
        Self { content: Content::Whole(content), flight: Some(flight), failed: false }
    }

    /// The service's body; the connection it comes on is lent until its last byte.
    pub(crate) fn stream(incoming: Incoming, lease: Lease, flight: Rc<Flight>) -> Self {
        let content = Content::Stream { incoming, lease: Some(lease) };
        Self { content, flight: Some(flight), failed: false }
    }

    /// Gives the connection back as soon as the last byte has come, before it has been sent on.
    fn settle(&mut self) {
        if let Content::Stream { incoming, lease } = &mut self.content
            && incoming.is_end_stream()
            && let (Some(lease), Some(flight)) = (lease.take(), &self.flight)
        {
            lease.give_back(flight.worker.clock.now());
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Whole(content) => content.take().map(|content| Ok(Frame::data(content))),
            Content::Stream { incoming, .. } => ready!(Pin::new(incoming).poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(flight)) = (frame.data_ref(), &this.flight) {
                    flight.response_bytes.set(flight.response_bytes.get() + data.len() as u64);
                }
                this.settle();
            }
            Some(Err(_)) => this.failed = true,
            None => {
                if let Content::Stream { lease, .. } = &mut this.content
                    && let (Some(lease), Some(flight)) = (lease.take(), &this.flight)
                {
                    lease.give_back(flight.worker.clock.now());
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(content) => content.is_none(),
            Content::Stream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64))
            }
            Content::Stream { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.settle();
        let Some(flight) = self.flight.take() else { return };
        let whole = match &self.content {
            Content::Whole(content) => content.is_none(),
            // A lease that is gone was given back behind the last frame.
            Content::Stream { incoming, lease } => lease.is_none() || incoming.is_end_stream(),
        };
        flight.record(match (whole, self.failed) {
            (true, _) => Ending::Served,
            (false, true) => Ending::UpstreamFailed,
            (false, false) => Ending::ClientGone,
        });
    }
}
