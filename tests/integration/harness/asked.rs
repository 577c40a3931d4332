//! One connection as the service sees it, in the test's own hands.

use std::io::Read as _;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::client::PATIENCE;

/// A service that does nothing by itself.
pub(crate) struct Idle(TcpListener);

impl Idle {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }

    /// The next connection of the gateway.
    pub(crate) async fn asked(&self) -> Asked {
        let accepted = tokio::time::timeout(PATIENCE, self.0.accept()).await;
        let (stream, _) = accepted.expect("the gateway connects").expect("the socket is whole");
        Asked { stream, read: Vec::new() }
    }
}

pub(crate) struct Asked {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Asked {
    /// Reads until what has come so far ends with `end`.
    pub(crate) async fn read_to(&mut self, end: &str) -> String {
        while !self.read.ends_with(end.as_bytes()) {
            let count = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            let count = count.expect("the gateway goes on").expect("the connection is whole");
            assert!(count > 0, "it was closed after {:?}", String::from_utf8_lossy(&self.read));
        }
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Reads until the gateway closes the connection. Returns everything that came on it.
    pub(crate) async fn read_to_close(mut self) -> String {
        loop {
            let count = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            match count.expect("the gateway goes on or closes") {
                Ok(1..) => {}
                // A reset is a close like any other.
                Ok(0) | Err(_) => return String::from_utf8_lossy(&self.read).into_owned(),
            }
        }
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("the connection is whole");
    }

    /// Whether the gateway has closed the connection by now. On one machine a close is there for
    /// the other side at once, so this tells what came first.
    pub(crate) fn has_been_closed(self) -> bool {
        let mut stream = self.stream.into_std().expect("a socket");
        let mut piece = [0; 16 << 10];
        loop {
            match stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }
}
