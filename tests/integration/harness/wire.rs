//! One end of a connection in the hands of the test: it reads and writes message by message, as
//! a client or as the service, and ends the connection as the test says.
//!
//! Bytes are shown as text of one character each (ISO 8859-1), so that none is lost.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::client::PATIENCE;

/// A service of which the test plays every connection itself.
pub(crate) struct Service {
    pub(crate) addr: SocketAddr,
    listener: TcpListener,
}

impl Service {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self { addr: listener.local_addr().expect("it is bound"), listener }
    }

    /// The next connection that the gateway opens.
    pub(crate) async fn accept(&self) -> Wire {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let (stream, _) = accepted.expect("the gateway connects").expect("accepting works");
        Wire::new(stream)
    }
}

pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        // A head and a body that are written apart must not wait for each other.
        stream.set_nodelay(true).expect("it is a TCP socket");
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::new(TcpStream::connect(addr).await.expect("the gateway listens"))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("the other side reads").expect("the connection is open");
    }

    /// Sends what the other side still takes: it may have closed the connection.
    pub(crate) async fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        drop(sent.expect("the other side reads or closes"));
    }

    /// Writes pieces of `piece` until nothing was taken for `pause`, or `total` bytes were.
    /// Returns how many were.
    pub(crate) async fn send_until_blocked(
        &mut self,
        piece: &[u8],
        total: usize,
        pause: Duration,
    ) -> usize {
        let mut sent = 0;
        while sent < total {
            let left = &piece[sent % piece.len()..];
            let left = &left[..left.len().min(total - sent)];
            match tokio::time::timeout(pause, self.stream.write(left)).await {
                Ok(count) => sent += count.expect("the connection is open"),
                Err(_) => break,
            }
        }
        sent
    }

    /// The next head, with its empty line.
    pub(crate) async fn head(&mut self) -> String {
        self.has_head().await;
        let end = self.read.windows(4).position(|window| window == b"\r\n\r\n");
        let head = self.take(end.expect("it is there") + 4);
        head.into_iter().map(char::from).collect()
    }

    /// Waits until the next head is there, without taking it.
    pub(crate) async fn has_head(&mut self) {
        while !self.read.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(self.fill().await, "closed inside a head: {:?}", self.text());
        }
    }

    /// The next `count` bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.fill().await, "closed at {} of {count} bytes", self.read.len());
        }
        self.take(count)
    }

    /// A chunked body: its content, and the lines of its trailers.
    pub(crate) async fn chunked(&mut self) -> (Vec<u8>, Vec<String>) {
        let mut content = Vec::new();
        loop {
            let line = self.line().await;
            let size = usize::from_str_radix(&line, 16).expect("a chunk's size");
            if size == 0 {
                break;
            }
            content.extend(self.exactly(size).await);
            assert_eq!(self.line().await, "", "behind a chunk");
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                return (content, trailers);
            }
            trailers.push(line);
        }
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.read.windows(2).position(|window| window == b"\r\n") {
                let line = self.take(at + 2);
                return line[..at].iter().copied().map(char::from).collect();
            }
            assert!(self.fill().await, "closed inside a line: {:?}", self.text());
        }
    }

    /// A head and the body that its framing promises, of which trailers are left out.
    pub(crate) async fn message(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let body = match (field(&head, "transfer-encoding"), field(&head, "content-length")) {
            (Some("chunked"), _) => self.chunked().await.0,
            (None, Some(length)) => self.exactly(length.parse().expect("a length")).await,
            _ => Vec::new(),
        };
        (head, body)
    }

    /// Everything until the other side closes or resets the connection.
    pub(crate) async fn rest(&mut self) -> String {
        while self.fill().await {}
        self.text()
    }

    /// Waits for the end. Returns whether it was a reset, so that what came is known to be a part.
    pub(crate) async fn is_reset(&mut self) -> bool {
        loop {
            match self.try_fill().await {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Closes the sending side, and waits until the other side has closed its own.
    pub(crate) async fn close_and_wait(mut self) -> String {
        self.stream.shutdown().await.expect("it is open");
        self.rest().await
    }

    /// Ends the connection with a TCP reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("it is a TCP socket");
    }

    fn text(&self) -> String {
        self.read.iter().copied().map(char::from).collect()
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    /// Returns whether there was more. A reset is an end as well.
    async fn fill(&mut self) -> bool {
        self.try_fill().await.is_ok_and(|count| count > 0)
    }

    async fn try_fill(&mut self) -> std::io::Result<usize> {
        self.read.reserve(64 << 10);
        let count = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        count.expect("the gateway answers or closes")
    }
}

/// The value of a head's only field of this name.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let found = fields(head, name);
    assert!(found.len() < 2, "{name} is there more than once: {head}");
    found.first().copied()
}

/// The values of all fields of this name, in order.
pub(crate) fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim_matches(' '))
        .collect()
}

/// The status of a response's head.
pub(crate) fn status(head: &str) -> u16 {
    let digits = head.split(' ').nth(1).expect("a status line");
    digits.parse().unwrap_or_else(|_| panic!("no status: {head}"))
}
