//! The only place where a mode turns an outcome into a response.
//!
//! 1. A rule that is `off` is not asked.
//! 2. In `warn` every outcome but "allow" is noted as "would deny" and the request goes on.
//! 3. In `enforce` a client in the share is denied; one outside is treated as in `warn`.
//! 4. A client that has given no identity is enforced against at 100 % alone, since its bucket
//!    would be that of everyone behind its address.
//! 5. The first enforced denial or answer ends the chain. Rules behind it leave no evidence.

use http::header::{Entry, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::mode::{Mode, Share};
use seaworthy_policy::problem::Denial;
use seaworthy_policy::protection::{
    Answer, Apply, Bound, Conflict, Edit, Edits, Effects, Outcome, Permit, Request, Response,
    Scheme,
};
use seaworthy_policy::record::{Verdict, Verdicts};

use crate::snapshot::{Link, Route, Snapshot};

/// What the chain made of a request.
#[derive(Debug)]
pub(crate) enum Flow {
    Forward,
    Deny(Denial),
    Answer(Answer),
}

/// Headers that the rules set on an ordinary response.
const EDITS_USUAL: usize = 12;

/// The chain's notes on one request, kept until its response has been sent.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) verdicts: Verdicts,
    /// The denial, else the first would-denial, with the rule's place in the chain.
    pub(crate) first: Option<(usize, Denial)>,
    edits: Vec<Edit>,
    pub(crate) deadline: Option<Timed>,
    pub(crate) body_max: Option<Sized>,
    pub(crate) permits: Vec<Permit>,
}

/// A time limit of the chain's rule at `link`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    pub(crate) link: usize,
    pub(crate) limit: std::time::Duration,
    pub(crate) enforced: bool,
}

/// A size limit of the chain's rule at `link`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sized {
    pub(crate) link: usize,
    pub(crate) limit: u64,
    pub(crate) enforced: bool,
}

/// Whether `link` enforces for the client `key`; `None` where it is off.
fn stance(snapshot: &Snapshot, link: &Link, key: ClientKey) -> Option<bool> {
    match snapshot.modes.get(link.rule) {
        Mode::Off => None,
        Mode::Warn => Some(false),
        Mode::Enforce(Share::ALL) => Some(true),
        Mode::Enforce(share) => Some(
            key.is_identified()
                && snapshot.buckets.contains(&link.rule_name, &key.to_bytes(), share),
        ),
    }
}

/// Asks every rule of `route` about `request`.
pub(crate) fn judge(
    snapshot: &Snapshot,
    route: &Route,
    request: &Request<'_>,
) -> (Flow, Judgement) {
    let mut judgement = Judgement::default();
    // One for all rules, emptied after each: it is large, and moving it would cost more than
    // most checks.
    let mut effects = Effects::default();
    for (index, link) in route.links.iter().enumerate() {
        let Some(enforced) = stance(snapshot, link, request.client.key) else { continue };
        let outcome = link.protection.check(request, &mut effects);
        judgement.keep(index, &mut effects, enforced);
        let verdict = match &outcome {
            Outcome::NotApplicable => continue,
            Outcome::Allow => Verdict::Allow,
            Outcome::Answer(_) => Verdict::Allow,
            Outcome::Deny(_) if enforced => Verdict::Deny,
            Outcome::Deny(_) => Verdict::WouldDeny,
        };
        judgement.verdicts.set(link.position, verdict);
        match outcome {
            Outcome::Answer(answer) if enforced => return (Flow::Answer(answer), judgement),
            Outcome::Deny(denial) => {
                if enforced {
                    judgement.first = Some((index, denial.clone()));
                    // A client that is slow to read its denial must not hold places.
                    judgement.permits.clear();
                    return (Flow::Deny(denial), judgement);
                }
                judgement.first.get_or_insert((index, denial));
            }
            _ => {}
        }
    }
    (Flow::Forward, judgement)
}

impl Judgement {
    fn keep(&mut self, link: usize, effects: &mut Effects, enforced: bool) {
        let wanted = if enforced { Apply::Enforced } else { Apply::Judged };
        self.edits.extend(effects.headers.drain(..).filter(|edit| edit.apply == wanted));
        self.permits.extend(effects.permit.take());
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
        route: &Route,
        (index, enforced): (usize, bool),
        bound: Bound,
    ) -> Option<Denial> {
        let link = &route.links[index];
        let verdict = if enforced { Verdict::Deny } else { Verdict::WouldDeny };
        if self.verdicts.get(link.position) == verdict {
            return None;
        }
        self.verdicts.set(link.position, verdict);
        let denial = link.protection.crossed(bound);
        if enforced {
            self.first = Some((index, denial.clone()));
            return Some(denial);
        }
        self.first.get_or_insert((index, denial));
        None
    }

    /// Makes the response headers what the rules want them to be.
    pub(crate) fn decorate(
        &mut self,
        snapshot: &Snapshot,
        route: &Route,
        (client, scheme): (ClientKey, Scheme),
        status: http::StatusCode,
        headers: &mut HeaderMap,
    ) {
        let mut edits = std::mem::take(&mut self.edits);
        edits.reserve(EDITS_USUAL);
        for link in &route.links {
            let Some(enforced) = stance(snapshot, link, client) else { continue };
            let wanted = if enforced { Apply::Enforced } else { Apply::Judged };
            let mut sink = |apply, conflict, name: &HeaderName, value: &HeaderValue| {
                if apply == wanted {
                    edits.push(Edit { name: name.clone(), value: value.clone(), apply, conflict });
                }
            };
            let response = Response { status, headers, scheme };
            link.protection.decorate(&response, &mut Edits::new(&mut sink));
        }
        for edit in edits {
            make(edit, headers);
        }
    }
}

fn make(edit: Edit, headers: &mut HeaderMap) {
    match edit.conflict {
        Conflict::Replace => {
            headers.insert(edit.name, edit.value);
        }
        Conflict::KeepService => {
            if let Entry::Vacant(vacant) = headers.entry(edit.name) {
                vacant.insert(edit.value);
            }
        }
        Conflict::Append => {
            let there = headers.get_all(&edit.name).iter().any(|value| {
                value.as_bytes().split(|byte| *byte == b',').any(|item| {
                    item.trim_ascii().eq_ignore_ascii_case(edit.value.as_bytes())
                        || (edit.name == VARY && item.trim_ascii() == b"*")
                })
            });
            if !there {
                headers.append(edit.name, edit.value);
            }
        }
    }
}
