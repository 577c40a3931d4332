//! Judges requests that have been answered already, for rules whose checks take milliseconds.
//!
//! 1. A sample is a request as such a rule would have seen it on the path: copied by the worker,
//!    kept until the request has ended, and then offered to the one thread that judges them all.
//! 2. The queue is bounded, and so is the body. What finds no room is not judged, and is counted: a
//!    rule that reads more of a body on the path would not deny it.
//! 3. The request's record goes along and is written here, once the verdict is in it. So evidence
//!    says "not judged" of what was not, and whether a would-denial was harm.
//! 4. A drain waits until all that is in the queue has been judged, at most until its deadline.
//! 5. The thread is started with the first sample: without such a rule there is none.

use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use seaworthy_policy::Moment;
use seaworthy_policy::client::Client;
use seaworthy_policy::content::{Body, Content, Unread};
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::Mode;
use seaworthy_policy::problem::Denial;
use seaworthy_policy::protection::{BodyLength, Effects, Outcome, Request, Scheme};
use seaworthy_policy::record::{RequestRecord, RouteId, Verdict};
use seaworthy_policy::target::Target;

use crate::gateway::Evidence;
use crate::notes::{Asked, Note};
use crate::snapshot::Link;
use crate::stats::Shard;

/// Samples that wait: a second's work where one takes 4 ms.
const QUEUE: usize = 256;

/// Records and notes that the rings hold until the pump empties them, several times a second.
const RING: usize = 1024;

/// A body that is kept for later, decoded or not. A request with a larger one is not judged.
const BODY_BYTES_MAX: usize = 128 << 10;

/// What a sample takes beside its text, about.
const SAMPLE_BYTES: usize = 2 << 10;

/// A request as it was when the chain met the rules in `links`.
pub(crate) struct Sample {
    links: Vec<(Link, Lane, Mode)>,
    /// What a check may take.
    budget: Duration,
    method: Method,
    target: Target,
    authority: String,
    scheme: Scheme,
    headers: HeaderMap,
    client: Client,
    peer: IpAddr,
    route: RouteId,
    body: BodyLength,
    content: Kept,
    now: Moment,
    unix_s: u64,
}

/// A [`Content`] that has not been parsed.
enum Kept {
    Unasked,
    Empty,
    Unread(Unread),
    Raw(Bytes),
}

impl Sample {
    /// `None` where the body is larger than what is kept.
    pub(crate) fn of(
        request: &Request<'_>,
        links: Vec<(Link, Lane, Mode)>,
        budget: Duration,
    ) -> Option<Self> {
        let content = match request.content {
            Content::Unasked => Kept::Unasked,
            Content::Empty => Kept::Empty,
            Content::Unread(unread) => Kept::Unread(unread.clone()),
            Content::Read(body) if body.raw().len().max(body.plain().len()) > BODY_BYTES_MAX => {
                return None;
            }
            // A copy: the bytes may be a small part of a buffer that they would keep.
            Content::Read(body) => Kept::Raw(Bytes::copy_from_slice(body.raw())),
        };
        Some(Self {
            links,
            budget,
            method: request.method.clone(),
            target: request.target.clone(),
            authority: request.authority.to_owned(),
            scheme: request.scheme,
            headers: request.headers.clone(),
            client: *request.client,
            peer: request.peer,
            route: request.route,
            body: request.body,
            content,
            now: request.now,
            unix_s: request.unix_s,
        })
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let fields: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let body = match &self.content {
            Kept::Raw(raw) => raw.len(),
            _ => 0,
        };
        SAMPLE_BYTES + self.target.as_str().len() + fields + body
    }
}

impl fmt::Debug for Sample {
    /// A request can hold secrets and stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sample({:?}, {:?})", self.route, self.content)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked => f.write_str("unasked"),
            Self::Empty => f.write_str("empty"),
            Self::Unread(unread) => write!(f, "{unread:?}"),
            Self::Raw(raw) => write!(f, "{} bytes", raw.len()),
        }
    }
}

/// A request that has been answered, and the record that is to be written of it.
pub(crate) struct Late {
    pub(crate) sample: Sample,
    pub(crate) record: RequestRecord,
}

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Late({:?})", self.sample)
    }
}

/// The way of samples to the thread that judges them.
pub(crate) struct OffPath {
    queue: OnceLock<Option<SyncSender<Box<Late>>>>,
    // A lock is right here: it is taken once in the life of a gateway, by the first sample.
    idle: Mutex<Option<Judge>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    end: Arc<OnceLock<Instant>>,
}

impl OffPath {
    /// What is judged is counted in `shard`, and comes out as evidence.
    pub(crate) fn new(shard: Arc<Shard>) -> (Self, Evidence) {
        let (records, records_out) = rtrb::RingBuffer::new(RING);
        let (notes, notes_out) = rtrb::RingBuffer::new(RING);
        let end = Arc::new(OnceLock::new());
        let judge = Judge { shard, records, notes, end: Arc::clone(&end) };
        let off_path = Self {
            queue: OnceLock::new(),
            idle: Mutex::new(Some(judge)),
            thread: Mutex::new(None),
            end,
        };
        // Shapes are noted on the path: this ring stays empty.
        let (_, shapes) = rtrb::RingBuffer::new(1);
        (off_path, Evidence { records: records_out, notes: notes_out, shapes })
    }

    /// Puts `late` into the queue, or gives it back where that is full.
    pub(crate) fn offer(&self, late: Box<Late>) -> Result<(), Box<Late>> {
        let Some(queue) = self.queue.get_or_init(|| self.start()) else { return Err(late) };
        queue.try_send(late).map_err(|error| match error {
            TrySendError::Full(late) | TrySendError::Disconnected(late) => late,
        })
    }

    fn start(&self) -> Option<SyncSender<Box<Late>>> {
        let judge = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (queue, samples) = sync_channel(QUEUE);
        let started = std::thread::Builder::new()
            .name("off-path".to_owned())
            .spawn(move || judge.run(&samples));
        match started {
            Ok(thread) => {
                *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
                Some(queue)
            }
            Err(error) => {
                tracing::error!(%error, "nothing can be judged off the path of requests");
                None
            }
        }
    }

    /// Waits until all that is in the queue has been judged; what is left at `end` stays unjudged.
    pub(crate) fn finish(self, end: Instant) {
        self.end.get_or_init(|| end);
        drop(self.queue);
        let thread = self.thread.into_inner().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("what judges requests off their path panicked");
        }
    }
}

/// What the thread has.
struct Judge {
    shard: Arc<Shard>,
    records: rtrb::Producer<RequestRecord>,
    notes: rtrb::Producer<Note>,
    /// Until when it judges, once that is known.
    end: Arc<OnceLock<Instant>>,
}

impl Judge {
    fn run(mut self, samples: &Receiver<Box<Late>>) {
        while let Ok(late) = samples.recv() {
            let Late { sample, record } = *late;
            let record = match self.end.get() {
                Some(end) if Instant::now() >= *end => {
                    self.shard.samples_dropped.add(1);
                    record
                }
                _ => self.judge(sample, record),
            };
            if self.records.push(record).is_err() {
                self.shard.records_dropped.add(1);
            }
        }
    }

    /// The record, with what the rules say.
    fn judge(&mut self, sample: Sample, mut record: RequestRecord) -> RequestRecord {
        let content = match sample.content {
            Kept::Unasked => Content::Unasked,
            Kept::Empty => Content::Empty,
            Kept::Unread(unread) => Content::Unread(unread),
            Kept::Raw(raw) => Body::read(raw, &sample.headers, BODY_BYTES_MAX)
                .map_or_else(Content::Unread, Content::Read),
        };
        let request = Request {
            method: &sample.method,
            target: &sample.target,
            authority: &sample.authority,
            scheme: sample.scheme,
            headers: &sample.headers,
            client: &sample.client,
            peer: sample.peer,
            route: sample.route,
            body: sample.body,
            content: &content,
            now: sample.now,
            unix_s: sample.unix_s,
        };
        for (link, lane, mode) in &sample.links {
            // One request must not end the judging of all others.
            let version = link.version(*lane);
            let check = || version.protection.check(&request, &mut Effects::default());
            let began = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(check));
            let is_slow = began.elapsed() > sample.budget;
            let verdict = match outcome {
                Ok(Outcome::NotApplicable) => continue,
                Ok(Outcome::Allow | Outcome::Answer(_)) => Verdict::Allow,
                Ok(Outcome::Deny(denial)) => {
                    if *lane == Lane::Current {
                        self.note(&sample.client, &record, link, &denial);
                        record.reason.get_or_insert(denial.code);
                    }
                    Verdict::WouldDeny
                }
                Err(_) => {
                    tracing::error!(rule = %link.rule_name, "a check panicked");
                    continue;
                }
            };
            if is_slow {
                record.marks.slow_in(*lane).insert(link.position);
            }
            if *lane == Lane::Next {
                record.marks.next.set(link.position, verdict);
                continue;
            }
            record.verdicts.set(link.position, verdict);
            self.shard.samples_judged.add(1);
            self.shard.decision(link.rule, *mode, verdict);
            if verdict == Verdict::WouldDeny && record.ending.was_success(record.status) {
                self.shard.harm(link.rule);
            }
        }
        record
    }

    fn note(&mut self, client: &Client, record: &RequestRecord, link: &Link, denial: &Denial) {
        let asked = Asked { path: record.path, route: record.route };
        let note = Note::rule(&record.id, *client, asked, link, (denial, false));
        if self.notes.push(note).is_err() {
            self.shard.notes_dropped.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use seaworthy_policy::client::ClientKey;
    use seaworthy_policy::consumer::ConsumerKind;
    use seaworthy_policy::mode::Buckets;
    use seaworthy_policy::problem::Code;
    use seaworthy_policy::protection::Protection;
    use seaworthy_policy::record::{Ending, Marks, MethodLabel, RuleId};

    use super::*;
    use crate::snapshot::Version;

    /// Waits for a word in each of its checks, once it has said that it has begun, and says what
    /// it is told to say.
    struct Told {
        begun: SyncSender<()>,
        words: Mutex<Receiver<Say>>,
    }

    enum Say {
        Allow,
        Deny,
        Nothing,
        Panic,
    }

    impl Protection for Told {
        fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
            assert_eq!(request.content.body().unwrap().unwrap().plain(), "a=b");
            self.begun.send(()).unwrap();
            let word = self.words.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match word.unwrap() {
                Say::Allow => Outcome::Allow,
                Say::Deny => Outcome::Deny(Denial::new(Code::CoreRuleMatched, "no")),
                Say::Nothing => Outcome::NotApplicable,
                Say::Panic => panic!("as it was told"),
            }
        }
    }

    struct Stand {
        off_path: OffPath,
        shard: Arc<Shard>,
        evidence: Evidence,
        link: Link,
        say: SyncSender<Say>,
        begun: Receiver<()>,
    }

    /// More than any check of a test takes.
    const BUDGET: Duration = Duration::from_secs(3600);

    /// An end that no test reaches.
    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn stand() -> Stand {
        let shard = Arc::new(Shard::default());
        let (off_path, evidence) = OffPath::new(Arc::clone(&shard));
        let ((say, words), (begin, begun)) = (sync_channel(QUEUE + 1), sync_channel(QUEUE + 1));
        let told = Told { begun: begin, words: Mutex::new(words) };
        let link = Link {
            position: 3,
            rule: RuleId(5),
            rule_name: "told".into(),
            buckets: Buckets::new(&[0; 16]).of_rule("told"),
            current: Version { protection: Arc::new(told), sampling: None },
            next: None,
            announcement: None,
        };
        Stand { off_path, shard, evidence, link, say, begun }
    }

    fn late(link: &Link, status: u16) -> Box<Late> {
        let ip: IpAddr = "203.0.113.7".parse().unwrap();
        let client = Client {
            key: ClientKey::Ip(ip),
            ip,
            tenant: Default::default(),
            via_trusted_proxy: false,
        };
        let (method, headers) = (Method::POST, HeaderMap::new());
        let target = Target::parse(&"/a".parse().unwrap()).unwrap();
        let body = Body::read(Bytes::from_static(b"a=b"), &headers, 3).unwrap();
        let content = Content::Read(body);
        let request = Request {
            method: &method,
            target: &target,
            authority: "app.example",
            scheme: Scheme::Http,
            headers: &headers,
            client: &client,
            peer: ip,
            route: RouteId(0),
            body: BodyLength::Declared(3),
            content: &content,
            now: Moment::START,
            unix_s: 0,
        };
        let record = RequestRecord {
            id: Default::default(),
            started_unix_ms: 0,
            duration_us: 0,
            upstream_us: 0,
            route: RouteId(0),
            settings: RouteId(0),
            method: MethodLabel::Post,
            status,
            ending: Ending::Served,
            client: client.key,
            kind: ConsumerKind::Unknown,
            agent: Default::default(),
            tenant: client.tenant,
            path: Default::default(),
            request_bytes: 3,
            response_bytes: 0,
            verdicts: Default::default(),
            marks: Marks::default(),
            reason: None,
            upstream: None,
        };
        let sample = Sample::of(&request, vec![(link.clone(), Lane::Current, Mode::Warn)], BUDGET);
        Box::new(Late { sample: sample.unwrap(), record })
    }

    #[test]
    fn each_record_comes_out_with_what_was_said() {
        let Stand { off_path, shard, mut evidence, link, say, begun: _begun } = stand();
        let cases = [
            ("allowed", Say::Allow, 200, Verdict::Allow),
            ("harmed", Say::Deny, 200, Verdict::WouldDeny),
            ("refused by the service, too", Say::Deny, 404, Verdict::WouldDeny),
            ("not its business", Say::Nothing, 200, Verdict::NotJudged),
            ("broken", Say::Panic, 200, Verdict::NotJudged),
        ];
        let mut want = Vec::new();
        for (name, word, status, verdict) in cases {
            say.send(word).unwrap();
            off_path.offer(late(&link, status)).unwrap();
            want.push((name, status, verdict));
        }
        off_path.finish(far());
        for (name, status, verdict) in want {
            let record = evidence.records.pop().unwrap();
            assert_eq!((record.status, record.verdicts.get(3)), (status, verdict), "{name}");
            let reason = (verdict == Verdict::WouldDeny).then_some(Code::CoreRuleMatched);
            assert_eq!(record.reason, reason, "{name}");
        }
        assert!(evidence.records.pop().is_err());
        assert_eq!(evidence.notes.slots(), 2);
        let counts: Vec<u64> = (0..3).map(|outcome| shard.rule(5).get(0, outcome)).collect();
        assert_eq!((counts, shard.rule(5).harm.get()), (vec![1, 2, 0], 1));
        assert_eq!(shard.samples_judged.get(), 3);
    }

    #[test]
    fn the_queue_is_bounded_and_what_finds_no_room_comes_back() {
        let Stand { off_path, mut evidence, link, say, begun, .. } = stand();
        off_path.offer(late(&link, 200)).unwrap();
        begun.recv().unwrap();
        // Now the thread has one in its hands, and takes no other before it is told.
        for index in 0..QUEUE {
            assert!(off_path.offer(late(&link, 200)).is_ok(), "{index}");
        }
        assert_eq!(off_path.offer(late(&link, 418)).unwrap_err().record.status, 418);
        for _ in 0..=QUEUE {
            say.send(Say::Allow).unwrap();
        }
        off_path.finish(far());
        let written = std::iter::from_fn(|| evidence.records.pop().ok());
        assert_eq!(written.filter(|record| record.status == 200).count(), QUEUE + 1);
    }

    #[test]
    fn what_is_left_at_the_end_is_written_unjudged() {
        let Stand { off_path, shard, mut evidence, link, say, begun } = stand();
        off_path.offer(late(&link, 200)).unwrap();
        begun.recv().unwrap();
        off_path.offer(late(&link, 204)).unwrap();
        off_path.end.set(Instant::now()).unwrap();
        say.send(Say::Allow).unwrap();
        off_path.finish(far());
        let verdicts = std::iter::from_fn(|| evidence.records.pop().ok())
            .map(|record| (record.status, record.verdicts.get(3)));
        let want = [(200, Verdict::Allow), (204, Verdict::NotJudged)];
        assert_eq!(verdicts.collect::<Vec<_>>(), want);
        assert_eq!((shard.samples_judged.get(), shard.samples_dropped.get()), (1, 1));
    }

    #[test]
    fn what_a_request_says_is_not_in_a_debug_of_it() {
        let Stand { link, .. } = stand();
        let mut late = late(&link, 200);
        let secret: http::HeaderValue = "secret".parse().unwrap();
        late.sample.headers.insert("authorization", secret);
        late.sample.target = Target::parse(&"/?token=secret".parse().unwrap()).unwrap();
        late.sample.content = Kept::Raw(Bytes::from_static(b"secret"));
        let said = format!("{late:?}");
        assert!(said.contains("6 bytes") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn a_request_is_kept_unless_its_body_is_large() {
        let Stand { link, .. } = stand();
        let sample = late(&link, 200).sample;
        assert!(sample.bytes() > SAMPLE_BYTES);
        let headers = HeaderMap::new();
        let body = |raw: Vec<u8>| {
            let body = Body::read(Bytes::from(raw), &headers, usize::MAX).unwrap();
            Content::Read(body)
        };
        let mut coded = HeaderMap::new();
        coded.insert("content-encoding", "gzip".parse().unwrap());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        gzip.write_all(&vec![b'a'; BODY_BYTES_MAX + 1]).unwrap();
        let gzip = Bytes::from(gzip.finish().unwrap());
        assert!(gzip.len() < BODY_BYTES_MAX);
        for (name, content, kept) in [
            ("none", Content::Empty, true),
            ("as large as may be", body(vec![b'a'; BODY_BYTES_MAX]), true),
            ("larger", body(vec![b'a'; BODY_BYTES_MAX + 1]), false),
            (
                "larger once decoded",
                Content::Read(Body::read(gzip, &coded, 2 * BODY_BYTES_MAX).unwrap()),
                false,
            ),
            ("too large for any check", Content::Unread(Unread::TooLarge { bytes_max: 1 }), true),
        ] {
            let request = Request {
                method: &sample.method,
                target: &sample.target,
                authority: "app.example",
                scheme: Scheme::Http,
                headers: &headers,
                client: &sample.client,
                peer: sample.peer,
                route: RouteId(0),
                body: BodyLength::Unknown,
                content: &content,
                now: Moment::START,
                unix_s: 0,
            };
            assert_eq!(Sample::of(&request, Vec::new(), BUDGET).is_some(), kept, "{name}");
        }
    }
}
