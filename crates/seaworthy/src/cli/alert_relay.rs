//! `seaworthy alert-relay`

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use http::Uri;
use seaworthy_policy::alert::Signer;
use seaworthy_policy::source::{Source, Sources};

use super::{Answer, Surroundings};
use crate::app::log;
use crate::app::relay::{self, RelayOptions};
use crate::config::{LogFormat, read_source};
use crate::exit::{Exit, Failure};

/// Sign what Alertmanager posts, and pass it on to a gateway
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy alert-relay --to http://127.0.0.1:9900/api/v1/hooks/alerts --secret-file alerts.secret
  seaworthy alert-relay --to https://ops.example/api/v1/hooks/alerts --secret-env ALERTS_SECRET

Alertmanager cannot sign. It posts to the relay, which listens on loopback beside it, and gets the
gateway's own answer, so that it tries again where it should. SIGTERM and Ctrl-C end it.")]
pub(super) struct AlertRelay {
    /// Where Alertmanager posts to: a loopback address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9095", value_parser = loopback)]
    listen: SocketAddr,
    /// Where the gateway takes alerts: http://<console>/api/v1/hooks/alerts
    #[arg(long, value_name = "URL", value_parser = target)]
    to: Uri,
    #[command(flatten)]
    secret: Secret,
    /// A PEM bundle that replaces the system's roots, for an https URL
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// What is logged: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

/// Where the secret is: one of both.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Secret {
    /// The file with the secret, which the gateway has in [alerts] secrets
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The environment variable with it
    #[arg(long, value_name = "NAME")]
    secret_env: Option<String>,
}

/// Whoever reaches the relay has its signature.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr = text
        .parse()
        .map_err(|_| "expected an address and a port, such as 127.0.0.1:9095".to_owned())?;
    if addr.ip().to_canonical().is_loopback() {
        return Ok(addr);
    }
    Err("whatever reaches the relay is signed, so it listens on loopback alone: run it beside \
         Alertmanager"
        .to_owned())
}

fn target(text: &str) -> Result<Uri, String> {
    let fault = || "expected a URL such as http://127.0.0.1:9900/api/v1/hooks/alerts".to_owned();
    let uri: Uri = text.parse().map_err(|_| fault())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority().ok_or_else(fault)?;
    if !is_http || authority.as_str().contains('@') || uri.path() == "/" {
        return Err(fault());
    }
    Ok(uri)
}

impl AlertRelay {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let Self { listen, to, secret, ca, log: level } = self;
        log::start(LogFormat::Auto, &level);
        let source = match (secret.secret_file, secret.secret_env) {
            (Some(path), _) => Source::File(path),
            (None, name) => Source::Env(name.unwrap_or_default()),
        };
        let mut sources = Sources::default();
        let text = read_source(&source, &surroundings.env);
        sources.insert(source.clone(), text);
        let signer = Signer::build(&source, &sources).map_err(|why| {
            Failure::new(Exit::Config, "there is no secret to sign with").details(why)
        })?;
        relay::run(RelayOptions { listen, to, signer, ca }).map_err(|error| {
            Failure::new(Exit::Unavailable, format!("failed to start the relay: {error}"))
        })?;
        Ok(Answer::ok(String::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_beside_alertmanager_alone() {
        for (text, want) in [
            ("127.0.0.1:9095", true),
            ("[::1]:0", true),
            ("127.9.9.9:1", true),
            ("0.0.0.0:9095", false),
            ("[::]:9095", false),
            ("10.0.0.1:9095", false),
            ("localhost:9095", false),
            ("9095", false),
        ] {
            assert_eq!(loopback(text).is_ok(), want, "{text}");
        }
    }

    #[test]
    fn it_sends_to_a_path_by_http() {
        for (text, want) in [
            ("http://127.0.0.1:9900/api/v1/hooks/alerts", true),
            ("https://ops.example/hooks?x=1", true),
            ("http://[::1]:9900/a", true),
            ("127.0.0.1:9900/api", false),
            ("/api/v1/hooks/alerts", false),
            ("ftp://a/b", false),
            ("http://user:hunter2@a/b", false),
            ("http://a", false),
            ("http://a/", false),
        ] {
            let read = target(text);
            assert_eq!(read.is_ok(), want, "{text}");
            assert!(!read.is_err_and(|fault| fault.contains("hunter2")), "{text}");
        }
    }
}
