//! `[protect.*]`: each protection judges its own settings; this asks every one of them.

use seaworthy_policy::registry::{BuildContext, BuildError, Entry, InstallKey, Protect, REGISTRY};
use seaworthy_policy::source::Sources;

use super::fault::{Fault, Report};
use super::tree::{Node, Path};

/// Reports what makes no sense in the service's settings.
pub(crate) fn check(protect: &Protect, sources: &Sources, tree: &Node, report: &mut Report) {
    for entry in REGISTRY {
        if let Some(error) = fault_of(entry, protect, sources) {
            // The tree's root is above `protect`, so the place is looked for from there.
            let path = Path::of("protect").key(entry.name).keys(error.key);
            report.push(Fault::new(tree.place_of(&path), path.to_string(), error.message));
        }
    }
}

/// Reports what makes no sense in a route's settings and is not the service's fault already.
/// `tree` is the route's merged `protect`, which is at `path`.
pub(crate) fn check_route(
    protect: &Protect,
    service: &Protect,
    overrides: &[usize],
    sources: &Sources,
    tree: &Node,
    path: &Path,
    report: &mut Report,
) {
    for position in overrides {
        let entry = REGISTRY[*position];
        let Some(error) = fault_of(entry, protect, sources) else { continue };
        if (entry.settings)(protect) == (entry.settings)(service) {
            continue;
        }
        let below = Path::of(entry.name).keys(error.key);
        let key = path.key(entry.name).keys(error.key);
        report.push(Fault::new(tree.place_of(&below), key.to_string(), error.message));
    }
}

fn fault_of(entry: &Entry, protect: &Protect, sources: &Sources) -> Option<BuildError> {
    // What is built here is thrown away, so any key serves.
    let context = BuildContext {
        key: &InstallKey::new([0; 32]),
        sources,
        memory: None,
        operations_apart: false,
    };
    (entry.build)(protect, &context).err()
}
