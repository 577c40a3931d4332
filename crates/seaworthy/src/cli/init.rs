//! `seaworthy init`

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Answer;
use crate::config::{DEFAULT_TOML, FILE_NAME};
use crate::exit::{Exit, Failure};

/// Write the commented default config
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy init
  seaworthy init staging.toml
  seaworthy init --force")]
pub(super) struct Init {
    /// Where to write it
    #[arg(value_name = "FILE", default_value = FILE_NAME)]
    file: PathBuf,
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let shown = self.file.display();
        write(&self.file, self.force).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::new(Exit::Usage, format!("{shown} is there already"))
                    .details("choose another name, or replace it with --force")
            }
            _ => Failure::new(Exit::Unavailable, format!("{shown} cannot be written: {error}"))
                .details("choose a file in a folder that you may write to"),
        })?;
        let serve = if self.file == Path::new(FILE_NAME) {
            "seaworthy serve".to_owned()
        } else {
            format!("seaworthy serve --config {shown}")
        };
        Ok(Answer::ok(format!("wrote {shown}: set `upstreams` in it, then run `{serve}`\n")))
    }
}

fn write(path: &Path, force: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)?.write_all(DEFAULT_TOML.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_the_default_and_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seaworthy.toml");
        let init = |force| Init { file: file.clone(), force }.run();
        assert!(init(false).is_ok());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), DEFAULT_TOML);
        std::fs::write(&file, "# mine").unwrap();
        assert_eq!(init(false).unwrap_err().exit, Exit::Usage);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine");
        assert!(init(true).is_ok());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), DEFAULT_TOML);
        let nowhere = Init { file: dir.path().join("no/such/folder.toml"), force: false };
        assert_eq!(nowhere.run().unwrap_err().exit, Exit::Unavailable);
    }
}
