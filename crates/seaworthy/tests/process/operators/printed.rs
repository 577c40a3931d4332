//! What the commands print with `--json`.

use serde_json::Value;

use super::Desk;

/// The members of an object, in order.
fn members(value: &Value) -> Vec<&str> {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    let mut members: Vec<_> = object.keys().map(String::as_str).collect();
    members.sort_unstable();
    members
}

/// Commands that move a rule, each with the mode that it leaves the rule in.
const MOVES: [(&[&str], &str); 8] = [
    (&["mode", "set", "csrf", "enforce=10%"], "enforce 10%"),
    (&["rollout", "promote", "csrf"], "enforce 50%"),
    (&["rollout", "hold", "csrf", "--until", "2h"], "enforce 50%"),
    (&["rollout", "release", "csrf"], "enforce 50%"),
    (&["rollout", "demote", "csrf"], "warn"),
    (&["rollout", "waive", "csrf", "bearer:0123456789abcdef", "--until", "1d"], "warn"),
    (&["rollout", "unwaive", "csrf", "bearer:0123456789abcdef"], "warn"),
    (&["mode", "set", "csrf", "off"], "off"),
];

fn moves_print(desk: &Desk, through: &str) {
    for (args, mode) in MOVES {
        let printed = desk.operator(&[args, &["--json"]].concat(), "to see").json(0);
        assert_eq!(
            members(&printed),
            ["durable", "sentence", "standing", "through"],
            "{args:?}: {printed}"
        );
        assert_eq!((&printed["through"], &printed["durable"]), (&through.into(), &true.into()));
        assert!(
            printed["sentence"].as_str().is_some_and(|said| said.contains("csrf")),
            "{printed}"
        );
        let standing = &printed["standing"];
        assert_eq!(members(standing), ["current", "next", "rule", "setting", "waivers"]);
        let words = [&standing["rule"], &standing["setting"], &standing["current"]["mode"]];
        assert_eq!(words, ["csrf", "auto", mode], "{args:?}");
        let waivers = standing["waivers"].as_array().expect("a list").len();
        assert_eq!(waivers, usize::from(args.contains(&"waive")), "{args:?}");
        // What is printed is where it stands from then on.
        let now = desk.status("csrf");
        assert_eq!(standing["current"]["epoch"], now["current"]["epoch"], "{args:?}");
    }
}

#[tokio::test]
async fn a_move_prints_what_became_of_it_with_a_gateway_and_without_one() {
    let mut desk = Desk::start("").await;
    moves_print(&desk, "gateway");
    desk.close().await;
    moves_print(&desk, "ledger");
    // What is refused is a sentence on standard error, and nothing is printed as if it were done.
    let set = ["rollout", "promote", "csrf", "--json"];
    let refused = desk.operator(&set, "r");
    refused.said(1);
    assert_eq!(refused.output.stdout, b"");
    desk.end().await;
}

#[tokio::test]
async fn the_log_is_exported_with_its_hashes_and_byte_by_byte() {
    let desk = Desk::start("").await;
    desk.operator(&["mode", "set", "csrf", "enforce=10%"], "to see").said(0);
    let plain = desk.ran(&["audit", "export"]).said(0);
    let objects = desk.ran(&["audit", "export", "--json"]).said(0);
    let rows: Vec<Value> =
        objects.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(rows.len(), plain.lines().count());
    assert!(rows.len() >= 3, "{objects}");
    for ((seq, row), (leaf, line)) in (0u64..).zip(&rows).zip(plain.lines().zip(objects.lines())) {
        assert_eq!(members(row), ["chain_hash", "leaf", "leaf_hash", "seq"]);
        assert_eq!((&row["seq"], &row["leaf"]["seq"]), (&seq.into(), &seq.into()));
        assert!(line.contains(leaf), "the leaf is as it was hashed: {line}");
        assert_eq!(*row, desk.ran(&["audit", "show", &seq.to_string(), "--json"]).json(0));
    }
    let tail = desk.ran(&["audit", "tail", "--json"]).json(0);
    assert_eq!(tail.as_array(), Some(&rows));
    let from = desk.ran(&["audit", "export", "--json", "--from", "2"]).said(0);
    assert_eq!(from.lines().collect::<Vec<_>>(), objects.lines().skip(2).collect::<Vec<_>>());
    desk.end().await;
}
