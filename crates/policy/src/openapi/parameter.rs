//! Parameters: where they are, how they are written, and what they have to be.

use std::borrow::Cow;

use http::HeaderName;
use http::header::COOKIE;
use jsonschema::Validator;
use serde_json::{Map, Value};

use super::shape::Shape;
use super::{Findings, Input, Settings, UnknownQuery, schema};
use crate::content::parse_json;

/// A parameter of an operation.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    /// `query:limit`
    pub(super) at: String,
    pub(super) place: ParameterPlace,
    pub(super) required: bool,
    pub(super) style: Style,
    pub(super) explode: bool,
    pub(super) shape: Shape,
    pub(super) validator: Validator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParameterPlace {
    Path,
    Query,
    Header(HeaderName),
    Cookie,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
    /// JSON in a parameter.
    Json,
}

impl Style {
    pub(super) fn of(name: &str, place: &ParameterPlace) -> Option<Self> {
        let style = match name {
            "simple" => Self::Simple,
            "label" => Self::Label,
            "matrix" => Self::Matrix,
            "form" => Self::Form,
            "spaceDelimited" => Self::SpaceDelimited,
            "pipeDelimited" => Self::PipeDelimited,
            "deepObject" => Self::DeepObject,
            _ => return None,
        };
        let fits = match place {
            ParameterPlace::Path => matches!(style, Self::Simple | Self::Label | Self::Matrix),
            ParameterPlace::Header(_) => style == Self::Simple,
            ParameterPlace::Cookie => style == Self::Form,
            ParameterPlace::Query => !matches!(style, Self::Simple | Self::Label | Self::Matrix),
        };
        fits.then_some(style)
    }

    pub(super) const fn default_of(place: &ParameterPlace) -> Self {
        match place {
            ParameterPlace::Path | ParameterPlace::Header(_) => Self::Simple,
            ParameterPlace::Query | ParameterPlace::Cookie => Self::Form,
        }
    }
}

/// Judges all parameters of a request whose path matches `template`.
pub(super) fn judge(
    parameters: &[Parameter],
    template: &str,
    input: &Input<'_>,
    settings: Settings,
    findings: &mut Findings,
) {
    let pairs = Pairs(input.query.unwrap_or_default());
    for parameter in parameters {
        match parameter.read(template, input, pairs) {
            Ok(Some(value)) => schema::judge(&parameter.validator, &value, &parameter.at, findings),
            Ok(None) if parameter.required => {
                findings.note(&parameter.at, "required", "it is missing");
            }
            Ok(None) => {}
            Err(expected) => findings.note(&parameter.at, "style", expected),
        }
    }
    if settings.unknown_query == UnknownQuery::Deny {
        for (name, _) in pairs.iter() {
            let known = |parameter: &&Parameter| {
                parameter.place == ParameterPlace::Query && parameter.takes(&name)
            };
            if parameters.iter().find(known).is_none() {
                findings.note("query", "additionalProperties", "no further parameters");
            }
        }
    }
}

impl Parameter {
    /// Whether the parameter `name` of a query belongs to this one.
    fn takes(&self, name: &str) -> bool {
        if self.style == Style::DeepObject {
            let rest = name.strip_prefix(self.name.as_str());
            return rest.is_some_and(|rest| rest.starts_with('[') && rest.ends_with(']'));
        }
        let spread = self.style == Style::Form && self.explode && self.shape.object;
        if spread { self.shape.properties.contains_key(name) } else { name == self.name }
    }

    /// The value, where there is one, or what was expected of how it is written.
    fn read(
        &self,
        template: &str,
        input: &Input<'_>,
        pairs: Pairs<'_>,
    ) -> Result<Option<Value>, &'static str> {
        match &self.place {
            ParameterPlace::Query => self.read_query(pairs),
            ParameterPlace::Path => {
                segment(template, input.path, &self.name).map(|raw| self.read_path(raw)).transpose()
            }
            ParameterPlace::Header(name) => {
                let mut values = input.headers.get_all(name).iter();
                let Some(first) = values.next() else { return Ok(None) };
                let mut text = first.to_str().map_err(|_| "visible characters")?.to_owned();
                for more in values {
                    text.push(',');
                    text.push_str(more.to_str().map_err(|_| "visible characters")?);
                }
                if self.style == Style::Json {
                    return json(&text).map(Some);
                }
                let parts = text.split(',').map(|part| Cow::Borrowed(part.trim()));
                Ok(Some(self.simple(&text, parts)))
            }
            ParameterPlace::Cookie => {
                let mut found = None;
                for field in input.headers.get_all(COOKIE) {
                    for pair in field.to_str().unwrap_or_default().split(';') {
                        if let Some((name, value)) = pair.trim().split_once('=')
                            && name == self.name
                            && found.replace(value).is_some()
                        {
                            return Err("one cookie of this name");
                        }
                    }
                }
                let Some(raw) = found else { return Ok(None) };
                let text = decode(raw, Plus::Literal)?;
                if self.style == Style::Json {
                    return json(&text).map(Some);
                }
                let parts = raw.split(',').map(|part| decode(part, Plus::Literal));
                let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
                Ok(Some(self.simple(&text, parts.into_iter())))
            }
        }
    }

    fn read_path(&self, raw: &str) -> Result<Value, &'static str> {
        let decoded = |part: &str| decode(part, Plus::Literal).map(|text| text.into_owned());
        let list = |text: &str, by: char| -> Result<Vec<String>, &'static str> {
            text.split(by).map(decoded).collect()
        };
        let (text, parts) = match self.style {
            Style::Json => return json(&decoded(raw)?),
            Style::Label => {
                let text = raw.strip_prefix('.').ok_or("a dot before the value")?;
                (text, list(text, if self.explode { '.' } else { ',' })?)
            }
            Style::Matrix => {
                let prefix = format!(";{}=", self.name);
                if self.explode && self.shape.array {
                    let text =
                        raw.strip_prefix(&prefix).ok_or("a semicolon and the name before")?;
                    let parts: Result<Vec<_>, _> = text.split(&prefix).map(decoded).collect();
                    (text, parts?)
                } else if self.explode && self.shape.object {
                    let text = raw.strip_prefix(';').ok_or("a semicolon before the value")?;
                    (text, list(text, ';')?)
                } else {
                    let text =
                        raw.strip_prefix(&prefix).ok_or("a semicolon and the name before")?;
                    (text, list(text, ',')?)
                }
            }
            _ => (raw, list(raw, ',')?),
        };
        Ok(self.simple(&decoded(text)?, parts.into_iter().map(Cow::Owned)))
    }

    /// A value that comes as one text, `parts` being its items.
    fn simple<'a>(&self, text: &str, parts: impl Iterator<Item = Cow<'a, str>>) -> Value {
        if self.shape.array {
            return Value::Array(parts.map(|part| self.shape.item(&part)).collect());
        }
        if !self.shape.object {
            return self.shape.scalar(text);
        }
        let mut map = Map::new();
        if self.explode {
            for part in parts {
                let (name, value) = part.split_once('=').unwrap_or((&part, ""));
                map.insert(name.to_owned(), self.shape.property(name, value));
            }
        } else {
            let mut parts = parts;
            while let Some(name) = parts.next() {
                let value = parts.next().unwrap_or_default();
                map.insert(name.to_string(), self.shape.property(&name, &value));
            }
        }
        Value::Object(map)
    }

    fn read_query(&self, pairs: Pairs<'_>) -> Result<Option<Value>, &'static str> {
        let own = || pairs.iter().filter(|(name, _)| self.takes(name)).map(|(_, raw)| raw);
        let value = |raw: &str| decode(raw, Plus::Space).map(|text| text.into_owned());
        if self.style == Style::DeepObject
            || (self.style == Style::Form && self.explode && self.shape.object)
        {
            let mut map = Map::new();
            for (name, raw) in pairs.iter().filter(|(name, _)| self.takes(name)) {
                let property = match self.style {
                    Style::DeepObject => {
                        let inner = name.get(self.name.len() + 1..name.len() - 1);
                        inner.unwrap_or_default().to_owned()
                    }
                    _ => name.into_owned(),
                };
                let read = self.shape.property(&property, &value(raw)?);
                if map.insert(property, read).is_some() {
                    return Err("each member once");
                }
            }
            return Ok((!map.is_empty()).then_some(Value::Object(map)));
        }
        let Some(first) = own().next() else { return Ok(None) };
        let several = own().nth(1).is_some();
        if self.style == Style::Form && self.explode && self.shape.array {
            let items = own().map(|raw| value(raw).map(|text| self.shape.item(&text)));
            return Ok(Some(Value::Array(items.collect::<Result<_, _>>()?)));
        }
        if several {
            return Err("one parameter of this name");
        }
        if self.style == Style::Json {
            return json(&value(first)?).map(Some);
        }
        let separators: &[&str] = match self.style {
            Style::SpaceDelimited => &["%20", "+"],
            Style::PipeDelimited => &["|", "%7C", "%7c"],
            _ => &[","],
        };
        let mut parts = vec![first];
        for separator in separators {
            parts = parts.into_iter().flat_map(|part| part.split(separator)).collect();
        }
        let parts = parts.into_iter().map(|part| decode(part, Plus::Space));
        let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
        let inline = Self::is_list_pairs(self.style);
        Ok(Some(self.simple_pairs(&value(first)?, parts, inline)))
    }

    /// Whether an object in this style is a list of names and values in turn.
    const fn is_list_pairs(style: Style) -> bool {
        matches!(style, Style::Form | Style::SpaceDelimited | Style::PipeDelimited)
    }

    fn simple_pairs(&self, text: &str, parts: Vec<Cow<'_, str>>, in_turn: bool) -> Value {
        if !(in_turn && self.shape.object) || self.shape.array {
            return self.simple(text, parts.into_iter());
        }
        let mut map = Map::new();
        let mut parts = parts.into_iter();
        while let Some(name) = parts.next() {
            let value = parts.next().unwrap_or_default();
            map.insert(name.to_string(), self.shape.property(&name, &value));
        }
        Value::Object(map)
    }
}

fn json(text: &str) -> Result<Value, &'static str> {
    parse_json(text.as_bytes()).map_err(|_| "JSON with one reading")
}

/// The pairs of a query.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<'a>(pub(crate) &'a str);

impl<'a> Pairs<'a> {
    /// Names decoded, values as they were sent.
    pub(crate) fn iter(self) -> impl Iterator<Item = (Cow<'a, str>, &'a str)> {
        self.told().map(|(name, value)| (name, value.unwrap_or_default()))
    }

    /// As [`Self::iter`], where a pair without `=` has no value.
    pub(crate) fn told(self) -> impl Iterator<Item = (Cow<'a, str>, Option<&'a str>)> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (pair, None),
            };
            (decode(name, Plus::Space).unwrap_or(Cow::Borrowed(name)), value)
        })
    }
}

/// What a plus means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    Space,
    Literal,
}

/// Undoes percent-encoding.
pub(crate) fn decode(raw: &str, plus: Plus) -> Result<Cow<'_, str>, &'static str> {
    const FAULT: &str = "percent-encoded UTF-8";
    if !raw.contains(['%', '+']) {
        return Ok(Cow::Borrowed(raw));
    }
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' if plus == Plus::Space => b' ',
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(FAULT),
            },
            byte => byte,
        });
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| FAULT)
}

/// What stands for `{name}` of `template` in `path`.
fn segment<'p>(template: &str, path: &'p str, name: &str) -> Option<&'p str> {
    let wanted = format!("{{{name}}}");
    for (template, actual) in template.split('/').zip(path.split('/')) {
        let Some(at) = template.find(&wanted) else { continue };
        let before = template.get(..at)?;
        let after = template.get(at + wanted.len()..)?;
        return actual.strip_prefix(before)?.strip_suffix(after);
    }
    None
}
