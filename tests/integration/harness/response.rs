//! One HTTP/1 response, taken apart.

use std::net::SocketAddr;

use serde_json::Value;

use super::client::{Reply, exchange};

#[derive(Debug)]
pub(crate) struct Response {
    /// Names in lower case, in the order in which they came.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Response {
    /// The only response in `reply`.
    pub(crate) fn only(reply: &Reply) -> Self {
        let statuses = reply.statuses();
        assert_eq!(statuses.len(), 1, "one response: {}", reply.text);
        let (head, body) = reply.text.split_once("\r\n\r\n").expect("a whole head");
        let fields = head.split("\r\n").skip(1).map(|line| {
            let (name, value) = line.split_once(':').expect("a name and a value");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self { fields: fields.collect(), status: statuses[0], body: body.to_owned() }
    }

    /// The value of a field that is there once or not at all.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// GET with nothing but a host.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    Response::only(&exchange(addr, request.as_bytes(), 1).await)
}
