//! The console's pages in a browser: what their scripts, styles and content policy come to together.

use std::net::SocketAddr;
use std::process::Command;

use crate::harness::ask::until;
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{set, visit};

/// A page as Chromium has it three seconds later, and what Chromium says of it.
async fn opened(console: SocketAddr, path: &str) -> (String, String) {
    let profile = folder();
    // scripts/test.sh installs it. It has no sandbox of its own for whoever tests as root.
    let mut command = Command::new("chromium");
    command
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--timeout=3000", "--dump-dom"])
        .arg(format!("http://{console}{path}"));
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("it does not panic").expect("scripts/test.sh installs chromium");
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_browser_shows_every_page_keeps_it_live_and_finds_no_fault() {
    let dir = folder();
    let hosts = "[protect.host_allowlist]\nhosts = [\"a.example\"]\n";
    std::fs::write(dir.path().join("seaworthy.toml"), hosts).expect("it is writable");
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    set(gateway.console, "host_allowlist", "enforce 10%").await;
    // Whoever says nothing of himself is in no share.
    for (host, token) in [("a", Some("somebody")), ("b", None)] {
        assert_eq!(visit(gateway.traffic, host, token).await, 200);
    }
    for (path, shows, is_live) in [
        ("/", "host_allowlist", true),
        ("/rules", "enforced for 10% of the clients, 50% next", true),
        ("/rules?rule=host_allowlist", "seaworthy rollout demote host_allowlist", true),
        ("/requests", "host_allowlist", false),
        ("/consumers", "bearer:", false),
    ] {
        until(&format!("Chromium shows {path}"), async || {
            let (page, said) = opened(gateway.console, path).await;
            // A script that fails, or what the content policy forbids.
            let fault = said.lines().find(|line| line.contains("CONSOLE"));
            assert_eq!(fault, None, "{path}");
            let is_shown = page.contains(shows);
            (is_shown && page.contains(r#"class="live""#) == is_live).then_some(())
        })
        .await;
    }
    gateway.stop().await;
}
