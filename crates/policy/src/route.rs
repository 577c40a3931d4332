//! Routes: which part of the config a request falls under.
//!
//! A route is `"METHOD /path"` or `"/path"` for any method; `{name}` stands for one segment and
//! `{*name}` for the rest of the path. Among the routes for a request's method, and those for any,
//! the most specific path wins, then the route that names the method. What matches none falls
//! under the service's own settings, as route [`OTHER`].

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use http::Method;
use matchit::InsertError;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quantity::serde_as_text;

/// What telemetry calls the requests that match no route.
pub const OTHER: &str = "other";

/// Routes a config may have.
pub const ROUTES_MAX: usize = 512;

/// The `match` of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutePattern {
    pub method: Option<Method>,
    pub path: String,
}

/// Fits after "failed to read the route: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("expected \"METHOD /path\" or \"/path\", not {0:?}")]
    Shape(String),
    #[error("{0:?} is not a path pattern: {1}")]
    Path(String, &'static str),
    #[error("{0} and {1} can match the same requests, and neither is the more specific")]
    Conflict(String, String),
    #[error("{0} and {1} match the same requests")]
    Duplicate(RoutePattern, RoutePattern),
}

impl RouteError {
    fn of(path: &str, error: InsertError) -> Self {
        let why = match error {
            InsertError::Conflict { with } => return Self::Conflict(path.to_owned(), with),
            InsertError::InvalidParamSegment => "a segment can have one parameter",
            InsertError::InvalidCatchAll => "what stands for the rest has to be its end",
            _ => "a parameter is written {name}",
        };
        Self::Path(path.to_owned(), why)
    }
}

impl FromStr for RoutePattern {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || RouteError::Shape(text.to_owned());
        let (method, path) = match text.split_once(' ') {
            Some((method, path)) => {
                let known = method.bytes().all(|byte| byte.is_ascii_uppercase());
                let method = Method::from_bytes(method.as_bytes()).ok().filter(|_| known);
                (Some(method.ok_or_else(shape)?), path.trim())
            }
            None => (None, text),
        };
        if !path.starts_with('/') || path.contains(char::is_whitespace) {
            return Err(shape());
        }
        let mut probe = matchit::Router::new();
        probe.insert(path, ()).map_err(|error| RouteError::of(path, error))?;
        Ok(Self { method, path: path.to_owned() })
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.method {
            Some(method) => write!(f, "{method} {}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

serde_as_text!(RoutePattern);

/// Finds the route of a request; `T` is what the caller keeps for a route.
///
/// Each method that some route names has a tree of its own, with the routes for any method in it:
/// a route for one method takes nothing from the others, to which a less specific path may apply.
#[derive(Clone)]
pub struct RouteTable<T> {
    by_method: Vec<(Method, matchit::Router<T>)>,
    /// For all other methods.
    any: matchit::Router<T>,
    other: T,
}

impl<T: Copy> RouteTable<T> {
    /// Builds the table; `other` is what a request without a route falls under.
    pub fn build<'a>(
        routes: impl IntoIterator<Item = (&'a RoutePattern, T)>,
        other: T,
    ) -> Result<Self, RouteError> {
        let routes: Vec<(&RoutePattern, T)> = routes.into_iter().collect();
        let mut methods: Vec<&Method> = Vec::new();
        for (pattern, _) in &routes {
            if let Some(method) = &pattern.method
                && !methods.contains(&method)
            {
                methods.push(method);
            }
        }
        let tree_of = |method: &&Method| Ok(((*method).clone(), tree(&routes, Some(*method))?));
        let by_method = methods.iter().map(tree_of).collect::<Result<_, RouteError>>()?;
        Ok(Self { by_method, any: tree(&routes, None)?, other })
    }

    pub fn find(&self, method: &Method, path: &str) -> T {
        let own = self.by_method.iter().find(|(known, _)| known == method);
        let tree = own.map_or(&self.any, |(_, tree)| tree);
        tree.at(path).map_or(self.other, |found| *found.value)
    }
}

/// The places of those among `patterns`, which are for the same method, whose paths do not go with
/// the ones before them, and why.
pub fn clashes(patterns: &[RoutePattern]) -> Vec<(usize, RouteError)> {
    let mut tree = matchit::Router::new();
    let clash = |(index, pattern): (usize, &RoutePattern)| {
        let error = tree.insert(pattern.path.as_str(), ()).err()?;
        Some((index, RouteError::of(&pattern.path, error)))
    };
    patterns.iter().enumerate().filter_map(clash).collect()
}

/// The routes that a request of `method` can fall under, by their paths.
fn tree<T: Copy>(
    routes: &[(&RoutePattern, T)],
    method: Option<&Method>,
) -> Result<matchit::Router<T>, RouteError> {
    let mut tree = matchit::Router::new();
    let mut taken: HashMap<&str, &RoutePattern> = HashMap::new();
    let own =
        routes.iter().filter(|(pattern, _)| method.is_some() && pattern.method.as_ref() == method);
    for (pattern, id) in own.chain(routes.iter().filter(|(pattern, _)| pattern.method.is_none())) {
        match taken.insert(&pattern.path, pattern) {
            None => tree
                .insert(pattern.path.as_str(), *id)
                .map_err(|error| RouteError::of(&pattern.path, error))?,
            // A route that names the method comes before one for any method.
            Some(earlier) if earlier.method != pattern.method => {}
            Some(earlier) => {
                return Err(RouteError::Duplicate(earlier.clone(), (*pattern).clone()));
            }
        }
    }
    Ok(tree)
}

impl<T> fmt::Debug for RouteTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouteTable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_route_wins() {
        let patterns: Vec<RoutePattern> = [
            "/api/{*rest}",
            "GET /api/complaints/{id}",
            "/api/complaints/{id}",
            "POST /api/traces",
            "PUT /api/complaints/{id}/state",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let ids = patterns.iter().zip(1..);
        let table = RouteTable::build(ids, 0).unwrap();
        for (method, path, want) in [
            (Method::GET, "/api/complaints/7", 2),
            (Method::DELETE, "/api/complaints/7", 3),
            (Method::GET, "/api/complaints/7/notes", 1),
            (Method::POST, "/api/traces", 4),
            (Method::GET, "/api/traces", 1),
            (Method::PUT, "/api/complaints/7", 3),
            (Method::PUT, "/api/complaints/7/state", 5),
            (Method::GET, "/api/complaints/7/state", 1),
            (Method::PATCH, "/api", 0),
            (Method::GET, "/", 0),
        ] {
            assert_eq!(table.find(&method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn bad_and_double_routes_are_refused() {
        for text in ["", "api", "get /x", "GET api", "GET  /a b"] {
            assert!(matches!(text.parse::<RoutePattern>(), Err(RouteError::Shape(_))), "{text}");
        }
        assert!(matches!("/a/{".parse::<RoutePattern>(), Err(RouteError::Path(..))));
        let same: Vec<RoutePattern> = ["GET /a", "GET /a"].map(|t| t.parse().unwrap()).to_vec();
        let table = RouteTable::build(same.iter().zip(1..), 0);
        assert!(matches!(table, Err(RouteError::Duplicate(..))));
    }
}
