//! `seaworthy requests --explain`: which rules spoke against one request, in which mode, and why
//! this client was in the share or was not.
//!
//! 1. What the rule said is in the row of the request. What the mode was is found in the audit log:
//!    the last entry of the rule before the request.
//! 2. The bucket is computed as the gateway computes it, from the installation's key.
//! 3. What is not known is said: a request that was not kept, a key that is not here, a mode that
//!    the file has pinned at another time.

use std::path::Path;

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::{Buckets, Mode, ModeSetting};
use seaworthy_policy::registry::InstallKey;
use seaworthy_policy::rollout::{Receipt, Standing};
use seaworthy_store::StoreError;
use seaworthy_store::ledger::LedgerReader;
use seaworthy_store::telemetry::{RequestRow, TelemetryReader};
use serde::Serialize;
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
    /// From 0 to 9999, in basis points; `None` where the client has no identity, or the key is not
    /// here.
    bucket: Option<u16>,
    /// The last move of the rule before the request; `None` where there was none, or the log does not
    /// go back so far.
    then: Option<Moved>,
    now: Option<Now>,
    /// The sentences.
    why: Vec<String>,
}

/// An entry of the audit log that says where the rule stood from then on.
#[derive(Clone, Debug, Serialize)]
struct Moved {
    seq: u64,
    ts_us: i64,
    mode: Mode,
    version: u64,
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
    let found = TelemetryReader::open_read_only(dir)
        .and_then(|reader| reader.request(id))
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
            let history = match &ledger {
                Some(ledger) => history(ledger, rule, request.time_unix_ms).map_err(of_ledger)?,
                None => History::default(),
            };
            let setting = operator::setting(config, rule);
            rules.push(spoke(rule, said, &request, setting, history, key.as_ref()));
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

/// How a rule came to stand where it stood at a time, and where it stands now.
#[derive(Debug, Default)]
struct History {
    then: Option<Moved>,
    /// Whether entries before those that were looked at may say more.
    is_cut: bool,
    standing: Option<Standing>,
}

fn history(ledger: &LedgerReader, rule: &str, at_unix_ms: i64) -> Result<History, StoreError> {
    let standing =
        ledger.standings()?.into_iter().find(|(name, _)| name == rule).map(|(_, known)| known);
    let leaves = ledger.summary()?.leaves;
    let oldest = leaves.saturating_sub(LEAVES_MAX);
    let target = format!("\"target\":{}", Value::from(rule));
    let mut end = leaves;
    let mut then = None;
    // From the newest page back, until a page has an entry of before the request.
    while end > oldest && then.is_none() {
        let start = end.saturating_sub(LEAVES_AT_ONCE).max(oldest);
        for row in ledger.leaves_from(start)?.into_iter().take_while(|row| row.seq < end) {
            // The rest of a leaf is only read where it is of the rule.
            if !row.leaf.contains(&target) {
                continue;
            }
            if let Some(moved) = moved(ledger, row.seq, &row.leaf)?
                && moved.ts_us.div_euclid(1000) <= at_unix_ms
            {
                then = Some(moved);
            }
        }
        end = start;
    }
    Ok(History { is_cut: then.is_none() && oldest > 0, then, standing })
}

/// What a leaf says of the present version; `None` where it says nothing of its mode.
fn moved(ledger: &LedgerReader, seq: u64, leaf: &str) -> Result<Option<Moved>, StoreError> {
    let leaf: Value = serde_json::from_str(leaf).unwrap_or_default();
    let after = &leaf["after"];
    let (Some(mode), Some(version), Some(ts_us)) = (
        after["mode"].as_str().and_then(|mode| mode.parse().ok()),
        after["version"].as_u64(),
        leaf["ts_us"].as_i64(),
    ) else {
        return Ok(None);
    };
    let receipt = ledger.receipt(seq)?;
    let receipt = receipt.and_then(|row| Receipt::read(row.receipt.as_bytes()).ok());
    // What is judged beside the present version is in force for nobody, until it enforces.
    if receipt.is_some_and(|one| one.lane == Lane::Next && !matches!(mode, Mode::Enforce(_))) {
        return Ok(None);
    }
    let text = |field: &str| leaf[field].as_str().map(str::to_owned);
    let actor = text("actor").unwrap_or_default();
    Ok(Some(Moved { seq, ts_us, mode, version, actor, reason: text("reason") }))
}

fn spoke(
    rule: &str,
    said: &'static str,
    request: &RequestRow,
    setting: Option<ModeSetting>,
    history: History,
    key: Option<&InstallKey>,
) -> Spoke {
    let client: Option<ClientKey> = request.client.parse().ok();
    let identified = client.filter(|client| client.is_identified());
    let buckets = key.map(|key| Buckets::new(&key.derive_16("share")));
    let bucket = identified
        .zip(buckets)
        .map(|(client, buckets)| buckets.of_rule(rule).place(&client.to_bytes()));
    let History { then, is_cut, standing } = history;
    let now = standing.map(|standing| Now {
        mode: standing.current.in_force(setting.unwrap_or_default()),
        version: standing.current.version,
        next_version: standing.next.as_ref().map(|next| next.version),
        next_mode: standing.next.as_ref().map(|next| next.mode),
        why: standing.current.why,
    });
    let mut why = Vec::new();
    match (said, &request.reason) {
        ("denied", Some(reason)) => why.push(format!("the rule denied it: {reason}")),
        ("denied", None) => why.push("the rule denied it".to_owned()),
        (_, _) if request.ending == "denied" => {
            why.push("it would have denied it too; another rule did".to_owned());
        }
        _ => why.push(match in_force(then.as_ref(), setting) {
            Some(Mode::Enforce(_)) => {
                "it would have denied it; the client was not in the share".to_owned()
            }
            Some(Mode::Warn | Mode::Off) | None => {
                "it would have denied it; in warn it denies nobody".to_owned()
            }
        }),
    }
    let mode_then = in_force(then.as_ref(), setting);
    why.push(match (setting, &then) {
        (Some(ModeSetting::Pinned(mode)), _) => format!(
            "the file pins it to {mode}; what it was pinned to then, the config.reload entries of \
             `seaworthy audit tail` say"
        ),
        (_, Some(moved)) => {
            let Moved { seq, mode, version, actor, reason, .. } = moved;
            let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            let at = exact(moved.ts_us.div_euclid(1000));
            format!("then: {mode}, version {version}, since {at} by {actor}{reason} (entry {seq})")
        }
        (_, None) if is_cut => {
            format!("then: not known; the newest {LEAVES_MAX} entries of the audit log begin later")
        }
        (_, None) => "then: warn; nothing had moved it yet".to_owned(),
    });
    why.push(place(bucket, client, mode_then, key.is_some()));
    if let Some(now) = &now {
        let beside = match (now.next_version, now.next_mode) {
            (Some(version), Some(mode)) => format!("; version {version} is beside it, at {mode}"),
            _ => String::new(),
        };
        why.push(format!("now: {}, version {}{beside}", now.mode, now.version));
    }
    Spoke { rule: rule.to_owned(), said, bucket, then, now, why }
}

/// The mode in which it was judged, as far as is known: a pin may have been another then.
fn in_force(then: Option<&Moved>, setting: Option<ModeSetting>) -> Option<Mode> {
    match setting {
        Some(ModeSetting::Pinned(mode)) => Some(mode),
        _ => then.map(|moved| moved.mode),
    }
}

/// The bucket in words.
fn place(
    bucket: Option<u16>,
    client: Option<ClientKey>,
    then: Option<Mode>,
    has_key: bool,
) -> String {
    let Some(client) = client else {
        return "bucket: not known; the client's name is not one of a gateway".to_owned();
    };
    if !client.is_identified() {
        return "bucket: none; the client has no identity but its address, and is in no share \
                below 100%"
            .to_owned();
    }
    let Some(bucket) = bucket else {
        debug_assert!(!has_key, "who has an identity and a key has a bucket");
        return "bucket: not known; the installation's key is not here".to_owned();
    };
    match then {
        Some(Mode::Enforce(share)) => {
            let points = share.basis_points();
            let is = if bucket < points { "is in" } else { "is not in" };
            format!("bucket: {bucket} of 10000, which {is} the share of {share} (below {points})")
        }
        _ => format!("bucket: {bucket} of 10000; it is in every share above {bucket} basis points"),
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

    fn then(mode: &str) -> History {
        let moved = Moved {
            seq: 17,
            ts_us: 1_785_585_600_000_000,
            mode: mode.parse().unwrap(),
            version: 3,
            actor: "operator:ada".to_owned(),
            reason: Some("ada: to see".to_owned()),
        };
        History { then: Some(moved), ..History::default() }
    }

    #[test]
    fn the_bucket_says_who_is_in_the_share() {
        let explain = |client, history, setting| {
            let request = row(client, &["csrf"], &[]);
            spoke("csrf", "denied", &request, Some(setting), history, Some(&install_key())).why
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
        for (client, mode, want) in [
            (CLIENT, "enforce 10%", "bucket: 4792 of 10000, which is not in the share of 10%"),
            (CLIENT, "warn", "bucket: 4792 of 10000; it is in every share above 4792"),
            ("ip:203.0.113.7", "enforce", "bucket: none; "),
            ("somebody", "enforce", "bucket: not known; the client's name"),
        ] {
            let why = explain(client, then(mode), auto);
            assert!(why[2].starts_with(want), "{client} {mode}: {why:?}");
        }
        let pinned = explain(CLIENT, then("warn"), ModeSetting::ENFORCE);
        assert!(pinned[1].starts_with("the file pins it to enforce"), "{pinned:?}");
        assert!(pinned[2].contains("is in the share of 100%"), "{pinned:?}");
    }

    #[test]
    fn what_is_not_known_is_said() {
        let request = row(CLIENT, &[], &["csrf"]);
        let auto = Some(ModeSetting::Auto);
        let cut = History { is_cut: true, ..History::default() };
        let why = spoke("csrf", "would deny", &request, auto, cut, None).why;
        assert!(why[1].starts_with("then: not known; "), "{why:?}");
        assert_eq!(why[2], "bucket: not known; the installation's key is not here");
        let new = spoke("csrf", "would deny", &request, auto, History::default(), None).why;
        assert_eq!(new[1], "then: warn; nothing had moved it yet");
    }

    #[test]
    fn the_mode_then_is_that_of_the_last_entry_before_the_request() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut times = Vec::new();
        runtime.block_on(async {
            let ledger = Ledger::open(dir.path(), LedgerOptions::default()).unwrap();
            let moves =
                [("csrf", "warn"), ("csrf", "enforce 10%"), ("cors", "enforce"), ("csrf", "warn")];
            for (number, (rule, mode)) in (1..).zip(moves) {
                let mut entry = Entry::new("operator:ada", Action::ModeSet, rule);
                entry.after = Some(json!({ "mode": mode, "version": number }));
                // Holds and the like say nothing of a mode.
                let hold = Entry::new("operator:ada", Action::RolloutHold, rule);
                let change = Change::new().audit(&entry).unwrap().audit(&hold).unwrap();
                let standing = Standing::new(
                    seaworthy_policy::rollout::PolicyHash::new([1; 32]),
                    Value::Null,
                    0,
                );
                let committed =
                    ledger.commit(change.and(put_standing(rule, &standing))).await.unwrap();
                times.push(committed.ts_us);
            }
            ledger.close().await;
        });
        let ledger = LedgerReader::open_read_only(dir.path()).unwrap();
        let version = |ts_us: i64| {
            let unix_ms = ts_us.div_euclid(1000);
            history(&ledger, "csrf", unix_ms).unwrap().then.map(|moved| moved.version)
        };
        assert_eq!(version(times[0] - 1000), None);
        assert_eq!(version(times[3] + 1000), Some(4));
        assert_eq!(history(&ledger, "cors", i64::MAX).unwrap().then.unwrap().version, 3);
        assert!(history(&ledger, "csp", i64::MAX).unwrap().standing.is_none());
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
