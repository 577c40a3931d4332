//! Texts that settings name and that are kept elsewhere: a file, an environment variable, a URL.
//!
//! Policy reads none of them. A protection lists the sources that its settings name, whoever builds
//! it reads them, and hands all of them over as [`Sources`].

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use ring::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quantity::serde_as_text;

/// A source may have this many bytes.
pub const SOURCE_BYTES_MAX: u64 = 16 << 20;

/// Where a text is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// `file:<path>`, or a path alone where a setting allows no other source.
    File(PathBuf),
    /// `env:<name>`
    Env(String),
    /// A file, or a folder: those of its files whose names end in `.conf` or `.data`, by name.
    Files(PathBuf),
    /// `https://…`, or `http://` to this machine. It is fetched while the gateway runs.
    Url(String),
}

impl Source {
    /// Whether it may come later than the rest.
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Url(_))
    }
}

/// What a setting takes in place of what was written. Fits after "failed to read the source: ". It
/// never shows the text: that may be the secret itself, put where its place belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("expected \"env:<NAME>\" or \"file:<path>\"")]
    NotLocal,
    #[error("expected a path, \"file:<path>\" or \"env:<NAME>\"")]
    NotFile,
    #[error("expected \"https://…\", \"file:<path>\" or \"env:<NAME>\"")]
    NotRemote,
}

impl FromStr for Source {
    type Err = SourceError;

    /// A file or a variable. What anyone could make a server answer is no secret, and it may come
    /// late, so a setting that takes a URL says so: [`RemoteSource`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            Some(("env", name)) if is_variable_name(name) => Ok(Self::Env(name.to_owned())),
            _ => Err(SourceError::NotLocal),
        }
    }
}

/// Whether `text` is a URL that can be trusted to say what its owner says: over TLS, or from this
/// very machine.
fn is_url(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else { return false };
    let Some(host) = url.host() else { return false };
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    !text.contains('@') && (url.scheme_str() == Some("https") || local)
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Files(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Url(url) => f.write_str(url),
        }
    }
}

serde_as_text!(Source);

/// A source that can also be a URL: `https://id.example/jwks.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSource(pub Source);

impl FromStr for RemoteSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("https" | "http", _)) if is_url(text) => Ok(Self(Source::Url(text.to_owned()))),
            _ => text.parse().map(Self).map_err(|_| SourceError::NotRemote),
        }
    }
}

impl fmt::Display for RemoteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(RemoteSource);

/// A source that is a file unless it says otherwise: `openapi.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSource(pub Source);

impl FromStr for FileSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(source) => Ok(Self(source)),
            Err(_) if text.is_empty() || text.starts_with("env:") || text.contains("://") => {
                Err(SourceError::NotFile)
            }
            Err(_) => Ok(Self(Source::File(PathBuf::from(text)))),
        }
    }
}

impl fmt::Display for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(FileSource);

/// A source that can have several files: `/usr/share/modsecurity-crs/rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesSource(pub Source);

impl FromStr for FilesSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<FileSource>()?.0 {
            Source::File(path) => Ok(Self(Source::Files(path))),
            source => Ok(Self(source)),
        }
    }
}

impl fmt::Display for FilesSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(FilesSource);

/// A file of [`Source::Files`]: its name, without the folder, and what it has.
pub type NamedText = (String, Arc<[u8]>);

/// The texts of all sources that the settings name, as far as they could be read.
#[derive(Clone, Default)]
pub struct Sources {
    texts: HashMap<Source, Result<Arc<[u8]>, String>>,
    folders: HashMap<Source, Result<Vec<NamedText>, String>>,
}

impl Sources {
    /// `text` is what the source has, or why it cannot be read, as a clause.
    pub fn insert(&mut self, source: Source, text: Result<Vec<u8>, String>) {
        self.texts.insert(source, text.map(Arc::from));
    }

    /// As [`Self::insert`], for [`Source::Files`].
    pub fn insert_files(&mut self, source: Source, files: Result<Vec<NamedText>, String>) {
        self.folders.insert(source, files);
    }

    /// The URLs among them, whether they have been fetched or not.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().filter_map(|source| match source {
            Source::Url(url) => Some(url.as_str()),
            Source::File(_) | Source::Files(_) | Source::Env(_) => None,
        })
    }

    /// All of them, in order, whether they could be read or not.
    pub fn named(&self) -> Vec<&Source> {
        let mut named: Vec<_> = self.texts.keys().chain(self.folders.keys()).collect();
        named.sort_unstable();
        named
    }

    pub fn contains(&self, source: &Source) -> bool {
        self.texts.contains_key(source) || self.folders.contains_key(source)
    }

    /// The files of `source`. One that is no path has one, which is called by its own name.
    pub fn files(&self, source: &Source) -> Result<Vec<NamedText>, String> {
        match self.folders.get(source) {
            Some(Ok(files)) => Ok(files.clone()),
            Some(Err(why)) => Err(format!("{source} {why}")),
            None => match self.texts.get(source) {
                Some(Ok(text)) => Ok(vec![(source.to_string(), Arc::clone(text))]),
                _ => self.bytes(source).map(|_| Vec::new()),
            },
        }
    }

    /// The bytes of `source`, or why there are none: fits after "`<key>`: ".
    pub fn bytes(&self, source: &Source) -> Result<&[u8], String> {
        match self.texts.get(source) {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(why)) => Err(format!("{source} {why}")),
            None => Err(format!("{source} was not read")),
        }
    }

    /// Tells one state of `sources` from another: rules are kept over a reload while it is the
    /// same.
    pub fn fingerprint(&self, sources: &[Source]) -> Option<[u8; 32]> {
        if sources.is_empty() {
            return None;
        }
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |tag: u8, bytes: &[u8]| {
            context.update(&[tag]);
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        for source in sources {
            if let Some(Ok(files)) = self.folders.get(source) {
                for (name, bytes) in files {
                    add(2, name.as_bytes());
                    add(1, bytes);
                }
                continue;
            }
            match self.bytes(source) {
                Ok(bytes) => add(1, bytes),
                Err(_) => add(0, b""),
            }
        }
        Some(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Debug for Sources {
    /// Secrets are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.texts.keys().chain(self.folders.keys())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_written_and_a_secret_is_never_shown() {
        for text in ["env:WEBHOOK_SECRET", "file:keys/jwks.json", "file:/a:b"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
            assert_eq!(text.parse::<RemoteSource>().unwrap().to_string(), text);
        }
        for text in ["https://id.example/jwks.json", "http://127.0.0.1:8000/jwks.json"] {
            assert_eq!(text.parse::<RemoteSource>().unwrap().to_string(), text);
            assert_eq!(text.parse::<Source>(), Err(SourceError::NotLocal));
        }
        for text in [
            "",
            "hunter2",
            "env:",
            "env:A-B",
            "file:",
            "ENV:A",
            "http://id.example/",
            "https://me:hunter2@id.example/",
            "https://",
        ] {
            let fault = text.parse::<Source>().unwrap_err().to_string();
            assert!(!fault.contains("hunter2"), "{fault}");
            let fault = text.parse::<RemoteSource>().unwrap_err().to_string();
            assert!(fault.contains("https://…") && !fault.contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn a_file_needs_no_prefix() {
        for (text, want) in [
            ("openapi.yaml", "file:openapi.yaml"),
            ("file:openapi.yaml", "file:openapi.yaml"),
            ("env:OPENAPI", "env:OPENAPI"),
        ] {
            assert_eq!(text.parse::<FileSource>().unwrap().to_string(), want);
        }
        for text in ["", "env:", "http://a.example/b.yaml", "https://a.example/b.yaml"] {
            assert_eq!(text.parse::<FileSource>(), Err(SourceError::NotFile), "{text}");
        }
    }

    #[test]
    fn a_folder_has_files_and_anything_else_is_one() {
        for (text, want) in [
            ("/crs/rules", Source::Files("/crs/rules".into())),
            ("file:rules", Source::Files("rules".into())),
            ("env:RULES", Source::Env("RULES".to_owned())),
        ] {
            assert_eq!(text.parse::<FilesSource>().unwrap().0, want, "{text}");
        }
        assert!("https://rules.example/".parse::<FilesSource>().is_err());

        let (folder, single) = (Source::Files("rules".into()), Source::Env("RULES".to_owned()));
        let mut sources = Sources::default();
        let file = |name: &str, text: &str| (name.to_owned(), Arc::from(text.as_bytes()));
        let files = vec![file("a.conf", "x"), file("b.data", "y")];
        sources.insert_files(folder.clone(), Ok(files.clone()));
        sources.insert(single.clone(), Ok(b"z".to_vec()));
        assert_eq!(sources.files(&folder).unwrap(), files);
        assert_eq!(sources.files(&single).unwrap(), [file("env:RULES", "z")]);
        let missing = sources.files(&Source::Files("other".into())).unwrap_err();
        assert_eq!(missing, "file:other was not read");

        let before = sources.fingerprint(std::slice::from_ref(&folder));
        let renamed = vec![file("a.conf", "x"), file("c.data", "y")];
        sources.insert_files(folder.clone(), Ok(renamed));
        assert_ne!(sources.fingerprint(&[folder]), before);
    }

    #[test]
    fn a_fingerprint_changes_with_the_text_alone() {
        let source = |name: &str| Source::Env(name.to_owned());
        let list = [source("A"), source("B")];
        let of = |a: Result<&[u8], String>, b: &[u8]| {
            let mut sources = Sources::default();
            sources.insert(source("A"), a.map(<[u8]>::to_vec));
            sources.insert(source("B"), Ok(b.to_vec()));
            sources.fingerprint(&list)
        };
        assert_eq!(of(Ok(b"x"), b"y"), of(Ok(b"x"), b"y"));
        assert_ne!(of(Ok(b"x"), b"y"), of(Ok(b"xy"), b""));
        assert_ne!(of(Ok(b""), b"y"), of(Err("is gone".to_owned()), b"y"));
        assert_eq!(Sources::default().fingerprint(&[]), None);
    }
}
