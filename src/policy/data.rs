//! Policies as data of serde.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::nearest::nearest;
use super::patch::PolicySettings;
use super::setting::{Setting, Value};
use super::settings::Policy;

/// The most characters that an error shows of a name or a value.
const SHOWN: usize = 64;

/// A value of any type, whose text is checked later, so that all problems are found at once.
pub(crate) enum Raw {
    Empty,
    Scalar(String),
    Table(Vec<(String, Raw)>),
    List,
}

impl Raw {
    /// Returns the text of a value that is set.
    pub(crate) fn text(&self) -> Result<Option<&str>, &'static str> {
        match self {
            Self::Scalar(text) if text.is_empty() => Ok(None),
            Self::Scalar(text) => Ok(Some(text)),
            Self::Empty => Ok(None),
            Self::Table(_) => Err("one value, not a table"),
            Self::List => Err("one value, not a list"),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(value))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Empty)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Empty)
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Raw, D::Error> {
        Raw::deserialize(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Raw::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut table = Vec::new();
        while let Some((name, value)) = map.next_entry::<Raw, Raw>()? {
            match name {
                Raw::Scalar(name) => table.push((name, value)),
                _ => return Err(A::Error::custom("the name of a setting is not a text")),
            }
        }
        Ok(Raw::Table(table))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // TOML has no larger integers.
            Self::Count(count) if i64::try_from(*count).is_ok() => serializer.serialize_u64(*count),
            Self::Number(number) => serializer.serialize_f64(*number),
            _ => serializer.collect_str(self),
        }
    }
}

impl Serialize for PolicySettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let settings = self.iter();
        let mut map = serializer.serialize_map(Some(settings.len()))?;
        for (name, value) in settings {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for PolicySettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw::Table(table) = Raw::deserialize(deserializer)? else {
            return Err(D::Error::custom("expected the settings of a policy, with their names"));
        };
        let mut problems = Vec::new();
        let table = table.iter().map(|(name, value)| (name, value));
        let settings = Self::read(table, |name, value, expected| {
            let name: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
            problems.push(match value {
                Some(value) => {
                    let value: String = value.chars().take(SHOWN).collect();
                    format!("`{name}` is {value:?}, expected {expected}")
                }
                None => format!("`{name}`: {expected}"),
            });
        });
        if problems.is_empty() { Ok(settings) } else { Err(D::Error::custom(problems.join("; "))) }
    }
}

impl PolicySettings {
    /// Reads the settings in a table, and reports each problem with the name, the value and what
    /// was expected.
    pub(crate) fn read<'a>(
        table: impl IntoIterator<Item = (&'a String, &'a Raw)>,
        mut problem: impl FnMut(&str, Option<&str>, &str),
    ) -> Self {
        let mut settings = Self::default();
        for (name, value) in table {
            let Some(setting) = Setting::named(name) else {
                problem(name, None, &unknown(name, Setting::ALL.map(Setting::name)));
                continue;
            };
            if settings.get(setting).is_some() {
                problem(name, None, "is set twice");
                continue;
            }
            match value.text() {
                Ok(None) => {}
                Ok(Some(text)) => match setting.read(text) {
                    Ok(value) => settings.set(setting, value),
                    Err(expected) => problem(name, Some(text), &expected),
                },
                Err(expected) => problem(name, None, &format!("expected {expected}")),
            }
        }
        settings
    }
}

/// Returns what to say of a name that is not known.
pub(crate) fn unknown<S: AsRef<str>>(name: &str, known: impl IntoIterator<Item = S>) -> String {
    match nearest(name, known) {
        Some((_, near)) => format!("unknown setting; did you mean `{}`?", near.as_ref()),
        None => "unknown setting; remove it, or check its spelling".to_owned(),
    }
}

/// Writes all settings, with the names that the [configuration](crate::config) lists.
impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        PolicySettings::from(self).serialize(serializer)
    }
}

/// Reads settings over those of the default policy, and checks them as
/// [`PolicyBuilder::build`](crate::policy::PolicyBuilder::build) does. Unknown names are refused.
impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = PolicySettings::deserialize(deserializer)?;
        settings.over(&Self::default()).map_err(D::Error::custom)
    }
}
