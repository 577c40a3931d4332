//! `seaworthy demo`

use std::ops::RangeInclusive;

use clap::Args;
use seaworthy_policy::quantity::Period;

use super::Answer;
use crate::app;
use crate::app::demo::DemoOptions;
use crate::config::LogFormat;
use crate::exit::Failure;

/// Show everything on a built-in service with synthetic clients
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy demo
  seaworthy demo --rate 200
  seaworthy demo --duration 30s --json

It starts a help desk service, the gateway before it, the console, and clients of five tenants:
most behave, one is sloppy, one is hostile. It keeps nothing.")]
pub(super) struct Demo {
    /// End after this time, such as 30s; without it, at Ctrl-C
    #[arg(long, value_name = "TIME")]
    duration: Option<Period>,
    /// Requests a second of all clients together, from 0.1 to 5000
    #[arg(long, value_name = "N", default_value_t = 50.0, value_parser = rate)]
    rate: f64,
    /// Print the summary as JSON at the end, and nothing else
    #[arg(long)]
    json: bool,
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
        app::demo::run(&DemoOptions {
            duration: self.duration.map(Period::as_duration),
            rate: self.rate,
            json: self.json,
        })?;
        Ok(Answer::ok(String::new()))
    }
}
