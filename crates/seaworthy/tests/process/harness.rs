//! Starts the binary, reads what it says, and ends it.

// Used by the tests of the other package, and in part here.
#[allow(dead_code, reason = "the other package's tests use the rest")]
#[path = "../../../../tests/integration/harness/ask.rs"]
pub(crate) mod ask;
#[allow(dead_code, reason = "the other package's tests use the rest")]
#[path = "../../../../tests/integration/harness/client.rs"]
pub(crate) mod client;
#[allow(dead_code, reason = "the other package's tests use the rest")]
#[path = "../../../../tests/integration/harness/tls.rs"]
pub(crate) mod tls;

use std::io::{BufRead as _, BufReader, Read, Result as IoResult};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::timeout;

use self::client::PATIENCE;

/// `seaworthy` in `dir`, with an environment of its own.
pub(crate) fn seaworthy(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seaworthy"));
    command.current_dir(dir).args(args).env_clear().stdin(Stdio::null());
    command
}

/// `seaworthy serve` on ports that the system chooses, in `dir`.
pub(crate) fn serve(dir: &Path, upstream: SocketAddr) -> Command {
    let upstream = format!("http://{upstream}");
    let args = ["serve", "--listen", "127.0.0.1:0", "--console", "127.0.0.1:0", "--upstream"];
    seaworthy(dir, &[&args[..], &[&upstream]].concat())
}

/// Reads what a process says, unless a test keeps it from that.
struct Reader {
    stderr: ChildStderr,
    reading: Arc<Mutex<()>>,
}

impl Read for Reader {
    fn read(&mut self, piece: &mut [u8]) -> IoResult<usize> {
        let count = self.stderr.read(piece);
        drop(self.reading.blocking_lock());
        count
    }
}

/// A process that a test started. Dropping it ends it.
pub(crate) struct Process {
    child: Child,
    /// What it has said on standard error; the sender is gone when the process is.
    said: watch::Receiver<Vec<String>>,
    /// Held for each piece that is read.
    reading: Arc<Mutex<()>>,
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("it is piped");
        let (say, said) = watch::channel(Vec::new());
        let reading = Arc::new(Mutex::new(()));
        let stderr = Reader { stderr, reading: Arc::clone(&reading) };
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let line = line.expect("the log is text");
                say.send_modify(|lines| lines.push(line));
            }
        });
        Self { child, said, reading }
    }

    /// Nobody reads what it says until the guard is dropped: whoever writes to the log once the pipe
    /// is full waits for that.
    pub(crate) async fn unread(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.reading).lock_owned().await
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the signal `name`, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        let sent = Command::new("/bin/sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(sent.success(), "{kill}");
    }

    /// Waits for the line of the log with this `message`.
    pub(crate) async fn says(&self, message: &str) -> Value {
        self.logs("message", message).await
    }

    /// Waits for the line of the log that has these `words` in `key`.
    pub(crate) async fn logs(&self, key: &str, words: &str) -> Value {
        let log = |line: &String| serde_json::from_str::<Value>(line).ok();
        let is_it = |line: &Value| line[key].as_str().is_some_and(|said| said.contains(words));
        let mut said = self.said.clone();
        let waited = said.wait_for(|lines| lines.iter().filter_map(log).any(|line| is_it(&line)));
        let lines = match timeout(PATIENCE, waited).await.expect("it is said in time") {
            Ok(lines) => lines.clone(),
            Err(_) => panic!("it ended without saying {words:?}: {:?}", self.said.borrow()),
        };
        lines.iter().filter_map(log).find(is_it).expect("it was there")
    }

    /// Waits for the end: the exit code (`None` after a signal), and all that was said.
    pub(crate) async fn ended(&mut self) -> (Option<i32>, Vec<String>) {
        let mut said = self.said.clone();
        let end = async { while said.changed().await.is_ok() {} };
        timeout(PATIENCE, end).await.expect("the process ends in time");
        let status = self.child.wait().expect("it was started here");
        (status.code(), self.said.borrow().clone())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A gateway that serves.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) traffic: SocketAddr,
    pub(crate) console: SocketAddr,
}

impl Gateway {
    pub(crate) async fn start(command: Command) -> Self {
        let process = Process::spawn(command);
        let serving = process.says("serving").await;
        let addr = |name: &str| {
            let text = serving[name].as_str().expect("an address");
            text.parse().expect("an address")
        };
        Self { traffic: addr("traffic"), console: addr("console"), process }
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) {
        self.process.signal("TERM");
        let (code, said) = self.process.ended().await;
        assert_eq!(code, Some(0), "{said:?}");
    }

    /// Ends it as a power cut would.
    pub(crate) async fn kill(mut self) {
        self.process.signal("KILL");
        assert_eq!(self.process.ended().await.0, None);
    }
}
