//! `seaworthy demo`: the help desk service, the gateway before it, and clients of five tenants,
//! until it is stopped. What happens is shown on one screen, or as JSON at the end.

mod fast;
mod screen;

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use seaworthy_console::live::LiveView;
use seaworthy_demo::{Clients, ClientsConfig, ClientsReport, Service, ServiceConfig};
use serde::Serialize;
use tokio::sync::watch;

use super::{StartError, serve};
use crate::config::{Fetched, Flags, Inputs};

/// The config of the demo, as a small team would write it on its first day.
pub const CONFIG: &str = include_str!("demo/config.toml");
const AUTHZ: &str = include_str!("demo/authz.toml");
const API_KEYS: &str = include_str!("demo/api-keys.toml");

/// The clients' seed: the demo is the same each time.
const SEED: u64 = 7;

/// Where the gateway and the console listen where those ports are free.
const TRAFFIC_PORT: u16 = 8080;
const CONSOLE_PORT: u16 = 9900;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Ends by itself after this long; otherwise at a signal.
    pub duration: Option<Duration>,
    /// Requests a second of all clients together; more in a fast rollout, whose gates need them.
    pub rate: Option<f64>,
    /// Prints the summary as JSON at the end, and nothing else.
    pub json: bool,
    /// Shows a rollout in which minutes are seconds.
    pub fast_rollout: bool,
    /// Where the gateway listens, and the console; otherwise at the usual ports where those are free.
    pub listen: Option<SocketAddr>,
    pub console: Option<SocketAddr>,
    /// Where the gateway's data stays; otherwise it goes when the demo ends.
    pub data: Option<PathBuf>,
}

/// Requests a second where nobody says.
const RATE: f64 = 50.0;
const RATE_FAST: f64 = 400.0;

/// What the demo showed, for `--json`.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    live: &'a LiveView,
    clients: ClientsReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<fast::Story>,
}

/// Runs the demo. Returns whether everything was seen that was to be.
pub fn run(options: &DemoOptions) -> Result<bool, StartError> {
    serve::runtime()?.block_on(async {
        let dir = Folder::create().context("failed to make a temporary folder")?;
        let data = match &options.data {
            Some(data) => new_folder(data)?,
            None => dir.path.join("data"),
        };
        let service = Service::start(ServiceConfig::default())
            .await
            .context("failed to start the help desk service")?;
        let file = dir.path.join("seaworthy.toml");
        let config = match options.fast_rollout {
            true => format!("{CONFIG}{}", fast::CONFIG),
            false => CONFIG.to_owned(),
        };
        std::fs::write(&file, config).context("failed to write the demo's config")?;
        let running = super::start(Inputs {
            file: Some(file),
            env: env(),
            fetched: Fetched::default(),
            flags: Flags {
                upstreams: vec![format!("http://{}", service.addr())],
                listen: Some(options.listen.unwrap_or_else(|| free_port(TRAFFIC_PORT)).to_string()),
                console: Some(
                    options.console.unwrap_or_else(|| free_port(CONSOLE_PORT)).to_string(),
                ),
                data: Some(data.clone()),
            },
        })
        .await?;
        let clients = Clients::start(ClientsConfig {
            gateway: running.traffic(),
            seed: SEED,
            rate: options.rate.unwrap_or(if options.fast_rollout { RATE_FAST } else { RATE }),
        })
        .context("failed to start the clients")?;

        let addresses = screen::Addresses {
            traffic: running.traffic(),
            console: running.console(),
            service: service.addr(),
        };
        let ended = end(options.duration);
        let story = watch::Sender::new(fast::Story::default());
        let told = async {
            if !options.fast_rollout {
                return std::future::pending().await;
            }
            let tell = |event: &str| {
                if !options.json {
                    screen::event(event);
                }
            };
            fast::watch(&running, &story, tell).await
        };
        let shown = async {
            if options.json {
                return std::future::pending().await;
            }
            // A story is told line by line; the table would wipe it away.
            let is_screen = std::io::stdout().is_terminal() && !options.fast_rollout;
            screen::show(running.live(), addresses, is_screen).await;
        };
        tokio::select! {
            told = told => told.context("the rollout could not be shown")?,
            () = shown => {}
            () = ended => {}
        }
        let clients = clients.stop().await;
        let live = running.settled().await;
        running.stop().await;
        service.shutdown().await;
        let mut story = options.fast_rollout.then(|| story.borrow().clone());
        if let Some(story) = &mut story {
            let audited = tokio::task::spawn_blocking(move || fast::audit(&data)).await;
            let (audit, receipts) = audited.context("the audit log was not verified")??;
            (story.audit, story.receipts) = (Some(audit), receipts);
        }
        let is_whole = story.as_ref().is_none_or(fast::Story::is_whole);
        if options.json {
            let summary = Summary { live: &live, clients, rollout: story };
            println!("{}", serde_json::to_string_pretty(&summary).context("to write JSON")?);
        } else {
            screen::last_words(&live);
            if let Some(story) = &story {
                screen::end_of(story);
            }
        }
        Ok(is_whole)
    })
}

/// What the config names.
pub fn env() -> Vec<(String, String)> {
    let openapi = seaworthy_demo::openapi().to_string();
    [
        ("HELPDESK_OPENAPI", openapi.as_str()),
        ("HELPDESK_AUTHZ", AUTHZ),
        ("HELPDESK_API_KEYS", API_KEYS),
        ("HELPDESK_WEBHOOK_SECRET", seaworthy_demo::WEBHOOK_SECRET),
        (fast::ALERTS_VARIABLE, fast::ALERTS_SECRET),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Waits for the time to be over, or for Ctrl-C or SIGTERM.
async fn end(duration: Option<Duration>) {
    let time = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time => {}
        () = serve::stop_asked() => {}
    }
}

/// The wished port where it is free, else one that the system chooses.
fn free_port(wished: u16) -> SocketAddr {
    let addr = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(addr(wished)) {
        Ok(_) => addr(wished),
        Err(_) => addr(0),
    }
}

/// `path`, as a folder in which there is nothing: what another demo has left would be its past.
fn new_folder(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    std::fs::create_dir_all(path).with_context(|| format!("failed to make {shown}"))?;
    let mut files = path.read_dir().with_context(|| format!("failed to read {shown}"))?;
    anyhow::ensure!(files.next().is_none(), "{shown} is not empty: the demo begins with nothing");
    Ok(path.to_owned())
}

/// A folder that goes when the demo ends.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("seaworthy-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the demo's folder is left behind");
        }
    }
}
