//! A small rule set that uses what the Core Rule Set uses, and a table of requests.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};

use super::*;

/// Scores, chains, phrases, a jump to a marker right behind it, and rules about answers.
pub(crate) const RULES: &str = r#"
SecComponentSignature "Ours/1"
SecDefaultAction "phase:1,log,pass"
SecDefaultAction "phase:2,log,pass"
SecAction "id:1,phase:1,nolog,pass,setvar:tx.critical=3,setvar:tx.threshold=5,setvar:tx.score=0"

# Nothing of the second phase is between this jump and its mark.
SecRule TX:critical "@eq 3" "id:2,phase:2,nolog,pass,skipAfter:END-PLUGIN"
SecRule TX:critical "@eq 3" "id:3,phase:1,nolog,pass"
SecMarker "END-PLUGIN"

SecRule ARGS|REQUEST_COOKIES "@rx (?i)\b(?:drop|union)\b" \
    "id:100,phase:2,block,t:none,t:urlDecodeUni,msg:'A word of SQL',severity:'CRITICAL',\
    tag:'ours',logdata:'%{MATCHED_VAR}',setvar:'tx.score=+%{tx.critical}'"
SecRule ARGS "@rx drop" "id:101,phase:2,block,msg:'Two words of SQL',severity:'CRITICAL',chain"
    SecRule ARGS "@rx \btable\b" "t:lowercase,setvar:'tx.score=+%{tx.critical}'"
SecRule REQUEST_HEADERS:User-Agent "@pmFromFile tools.data" \
    "id:102,phase:1,block,msg:'A scanner',severity:'CRITICAL',setvar:'tx.score=+5'"
SecRule REQUEST_URI "@pm /.git /.env" "id:103,phase:1,deny,t:normalizePathWin,msg:'A file of the developers'"
SecRule ARGS "@rx a{b}" "id:104,phase:2,block,msg:'A brace',severity:'NOTICE',setvar:tx.score=+5"
SecRule ARGS "@rx (?!a)b" "id:105,phase:2,deny,msg:'Not for this engine'"
SecRule ARGS "@detectSQLi" "id:106,phase:2,deny,msg:'Left to another protection'"
SecRule RESPONSE_BODY "@rx secret" "id:107,phase:4,deny,msg:'About answers'"
SecRule TX:score "@ge %{tx.threshold}" "id:900,phase:2,deny,msg:'Score reached'"
"#;

/// As the Core Rule Set finds out whether its setup has been read.
pub(crate) const NEEDS_SETUP: &str = r#"
SecRule &TX:crs_setup_version "@eq 0" \
    "id:901001,phase:1,deny,status:500,log,auditlog,msg:'Deployed without configuration',severity:'CRITICAL'"
"#;

const DATA: &str = "# tools\nnikto\nweb scanner\n\n";

fn files() -> [RuleFile<'static>; 2] {
    [
        RuleFile { name: "a.conf", text: RULES.as_bytes() },
        RuleFile { name: "tools.data", text: DATA.as_bytes() },
    ]
}

fn modes(list: &[(&str, RuleMode)]) -> RuleModes {
    list.iter().map(|(range, mode)| (range.parse().unwrap(), *mode)).collect()
}

fn judge(
    set: &RuleSet,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Judged {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    set.judge(&Input {
        client: "203.0.113.7".parse().unwrap(),
        method,
        target,
        authority: "app.example",
        headers: &map,
        body: InputBody::Plain(body.as_bytes()),
    })
    .unwrap()
}

#[test]
fn rules_find_what_they_say_and_the_score_denies() {
    let set = RuleSet::read(&files(), &RuleModes::new()).unwrap();
    assert_eq!(set.findings_count(), 5);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let json = ("content-type", "application/json");
    type Case = (
        &'static str,
        &'static str,
        &'static str,
        Vec<(&'static str, &'static str)>,
        &'static str,
        bool,
        Vec<u64>,
    );
    let cases: Vec<Case> = vec![
        ("nothing", "GET", "/a?b=c", vec![], "", false, vec![]),
        ("a word", "GET", "/?q=UNION", vec![], "", false, vec![100]),
        ("half of a chain", "GET", "/?q=drop", vec![], "", false, vec![100]),
        ("a chain", "GET", "/?q=drop+table", vec![], "", true, vec![100, 101]),
        (
            "encoded twice, where a rule decodes",
            "GET",
            "/?q=%2564rop",
            vec![],
            "",
            false,
            vec![100],
        ),
        ("a cookie", "GET", "/", vec![("cookie", "a=union")], "", false, vec![100]),
        ("a form", "POST", "/", vec![form], "q=drop+table", true, vec![100, 101]),
        ("JSON", "POST", "/", vec![json], r#"{"a":[{"b":"drop table"}]}"#, true, vec![100, 101]),
        ("a phrase", "GET", "/", vec![("user-agent", "a Web Scanner/2")], "", true, vec![102]),
        ("a phrase of one word", "GET", "/", vec![("user-agent", "NIKTO")], "", true, vec![102]),
        ("a rule that denies", "GET", "/.git/config", vec![], "", true, vec![103]),
        ("a brace", "GET", "/?q=a%7Bb%7D", vec![], "", true, vec![104]),
        ("a pattern of another engine", "GET", "/?q=b", vec![], "", false, vec![]),
        ("the engine's detector", "GET", "/?q=1'%20or%20'1'='1", vec![], "", false, vec![]),
    ];
    for (name, method, target, headers, body, denied, found) in cases {
        let judged = judge(&set, method, target, &headers, body);
        assert_eq!((judged.denied, judged.found), (denied, found), "{name}");
    }
    let left_out = |id, why| LeftOut { id, why };
    assert_eq!(set.left_out(), [left_out(105, Why::Pattern), left_out(106, Why::Detector)]);
    assert_eq!(set.message(101), Some("Two words of SQL"));
    let counts: BTreeMap<_, _> = set.matches().collect();
    assert_eq!((counts[&100], counts[&101], counts[&102]), (7, 3, 2));
}

#[test]
fn a_rules_mode_is_its_own() {
    let drop_table = |list: &[(&str, RuleMode)]| {
        let set = RuleSet::read(&files(), &modes(list)).unwrap();
        let judged = judge(&set, "GET", "/?q=drop+table", &[], "");
        (judged.denied, judged.found)
    };
    use RuleMode::{Enforce, Off, Warn};
    for (list, want) in [
        (&[("100", Off)][..], (false, vec![101])),
        (&[("100", Warn)], (false, vec![100, 101])),
        (&[("101", Off)], (false, vec![100])),
        (&[("101", Warn)], (false, vec![100, 101])),
        (&[("100-199", Off)], (false, vec![])),
        (&[("100-199", Off), ("100-101", Enforce)], (true, vec![100, 101])),
        (&[("900", Warn)], (false, vec![100, 101])),
        (&[("900", Off)], (false, vec![100, 101])),
    ] {
        assert_eq!(drop_table(list), want, "{list:?}");
    }
}

#[test]
fn an_action_has_a_mode_like_any_rule() {
    let text = r#"
        SecAction "id:1,phase:1,pass,setvar:tx.score_threshold=5"
        SecAction "id:2,phase:1,pass,setvar:tx.score=+5"
        SecAction "id:3,phase:1,deny"
        SecRule TX:score "@ge %{tx.score_threshold}" "id:4,phase:1,deny"
    "#;
    let file = RuleFile { name: "b.conf", text: text.as_bytes() };
    use RuleMode::{Off, Warn};
    for (list, denied) in [
        (&[][..], true),
        (&[("3", Warn)], true),
        (&[("3", Off)], true),
        (&[("1-3", Warn)], false),
        (&[("2-3", Off)], false),
        (&[("1", Warn), ("3", Warn)], true),
        (&[("2", Warn)], true),
    ] {
        let set = RuleSet::read(&[file], &modes(list)).unwrap();
        assert_eq!(judge(&set, "GET", "/", &[], "").denied, denied, "{list:?}");
    }
}

/// Why the rules that use the engine's own detectors are left out.
#[test]
fn the_engines_detectors_take_prose_for_attacks() {
    use zentinel_modsec::operators::{DetectSqliOperator, DetectXssOperator, Operator as _};
    for prose in ["2 or 3 tickets", "at 9 or so", "it's 5 -- maybe 6", "please; delete the old one"]
    {
        assert!(DetectSqliOperator.execute(prose).matched, "{prose}");
    }
    assert!(DetectXssOperator.execute("javascript: the good parts").matched);
}

#[test]
fn what_would_be_passed_over_is_a_fault() {
    let read = |text: &str| {
        let file = RuleFile { name: "b.conf", text: text.as_bytes() };
        let faults = RuleSet::read(&[file], &RuleModes::new()).unwrap_err();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (text, words) in [
        ("", "there is no rule in it"),
        ("# a\n  Include /etc/passwd\n", "b.conf: line 2: Include is not followed"),
        ("Incl\\\nude /etc/passwd\n", "b.conf: line 1: Include is not followed"),
        ("SecAction \"id:1,pass\" \\\r\nINCL\\\r\nUDE x\n", "b.conf: line 2: Include is not"),
        ("# a \\\nInclude /etc/passwd\n", "b.conf: line 2: Include is not followed"),
        ("SecAction \"id:1,pass\"\n\u{a0}SecRule", "b.conf: a character behind line"),
        (
            "SecRuleUpdateTargetByTag a \"!ARGS\"\n",
            "b.conf: line 1: SecRuleUpdateTargetByTag is not supported",
        ),
        ("SecRule ARGS\n", "b.conf: line 1: "),
        (
            "# a\nSecRuel ARGS \"@rx a\" \\\n \"id:1,deny\"\nSecRuleRemoveByTag b\n",
            "b.conf: line 2: SecRuel is not supported\nb.conf: line 4: SecRuleRemoveByTag is not",
        ),
        ("SecRule ARGS \"@pmFromFile /x/y.data\" \"id:1,deny\"\n", "rule 1: its data file"),
        ("SecRule ARGS \"@rx a\" \"id:1,deny,chain\"\n", "rule 1: a chain ends without"),
    ] {
        let fault = read(text);
        assert!(fault.starts_with(words), "{text}: {fault}");
    }
    let torn = RuleFile { name: "b.conf", text: b"\xff" };
    let fault = RuleSet::read(&[torn], &RuleModes::new()).unwrap_err();
    assert_eq!(fault[0].to_string(), "b.conf is not UTF-8");
    let fault = RuleSet::read(&files(), &modes(&[("100", RuleMode::Off), ("5-7", RuleMode::Off)]));
    assert_eq!(fault.unwrap_err()[0].to_string(), "there is no rule 5-7 that could be switched");
}

#[test]
fn every_fault_of_every_file_is_told_with_its_line() {
    let torn = RuleFile { name: "a.conf", text: b"SecRule ARGS\n\nInclude b\nSecRuel x\n" };
    let chain = RuleFile { name: "b.conf", text: b"SecAction \"id:1,pass\"\nSecAction \"id:x\"\n" };
    let faults = RuleSet::read(&[torn, chain], &RuleModes::new()).unwrap_err();
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let places = ["a.conf: line 1: ", "a.conf: line 3: ", "a.conf: line 4: ", "b.conf: line 2: "];
    assert_eq!(told.len(), places.len(), "{told:#?}");
    for (told, place) in told.iter().zip(places) {
        assert!(told.starts_with(place), "{told}");
    }
}

#[test]
fn a_core_rule_set_without_its_setup_is_refused() {
    let rules = RuleFile { name: "REQUEST-901.conf", text: NEEDS_SETUP.as_bytes() };
    let text = b"SecAction \"id:900990,phase:1,pass,nolog,setvar:tx.crs_setup_version=339\"\n";
    let setup = RuleFile { name: "crs-setup.conf", text };
    let off = modes(&[("901001", RuleMode::Off)]);
    for (files, modes, is_right) in [
        (&[setup, rules][..], &RuleModes::new(), true),
        (&[rules], &RuleModes::new(), false),
        (&[rules, setup], &RuleModes::new(), false),
        (&[rules, setup], &off, true),
    ] {
        let faults = RuleSet::read(files, modes).err().unwrap_or_default();
        assert_eq!(faults.is_empty(), is_right, "{faults:?}");
        assert!(faults.iter().all(|fault| fault.to_string().contains("crs-setup.conf")));
    }
}

#[test]
fn files_about_answers_are_left_unread() {
    let answers = RuleFile { name: "RESPONSE-980-CORRELATION.conf", text: b"SecRule torn" };
    let changes = RuleFile {
        name: "RESPONSE-999-EXCLUSION-RULES-AFTER-CRS.conf",
        text: b"SecRuleRemoveById 100\nSecRuleUpdateTargetById 103 \"!REQUEST_URI\"",
    };
    let [rules, data] = files();
    let set = RuleSet::read(&[rules, answers, data, changes], &RuleModes::new()).unwrap();
    assert_eq!(judge(&set, "GET", "/?q=drop+table", &[], "").found, [101]);
    assert!(!judge(&set, "GET", "/.git/config", &[], "").denied);
}

#[test]
fn ids_are_read_and_written() {
    for (text, want) in [("942100", "942100"), ("1-9", "1-9"), ("5-5", "5")] {
        assert_eq!(text.parse::<IdRange>().unwrap().to_string(), want);
    }
    for text in ["", "a", "9-1", "-1", "1-", "+1", "1-2-3"] {
        assert!(text.parse::<IdRange>().is_err(), "{text}");
    }
}
