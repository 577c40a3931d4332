//! A redis-server of its own for a test, on a port that was free, in a folder that goes away.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::harness::client::PATIENCE;
use crate::lifecycle::folder;

/// Another process can take a port between two looks at it.
const TRIES: usize = 5;

pub(crate) struct Redis {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let folder = folder();
        for _ in 0..TRIES {
            let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let addr = free.local_addr().expect("it is bound");
            drop(free);
            if let Some(child) = spawn(&folder, addr.port()).await {
                return Self { child, addr, folder };
            }
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    pub(crate) fn kill(&mut self) {
        // It can have ended already.
        drop(self.child.kill());
        self.child.wait().expect("it was started here");
    }

    /// Starts it again after [`Self::kill`], as empty as it was at first.
    pub(crate) async fn restart(&mut self) {
        let port = self.addr.port();
        self.child = spawn(&self.folder, port).await.expect("the port is still free");
    }

    /// The first line of the answer to a command without spaces in its parts.
    pub(crate) async fn ask(&self, command: &str) -> String {
        let answer = async {
            let mut stream = TcpStream::connect(self.addr).await?;
            stream.write_all(format!("{command}\r\n").as_bytes()).await?;
            let mut line = String::new();
            tokio::io::BufReader::new(stream).read_line(&mut line).await?;
            std::io::Result::Ok(line.trim_end().to_owned())
        };
        timeout(PATIENCE, answer).await.expect("it answers in time").expect("it answers")
    }
}

/// Returns once it takes connections; `None` where it has ended instead.
async fn spawn(folder: &TempDir, port: u16) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder.path())
        .args(["--port", &port.to_string()])
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
    child.wait().expect("it was started here");
    None
}
