//! `seaworthy requests --explain`: which rules spoke against one request, in which mode, and why
//! this client was in the share or was not.
//!
//! 1. What the rule said is in the row of the request. Which versions there were, and in which mode,
//!    is in the last entry of the rule in the audit log from before the request.
//! 2. Of two versions the client was judged by the next one where that was enforced and the client in
//!    its share, else by the present one. The bucket is computed as the gateway computes it, from the
//!    installation's key.
//! 3. Why the version was in that mode is in the entry that put it there, which may be an older one:
//!    a hold, a release and an approval move nothing.
//! 4. What exactly it objected to is known where the log was told of it: of each rule the first ten
//!    requests a minute.
//! 5. What is not known is said: a request that was not kept, a key that is not here, a mode that
//!    the file has pinned at another time.

use std::path::Path;

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::mode::{Buckets, Mode, ModeSetting, Share};
use seaworthy_policy::registry::InstallKey;
use seaworthy_policy::rollout::Standing;
use seaworthy_store::StoreError;
use seaworthy_store::ledger::LedgerReader;
use seaworthy_store::telemetry::{Objection, RequestRow, TelemetryReader};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Answer;
use super::super::standing::exact;
use super::super::table::{Cell, Paint, Paper, Table};
use crate::app::{key, operator};
use crate::config::Config;
use crate::exit::{Exit, Failure};

/// Characters of an id; no gateway takes a longer one.
const ID_CHARS_MAX: usize = 128;

/// Entries of the audit log that are looked at, the newest first.
const LEAVES_MAX: u64 = 200_000;

/// Leaves that one query returns; see [`LedgerReader::leaves_from`].
const LEAVES_AT_ONCE: u64 = 1000;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Explained {
    request: RequestRow,
    rules: Vec<Spoke>,
}

/// What one rule said of the request.
#[derive(Debug, Serialize)]
struct Spoke {
    rule: String,
    said: &'static str,
    /// What it objected to, where that was kept.
    objection: Option<Objected>,
    /// From 0 to 9999, in basis points; `None` where the client has no identity, or the key is not
    /// here.
    bucket: Option<u16>,
    /// Which version judged the client; `None` where nothing had moved the rule before, or the log
    /// does not go back so far.
    then: Option<Then>,
    now: Option<Now>,
    /// The sentences.
    why: Vec<String>,
}

/// What a rule objected to in the request, as the log has it.
#[derive(Debug, Serialize)]
struct Objected {
    code: String,
    detail: String,
    /// Where the request is at fault, without what it says there; empty where no place is named.
    at: String,
}

/// The version that judged, as the audit log has it.
#[derive(Clone, Debug, Serialize)]
struct Then {
    #[serde(flatten)]
    judged: InForce,
    /// The next version, where the client may have been in its share: the bucket is not known.
    or_next: Option<InForce>,
    /// What put it there; `None` where nothing did, or the log does not go back so far.
    since: Option<Since>,
}

/// A version of a rule, and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct InForce {
    version: u64,
    mode: Mode,
}

/// The entry of the audit log that put a version in its mode.
#[derive(Clone, Debug, Serialize)]
struct Since {
    seq: u64,
    unix_ms: i64,
    actor: String,
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Now {
    mode: Mode,
    version: u32,
    next_version: Option<u32>,
    next_mode: Option<Mode>,
    why: String,
}

pub(super) fn run(
    config: &Config,
    variable: Option<&str>,
    id: &str,
    json: bool,
    paper: Paper,
) -> Result<Answer, Failure> {
    let dir = &config.store.dir;
    let (found, objections) = TelemetryReader::open_read_only(dir)
        .and_then(|reader| Ok((reader.request(id)?, reader.objections(id)?)))
        .map_err(super::failure)?;
    let Some(request) = found else { return Err(not_kept(id)) };
    let ledger = open_ledger(dir)?;
    let key = key::read(dir, variable).map_err(|error| {
        Failure::new(Exit::Unavailable, format!("failed to get the installation's key: {error}"))
    })?;
    let said = [("denied", &request.denied), ("would deny", &request.would_deny)];
    let mut rules = Vec::new();
    for (said, names) in said {
        for rule in names {
            let place = Place::of(rule, &request.client, key.as_ref());
            let history = match &ledger {
                Some(ledger) => {
                    history(ledger, rule, request.time_unix_ms, place).map_err(of_ledger)?
                }
                None => History::default(),
            };
            let setting = operator::setting(config, rule);
            let mut spoke = spoke(rule, said, &request, setting, history, place);
            let objection = objections.iter().find(|objection| objection.rule == *rule);
            spoke.object(objection);
            rules.push(spoke);
        }
    }
    let explained = Explained { request, rules };
    if json {
        return Ok(Answer::json(&explained, Exit::Ok));
    }
    Ok(Answer::ok(render(&explained, paper)))
}

/// `None` in a folder of before the ledger.
fn open_ledger(dir: &Path) -> Result<Option<LedgerReader>, Failure> {
    match LedgerReader::open_read_only(dir) {
        Ok(reader) => Ok(Some(reader)),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(error) => Err(of_ledger(error)),
    }
}

fn of_ledger(error: StoreError) -> Failure {
    Failure::new(Exit::Unavailable, format!("the modes cannot be read: {error}"))
}

fn not_kept(id: &str) -> Failure {
    let shown: String = id.chars().take(ID_CHARS_MAX).collect();
    Failure::new(Exit::No, format!("no request {shown:?} was kept")).details(
        "a request is written within a second or two; above the budget of rows only a sample is \
         kept, which has every kind of denial and not every one; old rows are deleted after \
         [store.telemetry] retention",
    )
}

/// Where a client stands among the shares of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Bucket(u16),
    /// It has no identity but its address, and is in no share below all.
    NoIdentity,
    NoKey,
    NoClient,
}

impl Place {
    fn of(rule: &str, client: &str, key: Option<&InstallKey>) -> Self {
        let Ok(client) = client.parse::<ClientKey>() else { return Self::NoClient };
        if !client.is_identified() {
            return Self::NoIdentity;
        }
        key.map_or(Self::NoKey, |key| {
            let buckets = Buckets::new(&key.derive_16("share"));
            Self::Bucket(buckets.of_rule(rule).place(&client.to_bytes()))
        })
    }

    /// Whether it is in `share`; `None` where that is not known.
    fn is_in(self, share: Share) -> Option<bool> {
        match self {
            _ if share == Share::ALL => Some(true),
            Self::Bucket(bucket) => Some(bucket < share.basis_points()),
            Self::NoIdentity => Some(false),
            Self::NoKey | Self::NoClient => None,
        }
    }

    /// Whether `mode` denies what the rule objects to of it; `None` where that is not known.
    fn is_denied(self, mode: Mode) -> Option<bool> {
        match mode {
            Mode::Off | Mode::Warn => Some(false),
            Mode::Enforce(share) => self.is_in(share),
        }
    }

    const fn bucket(self) -> Option<u16> {
        match self {
            Self::Bucket(bucket) => Some(bucket),
            Self::NoIdentity | Self::NoKey | Self::NoClient => None,
        }
    }

    /// In words, with the share of the mode that was in force.
    fn words(self, mode: Option<Mode>) -> String {
        match (self, mode) {
            (Self::Bucket(bucket), Some(Mode::Enforce(share))) => {
                let points = share.basis_points();
                let is = if bucket < points { "is in" } else { "is not in" };
                format!(
                    "bucket: {bucket} of 10000, which {is} the share of {share} (below {points})"
                )
            }
            (Self::Bucket(bucket), _) => {
                format!(
                    "bucket: {bucket} of 10000; it is in every share above {bucket} basis points"
                )
            }
            (Self::NoIdentity, _) => {
                "bucket: none; the client has no identity but its address, and is in no share \
                 below 100%"
                    .to_owned()
            }
            (Self::NoKey, _) => "bucket: not known; the installation's key is not here".to_owned(),
            (Self::NoClient, _) => {
                "bucket: not known; the client's name is not one of a gateway".to_owned()
            }
        }
    }
}

/// How a rule came to stand where it stood at a time, and where it stands now.
#[derive(Debug, Default)]
struct History {
    then: Option<Then>,
    /// Whether entries before those that were looked at may say more.
    is_cut: bool,
    standing: Option<Standing>,
}

/// An entry of the audit log that says where the versions of a rule stood from then on.
struct Station {
    at_unix_ms: i64,
    /// What became of the version that the entry is about, and what that was before.
    after: InForce,
    before: Option<InForce>,
    current: InForce,
    next: Option<InForce>,
    actor: String,
    reason: Option<String>,
}

/// The members of a leaf that matter here; a leaf that lacks one says nothing of modes.
#[derive(Deserialize)]
struct Leaf {
    actor: String,
    reason: Option<String>,
    before: Option<Value>,
    after: After,
}

#[derive(Deserialize)]
struct After {
    #[serde(flatten)]
    one: InForce,
    current: InForce,
    next: Option<InForce>,
    at_unix_ms: i64,
}

impl Station {
    fn read(leaf: &str) -> Option<Self> {
        let Leaf { actor, reason, before, after } = serde_json::from_str(leaf).ok()?;
        let before = before.and_then(|before| serde_json::from_value(before).ok());
        let After { one, current, next, at_unix_ms } = after;
        Some(Self { at_unix_ms, after: one, before, current, next, actor, reason })
    }

    /// The version that judged a client at `place`, as the gateway chooses it.
    fn judged(&self, place: Place) -> Then {
        let enforced = self.next.filter(|next| matches!(next.mode, Mode::Enforce(_)));
        let (judged, or_next) = match enforced {
            Some(next) => match place.is_denied(next.mode) {
                Some(true) => (next, None),
                Some(false) => (self.current, None),
                None => (self.current, Some(next)),
            },
            None => (self.current, None),
        };
        Then { judged, or_next, since: None }
    }

    /// Whether one of the versions stands as `one` does.
    fn has(&self, one: InForce) -> bool {
        self.current.is_like(one) || self.next.is_some_and(|next| next.is_like(one))
    }

    /// Whether this is the entry that put a version where `one` stands.
    fn made(&self, one: InForce) -> bool {
        self.after.is_like(one) && !self.before.is_some_and(|before| before.is_like(one))
    }
}

impl InForce {
    /// In a mode that denies nobody, an edit takes a version's place without an entry of its own.
    fn is_like(self, other: Self) -> bool {
        let is_enforced = matches!(self.mode, Mode::Enforce(_));
        self.mode == other.mode && (self.version == other.version || !is_enforced)
    }
}

fn history(
    ledger: &LedgerReader,
    rule: &str,
    at_unix_ms: i64,
    place: Place,
) -> Result<History, StoreError> {
    let standing =
        ledger.standings()?.into_iter().find(|(name, _)| name == rule).map(|(_, known)| known);
    let leaves = ledger.summary()?.leaves;
    let oldest = leaves.saturating_sub(LEAVES_MAX);
    let target = format!("\"target\":{}", Value::from(rule));
    let mut then: Option<Then> = None;
    let mut end = leaves;
    // From the newest entry back: to the last one before the request, then to the one that had put
    // the version where that has it.
    while end > oldest {
        let start = end.saturating_sub(LEAVES_AT_ONCE).max(oldest);
        let page = ledger.leaves_from(start)?;
        // The rest of a leaf is only read where it is of the rule.
        let of_rule = page.iter().rev().filter(|row| row.seq < end && row.leaf.contains(&target));
        for row in of_rule {
            let Some(station) = Station::read(&row.leaf) else { continue };
            if then.is_none() && station.at_unix_ms > at_unix_ms {
                continue;
            }
            let then = then.get_or_insert_with(|| station.judged(place));
            if !station.has(then.judged) {
                return Ok(History { then: Some(then.clone()), is_cut: false, standing });
            }
            if station.made(then.judged) {
                let Station { at_unix_ms: unix_ms, actor, reason, .. } = station;
                then.since = Some(Since { seq: row.seq, unix_ms, actor, reason });
                return Ok(History { then: Some(then.clone()), is_cut: false, standing });
            }
        }
        end = start;
    }
    Ok(History { then, is_cut: oldest > 0, standing })
}

fn spoke(
    rule: &str,
    said: &'static str,
    request: &RequestRow,
    setting: Option<ModeSetting>,
    history: History,
    place: Place,
) -> Spoke {
    let now = history.standing.as_ref().map(|standing| Now {
        mode: standing.current.in_force(setting.unwrap_or_default()),
        version: standing.current.version,
        next_version: standing.next.as_ref().map(|next| next.version),
        next_mode: standing.next.as_ref().map(|next| next.mode),
        why: standing.current.why.clone(),
    });
    // A pin of the file may have been another then.
    let mode_then = match setting {
        Some(ModeSetting::Pinned(mode)) => Some(mode),
        _ => history.then.as_ref().map(|then| then.judged.mode),
    };
    let is_denied = mode_then.and_then(|mode| place.is_denied(mode));
    let mut why = vec![match (said, &request.reason) {
        ("denied", Some(reason)) => format!("the rule denied it: {reason}"),
        ("denied", None) => "the rule denied it".to_owned(),
        (_, _) if request.ending == "denied" => {
            "it would have denied it too; another rule did".to_owned()
        }
        _ => match (mode_then, is_denied) {
            (Some(Mode::Enforce(_)), Some(false)) => {
                "it would have denied it; the client was not in the share".to_owned()
            }
            (Some(Mode::Enforce(_)), _) => "it would have denied it".to_owned(),
            (Some(Mode::Warn | Mode::Off) | None, _) => {
                "it would have denied it; in warn it denies nobody".to_owned()
            }
        },
    }];
    why.push(match setting {
        Some(ModeSetting::Pinned(mode)) => format!(
            "the file pins it to {mode}; what it was pinned to then, the config.reload entries of \
             `seaworthy audit tail` say"
        ),
        _ => history.words(),
    });
    if (said == "denied") != is_denied.unwrap_or(said == "denied") {
        why.push(
            "that does not fit: the file had pinned it otherwise, an alert had overridden the pin, \
             or it was moved in that very moment"
                .to_owned(),
        );
    }
    why.push(place.words(mode_then));
    if let Some(now) = &now {
        let beside = match (now.next_version, now.next_mode) {
            (Some(version), Some(mode)) => format!("; version {version} is beside it, at {mode}"),
            _ => String::new(),
        };
        why.push(format!("now: {}, version {}{beside}", now.mode, now.version));
    }
    let (rule, bucket) = (rule.to_owned(), place.bucket());
    Spoke { rule, said, objection: None, bucket, then: history.then, now, why }
}

impl Spoke {
    /// Adds what the rule objected to, behind the sentence that says that it did.
    fn object(&mut self, objection: Option<&Objection>) {
        let sentence = match objection {
            Some(Objection { detail, places, .. }) if places.is_empty() => {
                format!("what it objected to: {detail}")
            }
            Some(Objection { detail, places, .. }) => {
                format!("what it objected to: {detail}: {places}")
            }
            None => {
                "what it objected to was not kept: of each rule, that is kept of the first ten \
                     requests a minute and of few above"
                    .to_owned()
            }
        };
        self.why.insert(1, sentence);
        self.objection = objection.map(|Objection { code, detail, places, .. }| Objected {
            code: code.clone(),
            detail: detail.clone(),
            at: places.clone(),
        });
    }
}

impl History {
    /// Which version judged the client, in which mode, and since when.
    fn words(&self) -> String {
        let Some(Then { judged, or_next, since }) = &self.then else {
            return if self.is_cut {
                format!(
                    "then: not known; the newest {LEAVES_MAX} entries of the audit log begin later"
                )
            } else {
                "then: warn; nothing had moved it yet".to_owned()
            };
        };
        let InForce { version, mode } = judged;
        let is_enforced = matches!(mode, Mode::Enforce(_));
        let now = self.standing.as_ref().map(|standing| u64::from(standing.current.version));
        let later = if is_enforced || now == Some(*version) { "" } else { " or a later one" };
        let beside = or_next.map_or_else(String::new, |InForce { version, mode }| {
            format!(", or version {version} at {mode} for those in its share")
        });
        let since = match since {
            Some(Since { seq, unix_ms, actor, reason }) => {
                let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
                format!("since {} by {actor}{reason} (entry {seq})", exact(*unix_ms))
            }
            None if self.is_cut => {
                format!("since before the newest {LEAVES_MAX} entries of the audit log")
            }
            None if is_enforced => "since when no entry says".to_owned(),
            None => "which nothing had moved yet".to_owned(),
        };
        format!("then: {mode}, version {version}{later}{beside}, {since}")
    }
}

fn render(explained: &Explained, paper: Paper) -> String {
    let row = &explained.request;
    let tenant = row.tenant.as_ref().map_or(String::new(), |tenant| format!(" of tenant {tenant}"));
    let reason = row.reason.as_ref().map_or(String::new(), |reason| format!(", {reason}"));
    let head = [
        ("request", row.id.clone()),
        ("time", exact(row.time_unix_ms)),
        ("client", format!("{}{tenant}", row.client)),
        ("asked", format!("{} {} (route {})", row.method, row.path, row.route)),
        ("answer", format!("{} ({}{reason})", row.status, row.ending)),
    ];
    let mut table = Table::new(["", ""]);
    for (name, value) in head {
        table.row([Cell::new(name).paint(Paint::Dim), Cell::new(value)]);
    }
    for spoke in &explained.rules {
        let paint = if spoke.said == "denied" { Paint::Red } else { Paint::Yellow };
        let lines = format!("{}\n{}", spoke.rule, spoke.why.join("\n"));
        table.row([Cell::new(spoke.said).paint(paint), Cell::new(lines)]);
    }
    let text = table.render(paper);
    // The first line has no headings.
    let mut text = text.split_once('\n').map_or(String::new(), |(_, body)| body.to_owned());
    if explained.rules.is_empty() {
        text.push_str(match &*row.ending {
            "refused" => "\nthe gateway refused it before any rule was asked\n",
            _ => "\nno rule spoke against it\n",
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use seaworthy_store::ledger::{Action, Change, Entry, Ledger, LedgerOptions, put_standing};
    use serde_json::json;

    use super::*;

    const CLIENT: &str = "bearer:0123456789abcdef";

    fn row(client: &str, denied: &[&str], would_deny: &[&str]) -> RequestRow {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        RequestRow {
            time_unix_ms: i64::MAX / 2000,
            id: "abc".to_owned(),
            duration_us: 1200,
            upstream_us: 0,
            route: "POST /a".to_owned(),
            method: "POST".to_owned(),
            status: 403,
            ending: if denied.is_empty() { "served" } else { "denied" }.to_owned(),
            client: client.to_owned(),
            tenant: Some("acme".to_owned()),
            path: "/a".to_owned(),
            request_bytes: 0,
            response_bytes: 0,
            reason: Some("cross-site".to_owned()),
            would_deny: names(would_deny),
            denied: names(denied),
            upstream: None,
            weight: 1.0,
        }
    }

    /// The key of the vectors in `docs/rollout.md`.
    fn install_key() -> InstallKey {
        InstallKey::new(std::array::from_fn(|index| u8::try_from(index).unwrap()))
    }

    fn in_force(version: u64, mode: &str) -> InForce {
        InForce { version, mode: mode.parse().unwrap() }
    }

    fn then(mode: &str) -> History {
        let since = Since {
            seq: 17,
            unix_ms: 1_785_585_600_000,
            actor: "operator:ada".to_owned(),
            reason: Some("ada: to see".to_owned()),
        };
        let then = Then { judged: in_force(3, mode), or_next: None, since: Some(since) };
        History { then: Some(then), ..History::default() }
    }

    #[test]
    fn the_bucket_says_who_is_in_the_share() {
        let explain = |client, history, setting| {
            let request = row(client, &["csrf"], &[]);
            let place = Place::of("csrf", client, Some(&install_key()));
            spoke("csrf", "denied", &request, Some(setting), history, place).why
        };
        let auto = ModeSetting::Auto;
        let in_share = explain(CLIENT, then("enforce 50%"), auto);
        assert_eq!(
            in_share,
            [
                "the rule denied it: cross-site",
                "then: enforce 50%, version 3, since 2026-08-01 12:00:00 UTC by operator:ada: ada: to \
                 see (entry 17)",
                "bucket: 4792 of 10000, which is in the share of 50% (below 5000)",
            ]
        );
        for (client, mode, fits, want) in [
            (
                CLIENT,
                "enforce 10%",
                false,
                "bucket: 4792 of 10000, which is not in the share of 10%",
            ),
            (CLIENT, "warn", false, "bucket: 4792 of 10000; it is in every share above 4792"),
            ("ip:203.0.113.7", "enforce", true, "bucket: none; "),
            ("ip:203.0.113.7", "enforce 10%", false, "bucket: none; "),
            ("somebody", "enforce", true, "bucket: not known; the client's name"),
            ("somebody", "enforce 10%", true, "bucket: not known; the client's name"),
        ] {
            let why = explain(client, then(mode), auto);
            assert!(why.last().unwrap().starts_with(want), "{client} {mode}: {why:?}");
            let says_so = why[2].starts_with("that does not fit: ");
            assert_eq!(says_so, !fits, "{client} {mode}: {why:?}");
        }
        let pinned = explain(CLIENT, then("warn"), ModeSetting::ENFORCE);
        assert!(pinned[1].starts_with("the file pins it to enforce"), "{pinned:?}");
        assert!(pinned[2].contains("is in the share of 100%"), "{pinned:?}");
    }

    #[test]
    fn what_a_rule_objected_to_stands_behind_that_it_did() {
        let request = row(CLIENT, &[], &["csrf"]);
        let explain = |objection: Option<&Objection>| {
            let place = Place::NoKey;
            let auto = Some(ModeSetting::Auto);
            let mut spoke = spoke("csrf", "would deny", &request, auto, History::default(), place);
            spoke.object(objection);
            (spoke.why.swap_remove(1), spoke.objection.map(|objected| objected.at))
        };
        let mut objection = Objection {
            time_unix_ms: 1,
            request: request.id.clone(),
            rule: "csrf".to_owned(),
            code: "schema-mismatch".to_owned(),
            detail: "2 parts of the request are not as documented".to_owned(),
            places: "/text maxLength, query:limit type".to_owned(),
        };
        let (said, at) = explain(Some(&objection));
        assert_eq!(
            said,
            "what it objected to: 2 parts of the request are not as documented: /text maxLength, \
             query:limit type"
        );
        assert_eq!(at.as_deref(), Some("/text maxLength, query:limit type"));
        objection.places.clear();
        assert!(explain(Some(&objection)).0.ends_with(" are not as documented"));
        let (said, at) = explain(None);
        assert!(said.starts_with("what it objected to was not kept: "), "{said}");
        assert_eq!(at, None);
    }

    #[test]
    fn what_is_not_known_is_said() {
        let request = row(CLIENT, &[], &["csrf"]);
        let auto = Some(ModeSetting::Auto);
        let explain =
            |history| spoke("csrf", "would deny", &request, auto, history, Place::NoKey).why;
        let why = explain(History { is_cut: true, ..History::default() });
        assert!(why[1].starts_with("then: not known; "), "{why:?}");
        assert_eq!(why[2], "bucket: not known; the installation's key is not here");
        assert_eq!(explain(History::default())[1], "then: warn; nothing had moved it yet");
        let moved = |mode, or_next, is_cut| {
            let then = Then { judged: in_force(1, mode), or_next, since: None };
            explain(History { then: Some(then), is_cut, standing: None }).swap_remove(1)
        };
        for (mode, or_next, is_cut, want) in [
            (
                "warn",
                None,
                false,
                "then: warn, version 1 or a later one, which nothing had moved yet",
            ),
            (
                "enforce",
                None,
                true,
                "then: enforce, version 1, since before the newest 200000 entries of the audit log",
            ),
            (
                "enforce",
                Some(in_force(2, "enforce 10%")),
                false,
                "then: enforce, version 1, or version 2 at enforce 10% for those in its share, since \
                 when no entry says",
            ),
        ] {
            assert_eq!(moved(mode, or_next, is_cut), want);
        }
    }

    /// An entry as the rollout writes it: of a version, before and after, and what there was then.
    fn entry(
        at_unix_ms: i64,
        (before, after): (InForce, InForce),
        (current, next): (InForce, Option<InForce>),
    ) -> Entry {
        let mut entry = Entry::new("operator:ada", Action::ModeSet, "csrf");
        entry.before = Some(json!(before));
        let mut said = json!(after);
        said["current"] = json!(current);
        said["next"] = json!(next);
        said["at_unix_ms"] = json!(at_unix_ms);
        entry.after = Some(said);
        entry
    }

    /// Buckets of the next version's share of 10 %, and of those outside of it.
    const IN: Place = Place::Bucket(999);
    const OUT: Place = Place::Bucket(1000);

    #[test]
    fn who_judged_is_the_version_of_the_clients_share_and_since_when_is_the_entry_that_moved_it() {
        let v1 = |mode| in_force(1, mode);
        let v2 = |mode| in_force(2, mode);
        let (all, tenth) = ("enforce", "enforce 10%");
        let of = |number: i64| (number, number * 1000);
        // Entry n is of second n; the log's own first entry is 0.
        let entries = [
            (of(1), (v1("warn"), v1("warn")), (v1("warn"), None)),
            (of(2), (v1("warn"), v1(all)), (v1(all), None)),
            // A hold moves nothing.
            (of(3), (v1(all), v1(all)), (v1(all), None)),
            // An edit: version 2 is judged beside version 1, then enforced for a tenth.
            (of(4), (v1(all), v2("warn")), (v1(all), Some(v2("warn")))),
            (of(5), (v2("warn"), v2(tenth)), (v1(all), Some(v2(tenth)))),
            // A hold is of both versions.
            (of(6), (v2(tenth), v2(tenth)), (v1(all), Some(v2(tenth)))),
            (of(7), (v1(all), v1(all)), (v1(all), Some(v2(tenth)))),
            // Version 1 falls, and version 2 takes its place as it is.
            (of(8), (v1(all), v1("warn")), (v2(tenth), None)),
            (of(9), (v2(tenth), v2("warn")), (v2("warn"), None)),
            // An edit in warn has no entry; the release after it is of version 3.
            (of(10), (in_force(3, "warn"), in_force(3, "warn")), (in_force(3, "warn"), None)),
        ];
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ledger = Ledger::open(dir.path(), LedgerOptions::default()).unwrap();
            for ((_, at_unix_ms), moved, versions) in entries {
                let entry = entry(at_unix_ms, moved, versions);
                ledger.commit(Change::new().audit(&entry).unwrap()).await.unwrap();
            }
            let cors =
                Entry { target: "cors".to_owned(), ..entry(2500, entries[1].1, entries[1].2) };
            let waiver = Entry {
                after: Some(json!({ "client": CLIENT, "until_unix_ms": 7 })),
                ..Entry::new("operator:ada", Action::RolloutWaive, "csrf")
            };
            let change = Change::new().audit(&cors).unwrap().audit(&waiver).unwrap();
            let policy = seaworthy_policy::rollout::PolicyHash::new([1; 32]);
            let standing = Standing::new(policy, Value::Null, 0);
            ledger.commit(change.and(put_standing("csrf", &standing))).await.unwrap();
            ledger.close().await;
        });
        let ledger = LedgerReader::open_read_only(dir.path()).unwrap();
        let found = |rule, at_unix_ms, place| {
            let then = history(&ledger, rule, at_unix_ms, place).unwrap().then;
            then.map(|then| (then.judged, then.or_next, then.since.map(|since| since.seq)))
        };
        for (at_unix_ms, place, want) in [
            (999, OUT, None),
            (1500, OUT, Some((v1("warn"), None, None))),
            (2000, OUT, Some((v1(all), None, Some(2)))),
            (3500, OUT, Some((v1(all), None, Some(2)))),
            (4500, IN, Some((v1(all), None, Some(2)))),
            (5500, OUT, Some((v1(all), None, Some(2)))),
            (5500, IN, Some((v2(tenth), None, Some(5)))),
            (7500, OUT, Some((v1(all), None, Some(2)))),
            (7500, IN, Some((v2(tenth), None, Some(5)))),
            (7500, Place::NoIdentity, Some((v1(all), None, Some(2)))),
            (7500, Place::NoKey, Some((v1(all), Some(v2(tenth)), Some(2)))),
            (8500, OUT, Some((v2(tenth), None, Some(5)))),
            (9500, OUT, Some((v2("warn"), None, Some(9)))),
            (i64::MAX, OUT, Some((in_force(3, "warn"), None, Some(9)))),
        ] {
            assert_eq!(found("csrf", at_unix_ms, place), want, "{at_unix_ms} {place:?}");
        }
        assert_eq!(found("cors", i64::MAX, OUT), Some((v1(all), None, Some(11))));
        assert_eq!(found("csp", i64::MAX, OUT), None);
        let known = history(&ledger, "csrf", i64::MAX, OUT).unwrap().standing;
        assert_eq!(known.unwrap().current.version, 1);
    }

    #[test]
    fn a_request_without_objections_is_explained_too() {
        let quiet = Explained { request: row(CLIENT, &[], &[]), rules: Vec::new() };
        assert!(render(&quiet, Paper::Pipe).ends_with("\nno rule spoke against it\n"));
        let refused = RequestRow { ending: "refused".to_owned(), ..row(CLIENT, &[], &[]) };
        let text = render(&Explained { request: refused, rules: Vec::new() }, Paper::Pipe);
        assert!(text.ends_with("before any rule was asked\n"), "{text}");
        assert!(text.starts_with("request  abc\n"), "{text}");
    }
}
