//! `seaworthy completions`

use clap::Args;
use clap_complete::Shell;

use super::Answer;

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy completions bash > ~/.local/share/bash-completion/completions/seaworthy
  seaworthy completions zsh > ~/.zfunc/_seaworthy
  seaworthy completions fish > ~/.config/fish/completions/seaworthy.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Answer {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "seaworthy", &mut script);
        Answer::ok(String::from_utf8(script).expect("completions are text"))
    }
}
