//! Who reads the ledger, or asks the gateway, need not have the gateway's secrets.

use std::fs;

use super::{Desk, NOBODY};
use crate::harness::{Gateway, serve};

/// Settings whose secrets are variables, and files that only the gateway can read.
const CONFIG: &str = "\
[alerts]
secrets = [\"env:ALERTS\"]

[protect.signature]
secrets = [\"env:WEBHOOK\"]
";

const SECRET: &str = "a secret of the gateway alone, 36 bytes";

impl Desk {
    /// A gateway that has its secrets; what the tests run beside it has none.
    async fn start_with_secrets() -> Self {
        let mut desk = Self::start("").await;
        desk.close().await;
        fs::write(desk.path("seaworthy.toml"), CONFIG).unwrap();
        let mut command = serve(desk.dir.path(), desk.service.addr());
        command.env("ALERTS", SECRET).env("WEBHOOK", SECRET);
        desk.gateway = Some(Gateway::start(command).await);
        desk
    }
}

#[tokio::test]
async fn the_ledger_is_read_and_the_gateway_asked_without_its_secrets() {
    let mut desk = Desk::start_with_secrets().await;
    let said = desk.ran(&["config", "check"]).said(78);
    assert!(said.contains("env:ALERTS is not set"), "{said}");
    desk.operator(&["mode", "set", "csrf", "enforce=10%"], "to see").said(0);
    let page = desk.ran(&["rollout", "history", "--json"]).json(0);
    let seq = page["receipts"][0]["seq"].to_string();
    let read = |desk: &Desk| {
        for args in [
            &["audit", "tail"][..],
            &["audit", "show", "0"],
            &["audit", "verify"],
            &["audit", "prove", "0"],
            &["audit", "export"],
            &["rollout", "history"],
            &["rollout", "receipt", &seq],
            &["requests"],
            &["consumers"],
            &["mode", "--console", NOBODY],
            &["rollout", "status", "csrf", "--console", NOBODY],
        ] {
            desk.ran(args).said(0);
        }
        let said = desk.ran(&["requests", "--explain", "0123"]).said(1);
        assert!(said.contains("no request \"0123\" was kept"), "{said}");
    };
    read(&desk);
    desk.close().await;
    read(&desk);
    // Who demotes a rule in an incident has them least of all.
    desk.operator(&["rollout", "demote", "csrf"], "checkouts fail").said(0);
    assert_eq!(desk.mode("csrf"), "warn");
    // A file that cannot be read to its end may say elsewhere where the data is.
    fs::write(desk.path("seaworthy.toml"), "[store]\ndri = \"elsewhere\"\n").unwrap();
    let said = desk.ran(&["audit", "verify"]).said(78);
    assert!(said.contains("did you mean `dir`?"), "{said}");
    fs::write(desk.path("seaworthy.toml"), CONFIG).unwrap();
    desk.end().await;
}
