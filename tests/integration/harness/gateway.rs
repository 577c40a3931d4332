//! The gateway under test, started in this process with its console and store.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use seaworthy::app::{self, LiveView, Running};
use seaworthy::config::{Fetched, Flags, Inputs};
use tempfile::TempDir;

/// What the variable `WEBHOOK_SECRET` of every gateway has.
const WEBHOOK_SECRET: &str = "a webhook secret for the tests, 32+";

/// What `API_KEYS` has: the key "sw_agent" of an agent of acme.
const API_KEYS: &str = r#"
[[key]]
name = "agent"
sha256 = "945a0d92d9c550b998384b510a06b4009fa20e42a6249eedde2352dd58b931dc"
roles = ["agent"]
tenant = "acme"
"#;

/// What `AUTHZ` has: a matrix.
const AUTHZ: &str = r#"
roles = ["anonymous", "agent", "admin"]
[[row]]
route = "GET /healthz"
allow = ["anonymous"]
[[row]]
route = "GET /{*rest}"
allow = ["agent"]
[[row]]
route = "DELETE /{*rest}"
allow = ["admin"]
[tenant]
isolation = true
"#;

/// What `OPENAPI` has: a document of two operations.
const OPENAPI: &str = r#"
openapi: 3.1.0
paths:
  /notes:
    get: {}
    post:
      requestBody:
        content:
          application/json: { schema: { required: [text], properties: { text: { maxLength: 3 } } } }
"#;

/// What `CRS` has: a score that two words reach together.
const CRS: &str = r#"
SecAction "id:1,phase:1,pass,setvar:tx.score=0"
SecRule ARGS "@pm drop union" "id:100,phase:2,pass,msg:'A word of SQL',setvar:tx.score=+3"
SecRule ARGS "@rx (?i)\btable\b" "id:101,phase:2,pass,msg:'Another one',setvar:tx.score=+3"
SecRule TX:score "@ge 5" "id:900,phase:2,deny,msg:'Score reached'"
"#;

/// A running gateway. Dropping it ends it.
pub(crate) struct Gateway {
    running: Running,
    dir: TempDir,
}

impl Gateway {
    /// Starts a gateway before `upstream` with the config `toml`, which needs no addresses.
    pub(crate) async fn start(upstream: SocketAddr, toml: &str) -> Self {
        Self::start_before(&[upstream], toml).await
    }

    pub(crate) async fn start_before(upstreams: &[SocketAddr], toml: &str) -> Self {
        Self::try_start_at(urls(upstreams), toml).await.expect("the gateway starts")
    }

    /// Starts a gateway before the upstreams at `urls`, or says why it did not start.
    pub(crate) async fn try_start_at(urls: Vec<String>, toml: &str) -> Result<Self, String> {
        let (dir, inputs) = prepare(urls, "127.0.0.1:0", toml);
        let running = app::start(inputs).await.map_err(|error| error.to_string())?;
        Ok(Self { running, dir })
    }

    /// Starts a gateway with a key of the installation that the test knows: 64 hex digits.
    pub(crate) async fn start_with_key(upstream: SocketAddr, toml: &str, key: &str) -> Self {
        let (dir, mut inputs) = prepare(urls(&[upstream]), "127.0.0.1:0", toml);
        inputs.env.push(("SEAWORTHY_KEY".to_owned(), key.to_owned()));
        let running = app::start(inputs).await.expect("the gateway starts");
        Self { running, dir }
    }

    /// Starts a gateway with these further variables.
    pub(crate) async fn start_with_env(
        upstream: SocketAddr,
        toml: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let (dir, mut inputs) = prepare(urls(&[upstream]), "127.0.0.1:0", toml);
        inputs.env.extend(env);
        let running = app::start(inputs).await.expect("the gateway starts");
        Self { running, dir }
    }

    /// Starts a gateway on `listen`, or says why it did not start.
    pub(crate) async fn try_start(
        upstream: SocketAddr,
        listen: SocketAddr,
    ) -> Result<Self, String> {
        let (dir, inputs) = prepare(urls(&[upstream]), &listen.to_string(), "");
        let running = app::start(inputs).await.map_err(|error| error.to_string())?;
        Ok(Self { running, dir })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.traffic()
    }

    pub(crate) fn console(&self) -> SocketAddr {
        self.running.console()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the pages show, once it has counted everything up to now.
    pub(crate) async fn settled(&self) -> Arc<LiveView> {
        self.running.settled().await
    }

    pub(crate) async fn reload(&self) -> Result<(), String> {
        self.running.reload().await
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }

    /// The folder with the config and the data that it leaves.
    pub(crate) async fn stop_and_keep(self) -> TempDir {
        self.running.stop().await;
        self.dir
    }
}

fn urls(upstreams: &[SocketAddr]) -> Vec<String> {
    upstreams.iter().map(|addr| format!("http://{addr}")).collect()
}

fn prepare(upstreams: Vec<String>, listen: &str, toml: &str) -> (TempDir, Inputs) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("seaworthy.toml"), toml).expect("it is writable");
    let inputs = Inputs {
        file: Some(dir.path().join("seaworthy.toml")),
        env: [
            ("SEAWORTHY__LOG__LEVEL", "error"),
            ("WEBHOOK_SECRET", WEBHOOK_SECRET),
            ("API_KEYS", API_KEYS),
            ("AUTHZ", AUTHZ),
            ("OPENAPI", OPENAPI),
            ("CRS", CRS),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        fetched: Fetched::default(),
        flags: Flags {
            upstreams,
            listen: Some(listen.to_owned()),
            console: Some("127.0.0.1:0".to_owned()),
            data: Some(dir.path().join("data")),
        },
    };
    (dir, inputs)
}
