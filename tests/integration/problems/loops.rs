//! A gateway whose service is, by a wrong address, the gateway itself.

use tokio::net::{TcpListener, TcpStream};

use crate::harness::Gateway;
use crate::harness::response::get;

#[tokio::test]
async fn a_gateway_that_is_its_own_service_says_so_after_one_round() {
    // The gateway's port is known only once it runs, so the way back leads over a relay.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::start(relay.local_addr().unwrap(), "").await;
    let addr = gateway.addr();
    let relaying = tokio::spawn(async move {
        let (mut from, _) = relay.accept().await.unwrap();
        let mut to = TcpStream::connect(addr).await.unwrap();
        tokio::io::copy_bidirectional(&mut from, &mut to).await.unwrap();
        // A second round would wait here.
        drop(relay);
    });
    let response = get(addr, "/").await;
    assert_eq!((response.status, response.json()["code"].as_str()), (508, Some("loop-detected")));
    let id = response.field("x-request-id").expect("it has an id");
    assert_eq!(response.json()["request_id"], id, "of the two ids the inner one is told");
    relaying.await.unwrap();
    gateway.stop().await;
}
