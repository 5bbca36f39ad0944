//! The name of a circuit.

mod keyed;

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use keyed::KeyedName;

/// The name of a circuit: 1 to 128 bytes of text.
///
/// Methods that take a name also take a `&'static str` or a `String`. They panic if the text cannot
/// name a circuit, because a wrong literal is a bug in the program. For a name from outside, use
/// [`CircuitName::new`], which returns an error.
///
/// The length is bounded so that a name from a request cannot bloat logs, metrics and keys.
///
/// ```
/// use tower_breaker::CircuitName;
///
/// let name = CircuitName::new("payments")?;
/// assert_eq!(name.as_str(), "payments");
/// assert!(CircuitName::new("").is_err());
/// assert!(CircuitName::new("x".repeat(129)).is_err());
/// # Ok::<(), tower_breaker::circuit::CircuitNameError>(())
/// ```
#[derive(Clone)]
pub struct CircuitName(Repr);

/// Bounded, because names may come from outside: at most half a megabyte.
const MOST_KEPT: usize = 4_096;

#[derive(Clone)]
enum Repr {
    Static(&'static str),
    Shared(Arc<str>),
    /// Of a circuit of a key.
    OfKey(Arc<str>),
}

impl CircuitName {
    /// The largest length of a name, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Returns the name, if the text can name a circuit.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is empty or longer than [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn new<N: TryInto<Self, Error = CircuitNameError>>(
        name: N,
    ) -> Result<Self, CircuitNameError> {
        name.try_into()
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Static(name) => name,
            Repr::Shared(name) | Repr::OfKey(name) => name,
        }
    }

    /// Returns whether the name was made for a circuit of a key, which a layer takes from requests.
    /// There may be thousands of these, so a backend keeps fewer entries in their
    /// [histories](crate::backend::Backend::history).
    ///
    /// It is no part of the name: the same text from elsewhere is equal, and is not of a key.
    #[must_use]
    pub fn is_of_a_key(&self) -> bool {
        matches!(self.0, Repr::OfKey(_))
    }

    /// Returns the same name, as that of a circuit of a key.
    pub(crate) fn of_a_key(self) -> Self {
        match self.0 {
            Repr::Static(name) => Self(Repr::OfKey(name.into())),
            Repr::Shared(name) | Repr::OfKey(name) => Self(Repr::OfKey(name)),
        }
    }

    /// Returns the same name as circuits keep it. The first 4096 different names are kept for good,
    /// once per process. So a clone of a service and a rejection write no reference count that
    /// other threads write too (5 ns, and 150 ns where two threads meet).
    pub(crate) fn interned(self) -> Self {
        static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let Repr::Shared(name) = &self.0 else { return self };
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.get(&**name).copied();
        match known {
            Some(name) => Self(Repr::Static(name)),
            None if kept.len() >= MOST_KEPT => self,
            None => {
                let name: &'static str = String::leak(name.to_string());
                kept.insert(name);
                Self(Repr::Static(name))
            }
        }
    }

    /// For methods where a wrong name is a bug in the program.
    #[track_caller]
    pub(crate) fn expect<N>(name: N) -> Self
    where
        N: TryInto<Self>,
        N::Error: fmt::Display,
    {
        match name.try_into() {
            Ok(name) => name,
            Err(error) => panic!("{error}"),
        }
    }
}

impl TryFrom<&'static str> for CircuitName {
    type Error = CircuitNameError;

    fn try_from(name: &'static str) -> Result<Self, CircuitNameError> {
        check(name).map(|()| Self(Repr::Static(name)))
    }
}

impl TryFrom<String> for CircuitName {
    type Error = CircuitNameError;

    fn try_from(name: String) -> Result<Self, CircuitNameError> {
        check(&name).map(|()| Self(Repr::Shared(name.into())))
    }
}

fn check(name: &str) -> Result<(), CircuitNameError> {
    if (1..=CircuitName::MAX_BYTES).contains(&name.len()) {
        Ok(())
    } else {
        Err(CircuitNameError { bytes: name.len() })
    }
}

impl PartialEq for CircuitName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for CircuitName {}

impl PartialOrd for CircuitName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CircuitName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

// Hashes as `str` does, so that a map can be searched with a `&str`.
impl Hash for CircuitName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for CircuitName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for CircuitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for CircuitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(feature = "serde")]
mod data {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    use super::CircuitName;

    impl Serialize for CircuitName {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self.as_str())
        }
    }

    impl<'de> Deserialize<'de> for CircuitName {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
        }
    }
}

/// The error of a text that cannot name a circuit: it is empty or too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a circuit's name has 1 to {max} bytes, this one has {bytes}", max = CircuitName::MAX_BYTES)]
pub struct CircuitNameError {
    bytes: usize,
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_once_and_not_without_bound() {
        let name = |n: usize| CircuitName::expect(format!("name {n}")).interned();
        assert!(matches!(name(0).0, Repr::Static(_)));
        assert!(std::ptr::eq(name(0).as_str(), name(0).as_str()));
        for n in 0..MOST_KEPT {
            name(n);
        }
        let last = name(MOST_KEPT);
        assert!(matches!(last.0, Repr::Shared(_)));
        assert_eq!(last.as_str(), format!("name {MOST_KEPT}"));
    }
}
