//! The log: `tracing` to standard error, for people on a terminal and as JSON elsewhere.

use std::io::IsTerminal as _;
use std::sync::Once;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::LogFormat;

/// Libraries that say more at `info` than an operator wants to read. The config can say
/// otherwise: what comes later in a filter wins. The engine of the Core Rule Set would write a line
/// for many a request, with what a client sent in it.
const QUIET: &str = "refinery_core=warn,zentinel_modsec=off";

/// Starts the log. Calling it again, or from two threads at once, is safe: the first call wins.
pub(crate) fn start(format: LogFormat, level: &str) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let filter = EnvFilter::try_new(format!("{QUIET},{level}"))
            .unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},info")));
        let terminal = std::io::stderr().is_terminal();
        let pretty = match format {
            LogFormat::Auto => terminal,
            LogFormat::Pretty => true,
            LogFormat::Json => false,
        };
        let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // Where another subscriber is set already, a test's for instance, it stays.
        let started = if pretty {
            log.with_ansi(terminal).with_target(false).try_init()
        } else {
            log.json().flatten_event(true).try_init()
        };
        drop(started);
    });
}
