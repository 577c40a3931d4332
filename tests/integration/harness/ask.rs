//! Questions to a gateway and its console, and waiting for an answer to become right.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::client::{PATIENCE, Reply, exchange};

/// `GET path`, with further header lines where a test needs some.
pub(crate) async fn get(addr: SocketAddr, path: &str, lines: &[&str]) -> Reply {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    for line in lines {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    exchange(addr, request.as_bytes(), 0).await
}

/// What is behind the head, with chunks joined.
pub(crate) fn body(reply: &Reply) -> String {
    let (head, body) = reply.text.split_once("\r\n\r\n").expect("a whole response");
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut joined, mut rest) = (String::new(), body);
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        joined.push_str(behind.get(..size).expect("a whole chunk"));
        rest = behind.get(size + 2..).unwrap_or_default();
    }
    joined
}

/// The answer of a JSON endpoint of the console.
pub(crate) async fn json(addr: SocketAddr, path: &str) -> Value {
    let reply = get(addr, path, &[]).await;
    assert_eq!(reply.statuses(), [200], "{path}: {}", reply.text);
    serde_json::from_str(&body(&reply)).unwrap_or_else(|error| panic!("{error}: {}", reply.text))
}

/// The value of the series `name`, labels included, as `/metrics` has it; `None` where it has not.
pub(crate) async fn metric(console: SocketAddr, series: &str) -> Option<f64> {
    value(&body(&get(console, "/metrics", &[]).await), series)
}

/// The same in the text of a scrape.
pub(crate) fn value(exposition: &str, series: &str) -> Option<f64> {
    let line = exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().expect("a sample's value is a number"))
}

/// Asks until there is an answer; `what` says what was waited for in vain.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
