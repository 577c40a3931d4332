//! Judges requests by an OWASP Core Rule Set, or other rules in the language of ModSecurity.
//!
//! 1. The operator brings the rules: without `crs` nothing is judged.
//! 2. A request is denied where the rules say so, by its head or its body. The Core Rule Set says
//!    so where what it has found reaches its threshold.
//! 3. Each rule has a mode of its own within that of the protection: `rules` turns it off, or lets
//!    it be counted alone.
//! 4. Where it only judges a client, one request of `sample` is judged, after its answer.
//! 5. A body that cannot be checked is denied as one that cannot, and so is one above `body_max`
//!    and a request of more than `fields_max` fields: an evaluation has no time limit, and each
//!    rule looks at each field.
//! 6. The client is told the ids and the messages of the rules, never what it sent.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::header::COOKIE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::content::{Body, ContentFault, Media, Part, Unread, has_syntax, media_of};
use crate::crs::{
    IdRange, Input, InputBody, JudgeError, RuleFile, RuleModes, RuleSet, RuleSetError, Why, is_xml,
};
use crate::mode::ModeSetting;
use crate::problem::{Code, Denial, FieldError};
use crate::protection::{Effects, Outcome, Protection, Request};
use crate::quantity::ByteSize;
use crate::registry::{
    BuildContext, BuildError, BuildErrors, Entry, SettingFault, Step, settings_of,
};
use crate::source::{FilesSource, NamedText};

pub const ENTRY: Entry = Entry {
    name: "core_rule_set",
    summary: "Judges requests by an OWASP Core Rule Set, or other rules in ModSecurity's language.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "general rules find attacks in requests that a service rightly takes",
    codes: &[Code::CoreRuleMatched],
    mode: |protect| protect.core_rule_set.mode,
    settings: |protect| settings_of(&protect.core_rule_set),
    build: |protect, context| Ok(Arc::new(CoreRuleSet::build(&protect.core_rule_set, context)?)),
    sources: |protect| protect.core_rule_set.crs.iter().map(|files| files.0.clone()).collect(),
    ..Entry::PLAIN
};

/// `[protect.core_rule_set]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// Files, and folders of files, in the order in which they are read. None by default: the rules
    /// are not part of this gateway.
    pub crs: Vec<FilesSource>,
    /// Rules that do not do what they say, by their ids.
    pub rules: RuleModes,
    /// Where it only judges, one of so many requests is judged. An evaluation takes about as long
    /// as all else that is done for ten requests.
    pub sample: NonZeroU32,
    /// What other engines read of a body by default.
    pub body_max: ByteSize,
    /// Parameters, cookies, and values of a body, all together. As many as other engines take.
    pub fields_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: ENTRY.default_mode,
            crs: Vec::new(),
            rules: RuleModes::new(),
            sample: NonZeroU32::new(10).expect("10 is not 0"),
            body_max: ByteSize::kib(128),
            fields_max: 1000,
        }
    }
}

/// Rules that a denial names.
const ERRORS_MAX: usize = 20;

/// Rules that a notice names.
const NOTICED_MAX: usize = 50;

struct CoreRuleSet {
    rules: Option<RuleSet>,
    sample: NonZeroU32,
    body_bytes_max: usize,
    fields_max: usize,
}

impl CoreRuleSet {
    fn build(config: &Config, context: &BuildContext<'_>) -> Result<Self, BuildErrors> {
        let body_bytes_max =
            usize::try_from(config.body_max.0).ok().filter(|bytes| *bytes > 0).ok_or_else(
                || BuildError { key: "body_max", message: "expected at least one byte".to_owned() },
            )?;
        let rules = Self::rules(config, context).map_err(BuildErrors)?;
        let Config { sample, fields_max, .. } = *config;
        Ok(Self { rules, sample, body_bytes_max, fields_max })
    }

    /// Reads the rules, or says everything that is wrong with them.
    fn rules(
        config: &Config,
        context: &BuildContext<'_>,
    ) -> Result<Option<RuleSet>, Vec<SettingFault>> {
        // The line that switches a rule, which is told of by its own.
        let switch = |range: &IdRange, message: String| SettingFault {
            key: "rules",
            below: vec![Step::Key(range.to_string())],
            message,
        };
        if config.crs.is_empty() {
            let needless = config.rules.keys();
            let faults: Vec<_> = needless
                .map(|range| switch(range, format!("there is no rule {range} without `crs`")))
                .collect();
            return if faults.is_empty() { Ok(None) } else { Err(faults) };
        }
        let (mut texts, mut faults): (Vec<NamedText>, Vec<SettingFault>) = Default::default();
        for (index, source) in config.crs.iter().enumerate() {
            match context.sources.files(&source.0) {
                Ok(mut files) => {
                    // What is listed by itself is rules, whatever it is called:
                    // `crs-setup.conf.example`.
                    if let [(name, _)] = &mut files[..] {
                        name.push_str(if has_extension(name) { "" } else { ".conf" });
                    }
                    texts.append(&mut files);
                }
                Err(message) => {
                    let below = vec![Step::Index(index)];
                    faults.push(SettingFault { key: "crs", below, message });
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let files: Vec<_> = texts.iter().map(|(name, text)| RuleFile { name, text }).collect();
        let fault = |error: RuleSetError| match &error {
            RuleSetError::UnknownId(range) => switch(range, error.to_string()),
            _ => BuildError { key: "crs", message: error.to_string() }.into(),
        };
        RuleSet::read(&files, &config.rules)
            .map(Some)
            .map_err(|errors| errors.into_iter().map(fault).collect())
    }

    fn judge(&self, rules: &RuleSet, request: &Request<'_>) -> Result<(), Denial> {
        let read = request.content.readable()?;
        if read.is_some_and(|body| body.plain().len() > self.body_bytes_max) {
            return Err(Unread::TooLarge { bytes_max: self.body_bytes_max }.denial());
        }
        if fields_of(request, read) > self.fields_max {
            let detail = format!("more than {} fields cannot be checked here", self.fields_max);
            return Err(Denial::new(Code::BodyUnchecked, detail));
        }
        let body = match read {
            // Its media type has been read, and so have its parts.
            Some(body) if matches!(body.media(), Media::Multipart { .. }) => {
                InputBody::Parts(body.parts().map_err(ContentFault::denial)?)
            }
            Some(body) => InputBody::Plain(body.plain()),
            None => InputBody::Plain(b""),
        };
        let input = Input {
            client: request.client.ip,
            method: request.method.as_str(),
            target: request.target.as_str(),
            authority: request.authority,
            headers: request.headers,
            body,
        };
        match rules.judge(&input) {
            Ok(judged) if judged.denied => Err(denial(rules, &judged.found)),
            Ok(_) => Ok(()),
            // Letting these pass would be a way past all rules.
            Err(error @ JudgeError::Body(_)) => {
                Err(Denial::new(Code::UnreadableBody, error.to_string()))
            }
            Err(error @ JudgeError::Request) => {
                let detail = "the request could not be judged by the rules";
                Err(Denial::new(Code::CoreRuleMatched, detail).internal(error.to_string()))
            }
        }
    }
}

/// About how many values the rules find in a request, and never fewer.
fn fields_of(request: &Request<'_>, body: Option<&Body>) -> usize {
    let count = |text: &[u8], marks: &[u8]| text.iter().filter(|b| marks.contains(b)).count() + 1;
    let query = request.target.query().map_or(0, |query| count(query.as_bytes(), b"&;"));
    let cookies =
        request.headers.get_all(COOKIE).iter().map(|value| count(value.as_bytes(), b";&"));
    let in_body = body.map_or(0, |body| match body.media() {
        Media::Json => body.json().map_or(0, leaves_of),
        Media::Multipart { .. } => body.parts().map_or(0, fields_of_parts),
        // By its elements and attributes; an equals sign in its text is one too many.
        Media::Text if is_xml(request.headers) => count(body.plain(), b"&<="),
        // Whatever else it is, it is read as a form.
        _ => count(body.plain(), b"&<"),
    });
    query + cookies.sum::<usize>() + in_body
}

/// The parts, and the fields that they have beside their names.
fn fields_of_parts(parts: &[Part]) -> usize {
    parts.iter().map(|part| 1 + part.other_fields().count()).sum()
}

/// The values in `json`, and the members around them.
fn leaves_of(json: &Value) -> usize {
    match json {
        Value::Array(items) => 1 + items.iter().map(leaves_of).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(leaves_of).sum::<usize>(),
        _ => 1,
    }
}

fn has_extension(name: &str) -> bool {
    [".conf", ".data"].iter().any(|extension| name.ends_with(extension))
}

impl Protection for CoreRuleSet {
    fn is_inert(&self) -> bool {
        self.rules.is_none()
    }

    fn reads_body(&self, request: &Request<'_>) -> bool {
        // Text and bodies without a type are arguments to the engine, too.
        self.rules.is_some()
            && (has_syntax(request.headers) || matches!(media_of(request.headers), Media::Text))
    }

    fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
        let Some(rules) = &self.rules else { return Outcome::NotApplicable };
        match self.judge(rules, request) {
            Ok(()) => Outcome::Allow,
            Err(denial) => Outcome::Deny(denial),
        }
    }

    fn sampling(&self) -> Option<NonZeroU32> {
        self.rules.as_ref().map(|_| self.sample)
    }

    fn notices(&self) -> Vec<String> {
        self.rules.iter().flat_map(left_out).collect()
    }

    fn counts(&self) -> Vec<(String, u64)> {
        let matches = self.rules.iter().flat_map(RuleSet::matches);
        matches.map(|(id, count)| (id.to_string(), count)).collect()
    }
}

/// What is left out of `rules`: a line for each reason.
fn left_out(rules: &RuleSet) -> Vec<String> {
    let mut by_reason: BTreeMap<Why, Vec<u64>> = BTreeMap::new();
    for rule in rules.left_out() {
        by_reason.entry(rule.why).or_default().push(rule.id);
    }
    let line = |(why, ids): (Why, Vec<u64>)| {
        let named: Vec<_> = ids.iter().take(NOTICED_MAX).map(u64::to_string).collect();
        let more = match ids.len().saturating_sub(NOTICED_MAX) {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        format!("rules are left out, as {why}: {}{more}", named.join(" "))
    };
    by_reason.into_iter().map(line).collect()
}

fn denial(rules: &RuleSet, found: &[u64]) -> Denial {
    let ids: Vec<_> = found.iter().map(u64::to_string).collect();
    let detail = match found.len() {
        1 => "a rule about attacks matches the request".to_owned(),
        count => format!("{count} rules about attacks match the request"),
    };
    let mut denial = Denial::new(Code::CoreRuleMatched, detail).internal(ids.join(" "));
    denial.errors = found
        .iter()
        .take(ERRORS_MAX)
        .map(|id| {
            let message = rules.message(*id).unwrap_or("it denies such requests");
            let mut error = FieldError::new(format!("rule:{id}"), message);
            error.keyword = "rule".into();
            error
        })
        .collect();
    denial
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crs::tests::{NEEDS_SETUP, RULES};
    use crate::protections::testing::{Fields, Sample, try_build, try_build_with};
    use crate::registry::Protect;
    use crate::source::{Source, Sources};

    fn sources() -> Sources {
        let file = |name: &str, text: &str| (name.to_owned(), Arc::from(text.as_bytes()));
        let mut sources = Sources::default();
        let rules = vec![file("a.conf", RULES), file("tools.data", "nikto\nweb scanner\n")];
        sources.insert_files(Source::Files("rules".into()), Ok(rules));
        let broken = vec![file("b.conf", "SecRule ARGS\n")];
        sources.insert_files(Source::Files("broken".into()), Ok(broken));
        let without = vec![file("REQUEST-901.conf", NEEDS_SETUP)];
        sources.insert_files(Source::Files("no setup".into()), Ok(without));
        sources.insert(Source::Env("RULES".to_owned()), Ok(b"SecAction \"id:1,pass\"".to_vec()));
        sources
    }

    fn try_rule(lines: &str) -> Result<Arc<dyn Protection>, String> {
        let section = format!("[core_rule_set]\n{lines}");
        let protect: Protect = toml::from_str(&section).map_err(|error| error.to_string())?;
        try_build_with(&ENTRY, &protect, &sources())
    }

    fn rule(lines: &str) -> Arc<dyn Protection> {
        try_rule(lines).unwrap_or_else(|fault| panic!("{lines}: {fault}"))
    }

    #[test]
    fn requests_are_judged_by_the_rules() {
        let rule = rule("crs = [\"rules\"]\nbody_max = \"64B\"");
        let json = ("content-type", "application/json");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let long = format!("a={}", "b".repeat(63));
        let cases: &[(&str, &str, &str, Fields<'_>, &str, &str)] = &[
            ("nothing", "GET", "/", &[], "", "allow"),
            ("below the score", "GET", "/?q=drop", &[], "", "allow"),
            ("the score", "GET", "/?q=drop%20table", &[], "", "core-rule-matched"),
            ("a form", "POST", "/", &[form], "q=drop+table", "core-rule-matched"),
            ("JSON", "POST", "/", &[json], "{\"q\":\"drop table\"}", "core-rule-matched"),
            ("broken JSON", "POST", "/", &[json], "{", "unreadable-body"),
            ("too long", "POST", "/", &[form], &long, "body-unchecked"),
        ];
        for (name, method, target, headers, body, want) in cases {
            let sample = Sample::new(method, target, headers).with_body(body.as_bytes());
            assert_eq!(sample.verdict(&*rule), *want, "{name}");
        }
    }

    #[test]
    fn a_request_of_too_many_fields_is_not_judged_for_seconds() {
        let rule = rule("crs = [\"rules\"]\nfields_max = 4");
        let json = ("content-type", "application/json");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let text = ("content-type", "text/xml");
        let cases: &[(&str, &str, Fields<'_>, &str, &str)] = &[
            ("as many as may be", "/?a&b", &[("cookie", "c=1"), form], "d=1", "allow"),
            ("a query", "/?a&b&c&d&e", &[], "", "body-unchecked"),
            (
                "cookies",
                "/",
                &[("cookie", "a=1; b=2; c"), ("cookie", "d; e")],
                "",
                "body-unchecked",
            ),
            ("a form", "/", &[form], "a&b&c&d&e", "body-unchecked"),
            ("JSON", "/", &[json], "[1,[2],{\"a\":3}]", "body-unchecked"),
            ("XML", "/", &[text], "<a><b/><c/></a>", "body-unchecked"),
            ("attributes", "/", &[text], "<a b='' c='' d=''/>", "body-unchecked"),
            ("prose", "/", &[("content-type", "text/plain")], "a = b = c = d", "allow"),
            ("all together", "/?a&b", &[form], "c=1&d=2&e=3", "body-unchecked"),
        ];
        for (name, target, headers, body, want) in cases {
            let mut sample = Sample::new("POST", target, headers);
            if !body.is_empty() {
                sample = sample.with_body(body.as_bytes());
            }
            assert_eq!(sample.verdict(&*rule), *want, "{name}");
        }
    }

    #[test]
    fn a_multipart_body_is_judged_as_it_was_read() {
        let rule = rule("crs = [\"rules\"]\nfields_max = 4");
        let named = "Content-Disposition: form-data; name=\"q\"";
        let body = |fields: &str, content: &str| {
            format!("--B\n{fields}\n\n{content}\n--B--\n").replace('\n', "\r\n")
        };
        let plain = "multipart/form-data; boundary=B";
        let two = "multipart/form-data; x=\"; boundary=C\"; boundary=B";
        let denied = "core-rule-matched";
        for (name, kind, body, want) in [
            ("nothing", plain, body(named, "a table"), "allow"),
            ("a field", plain, body(named, "drop table"), denied),
            ("an end in a line", plain, body(named, "x--B--\ndrop table"), denied),
            ("a boundary in a line", plain, body(named, "x--B\ndrop table"), denied),
            (
                "a quoted file name",
                plain,
                body(&format!("{named}; x=\"; filename=y\""), "drop table"),
                denied,
            ),
            (
                "an empty file name",
                plain,
                body(&format!("{named}; filename=\"\""), "drop table"),
                denied,
            ),
            ("a file", plain, body(&format!("{named}; filename=y"), "drop table"), "allow"),
            ("a quoted boundary", two, body(named, "drop table"), denied),
            (
                "many fields",
                plain,
                body(&format!("{named}{}", "\nx: y".repeat(4)), ""),
                "body-unchecked",
            ),
        ] {
            let fields = [("content-type", kind)];
            let sample = Sample::new("POST", "/", &fields).with_body(body.as_bytes());
            assert_eq!(sample.verdict(&*rule), want, "{name}");
        }
    }

    #[test]
    fn a_body_that_is_given_up_is_not_clean() {
        let rule = rule("crs = [\"rules\"]\nfields_max = 5000");
        let deep = "<a>".repeat(65) + "drop table" + &"</a>".repeat(65);
        let attrs: String = (0..4100).map(|n| format!(" a{n}=''")).collect();
        let wide = format!("<r><x{attrs}/><q>drop table</q></r>");
        let utf16: Vec<u8> = [0xfeff]
            .into_iter()
            .chain("<q>drop table</q>".encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        let (xml, json) = ("application/xml", "multipart/form-data+json");
        for (name, kind, body, want) in [
            ("nothing", xml, &b"<r><q/><q a='table'>table</q></r>"[..], "allow"),
            ("an element", xml, b"<r><b/><q>drop table</q></r>", "core-rule-matched"),
            ("an attribute", "image/svg+xml", b"<r><q a='drop table'/></r>", "core-rule-matched"),
            (
                "many empty elements",
                xml,
                ("<r>".to_owned() + &"<b/>".repeat(99) + "</r>").as_bytes(),
                "allow",
            ),
            ("deep", xml, deep.as_bytes(), "unreadable-body"),
            ("wide", xml, wide.as_bytes(), "unreadable-body"),
            ("an entity", xml, b"<r>&a;</r>", "unreadable-body"),
            ("a declaration", xml, b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "unreadable-body"),
            ("cut off", xml, b"<r>", "unreadable-body"),
            ("UTF-16", xml, &utf16, "unreadable-body"),
            ("the start of another type", json, b"{\"q\":\"drop table\"}", "unreadable-body"),
        ] {
            let fields = [("content-type", kind)];
            let sample = Sample::new("POST", "/", &fields).with_body(body);
            assert_eq!(sample.verdict(&*rule), want, "{name}");
        }
    }

    #[test]
    fn what_the_rules_cannot_read_is_named() {
        let body = b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>";
        let fields = [("content-type", "application/xml")];
        let sample = Sample::new("POST", "/", &fields).with_body(body);
        let denial = sample.denial(&*rule("crs = [\"rules\"]"));
        let want =
            "the rules cannot read all of this body: XML with declarations of its own is not taken";
        assert_eq!((denial.code.status().as_u16(), &*denial.detail), (400, want));
    }

    #[test]
    fn the_client_is_told_the_rules_and_not_what_it_sent() {
        let denial =
            Sample::new("GET", "/?q=drop%20table", &[]).denial(&*rule("crs = [\"rules\"]"));
        assert_eq!(denial.detail, "2 rules about attacks match the request");
        assert_eq!(denial.internal, "100 101");
        let told: Vec<_> =
            denial.errors.iter().map(|e| (e.at.as_str(), e.detail.as_str())).collect();
        assert_eq!(told, [("rule:100", "A word of SQL"), ("rule:101", "Two words of SQL")]);
        assert!(!format!("{denial:?}").contains("table"), "{denial:?}");
    }

    #[test]
    fn without_rules_nothing_is_judged_read_or_sampled() {
        let rule = try_build(&ENTRY, "").unwrap();
        let sample = Sample::new("POST", "/?q=drop%20table", &[("content-type", "text/plain")]);
        assert_eq!(sample.verdict(&*rule), "n/a");
        assert!(!rule.reads_body(&sample.request()));
        assert_eq!(rule.sampling(), None);
    }

    #[test]
    fn a_rule_can_be_off_or_counted_alone() {
        let sample = Sample::new("GET", "/?q=drop%20table", &[]);
        for (mode, counts) in [("off", vec![]), ("warn", vec![("100".to_owned(), 1)])] {
            let rule =
                rule(&format!("crs = [\"rules\"]\nrules = {{ 100 = \"{mode}\" }}\nsample = 3"));
            assert_eq!(sample.verdict(&*rule), "allow", "{mode}");
            let mut counted = rule.counts();
            counted.retain(|(id, _)| id == "100");
            assert_eq!(counted, counts, "{mode}");
            assert_eq!(rule.sampling().map(NonZeroU32::get), Some(3));
        }
    }

    #[test]
    fn the_operator_is_told_what_is_left_out() {
        let want = [
            "rules are left out, as their patterns need another engine: 105",
            "rules are left out, as `injection` is the better detector: 106",
        ];
        assert_eq!(rule("crs = [\"rules\"]").notices(), want);
        let off = rule("crs = [\"rules\"]\nrules = { 105-106 = \"off\" }");
        assert_eq!(off.notices(), [""; 0]);
        let text: String =
            (1..=60).map(|id| format!("SecRule GEO \"@rx a\" \"id:{id}\"\n")).collect();
        let set =
            RuleSet::read(&[RuleFile { name: "a.conf", text: text.as_bytes() }], &RuleModes::new());
        let [line] = &left_out(&set.unwrap())[..] else { panic!("there is one reason") };
        assert!(line.ends_with(" 49 50 and 10 more"), "{line}");
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        for (lines, words) in [
            (
                "crs = [\"gone\", \"lost\"]",
                "crs[0]: file:gone was not read; crs[1]: file:lost was not read",
            ),
            ("crs = [\"broken\"]", "crs: b.conf: "),
            (
                "crs = [\"rules\"]\nrules = { 7 = \"off\", 8-9 = \"warn\" }",
                "rules.7: there is no rule 7 that could be switched; rules.8-9: there is no rule 8-9",
            ),
            ("rules = { 100 = \"off\" }", "rules.100: there is no rule 100 without `crs`"),
            ("crs = [\"no setup\"]", "crs: rule 901001 denies every request"),
            ("crs = [\"rules\"]\nrules = { x = \"off\" }", "TOML parse error"),
            ("crs = [\"rules\"]\nbody_max = \"0B\"", "body_max: "),
            ("sample = 0", "TOML parse error"),
        ] {
            let said = try_rule(lines).err().unwrap_or_else(|| panic!("{lines} was taken"));
            assert!(said.starts_with(words), "{said}");
        }
        assert!(try_rule("crs = [\"env:RULES\"]").is_ok(), "a variable can have rules, too");
    }
}
