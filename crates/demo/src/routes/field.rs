//! Field types with their bounds: a value that exists is within them.
//!
//! serde reads them through `TryFrom`, so a body or query out of bounds fails to parse, with the
//! field's name in the message.

use serde::{Deserialize, Serialize};

/// A text of 1 to `MAX` characters.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub(crate) struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // A character is one to four bytes: most texts need no count.
        let fits = text.len() <= MAX || text.chars().count() <= MAX;
        if fits && !text.is_empty() {
            Ok(Self(text))
        } else {
            Err(format!("expected 1 to {MAX} characters"))
        }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "i64")]
pub(crate) struct Whole<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> Whole<MIN, MAX> {
    pub(crate) const fn get(self) -> i64 {
        self.0
    }
}

impl<const MIN: i64, const MAX: i64> TryFrom<i64> for Whole<MIN, MAX> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("expected a whole number from {MIN} to {MAX}"))
        }
    }
}

/// A list of 1 to `MAX` items.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<T>", bound = "T: Deserialize<'de>")]
pub(crate) struct Items<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Items<T, MAX> {
    pub(crate) fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for Items<T, MAX> {
    type Error = String;

    fn try_from(items: Vec<T>) -> Result<Self, String> {
        if (1..=MAX).contains(&items.len()) {
            Ok(Self(items))
        } else {
            Err(format!("expected 1 to {MAX} items"))
        }
    }
}

/// How many items a page of a list has, unless the request says.
pub(crate) const PAGE_LEN: i64 = 20;

/// `?limit=`.
pub(crate) type Limit = Whole<1, 100>;

/// A list's page. `next` is the key to ask for the following page with, absent on the last one.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T, K> {
    pub(crate) items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// `items` has one more than the page is long, where there is a following page.
    pub(crate) fn new(mut items: Vec<T>, limit: i64, key: impl Fn(&T) -> K) -> Self {
        let len = limit as usize;
        let more = items.len() > len;
        items.truncate(len);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }
}

/// Declares an enum of words: the same in JSON, in queries and in the database.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
        pub(crate) enum $name {
            $(#[serde(rename = $word)] $variant),+
        }

        impl rusqlite::ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                Ok(match self { $(Self::$variant => $word),+ }.into())
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(
                value: rusqlite::types::ValueRef<'_>,
            ) -> rusqlite::types::FromSqlResult<Self> {
                match value.as_str()? {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(rusqlite::types::FromSqlError::InvalidType),
                }
            }
        }
    };
}
pub(crate) use words;
