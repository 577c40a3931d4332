//! One request from its head to the last byte of its answer: what is known of it so far, and
//! the record that it leaves.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use http::{Method, Version};
use seaworthy_policy::Moment;
use seaworthy_policy::client::Client;
use seaworthy_policy::consumer::{self, Agent, ConsumerKind};
use seaworthy_policy::learn::Shape;
use seaworthy_policy::problem::{Code, Denial};
use seaworthy_policy::protection::{Bound, Request, Scheme};
use seaworthy_policy::record::{
    Ending, MethodLabel, PathText, RequestId, RequestRecord, Verdict, clip,
};

use crate::chain::{Judgement, Sized};
use crate::connection::shared::Shared;
use crate::notes::{Asked, Note};
use crate::off_path::Sample;
use crate::snapshot::{Chain, ChainId};
use crate::stats::{Series, WireVersion};
use crate::worker::{View, Worker};

/// Shared by the exchange, the request body and the response body, all on one thread.
pub(crate) struct Flight {
    pub(crate) worker: Rc<Worker>,
    pub(crate) view: Rc<View>,
    pub(crate) connection: Rc<Shared>,
    /// The rules that it meets.
    pub(crate) chain_id: Cell<ChainId>,
    pub(crate) started: Moment,
    pub(crate) id: RequestId,
    pub(crate) client: Client,
    kind: ConsumerKind,
    agent: Agent,
    pub(crate) scheme: Scheme,
    pub(crate) method: MethodLabel,
    pub(crate) version: Version,
    pub(crate) path: RefCell<PathText>,
    pub(crate) judgement: RefCell<Judgement>,
    pub(crate) request_bytes: Cell<u64>,
    pub(crate) response_bytes: Cell<u64>,
    pub(crate) status: Cell<u16>,
    pub(crate) ending: Cell<Option<Ending>>,
    /// Why the gateway itself answered, where no rule did.
    pub(crate) failure: Cell<Option<Code>>,
    /// Why the request body ended early.
    pub(crate) body_fault: RefCell<Option<Denial>>,
    /// The client went away in the middle of it.
    pub(crate) client_gone: Cell<bool>,
    pub(crate) asked_at: Cell<Option<Moment>>,
    /// When the client's body last moved on its way to the service.
    pub(crate) body_moved_at: Cell<Option<Moment>>,
    /// The service would take more of the body, and the client has sent no more yet.
    pub(crate) body_pauses: Cell<bool>,
    pub(crate) answered_at: Cell<Option<Moment>>,
    pub(crate) upstream: Cell<Option<u8>>,
    /// What it is like, where it was drawn to be learned from.
    pub(crate) shape: Cell<Option<Box<Shape>>>,
    /// The request as it was, for the rules that judge it after its answer.
    sample: RefCell<Option<Box<Sample>>>,
    recorded: Cell<bool>,
}

/// What is known of a request when its head has been read.
pub(crate) struct Start {
    pub(crate) worker: Rc<Worker>,
    pub(crate) view: Rc<View>,
    pub(crate) connection: Rc<Shared>,
    pub(crate) started: Moment,
    pub(crate) id: RequestId,
    pub(crate) client: Client,
    pub(crate) agent: Agent,
    pub(crate) scheme: Scheme,
    pub(crate) version: Version,
}

impl Flight {
    pub(crate) fn new(start: Start, method: &Method, path: &str) -> Rc<Self> {
        start.worker.shard.requests_in_flight.add(1);
        let kind =
            consumer::classify(&start.view.snapshot.consumers, start.client.ip, &start.agent);
        Rc::new(Self {
            worker: start.worker,
            view: start.view,
            connection: start.connection,
            chain_id: Cell::default(),
            started: start.started,
            id: start.id,
            client: start.client,
            kind,
            agent: start.agent,
            scheme: start.scheme,
            method: MethodLabel::of(method),
            version: start.version,
            path: RefCell::new(clip(path)),
            judgement: RefCell::default(),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            status: Cell::new(CLIENT_GONE),
            ending: Cell::new(None),
            failure: Cell::new(None),
            body_fault: RefCell::new(None),
            client_gone: Cell::new(false),
            asked_at: Cell::new(None),
            body_moved_at: Cell::new(None),
            body_pauses: Cell::new(false),
            answered_at: Cell::new(None),
            upstream: Cell::new(None),
            shape: Cell::new(None),
            sample: RefCell::default(),
            recorded: Cell::new(false),
        })
    }

    pub(crate) fn chain(&self) -> Chain<'_> {
        self.view.snapshot.chain(self.chain_id.get())
    }

    /// Counts body bytes from the client. Returns the denial where an enforced limit is crossed.
    pub(crate) fn receive(&self, count: u64) -> Option<Denial> {
        let total = self.request_bytes.get() + count;
        self.request_bytes.set(total);
        self.body_moved();
        let limit = self.judgement.borrow().body_max;
        match limit {
            Some(Sized { link, limit, enforced }) if total > limit => {
                let bound = Bound::BodyMax(limit);
                self.judgement.borrow_mut().crossed(self.chain(), (link, enforced), bound)
            }
            _ => None,
        }
    }

    /// Keeps what the rules that were drawn for it have to see of `request`, where there is room.
    pub(crate) fn keep_sample(&self, request: &Request<'_>) {
        // Taken: the chain goes on after a rewrite, and what found no room is counted once.
        let sampled = std::mem::take(&mut self.judgement.borrow_mut().sampled);
        if sampled.is_empty() || self.sample.borrow().is_some() {
            return;
        }
        let (modes, budget) = (&self.view.snapshot.modes, self.view.snapshot.check_budget);
        let links = sampled.iter().map(|(index, lane)| {
            let link = self.chain().link(*index);
            (link.clone(), *lane, modes.get(link.rule))
        });
        match self.worker.sampled(|| Sample::of(request, links.collect(), budget)) {
            Some(sample) => *self.sample.borrow_mut() = Some(sample),
            None => self.worker.shard.samples_dropped.add(1),
        }
    }

    /// Why the request body ended early.
    pub(crate) fn body_denial(&self) -> Denial {
        let fault = self.body_fault.borrow_mut().take();
        fault.unwrap_or_else(|| Denial::new(Code::MalformedBody, ""))
    }

    /// More of the body has come from the client, or its end.
    pub(crate) fn body_moved(&self) {
        self.body_pauses.set(false);
        self.body_moved_at.set(Some(self.worker.now()));
    }

    /// Since when the service alone has been waited for: it has the request, as far as the
    /// client has sent it. While the client pauses, that is only now.
    pub(crate) fn waiting_since(&self) -> Moment {
        if self.body_pauses.get() {
            return self.worker.now();
        }
        self.asked_at.get().max(self.body_moved_at.get()).unwrap_or(self.started)
    }

    /// Ends the request: counts it, and hands its record to the ring. The second call and those
    /// after it do nothing.
    pub(crate) fn record(&self, ending: Ending) {
        if self.recorded.replace(true) {
            return;
        }
        let ending = self.ending.get().unwrap_or(ending);
        let worker = &self.worker;
        let now = worker.now();
        let mut judgement = self.judgement.borrow_mut();
        let chain = self.chain();
        let status = self.status.get();
        judgement.settle(chain, ending.was_success(status));
        // What the service did not take is nothing to learn from.
        if let Some(shape) = self.shape.take()
            && ending.was_success(status)
        {
            worker.learned(shape);
        }
        let reason = judgement.objections.first().map(|(_, denial)| denial.code);
        for link in chain.links() {
            let verdict = judgement.verdicts.get(link.position);
            if verdict == Verdict::NotJudged {
                continue;
            }
            worker.shard.decision(link.rule, self.view.snapshot.modes.get(link.rule), verdict);
            if verdict == Verdict::WouldDeny && ending.was_success(status) {
                worker.shard.harm(link.rule);
            }
        }
        for (link, denial) in &judgement.objections {
            let link = chain.link(*link);
            let denied = judgement.verdicts.get(link.position) == Verdict::Deny;
            let asked = Asked { path: *self.path.borrow(), route: chain.route() };
            worker.note(Note::rule(&self.id, self.client, asked, link, (denial, denied)));
        }
        let duration = now.since(self.started);
        let waited = match (self.asked_at.get(), self.answered_at.get()) {
            (Some(asked), Some(answered)) => answered.since(asked),
            (Some(asked), None) => now.since(asked),
            _ => std::time::Duration::ZERO,
        };
        judgement.settle_aside(waited, self.request_bytes.get());
        let series = Series {
            route: chain.route(),
            method: self.method,
            status,
            version: WireVersion::of(self.version),
            https: self.scheme == Scheme::Https,
        };
        worker.shard.request(series, ending, duration);
        worker.shard.request_bytes.add(self.request_bytes.get());
        worker.shard.response_bytes.add(self.response_bytes.get());
        worker.shard.requests_in_flight.sub(1);
        let micros =
            |time: std::time::Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let record = RequestRecord {
            id: self.id,
            started_unix_ms: worker.clock.unix_ms(self.started),
            duration_us: micros(duration),
            upstream_us: micros(waited),
            route: chain.route(),
            settings: chain.settings(),
            method: self.method,
            status,
            ending,
            client: self.client.key,
            kind: self.kind,
            agent: self.agent,
            tenant: self.client.tenant,
            path: *self.path.borrow(),
            request_bytes: self.request_bytes.get(),
            response_bytes: self.response_bytes.get(),
            verdicts: judgement.verdicts,
            marks: judgement.marks,
            reason: reason.or(self.failure.get()),
            upstream: self.upstream.get(),
        };
        match self.sample.take() {
            // Its record is not whole before the last rule has judged it.
            Some(sample) => worker.judge_late(sample, record),
            None => worker.record(record),
        }
        self.connection.request_ended(now);
    }
}

impl Drop for Flight {
    /// Whatever ends a request, it leaves a record: here the client went away, or a panic
    /// unwound.
    fn drop(&mut self) {
        self.record(Ending::ClientGone);
    }
}

/// What nginx made customary for a client that closed before it could be answered.
pub(crate) const CLIENT_GONE: u16 = 499;
