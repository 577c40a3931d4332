//! Command-line flags over everything else.

use std::path::PathBuf;

use super::tree::{Node, Place, Value};

/// What the command line overrides; each value is text that is validated with the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--upstream`, repeatable: replaces `service.upstreams` where there is at least one.
    pub upstreams: Vec<String>,
    /// `--listen`: `listen.addr`.
    pub listen: Option<String>,
    /// `--console`: `console.addr`.
    pub console: Option<String>,
    /// `--data`: `store.dir`.
    pub data: Option<PathBuf>,
}

/// Lays `flags` over `tree`.
pub(crate) fn lay_over(tree: &mut Node, flags: &Flags) {
    let text = |text: &str, flag| Node::new(Value::Text(text.to_owned()), Place::Flag(flag));
    if !flags.upstreams.is_empty() {
        let urls = flags.upstreams.iter().map(|url| text(url, "--upstream")).collect();
        let list = Node::new(Value::List(urls), Place::Flag("--upstream"));
        set(tree, ["service", "upstreams"], list);
    }
    if let Some(addr) = &flags.listen {
        set(tree, ["listen", "addr"], text(addr, "--listen"));
    }
    if let Some(addr) = &flags.console {
        set(tree, ["console", "addr"], text(addr, "--console"));
    }
    if let Some(dir) = &flags.data {
        set(tree, ["store", "dir"], text(&dir.to_string_lossy(), "--data"));
    }
}

fn set(tree: &mut Node, path: [&str; 2], node: Node) {
    // A section that is no table is reported when it is read, and the flag is of no use then.
    drop(tree.set(&path, node));
}
