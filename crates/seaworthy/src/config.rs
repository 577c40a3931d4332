//! The config: file, environment and flags, read whole and validated whole before a port opens.
//!
//! [`load`] gives a [`Config`] that is right, or [`Faults`] that name every fault with its place
//! and key. The layers are, from below: the code's defaults, the file (or the built-in one,
//! [`DEFAULT_TOML`]), environment variables, flags. Nothing here is kept: `app` takes a config
//! apart once, and keeps the [`Inputs`] to load the next one.

mod addr;
mod alerts;
mod announce;
mod check;
mod console;
mod consumers;
mod env;
mod fault;
mod files;
mod flags;
mod learn;
mod listen;
mod log;
mod modes;
mod origin;
mod protect;
mod read;
mod route;
mod service;
mod sources;
mod stamp;
mod store;
mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path as FilePath, PathBuf};

use seaworthy_policy::alert::AlertsConfig;
use seaworthy_policy::client::{ClientConfig, ClientResolver};
use seaworthy_policy::consumer::ConsumersConfig;
use seaworthy_policy::gates::GatesConfig;
use seaworthy_policy::registry::Protect;
use seaworthy_policy::rollout::RolloutConfig;
use seaworthy_policy::source::Sources;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

pub use self::announce::Announce;
pub use self::console::Console;
pub(crate) use self::fault::nearest;
pub use self::fault::{Fault, Faults};
pub use self::flags::Flags;
pub use self::learn::Learn;
pub use self::listen::{Listen, TlsFiles};
pub use self::log::{Log, LogFormat};
pub use self::modes::Modes;
pub use self::origin::{Origin, Origins, Setting};
pub use self::route::Route;
pub use self::service::{
    Ejection, Health, HostPolicy, Protocol, Service, UpstreamUrl, UpstreamUrlError,
};
pub(crate) use self::sources::read_source;
pub use self::stamp::Stamps;
pub use self::store::Store;
pub use self::tree::Place;

use self::check::Checks;
use self::fault::{BUILT_IN, Report};
use self::tree::{Node, Path};

/// The commented default: what is in force without a file, and what `init` writes.
pub const DEFAULT_TOML: &str = include_str!("../default-config.toml");

/// The file that is read where none is named.
pub const FILE_NAME: &str = "seaworthy.toml";

/// A config file has a few kilobytes; 512 routes with every key have less than this.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What each URL has that could be fetched.
pub type Fetched = BTreeMap<String, Vec<u8>>;

/// Everything that a config is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The file; `None` for the built-in default. [`find_file`] says which one there is.
    pub file: Option<PathBuf>,
    /// The environment, read once at start. Names that do not start with `SEAWORTHY_` are
    /// passed over.
    pub env: Vec<(String, String)>,
    pub flags: Flags,
    /// What has been fetched of the URLs that the config names.
    pub fetched: Fetched,
}

impl Inputs {
    /// The file to watch; none where the built-in default is in force.
    pub fn path(&self) -> Option<PathBuf> {
        self.file.clone()
    }

    /// The environment variable `name`, where it is set.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A valid config.
#[derive(Clone, Debug)]
pub struct Config {
    pub service: Service,
    pub listen: Listen,
    pub console: Console,
    pub store: Store,
    pub modes: Modes,
    pub client: ClientConfig,
    pub consumers: ConsumersConfig,
    /// The service's own settings of every protection.
    pub protect: Protect,
    pub routes: Vec<Route>,
    pub rollout: RolloutConfig,
    pub gates: GatesConfig,
    pub announce: Announce,
    pub learn: Learn,
    pub alerts: AlertsConfig,
    pub log: Log,
    /// What the settings name: those of the protections and of the alerts, the password of Redis and
    /// the files of TLS.
    pub sources: Sources,
    /// The files that it was read from, as they were then.
    pub stamps: Stamps,
    /// Where each setting was written.
    pub origins: Origins,
}

/// All sections but the routes, as they are written.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Sections {
    service: Service,
    listen: Listen,
    console: Console,
    store: Store,
    modes: Modes,
    client: ClientConfig,
    consumers: ConsumersConfig,
    protect: Protect,
    #[serde(skip_serializing)]
    route: IgnoredAny,
    rollout: RolloutConfig,
    gates: GatesConfig,
    announce: Announce,
    learn: Learn,
    alerts: AlertsConfig,
    log: Log,
}

/// [`FILE_NAME`] in the working directory, where there is one.
pub fn find_file() -> Option<PathBuf> {
    let path = PathBuf::from(FILE_NAME);
    path.exists().then_some(path)
}

/// Loads a config to serve with: at least one upstream is required.
pub fn load(inputs: &Inputs) -> Result<Config, Faults> {
    load_for(inputs, Purpose::Serve)
}

/// Loads a config to look at: what `--upstream` will say later may be missing.
pub fn inspect(inputs: &Inputs) -> Result<Config, Faults> {
    load_for(inputs, Purpose::Inspect)
}

/// Loads a config to find the gateway by, or its data: what the settings name is neither read nor
/// missed. The gateway's secrets are not those of everybody who may read its log.
pub fn locate(inputs: &Inputs) -> Result<Config, Faults> {
    load_for(inputs, Purpose::Locate)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Serve,
    Inspect,
    Locate,
}

fn load_for(inputs: &Inputs, purpose: Purpose) -> Result<Config, Faults> {
    let name = inputs.file.as_ref().map_or(BUILT_IN.to_owned(), |path| path.display().to_string());
    let mut stamps = Stamps::default();
    if let Some(path) = &inputs.file {
        stamps.add(path);
    }
    let text = match &inputs.file {
        Some(path) => read_file(path).map_err(|why| Faults::of_file(name.clone(), why))?,
        None => DEFAULT_TOML.to_owned(),
    };
    let mut report = Report::default();
    let mut tree = tree::parse(&text, &mut report);
    env::lay_over(&mut tree, &inputs.env, &mut report);
    flags::lay_over(&mut tree, &inputs.flags);

    let sections: Sections = read::read(&tree, &Path::default(), &mut report);
    let routes = route::read_all(&tree, &mut report);
    let sources = if purpose == Purpose::Locate {
        check(&sections, None, &tree, &mut report);
        Sources::default()
    } else {
        let protects = routes.list.iter().map(|route| &route.protect).chain([&sections.protect]);
        let others = sections.alerts.sources().chain(&sections.modes.redis_password);
        let mut sources = sources::read_all(protects, others, inputs, &mut stamps);
        sources::add_files(
            &mut sources,
            files::named(&sections.listen, &sections.service, &sections.modes),
        );
        check(&sections, Some(&sources), &tree, &mut report);
        route::check(&routes, &sections.protect, &sources, &mut report);
        sources
    };
    if purpose == Purpose::Serve && sections.service.upstreams.is_empty() {
        let mut checks = Checks { tree: &tree, section: Path::of("service"), report: &mut report };
        checks.require(
            tree.get("service").and_then(|service| service.get("upstreams")).is_some_and(has_items),
            "upstreams",
            "expected at least one, such as [\"http://127.0.0.1:3000\"]; or use --upstream",
        );
    }
    report.into_faults(name)?;

    let origins = Origins::collect(&tree, &routes.trees, inputs.file.as_deref());
    let Sections {
        service,
        listen,
        console,
        store,
        modes,
        client,
        consumers,
        protect,
        route: _,
        rollout,
        gates,
        announce,
        learn,
        alerts,
        log,
    } = sections;
    let routes = routes.list;
    Ok(Config {
        service,
        listen,
        console,
        store,
        modes,
        client,
        consumers,
        protect,
        routes,
        rollout,
        gates,
        announce,
        learn,
        alerts,
        log,
        sources,
        stamps,
        origins,
    })
}

/// Whether a list of upstreams had items, which then were faulty and are told of as such.
fn has_items(node: &Node) -> bool {
    match &node.value {
        tree::Value::List(items) => !items.is_empty(),
        tree::Value::Raw(text) => !text.trim().is_empty(),
        _ => true,
    }
}

/// Asks every section, protection and named file whether it makes sense; without `sources` only
/// those that need nothing but themselves.
fn check(sections: &Sections, sources: Option<&Sources>, tree: &Node, report: &mut Report) {
    if report.is_torn() {
        // What is missing may be in the part that could not be read.
        return;
    }
    let mut checks = Checks { tree, section: Path::of("service"), report };
    sections.service.check(&mut checks);
    if sources.is_some() {
        files::check_service(&sections.service, &mut checks);
    }
    checks.section = Path::of("listen");
    sections.listen.check(&mut checks);
    if sources.is_some() {
        files::check_listen(&sections.listen, &mut checks);
    }
    checks.section = Path::of("console");
    sections.console.check(&mut checks);
    checks.section = Path::of("store");
    sections.store.check(&mut checks);
    checks.section = Path::of("rollout");
    for fault in sections.rollout.faults() {
        checks.require(false, fault.key, fault.message);
    }
    checks.section = Path::of("gates");
    for fault in sections.gates.faults() {
        checks.require(false, fault.key, fault.to_string());
    }
    if let Some(sources) = sources {
        checks.section = Path::of("modes");
        sections.modes.check(&sections.service, sources, &mut checks);
        files::check_modes(&sections.modes, &mut checks);
    }
    checks.section = Path::of("announce");
    sections.announce.check(&mut checks);
    checks.section = Path::of("learn");
    sections.learn.check(&mut checks);
    if let Some(sources) = sources {
        checks.section = Path::of("alerts");
        alerts::check(&sections.alerts, sources, &mut checks);
    }
    checks.section = Path::of("log");
    sections.log.check(&mut checks);
    if let Err(fault) = ClientResolver::new(&sections.client, &[0; 16]) {
        let (key, message) = fault.split_once(": ").unwrap_or(("client", &fault));
        checks.fault(&Path::of(key), message);
    }
    checks.section = Path::of("consumers");
    consumers::check(&sections.consumers, &mut checks);
    if let Some(sources) = sources {
        protect::check(&sections.protect, sources, tree, report);
    }
}

/// Reads the file, or says in words why not.
fn read_file(path: &FilePath) -> Result<String, String> {
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such file; `seaworthy init` writes one with every default".to_owned()
        }
        _ => format!("cannot be read: {error}"),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("has more than {} MiB, which no config has", FILE_BYTES_MAX >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        format!("is not UTF-8: byte {} is not text", error.utf8_error().valid_up_to() + 1)
    })
}

#[cfg(test)]
mod tests;
