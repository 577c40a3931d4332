//! Adds the response headers that make a browser hold back.
//!
//! 1. Each header has its own setting, and `"off"` leaves it out.
//! 2. A header that the service set itself is kept, unless `override_service` is on.
//! 3. `Strict-Transport-Security` is sent over TLS alone (RFC 6797, 7.2), and never for localhost:
//!    it knows no ports, so it would cut off every other service on a developer's machine.
//! 4. The defaults are those that break no page. What can break one is the Content-Security-Policy,
//!    which is a protection of its own.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::field::{FieldText, Switch};
use super::origin::{is_loopback, split_port};
use crate::mode::ModeSetting;
use crate::protection::{
    Apply, Conflict, Decorate, Edit, Edits, Effects, Outcome, Protection, Request, Response, Scheme,
};
use crate::quantity::Period;
use crate::registry::{BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "security_headers",
    summary: "Adds the response headers that make a browser hold back.",
    default_mode: ModeSetting::ENFORCE,
    default_mode_reason: "the defaults break no page, and what the service sets itself is kept",
    codes: &[],
    mode: |protect| protect.security_headers.mode,
    settings: |protect| settings_of(&protect.security_headers),
    build: |protect, _| Ok(Arc::new(SecurityHeaders::build(&protect.security_headers)?)),
    ..Entry::PLAIN
};

/// `[protect.security_headers]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// Whether a header that the service set is replaced. Default: no, the service knows better.
    pub override_service: bool,
    /// `X-Content-Type-Options`. `nosniff`: a file is what its Content-Type says.
    pub content_type_options: ContentTypeOptions,
    /// `X-Frame-Options`. `sameorigin` by default: clickjacking needs a foreign frame, and a
    /// service whose pages are meant for foreign frames is rare and knows it.
    pub frame_options: FrameOptions,
    /// `Referrer-Policy`. What browsers do by themselves today, made certain for old ones.
    pub referrer_policy: Switch<FieldText>,
    /// `Permissions-Policy`. By default devices that no embedded page is ever lent; the service's
    /// own pages keep them. Camera, microphone, payment and the like are lent to embedded meeting
    /// and checkout pages, so closing those is for the operator to say.
    pub permissions_policy: Switch<FieldText>,
    /// `Strict-Transport-Security`: how long a browser insists on TLS. A year is what preload lists
    /// and scanners ask for. Going back to plain HTTP hurts at any length that protects; `"0s"`,
    /// sent over TLS, takes it back.
    pub hsts_max_age: Switch<Period>,
    /// Off by default: some subdomain may have no TLS yet.
    pub hsts_include_subdomains: bool,
    /// Off by default: to be on the browsers' preload list is hard to take back.
    pub hsts_preload: bool,
    /// `Cross-Origin-Opener-Policy`. Pages opened by this one (a payment, a login) still can talk
    /// to it; foreign pages that open this one cannot reach into it.
    pub opener_policy: OpenerPolicy,
    /// `Cross-Origin-Resource-Policy`. Off by default: `same-site` and `same-origin` break pages
    /// elsewhere that show this service's images or scripts, and `cross-origin` is weaker than
    /// saying nothing, since it opens resources to cross-origin isolated pages.
    pub resource_policy: ResourcePolicy,
}

impl Default for Config {
    fn default() -> Self {
        let text = |text| Switch::On(FieldText::from_static(text));
        Self {
            mode: ENTRY.default_mode,
            override_service: false,
            content_type_options: ContentTypeOptions::Nosniff,
            frame_options: FrameOptions::Sameorigin,
            referrer_policy: text("strict-origin-when-cross-origin"),
            permissions_policy: text("hid=(self), midi=(self), serial=(self), usb=(self)"),
            hsts_max_age: Switch::On(Period::secs(YEAR_S)),
            hsts_include_subdomains: false,
            hsts_preload: false,
            opener_policy: OpenerPolicy::SameOriginAllowPopups,
            resource_policy: ResourcePolicy::Off,
        }
    }
}

const YEAR_S: u64 = 365 * 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentTypeOptions {
    Off,
    Nosniff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameOptions {
    Off,
    #[serde(alias = "DENY")]
    Deny,
    #[serde(alias = "SAMEORIGIN")]
    Sameorigin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenerPolicy {
    Off,
    UnsafeNone,
    SameOriginAllowPopups,
    SameOrigin,
    NoopenerAllowPopups,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourcePolicy {
    Off,
    SameOrigin,
    SameSite,
    CrossOrigin,
}

impl ContentTypeOptions {
    const fn value(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::Nosniff => Some("nosniff"),
        }
    }
}

impl FrameOptions {
    const fn value(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::Deny => Some("DENY"),
            Self::Sameorigin => Some("SAMEORIGIN"),
        }
    }
}

impl OpenerPolicy {
    const fn value(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::UnsafeNone => Some("unsafe-none"),
            Self::SameOriginAllowPopups => Some("same-origin-allow-popups"),
            Self::SameOrigin => Some("same-origin"),
            Self::NoopenerAllowPopups => Some("noopener-allow-popups"),
        }
    }
}

impl ResourcePolicy {
    const fn value(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::SameOrigin => Some("same-origin"),
            Self::SameSite => Some("same-site"),
            Self::CrossOrigin => Some("cross-origin"),
        }
    }
}

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

struct SecurityHeaders {
    fields: Vec<(HeaderName, HeaderValue)>,
    hsts: Option<HeaderValue>,
    conflict: Conflict,
}

impl SecurityHeaders {
    fn build(config: &Config) -> Result<Self, BuildError> {
        let word = |value: Option<&'static str>| value.map(HeaderValue::from_static);
        let text = |setting: &Switch<FieldText>| setting.as_ref().map(FieldText::to_value);
        let fields = [
            (header::X_CONTENT_TYPE_OPTIONS, word(config.content_type_options.value())),
            (header::X_FRAME_OPTIONS, word(config.frame_options.value())),
            (header::REFERRER_POLICY, text(&config.referrer_policy)),
            (PERMISSIONS_POLICY, text(&config.permissions_policy)),
            (OPENER_POLICY, word(config.opener_policy.value())),
            (RESOURCE_POLICY, word(config.resource_policy.value())),
        ];
        Ok(Self {
            fields: fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            hsts: hsts(config)?,
            conflict: if config.override_service {
                Conflict::Replace
            } else {
                Conflict::KeepService
            },
        })
    }
}

fn hsts(config: &Config) -> Result<Option<HeaderValue>, BuildError> {
    let max_age_s = config.hsts_max_age.as_ref().map(|age| age.as_duration().as_secs());
    // The conditions of hstspreload.org; browsers ignore the wish where they are not met.
    let preloadable = config.hsts_include_subdomains && max_age_s.is_some_and(|s| s >= YEAR_S);
    if config.hsts_preload && !preloadable {
        let message = "needs hsts_include_subdomains = true and an hsts_max_age of at least 365d";
        return Err(BuildError { key: "hsts_preload", message: message.to_owned() });
    }
    let subdomains = if config.hsts_include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if config.hsts_preload { "; preload" } else { "" };
    Ok(max_age_s.map(|s| {
        HeaderValue::from_str(&format!("max-age={s}{subdomains}{preload}"))
            .expect("words and a number")
    }))
}

impl Protection for SecurityHeaders {
    fn check(&self, request: &Request<'_>, effects: &mut Effects) -> Outcome {
        if let Some(hsts) = &self.hsts
            && request.scheme == Scheme::Https
            && !split_port(request.authority).is_some_and(|(host, _)| is_loopback(host))
        {
            effects.headers.push(Edit {
                name: header::STRICT_TRANSPORT_SECURITY,
                value: hsts.clone(),
                apply: Apply::Enforced,
                conflict: self.conflict,
            });
        }
        Outcome::Allow
    }

    fn decorator(&self) -> Option<&dyn Decorate> {
        Some(self)
    }
}

impl Decorate for SecurityHeaders {
    fn decorate(&self, _response: &Response<'_>, edits: &mut Edits<'_>) {
        for (name, value) in &self.fields {
            edits.add(Apply::Enforced, self.conflict, name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Sample, build, decorate, edits, fault};

    #[test]
    fn the_defaults_are_added_and_the_services_headers_kept() {
        assert_eq!(
            decorate(&*build(&ENTRY, ""), Scheme::Http, &[]),
            [
                "Enforced KeepService x-content-type-options: nosniff",
                "Enforced KeepService x-frame-options: SAMEORIGIN",
                "Enforced KeepService referrer-policy: strict-origin-when-cross-origin",
                "Enforced KeepService permissions-policy: \
                 hid=(self), midi=(self), serial=(self), usb=(self)",
                "Enforced KeepService cross-origin-opener-policy: same-origin-allow-popups",
            ]
        );
    }

    #[test]
    fn each_header_can_be_changed_or_left_out() {
        let off = r#"content_type_options = "off"
            frame_options = "off"
            referrer_policy = "off"
            permissions_policy = "off"
            opener_policy = "off""#;
        assert!(decorate(&*build(&ENTRY, off), Scheme::Http, &[]).is_empty());
        for (line, want) in [
            ("frame_options = \"DENY\"", "x-frame-options: DENY"),
            ("referrer_policy = \"no-referrer\"", "referrer-policy: no-referrer"),
            ("permissions_policy = \"camera=()\"", "permissions-policy: camera=()"),
            ("opener_policy = \"same-origin\"", "cross-origin-opener-policy: same-origin"),
            ("resource_policy = \"same-site\"", "cross-origin-resource-policy: same-site"),
        ] {
            let lines = format!("override_service = true\n{line}");
            let added = decorate(&*build(&ENTRY, &lines), Scheme::Http, &[]);
            assert!(added.contains(&format!("Enforced Replace {want}")), "{added:?}");
        }
    }

    #[test]
    fn hsts_goes_over_tls_to_hosts_with_a_name_of_their_own() {
        let all = "hsts_include_subdomains = true\nhsts_preload = true";
        for (lines, scheme, authority, want) in [
            ("", Scheme::Https, "a.example", Some("max-age=31536000")),
            ("", Scheme::Http, "a.example", None),
            ("", Scheme::Https, "localhost:8443", None),
            ("", Scheme::Https, "127.0.0.1:8443", None),
            ("", Scheme::Https, "[::1]:8443", None),
            ("hsts_max_age = \"off\"", Scheme::Https, "a.example", None),
            ("hsts_max_age = \"0s\"", Scheme::Https, "a.example", Some("max-age=0")),
            (all, Scheme::Https, "a", Some("max-age=31536000; includeSubDomains; preload")),
        ] {
            let sample = Sample::new("GET", "/", &[]).at(scheme, authority);
            let (verdict, effects) = sample.check(&*build(&ENTRY, lines));
            let want: Vec<_> =
                want.iter().map(|want| format!("strict-transport-security: {want}")).collect();
            assert_eq!((verdict.as_str(), edits(&effects)), ("allow", want), "{authority}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for (line, words) in [
            ("hsts_preload = true", "hsts_preload: needs hsts_include_subdomains"),
            ("hsts_max_age = \"1y\"", "(\"off\" leaves it out)"),
            ("frame_options = \"allow-from\"", "unknown variant `allow-from`"),
            ("opener_policy = \"none\"", "unknown variant `none`"),
            ("referrer_policy = \"\"", "expected a header value"),
            ("permissions_policy = \"a\\nb\"", "expected a header value"),
        ] {
            let said = fault(&ENTRY, line);
            assert!(said.contains(words), "{said}");
        }
    }
}
