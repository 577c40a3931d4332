//! A redis-server of its own for a test, on a port that was free, in a folder that goes away.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use seaworthy_store::fleet::RedisUrl;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Another process can take a port between two looks at it.
const TRIES: usize = 5;

pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(TempDir::new().unwrap(), |port| vec!["--port".to_owned(), port.to_string()])
            .await
    }

    /// `arguments` are those of a port; files that they name are in `folder`.
    pub(crate) async fn with(folder: TempDir, arguments: impl Fn(u16) -> Vec<String>) -> Self {
        for _ in 0..TRIES {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let arguments = arguments(port);
            if let Some(child) = spawn(&folder, &arguments).await {
                return Self { child, port, folder, arguments };
            }
        }
        panic!("redis-server does not start");
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> RedisUrl {
        url(self.port)
    }

    pub(crate) fn kill(&mut self) {
        // It can have ended already.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }

    /// Starts it again after [`Self::kill`], as empty as it was at first.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.folder, &self.arguments).await.expect("the port is still free");
    }

    /// From here on it accepts and never answers.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) async fn ask(&self, command: &[&[u8]]) -> redis::Value {
        let url = format!("redis://127.0.0.1:{}/?protocol=resp3", self.port);
        let client = redis::Client::open(url).unwrap();
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(crate::PATIENCE))
            .set_response_timeout(Some(crate::PATIENCE));
        let connected = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connected.await.unwrap();
        let mut asked = redis::Cmd::new();
        for part in command {
            asked.arg(*part);
        }
        asked.query_async(&mut connection).await.unwrap()
    }

    /// What it has for a rule.
    pub(crate) async fn mode_of(&self, rule: &str) -> Option<String> {
        match self.ask(&[b"HGET", crate::MODES.as_bytes(), rule.as_bytes()]).await {
            redis::Value::BulkString(text) => Some(String::from_utf8(text).unwrap()),
            redis::Value::Nil => None,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn url(port: u16) -> RedisUrl {
    format!("redis://127.0.0.1:{port}").parse().unwrap()
}

/// Returns once it takes connections; `None` where it has ended instead.
async fn spawn(folder: &TempDir, arguments: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed by `scripts/packages.sh redis-server`");
    let lines = BufReader::new(child.stdout.take().expect("it was asked for"));
    let (ready, is_ready) = oneshot::channel();
    // Reads on after that, since a full pipe would stop the server.
    std::thread::spawn(move || {
        let mut ready = Some(ready);
        for line in lines.lines().map_while(Result::ok) {
            if line.contains("Ready to accept connections")
                && let Some(ready) = ready.take()
            {
                ready.send(()).expect("it is waited for");
            }
        }
    });
    if is_ready.await.is_ok() {
        return Some(child);
    }
    child.wait().unwrap();
    None
}
