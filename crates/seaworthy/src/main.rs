//! The binary: see [`seaworthy::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    seaworthy::cli::run(std::env::args_os(), std::env::vars_os()).into()
}
