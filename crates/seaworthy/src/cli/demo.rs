//! `seaworthy demo`

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use seaworthy_policy::quantity::Period;

use super::Answer;
use crate::app;
use crate::app::demo::DemoOptions;
use crate::config::LogFormat;
use crate::exit::{Exit, Failure};

/// Show everything on a built-in service with synthetic clients
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy demo
  seaworthy demo --rate 200
  seaworthy demo --duration 30s --json
  seaworthy demo --fast-rollout
  seaworthy demo --fast-rollout --data demo-data

It starts a help desk service, the gateway before it, the console, and clients of five tenants:
most behave, one is sloppy, one is hostile. It keeps nothing but what --data says.

With --fast-rollout minutes are seconds: a rule climbs to all clients on evidence, one that would
break a tenant is held, an alert demotes one, and every receipt is decided again. It ends when all of
that has been seen, with exit code 0, or at the end of --duration, with 2 where it has not. What it
leaves in --data can be looked at as a gateway's: `seaworthy audit verify --data demo-data`.")]
pub(super) struct Demo {
    /// End after this time, such as 30s; without it, at Ctrl-C
    #[arg(long, value_name = "TIME")]
    duration: Option<Period>,
    /// Requests a second of all clients together, from 0.1 to 5000; 50, or 400 with --fast-rollout,
    /// where nothing is said
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Print the summary as JSON at the end, and nothing else
    #[arg(long)]
    json: bool,
    /// Show rules climb, be held and be demoted, in seconds for minutes
    #[arg(long)]
    fast_rollout: bool,
    /// Where the gateway listens; else at 127.0.0.1:8080 where that is free
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where the console listens, a loopback address; else at 127.0.0.1:9900 where that is free
    #[arg(long, value_name = "ADDR")]
    console: Option<SocketAddr>,
    /// Keep the gateway's data in this folder, which has to be new or empty
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What the synthetic clients can do.
const RATES: RangeInclusive<f64> = 0.1..=5000.0;

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| RATES.contains(rate))
        .ok_or_else(|| "expected a number from 0.1 to 5000".to_owned())
}

impl Demo {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        // The screen is the demo's; what the log would say of its clients is on it.
        app::log::start(LogFormat::Auto, "error");
        let is_whole = app::demo::run(&DemoOptions {
            duration: self.duration.map(Period::as_duration),
            rate: self.rate,
            json: self.json,
            fast_rollout: self.fast_rollout,
            listen: self.listen,
            console: self.console,
            data: self.data,
        })?;
        let exit = if is_whole { Exit::Ok } else { Exit::NoVerdict };
        Ok(Answer::new(String::new(), exit))
    }
}
