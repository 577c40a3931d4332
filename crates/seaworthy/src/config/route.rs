//! `[[route]]`: requests that have protections of their own.
//!
//! What a route says of a protection is laid over what the service says of it, key by key. A
//! rule `name@route` exists for the protections that the route mentions and for no others.

use std::collections::HashMap;

use jiff::civil::Date;
use seaworthy_policy::quantity::ByteSize;
use seaworthy_policy::registry::{Protect, REGISTRY};
use seaworthy_policy::route::{ROUTES_MAX, RouteError, RoutePattern, RouteTable};
use seaworthy_policy::source::Sources;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::fault::{Fault, Report};
use super::protect;
use super::read::{read, read_whole};
use super::tree::{Node, Path, Place, Value, Wanted};

/// A route with its settings complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub pattern: RoutePattern,
    /// The service's settings with the route's laid over them.
    pub protect: Protect,
    /// The registry positions of the protections that the route mentions, in order.
    pub overrides: Vec<usize>,
    /// The day on which the resource itself ends.
    pub sunset: Option<Date>,
}

/// One `[[route]]` as it is written; `protect` is read together with the service's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "match")]
    pattern: RoutePattern,
    /// Short for `protect.body_limit.max`.
    #[serde(default)]
    body_limit: Option<ByteSize>,
    #[serde(default)]
    sunset: Option<Date>,
    #[serde(default, rename = "protect")]
    _protect: IgnoredAny,
}

/// The routes, and the tree with what is effective for each of them in place of what is written.
pub(crate) struct Routes {
    pub(crate) list: Vec<Route>,
    /// The merged `protect` of each route, for saying where a setting came from.
    pub(crate) trees: Vec<Node>,
    /// Where each of them is in the file.
    paths: Vec<Path>,
}

/// Reads all routes of `tree`.
pub(crate) fn read_all(tree: &Node, report: &mut Report) -> Routes {
    let mut routes = Routes { list: Vec::new(), trees: Vec::new(), paths: Vec::new() };
    let at = Path::of("route");
    let Some(node) = tree.get("route") else { return routes };
    let node = node.resolve(Wanted::List);
    let Value::List(items) = &node.value else {
        let message = "expected a list of tables, each below a line `[[route]]`";
        report.push(Fault::new(node.place.clone(), at.to_string(), message));
        return routes;
    };
    if items.len() > ROUTES_MAX {
        let message = format!("expected at most {ROUTES_MAX} routes, not {}", items.len());
        report.push(Fault::new(node.place.clone(), at.to_string(), message));
        return routes;
    }
    let mut places = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = at.index(index);
        let written: Option<Written> = read_whole(item, &path, report);
        let (own, overrides) = own_settings(item, &path, written.as_ref(), report);
        // Faults of the service's settings come up again here; the report knows them already.
        let merged = tree.get("protect").map_or_else(|| own.clone(), |below| below.merged(&own));
        let below = path.key("protect");
        let protect: Protect = read(&merged, &below, report);
        if let Some(written) = written {
            places.push((path.key("match"), item.place_of(&Path::of("match"))));
            let Written { pattern, sunset, .. } = written;
            routes.list.push(Route { pattern, protect, overrides, sunset });
            routes.trees.push(merged);
            routes.paths.push(below);
        }
    }
    report_conflicts(&routes.list, &places, report);
    routes
}

/// Reports what makes no sense in the routes' settings of protections; `service` are the service's
/// own.
pub(crate) fn check(routes: &Routes, service: &Protect, sources: &Sources, report: &mut Report) {
    for ((route, tree), path) in routes.list.iter().zip(&routes.trees).zip(&routes.paths) {
        let Route { protect, overrides, .. } = route;
        protect::check_route(protect, service, overrides, sources, tree, path, report);
    }
}

/// What the route itself says of protections, with `body_limit` written out, and which
/// protections that are.
fn own_settings(
    item: &Node,
    path: &Path,
    written: Option<&Written>,
    report: &mut Report,
) -> (Node, Vec<usize>) {
    let mut own = match item.get("protect") {
        Some(node) if matches!(node.value, Value::Table(_)) => node.clone(),
        Some(node) => {
            let message = "expected a table, such as `[route.protect.rate_limit]`";
            let key = path.key("protect").to_string();
            report.push(Fault::new(node.place.clone(), key, message));
            Node::empty_table()
        }
        None => Node::empty_table(),
    };
    let short = item
        .get("body_limit")
        .filter(|_| written.is_some_and(|written| written.body_limit.is_some()));
    if let Some(short) = short {
        let long = own.get("body_limit").and_then(|section| section.get("max"));
        if long.is_some() {
            let message = "`protect.body_limit.max` says it too: keep one of the two";
            let key = path.key("body_limit").to_string();
            report.push(Fault::new(short.place.clone(), key, message));
        } else {
            // A section that is no table is reported when it is read.
            drop(own.set(&["body_limit", "max"], short.clone()));
        }
    }
    let overrides =
        (0..REGISTRY.len()).filter(|at| own.get(REGISTRY[*at].name).is_some()).collect();
    (own, overrides)
}

/// Reports routes that match the same requests, or cannot stand beside each other.
fn report_conflicts(routes: &[Route], places: &[(Path, Place)], report: &mut Report) {
    let patterns = || routes.iter().map(|route| &route.pattern).zip(0..);
    if RouteTable::build(patterns(), 0).is_ok() {
        return;
    }
    // The table tells of one conflict only, so the routes are added one by one.
    let mut accepted: Vec<(&RoutePattern, usize)> = Vec::new();
    let mut first_at = HashMap::new();
    for (pattern, index) in patterns() {
        accepted.push((pattern, index));
        let Err(error) = RouteTable::build(accepted.iter().copied(), 0) else {
            first_at.insert(pattern, index);
            continue;
        };
        accepted.pop();
        let (path, place) = &places[index];
        let message = match (&error, first_at.get(pattern).map(|first| &places[*first].1)) {
            (RouteError::Duplicate(..), Some(Place::File { line, .. })) => {
                format!("\"{pattern}\" is there already, in line {line}")
            }
            _ => error.to_string(),
        };
        report.push(Fault::new(place.clone(), path.to_string(), message));
    }
}
