//! The header fields that announce a rule to clients, written once for each config.

use http::HeaderValue;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use seaworthy_policy::mode::Mode;
use seaworthy_proxy::{Announcement, slug};

use crate::config::Announce;

/// What a client is told of the rule `name`, which has judged since `since_unix_s`.
pub(super) fn announcement(
    name: &str,
    mode: Mode,
    announce: &Announce,
    since_unix_s: i64,
) -> Announcement {
    let date = announce.dates.get(name).copied();
    let at_unix_s = date.and_then(midnight).unwrap_or(since_unix_s);
    let link = format!("</.seaworthy/deprecations#{}>; rel=\"deprecation\"", slug(name));
    let enforcement = date.map(|date| format!("{}; mode={}; at={date}", item(name), mode.word()));
    let value =
        |text: String| HeaderValue::try_from(text).expect("names and dates are visible ASCII");
    Announcement {
        deprecation: value(format!("@{at_unix_s}")),
        link: value(link),
        enforcement: enforcement.map(value),
        date: date.map(|date| date.to_string()),
    }
}

/// `Sunset` (RFC 8594) at the start of `date`.
pub(super) fn sunset(date: Date) -> anyhow::Result<HeaderValue> {
    let text = date.strftime("%a, %d %b %Y 00:00:00 GMT").to_string();
    Ok(HeaderValue::try_from(text)?)
}

/// When `date` begins in UTC, in Unix seconds.
fn midnight(date: Date) -> Option<i64> {
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// A name as an item of a structured field (RFC 9651): a token, else a string.
fn item(name: &str) -> String {
    let token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:/*".contains(&byte));
    if token { name.to_owned() } else { format!("\"{}\"", name.escape_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_announced_with_its_date_or_since_when_it_judges() {
        let announce = Announce {
            enabled: true,
            dates: [
                ("csrf".to_owned(), Date::constant(2027, 1, 15)),
                ("body_limit@POST /api/{id}".to_owned(), Date::constant(2027, 2, 1)),
            ]
            .into(),
        };
        let told = |name: &str| {
            let told = announcement(name, Mode::Warn, &announce, 1_700_000_000);
            let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
            (text(&told.deprecation), text(&told.link), told.enforcement.as_ref().map(text))
        };
        let link = |slug| format!("</.seaworthy/deprecations#{slug}>; rel=\"deprecation\"");
        assert_eq!(told("cors"), ("@1700000000".to_owned(), link("cors"), None));
        let dated = Some("csrf; mode=warn; at=2027-01-15".to_owned());
        assert_eq!(told("csrf"), ("@1799971200".to_owned(), link("csrf"), dated));
        let quoted = "\"body_limit@POST /api/{id}\"; mode=warn; at=2027-02-01".to_owned();
        let slugged = link("body_limit-POST--api--id-");
        let (_, link, enforcement) = told("body_limit@POST /api/{id}");
        assert_eq!((link, enforcement), (slugged, Some(quoted)));
    }

    #[test]
    fn a_sunset_is_an_http_date() {
        let date = Date::constant(2027, 6, 30);
        assert_eq!(sunset(date).unwrap(), "Wed, 30 Jun 2027 00:00:00 GMT");
    }
}
