//! One screen of what happens, redrawn every second; a line every few seconds in a pipe.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use seaworthy_console::live::{LiveView, RuleView};
use tokio::sync::watch;

use super::fast::Story;

/// Where everything of the demo listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) traffic: SocketAddr,
    pub(super) console: SocketAddr,
    pub(super) service: SocketAddr,
}

/// Views, one a second, from one line to the next where standard output is not a terminal.
const LINE_EVERY: usize = 5;

/// Shows the view until the gateway ends.
pub(super) async fn show(
    mut live: watch::Receiver<Arc<LiveView>>,
    addresses: Addresses,
    terminal: bool,
) {
    if !terminal {
        print!("{}", header(addresses));
    }
    let mut views = 0;
    while live.changed().await.is_ok() {
        views += 1;
        let view = Arc::clone(&live.borrow_and_update());
        if terminal {
            // Home, draw, clear what is left of the last screen: no flicker.
            let drawn = screen(&view, addresses).replace('\n', "\x1b[K\n");
            print!("\x1b[H{drawn}\x1b[J");
            if std::io::Write::flush(&mut std::io::stdout()).is_err() {
                return;
            }
        } else if views % LINE_EVERY == 0 {
            println!("{}", line(&view));
        }
    }
}

/// The last screen stays readable once the demo is over.
pub(super) fn last_words(view: &LiveView) {
    println!("\n{}", table(&view.rules));
    println!("{}", line(view));
}

/// One thing that happened to a rule.
pub(super) fn event(event: &str) {
    println!("  » {event}");
}

/// What a fast rollout has shown.
pub(super) fn end_of(story: &Story) {
    if let Some(audit) = &story.audit {
        println!("{audit}");
    }
    for what in story.missing() {
        println!("not seen: {what}");
    }
}

fn header(addresses: Addresses) -> String {
    let Addresses { traffic, console, service } = addresses;
    format!(
        "seaworthy demo: a help desk behind Seaworthy, with clients of five tenants\n\n\
         \x20 gateway   http://{traffic}/    try: curl -i http://{traffic}/api/complaints\n\
         \x20 console   http://{console}/\n\
         \x20 service   http://{service}/    the same without protection\n\n"
    )
}

fn screen(view: &LiveView, addresses: Addresses) -> String {
    format!("{}{}\n\n{}\nCtrl-C ends it.\n", header(addresses), line(view), table(&view.rules))
}

fn line(view: &LiveView) -> String {
    let now = &view.traffic.now;
    let millis =
        |us: Option<u32>| us.map_or("-".to_owned(), |us| format!("{:.1}", f64::from(us) / 1000.0));
    format!(
        "{:>5} s  {:>7.1} requests/s  p50 {:>6} ms  p99 {:>7} ms  4xx {:>5.1} %  5xx {:>5.1} %  {} in all",
        view.gateway.uptime_s,
        now.requests_per_s,
        millis(now.p50_us),
        millis(now.p99_us),
        now.client_error_share * 100.0,
        now.server_error_share * 100.0,
        view.traffic.totals.requests,
    )
}

/// Rules of one protection that have a row each; more share one.
const ROWS_MAX: usize = 4;

/// The rules, those of a protection with many routes in one row.
fn grouped(rules: &[RuleView]) -> Vec<RuleView> {
    let count =
        |protection: &str| rules.iter().filter(|rule| rule.protection == protection).count();
    let mut rows: Vec<RuleView> = Vec::new();
    for rule in rules {
        let many = count(rule.protection);
        let first = rows.iter_mut().find(|row| row.protection == rule.protection);
        match first {
            Some(row) if many > ROWS_MAX => {
                row.evaluated += rule.evaluated;
                row.would_deny += rule.would_deny;
                row.denied += rule.denied;
                row.harm += rule.harm;
            }
            _ if many > ROWS_MAX => {
                let name = format!("{} ({many} rules)", rule.protection);
                rows.push(RuleView { rule: name, ..rule.clone() });
            }
            _ => rows.push(rule.clone()),
        }
    }
    rows
}

fn table(rules: &[RuleView]) -> String {
    let rules = grouped(rules);
    let width = rules.iter().map(|rule| rule.rule.len()).max().unwrap_or(0).max(10);
    let mut out = format!(
        "{:width$}  {:12} {:>10} {:>11} {:>8} {:>8}\n",
        "rule", "mode", "evaluated", "would deny", "denied", "harm"
    );
    for rule in &rules {
        writeln!(
            out,
            "{:width$}  {:12} {:>10} {:>11} {:>8} {:>8}",
            rule.rule,
            rule.mode.to_string(),
            rule.evaluated,
            rule.would_deny,
            rule.denied,
            rule.harm
        )
        .expect("a string takes everything");
    }
    out
}
