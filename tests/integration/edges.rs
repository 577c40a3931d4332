//! The house's doors: which crate may depend on which.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// From, to. Tests may use what they test with; that is the last three.
const ALLOWED: &[(&str, &str)] = &[
    ("seaworthy-store", "seaworthy-policy"),
    ("seaworthy-proxy", "seaworthy-policy"),
    ("seaworthy-console", "seaworthy-policy"),
    ("seaworthy-console", "seaworthy-store"),
    ("seaworthy", "seaworthy-policy"),
    ("seaworthy", "seaworthy-store"),
    ("seaworthy", "seaworthy-proxy"),
    ("seaworthy", "seaworthy-console"),
    ("seaworthy", "seaworthy-demo"),
    ("seaworthy-tests", "seaworthy"),
    ("seaworthy-tests", "seaworthy-demo"),
];

#[test]
fn every_edge_between_our_crates_is_an_allowed_one() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs");
    let ours: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    assert!(ours.len() >= 7, "the workspace is found: {ours:?}");
    for package in metadata.workspace_packages() {
        for dependency in &package.dependencies {
            let edge = (package.name.as_str(), dependency.name.as_str());
            assert!(
                !ours.contains(&dependency.name) || ALLOWED.contains(&edge),
                "{} may not depend on {}",
                edge.0,
                edge.1
            );
            assert!(
                dependency.kind != DependencyKind::Build || !ours.contains(&dependency.name),
                "{} builds with {}",
                edge.0,
                edge.1
            );
        }
    }
}
