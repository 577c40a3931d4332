//! A client that sends exactly the bytes it is given.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Long enough for a loaded machine; no test asserts on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that came back on a connection.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) text: String,
    /// The gateway closed the connection.
    pub(crate) closed: bool,
}

impl Reply {
    /// The status of each response, in order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let starts =
            self.text.match_indices("HTTP/1.1 ").chain(self.text.match_indices("HTTP/1.0 "));
        let mut found: Vec<(usize, u16)> = starts
            .filter_map(|(at, _)| Some((at, self.text.get(at + 9..at + 12)?.parse().ok()?)))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, status)| status).collect()
    }

    /// The code of the last problem in it.
    pub(crate) fn code(&self) -> Option<&str> {
        let (_, rest) = self.text.rsplit_once("\"code\":\"")?;
        rest.split('"').next()
    }
}

/// Sends `bytes` in one go and reads until the gateway closes or has sent `responses` whole
/// responses with a Content-Length.
pub(crate) async fn exchange(addr: SocketAddr, bytes: &[u8], responses: usize) -> Reply {
    let mut stream = TcpStream::connect(addr).await.expect("the gateway listens");
    // A gateway that refuses early may close before it has read everything.
    let sent = stream.write_all(bytes).await;
    drop(sent);
    read_replies(&mut stream, responses).await
}

/// Reads until the other side closes or `responses` whole responses are there.
pub(crate) async fn read_replies(stream: &mut (impl AsyncRead + Unpin), responses: usize) -> Reply {
    let mut read = Vec::new();
    let mut piece = [0; 16 << 10];
    let closed = loop {
        if responses > 0 && whole_responses(&read) >= responses {
            break false;
        }
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await;
        match count.expect("the gateway answers or closes") {
            Ok(0) | Err(_) => break true,
            Ok(count) => read.extend_from_slice(&piece[..count]),
        }
    };
    Reply { text: String::from_utf8_lossy(&read).into_owned(), closed }
}

fn whole_responses(read: &[u8]) -> usize {
    let text = String::from_utf8_lossy(read);
    let mut rest: &str = &text;
    let mut count = 0;
    while let Some((head, behind)) = rest.split_once("\r\n\r\n") {
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())?.ok()
        });
        let Some(behind) = behind.get(length.unwrap_or(0)..) else { break };
        rest = behind;
        // 100 Continue is not the answer yet.
        count += usize::from(!head.starts_with("HTTP/1.1 1"));
    }
    count
}
