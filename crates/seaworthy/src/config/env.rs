//! Environment variables over the file: `SEAWORTHY__SERVICE__UPSTREAMS` is `service.upstreams`.
//!
//! 1. The keys of the path stand between double underscores, in capitals.
//! 2. A value is TOML where it reads as such, else text; a list may be written with commas.
//! 3. A name that leads nowhere is a fault, never ignored.

use super::fault::{Fault, Report};
use super::tree::{Node, Place};

/// What the names start with.
const PREFIX: &str = "SEAWORTHY__";

/// Lays the variables of `env` over `tree`.
pub(crate) fn lay_over(tree: &mut Node, env: &[(String, String)], report: &mut Report) {
    let mut variables: Vec<_> = env.iter().filter(|(name, _)| is_ours(name)).collect();
    // A table comes before the keys in it.
    variables.sort();
    let upstreams = "SEAWORTHY__SERVICE__UPSTREAMS";
    for (name, value) in variables {
        let place = Place::Env(name.as_str().into());
        let Some(path) = name.strip_prefix(PREFIX) else {
            let meant = name.trim_start_matches("SEAWORTHY").trim_start_matches('_');
            let mut fault = Fault::new(place, String::new(), "sets nothing");
            fault.suggestion = Some(format!("{PREFIX}{meant}"));
            report.push(fault);
            continue;
        };
        let mut keys: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        if keys.iter().any(String::is_empty) {
            let message =
                "expected keys between double underscores, such as `SEAWORTHY__LOG__LEVEL`";
            report.push(Fault::new(place, String::new(), message));
            continue;
        }
        if keys == ["service", "upstream"] {
            if env.iter().any(|(name, _)| name == upstreams) {
                let message = format!("{upstreams} is set too: keep one of the two");
                report.push(Fault::new(place, "service.upstreams".to_owned(), message));
                continue;
            }
            keys[1] = "upstreams".to_owned();
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        if let Err(in_the_way) = tree.set(&keys, Node::from_outside(value, place.clone())) {
            let message = format!("`{in_the_way}` is no table; set it whole");
            report.push(Fault::new(place, keys.join("."), message));
        }
    }
}

/// Whether a variable was meant for the config. One underscore is enough where two follow later;
/// names such as `SEAWORTHY_PORT` come from Kubernetes and are not ours.
fn is_ours(name: &str) -> bool {
    name.strip_prefix("SEAWORTHY_").is_some_and(|rest| rest.contains("__") || rest.starts_with('_'))
}
