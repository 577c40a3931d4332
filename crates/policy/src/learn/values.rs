//! What values at one place of many requests were like. Each type here is a join-semilattice: its
//! `join` takes in what another saw, in any order and any number of times.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::MEMBERS_MAX;

/// Names of parameters or fields that are joined; above that none is told apart.
const FIELDS_JOINED_MAX: usize = 256;

/// Media types of parts of one name that are told apart.
const PART_MEDIA_MAX: usize = 4;

/// Stands for the fields that came without `=`, of which only is kept that there were some. It is no
/// name.
pub(super) const BARE: &str = "";

/// Stands for all media types.
const ANY_MEDIA: &str = "*/*";

/// What one value is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// It was not looked at.
    Any,
    Null,
    Boolean,
    Integer,
    Number,
    Date,
    DateTime,
    Email,
    Uri,
    Uuid,
    /// Text in no format that is known.
    Text,
    /// A file in a form.
    File,
    /// JSON in a part of a form.
    Json,
}

impl Kind {
    /// The format of text, as JSON Schema calls it.
    pub(super) const fn format(self) -> Option<&'static str> {
        match self {
            Self::Date => Some("date"),
            Self::DateTime => Some("date-time"),
            Self::Email => Some("email"),
            Self::Uri => Some("uri"),
            Self::Uuid => Some("uuid"),
            _ => None,
        }
    }

    pub(super) const fn is_text(self) -> bool {
        self.format().is_some() || matches!(self, Self::Text | Self::File)
    }
}

/// How long text is, in steps of four: 0 is up to 16 characters, 1 up to 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Length(u8);

impl Length {
    /// Text of more than 256Ki characters has this.
    const MAX: u8 = 8;

    pub(super) fn of(text: &str) -> Self {
        let chars = text.chars().count();
        Self((0..Self::MAX).find(|step| chars <= Self::chars(*step)).unwrap_or(Self::MAX))
    }

    const fn chars(step: u8) -> usize {
        16 << (2 * step)
    }

    /// A bound for such texts: at least four times as long as the longest that was seen.
    pub(super) fn bound(self) -> Option<usize> {
        let step = self.0.saturating_add(1);
        (step < Self::MAX).then(|| Self::chars(step))
    }

    fn is_shortest(&self) -> bool {
        self.0 == 0
    }
}

/// Values that come as text: segments of paths, parameters, fields of forms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Texts {
    pub(super) kinds: BTreeSet<Kind>,
    /// Of all of them: what is a number here can be text elsewhere.
    #[serde(default, skip_serializing_if = "Length::is_shortest")]
    pub(super) length: Length,
}

impl Texts {
    pub(super) fn new(kind: Kind, length: Length) -> Self {
        Self { kinds: BTreeSet::from([kind]), length }
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.kinds.extend(&other.kinds);
        self.length = self.length.max(other.length);
    }
}

/// Parameters of a query, fields or parts of a form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fields {
    /// There were too many, or some that cannot be read.
    Any,
    Named(BTreeMap<String, Field>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Field {
    /// Every request had it.
    pub(super) required: bool,
    /// Some request had it more than once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) repeated: bool,
    pub(super) texts: Texts,
    /// The media types of parts of this name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) media: BTreeSet<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Field {
    /// The field in another request.
    fn join(&mut self, other: &Self) {
        self.required &= other.required;
        self.repeated |= other.repeated;
        self.take(&other.texts, &other.media);
    }

    /// The field once more in the same request.
    pub(super) fn repeat(&mut self, texts: &Texts, media: &BTreeSet<String>) {
        self.repeated = true;
        self.take(texts, media);
    }

    fn take(&mut self, texts: &Texts, media: &BTreeSet<String>) {
        self.texts.join(texts);
        self.media.extend(media.iter().cloned());
        if self.media.len() > PART_MEDIA_MAX || self.media.contains(ANY_MEDIA) {
            self.media = BTreeSet::from([ANY_MEDIA.to_owned()]);
        }
    }

    /// The media types, where they are few enough to be told.
    pub(super) fn told_media(&self) -> Option<&BTreeSet<String>> {
        Some(&self.media).filter(|media| !media.is_empty() && !media.contains(ANY_MEDIA))
    }

    /// About how many bytes it takes as text, beside its name.
    pub(super) fn weight(&self) -> usize {
        const EACH: usize = 70;
        EACH + 12 * self.texts.kinds.len() + self.media.iter().map(String::len).sum::<usize>()
    }
}

impl Fields {
    /// The fields by their names, where they are told apart. Each could be one that came without `=`
    /// elsewhere, where it is empty text.
    pub(super) fn told(&self) -> Option<BTreeMap<String, Field>> {
        let Self::Named(fields) = self else { return None };
        let mut told = fields.clone();
        if let Some(bare) = told.remove(BARE) {
            for field in told.values_mut() {
                field.texts.join(&bare.texts);
                field.repeated |= bare.repeated;
            }
        }
        Some(told)
    }

    pub(super) fn join(&mut self, other: &Self) {
        let (Self::Named(ours), Self::Named(theirs)) = (&mut *self, other) else {
            *self = Self::Any;
            return;
        };
        for (name, field) in &mut *ours {
            field.required &= theirs.contains_key(name);
        }
        for (name, field) in theirs {
            match ours.get_mut(name) {
                Some(known) => known.join(field),
                None => {
                    ours.insert(name.clone(), Field { required: false, ..field.clone() });
                }
            }
        }
        if ours.len() > FIELDS_JOINED_MAX {
            *self = Self::Any;
        }
    }
}

/// Values in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Values {
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) kinds: BTreeSet<Kind>,
    /// Of the texts among them.
    #[serde(default, skip_serializing_if = "Length::is_shortest")]
    pub(super) length: Length,
    /// The items of the arrays among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) items: Option<Box<Self>>,
    /// The members of the objects among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) members: Option<Members>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Members {
    Named(BTreeMap<String, Member>),
    /// The names are data: ids, dates, words of people.
    Map(Box<Values>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    /// Every object had it.
    pub(super) required: bool,
    pub(super) values: Values,
}

impl Values {
    pub(super) fn any() -> Self {
        Self::scalar(Kind::Any, Length::default())
    }

    pub(super) fn scalar(kind: Kind, length: Length) -> Self {
        Self { kinds: BTreeSet::from([kind]), length, ..Self::default() }
    }

    pub(super) fn array(items: Self) -> Self {
        Self { items: Some(Box::new(items)), ..Self::default() }
    }

    pub(super) fn object(members: Members) -> Self {
        Self { members: Some(members), ..Self::default() }
    }

    pub(super) fn is_any(&self) -> bool {
        self.kinds.contains(&Kind::Any)
    }

    pub(super) fn join(&mut self, other: &Self) {
        if self.is_any() || other.is_any() {
            *self = Self::any();
            return;
        }
        self.kinds.extend(&other.kinds);
        self.length = self.length.max(other.length);
        match (&mut self.items, &other.items) {
            (Some(ours), Some(theirs)) => ours.join(theirs),
            (ours @ None, Some(theirs)) => *ours = Some(theirs.clone()),
            (_, None) => {}
        }
        match (&mut self.members, &other.members) {
            (Some(ours), Some(theirs)) => ours.join(theirs),
            (ours @ None, Some(theirs)) => *ours = Some(theirs.clone()),
            (_, None) => {}
        }
    }

    /// About how many bytes it takes as text.
    pub(super) fn weight(&self) -> usize {
        const EACH: usize = 60;
        let items = self.items.as_ref().map_or(0, |items| items.weight());
        let members = match &self.members {
            None => 0,
            Some(Members::Map(values)) => values.weight(),
            Some(Members::Named(members)) => {
                members.iter().map(|(name, member)| name.len() + member.values.weight()).sum()
            }
        };
        EACH + items + members
    }

    /// Lets go of what is more than `levels` down.
    pub(super) fn prune(&mut self, levels: usize) {
        let Some(below) = levels.checked_sub(1) else {
            *self = Self::any();
            return;
        };
        if let Some(items) = &mut self.items {
            items.prune(below);
        }
        match &mut self.members {
            None => {}
            Some(Members::Map(values)) => values.prune(below),
            Some(Members::Named(members)) => {
                members.values_mut().for_each(|member| member.values.prune(below));
            }
        }
    }
}

impl Members {
    fn join(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Map(ours), theirs) => theirs.all().for_each(|values| ours.join(values)),
            (Self::Named(_), Self::Map(theirs)) => {
                self.forget_names();
                self.join(&Self::Map(theirs.clone()));
            }
            (Self::Named(ours), Self::Named(theirs)) => {
                for (name, member) in &mut *ours {
                    member.required &= theirs.contains_key(name);
                }
                for (name, member) in theirs {
                    match ours.get_mut(name) {
                        Some(known) => {
                            known.required &= member.required;
                            known.values.join(&member.values);
                        }
                        None => {
                            let member = Member { required: false, ..member.clone() };
                            ours.insert(name.clone(), member);
                        }
                    }
                }
                if ours.len() > MEMBERS_MAX {
                    self.forget_names();
                }
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Values> {
        let (named, map) = match self {
            Self::Named(members) => (Some(members), None),
            Self::Map(values) => (None, Some(&**values)),
        };
        named.into_iter().flat_map(BTreeMap::values).map(|member| &member.values).chain(map)
    }

    fn forget_names(&mut self) {
        let mut all = Values::default();
        self.all().for_each(|values| all.join(values));
        *self = Self::Map(Box::new(all));
    }
}
