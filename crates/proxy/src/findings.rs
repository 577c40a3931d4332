//! What each client would have been denied of late, kept for the client itself.
//!
//! 1. Bounded in every direction: clients, findings of one client, places of one finding. The client
//!    that has been quiet the longest makes room for a new one.
//! 2. The requests of one route that a rule objects to for the same reason are one finding; where a
//!    request falls under no route, those for one path are.
//! 3. Where a client has as many findings as are kept, the oldest goes of the rule and code that has
//!    the most: a walk through unknown paths never hides what is wrong elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::{ArrayString, ArrayVec};
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::problem::{Code, Denial};
use seaworthy_policy::record::{PathText, RequestId, RouteId, abridge};

/// Clients whose findings are kept.
const CLIENTS_MAX: usize = 4096;

/// Different findings of one client.
const FINDINGS_MAX: usize = 32;

/// Parts of a request that one finding names.
const PLACES_MAX: usize = 4;

/// What a rule found wrong with a request, in inline text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objection {
    pub detail: ArrayString<160>,
    /// The parts of the request that are at fault.
    pub places: ArrayVec<Place, PLACES_MAX>,
    /// How many more there are.
    pub omitted: usize,
}

/// A part of a request that is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub at: ArrayString<64>,
    /// The rule of a schema that it breaks; empty where there is none.
    pub keyword: ArrayString<24>,
    /// What was expected there. It may show what was sent.
    pub detail: ArrayString<96>,
}

impl Objection {
    pub(crate) fn of(denial: &Denial) -> Self {
        let places = denial.errors.iter().take(PLACES_MAX).map(|error| Place {
            at: abridge(&error.at),
            keyword: abridge(&error.keyword),
            detail: abridge(&error.detail),
        });
        Self {
            detail: abridge(&denial.detail),
            places: places.collect(),
            omitted: denial.errors.len().saturating_sub(PLACES_MAX),
        }
    }

    /// Where the request is at fault, without what it says there: `/text maxLength, /tags type`.
    /// The body as a whole, whose JSON Pointer is empty, is called `body`.
    pub fn places(&self) -> String {
        let mut text = String::new();
        for (index, Place { at, keyword, .. }) in self.places.iter().enumerate() {
            let before = if index == 0 { "" } else { ", " };
            let at = if at.is_empty() { "body" } else { at.as_str() };
            let between = if keyword.is_empty() { "" } else { " " };
            write!(text, "{before}{at}{between}{keyword}").expect("a String takes every write");
        }
        if self.omitted > 0 {
            write!(text, " and {} more", self.omitted).expect("a String takes every write");
        }
        text
    }
}

/// One way in which a client's requests would have been denied.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: Arc<str>,
    pub code: Code,
    /// Route 0 is that of no route.
    pub route: RouteId,
    /// The path of the last such request.
    pub path: PathText,
    /// The objection to the last such request.
    pub objection: Objection,
    /// How often it has happened since the first time that is remembered.
    pub count: u64,
    pub first_unix_ms: i64,
    pub last_unix_ms: i64,
    /// The last such request.
    pub request: RequestId,
}

/// The findings of all clients.
#[derive(Debug, Default)]
pub struct Findings {
    // A lock is right here: the evidence pump writes beside the traffic, and a worker reads only
    // for a client that asks about itself. It is never held for more than one client's list.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    clients: HashMap<ClientKey, Entry>,
    /// By when a client was last heard of; the numbers are unique.
    heard: BTreeMap<u64, ClientKey>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    heard: u64,
    findings: Vec<Finding>,
}

impl Findings {
    /// Adds what `client` would have been denied; `finding.count` is 1.
    pub fn add(&self, client: ClientKey, finding: Finding) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).add(client, finding);
    }

    /// What `client` would have been denied, the last first.
    pub fn of(&self, client: ClientKey) -> Vec<Finding> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let findings = table.clients.get(&client).map(|entry| entry.findings.clone());
        drop(table);
        let mut findings = findings.unwrap_or_default();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.last_unix_ms));
        findings
    }
}

impl Table {
    fn add(&mut self, client: ClientKey, finding: Finding) {
        self.next += 1;
        let heard = self.next;
        if let Some(entry) = self.clients.get_mut(&client) {
            self.heard.remove(&entry.heard);
            entry.heard = heard;
        } else {
            if self.clients.len() >= CLIENTS_MAX
                && let Some((_, quiet)) = self.heard.pop_first()
            {
                self.clients.remove(&quiet);
            }
            self.clients.insert(client, Entry { heard, findings: Vec::new() });
        }
        self.heard.insert(heard, client);
        let Some(Entry { findings, .. }) = self.clients.get_mut(&client) else { return };
        let same = findings.iter_mut().find(|known| known.is_like(&finding));
        match same {
            Some(known) => {
                let (count, first_unix_ms) = (known.count + 1, known.first_unix_ms);
                *known = Finding { count, first_unix_ms, ..finding };
            }
            None => {
                if findings.len() >= FINDINGS_MAX {
                    findings.swap_remove(expendable(findings));
                }
                findings.push(finding);
            }
        }
    }
}

impl Finding {
    /// Whether it is of the same rule, and for the same reason.
    fn is_kin(&self, other: &Self) -> bool {
        self.rule == other.rule && self.code == other.code
    }

    /// Whether the two are one finding.
    fn is_like(&self, other: &Self) -> bool {
        let is_routed = self.route != NO_ROUTE || self.path == other.path;
        self.is_kin(other) && self.route == other.route && is_routed
    }
}

/// What the requests are of that fall under no route.
const NO_ROUTE: RouteId = RouteId(0);

/// The finding that is missed the least: of those with the most of their kin, the oldest.
fn expendable(findings: &[Finding]) -> usize {
    let kin = |finding: &Finding| findings.iter().filter(|other| other.is_kin(finding)).count();
    let least = (0..findings.len())
        .min_by_key(|&at| (std::cmp::Reverse(kin(&findings[at])), findings[at].last_unix_ms));
    least.expect("it is full")
}

#[cfg(test)]
mod tests {
    use seaworthy_policy::problem::FieldError;

    use super::*;

    fn finding(path: &str, unix_ms: i64) -> Finding {
        Finding {
            rule: "csrf".into(),
            code: Code::CsrfCrossSite,
            route: NO_ROUTE,
            path: abridge(path),
            objection: Objection::default(),
            count: 1,
            first_unix_ms: unix_ms,
            last_unix_ms: unix_ms,
            request: RequestId::new(),
        }
    }

    #[test]
    fn a_client_sees_its_own_and_the_last_first() {
        let findings = Findings::default();
        findings.add(ClientKey::Bearer(1), finding("/a", 1));
        findings.add(ClientKey::Bearer(1), finding("/b", 2));
        findings.add(ClientKey::Bearer(1), finding("/a", 3));
        findings.add(ClientKey::Bearer(2), finding("/c", 4));
        let seen = |client| -> Vec<_> {
            let list = findings.of(client).into_iter();
            list.map(|f| (f.path.to_string(), f.count, f.first_unix_ms)).collect()
        };
        let (a, b) = (("/a".to_owned(), 2, 1), ("/b".to_owned(), 1, 2));
        assert_eq!(seen(ClientKey::Bearer(1)), [a, b]);
        assert_eq!(seen(ClientKey::Bearer(3)), []);
    }

    #[test]
    fn one_mistake_is_one_finding_and_never_drives_out_another() {
        let findings = Findings::default();
        let mistake = |rule: &str, route: u16, path: &str, unix_ms: i64| Finding {
            rule: rule.into(),
            route: RouteId(route),
            ..finding(path, unix_ms)
        };
        let client = ClientKey::Bearer(1);
        findings.add(client, mistake("request_schema@POST /notes", 1, "/notes", 0));
        for n in 1..=40 {
            let path = format!("/notes/x{n}");
            findings.add(client, mistake("request_schema@GET /notes/{id}", 2, &path, n));
        }
        let seen = || -> Vec<_> {
            let list = findings.of(client).into_iter();
            list.map(|finding| (finding.path.to_string(), finding.count)).collect()
        };
        assert_eq!(seen(), [("/notes/x40".to_owned(), 40), ("/notes".to_owned(), 1)]);
        // Paths that no document knows have no route in common.
        for n in 41..=140 {
            findings.add(client, mistake("request_schema", 0, &format!("/walk/{n}"), n));
        }
        let seen = seen();
        assert_eq!(seen.len(), FINDINGS_MAX);
        assert_eq!(seen[0], ("/walk/140".to_owned(), 1));
        assert_eq!(seen[30..], [("/notes/x40".to_owned(), 40), ("/notes".to_owned(), 1)]);
    }

    #[test]
    fn the_places_are_told_without_what_was_sent() {
        let mut denial = Denial::new(Code::SchemaMismatch, "2 parts");
        let mut fault = |at: &str, keyword: &'static str| {
            let mut error = FieldError::new(at, "\"hunter2\" is too long");
            error.keyword = keyword.into();
            denial.errors.push(error);
            Objection::of(&denial).places()
        };
        for (at, keyword, want) in [
            ("/text", "maxLength", "/text maxLength"),
            ("", "required", "/text maxLength, body required"),
            ("query:q", "", "/text maxLength, body required, query:q"),
            ("/a", "type", "/text maxLength, body required, query:q, /a type"),
            ("/b", "type", "/text maxLength, body required, query:q, /a type and 1 more"),
        ] {
            assert_eq!(fault(at, keyword), want);
        }
    }

    #[test]
    fn both_tables_have_a_bound_and_the_oldest_makes_room() {
        let findings = Findings::default();
        for n in 0..=FINDINGS_MAX {
            findings.add(ClientKey::Bearer(0), finding(&format!("/{n}"), n as i64));
        }
        let list = findings.of(ClientKey::Bearer(0));
        assert_eq!(list.len(), FINDINGS_MAX);
        assert!(list.iter().all(|finding| finding.path.as_str() != "/0"));
        for n in 1..=CLIENTS_MAX as u64 {
            findings.add(ClientKey::Bearer(n), finding("/", 1));
        }
        assert!(findings.of(ClientKey::Bearer(0)).is_empty(), "it was quiet the longest");
        assert_eq!(findings.of(ClientKey::Bearer(1)).len(), 1);
    }
}
