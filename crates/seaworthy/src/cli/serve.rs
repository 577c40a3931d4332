//! `seaworthy serve`

use clap::Args;

use super::{Answer, ConfigFile, Overrides, Surroundings};
use crate::app;
use crate::config;
use crate::exit::Failure;

/// Put the gateway in front of your service
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy serve --upstream http://127.0.0.1:3000
  seaworthy serve --upstream http://10.0.0.5:3000 --upstream http://10.0.0.6:3000
  seaworthy serve --config staging.toml --listen 127.0.0.1:8443
  SEAWORTHY__LOG__FORMAT=json seaworthy serve

SIGHUP and a changed config file reload; SIGTERM and Ctrl-C drain and end.")]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

impl Serve {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let inputs = self.file.inputs(self.overrides.into(), surroundings);
        let config = config::load(&inputs)?;
        app::log::start(config.log.format, &config.log.level);
        app::serve::run(inputs)?;
        Ok(Answer::ok(String::new()))
    }
}
