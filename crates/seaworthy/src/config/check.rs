//! Faults of sense: a value that has the right shape and still cannot be meant.

use std::fmt;
use std::ops::RangeInclusive;

use seaworthy_policy::quantity::Period;

use super::fault::{Fault, Report};
use super::tree::{Node, Path};

/// Reports faults of one section, with the places that its keys have in the tree.
pub(crate) struct Checks<'a> {
    pub(crate) tree: &'a Node,
    pub(crate) section: Path,
    pub(crate) report: &'a mut Report,
}

impl Checks<'_> {
    /// Reports `message` at `key`, a path below the section, unless `fine`.
    pub(crate) fn require(&mut self, fine: bool, key: &str, message: impl Into<String>) {
        if !fine {
            self.fault(&self.section.keys(key), message);
        }
    }

    pub(crate) fn within<T: PartialOrd + fmt::Display>(
        &mut self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        let (least, most) = (range.start(), range.end());
        self.require(
            range.contains(&value),
            key,
            format!("expected {least} to {most}, not {value}"),
        );
    }

    /// As [`Self::within`], for what is written in quotes.
    pub(crate) fn lasts(&mut self, key: &str, period: Period, range: RangeInclusive<Period>) {
        let (least, most) = (range.start(), range.end());
        self.require(
            range.contains(&period),
            key,
            format!("expected \"{least}\" to \"{most}\", not \"{period}\""),
        );
    }

    /// Reports `message` at `path`, from the root.
    pub(crate) fn fault(&mut self, path: &Path, message: impl Into<String>) {
        self.report.push(Fault::new(self.tree.place_of(path), path.to_string(), message));
    }
}
