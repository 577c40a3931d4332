//! How this crate's tests talk to a running service.

use std::net::SocketAddr;

use http::{Method, Request, StatusCode};
use serde_json::Value;

use crate::Fault;
use crate::clients::connection::{Answer, Line};

pub(crate) fn fault(text: &str) -> Fault {
    text.parse().expect(text)
}

/// A client on one connection, of the tenant that its requests name.
pub(crate) struct Caller(Line);

impl Caller {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self(Line::new(addr, None))
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let body = body.map(Value::to_string);
        self.send_text(method, target, headers, body).await
    }

    async fn send_text(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        json: Option<String>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target).header("host", "desk");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if json.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(json.unwrap_or_default().into()).unwrap();
        self.0.exchange(request).await.expect(target)
    }

    pub(crate) async fn json(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let answer = self.send(method, target, headers, body).await;
        read(&answer)
    }

    pub(crate) async fn get(&mut self, target: &str) -> (StatusCode, Value) {
        self.json(Method::GET, target, &[], None).await
    }

    pub(crate) async fn post(&mut self, target: &str, body: &Value) -> (StatusCode, Value) {
        self.json(Method::POST, target, &[], Some(body)).await
    }

    /// Posts `json` as it is written.
    pub(crate) async fn post_text(&mut self, target: &str, json: String) -> (StatusCode, Value) {
        read(&self.send_text(Method::POST, target, &[], Some(json)).await)
    }
}

/// The status and the JSON of an answer, which is null where there is none.
fn read(answer: &Answer) -> (StatusCode, Value) {
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}
