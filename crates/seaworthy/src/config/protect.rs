//! `[protect.*]`: each protection judges its own settings; this asks every one of them.

use seaworthy_policy::registry::{
    BuildContext, Entry, InstallKey, Protect, REGISTRY, SettingFault, Step,
};
use seaworthy_policy::source::Sources;

use super::fault::{Fault, Report};
use super::tree::{Node, Path};

/// Reports what makes no sense in the service's settings.
pub(crate) fn check(protect: &Protect, sources: &Sources, tree: &Node, report: &mut Report) {
    for entry in REGISTRY {
        for fault in faults_of(entry, protect, sources) {
            // The tree's root is above `protect`, so the place is looked for from there.
            let section = Path::of("protect").key(entry.name);
            tell(fault, &section, &section, tree, report);
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
        if (entry.settings)(protect) == (entry.settings)(service) {
            continue;
        }
        for fault in faults_of(entry, protect, sources) {
            tell(fault, &Path::of(entry.name), &path.key(entry.name), tree, report);
        }
    }
}

/// Reports `fault` of the section that is at `section` in `tree` and is called `name`.
fn tell(fault: SettingFault, section: &Path, name: &Path, tree: &Node, report: &mut Report) {
    let SettingFault { key, below, message } = fault;
    let start = |path: &Path| if key.is_empty() { path.clone() } else { path.keys(key) };
    let (mut at, mut name) = (start(section), start(name));
    for step in below {
        match step {
            Step::Key(key) => (at, name) = (at.key(&key), name.key(&key)),
            // Items that could not be read are not counted, so which one it is is not known.
            Step::Index(_) if report.has_unread_items(&name.to_string()) => break,
            Step::Index(index) => (at, name) = (at.index(index), name.index(index)),
        }
    }
    report.add_sense(Fault::new(tree.place_of(&at), name.to_string(), message));
}

fn faults_of(entry: &Entry, protect: &Protect, sources: &Sources) -> Vec<SettingFault> {
    // What is built here is thrown away, so any key serves.
    let context = BuildContext {
        key: &InstallKey::new([0; 32]),
        sources,
        memory: None,
        operations_apart: false,
    };
    (entry.build)(protect, &context).err().map_or_else(Vec::new, |errors| errors.0)
}
