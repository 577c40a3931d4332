//! Routes: which part of the config a request falls under.
//!
//! A route is `"METHOD /path"` or `"/path"` for any method; `{name}` stands for one segment and
//! `{*name}` for the rest of the path. The most specific path wins, then a route that names the
//! method. What matches none falls under the service's own settings, as route [`OTHER`].

use std::fmt;
use std::str::FromStr;

use http::Method;
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
    Path(String, String),
    #[error("{0} and {1} match the same requests")]
    Duplicate(RoutePattern, RoutePattern),
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
        probe
            .insert(path, ())
            .map_err(|error| RouteError::Path(path.to_owned(), error.to_string()))?;
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
pub struct RouteTable<T> {
    paths: matchit::Router<Methods<T>>,
    other: T,
}

/// The routes of one path, those that name a method first.
type Methods<T> = Vec<(Option<Method>, T)>;

impl<T: Copy> RouteTable<T> {
    /// Builds the table; `other` is what a request without a route falls under.
    pub fn build<'a>(
        routes: impl IntoIterator<Item = (&'a RoutePattern, T)>,
        other: T,
    ) -> Result<Self, RouteError> {
        let mut grouped: Vec<(&RoutePattern, Methods<T>)> = Vec::new();
        for (pattern, id) in routes {
            let entry = (pattern.method.clone(), id);
            match grouped.iter_mut().find(|(first, _)| first.path == pattern.path) {
                Some((first, entries)) => {
                    if entries.iter().any(|(method, _)| *method == pattern.method) {
                        return Err(RouteError::Duplicate((*first).clone(), pattern.clone()));
                    }
                    entries.push(entry);
                }
                None => grouped.push((pattern, vec![entry])),
            }
        }
        let mut paths = matchit::Router::new();
        for (pattern, mut entries) in grouped {
            // A route that names the method comes before one for any method.
            entries.sort_by_key(|(method, _)| method.is_none());
            paths
                .insert(pattern.path.as_str(), entries)
                .map_err(|error| RouteError::Path(pattern.path.clone(), error.to_string()))?;
        }
        Ok(Self { paths, other })
    }

    pub fn find(&self, method: &Method, path: &str) -> T {
        let Ok(found) = self.paths.at(path) else { return self.other };
        found
            .value
            .iter()
            .find(|(wanted, _)| wanted.as_ref().is_none_or(|wanted| wanted == method))
            .map_or(self.other, |(_, id)| *id)
    }
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
            (Method::GET, "/api/traces", 0),
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
