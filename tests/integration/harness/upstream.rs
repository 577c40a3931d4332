//! A service that records every byte it receives and answers what the test tells it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the service does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes, then the next request.
    Bytes(Vec<u8>),
    /// These bytes, then the connection is closed.
    Close(Vec<u8>),
    /// Nothing, ever.
    Silence,
}

impl Answer {
    pub(crate) fn ok(body: &str) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        Self::Bytes(head.into_bytes())
    }
}

/// Answers the request with this text, the n-th of the service.
type Script = dyn Fn(&str, usize) -> Answer + Send + Sync;

pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// A service that answers every request with 200 and `ok`.
    pub(crate) async fn ok() -> Self {
        Self::start(|_, _| Answer::ok("ok")).await
    }

    pub(crate) async fn start(
        script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let received = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let log = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { addr, received, task }
    }

    /// The requests so far, whole and byte for byte, each with the part of its body that came.
    pub(crate) fn received(&self) -> Vec<String> {
        self.received.lock().expect("no test panics while it holds this").clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, log: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    loop {
        let Some(length) = read_message(&mut stream, &mut read).await else {
            if !read.is_empty() {
                note(&log, &read);
            }
            return;
        };
        let message: Vec<u8> = read.drain(..length).collect();
        let number = note(&log, &message);
        let answer = script(&String::from_utf8_lossy(&message), number);
        let written = match &answer {
            Answer::Bytes(bytes) | Answer::Close(bytes) => stream.write_all(bytes).await,
            Answer::Silence => std::future::pending().await,
        };
        if written.is_err() || matches!(answer, Answer::Close(_)) {
            return;
        }
    }
}

fn note(log: &Mutex<Vec<String>>, message: &[u8]) -> usize {
    let mut log = log.lock().expect("no test panics while it holds this");
    log.push(String::from_utf8_lossy(message).into_owned());
    log.len()
}

/// Reads until `read` starts with a whole message, and returns its length; `None` at the end.
async fn read_message(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(length) = message_length(read) {
            return Some(length);
        }
        let mut piece = [0; 16 << 10];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&piece[..count]),
        }
    }
}

fn message_length(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let body = &read[head..];
    if text.contains("transfer-encoding: chunked") {
        let end = body.windows(5).position(|window| window == b"0\r\n\r\n")?;
        return Some(head + end + 5);
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|value| value.trim().parse().ok()).unwrap_or(0);
    (body.len() >= length).then_some(head + length)
}
