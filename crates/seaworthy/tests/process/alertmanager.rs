//! A real Alertmanager, in a temporary folder, on a port that the system chooses.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::Process;
use crate::harness::client::{Reply, exchange};

/// A running Alertmanager. Dropping it ends it.
pub(crate) struct Alertmanager {
    addr: SocketAddr,
    _process: Process,
    _dir: TempDir,
}

impl Alertmanager {
    /// Starts one that posts every alert to `url`, at once, and its end within a second; with
    /// `token`, where there is one.
    pub(crate) async fn start(url: &str, token: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut webhook = json!({ "url": url });
        if let Some(token) = token {
            webhook["http_config"] = json!({ "authorization": { "credentials": token } });
        }
        let config = json!({
            "route": {
                "receiver": "seaworthy", "group_by": ["..."],
                "group_wait": "0s", "group_interval": "1s",
            },
            "receivers": [{ "name": "seaworthy", "webhook_configs": [webhook] }],
        });
        // JSON is YAML.
        let file = dir.path().join("alertmanager.yml");
        std::fs::write(&file, config.to_string()).expect("it is writable");
        // scripts/test.sh installs it.
        let mut command = Command::new("/usr/bin/prometheus-alertmanager");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", dir.path().display()))
            .args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="])
            .args(["--log.format=json"])
            .env_clear();
        let process = Process::spawn(command);
        let listening = process.logs("msg", "Listening on").await;
        let addr = listening["address"].as_str().expect("an address");
        let addr = addr.parse().expect("an address");
        Self { addr, _process: process, _dir: dir }
    }

    /// Posts alerts to it, as Prometheus does.
    pub(crate) async fn fire(&self, alerts: &Value) {
        let body = alerts.to_string();
        let request = format!(
            "POST /api/v2/alerts HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        let reply: Reply = exchange(self.addr, request.as_bytes(), 0).await;
        assert_eq!(reply.statuses(), [200], "{}", reply.text);
    }
}
