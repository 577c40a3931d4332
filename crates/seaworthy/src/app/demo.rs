//! `seaworthy demo`: the help desk service, the gateway before it, and clients of five tenants,
//! until it is stopped. What happens is shown on one screen, or as JSON at the end.

mod screen;

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use seaworthy_console::live::LiveView;
use seaworthy_demo::{Clients, ClientsConfig, ClientsReport, Service, ServiceConfig};
use serde::Serialize;

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
    /// Requests a second of all clients together.
    pub rate: f64,
    /// Prints the summary as JSON at the end, and nothing else.
    pub json: bool,
}

/// What the demo showed, for `--json`.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    live: &'a LiveView,
    clients: ClientsReport,
}

/// Runs the demo.
pub fn run(options: &DemoOptions) -> Result<(), StartError> {
    serve::runtime()?.block_on(async {
        let dir = Folder::create().context("failed to make a temporary folder")?;
        let service = Service::start(ServiceConfig::default())
            .await
            .context("failed to start the help desk service")?;
        let file = dir.path.join("seaworthy.toml");
        std::fs::write(&file, CONFIG).context("failed to write the demo's config")?;
        let running = super::start(Inputs {
            file: Some(file),
            env: env(),
            fetched: Fetched::default(),
            flags: Flags {
                upstreams: vec![format!("http://{}", service.addr())],
                listen: Some(free_port(TRAFFIC_PORT).to_string()),
                console: Some(free_port(CONSOLE_PORT).to_string()),
                data: Some(dir.path.join("data")),
            },
        })
        .await?;
        let clients = Clients::start(ClientsConfig {
            gateway: running.traffic(),
            seed: SEED,
            rate: options.rate,
        })
        .context("failed to start the clients")?;

        let addresses = screen::Addresses {
            traffic: running.traffic(),
            console: running.console(),
            service: service.addr(),
        };
        let ended = end(options.duration);
        if options.json {
            ended.await;
        } else {
            let live = running.live();
            tokio::select! {
                () = screen::show(live, addresses, std::io::stdout().is_terminal()) => {}
                () = ended => {}
            }
        }
        let clients = clients.stop().await;
        let live = running.settled().await;
        running.stop().await;
        service.shutdown().await;
        if options.json {
            let summary = Summary { live: &live, clients };
            println!("{}", serde_json::to_string_pretty(&summary).context("to write JSON")?);
        } else {
            screen::last_words(&live);
        }
        Ok(())
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
