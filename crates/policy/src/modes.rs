//! The modes of all rules as they are published, in an order that no late writer can turn back.
//!
//! 1. A rule's entry carries an epoch: a count of the changes of its mode, over the whole fleet.
//!    The larger epoch wins, whatever arrives first.
//! 2. Two gateways that cannot see each other can both take the same epoch. Then the mode that
//!    denies less wins, so that a demotion is never lost to a promotion; what is left of a tie is
//!    settled by the rest of the entry, so that all gateways settle it alike.
//! 3. Hence [`ModeBoard::merge`] is commutative, associative and idempotent: gateways that have
//!    seen the same entries, in any order and any number of times, hold the same board.
//! 4. A rule has an entry for its present version, under its own name, and one for the version that
//!    is judged beside it, behind a [`NEXT`].
//! 5. Everything has a bound. A name, an epoch or a cause beyond it is refused, never cut down in
//!    silence; of more than [`RULES_MAX`] entries a merge keeps the first by name, so that those of
//!    next versions go first.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::evidence::Lane;
use crate::mode::{Mode, ModeSetting};
use crate::names::RULE_NAMES_MAX;
use crate::registry::REGISTRY;

/// Entries on a board: as many as there are rules that a process tells apart.
pub const RULES_MAX: usize = RULE_NAMES_MAX;

/// What the name of a next version's entry begins with. It sorts behind the names of all rules.
pub const NEXT: char = '~';

/// Bytes of an entry's name: a protection's, an `@`, and the pattern of a route.
pub const RULE_NAME_BYTES_MAX: usize = 300;

/// Bytes of a cause.
pub const CAUSE_BYTES_MAX: usize = 200;

/// A change a second for thirty years. A time stamp that was taken for an epoch is larger, in
/// whatever unit, and `u64::MAX` would let nobody change the rule again.
pub const EPOCH_MAX: u64 = 1_000_000_000;

/// A rule's mode as it is published: who wrote it last and in which order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct ModeEntry {
    pub mode: Mode,
    /// The count of the rule's changes over the fleet, from 1; the larger wins. A rule that
    /// nothing has moved yet has no entry: its config says its mode.
    pub epoch: u64,
    /// Of the rule's settings without its mode.
    pub policy_hash: [u8; 32],
    /// The version of the rule's settings.
    pub version: u32,
    /// Unix microseconds of the change.
    pub since_us: i64,
    pub cause: Cause,
}

impl ModeEntry {
    /// Whether `self` takes the place of `other`.
    pub fn supersedes(&self, other: &Self) -> bool {
        self.order(other) == Ordering::Greater
    }

    /// Whether both say the same of a rule, whenever and in whatever order: its mode, of which
    /// policy, and what their causes begin with, up to the colon.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let said = |entry: &Self| (entry.mode, entry.policy_hash);
        let [kind, other_kind] = [self, other].map(|entry| entry.cause.as_str().split(':').next());
        said(self) == said(other) && kind == other_kind
    }

    /// A total order: equal are only entries that are the same.
    fn order(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| denies(other.mode).cmp(&denies(self.mode)))
            .then_with(|| self.since_us.cmp(&other.since_us))
            .then_with(|| self.version.cmp(&other.version))
            .then_with(|| self.policy_hash.cmp(&other.policy_hash))
            .then_with(|| self.cause.cmp(&other.cause))
    }
}

/// Modes in the order of what they deny.
fn denies(mode: Mode) -> u32 {
    match mode {
        Mode::Off => 0,
        Mode::Warn => 1,
        Mode::Enforce(share) => 2 + u32::from(share.basis_points()),
    }
}

/// Why a mode changed, in at most [`CAUSE_BYTES_MAX`] bytes of one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cause(String);

impl Cause {
    /// Makes one line of `text`, and cuts off what is too long, with an ellipsis.
    pub fn new(text: &str) -> Self {
        const MORE: char = '…';
        let mut line = String::with_capacity(text.len().min(CAUSE_BYTES_MAX));
        for char in text.chars().map(|char| if char.is_control() { ' ' } else { char }) {
            if line.len() + char.len_utf8() > CAUSE_BYTES_MAX {
                while line.len() + MORE.len_utf8() > CAUSE_BYTES_MAX {
                    line.pop();
                }
                line.push(MORE);
                break;
            }
            line.push(char);
        }
        Self(line)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Cause> for String {
    fn from(cause: Cause) -> Self {
        cause.0
    }
}

impl TryFrom<String> for Cause {
    type Error = BoardError;

    /// What was written by [`Cause::new`] and nothing else.
    fn try_from(text: String) -> Result<Self, BoardError> {
        let cause = Self::new(&text);
        if cause.0 == text { Ok(cause) } else { Err(BoardError::Cause) }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of the entry of a version of `rule`.
pub fn name_of(rule: &str, lane: Lane) -> String {
    match lane {
        Lane::Current => rule.to_owned(),
        Lane::Next => format!("{NEXT}{rule}"),
    }
}

/// The rule that an entry of this name is about, and which of its versions.
pub fn named(name: &str) -> (&str, Lane) {
    match name.strip_prefix(NEXT) {
        Some(rule) => (rule, Lane::Next),
        None => (name, Lane::Current),
    }
}

/// What became of an entry that was offered to a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The board has changed.
    New,
    /// The board had this very entry.
    Same,
    /// The board has one that comes later, and keeps it.
    Superseded { by: ModeEntry },
}

/// Why something cannot be on a board. Fits after "failed to take the mode: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    #[error("the name of the rule has more than {RULE_NAME_BYTES_MAX} bytes")]
    NameTooLong,
    #[error("there is no rule of that name")]
    NoSuchRule,
    #[error("the epoch is not from 1 to {EPOCH_MAX}")]
    Epoch,
    #[error("the mode is none of \"off\", \"warn\", \"enforce\" and \"enforce 10%\"")]
    Mode,
    #[error("the policy hash is not 64 hexadecimal digits in lower case")]
    PolicyHash,
    #[error("the cause is not one line of at most {CAUSE_BYTES_MAX} bytes")]
    Cause,
    #[error("there are {RULES_MAX} rules already")]
    Full,
}

/// The latest known entry of every rule, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, ModeEntry>", into = "BTreeMap<String, ModeEntry>")]
pub struct ModeBoard(BTreeMap<String, ModeEntry>);

impl ModeBoard {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, rule: &str) -> Option<&ModeEntry> {
        self.0.get(rule)
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ModeEntry)> {
        self.0.iter().map(|(rule, entry)| (rule.as_str(), entry))
    }

    /// The epoch of the next change of `rule`; `None` where there can be no more.
    pub fn next_epoch(&self, rule: &str) -> Option<u64> {
        let last = self.get(rule).map_or(0, |entry| entry.epoch);
        (last < EPOCH_MAX).then_some(last + 1)
    }

    /// Takes `entry` unless there is a later one. A rule that is here already always has room, and
    /// one that is not has that of a next version, where there is one.
    pub fn take(&mut self, rule: &str, entry: ModeEntry) -> Result<Taken, BoardError> {
        check_rule(rule)?;
        check_epoch(entry.epoch)?;
        if self.0.len() >= RULES_MAX
            && !self.0.contains_key(rule)
            && named(rule).1 == Lane::Current
            && let Some(last) = self.0.last_entry()
            && named(last.key()).1 == Lane::Next
        {
            last.remove();
        }
        let full = self.0.len() >= RULES_MAX;
        match self.0.entry(rule.to_owned()) {
            Entry::Vacant(_) if full => Err(BoardError::Full),
            Entry::Vacant(vacant) => {
                vacant.insert(entry);
                Ok(Taken::New)
            }
            Entry::Occupied(mut known) => Ok(match entry.order(known.get()) {
                Ordering::Greater => {
                    known.insert(entry);
                    Taken::New
                }
                Ordering::Equal => Taken::Same,
                Ordering::Less => Taken::Superseded { by: known.get().clone() },
            }),
        }
    }

    /// Makes this board the later one of both, rule by rule.
    pub fn merge(&mut self, other: &Self) {
        self.merge_within(other, RULES_MAX);
    }

    /// What `other` does not have, or has as of earlier.
    pub fn newer_than(&self, other: &Self) -> Self {
        let is_newer = |rule: &str, entry: &ModeEntry| {
            other.get(rule).is_none_or(|known| entry.supersedes(known))
        };
        let newer = self.0.iter().filter(|(rule, entry)| is_newer(rule, entry));
        Self(newer.map(|(rule, entry)| (rule.clone(), entry.clone())).collect())
    }

    /// The first names stay: which they are does not depend on the order of merges.
    fn merge_within(&mut self, other: &Self, rules_max: usize) {
        for (rule, entry) in &other.0 {
            match self.0.get_mut(rule) {
                Some(known) if entry.supersedes(known) => known.clone_from(entry),
                Some(_) => {}
                None => drop(self.0.insert(rule.clone(), entry.clone())),
            }
        }
        while self.0.len() > rules_max {
            self.0.pop_last();
        }
    }
}

/// Whether `name` is one that the entry of a rule can have in this version of the program: a
/// protection's, or one with the pattern of a route.
pub fn check_rule(name: &str) -> Result<(), BoardError> {
    if name.len() > RULE_NAME_BYTES_MAX {
        return Err(BoardError::NameTooLong);
    }
    let (rule, _) = named(name);
    let (protection, route) = match rule.split_once('@') {
        Some((protection, route)) => (protection, Some(route)),
        None => (rule, None),
    };
    let is_known = REGISTRY.iter().any(|entry| entry.name == protection);
    let is_route = |route: &str| !route.is_empty() && !route.chars().any(char::is_control);
    if is_known && route.is_none_or(is_route) { Ok(()) } else { Err(BoardError::NoSuchRule) }
}

fn check_epoch(epoch: u64) -> Result<(), BoardError> {
    if (1..=EPOCH_MAX).contains(&epoch) { Ok(()) } else { Err(BoardError::Epoch) }
}

/// An entry as JSON has it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    mode: String,
    epoch: u64,
    policy_hash: String,
    version: u32,
    since_us: i64,
    cause: Cause,
}

impl From<ModeEntry> for Written {
    fn from(entry: ModeEntry) -> Self {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        Self {
            mode: entry.mode.to_string(),
            epoch: entry.epoch,
            policy_hash: entry
                .policy_hash
                .iter()
                .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
                .collect(),
            version: entry.version,
            since_us: entry.since_us,
            cause: entry.cause,
        }
    }
}

impl TryFrom<Written> for ModeEntry {
    type Error = BoardError;

    fn try_from(written: Written) -> Result<Self, BoardError> {
        let mode = match written.mode.parse() {
            Ok(ModeSetting::Pinned(mode)) => mode,
            Ok(ModeSetting::Auto) | Err(_) => return Err(BoardError::Mode),
        };
        check_epoch(written.epoch)?;
        Ok(Self {
            mode,
            epoch: written.epoch,
            policy_hash: read_hash(&written.policy_hash).ok_or(BoardError::PolicyHash)?,
            version: written.version,
            since_us: written.since_us,
            cause: written.cause,
        })
    }
}

fn read_hash(text: &str) -> Option<[u8; 32]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(hash)
}

impl From<ModeBoard> for BTreeMap<String, ModeEntry> {
    fn from(board: ModeBoard) -> Self {
        board.0
    }
}

impl TryFrom<BTreeMap<String, ModeEntry>> for ModeBoard {
    type Error = BoardError;

    fn try_from(entries: BTreeMap<String, ModeEntry>) -> Result<Self, BoardError> {
        if entries.len() > RULES_MAX {
            return Err(BoardError::Full);
        }
        for (rule, entry) in &entries {
            check_rule(rule)?;
            check_epoch(entry.epoch)?;
        }
        Ok(Self(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mode::Share;

    fn enforce(basis_points: u16) -> Mode {
        Mode::Enforce(Share::from_basis_points(basis_points).unwrap())
    }

    fn entry(mode: Mode, epoch: u64) -> ModeEntry {
        let cause = Cause::new("the gate passed");
        ModeEntry { mode, epoch, policy_hash: [0xa5; 32], version: 1, since_us: 0, cause }
    }

    #[test]
    fn the_larger_epoch_wins_and_of_equal_ones_the_mode_that_denies_less() {
        let ordered = [
            entry(enforce(1000), 0),
            entry(Mode::Off, 0),
            entry(Mode::Enforce(Share::ALL), 1),
            entry(enforce(5000), 1),
            entry(enforce(0), 1),
            entry(Mode::Warn, 1),
            ModeEntry { since_us: 1, ..entry(Mode::Warn, 1) },
            entry(Mode::Off, 1),
            entry(enforce(1000), EPOCH_MAX),
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (other_at, other) in ordered.iter().enumerate() {
                assert_eq!(one.supersedes(other), at > other_at, "{one:?} against {other:?}");
            }
        }
    }

    #[test]
    fn a_board_says_what_became_of_an_entry() {
        let mut board = ModeBoard::default();
        assert_eq!(board.next_epoch("csrf"), Some(1));
        let second = entry(Mode::Warn, 2);
        assert_eq!(board.take("csrf", second.clone()), Ok(Taken::New));
        assert_eq!(board.take("csrf", second.clone()), Ok(Taken::Same));
        let late = board.take("csrf", entry(Mode::Enforce(Share::ALL), 1));
        assert_eq!(late, Ok(Taken::Superseded { by: second }));
        assert_eq!(board.take("csrf", entry(Mode::Enforce(Share::ALL), 3)), Ok(Taken::New));
        assert_eq!(board.next_epoch("csrf"), Some(4));
        board.take("csrf", entry(Mode::Warn, EPOCH_MAX)).unwrap();
        assert_eq!(board.next_epoch("csrf"), None);
    }

    #[test]
    fn what_an_entry_says_is_its_mode_of_a_policy_and_the_kind_of_its_cause() {
        let said = ModeEntry { cause: Cause::new("held until 7: a sale"), ..entry(Mode::Warn, 1) };
        for (other, is_same) in [
            (ModeEntry { epoch: 9, since_us: 9, version: 9, ..said.clone() }, true),
            (ModeEntry { cause: Cause::new("held until 7: another"), ..said.clone() }, true),
            (ModeEntry { cause: Cause::new("held until 8: a sale"), ..said.clone() }, false),
            (ModeEntry { cause: Cause::new("emergency: a sale"), ..said.clone() }, false),
            (ModeEntry { mode: Mode::Off, ..said.clone() }, false),
            (ModeEntry { policy_hash: [1; 32], ..said.clone() }, false),
        ] {
            assert_eq!(said.says_the_same(&other), is_same, "{other:?}");
        }
    }

    #[test]
    fn what_cannot_be_on_a_board_is_refused() {
        for (rule, epoch, refused) in [
            ("csrf", 0, BoardError::Epoch),
            ("csrf", EPOCH_MAX + 1, BoardError::Epoch),
            ("csrf", u64::MAX, BoardError::Epoch),
            ("", 1, BoardError::NoSuchRule),
            ("CSRF", 1, BoardError::NoSuchRule),
            ("csrf@", 1, BoardError::NoSuchRule),
            ("csrf@POST /\n", 1, BoardError::NoSuchRule),
            ("~", 1, BoardError::NoSuchRule),
            ("~~csrf", 1, BoardError::NoSuchRule),
            ("made_up@POST /", 1, BoardError::NoSuchRule),
            (&format!("csrf@{}", "x".repeat(RULE_NAME_BYTES_MAX)), 1, BoardError::NameTooLong),
        ] {
            let mut board = ModeBoard::default();
            assert_eq!(board.take(rule, entry(Mode::Warn, epoch)), Err(refused), "{rule}");
            assert!(board.is_empty());
        }
        for name in ["csrf@POST /api/ä@b", "~csrf", "~csrf@POST /api/ä@b"] {
            assert_eq!(check_rule(name), Ok(()));
        }
    }

    #[test]
    fn an_entry_is_of_one_version_of_a_rule() {
        for (name, rule, lane) in [
            ("csrf", "csrf", Lane::Current),
            ("~csrf", "csrf", Lane::Next),
            ("csrf@/~", "csrf@/~", Lane::Current),
        ] {
            assert_eq!((named(name), name_of(rule, lane)), ((rule, lane), name.to_owned()));
        }
        let last = REGISTRY.iter().map(|entry| entry.name).max().unwrap();
        assert!(last < name_of(REGISTRY[0].name, Lane::Next).as_str(), "they are merged in order");
    }

    #[test]
    fn a_full_board_takes_no_more_rules_and_every_change_of_those_it_has() {
        let mut board = ModeBoard::default();
        let name = |index: usize| format!("csrf@/{index:04}");
        for index in 0..RULES_MAX {
            board.take(&name(index), entry(Mode::Warn, 1)).unwrap();
        }
        assert_eq!(board.take("csrf", entry(Mode::Warn, 1)), Err(BoardError::Full));
        assert_eq!(board.take(&name(7), entry(Mode::Off, 2)), Ok(Taken::New));
        let mut other = ModeBoard::default();
        other.take("csrf", entry(Mode::Warn, 1)).unwrap();
        board.merge(&other);
        assert_eq!(board.len(), RULES_MAX);
        assert!(board.get("csrf").is_some() && board.get(&name(RULES_MAX - 1)).is_none());
    }

    #[test]
    fn a_present_version_takes_the_room_of_a_next_one() {
        let mut board = ModeBoard::default();
        for index in 1..RULES_MAX {
            board.take(&format!("csrf@/{index:04}"), entry(Mode::Warn, 1)).unwrap();
        }
        board.take("~csrf@/0001", entry(enforce(1000), 1)).unwrap();
        assert_eq!(board.take("~csrf@/0002", entry(Mode::Warn, 1)), Err(BoardError::Full));
        assert_eq!(board.take("~csrf@/0001", entry(Mode::Warn, 2)), Ok(Taken::New));
        assert_eq!(board.take("csrf", entry(Mode::Warn, 1)), Ok(Taken::New));
        assert_eq!((board.len(), board.get("~csrf@/0001")), (RULES_MAX, None));
        assert_eq!(board.take("cors", entry(Mode::Warn, 1)), Err(BoardError::Full));
    }

    #[test]
    fn causes_are_one_bounded_line() {
        let long = "ä".repeat(CAUSE_BYTES_MAX);
        for (text, line) in [
            ("", String::new()),
            ("demoted:\talert\nfired", "demoted: alert fired".to_owned()),
            (&"x".repeat(CAUSE_BYTES_MAX), "x".repeat(CAUSE_BYTES_MAX)),
            (&long, format!("{}…", "ä".repeat(98))),
        ] {
            let cause = Cause::new(text);
            assert_eq!(cause.as_str(), line);
            assert!(cause.as_str().len() <= CAUSE_BYTES_MAX);
            assert_eq!(Cause::new(cause.as_str()), cause, "a cause stays as it is");
        }
    }

    #[test]
    fn entries_are_written_as_one_json_and_read_strictly() {
        let hash = "a5".repeat(32);
        let text = format!(
            r#"{{"mode":"enforce 12.5%","epoch":7,"policy_hash":"{hash}","version":1,"since_us":0,"cause":"the gate passed"}}"#
        );
        assert_eq!(serde_json::to_string(&entry(enforce(1250), 7)).unwrap(), text);
        assert_eq!(serde_json::from_str::<ModeEntry>(&text).unwrap(), entry(enforce(1250), 7));
        for (from, to) in [
            ("enforce 12.5%", "auto"),
            ("enforce 12.5%", "enforce 101%"),
            (r#""epoch":7"#, r#""epoch":0"#),
            (r#""epoch":7"#, r#""epoch":-7"#),
            (r#""epoch":7"#, r#""epoch":7.5"#),
            (r#""epoch":7"#, r#""epoch":18446744073709551615"#),
            (r#""epoch":7,"#, ""),
            (r#""epoch":7"#, r#""epoch":7,"epoch":8"#),
            (r#""version":1"#, r#""version":1,"more":1"#),
            ("a5a5", "A5a5"),
            ("a5a5", "a5a"),
            ("the gate", r"the\ngate"),
            ("the gate", &"x".repeat(CAUSE_BYTES_MAX)),
        ] {
            let wrong = text.replacen(from, to, 1);
            assert_ne!(wrong, text);
            assert!(serde_json::from_str::<ModeEntry>(&wrong).is_err(), "{wrong}");
        }
    }

    fn any_entry() -> impl Strategy<Value = ModeEntry> {
        let mode =
            prop_oneof![Just(Mode::Off), Just(Mode::Warn), (0u16..=10_000).prop_map(enforce),];
        // Few epochs and times, so that there are ties.
        (mode, 1u64..5, 0i64..2, 0u32..2, 0u8..2).prop_map(
            |(mode, epoch, since_us, version, hash)| ModeEntry {
                mode,
                epoch,
                policy_hash: [hash; 32],
                version,
                since_us,
                cause: Cause::default(),
            },
        )
    }

    fn any_board() -> impl Strategy<Value = ModeBoard> {
        proptest::collection::btree_map("csrf@/[a-f]", any_entry(), 0..6).prop_map(ModeBoard)
    }

    /// Less than the rules that there can be, so that the bound is met.
    const BOUND: usize = 4;

    fn merged(one: &ModeBoard, other: &ModeBoard) -> ModeBoard {
        let mut merged = one.clone();
        merged.merge_within(other, BOUND);
        merged
    }

    proptest! {
        #[test]
        fn merging_has_no_order(a in any_board(), b in any_board(), c in any_board()) {
            // A board never has more rules than the bound.
            let [a, b, c] = [a, b, c].map(|board| merged(&board, &ModeBoard::default()));
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(&merged(&a, &a), &a);
            prop_assert_eq!(merged(&merged(&a, &b), &b), merged(&a, &b));
        }

        #[test]
        fn a_merge_never_goes_back(a in any_board(), b in any_board()) {
            let mut both = a.clone();
            both.merge(&b);
            prop_assert!(a.newer_than(&both).is_empty());
            prop_assert!(b.newer_than(&both).is_empty());
            for (rule, entry) in both.iter() {
                prop_assert!(a.get(rule) == Some(entry) || b.get(rule) == Some(entry));
            }
            let mut caught_up = b.clone();
            caught_up.merge(&a.newer_than(&b));
            prop_assert_eq!(caught_up, both);
        }

        #[test]
        fn entries_survive_being_written(entry in any_entry(), cause in ".{0,300}") {
            let entry = ModeEntry { cause: Cause::new(&cause), ..entry };
            let text = serde_json::to_string(&entry).unwrap();
            prop_assert_eq!(serde_json::from_str::<ModeEntry>(&text).unwrap(), entry);
        }

        #[test]
        fn taking_is_merging(board in any_board(), rule in "csrf@/[a-f]", entry in any_entry()) {
            let mut taken = board.clone();
            let answer = taken.take(&rule, entry.clone()).unwrap();
            let mut merged = board.clone();
            merged.merge(&ModeBoard([(rule, entry)].into()));
            prop_assert_eq!(&taken, &merged);
            prop_assert_eq!(answer == Taken::New, taken != board);
        }
    }
}
