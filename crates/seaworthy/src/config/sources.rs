//! Reads what settings name: files, and environment variables.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use seaworthy_policy::registry::{Protect, REGISTRY};
use seaworthy_policy::source::{NamedText, SOURCE_BYTES_MAX, Source, Sources};

use super::Inputs;
use super::stamp::Stamps;

/// Everything that the settings of `protects` name, and `others`; the files among it are looked at
/// in `stamps`. What cannot be read is a fault of whoever needs it, who says so when it is built.
pub(crate) fn read_all<'a>(
    protects: impl IntoIterator<Item = &'a Protect>,
    others: impl IntoIterator<Item = &'a Source>,
    inputs: &Inputs,
    stamps: &mut Stamps,
) -> Sources {
    let mut sources = Sources::default();
    let protects = protects.into_iter();
    let named = protects
        .flat_map(|protect| REGISTRY.iter().flat_map(|entry| (entry.sources)(protect)))
        .chain(others.into_iter().cloned());
    for source in named {
        if sources.contains(&source) {
            continue;
        }
        if let Source::Files(path) = &source {
            let files = read_files(path, stamps);
            sources.insert_files(source, files);
            continue;
        }
        if let Source::File(path) = &source {
            stamps.add(path);
        }
        let text = read(&source, inputs);
        sources.insert(source, text);
    }
    sources
}

/// Adds files that are read by whoever needs them, so that it is known later what they held. They
/// are taken up with a reload and start none.
pub(crate) fn add_files<'a>(sources: &mut Sources, paths: impl IntoIterator<Item = &'a PathBuf>) {
    for path in paths {
        let source = Source::File(path.clone());
        if !sources.contains(&source) {
            let text = read_file(path);
            sources.insert(source, text);
        }
    }
}

/// What a command's own file or variable has, or why it cannot be read.
pub(crate) fn read_source(source: &Source, env: &[(String, String)]) -> Result<Vec<u8>, String> {
    read(source, &Inputs { env: env.to_vec(), ..Inputs::default() })
}

fn read(source: &Source, inputs: &Inputs) -> Result<Vec<u8>, String> {
    match source {
        Source::File(path) | Source::Files(path) => read_file(path),
        Source::Env(name) => inputs
            .variable(name)
            .map(|value| value.as_bytes().to_vec())
            .ok_or_else(|| "is not set".to_owned()),
        Source::Url(url) => {
            inputs.fetched.get(url).cloned().ok_or_else(|| "has not been fetched yet".to_owned())
        }
    }
}

/// The files of a folder that are read; others in it are of no interest.
const EXTENSIONS: [&str; 2] = ["conf", "data"];

/// Such files that a folder may have. The Core Rule Set has some 60.
const FILES_MAX: usize = 500;

/// `path`, or the files in it, by name; together they may have as many bytes as one file.
fn read_files(path: &Path, stamps: &mut Stamps) -> Result<Vec<NamedText>, String> {
    let fault = |error: std::io::Error| format!("cannot be read: {error}");
    // A folder changes when a file comes or goes, and each file when it is written.
    stamps.add(path);
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    if !std::fs::metadata(path).map_err(fault)?.is_dir() {
        let text = read_file(path)?;
        return Ok(vec![(name(path).unwrap_or_default(), text.into())]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if EXTENSIONS.contains(&extension) && path.is_file() {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(format!("has more than {FILES_MAX} files"));
        }
    }
    paths.sort();
    let (mut files, mut bytes) = (Vec::with_capacity(paths.len()), 0);
    for path in paths {
        stamps.add(&path);
        let name = name(&path).unwrap_or_default();
        let text = read_file(&path).map_err(|why| format!("has {name:?}, which {why}"))?;
        bytes += text.len() as u64;
        if bytes > SOURCE_BYTES_MAX {
            return Err(format!("has more than {} MiB", SOURCE_BYTES_MAX >> 20));
        }
        files.push((name, text.into()));
    }
    Ok(files)
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

    #[test]
    fn a_folders_rules_and_data_are_read_by_name_and_their_changes_seen() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("b.conf", "2"), ("a.data", "1"), ("notes.md", "3")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::create_dir(dir.path().join("c.conf")).unwrap();
        let mut stamps = Stamps::default();
        let files = read_files(dir.path(), &mut stamps).unwrap();
        let read: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), &text[..])).collect();
        assert_eq!(read, [("a.data", &b"1"[..]), ("b.conf", b"2")]);
        std::fs::write(dir.path().join("b.conf"), "two").unwrap();
        assert_ne!(stamps.now(), stamps);
        let one = read_files(&dir.path().join("b.conf"), &mut stamps).unwrap();
        assert_eq!((one[0].0.as_str(), &one[0].1[..]), ("b.conf", &b"two"[..]));
        let missing = read_files(&dir.path().join("gone"), &mut stamps).unwrap_err();
        assert!(missing.starts_with("cannot be read: "), "{missing}");
    }

    #[test]
    fn a_folder_of_too_much_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..=FILES_MAX {
            std::fs::write(dir.path().join(format!("{index}.conf")), "").unwrap();
        }
        let fault = read_files(dir.path(), &mut Stamps::default()).unwrap_err();
        assert_eq!(fault, format!("has more than {FILES_MAX} files"));
    }
}
