//! Makes of parsed rules what the engine reads as ModSecurity would.
//!
//! What is mended, each seen with version 0.5.0 of the engine and the Core Rule Set 3.3:
//!
//! 1. A jump to a marker right behind the rule that jumps skips all other rules of the phase. So
//!    something that does nothing is put before each marker.
//! 2. A chain does what its first rule says, and forgets what the others set: there the Core Rule
//!    Set adds to its score. So that is moved to the first.
//! 3. The first rule of a chain is said to have matched before the others have. So the last gets an
//!    id of its own, by which a whole match is known.
//! 4. A brace that counts nothing is plain text for PCRE and a fault here. So it is escaped.
//! 5. Data files are read from the disk. So their phrases are put into the rule.
//! 6. `t:normalizePathWin` writes backslashes, where ModSecurity writes slashes. So paths are
//!    normalised without it; one with backslashes is then read as it is.
//! 7. A body that is given up half-way is found clean. So a rule in front of all others denies it;
//!    `crs/xml.rs` and `crs/parts.rs` mend what is read of one.
//! 8. All rules are copied for each request, with tags and messages. So these are taken off, and
//!    rules that would not run are left out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use zentinel_modsec::operators::compile_operator;
use zentinel_modsec::parser::{
    Action, DataAction, Directive, DisruptiveAction, MetadataAction, OperatorName, OperatorSpec,
    Parser, SecAction, SecRule, VariableName,
};

use super::{Finding, LeftOut, RuleFile, RuleMode, RuleModes, RuleSetError, Why, mode_of};

/// Added to the id of a chain for its last rule. No id of the Core Rule Set is nearly as large.
const CHAIN_END: u64 = 1 << 40;

/// The id of the rule that denies a body that the engine has read in part. None of a file's rules
/// has one as large.
pub(super) const UNREAD_BODY: u64 = CHAIN_END - 1;

/// The id that the operator knows.
pub(super) const fn id_of(matched: u64) -> u64 {
    if matched > CHAIN_END { matched - CHAIN_END } else { matched }
}

pub(super) struct Prepared {
    pub(super) directives: Vec<Directive>,
    pub(super) findings: BTreeMap<u64, Finding>,
    pub(super) left_out: Vec<LeftOut>,
    /// All ids that the files have, of requests' rules.
    pub(super) ids: BTreeSet<u64>,
}

/// Directives that change nothing of what is said of a request: of logs, limits that are the
/// gateway's, and answers.
const WITHOUT_EFFECT: &[&str] = &[
    "secargumentseparator",
    "secargumentslimit",
    "secauditengine",
    "secauditlog",
    "secauditlogformat",
    "secauditlogparts",
    "secauditlogrelevantstatus",
    "secauditlogstoragedir",
    "secauditlogtype",
    "seccollectiontimeout",
    "seccomponentsignature",
    "seccookieformat",
    "secdatadir",
    "secdebuglog",
    "secdebugloglevel",
    "secpcrematchlimit",
    "secpcrematchlimitrecursion",
    "secrequestbodyinmemorylimit",
    "secrequestbodylimit",
    "secrequestbodylimitaction",
    "secrequestbodynofileslimit",
    "secresponsebodyaccess",
    "secresponsebodylimit",
    "secresponsebodylimitaction",
    "secresponsebodymimetype",
    "secserversignature",
    "secstatusengine",
    "sectmpdir",
    "secunicodemapfile",
    "secuploaddir",
    "secuploadkeepfiles",
];

/// The first directive that the engine would pass over and that is not without effect.
pub(super) fn unsupported(directives: &[Directive]) -> Option<String> {
    directives.iter().find_map(|directive| match directive {
        Directive::Unknown(name) => {
            let known = WITHOUT_EFFECT.contains(&&*name.to_ascii_lowercase());
            (!known).then(|| name.clone())
        }
        // The engine parses it and does nothing with it.
        Directive::SecRuleUpdateActionById { .. } => Some("SecRuleUpdateActionById".to_owned()),
        _ => None,
    })
}

pub(super) fn prepare(
    directives: Vec<Directive>,
    files: &[RuleFile<'_>],
    modes: &RuleModes,
) -> Result<Prepared, RuleSetError> {
    let mut prepared = Prepared {
        directives: Vec::with_capacity(directives.len()),
        findings: BTreeMap::new(),
        left_out: Vec::new(),
        ids: BTreeSet::new(),
    };
    prepared.directives.extend(unread_body());
    let mut directives = directives.into_iter();
    while let Some(directive) = directives.next() {
        match directive {
            Directive::SecRule(first) => {
                let mut chain = vec![first];
                while chain.last().is_some_and(SecRule::is_chained) {
                    let Some(Directive::SecRule(next)) = directives.next() else {
                        let fault = "a chain ends without its last rule".to_owned();
                        let file = name_of(&chain[0].actions);
                        return Err(RuleSetError::Malformed { file, fault });
                    };
                    chain.push(next);
                }
                prepared.chain(chain, files, modes)?;
            }
            Directive::SecAction(mut action) => {
                if !judges_requests(&action.actions) {
                    continue;
                }
                if let Some(id) = id(&action.actions) {
                    prepared.ids.insert(id);
                    match mode_of(modes, id) {
                        RuleMode::Off => continue,
                        RuleMode::Warn => disarm(&mut action.actions),
                        RuleMode::Enforce => {}
                    }
                }
                lighten(&mut action.actions);
                prepared.directives.push(Directive::SecAction(action));
            }
            Directive::SecMarker(marker) => {
                for phase in [1, 2] {
                    let pass = Action::Disruptive(DisruptiveAction::Pass);
                    let actions = vec![Action::Metadata(MetadataAction::Phase(phase)), pass];
                    let nothing = SecAction { actions, location: Default::default() };
                    prepared.directives.push(Directive::SecAction(nothing));
                }
                prepared.directives.push(Directive::SecMarker(marker));
            }
            Directive::SecRuleRemoveById(_) | Directive::SecRuleUpdateTargetById(_) => {
                prepared.directives.push(directive);
            }
            // Whether rules deny is the mode's business, and the rest has been used or is without
            // effect.
            _ => {}
        }
    }
    Ok(prepared)
}

/// Denies what the engine has read in part, before any other rule can skip the rest.
fn unread_body() -> Vec<Directive> {
    let mut parser = Parser::new();
    let rule = format!("SecRule REQBODY_ERROR \"!@eq 0\" \"id:{UNREAD_BODY},phase:2,deny\"\n");
    parser.parse(&rule).expect("the rule is one that the engine reads");
    parser.into_directives()
}

impl Prepared {
    /// Adds one rule, with those that are chained to it.
    fn chain(
        &mut self,
        mut chain: Vec<SecRule>,
        files: &[RuleFile<'_>],
        modes: &RuleModes,
    ) -> Result<(), RuleSetError> {
        if !judges_requests(&chain[0].actions) {
            return Ok(());
        }
        let id = id(&chain[0].actions);
        let number = id.unwrap_or_default();
        let mode = mode_of(modes, number);
        self.ids.extend(id);
        if mode == RuleMode::Off {
            return Ok(());
        }
        for rule in &mut chain {
            mend_paths(&mut rule.actions);
            mend_operator(&mut rule.operator, number, files)?;
        }
        if let Some(why) = chain.iter().find_map(dead) {
            self.left_out.push(LeftOut { id: number, why });
            return Ok(());
        }
        let message = chain.iter().find_map(|rule| message(&rule.actions)).map(str::to_owned);
        let inspects = chain
            .iter()
            .any(|rule| rule.variables.iter().any(|variable| variable.name != VariableName::Tx));
        let links = chain.len();
        let (first, others) = chain.split_first_mut().expect("a chain has its first rule");
        for link in others {
            let (moved, kept) = std::mem::take(&mut link.actions).into_iter().partition(|action| {
                matches!(action, Action::Data(DataAction::SetVar(_)) | Action::Control(_))
            });
            link.actions = kept;
            first.actions.extend::<Vec<Action>>(moved);
        }
        if mode == RuleMode::Warn {
            disarm(&mut first.actions);
        }
        let mut matched_as = number;
        if links > 1 && id.is_some() {
            matched_as = CHAIN_END + number;
            let last = chain.last_mut().expect("it has more than one");
            last.actions.push(Action::Metadata(MetadataAction::Id(matched_as)));
        }
        if let (Some(id), Some(message), true) = (id, message, inspects) {
            let finding = Finding { message, matched_as, matches: AtomicU64::new(0) };
            self.findings.insert(id, finding);
        }
        for mut rule in chain {
            lighten(&mut rule.actions);
            self.directives.push(Directive::SecRule(rule));
        }
        Ok(())
    }
}

fn id(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Metadata(MetadataAction::Id(id)) => Some(*id),
        _ => None,
    })
}

fn name_of(actions: &[Action]) -> String {
    id(actions).map_or_else(|| "a rule without an id".to_owned(), |id| format!("rule {id}"))
}

fn message(actions: &[Action]) -> Option<&str> {
    actions.iter().find_map(|action| match action {
        Action::Metadata(MetadataAction::Msg(message)) => Some(message.as_str()),
        _ => None,
    })
}

/// Whether a rule runs in the first two phases; the second is that of a rule that names none.
fn judges_requests(actions: &[Action]) -> bool {
    actions.iter().all(|action| match action {
        Action::Metadata(MetadataAction::Phase(phase)) => matches!(phase, 1 | 2),
        _ => true,
    })
}

/// Takes off what does nothing for a verdict.
fn lighten(actions: &mut Vec<Action>) {
    actions.retain(|action| match action {
        Action::Metadata(known) => {
            matches!(known, MetadataAction::Id(_) | MetadataAction::Phase(_))
        }
        Action::Logging(_) => false,
        _ => true,
    });
}

/// Leaves of a rule's actions what neither denies nor adds to a score.
fn disarm(actions: &mut Vec<Action>) {
    actions.retain(|action| match action {
        Action::Disruptive(_) => false,
        Action::Data(DataAction::SetVar(set)) => {
            let key = set.key.to_ascii_lowercase();
            // What a score is measured by is set beside it.
            !key.contains("score") || key.contains("threshold")
        }
        _ => true,
    });
    actions.push(Action::Disruptive(DisruptiveAction::Pass));
}

/// Why a rule can never match here.
fn dead(rule: &SecRule) -> Option<Why> {
    match rule.operator.name {
        OperatorName::DetectSqli | OperatorName::DetectXss => return Some(Why::Detector),
        OperatorName::Rx
            if !has_macro(&rule.operator.argument) && compile_operator(&rule.operator).is_err() =>
        {
            return Some(Why::Pattern);
        }
        _ => {}
    }
    let known = rule.variables.is_empty()
        || rule.variables.iter().any(|variable| variable.name.is_implemented());
    (!known).then_some(Why::Variables)
}

fn mend_operator(
    operator: &mut OperatorSpec,
    id: u64,
    files: &[RuleFile<'_>],
) -> Result<(), RuleSetError> {
    match operator.name {
        OperatorName::Rx if !has_macro(&operator.argument) => {
            if let Cow::Owned(mended) = plain_braces(&operator.argument) {
                operator.argument = mended;
            }
        }
        OperatorName::PmFromFile | OperatorName::Pmf => {
            let phrases = data(&operator.argument, id, files)?;
            if phrases.iter().any(|phrase| phrase.contains(char::is_whitespace)) {
                let escaped: Vec<_> = phrases.iter().map(|phrase| escape(phrase)).collect();
                operator.name = OperatorName::Rx;
                operator.argument = format!("(?i:{})", escaped.join("|"));
            } else {
                operator.name = OperatorName::Pm;
                operator.argument = phrases.join(" ");
            }
        }
        OperatorName::IpMatchFromFile | OperatorName::IpMatchF => {
            operator.argument = data(&operator.argument, id, files)?.join(",");
            operator.name = OperatorName::IpMatch;
        }
        _ => {}
    }
    Ok(())
}

fn mend_paths(actions: &mut [Action]) {
    for action in actions {
        if let Action::Transformation(name) = action
            && name.eq_ignore_ascii_case("normalizePathWin")
        {
            "normalizePath".clone_into(name);
        }
    }
}

/// Whether something of the request is put into an argument.
fn has_macro(argument: &str) -> bool {
    argument.contains("%{")
}

/// The lines of the data files that an argument names.
fn data<'a>(argument: &str, id: u64, files: &[RuleFile<'a>]) -> Result<Vec<&'a str>, RuleSetError> {
    let mut lines = Vec::new();
    for name in argument.split_ascii_whitespace() {
        let base = name.rsplit('/').next().unwrap_or(name);
        let file = files
            .iter()
            .find(|file| file.name == base)
            .ok_or_else(|| RuleSetError::NoData { id, name: name.to_owned() })?;
        let text = std::str::from_utf8(file.text)
            .map_err(|_| RuleSetError::NotUtf8 { file: base.to_owned() })?;
        let phrases = text.lines().map(str::trim);
        lines.extend(phrases.filter(|line| !line.is_empty() && !line.starts_with('#')));
    }
    if lines.is_empty() {
        return Err(RuleSetError::NoData { id, name: argument.to_owned() });
    }
    Ok(lines)
}

/// `phrase` as a pattern for itself.
fn escape(phrase: &str) -> String {
    let mut pattern = String::with_capacity(phrase.len() + 8);
    for c in phrase.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Escapes the braces that open no count.
fn plain_braces(pattern: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let (mut copied, mut in_class, mut escaped) = (0, false, false);
    for (at, byte) in pattern.bytes().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match byte {
            b'\\' => escaped = true,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'{' if !in_class
                && !opens_count(&pattern.as_bytes()[at + 1..])
                && !follows_class(pattern, at) =>
            {
                mended.push_str(pattern.get(copied..at).unwrap_or_default());
                mended.push('\\');
                copied = at;
            }
            _ => {}
        }
    }
    if mended.is_empty() && copied == 0 && !mended.contains('\\') {
        return Cow::Borrowed(pattern);
    }
    mended.push_str(pattern.get(copied..).unwrap_or_default());
    Cow::Owned(mended)
}

/// Whether a brace belongs to `\x{…}` or `\p{…}`.
fn follows_class(pattern: &str, at: usize) -> bool {
    let before = &pattern.as_bytes()[..at];
    before.len() >= 2
        && before[before.len() - 2] == b'\\'
        && matches!(before[before.len() - 1], b'x' | b'p' | b'P' | b'u')
}

/// Whether what is behind a brace is a count: `2}`, `2,}` or `2,3}`.
fn opens_count(rest: &[u8]) -> bool {
    let Some(end) = rest.iter().position(|byte| *byte == b'}') else { return false };
    let count = &rest[..end];
    count.first().is_some_and(u8::is_ascii_digit)
        && count.iter().all(|byte| byte.is_ascii_digit() || *byte == b',')
        && count.iter().filter(|byte| **byte == b',').count() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brace_is_escaped_where_it_counts_nothing() {
        for (pattern, want) in [
            ("a{2}", "a{2}"),
            ("a{2,}b{2,3}", "a{2,}b{2,3}"),
            ("{", r"\{"),
            ("a{b}", r"a\{b}"),
            ("a{,3}", r"a\{,3}"),
            (r"\{a", r"\{a"),
            ("[{]", "[{]"),
            (r"\x{41}", r"\x{41}"),
            ("ä{", r"ä\{"),
            ("{{.*?}}", r"\{\{.*?}}"),
        ] {
            assert_eq!(plain_braces(pattern), want, "{pattern}");
        }
    }

    #[test]
    fn a_phrase_is_a_pattern_for_itself() {
        for phrase in ["a.b", "<?php", "../", "C:\\x", "a-b&&c~~d", "$(", "[x]{2}^|#", "größe"] {
            let spec = OperatorSpec {
                negated: false,
                name: OperatorName::Rx,
                argument: format!("^(?i:{})$", escape(phrase)),
            };
            let operator = compile_operator(&spec).unwrap();
            assert!(operator.execute(phrase).matched, "{phrase}");
            assert!(!operator.execute(&format!("{phrase}x")).matched, "{phrase}");
        }
    }
}
