//! What tells one state of the config's files from another: their sizes and times of change.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The state of the files that a config was read from. Each is looked at before it is read, so
/// that a change that comes in between is seen as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    changed: SystemTime,
}

impl Stamps {
    /// Looks at `path`.
    pub(crate) fn add(&mut self, path: &Path) {
        let stamp = std::fs::metadata(path).and_then(|metadata| {
            Ok(Stamp { bytes: metadata.len(), changed: metadata.modified()? })
        });
        self.0.push((path.to_owned(), stamp.ok()));
    }

    /// The state of the same files now.
    pub fn now(&self) -> Self {
        let mut now = Self::default();
        for (path, _) in &self.0 {
            now.add(path);
        }
        now
    }

    /// Whether all files are there. One that is gone for a moment is being replaced.
    pub fn is_whole(&self) -> bool {
        self.0.iter().all(|(_, stamp)| stamp.is_some())
    }

    /// Without files there is nothing to watch.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_and_a_loss_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let mut stamps = Stamps::default();
        assert!(stamps.is_empty() && stamps.is_whole());
        stamps.add(&path);
        assert_eq!(stamps.now(), stamps);
        std::fs::write(&path, "three").unwrap();
        assert_ne!(stamps.now(), stamps);
        std::fs::remove_file(&path).unwrap();
        assert!(!stamps.now().is_whole());
    }
}
