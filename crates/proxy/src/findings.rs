//! What each client would have been denied of late, kept for the client itself.
//!
//! Bounded in every direction: clients, findings of one client, places of one finding. The client
//! that has been quiet the longest makes room for a new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::{ArrayString, ArrayVec};
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::problem::{Code, Denial};
use seaworthy_policy::record::{PathText, RequestId, clip};

/// Clients whose findings are kept.
const CLIENTS_MAX: usize = 4096;

/// Different findings of one client; the oldest goes first.
const FINDINGS_MAX: usize = 32;

/// Parts of a request that one finding names.
const PLACES_MAX: usize = 4;

/// What a rule found wrong with a request, in inline text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objection {
    pub detail: ArrayString<160>,
    /// The parts of the request that are at fault, each with what was expected there.
    pub places: ArrayVec<(ArrayString<64>, ArrayString<96>), PLACES_MAX>,
}

impl Objection {
    pub(crate) fn of(denial: &Denial) -> Self {
        let places = denial.errors.iter().take(PLACES_MAX);
        Self {
            detail: clip(&denial.detail),
            places: places.map(|error| (clip(&error.at), clip(&error.detail))).collect(),
        }
    }
}

/// One way in which a client's requests would have been denied.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: Arc<str>,
    pub code: Code,
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
        let same = findings.iter_mut().find(|known| {
            known.rule == finding.rule && known.code == finding.code && known.path == finding.path
        });
        match same {
            Some(known) => {
                let (count, first_unix_ms) = (known.count + 1, known.first_unix_ms);
                *known = Finding { count, first_unix_ms, ..finding };
            }
            None => {
                if findings.len() >= FINDINGS_MAX {
                    let oldest = (0..findings.len()).min_by_key(|at| findings[*at].last_unix_ms);
                    findings.swap_remove(oldest.expect("it is full"));
                }
                findings.push(finding);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(path: &str, unix_ms: i64) -> Finding {
        Finding {
            rule: "csrf".into(),
            code: Code::CsrfCrossSite,
            path: clip(path),
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
