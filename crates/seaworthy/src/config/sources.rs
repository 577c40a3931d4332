//! Reads what the protections' settings name: files, and environment variables.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use seaworthy_policy::registry::{Protect, REGISTRY};
use seaworthy_policy::source::{SOURCE_BYTES_MAX, Source, Sources};

use super::stamp::Stamps;

/// Everything that the settings of `protects` name, the files among it being looked at in
/// `stamps`. What cannot be read is a fault of the protection that needs it, which says so when
/// it is built.
pub(crate) fn read_all<'a>(
    protects: impl IntoIterator<Item = &'a Protect>,
    env: &[(String, String)],
    stamps: &mut Stamps,
) -> Sources {
    let mut sources = Sources::default();
    for protect in protects {
        for source in REGISTRY.iter().flat_map(|entry| (entry.sources)(protect)) {
            if !sources.contains(&source) {
                if let Source::File(path) = &source {
                    stamps.add(path);
                }
                let text = read(&source, env);
                sources.insert(source, text);
            }
        }
    }
    sources
}

fn read(source: &Source, env: &[(String, String)]) -> Result<Vec<u8>, String> {
    match source {
        Source::File(path) => read_file(path),
        Source::Env(name) => env
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone().into_bytes())
            .ok_or_else(|| "is not set".to_owned()),
        Source::Url(_) => Err("has not been fetched yet".to_owned()),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let fault = |error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fault)?;
    file.take(SOURCE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > SOURCE_BYTES_MAX {
        return Err(format!("has more than {} MiB", SOURCE_BYTES_MAX >> 20));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_or_said_to_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "text").unwrap();
        let env = [("A".to_owned(), "value".to_owned())];
        let read = |source: Source| read(&source, &env);
        assert_eq!(read(Source::File(path)), Ok(b"text".to_vec()));
        assert_eq!(read(Source::Env("A".to_owned())), Ok(b"value".to_vec()));
        assert_eq!(read(Source::Env("B".to_owned())), Err("is not set".to_owned()));
        let missing = read(Source::File(dir.path().join("gone"))).unwrap_err();
        assert!(missing.starts_with("cannot be read: "), "{missing}");
    }
}
