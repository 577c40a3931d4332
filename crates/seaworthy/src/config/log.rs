//! `[log]`: what the gateway writes to standard error.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::check::Checks;
use super::fault::nearest;

/// `[log]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `auto` by default: pretty on a terminal, JSON elsewhere.
    pub format: LogFormat,
    /// A level, or directives such as `info,hyper=debug`. `info` by default: what an operator
    /// acts on, and nothing once a request.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Json,
    Pretty,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Log {
    pub(crate) fn check(&self, checks: &mut Checks<'_>) {
        let text = &self.level;
        for directive in text.split(',').map(str::trim) {
            // `inof` alone would be read as the name of a module, and silence all others.
            let level = LEVELS.contains(&directive.to_ascii_lowercase().as_str());
            if level || directive.contains('=') {
                continue;
            }
            let meant = nearest(directive, &LEVELS)
                .map(|level| format!("; did you mean {level:?}?"))
                .unwrap_or_default();
            let message = format!(
                "expected a level ({}) or directives such as \"info,hyper=debug\", not {text:?}{meant}",
                LEVELS.join(", ")
            );
            return checks.require(false, "level", message);
        }
        if let Err(error) = EnvFilter::builder().parse(text) {
            checks.require(false, "level", format!("{error}: {text:?}"));
        }
    }
}
