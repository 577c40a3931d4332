//! Rules in every situation there is, with made-up gates and a ledger of made-up moves.

use std::error::Error;
use std::path::Path;

use seaworthy_console::control::{
    Answer, Control, Done, Refused, Request, RuleStanding, VersionStanding, WaiverView,
};
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::{GatesConfig, Numbers, Reading, Verdict};
use seaworthy_policy::mode::{Mode, ModeSetting, Share};
use seaworthy_policy::rollout::receipt::RECEIPT_VERSION;
use seaworthy_policy::rollout::{Event, PolicyHash, Receipt, RolloutConfig, RuleState, Stay};
use seaworthy_store::ledger::{Action, Change, Entry, Ledger, LedgerOptions, put_receipt};
use serde_json::json;

/// Rules that stand still: nobody moves them.
pub(crate) struct Rules(pub(crate) Vec<RuleStanding>);

impl Control for Rules {
    fn standings(&self) -> Vec<RuleStanding> {
        self.0.clone()
    }

    fn ask(&self, _: Request) -> Answer<'_, Result<Done, Refused>> {
        let message = "these rules are made up".to_owned();
        Box::pin(std::future::ready(Err(Refused::NotNow(message))))
    }
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

const BREAKS: &str = "promoting breaks key:4f0c7be1a9d23355 (12 of 12), 0.3 % of traffic";
const FELL: &str = "denials rose from at most 0.2 % to 9.1 % of the known clients of the share";

/// One rule in each situation, by name.
pub(crate) fn all(now: i64) -> Vec<RuleStanding> {
    let held = |until_unix_ms: Option<i64>, why: &str| Stay::Held {
        until_unix_ms: until_unix_ms.map(|until| now + until),
        why: why.to_owned(),
    };
    let gates = |passed| Some(Stay::Gates { passed, of: 8 });
    let mut collecting =
        version(1, "warn", now - 3 * HOUR_MS, "new: it collects evidence", gates(5));
    collecting.waits_for =
        Some("harm_rate: needs 412 more requests, about 38 minutes at this traffic".to_owned());
    collecting.gates = readings([PASS, OPEN, PASS, OPEN]);
    let mut climbing =
        version(2, "enforce 10%", now - 40 * MINUTE_MS, "every gate passed for 10%", gates(7));
    climbing.waits_for = Some("soak: needs 12 more green minutes".to_owned());
    climbing.gates = readings([PASS, PASS, PASS, OPEN]);
    let mut blocked = version(1, "warn", now - 26 * HOUR_MS, "new: it collects evidence", gates(6));
    blocked.waits_for = Some("clients: needs the named clients to be mended".to_owned());
    blocked.gates = readings([PASS, FAIL, PASS, PASS]);
    let mut fell =
        version(4, "warn", now - 9 * MINUTE_MS, FELL, Some(held(Some(6 * HOUR_MS), FELL)));
    fell.attempt = 2;
    fell.gates = readings([OPEN, OPEN, OPEN, OPEN]);
    let mut done =
        version(7, "enforce", now - 90 * HOUR_MS, "every gate passed for 100%", Some(Stay::Done));
    done.gates = readings([PASS, PASS, PASS, PASS]);
    let mut next = version(8, "warn", now - 2 * HOUR_MS, "new: it collects evidence", gates(6));
    (next.lane, next.attempt) = (Lane::Next, 2);
    next.waits_for = Some("coverage: needs the pairs of 3 quiet hours".to_owned());
    next.gates = readings([PASS, OPEN, OPEN, PASS]);
    let mut approval = version(
        1,
        "enforce 50%",
        now - 30 * HOUR_MS,
        "every gate passed for 50%",
        Some(Stay::Approval { to: Share::ALL }),
    );
    approval.gates = readings([PASS; 4]);
    let pinned =
        version(1, "enforce", now - 90 * HOUR_MS, "new: it collects evidence", Some(Stay::Pinned));
    let off =
        version(1, "off", now - 90 * HOUR_MS, "new: it collects evidence", Some(Stay::Pinned));
    let release = "version 2.4 of the service is being rolled out";
    let on_hold = version(
        1,
        "enforce 10%",
        now - 5 * HOUR_MS,
        "every gate passed for 10%",
        Some(held(None, release)),
    );
    let fresh = version(
        1,
        "warn",
        now,
        "new: it collects evidence",
        Some(Stay::Settling { until_unix_ms: now + MINUTE_MS / 6 }),
    );
    let mut two = rule("injection", ModeSetting::Auto, done);
    two.next = Some(next);
    let mut named =
        rule("request_schema@POST /api/complaints/{id}/notes", ModeSetting::Auto, blocked);
    named.waivers = vec![WaiverView {
        client: "key:91d2a07c55e08b1f".to_owned(),
        until_unix_ms: now + 72 * HOUR_MS,
        reason: "the partner mends its client this week".to_owned(),
        actor: "operator:ada".to_owned(),
    }];
    let mut rules = vec![
        rule("body_limit", ModeSetting::ENFORCE, pinned),
        rule("core_rule_set", ModeSetting::OFF, off),
        rule("cors", ModeSetting::Auto, approval),
        rule("csrf", ModeSetting::Auto, fell),
        rule("header_limit", ModeSetting::Auto, on_hold),
        two,
        rule("ip_filter", ModeSetting::Auto, fresh),
        rule("rate_limit", ModeSetting::Auto, collecting),
        rule("rate_limit@POST /api/traces", ModeSetting::Auto, climbing),
        named,
    ];
    rules.sort_by(|one, other| one.rule.cmp(&other.rule));
    rules
}

fn rule(name: &str, setting: ModeSetting, current: VersionStanding) -> RuleStanding {
    RuleStanding { rule: name.to_owned(), setting, current, next: None, waivers: Vec::new() }
}

fn version(
    version: u32,
    mode: &str,
    since_unix_ms: i64,
    why: &str,
    stay: Option<Stay>,
) -> VersionStanding {
    let mode: Mode = mode.parse().expect("a mode");
    VersionStanding {
        approved: None,
        lane: Lane::Current,
        version,
        policy: PolicyHash::of(&[why.as_bytes()]).to_string(),
        mode,
        epoch: 4,
        since_unix_ms,
        window_unix_ms: since_unix_ms + MINUTE_MS / 6,
        why: why.to_owned(),
        next_step: RolloutConfig::default().above(mode),
        attempt: 1,
        stay,
        waits_for: None,
        gates: Vec::new(),
    }
}

const PASS: Verdict = Verdict::Pass;
const FAIL: Verdict = Verdict::Fail;
const OPEN: Verdict = Verdict::Inconclusive;

/// Eight gates, of which four are as told: harm rate, clients, coverage, soak.
fn readings([harm_rate, clients, coverage, soak]: [Verdict; 4]) -> Vec<Reading> {
    let reading = |gate: &str, verdict: Verdict, sentence: &str, needs: Option<&str>, numbers| {
        let numbers: Numbers = serde_json::from_value(numbers).expect("numbers by name");
        let gate = serde_json::from_value(json!(gate)).expect("a gate");
        let (sentence, waits_for) = (sentence.to_owned(), needs.map(str::to_owned));
        Reading { gate, verdict, sentence, waits_for, numbers }
    };
    let exceedance = |hits: u64, total: u64| {
        json!({ "hits": hits, "total": total, "p0": 0.005, "ln_e_value": 3.91, "ln_e_value_needed":
            4.605_170_185, "upper_bound_99": 0.006_1, "alpha_spent": 0.01 })
    };
    let open = |verdict: Verdict| verdict == OPEN;
    vec![
        reading(
            "harm_rate",
            harm_rate,
            if open(harm_rate) {
                "harm in 3 of 1,786 requests does not show less than 0.5 % yet (E = 50 of 100 needed)"
            } else {
                "harm in 3 of 4,210 requests: less than 0.5 % is shown (E = 8,120 of 100 needed)"
            },
            open(harm_rate).then_some("412 more requests, about 38 minutes at this traffic"),
            exceedance(3, 1786),
        ),
        reading(
            "clients",
            clients,
            match clients {
                Verdict::Fail => BREAKS,
                Verdict::Pass => {
                    "fewer than 0.5 % of 2,204 client-minutes would be broken (capital 10,230 of 100 needed)"
                }
                _ => {
                    "no client is broken among 604 client-minutes, which do not show enough (capital 18 of 100 needed)"
                }
            },
            match clients {
                Verdict::Fail => {
                    Some("the named clients to be mended, or waived with `seaworthy rollout waive`")
                }
                Verdict::Pass => None,
                _ => Some("348 more client-minutes, about 4 hours at this traffic"),
            },
            json!({ "units": 604, "mean_harm": 0.0012, "p0": 0.005, "ln_capital": 2.89,
                "ln_capital_needed": 4.605_170_185, "broken_clients": 1, "waived_clients": 1 }),
        ),
        reading(
            "coverage",
            coverage,
            if open(coverage) {
                "93.1 % of the week's requests come from clients and routes that were seen, of 99 % needed"
            } else {
                "99.6 % of the week's requests come from clients and routes that were seen"
            },
            open(coverage).then_some("18 clients on 3 routes, most of them at night"),
            json!({ "seen_requests": 44_120, "week_requests": 47_390, "share_needed": 0.99, "days_known": 7 }),
        ),
        reading(
            "latency",
            PASS,
            "0 of 4,210 checks took more than 1 ms",
            None,
            exceedance(0, 4210),
        ),
        reading(
            "errors",
            PASS,
            "5xx are not more frequent among the enforced",
            None,
            json!({ "enforced_5xx": 0, "enforced_total": 421, "control_5xx": 2, "control_total": 3789, "margin": 0.001 }),
        ),
        reading(
            "assignment",
            PASS,
            "412 of 4,090 clients are in the share of 10 %",
            None,
            json!({ "clients_enforced": 412, "clients": 4090, "share": 0.1 }),
        ),
        reading(
            "soak",
            soak,
            if open(soak) { "18 green minutes of 30" } else { "30 green minutes of 30" },
            open(soak).then_some("12 more green minutes"),
            json!({ "green_minutes": 18, "green_minutes_needed": 30 }),
        ),
        reading(
            "calibration",
            PASS,
            "denials agree with what warn predicted",
            None,
            json!({ "denied": 4, "enforced_total": 421, "would_deny": 38, "warn_total": 3789, "factor": 2 }),
        ),
    ]
}

/// A ledger in `dir` with the moves of the rule that fell, and of some others.
pub(crate) async fn ledger(dir: &Path, now: i64) -> Result<Ledger, Box<dyn Error>> {
    let ledger = Ledger::open(dir, LedgerOptions::default())?;
    let share = |basis_points| Share::from_basis_points(basis_points).expect("at most all");
    let reason = |text: &str| text.to_owned();
    let moves = [
        (120, "gateway", Event::PolicyChanged { policy: PolicyHash::new([2; 32]) }),
        (96, "gateway", Event::Promoted { to: share(1000) }),
        (
            80,
            "operator:ada",
            Event::Held {
                until_unix_ms: Some(now - 70 * HOUR_MS),
                reason: reason("a release is out"),
            },
        ),
        (72, "operator:ada", Event::Released { reason: reason("the release is fine") }),
        (
            60,
            "alert:HighErrorRate",
            Event::Alerted {
                alert: reason("HighErrorRate: 5xx of checkout above 2 % for 5 minutes"),
            },
        ),
        (
            58,
            "operator:grace",
            Event::Released { reason: reason("it was the database, not the rule") },
        ),
        (30, "gateway", Event::Promoted { to: share(1000) }),
        (6, "gateway", Event::Promoted { to: share(5000) }),
        (0, "gateway", Event::Fell { cause: FELL.to_owned() }),
    ];
    let config = RolloutConfig::default();
    let mut state = RuleState::new(PolicyHash::new([1; 32]), now - 200 * HOUR_MS);
    for (hours_ago, actor, event) in moves {
        let at_unix_ms = now - hours_ago * HOUR_MS - 9 * MINUTE_MS;
        let after = state.after(&event, &config, at_unix_ms);
        let receipt = Receipt {
            v: RECEIPT_VERSION,
            program: format!("seaworthy {}", env!("CARGO_PKG_VERSION")),
            rule: "csrf".to_owned(),
            lane: Lane::Current,
            actor: actor.to_owned(),
            at_unix_ms,
            readings: if matches!(event, Event::Promoted { .. }) {
                readings([PASS; 4])
            } else {
                vec![]
            },
            event,
            before: state,
            after: after.clone(),
            setting: ModeSetting::Auto,
            rollout: config.clone(),
            gates: GatesConfig::default(),
            inputs: None,
            alarm: None,
            alpha_spent: None,
            clients_digest: None,
            digest: String::new(),
        };
        state = after;
        let entry = Entry::new(actor, Action::ModePromote, "csrf");
        let change = Change::new().audit(&entry)?.and(put_receipt(&receipt.seal()));
        ledger.commit(change).await?;
    }
    Ok(ledger)
}
