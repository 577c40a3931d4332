//! A service that answers a request for `/held…` only once the test lets it, and every other at
//! once.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::client::PATIENCE;

pub(crate) struct Held {
    pub(crate) addr: SocketAddr,
    answers: Arc<Semaphore>,
    arrived: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Held {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let answers = Arc::new(Semaphore::new(0));
        let (count, arrived) = watch::channel(0);
        let count = Arc::new(count);
        let waiting = Arc::clone(&answers);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&count), Arc::clone(&waiting)));
            }
        });
        Self { addr, answers, arrived, task }
    }

    /// Waits until `count` requests have been held since the start.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrived = self.arrived.clone();
        let reached = tokio::time::timeout(PATIENCE, arrived.wait_for(|seen| *seen >= count));
        reached.await.expect("the requests reach the service").expect("the service runs");
    }

    /// Answers `count` of those that are held, or will be.
    pub(crate) fn release(&self, count: usize) {
        self.answers.add_permits(count);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Requests have no body here.
async fn serve(mut stream: TcpStream, count: Arc<watch::Sender<usize>>, answers: Arc<Semaphore>) {
    let mut read = Vec::new();
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
        }
        let held =
            read.split(|byte| *byte == b' ').nth(1).is_some_and(|it| it.starts_with(b"/held"));
        read.clear();
        if held {
            count.send_modify(|count| *count += 1);
            // A caller that goes away takes nobody's answer with it.
            let mut byte = [0];
            tokio::select! {
                answer = answers.acquire() => answer.expect("it is never closed").forget(),
                _ = stream.read(&mut byte) => return,
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}
