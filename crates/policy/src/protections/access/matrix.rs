//! The authorization matrix: which roles may call which routes.
//!
//! 1. A route is written as in `[[route]]`; the most specific row decides, and one that names the
//!    method before one for all. HEAD falls under GET where it has no row of its own.
//! 2. What no row allows is denied, and so is a route without a row.
//! 3. The role `anonymous` is everybody, with credentials or without.

use http::Method;
use serde::Deserialize;
use toml::Spanned;

use super::written::Written;
use crate::route::{RouteError, RoutePattern, RouteTable};

/// Roles that a matrix can tell apart.
pub const ROLES_MAX: usize = 64;

/// Rows of one matrix.
const ROWS_MAX: usize = 2000;

/// Everybody, with credentials or without.
pub const ANONYMOUS: &str = "anonymous";

/// A set of roles of one matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u64);

impl Roles {
    pub const NONE: Self = Self(0);

    /// The role at a place of [`Matrix::roles`].
    pub fn one(index: usize) -> Self {
        assert!(index < ROLES_MAX, "a matrix has at most {ROLES_MAX} roles");
        Self(1 << index)
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRow {
    route: Spanned<String>,
    allow: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenTenant {
    isolation: bool,
    across: Vec<Spanned<String>>,
}

/// A matrix that makes sense.
#[derive(Debug)]
pub struct Matrix {
    roles: Vec<String>,
    rows: Vec<Row>,
    table: RouteTable<Option<usize>>,
    anonymous: Roles,
    /// Whether the tenant of the request has to be that of the credentials.
    pub isolation: bool,
    /// Roles that may act for every tenant.
    pub across: Roles,
}

/// One line of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub route: RoutePattern,
    pub allow: Roles,
}

impl Matrix {
    /// Reads a matrix; every fault has its line.
    pub fn read(text: &[u8]) -> Result<Self, Vec<String>> {
        let mut written = Written::read(text)?;
        let named: Option<Vec<Spanned<String>>> = written.take("roles");
        if named.is_none() && written.faults.is_empty() {
            written.faults.push("`roles` is missing".to_owned());
        }
        let rows: Vec<WrittenRow> = written.take_rows("row");
        let tenant: WrittenTenant = written.take("tenant").unwrap_or_default();
        written.finish(&["roles", "row", "tenant"]);
        // Where they could not be read, no row can be held against them.
        let roles_known = named.is_some();
        let mut reading = Reading { written, roles: Vec::new(), roles_known };
        reading.roles(&named.unwrap_or_default());
        let lines = rows;
        let rows = reading.rows(&lines);
        let across = reading.set(&tenant.across);
        let table = reading.table(&rows, &lines);
        let Reading { roles, written, .. } = reading;
        let faults = written.faults;
        let Some(table) = table.filter(|_| faults.is_empty()) else { return Err(faults) };
        let anonymous = roles.iter().position(|role| role == ANONYMOUS);
        let anonymous = anonymous.map_or(Roles::NONE, Roles::one);
        let isolation = tenant.isolation;
        Ok(Self { roles, rows, table, anonymous, isolation, across })
    }

    /// The names of the roles, in the order of the file.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn role(&self, name: &str) -> Option<Roles> {
        self.roles.iter().position(|role| role == name).map(Roles::one)
    }

    /// The row that decides of a request. A row for any method is no row of HEAD's own: it falls
    /// under what decides of GET.
    pub fn find(&self, method: &Method, path: &str) -> Option<&Row> {
        let row = |method: &Method| self.table.find(method, path).map(|row| &self.rows[row]);
        if *method == Method::HEAD {
            let own = row(method).filter(|row| row.route.method.is_some());
            return own.or_else(|| row(&Method::GET));
        }
        row(method)
    }

    /// Whether `row` lets everybody in.
    pub fn is_open(&self, row: &Row) -> bool {
        row.allow.meets(self.anonymous)
    }
}

/// Collects what is wrong with a matrix.
struct Reading<'a> {
    written: Written<'a>,
    roles: Vec<String>,
    roles_known: bool,
}

impl Reading<'_> {
    fn fault<T>(&mut self, at: &Spanned<T>, fault: impl std::fmt::Display) {
        self.written.fault(at, fault);
    }

    fn roles(&mut self, written: &[Spanned<String>]) {
        if written.len() > ROLES_MAX {
            self.written
                .faults
                .push(format!("expected at most {ROLES_MAX} roles, not {}", written.len()));
        }
        for role in written.iter().take(ROLES_MAX) {
            let name = role.get_ref();
            if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
                self.fault(role, "expected a role to be a word");
            } else if self.roles.contains(name) {
                self.fault(role, format!("the role {name:?} is there twice"));
            } else {
                self.roles.push(name.clone());
            }
        }
    }

    fn set(&mut self, names: &[Spanned<String>]) -> Roles {
        let mut set = Roles::NONE;
        for name in names {
            match self.roles.iter().position(|role| role == name.get_ref()) {
                Some(index) => set = set.with(Roles::one(index)),
                None if !self.roles_known => {}
                None => {
                    let fault = format!("{:?} is none of the roles", name.get_ref());
                    self.fault(name, fault);
                }
            }
        }
        set
    }

    fn rows(&mut self, written: &[WrittenRow]) -> Vec<Row> {
        if written.len() > ROWS_MAX {
            self.written
                .faults
                .push(format!("expected at most {ROWS_MAX} rows, not {}", written.len()));
            return Vec::new();
        }
        let mut rows = Vec::with_capacity(written.len());
        for row in written {
            let allow = self.set(&row.allow);
            match row.route.get_ref().parse::<RoutePattern>() {
                Ok(route) => rows.push(Row { route, allow }),
                Err(error) => self.fault(&row.route, error),
            }
        }
        rows
    }

    fn table(&mut self, rows: &[Row], written: &[WrittenRow]) -> Option<RouteTable<Option<usize>>> {
        let build = |count: usize| {
            let patterns = rows.iter().take(count).map(|row| &row.route);
            RouteTable::build(patterns.zip((0..).map(Some)), None)
        };
        let error = match build(rows.len()) {
            Ok(table) => return Some(table),
            Err(error) => error,
        };
        // The first row that does not go with those before it.
        let fits = |count: &usize| build(*count).is_ok();
        let count = (1..=rows.len()).find(|count| !fits(count)).unwrap_or(rows.len());
        let fault = match &error {
            RouteError::Duplicate(one, _) => format!("\"{one}\" has a row already"),
            error => error.to_string(),
        };
        match written.get(count - 1) {
            Some(row) if rows.len() == written.len() => self.fault(&row.route, fault),
            _ => self.written.faults.push(fault),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATRIX: &str = r#"
roles = ["anonymous", "agent", "admin"]
[[row]]
route = "GET /healthz"
allow = ["anonymous"]
[[row]]
route = "/api/{*rest}"
allow = ["admin"]
[[row]]
route = "GET /api/complaints/{id}"
allow = ["agent", "admin"]
[[row]]
route = "DELETE /api/complaints/{id}"
allow = []
[tenant]
isolation = true
across = ["admin"]
"#;

    #[test]
    fn the_most_specific_row_decides_and_nothing_is_allowed_without_one() {
        let matrix = Matrix::read(MATRIX.as_bytes()).unwrap();
        let who = |method: &str, path: &str| -> Option<Vec<&str>> {
            let row = matrix.find(&method.parse().unwrap(), path)?;
            let roles = matrix.roles().iter().enumerate();
            let allowed = roles.filter(|(index, _)| row.allow.meets(Roles::one(*index)));
            Some(allowed.map(|(_, role)| role.as_str()).collect())
        };
        for (method, path, want) in [
            ("GET", "/healthz", Some(vec!["anonymous"])),
            ("HEAD", "/healthz", Some(vec!["anonymous"])),
            ("POST", "/healthz", None),
            ("GET", "/api/complaints/7", Some(vec!["agent", "admin"])),
            ("DELETE", "/api/complaints/7", Some(vec![])),
            ("HEAD", "/api/complaints/7", Some(vec!["agent", "admin"])),
            ("PATCH", "/api/complaints/7", Some(vec!["admin"])),
            ("POST", "/api/other/thing", Some(vec!["admin"])),
            ("GET", "/", None),
        ] {
            assert_eq!(who(method, path), want, "{method} {path}");
        }
        assert!(matrix.isolation && matrix.across == matrix.role("admin").unwrap());
        assert!(matrix.is_open(matrix.find(&Method::GET, "/healthz").unwrap()));
    }

    #[test]
    fn every_fault_has_its_line() {
        let faults = Matrix::read(
            b"roles = [\"agent\", \"agent\",\n\"a b\"]\n[[row]]\nroute = \"get /\"\nallow = [\"boss\"]\n\
              [[row]]\nroute = \"/x\"\nallow = []\n[tenant]\nacross = [\"chief\"]\n",
        )
        .unwrap_err();
        assert_eq!(
            faults,
            [
                "line 1: the role \"agent\" is there twice",
                "line 2: expected a role to be a word",
                "line 5: \"boss\" is none of the roles",
                "line 4: expected \"METHOD /path\" or \"/path\", not \"get /\"",
                "line 10: \"chief\" is none of the roles",
            ]
        );
        let twice = MATRIX.replace("DELETE", "GET");
        let faults = Matrix::read(twice.as_bytes()).unwrap_err();
        assert_eq!(faults, ["line 13: \"GET /api/complaints/{id}\" has a row already"]);
        for (text, words) in
            [("roles = 1", "line 1"), ("[[row]]", "missing field `route`"), ("rols = []", "rols")]
        {
            let faults = Matrix::read(text.as_bytes()).unwrap_err();
            assert!(faults.iter().any(|fault| fault.contains(words)), "{faults:?}");
        }
    }

    #[test]
    fn faults_of_shape_are_told_together() {
        let lines = |text: &str| -> Vec<String> {
            let faults = Matrix::read(text.as_bytes()).unwrap_err();
            faults.iter().map(|fault| fault.split(':').next().unwrap().to_owned()).collect()
        };
        let shape = "roles = [\"a\"]\n[[row]]\nroute = \"/a\"\n[[row]]\nroute = \"/b\"\nallow = 5\n\
                     [[row]]\nroute = \"/c\"\nallow = [\"b\"]\n[tenant]\nisolated = true\n";
        assert_eq!(lines(shape), ["line 2", "line 6", "line 11", "line 9"]);
        assert_eq!(lines("roles = [\"a\"\n\n[[row]]\nroute = = 1\n").len(), 2);
        assert_eq!(lines("roles = 5\n[[row]]\nroute = \"/a\"\nallow = [\"b\"]"), ["line 1"]);
    }
}
