//! What an operator wants to know of a rule before all else: whether it needs somebody.
//!
//! A [`RuleStanding`] says everything; a [`Situation`] is the one word of it that lists are sorted
//! by, and the sentence on the first page counts.

use seaworthy_policy::gates::Verdict;
use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_policy::rollout::Stay;

use crate::control::{RuleStanding, VersionStanding};

/// In the order in which they want to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Situation {
    /// Back in `warn`, and kept there by what made it fall.
    Fell,
    /// Somebody keeps it where it is.
    Held,
    /// A gate says that the next step would break something.
    Blocked,
    /// Every gate passes, and somebody has to say yes.
    Approval,
    /// Every gate passes, and the calendar says no.
    Frozen,
    /// Enforced for a part of the clients, and judged for the next step.
    Climbing,
    /// In `warn`, and judged for the first step.
    Collecting,
    /// Enforced for everyone.
    Done,
    /// The config decides.
    Pinned,
    /// It judges nothing.
    Off,
}

impl Situation {
    const ALL: [Self; 10] = [
        Self::Fell,
        Self::Held,
        Self::Blocked,
        Self::Approval,
        Self::Frozen,
        Self::Climbing,
        Self::Collecting,
        Self::Done,
        Self::Pinned,
        Self::Off,
    ];

    /// Of a rule: what is most urgent of its versions.
    pub(crate) fn of(rule: &RuleStanding) -> Self {
        let current = Self::of_version(&rule.current, rule.setting);
        let next = rule.next.as_ref().map(|next| Self::of_version(next, rule.setting));
        next.map_or(current, |next| next.min(current))
    }

    pub(crate) fn of_version(version: &VersionStanding, setting: ModeSetting) -> Self {
        let is_enforced = matches!(version.mode, Mode::Enforce(_));
        let fails = version.gates.iter().any(|reading| reading.verdict == Verdict::Fail);
        match &version.stay {
            _ if version.mode == Mode::Off => Self::Off,
            Some(Stay::Off) => Self::Off,
            // A fall says why it happened and why it holds with the same words.
            Some(Stay::Held { why, .. }) if !is_enforced && *why == version.why => Self::Fell,
            Some(Stay::Held { .. }) => Self::Held,
            // An alert takes back what the file pins, until somebody lets go of it.
            Some(Stay::Pinned) => match setting {
                ModeSetting::Pinned(Mode::Enforce(_)) if !is_enforced => Self::Fell,
                _ => Self::Pinned,
            },
            Some(Stay::Done) => Self::Done,
            Some(Stay::Approval { .. }) => Self::Approval,
            Some(Stay::Frozen { .. }) => Self::Frozen,
            Some(Stay::Settling { .. } | Stay::Gates { .. }) | None => match () {
                () if fails => Self::Blocked,
                () if is_enforced => Self::Climbing,
                () => Self::Collecting,
            },
        }
    }

    /// The class of its element, a mark and a word, so that colour is never alone.
    pub(crate) const fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Fell => ("bad", "▼", "fell"),
            Self::Held => ("would", "■", "held"),
            Self::Blocked => ("bad", "▲", "a gate fails"),
            Self::Approval => ("would", "?", "waits for approval"),
            Self::Frozen => ("would", "■", "frozen"),
            Self::Climbing => ("sea", "↑", "climbing"),
            Self::Collecting => ("quiet", "○", "collecting"),
            Self::Done => ("good", "●", "enforced for all"),
            Self::Pinned => ("quiet", "●", "pinned"),
            Self::Off => ("quiet", "–", "off"),
        }
    }

    /// What one rule does, and what several do.
    const fn verbs(self) -> (&'static str, &'static str) {
        match self {
            Self::Fell => ("fell", "fell"),
            Self::Held => ("is held", "are held"),
            Self::Blocked => ("fails a gate", "fail a gate"),
            Self::Approval => ("waits for approval", "wait for approval"),
            Self::Frozen => ("waits for a freeze to end", "wait for a freeze to end"),
            Self::Climbing => ("climbs", "climb"),
            Self::Collecting => ("waits for evidence", "wait for evidence"),
            Self::Done => ("is enforced for everyone", "are enforced for everyone"),
            Self::Pinned => ("is pinned by the config", "are pinned by the config"),
            Self::Off => ("is off", "are off"),
        }
    }
}

/// `1 rule fell, 3 wait for evidence`, in parts, each with its situation; none without rules.
pub(crate) fn tally(rules: &[RuleStanding]) -> Vec<(Situation, String)> {
    let situations: Vec<_> = rules.iter().map(Situation::of).collect();
    let mut parts = Vec::new();
    for situation in Situation::ALL {
        let count = situations.iter().filter(|other| **other == situation).count();
        let (one, several) = situation.verbs();
        let verb = if count == 1 { one } else { several };
        let noun = match (parts.is_empty(), count) {
            (false, _) => "",
            (true, 1) => " rule",
            (true, _) => " rules",
        };
        if count > 0 {
            parts.push((situation, format!("{count}{noun} {verb}")));
        }
    }
    parts
}

#[cfg(test)]
pub(crate) mod tests {
    use seaworthy_policy::evidence::Lane;
    use seaworthy_policy::gates::{Gate, Numbers, Reading};
    use seaworthy_policy::mode::Share;

    use super::*;

    pub(crate) fn reading(gate: Gate, verdict: Verdict, sentence: &str) -> Reading {
        let (sentence, waits_for, numbers) = (sentence.to_owned(), None, Numbers::default());
        Reading { gate, verdict, sentence, waits_for, numbers }
    }

    pub(crate) fn version(mode: &str, why: &str, stay: Option<Stay>) -> VersionStanding {
        VersionStanding {
            lane: Lane::Current,
            version: 3,
            policy: "00".repeat(32),
            mode: mode.parse().unwrap(),
            epoch: 4,
            since_unix_ms: 1_767_268_800_000,
            window_unix_ms: 1_767_268_810_000,
            why: why.to_owned(),
            next_step: Share::from_basis_points(1000),
            attempt: 1,
            approved: None,
            stay,
            waits_for: None,
            gates: Vec::new(),
        }
    }

    pub(crate) fn rule(name: &str, setting: &str, current: VersionStanding) -> RuleStanding {
        let setting = setting.parse().unwrap();
        RuleStanding { rule: name.to_owned(), setting, current, next: None, waivers: Vec::new() }
    }

    fn held(why: &str) -> Option<Stay> {
        Some(Stay::Held { until_unix_ms: None, why: why.to_owned() })
    }

    #[test]
    fn a_rule_that_needs_somebody_says_so() {
        let gates = || Some(Stay::Gates { passed: 6, of: 8 });
        let cases = [
            ("auto", version("warn", "denials rose", held("denials rose")), Situation::Fell),
            ("auto", version("warn", "new", held("a release is out")), Situation::Held),
            ("auto", version("enforce 10%", "a", held("a")), Situation::Held),
            ("auto", version("warn", "new", gates()), Situation::Collecting),
            ("auto", version("warn", "new", None), Situation::Collecting),
            (
                "auto",
                version("enforce 50%", "", Some(Stay::Settling { until_unix_ms: 5 })),
                Situation::Climbing,
            ),
            (
                "auto",
                version("warn", "", Some(Stay::Approval { to: Share::ALL })),
                Situation::Approval,
            ),
            (
                "auto",
                version("warn", "", Some(Stay::Frozen { window: "Friday".to_owned() })),
                Situation::Frozen,
            ),
            ("auto", version("enforce", "", Some(Stay::Done)), Situation::Done),
            ("enforce", version("enforce", "", Some(Stay::Pinned)), Situation::Pinned),
            ("warn", version("warn", "", Some(Stay::Pinned)), Situation::Pinned),
            ("enforce", version("warn", "alert", Some(Stay::Pinned)), Situation::Fell),
            ("off", version("off", "", Some(Stay::Pinned)), Situation::Off),
            ("auto", version("off", "", Some(Stay::Off)), Situation::Off),
        ];
        for (setting, version, want) in cases {
            let words = format!("{setting}: {version:?}");
            assert_eq!(Situation::of(&rule("csrf", setting, version)), want, "{words}");
        }
        let mut fails = version("warn", "new", gates());
        fails.gates = vec![
            reading(Gate::HarmRate, Verdict::Pass, ""),
            reading(Gate::Clients, Verdict::Fail, ""),
        ];
        assert_eq!(Situation::of(&rule("csrf", "auto", fails.clone())), Situation::Blocked);
        // What is judged beside a version that is done is what there is to see.
        let mut two = rule("csrf", "auto", version("enforce", "", Some(Stay::Done)));
        two.next = Some(fails);
        assert_eq!(Situation::of(&two), Situation::Blocked);
    }

    #[test]
    fn the_tally_names_the_rules_once_and_the_urgent_first() {
        let fell = rule("a", "auto", version("warn", "x", held("x")));
        let waits = rule("b", "auto", version("warn", "new", None));
        let say = |rules: &[RuleStanding]| {
            let parts: Vec<_> = tally(rules).into_iter().map(|(_, words)| words).collect();
            parts.join(", ")
        };
        assert_eq!(say(&[]), "");
        assert_eq!(say(std::slice::from_ref(&waits)), "1 rule waits for evidence");
        assert_eq!(say(&[waits.clone(), fell, waits]), "1 rule fell, 2 wait for evidence");
    }
}
