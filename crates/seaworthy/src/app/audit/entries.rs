//! What the gateway says of itself in the audit log.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use ring::hmac;
use seaworthy_policy::registry::InstallKey;
use seaworthy_store::ledger::{Action, Entry, TARGET_BYTES_MAX};
use serde_json::json;
use similar::TextDiff;

use crate::config::Config;

/// Who does what nobody asked for in person.
const ACTOR: &str = "gateway";

/// Bytes of a diff that are kept; how many lines are left out is said.
const DIFF_BYTES_MAX: usize = 64 << 10;

/// Lines around a change.
const DIFF_CONTEXT: usize = 2;

/// Every effective setting, a line each, as `seaworthy config show` has them; then what each source
/// held that any setting names, as a keyed hash: those of protections and alerts, the password of
/// Redis, and the files of TLS.
///
/// No setting is a secret: those are kept in files and variables, of which settings have the
/// names. Their contents may be short enough to be guessed, so a hash of them that anybody could
/// compute would say too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::app) struct ConfigText(String);

impl ConfigText {
    pub(in crate::app) fn of(config: &Config, key: &InstallKey) -> Self {
        let mut text: String = config
            .settings()
            .iter()
            .map(|setting| format!("{} = {}\n", setting.key, setting.value))
            .collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key.derive("audit source"));
        for source in config.sources.named() {
            let held = config.sources.fingerprint(std::slice::from_ref(source));
            let tag = hmac::sign(&key, &held.unwrap_or_default());
            let tag = hex(&tag.as_ref()[..16]);
            writeln!(text, "source \"{source}\" = hmac:{tag}").expect("a string takes it all");
        }
        Self(text)
    }

    fn sha256(&self) -> String {
        hex(digest(&SHA256, self.0.as_bytes()).as_ref())
    }

    /// How to get from `before` to this, as a unified diff.
    fn diff(&self, before: &Self) -> String {
        let diff = TextDiff::from_lines(&*before.0, &*self.0);
        let whole = diff.unified_diff().context_radius(DIFF_CONTEXT).to_string();
        if whole.len() <= DIFF_BYTES_MAX {
            return whole;
        }
        let mut kept = String::new();
        let mut lines = whole.split_inclusive('\n');
        for line in lines.by_ref() {
            if kept.len() + line.len() > DIFF_BYTES_MAX {
                break;
            }
            kept += line;
        }
        format!("{kept}… and {} more lines\n", lines.count() + 1)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The gateway serves.
pub(in crate::app) fn started(service: &str, config: &ConfigText) -> Entry {
    let version = env!("CARGO_PKG_VERSION");
    let after = json!({ "version": version, "config_sha256": config.sha256() });
    Entry { after: Some(after), ..Entry::new(ACTOR, Action::GatewayStart, target(service)) }
}

/// The gateway was asked to end.
pub(in crate::app) fn stopped(service: &str) -> Entry {
    let before = json!({ "version": env!("CARGO_PKG_VERSION") });
    Entry { before: Some(before), ..Entry::new(ACTOR, Action::GatewayStop, target(service)) }
}

/// Another config was put in force: that of `file`, or what a URL has now.
pub(in crate::app) fn reloaded(
    file: &str,
    before: &ConfigText,
    now: &ConfigText,
    generation: u64,
) -> Entry {
    Entry {
        before: Some(json!({ "config_sha256": before.sha256() })),
        after: Some(json!({
            "config_sha256": now.sha256(),
            "generation": generation,
            "diff": now.diff(before),
        })),
        ..Entry::new(ACTOR, Action::ConfigReload, target(file))
    }
}

/// A name within its bound: a path or a name that is longer keeps its end.
fn target(name: &str) -> String {
    const CUT: &str = "…";
    if name.is_empty() {
        return "gateway".to_owned();
    }
    if name.len() <= TARGET_BYTES_MAX {
        return name.to_owned();
    }
    let from = name.ceil_char_boundary(name.len() - (TARGET_BYTES_MAX - CUT.len()));
    format!("{CUT}{}", name.get(from..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};

    fn text(toml: &str, secret: &str) -> ConfigText {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seaworthy.toml");
        std::fs::write(&file, toml).unwrap();
        let env = ["WEBHOOK", "ALERTS", "TOKEN", "REDIS"];
        let inputs = Inputs {
            file: Some(file),
            env: env.map(|name| (name.to_owned(), secret.to_owned())).to_vec(),
            ..Inputs::default()
        };
        let config = load(&inputs).unwrap_or_else(|faults| panic!("{faults}"));
        ConfigText::of(&config, &InstallKey::new([1; 32]))
    }

    const CONFIG: &str = "\
        [service]\nupstreams = [\"http://127.0.0.1:3000\"]\n\
        [[route]]\nmatch = \"POST /hooks\"\nsunset = 2027-06-30\n\
        [route.protect.signature]\nsecrets = [\"env:WEBHOOK\"]\n";
    const SECRET: &str = "hunter2hunter2hunter2hunter2hunter2";

    /// What a diff says has changed, as the starts of its lines.
    fn changed(diff: &str) -> Vec<&str> {
        let lines = diff.lines().filter(|line| line.starts_with(['+', '-']));
        lines.map(|line| line.split(" = ").next().unwrap()).collect()
    }

    #[test]
    fn a_reload_says_what_changed_and_no_secret() {
        let before = text(CONFIG, SECRET);
        let now = text(&CONFIG.replace("3000", "3001"), &SECRET.replace('2', "3"));
        let entry = reloaded("seaworthy.toml", &before, &now, 3);
        let after = entry.after.unwrap();
        let diff = after["diff"].as_str().unwrap();
        assert_eq!(
            changed(diff),
            [
                "-service.upstreams",
                "+service.upstreams",
                "-source \"env:WEBHOOK\"",
                "+source \"env:WEBHOOK\"",
            ]
        );
        assert!(diff.starts_with("@@ "), "{diff}");
        assert!(!format!("{after}{}{}", before.0, now.0).contains("hunter"), "{diff}");
        assert_eq!(before.diff(&before), "");
        assert_eq!(before.sha256(), text(CONFIG, SECRET).sha256());
    }

    #[test]
    fn a_secret_that_is_rotated_is_seen_wherever_a_setting_names_it() {
        const SERVICE: &str = "[service]\nname = \"desk\"\nupstreams = [\"http://127.0.0.1:1\"]\n";
        for (section, source) in [
            ("[protect.signature]\nsecrets = [\"env:WEBHOOK\"]", "env:WEBHOOK"),
            ("[alerts]\nsecrets = [\"env:ALERTS\"]", "env:ALERTS"),
            ("[alerts]\ntokens = [\"env:TOKEN\"]", "env:TOKEN"),
            (
                "[modes]\nredis = \"redis://127.0.0.1:1\"\nredis_password = \"env:REDIS\"",
                "env:REDIS",
            ),
        ] {
            let config = format!("{SERVICE}{section}\n");
            let (before, now) = (text(&config, SECRET), text(&config, &SECRET.replace('2', "3")));
            let diff = now.diff(&before);
            let want = [format!("-source \"{source}\""), format!("+source \"{source}\"")];
            assert_eq!(changed(&diff), want, "{section}: {diff}");
            assert!(!diff.contains("hunter"), "{diff}");
        }
    }

    #[test]
    fn a_certificate_and_a_key_that_are_replaced_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let replace = || {
            let made = rcgen::generate_simple_self_signed(["desk.example".to_owned()]).unwrap();
            std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
            std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
            std::fs::write(path("ca.pem"), made.cert.pem()).unwrap();
        };
        let [cert, key, ca] = ["cert.pem", "key.pem", "ca.pem"].map(path);
        let config = format!(
            "[service]\nname = \"desk\"\nupstreams = [\"https://127.0.0.1:1\"]\nca = {ca:?}\n\
             [listen]\ntls = {{ cert = {cert:?}, key = {key:?} }}\n\
             [modes]\nredis = \"rediss://127.0.0.1:1\"\nredis_ca = {ca:?}\n"
        );
        replace();
        let before = text(&config, SECRET);
        replace();
        let now = text(&config, SECRET);
        let mut want: Vec<_> = [&ca, &cert, &key]
            .into_iter()
            .flat_map(|path| ["-", "+"].map(|sign| format!("{sign}source \"file:{path}\"")))
            .collect();
        let diff = now.diff(&before);
        let mut found = changed(&diff);
        want.sort();
        found.sort_unstable();
        assert_eq!(found, want, "{diff}");
        assert!(!diff.contains("BEGIN"), "{diff}");
    }

    #[test]
    fn every_section_is_in_it() {
        let ConfigText(text) = text(CONFIG, SECRET);
        for key in
            ["announce.enabled", "learn.enabled", "consumers.", "rollout.", "route[0].sunset"]
        {
            assert!(text.lines().any(|line| line.starts_with(key)), "{key}");
        }
    }

    #[test]
    fn a_long_diff_says_what_is_left_out() {
        let lines = |start: u32| (start..start + 9000).map(|n| format!("key.{n} = 1\n")).collect();
        let (before, now) = (ConfigText(lines(0)), ConfigText(lines(10_000)));
        let diff = now.diff(&before);
        assert!(diff.len() <= DIFF_BYTES_MAX + 64);
        let last = diff.lines().last().unwrap();
        let left: usize = last.split(' ').nth(2).unwrap().parse().unwrap();
        assert_eq!(diff.lines().count() - 1 + left, 18_001, "{last}");
    }

    #[test]
    fn a_name_is_within_its_bound() {
        assert_eq!(target(""), "gateway");
        let long = target(&format!("{}ü.toml", "x".repeat(600)));
        assert!(long.len() <= TARGET_BYTES_MAX && long.ends_with("xü.toml"), "{long}");
        assert!(target(&"ü".repeat(300)).len() <= TARGET_BYTES_MAX);
    }
}
