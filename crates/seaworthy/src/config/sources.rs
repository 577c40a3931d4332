//! Reads what the protections' settings name: files, and environment variables.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use seaworthy_policy::registry::{Protect, REGISTRY};
use seaworthy_policy::source::{SOURCE_BYTES_MAX, Source, Sources};

use super::Inputs;
use super::stamp::Stamps;

/// Everything that the settings of `protects` name, the files among it being looked at in
/// `stamps`. What cannot be read is a fault of the protection that needs it, which says so when
/// it is built.
pub(crate) fn read_all<'a>(
    protects: impl IntoIterator<Item = &'a Protect>,
    inputs: &Inputs,
    stamps: &mut Stamps,
) -> Sources {
    let mut sources = Sources::default();
    for protect in protects {
        for source in REGISTRY.iter().flat_map(|entry| (entry.sources)(protect)) {
            if !sources.contains(&source) {
                if let Source::File(path) = &source {
                    stamps.add(path);
                }
                let text = read(&source, inputs);
                sources.insert(source, text);
            }
        }
    }
    sources
}

fn read(source: &Source, inputs: &Inputs) -> Result<Vec<u8>, String> {
    match source {
        Source::File(path) => read_file(path),
        Source::Env(name) => inputs
            .variable(name)
            .map(|value| value.as_bytes().to_vec())
            .ok_or_else(|| "is not set".to_owned()),
        Source::Url(url) => {
            inputs.fetched.get(url).cloned().ok_or_else(|| "has not been fetched yet".to_owned())
        }
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
        let inputs = Inputs {
            env: vec![("A".to_owned(), "value".to_owned())],
            fetched: [("https://a.example/".to_owned(), b"keys".to_vec())].into(),
            ..Inputs::default()
        };
        let read = |source: Source| read(&source, &inputs);
        assert_eq!(read(Source::File(path)), Ok(b"text".to_vec()));
        assert_eq!(read(Source::Env("A".to_owned())), Ok(b"value".to_vec()));
        assert_eq!(read(Source::Env("B".to_owned())), Err("is not set".to_owned()));
        let url = |url: &str| read(Source::Url(url.to_owned()));
        assert_eq!(url("https://a.example/"), Ok(b"keys".to_vec()));
        assert_eq!(url("https://b.example/"), Err("has not been fetched yet".to_owned()));
        let missing = read(Source::File(dir.path().join("gone"))).unwrap_err();
        assert!(missing.starts_with("cannot be read: "), "{missing}");
    }
}
