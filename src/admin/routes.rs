//! The paths of the service.

use crate::name::CircuitName;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Page,
    Overview,
    Replicas,
    Health,
    Ready,
    Events,
    Circuit(CircuitName),
    History(CircuitName),
    Write(Write),
}

/// A change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Write {
    Override(CircuitName),
    Clear(CircuitName),
    Reset(CircuitName),
    Policy(CircuitName),
    ResetAll,
}

impl Route {
    /// Returns what a path names, or `None` if it names nothing. A name is decoded after the path
    /// is split, so it may contain slashes.
    pub(super) fn of(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut segments = path.split('/');
        let rest = [(); 5].map(|()| segments.next());
        Some(match rest {
            [Some(""), None, ..] => Self::Page,
            [Some("events"), None, ..] => Self::Events,
            [Some("api"), Some("overview"), None, ..] => Self::Overview,
            [Some("api"), Some("replicas"), None, ..] => Self::Replicas,
            [Some("api"), Some("health"), None, ..] => Self::Health,
            [Some("api"), Some("ready"), None, ..] => Self::Ready,
            [Some("api"), Some("reset"), None, ..] => Self::Write(Write::ResetAll),
            [Some("api"), Some("circuits"), Some(circuit), what, None] => {
                let circuit = name(circuit)?;
                match what {
                    None => Self::Circuit(circuit),
                    Some("history") => Self::History(circuit),
                    Some("override") => Self::Write(Write::Override(circuit)),
                    Some("clear") => Self::Write(Write::Clear(circuit)),
                    Some("reset") => Self::Write(Write::Reset(circuit)),
                    Some("policy") => Self::Write(Write::Policy(circuit)),
                    Some(_) => return None,
                }
            }
            _ => return None,
        })
    }
}

/// Decodes a name. What cannot name a circuit names none.
fn name(encoded: &str) -> Option<CircuitName> {
    let mut bytes = encoded.bytes();
    let mut decoded = Vec::with_capacity(encoded.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let byte = match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            byte => byte,
        };
        decoded.push(byte);
    }
    CircuitName::new(String::from_utf8(decoded).ok()?).ok()
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_before_its_name_is_decoded() {
        let circuit = |path: &str| match Route::of(path) {
            Some(Route::Circuit(name)) => Some(name.to_string()),
            _ => None,
        };
        assert_eq!(circuit("/api/circuits/a%2Fb").as_deref(), Some("a/b"));
        assert_eq!(circuit("/api/circuits/a:b+c").as_deref(), Some("a:b+c"));
        assert_eq!(circuit("/api/circuits/%e2%82%ac").as_deref(), Some("€"));
        assert_eq!(circuit("/api/circuits/history").as_deref(), Some("history"));
        for wrong in ["", "%", "%4", "%zz", "%ff", "%+1", &"x".repeat(129)] {
            assert_eq!(Route::of(&format!("/api/circuits/{wrong}")), None, "{wrong}");
        }
    }

    #[test]
    fn a_path_that_names_nothing_is_no_route() {
        assert_eq!(Route::of("/"), Some(Route::Page));
        assert_eq!(Route::of(""), Some(Route::Page));
        for path in [
            "//",
            "/api",
            "/api/",
            "/api/overview/",
            "/events/x",
            "/api/circuits/a/x",
            "/api/circuits/a/history/x",
            "/api/circuits",
            "/../etc/passwd",
            "/page.html",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
