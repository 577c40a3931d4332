//! API keys, of which only hashes are kept.
//!
//! A key is 256 random bits, so its plain SHA-256 cannot be guessed back; a slow hash is for what
//! people think up. It is looked up by its hash, so that comparing tells nothing of the key.

use std::collections::HashMap;

use ring::digest::{SHA256, digest};
use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use super::matrix::Roles;
use super::written::Written;
use crate::client::{TENANT_WANTED, is_tenant};

/// Keys of one file.
const KEYS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    name: String,
    /// Of the key, in hex.
    sha256: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    expires: Option<Datetime>,
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiKey {
    pub(super) roles: Roles,
    pub(super) tenant: Option<String>,
    pub(super) expires_unix_s: Option<u64>,
}

pub(super) struct ApiKeys(HashMap<[u8; 32], ApiKey>);

impl ApiKeys {
    /// Reads the file; every fault has its line. `role` knows the roles by name.
    pub(super) fn read(
        text: &[u8],
        role: impl Fn(&str) -> Option<Roles>,
    ) -> Result<Self, Vec<String>> {
        let mut written = Written::read(text)?;
        let rows: Vec<Spanned<WrittenKey>> = written.take_rows("key");
        written.finish(&["key"]);
        let mut keys = HashMap::new();
        if rows.len() > KEYS_MAX {
            written.faults.push(format!("it has more than {KEYS_MAX} keys"));
        }
        for spanned in rows {
            let place = Spanned::new(spanned.span(), ());
            let WrittenKey { name, sha256, roles: named, tenant, expires } = spanned.into_inner();
            let mut fault = |fault: String| written.fault(&place, format!("{name:?}: {fault}"));
            let mut roles = Roles::NONE;
            for named in named {
                match role(&named) {
                    Some(known) => roles = roles.with(known),
                    None => fault(format!("the matrix has no role {named:?}")),
                }
            }
            let expires_unix_s = expires.map(unix_s).transpose().unwrap_or_else(|why| {
                fault(why.to_owned());
                None
            });
            if tenant.as_deref().is_some_and(|tenant| !is_tenant(tenant)) {
                fault(format!("tenant: {TENANT_WANTED}"));
            }
            let Some(hash) = unhex(&sha256) else {
                fault("expected `sha256` to be 64 hex digits".to_owned());
                continue;
            };
            if keys.insert(hash, ApiKey { roles, tenant, expires_unix_s }).is_some() {
                fault("the key is there twice".to_owned());
            }
        }
        if written.faults.is_empty() { Ok(Self(keys)) } else { Err(written.faults) }
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<&ApiKey> {
        self.0.get(digest(&SHA256, key).as_ref())
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

/// A day, or a time with its offset, in Unix seconds.
fn unix_s(time: Datetime) -> Result<u64, &'static str> {
    const FAULT: &str = "expected `expires` to be a day, or a time with its offset";
    let date = time.date.ok_or(FAULT)?;
    let of_day = match (time.time, time.offset) {
        (None, None) => 0,
        (Some(time), Some(offset)) => {
            let minutes = match offset {
                toml::value::Offset::Z => 0,
                toml::value::Offset::Custom { minutes } => i64::from(minutes),
            };
            let seconds = i64::from(time.second.unwrap_or(0));
            i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + seconds - minutes * 60
        }
        _ => return Err(FAULT),
    };
    let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    u64::try_from(days * 86_400 + of_day).map_err(|_| FAULT)
}

/// Days from 1970-01-01, counting years from March so that the leap day is the last.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 of "sw_one".
    fn hash(key: &str) -> String {
        digest(&SHA256, key.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn read(text: &str) -> Result<ApiKeys, Vec<String>> {
        ApiKeys::read(text.as_bytes(), |name| (name == "agent").then(|| Roles::one(0)))
    }

    #[test]
    fn a_key_is_found_by_its_hash_alone() {
        let keys = read(&format!(
            "[[key]]\nname = \"ci\"\nsha256 = \"{}\"\nroles = [\"agent\"]\ntenant = \"acme\"\n\
             expires = 2027-01-15\n[[key]]\nname = \"old\"\nsha256 = \"{}\"\n\
             expires = 2027-01-15T01:00:00+01:00\n",
            hash("sw_one"),
            hash("sw_two").to_uppercase()
        ))
        .unwrap();
        let expires_unix_s = Some(1_799_971_200);
        let one = ApiKey { roles: Roles::one(0), tenant: Some("acme".to_owned()), expires_unix_s };
        assert_eq!(keys.find(b"sw_one"), Some(&one));
        let two = ApiKey { roles: Roles::NONE, tenant: None, expires_unix_s };
        assert_eq!(keys.find(b"sw_two"), Some(&two));
        assert_eq!(keys.find(b"sw_three"), None);
        assert_eq!(keys.find(hash("sw_one").as_bytes()), None);
    }

    #[test]
    fn every_fault_has_its_line() {
        let text = format!(
            "[[key]]\nname = \"a\"\nsha256 = \"xyz\"\n[[key]]\nname = \"b\"\nsha256 = \"{0}\"\n\
             roles = [\"boss\"]\nexpires = 10:00:00\n[[key]]\nname = \"c\"\nsha256 = \"{0}\"\ntenant = \"foo bar\"\n",
            hash("sw_one")
        );
        assert_eq!(
            read(&text).err().unwrap(),
            [
                "line 1: \"a\": expected `sha256` to be 64 hex digits",
                "line 4: \"b\": the matrix has no role \"boss\"",
                "line 4: \"b\": expected `expires` to be a day, or a time with its offset",
                "line 9: \"c\": tenant: expected 1 to 48 letters, digits, dots, colons, dashes or \
                 underscores: a request can name no other tenant",
                "line 9: \"c\": the key is there twice",
            ]
        );
        let rows = "[[key]]\nname = 5\n[[key]]\nname = \"b\"\n[[kay]]\n";
        assert_eq!(read(rows).err().unwrap().len(), 3, "each row is read by itself");
        let misspelt = read("[[key]]\nnmae = \"a\"").err().unwrap();
        assert!(misspelt[0].contains("line 2") && misspelt[0].contains("nmae"), "{misspelt:?}");
    }

    #[test]
    fn days_are_counted_as_the_calendar_has_them() {
        for ((year, month, day), want) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 11, 21), 20_778),
            ((2100, 3, 1), 47_541),
        ] {
            assert_eq!(days_from_civil(year, month, day), want, "{year}-{month}-{day}");
        }
    }
}
