//! A request that is like every other but for what a test says of it, and what came back.

use std::net::SocketAddr;

use super::client::{Reply, exchange};

/// The name under which a request asks for the service where its fields name no other.
pub(crate) const HOST: &str = "shop.example";

/// `line` is a method and a target, a field is `Name: value`. A body is declared by its length.
pub(crate) fn request(line: &str, fields: &[&str], body: &str) -> String {
    let mut lines = vec![format!("{line} HTTP/1.1")];
    if !fields.iter().any(|field| field.starts_with("Host:")) {
        lines.push(format!("Host: {HOST}"));
    }
    lines.extend(fields.iter().map(|field| (*field).to_owned()));
    if !body.is_empty() {
        lines.push(format!("Content-Length: {}", body.len()));
    }
    lines.join("\r\n") + "\r\n\r\n" + body
}

/// Sends one request on a connection of its own and reads the answer to it.
pub(crate) async fn call(addr: SocketAddr, line: &str, fields: &[&str], body: &str) -> Reply {
    exchange(addr, request(line, fields, body).as_bytes(), 1).await
}

impl Reply {
    /// The status of the only response.
    pub(crate) fn status(&self) -> u16 {
        match self.statuses()[..] {
            [status] => status,
            ref other => panic!("one response, not {other:?}: {}", self.text),
        }
    }

    /// Each value of a field of the first response.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let (head, _) = self.text.split_once("\r\n\r\n").expect("a whole head");
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The value of a field that is there once; `None` where it is not there.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        match self.fields(name)[..] {
            [] => None,
            [value] => Some(value),
            ref values => panic!("{name} is there more than once: {values:?}"),
        }
    }

    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").expect("a whole head").1
    }
}
