//! The only place where a mode turns an outcome into a response.
//!
//! 1. A rule that is `off` is not asked.
//! 2. In `warn` every outcome but "allow" is noted as "would deny" and the request goes on.
//! 3. In `enforce` a client in the share is denied; one outside is treated as in `warn`.
//! 4. A client that has given no identity is enforced against at 100 % alone, since its bucket
//!    would be that of everyone behind its address.
//! 5. The first enforced denial or answer ends the chain. Rules behind it leave no evidence.
//! 6. Before the first rule that has to see the body, the chain stops until it has been read. So
//!    nobody's body is read whom a rule before that one denies.
//! 7. What a rule rewrites is rewritten where it enforces, for the rules behind it and the service.
//! 8. Where a rule's next version is enforced for a client, it judges in place of the present one.
//!    For all others it is judged beside it, and nothing comes of what it says.
//! 9. A rule whose check is costly is asked on the path only where it enforces. Elsewhere one
//!    request of so many is drawn, and judged after its answer; see `off_path.rs`.

use std::num::NonZeroU32;
use std::time::Duration;

use http::header::{LINK, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use seaworthy_policy::Moment;
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::content::Content;
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::{Mode, Share};
use seaworthy_policy::problem::Denial;
use seaworthy_policy::protection::{
    Answer, Apply, Bound, Conflict, Edit, Edits, Effects, Outcome, Permit, Request, Response,
    Rewrite,
};
use seaworthy_policy::record::{Marks, Positions, Verdict, Verdicts};

use crate::snapshot::{Chain, Link, Snapshot, Version};
use crate::worker::Worker;

/// What the chain made of a request.
#[derive(Debug)]
pub(crate) enum Flow {
    Forward,
    Deny(Denial),
    Answer(Answer),
    /// The chain goes on once the body has been read.
    Read,
    /// The chain goes on with this in place of what was sent.
    Rewrite(Box<Rewrite>),
}

/// The chain's notes on one request, kept until its response has been sent.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) verdicts: Verdicts,
    /// The denial, where there is one, then the would-denials in the order of the chain, each with
    /// its rule's place there. At most one of each rule.
    pub(crate) objections: Vec<(usize, Denial)>,
    decoration: Decoration,
    pub(crate) deadline: Option<Timed>,
    pub(crate) body_max: Option<Sized>,
    pub(crate) permits: Vec<Permit>,
    /// What rules want to be told of at the end, with their places in the chain.
    tokens: Vec<(usize, Lane, u64)>,
    pub(crate) marks: Marks,
    /// The bounds that next versions would have set.
    aside: Vec<(usize, Bound)>,
    /// The place in the chain of the rule that is asked after a pause.
    resumed_at: usize,
    /// Whether the costly rule at this place judges the request.
    drawn: Option<(usize, bool)>,
    /// The places of the rules that judge it after its answer.
    pub(crate) sampled: Vec<(usize, Lane)>,
}

/// A time limit of the chain's rule at `link`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    pub(crate) link: usize,
    pub(crate) limit: Duration,
    pub(crate) enforced: bool,
}

/// A size limit of the chain's rule at `link`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sized {
    pub(crate) link: usize,
    pub(crate) limit: u64,
    pub(crate) enforced: bool,
}

/// Which version of a rule judges the requests of one client, and whether it is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stance {
    pub(crate) lane: Lane,
    pub(crate) enforced: bool,
}

/// How `link` treats the client `key`; `None` where it is off.
pub(crate) fn stance(snapshot: &Snapshot, link: &Link, key: ClientKey) -> Option<Stance> {
    let modes = snapshot.modes.of(link.rule);
    let is_in = |share| {
        share == Share::ALL || key.is_identified() && link.buckets.contains(&key.to_bytes(), share)
    };
    if link.next.is_some()
        && let Mode::Enforce(share) = modes.next
        && is_in(share)
    {
        return Some(Stance { lane: Lane::Next, enforced: true });
    }
    let enforced = match modes.current {
        Mode::Off => return None,
        Mode::Warn => false,
        Mode::Enforce(share) => is_in(share),
    };
    Some(Stance { lane: Lane::Current, enforced })
}

/// Asks the rules of `chain` about `request`, from the one on at which `judgement` has stopped.
pub(crate) fn judge(
    snapshot: &Snapshot,
    chain: Chain<'_>,
    request: &Request<'_>,
    judgement: &mut Judgement,
    worker: &Worker,
) -> Flow {
    // A request that has just come was given its time a moment ago.
    let is_new = judgement.resumed_at == 0
        && !matches!(request.content, Content::Read(_) | Content::Unread(_));
    let since = if is_new { request.now } else { worker.now() };
    let mut run = Run { budget: snapshot.check_budget, since, judged: None };
    let flow = ask(snapshot, chain, request, judgement, worker, &mut run);
    run.end(judgement, worker);
    flow
}

/// Times the checks. Those of heads alone take some hundred nanoseconds all together, which is
/// what reading the clock between them would cost: they are timed as one, and where that was slow
/// each of them counts as slow. With a body, each check is timed by itself.
struct Run {
    budget: Duration,
    since: Moment,
    /// The rules whose present and next versions have judged since then.
    judged: Option<[Positions; 2]>,
}

impl Run {
    fn judged(
        &mut self,
        (position, lane): (usize, Lane),
        request: &Request<'_>,
        judgement: &mut Judgement,
        worker: &Worker,
    ) {
        self.judged.get_or_insert_default()[lane as usize].insert(position);
        if matches!(request.content, Content::Read(_)) {
            self.end(judgement, worker);
        }
    }

    fn end(&mut self, judgement: &mut Judgement, worker: &Worker) {
        if let Some([current, next]) = self.judged.take() {
            let now = worker.now();
            if now.since(self.since) > self.budget {
                judgement.marks.slow.add(current);
                judgement.marks.next_slow.add(next);
            }
            self.since = now;
        }
    }
}

fn ask(
    snapshot: &Snapshot,
    chain: Chain<'_>,
    request: &Request<'_>,
    judgement: &mut Judgement,
    worker: &Worker,
    run: &mut Run,
) -> Flow {
    // One for all rules, emptied after each: it is large, and moving it would cost more than
    // most checks.
    let mut effects = Effects::default();
    for (index, link) in chain.links().enumerate().skip(judgement.resumed_at) {
        let Some(Stance { lane, enforced }) = stance(snapshot, link, request.client.key) else {
            continue;
        };
        let version = link.version(lane);
        let beside = link.next.as_ref().filter(|_| lane == Lane::Current);
        let sampling = version.sampling.filter(|_| !enforced);
        if sampling.is_some_and(|one_in| !judgement.is_drawn(index, one_in, worker)) {
            continue;
        }
        if matches!(request.content, Content::Unasked)
            && (version.protection.reads_body(request)
                || beside.is_some_and(|next| next.protection.reads_body(request)))
        {
            judgement.resumed_at = index;
            return Flow::Read;
        }
        if let Some(next) = beside
            && judgement.judge_aside(index, link.position, next, request, worker)
        {
            run.judged((link.position, Lane::Next), request, judgement, worker);
        }
        if sampling.is_some() {
            judgement.sampled.push((index, lane));
            continue;
        }
        let outcome = version.protection.check(request, &mut effects);
        run.judged((link.position, lane), request, judgement, worker);
        judgement.keep((index, lane), &mut effects, enforced);
        let rewrite = effects.rewrite.take().filter(|_| enforced);
        let verdict = match &outcome {
            Outcome::NotApplicable => continue,
            Outcome::Allow => Verdict::Allow,
            Outcome::Answer(_) => Verdict::Allow,
            Outcome::Deny(_) if enforced => Verdict::Deny,
            Outcome::Deny(_) => Verdict::WouldDeny,
        };
        judgement.verdicts.set(link.position, verdict);
        if enforced {
            judgement.marks.enforced.insert(link.position);
        }
        if lane == Lane::Next {
            judgement.marks.next.set(link.position, verdict);
            judgement.marks.next_enforced.insert(link.position);
        }
        match outcome {
            Outcome::Answer(answer) if enforced => return Flow::Answer(answer),
            Outcome::Deny(denial) => {
                if enforced {
                    judgement.objections.insert(0, (index, denial.clone()));
                    // A client that is slow to read its denial must not hold places.
                    judgement.permits.clear();
                    return Flow::Deny(denial);
                }
                judgement.objections.push((index, denial));
            }
            _ => {}
        }
        if let Some(rewrite) = rewrite {
            judgement.resumed_at = index + 1;
            return Flow::Rewrite(rewrite);
        }
    }
    Flow::Forward
}

impl Judgement {
    /// Draws one request of `one_in` for the rule at `index`, once for each request.
    fn is_drawn(&mut self, index: usize, one_in: NonZeroU32, worker: &Worker) -> bool {
        if let Some((drawn, won)) = self.drawn
            && drawn == index
        {
            return won;
        }
        let won = worker.random().is_multiple_of(u64::from(one_in.get()));
        self.drawn = Some((index, won));
        won
    }

    /// Hears what a rule's next version says of a request that the present one judges. Returns
    /// whether it was asked now.
    fn judge_aside(
        &mut self,
        index: usize,
        position: usize,
        next: &Version,
        request: &Request<'_>,
        worker: &Worker,
    ) -> bool {
        if let Some(one_in) = next.sampling {
            if self.is_drawn(index, one_in, worker) {
                self.sampled.push((index, Lane::Next));
            }
            return false;
        }
        let mut effects = Effects::default();
        let verdict = match next.protection.check(request, &mut effects) {
            Outcome::NotApplicable => Verdict::NotJudged,
            Outcome::Allow | Outcome::Answer(_) => Verdict::Allow,
            Outcome::Deny(_) => Verdict::WouldDeny,
        };
        self.marks.next.set(position, verdict);
        // What it counts it has to count, and its bounds are compared at the end.
        self.permits.extend(effects.permit);
        self.tokens.extend(effects.token.map(|token| (index, Lane::Next, token)));
        let bounds = [effects.deadline.map(Bound::Deadline), effects.body_max.map(Bound::BodyMax)];
        self.aside.extend(bounds.into_iter().flatten().map(|bound| (position, bound)));
        true
    }

    /// The request is over: which bounds of next versions did it cross?
    pub(crate) fn settle_aside(&mut self, waited: Duration, body_bytes: u64) {
        for (position, bound) in self.aside.drain(..) {
            let crossed = match bound {
                Bound::Deadline(limit) => waited > limit,
                Bound::BodyMax(limit) => body_bytes > limit,
            };
            if crossed {
                self.marks.next.set(position, Verdict::WouldDeny);
            }
        }
    }

    fn keep(&mut self, (link, lane): (usize, Lane), effects: &mut Effects, enforced: bool) {
        let wanted = if enforced { Apply::Enforced } else { Apply::Judged };
        // Few rules leave any, and to drain nothing takes longer than to see that.
        if !effects.headers.is_empty() {
            for edit in effects.headers.drain(..).filter(|edit| edit.apply == wanted) {
                self.decoration.push(edit);
            }
        }
        self.permits.extend(effects.permit.take());
        self.tokens.extend(effects.token.take().map(|token| (link, lane, token)));
        if let Some(limit) = effects.deadline.take() {
            self.deadline = Some(Timed { link, limit, enforced });
        }
        if let Some(limit) = effects.body_max.take() {
            self.body_max = Some(Sized { link, limit, enforced });
        }
    }

    /// A bound of the rule at `link` was crossed. Returns the denial where it is enforced, and
    /// changes the verdict either way. A second crossing of the same bound counts once.
    pub(crate) fn crossed(
        &mut self,
        chain: Chain<'_>,
        (index, enforced): (usize, bool),
        bound: Bound,
    ) -> Option<Denial> {
        let link = chain.link(index);
        let verdict = if enforced { Verdict::Deny } else { Verdict::WouldDeny };
        if self.verdicts.get(link.position) == verdict {
            return None;
        }
        self.verdicts.set(link.position, verdict);
        if self.marks.next_enforced.contains(link.position) {
            self.marks.next.set(link.position, verdict);
        }
        // The bound says it all, whichever version set it.
        let denial = link.current.protection.crossed(bound);
        if enforced {
            self.objections.insert(0, (index, denial.clone()));
            return Some(denial);
        }
        self.objections.push((index, denial));
        None
    }

    /// Tells the rules that asked how the request has ended.
    pub(crate) fn settle(&self, chain: Chain<'_>, served: bool) {
        for (link, lane, token) in &self.tokens {
            chain.link(*link).version(*lane).protection.settled(*token, served);
        }
    }

    /// Tells the client in the response's header what of its request is going to be denied.
    pub(crate) fn announce(&self, chain: Chain<'_>, decoration: &mut Decoration) {
        let mut add = |name: &HeaderName, value: &HeaderValue, conflict| {
            let (name, value) = (name.clone(), value.clone());
            decoration.push(Edit { name, value, apply: Apply::Judged, conflict });
        };
        if let Some(date) = chain.sunset() {
            add(&SUNSET, date, Conflict::KeepService);
        }
        if !self.verdicts.any(Verdict::WouldDeny) {
            return;
        }
        for link in chain.links() {
            let Some(notice) = &link.announcement else { continue };
            if self.verdicts.get(link.position) != Verdict::WouldDeny {
                continue;
            }
            add(&DEPRECATION, &notice.deprecation, Conflict::KeepService);
            add(&LINK, &notice.link, Conflict::Append);
            if let Some(enforcement) = &notice.enforcement {
                add(&SEAWORTHY_ENFORCEMENT, enforcement, Conflict::Append);
            }
        }
    }

    /// What the rules want of a response with these headers.
    pub(crate) fn decorate(
        &mut self,
        snapshot: &Snapshot,
        chain: Chain<'_>,
        client: ClientKey,
        response: &Response<'_>,
    ) -> Decoration {
        let mut decoration = std::mem::take(&mut self.decoration);
        for link in chain.links().filter(|link| link.decorates()) {
            let Some(Stance { lane, enforced }) = stance(snapshot, link, client) else { continue };
            let Some(decorator) = link.version(lane).protection.decorator() else { continue };
            let wanted = if enforced { Apply::Enforced } else { Apply::Judged };
            let mut sink = |apply, conflict, name: &HeaderName, value: &HeaderValue| {
                if apply == wanted {
                    let (name, value) = (name.clone(), value.clone());
                    decoration.push(Edit { name, value, apply, conflict });
                }
            };
            decorator.decorate(response, &mut Edits::new(&mut sink));
        }
        decoration
    }
}

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");
const SEAWORTHY_ENFORCEMENT: HeaderName = HeaderName::from_static("seaworthy-enforcement");

/// Headers that the rules set on an ordinary response.
const EDITS_USUAL: usize = 12;

/// Changes to a response's headers, made while they are written: putting them into the map
/// first, to take them out again, cost as much as a protection.
#[derive(Debug, Default)]
pub(crate) struct Decoration {
    edits: Vec<Edit>,
    named: Names,
    replaced: Names,
}

impl Decoration {
    /// Adds a change to those before it, which it may overrule.
    pub(crate) fn push(&mut self, edit: Edit) {
        if self.named.may_have(&edit.name) {
            let mut earlier = self.edits.iter().filter(|earlier| earlier.name == edit.name);
            match edit.conflict {
                Conflict::Replace => self.edits.retain(|earlier| earlier.name != edit.name),
                Conflict::KeepService if earlier.next().is_some() => return,
                Conflict::Append if earlier.any(|earlier| lists(&earlier.value, &edit)) => return,
                Conflict::KeepService | Conflict::Append => {}
            }
        }
        self.named.add(&edit.name);
        if edit.conflict == Conflict::Replace {
            self.replaced.add(&edit.name);
        }
        if self.edits.is_empty() {
            self.edits.reserve(EDITS_USUAL);
        }
        self.edits.push(edit);
    }

    /// Whether the service's own field goes.
    pub(crate) fn replaces(&self, name: &HeaderName) -> bool {
        let replaces = |edit: &Edit| edit.conflict == Conflict::Replace && edit.name == *name;
        self.replaced.may_have(name) && self.edits.iter().any(replaces)
    }

    /// The fields that are added to `headers`, those that are replaced among them.
    pub(crate) fn additions<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> impl Iterator<Item = &'a Edit> {
        let mut given = Names::default();
        headers.keys().for_each(|name| given.add(name));
        self.edits.iter().filter(move |edit| match edit.conflict {
            Conflict::Replace => true,
            _ if !given.may_have(&edit.name) => true,
            Conflict::KeepService => !headers.contains_key(&edit.name),
            Conflict::Append => !headers.get_all(&edit.name).iter().any(|value| lists(value, edit)),
        })
    }

    /// Makes the changes.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        let added: Vec<_> =
            self.additions(headers).map(|edit| (edit.name.clone(), edit.value.clone())).collect();
        for edit in self.edits.iter().filter(|edit| edit.conflict == Conflict::Replace) {
            headers.remove(&edit.name);
        }
        for (name, value) in added {
            headers.append(name, value);
        }
    }
}

/// A set of header names in 64 bits: whether it has a name is "no" or "perhaps". Nearly all names
/// of a response are different; to compare each with each took 400 instructions more.
#[derive(Clone, Copy, Debug, Default)]
struct Names(u64);

impl Names {
    fn add(&mut self, name: &HeaderName) {
        self.0 |= Self::bit(name);
    }

    fn may_have(self, name: &HeaderName) -> bool {
        self.0 & Self::bit(name) != 0
    }

    /// From the length and the last byte, in which names differ more than in the first: many
    /// begin with `x-`, `content-` or `access-`.
    fn bit(name: &HeaderName) -> u64 {
        let bytes = name.as_str().as_bytes();
        let last = bytes.last().copied().unwrap_or(0);
        1 << ((bytes.len() as u64 * 5 + u64::from(last)) % 64)
    }
}

/// Whether a list field has the item of `edit` already.
fn lists(value: &HeaderValue, edit: &Edit) -> bool {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|item| {
        item.eq_ignore_ascii_case(edit.value.as_bytes()) || (edit.name == VARY && item == b"*")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edit(conflict: Conflict, name: &'static str, value: &'static str) -> Edit {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
        Edit { name, value, apply: Apply::Enforced, conflict }
    }

    fn decorated(service: &[(&'static str, &'static str)], edits: Vec<Edit>) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in service {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut decoration = Decoration::default();
        for edit in edits {
            decoration.push(edit);
        }
        decoration.apply(&mut headers);
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn a_conflict_says_whose_field_stays() {
        use Conflict::{Append, KeepService, Replace};
        for (name, service, edits, want) in [
            ("added", vec![], vec![edit(KeepService, "a", "1")], vec!["a: 1"]),
            ("kept", vec![("a", "0")], vec![edit(KeepService, "a", "1")], vec!["a: 0"]),
            (
                "the first rule's",
                vec![],
                vec![edit(KeepService, "a", "1"), edit(KeepService, "a", "2")],
                vec!["a: 1"],
            ),
            ("replaced", vec![("a", "0"), ("a", "x")], vec![edit(Replace, "a", "1")], vec!["a: 1"]),
            (
                "replaced by the last",
                vec![("a", "0")],
                vec![edit(Replace, "a", "1"), edit(Replace, "a", "2")],
                vec!["a: 2"],
            ),
            (
                "appended",
                vec![("vary", "accept")],
                vec![edit(Append, "vary", "origin")],
                vec!["vary: accept", "vary: origin"],
            ),
            (
                "in the list already",
                vec![("vary", "accept, Origin")],
                vec![edit(Append, "vary", "origin"), edit(Append, "vary", "origin")],
                vec!["vary: accept, Origin"],
            ),
            (
                "all of it",
                vec![("vary", "*")],
                vec![edit(Append, "vary", "origin")],
                vec!["vary: *"],
            ),
            (
                "appended once",
                vec![],
                vec![edit(Append, "vary", "origin"), edit(Append, "vary", "Origin")],
                vec!["vary: origin"],
            ),
        ] {
            assert_eq!(decorated(&service, edits), want, "{name}");
        }
    }

    const NAMES: [&str; 3] = ["vary", "x-frame-options", "x-b"];
    const VALUES: [&str; 4] = ["a", "b", "a, b", "*"];

    fn field() -> impl Strategy<Value = (&'static str, &'static str)> {
        (proptest::sample::select(&NAMES), proptest::sample::select(&VALUES))
    }

    proptest! {
        /// What HTTP/1 writes, field by field, is what HTTP/2 has in its map.
        #[test]
        fn writing_and_applying_are_the_same(
            service in proptest::collection::vec(field(), 0..5),
            edits in proptest::collection::vec((field(), 0..3usize), 0..6),
        ) {
            let conflicts = [Conflict::Replace, Conflict::KeepService, Conflict::Append];
            let mut decoration = Decoration::default();
            for ((name, value), conflict) in edits {
                decoration.push(edit(conflicts[conflict], name, value));
            }
            let mut headers = HeaderMap::new();
            for (name, value) in service {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let kept = headers.iter().filter(|(name, _)| !decoration.replaces(name));
            let added = decoration.additions(&headers).map(|edit| (&edit.name, &edit.value));
            let text = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {value:?}");
            let mut written: Vec<String> = kept.chain(added).map(text).collect();
            decoration.apply(&mut headers);
            let mut applied: Vec<String> = headers.iter().map(text).collect();
            written.sort();
            applied.sort();
            prop_assert_eq!(written, applied);
        }
    }
}
