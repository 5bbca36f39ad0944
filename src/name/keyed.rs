//! The name of a circuit whose key comes from a request.

use std::fmt::{self, Write};

use super::CircuitName;

/// `layer:key`, with the key escaped, and no longer than a name may be.
///
/// Bytes that must not appear in a log, a label or a Redis key are written as in URLs: `%0A`. A
/// name that is too long ends in `~` and a hash of the whole key. Neither form is ambiguous,
/// because `%` and `~` of the key are escaped. The hash is the same in every process and version,
/// because replicas share circuits by these names.
pub(crate) struct KeyedName {
    bytes: [u8; CircuitName::MAX_BYTES],
    len: usize,
}

/// `~` and 32 digits.
const TAIL: usize = 33;

impl KeyedName {
    /// The largest length of a layer's name in bytes, so that there is room for keys.
    pub(crate) const MOST_PREFIX: usize = 64;

    /// Returns the name of a layer as the names of its circuits begin. What could be taken for the
    /// mark between layer and key is escaped.
    pub(crate) fn prefix(layer: &str) -> String {
        layer.replace('%', "%25").replace(':', "%3A")
    }

    /// `layer` is a [prefix](Self::prefix).
    pub(crate) fn new(layer: &str, key: &str) -> Self {
        let mut name = Self { bytes: [0; CircuitName::MAX_BYTES], len: 0 };
        let written = name
            .write_str(layer)
            .and_then(|()| name.write_char(':'))
            .and_then(|()| name.write_key(key));
        if written.is_err() {
            name.len = name.len.min(CircuitName::MAX_BYTES - TAIL);
            // It fits, because the name of the layer does.
            let _ = write!(name, "~{:032x}", hash(key.as_bytes()));
        }
        name
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }

    pub(crate) fn to_name(&self) -> CircuitName {
        CircuitName::expect(self.as_str().to_owned()).of_a_key()
    }

    fn write_key(&mut self, key: &str) -> fmt::Result {
        if key.len() <= CircuitName::MAX_BYTES - self.len && key.bytes().all(is_plain) {
            return self.write_str(key);
        }
        for byte in key.bytes() {
            if is_plain(byte) {
                self.push(&[byte])?;
            } else {
                write!(self, "%{byte:02X}")?;
            }
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> fmt::Result {
        let end = self.len + bytes.len();
        let free = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        free.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

impl Write for KeyedName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes())
    }
}

fn is_plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

/// A table, because every byte of every call's key is looked up.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let marks = b"-._:/@[]{}*+,=!$()";
    let mut at = 0;
    while at < marks.len() {
        plain[marks[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] |= byte.is_ascii_alphanumeric();
        byte += 1;
    }
    plain
};

/// FNV-1a.
fn hash(bytes: &[u8]) -> u128 {
    const START: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(START, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_could_harm_a_log_or_a_key_is_escaped() {
        let name = |key| KeyedName::new("up", key).as_str().to_owned();
        assert_eq!(name("api.example.com:8443"), "up:api.example.com:8443");
        assert_eq!(name("/users/{id}"), "up:/users/{id}");
        assert_eq!(name("a\nb \"c\"\0"), "up:a%0Ab%20%22c%22%00");
        assert_eq!(name("ä%~"), "up:%C3%A4%25%7E");
    }

    #[test]
    fn a_long_key_ends_in_a_hash_of_all_of_it() {
        let layer = "l".repeat(KeyedName::MOST_PREFIX);
        for key in ["k".repeat(1_000), "\n".repeat(64)] {
            let (one, other) = (format!("{key}1"), format!("{key}2"));
            let [one, other] = [one, other].map(|key| KeyedName::new(&layer, &key).to_name());
            assert!(one.as_str().len() <= CircuitName::MAX_BYTES);
            assert!(one.as_str().starts_with(&format!("{layer}:")));
            assert_ne!(one, other);
        }
        // Fixed, because other processes find the circuit by it.
        let known = KeyedName::new("up", &"k".repeat(200));
        assert_eq!(known.as_str()[..5], *"up:kk");
        assert_eq!(hash(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(hash(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
