//! The names of keys and channels.

use std::fmt::Write;

use super::super::address::decode;
use crate::backend::Group;
use crate::name::CircuitName;

/// The keys and channels of a prefix.
///
/// All keys of a group have one hash tag, so that one script can take many of its circuits, also in
/// a Redis Cluster:
///
/// | key | what |
/// | --- | --- |
/// | `{cb:17}:g`, `{cb:17}:i`, `{cb:17}:s` | a group, its index, and who has seen what |
/// | `{cb:17}:c:payments`, `{cb:17}:o:payments` | a circuit's record and its override |
/// | `{cb:17}:h:payments` | its history |
/// | `{cb}:replicas`, `{cb}:info`, `{cb}:watched` | the replicas |
///
/// No two of these are the same key, whatever the prefixes and names. `{` and `}` are escaped, so a
/// tag ends at the first `}`, and what follows says what the key is. The tag of a group ends in a
/// number without a colon, so its last colon ends the prefix; what follows `:c:`, `:o:` or `:h:` is
/// the name. Escaping is one to one. Keys of schema 1, `{cb:payments}` and `{cb:payments}:o`, end in
/// nothing or in `:o`, as none of these does.
#[derive(Debug)]
pub(in super::super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(in super::super) fn new(prefix: &str) -> Self {
        Self { prefix: escape(prefix) }
    }

    /// Returns the keys of a group, without those of its circuits.
    pub(in super::super) fn group(&self, group: Group) -> Vec<String> {
        ["g", "i", "s"].map(|key| format!("{}:{key}", self.tag(group))).into()
    }

    /// Returns the keys of a circuit: of its record and of its override.
    pub(in super::super) fn circuit(&self, circuit: &CircuitName) -> [String; 2] {
        let (tag, name) = (self.tag(Group::of(circuit)), escape(circuit.as_str()));
        ["c", "o"].map(|kind| format!("{tag}:{kind}:{name}"))
    }

    /// Returns the key of a circuit's history.
    pub(in super::super) fn history(&self, circuit: &CircuitName) -> String {
        format!("{}:h:{}", self.tag(Group::of(circuit)), escape(circuit.as_str()))
    }

    /// Returns the keys of the replicas.
    pub(in super::super) fn replicas(&self) -> Vec<String> {
        ["replicas", "info", "watched"].map(|key| format!("{{{}}}:{key}", self.prefix)).into()
    }

    /// Returns keys of a group and of the replicas that nothing uses.
    pub(in super::super) fn unused(&self) -> [String; 2] {
        let group = Group::all().next().map_or_else(String::new, |group| self.tag(group));
        [format!("{group}:c:"), format!("{{{}}}:check", self.prefix)]
    }

    /// Returns the channel of changes.
    pub(in super::super) fn changes(&self) -> String {
        format!("{}:changes", self.prefix)
    }

    /// Returns the channel on which replicas describe their circuits.
    pub(in super::super) fn circuits(&self) -> String {
        format!("{}:circuits", self.prefix)
    }

    fn tag(&self, group: Group) -> String {
        format!("{{{}:{}}}", self.prefix, group.number())
    }
}

/// Escapes what could end a hash tag, or a line of a log.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '{' | '}' | '%' | ' ') || character.is_control() {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(escaped, "%{byte:02x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Returns the circuit of an escaped name, if [`escape`] would write it so.
pub(super) fn circuit(escaped: &str) -> Option<CircuitName> {
    let name = decode(escaped)?;
    if escape(&name) == escaped { CircuitName::new(name).ok() } else { None }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PREFIXES: [&str; 9] =
        ["shop", "shop:cb", "cb", "cb:17", "cb:17}:c", "a b", "a%20b", "a:o", "{cb"];
    const NAMES: [&str; 17] = [
        "cb:x", "x", "x:o", "o:x", "c:x", "a b", "a%20b", "{a}", "}", "a\nb", "a%0ab", "a:b", ":",
        "ä\u{85}", "%7d", "17", "check",
    ];

    #[test]
    fn no_two_prefixes_and_names_share_a_key() {
        let (mut all, mut number) = (BTreeSet::new(), 0);
        for prefix in PREFIXES {
            let keys = Keys::new(prefix);
            let circuits = NAMES.map(|name| {
                let name = name.try_into().unwrap();
                let [record, held] = keys.circuit(&name);
                [record, held, keys.history(&name)]
            });
            let groups = Group::all().flat_map(|group| keys.group(group));
            let channels = [keys.changes(), keys.circuits()];
            let more = groups.chain(keys.replicas()).chain(keys.unused()).chain(channels);
            for key in circuits.into_iter().flatten().chain(more) {
                number += 1;
                assert!(all.insert(key.clone()), "{key}");
                // Schema 1.
                assert!(!key.ends_with('}') && !key.ends_with("}:o"), "{key}");
            }
        }
        assert_eq!(all.len(), number);
    }

    #[test]
    fn all_keys_of_a_group_have_its_hash_tag() {
        for name in NAMES.map(|name| CircuitName::new(name).unwrap()) {
            let keys = Keys::new("a}b c");
            let tag = format!("{{a%7db%20c:{}}}:", Group::of(&name).number());
            for key in keys.circuit(&name).into_iter().chain(keys.group(Group::of(&name))) {
                let rest = key.strip_prefix(&tag).unwrap_or_else(|| panic!("{key}"));
                assert!(!rest.contains(['{', '}', ' ', '\n']), "{key}");
            }
        }
    }

    #[test]
    fn an_escaped_name_is_read_back_and_another_spelling_is_not() {
        for name in NAMES {
            assert_eq!(circuit(&escape(name)).unwrap().as_str(), name);
        }
        for wrong in ["", "%41", "%7B", "a b", "%", "%zz", "%ff"] {
            assert!(circuit(wrong).is_none(), "{wrong}");
        }
    }
}
