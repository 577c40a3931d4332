//! Names for the small numbers that records and counters carry.
//!
//! The tables only grow, so a number keeps its meaning over every reload. They are read where
//! evidence is written down and shown, never on the path of a request.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::record::{RouteId, RuleId};
use crate::registry::REGISTRY;
use crate::route::OTHER;

/// Routes that telemetry tells apart over the life of a process; more fall under [`OTHER`].
pub const ROUTE_NAMES_MAX: usize = 1024;

/// Rules that telemetry tells apart over the life of a process; more share the service's rule.
pub const RULE_NAMES_MAX: usize = 1024;

/// A rule by name: `rate_limit`, or `rate_limit@POST /api/traces`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleName {
    /// The registry position of the protection.
    pub protection: usize,
    /// The route that has settings of its own, else the whole service.
    pub route: Option<Arc<str>>,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REGISTRY[self.protection].name)?;
        match &self.route {
            Some(route) => write!(f, "@{route}"),
            None => Ok(()),
        }
    }
}

/// The tables. One per process, shared by all who read or write evidence.
#[derive(Debug)]
pub struct Names {
    // A lock is right here: written at start and reload, read when evidence is shown, and
    // never by a worker.
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    routes: Vec<Arc<str>>,
    route_ids: HashMap<Arc<str>, RouteId>,
    rules: Vec<RuleName>,
    rule_ids: HashMap<RuleName, RuleId>,
    /// The rules of the config in force; all of them until one is.
    in_force: Option<HashSet<RuleId>>,
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

impl Names {
    /// Route 0 is [`OTHER`], and rule `n` is the whole service's rule of protection `n`.
    pub fn new() -> Self {
        let mut tables = Tables::default();
        tables.intern_route(OTHER);
        for protection in 0..REGISTRY.len() {
            tables.intern_rule(RuleName { protection, route: None });
        }
        Self { tables: RwLock::new(tables) }
    }

    pub fn intern_route(&self, name: &str) -> RouteId {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).intern_route(name)
    }

    pub fn intern_rule(&self, name: RuleName) -> RuleId {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).intern_rule(name)
    }

    /// Says which rules judge from now on: a rule that a reload has dropped is not blamed for what
    /// another one says.
    pub fn put_in_force(&self, rules: impl IntoIterator<Item = RuleId>) {
        let rules = rules.into_iter().collect();
        self.tables.write().unwrap_or_else(PoisonError::into_inner).in_force = Some(rules);
    }

    pub fn route(&self, id: RouteId) -> Arc<str> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.routes.get(usize::from(id.0)).unwrap_or(&tables.routes[0]).clone()
    }

    /// Every rule seen so far; the index is the rule's id.
    pub fn rules(&self) -> Vec<RuleName> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).rules.clone()
    }

    /// The rule that judged a request which fell under the `settings` of one route and belongs to
    /// the operation `route`: the route's own, else the operation's, else the service's.
    pub fn rule_for(&self, settings: RouteId, route: RouteId, protection: usize) -> RuleId {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let own = |route: RouteId| {
            let route = Arc::clone(tables.routes.get(usize::from(route.0))?);
            let id = tables.rule_ids.get(&RuleName { protection, route: Some(route) })?;
            let judges = tables.in_force.as_ref().is_none_or(|rules| rules.contains(id));
            judges.then_some(id)
        };
        let service = RuleName { protection, route: None };
        *own(settings).or_else(|| own(route)).unwrap_or_else(|| &tables.rule_ids[&service])
    }
}

impl Tables {
    fn intern_route(&mut self, name: &str) -> RouteId {
        if let Some(id) = self.route_ids.get(name) {
            return *id;
        }
        if self.routes.len() >= ROUTE_NAMES_MAX {
            return RouteId(0);
        }
        let id = RouteId(self.routes.len() as u16);
        let name: Arc<str> = name.into();
        self.routes.push(Arc::clone(&name));
        self.route_ids.insert(name, id);
        id
    }

    fn intern_rule(&mut self, name: RuleName) -> RuleId {
        if let Some(id) = self.rule_ids.get(&name) {
            return *id;
        }
        if self.rules.len() >= RULE_NAMES_MAX {
            return self.rule_ids[&RuleName { route: None, ..name }];
        }
        let id = RuleId(self.rules.len() as u16);
        self.rules.push(name.clone());
        self.rule_ids.insert(name, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_its_own_rule_or_the_services() {
        let names = Names::new();
        let (traces, pets) = (names.intern_route("POST /api/traces"), names.intern_route("/pets"));
        let own = RuleName { protection: 0, route: Some("POST /api/traces".into()) };
        let id = names.intern_rule(own.clone());
        assert_eq!(own.to_string(), format!("{}@POST /api/traces", REGISTRY[0].name));
        for (settings, route, rule) in
            [(traces, traces, id), (traces, pets, id), (pets, traces, id), (pets, pets, RuleId(0))]
        {
            assert_eq!(names.rule_for(settings, route, 0), rule, "{settings:?} {route:?}");
        }
        assert_eq!(names.intern_route("/pets"), pets);
        assert_eq!(names.intern_rule(own), id);
        names.put_in_force([RuleId(0)]);
        assert_eq!(names.rule_for(traces, traces, 0), RuleId(0), "the rule is gone");
        names.put_in_force([RuleId(0), id]);
        assert_eq!(names.rule_for(traces, traces, 0), id);
    }

    #[test]
    fn full_tables_fall_back_to_the_whole() {
        let names = Names::new();
        for n in 0..2 * ROUTE_NAMES_MAX {
            let route = names.intern_route(&format!("/{n}"));
            names.intern_rule(RuleName { protection: 0, route: Some(names.route(route)) });
        }
        assert_eq!(names.intern_route("/one-more"), RouteId(0));
        let one_more = RuleName { protection: 0, route: Some("/one-more".into()) };
        assert_eq!(names.intern_rule(one_more), RuleId(0));
    }
}
