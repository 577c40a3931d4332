//! The manual's reference pages, rendered from the catalogue and the registry, so that they
//! cannot say anything else than the code.

use std::fmt::Write as _;

use crate::problem::{Code, TYPE_BASE};
use crate::registry::{Protect, REGISTRY};

const EDITED: &str = "<!-- Rendered from the code; `SEAWORTHY_BLESS=1 cargo test -p seaworthy-policy manual` \
                      writes it again. -->";

/// `docs/errors.md`: every code with which the gateway itself answers.
pub fn errors() -> String {
    let mut page = format!(
        "# Errors\n\n{EDITED}\n\nEvery error of the gateway's own is an `application/problem+json` \
         (RFC 9457) with `type`,\n`title`, `status`, `detail`, `instance`, `code` and `request_id`; \
         a browser that navigates gets\nHTML. Match on `code`: it never changes. The `type` of a \
         code is `{TYPE_BASE}<code>`, which the\ngateway itself explains. What your service \
         answers, errors included, passes through untouched.\n\n\
         | code | status | raised by | what a client should do |\n|---|---|---|---|\n"
    );
    for entry in Code::all() {
        let (status, domain) = (entry.status.as_u16(), entry.domain);
        writeln!(page, "| `{}` | {status} | {domain} | {} |", entry.name, entry.remedy)
            .expect("a string takes everything");
    }
    page
}

/// `docs/protections.md`: every protection with its default mode, codes and settings.
pub fn protections() -> String {
    let mut page = format!(
        "# Protections\n\n{EDITED}\n\nIn the order in which a request meets them. Each is a section \
         `[protect.<name>]`, for the whole\nservice or below a `[[route]]`; `mode` is `auto`, `off`, \
         `warn`, `enforce` or `enforce 10%`.\n"
    );
    let defaults = Protect::default();
    for entry in REGISTRY {
        let codes: Vec<String> =
            entry.codes.iter().map(|code| format!("[`{0}`](errors.md)", code.name())).collect();
        let codes = if codes.is_empty() { "none".to_owned() } else { codes.join(", ") };
        write!(
            page,
            "\n## {}\n\n{}\n\n- default mode: `{}`, because {}\n- codes: {codes}\n",
            entry.name, entry.summary, entry.default_mode, entry.default_mode_reason
        )
        .expect("a string takes everything");
        let settings = (entry.settings)(&defaults);
        let keys = keys(entry.name);
        if keys.is_empty() {
            page.push_str("\nIt has no settings but its mode.\n");
            continue;
        }
        page.push_str("\n| setting | default |\n|---|---|\n");
        for key in keys {
            let default =
                settings.get(&key).map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
            writeln!(page, "| `{key}` | {default} |").expect("a string takes everything");
        }
    }
    page
}

/// The keys that the section of the protection `name` takes beside its mode, those without a
/// default among them. Whoever reads the section knows them: a key that is none is told of with all
/// that are.
fn keys(name: &str) -> Vec<String> {
    let unknown = toml::from_str::<Protect>(&format!("[{name}]\n\"?\" = 0"));
    let told = unknown.expect_err("`?` is no key").message().to_owned();
    let (_, known) = told.split_once("expected ").expect("it says what is a key");
    let mut keys: Vec<_> = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    keys.retain(|key| key != "mode");
    keys.sort_unstable();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_manual() {
        assert_eq!(keys("access"), ["api_keys", "jwt", "matrix"]);
        assert_eq!(keys("request_schema"), ["body", "openapi", "unknown_query", "unknown_routes"]);
        assert!(keys("body_syntax").is_empty());
        // A section that is flattened would tell of none.
        for entry in REGISTRY {
            let settings = (entry.settings)(&Protect::default());
            for key in settings.as_object().into_iter().flatten().map(|(key, _)| key) {
                assert!(keys(entry.name).contains(key), "{}: {key}", entry.name);
            }
        }
    }

    #[test]
    fn the_manual_says_what_the_code_says() {
        for (file, page) in [("errors.md", errors()), ("protections.md", protections())] {
            let path = format!("{}/../../docs/{file}", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("SEAWORTHY_BLESS").is_some() {
                std::fs::write(&path, &page).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(written, page, "docs/{file} is not what the code says");
        }
    }
}
