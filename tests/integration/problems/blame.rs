//! Whose fault it is that a request stands still: the client's, while it has more of the body to
//! send; the service's, as soon as it has more to take.

use crate::harness::{Gateway, Reply, Upstream, exchange};

/// The service has less time than a client may pause.
const CONFIG: &str = r#"
[listen]
body_timeout = "600ms"

[protect.request_timeout]
mode = "enforce"
max = "200ms"
"#;

fn told(reply: &Reply) -> (Vec<u16>, Option<&str>) {
    (reply.statuses(), reply.code())
}

#[tokio::test]
async fn a_client_that_pauses_is_not_counted_against_the_service() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    for half in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhal",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
    ] {
        let reply = exchange(gateway.addr(), half.as_bytes(), 0).await;
        let reply = Reply { text: reply.text.replace("HTTP/1.1 100", ""), ..reply };
        assert_eq!(told(&reply), (vec![408], Some("body-timeout")), "{half}");
    }
    gateway.stop().await;
}
