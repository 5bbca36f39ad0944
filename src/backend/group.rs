//! Groups of circuits, which are synced together.

use crate::name::CircuitName;

/// A group of circuits. The name of a circuit decides its group.
///
/// Replicas send reports and read changes by group, one command for all its circuits. So their
/// cost does not grow with the number of circuits. A backend with several servers can keep each
/// group on one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(u8);

impl Group {
    /// The number of groups. All replicas and all versions of one schema must agree on it.
    pub const COUNT: u8 = 32;

    /// Returns the group of a circuit: the FNV-1a hash of its name, modulo [`COUNT`](Self::COUNT).
    #[must_use]
    pub fn of(circuit: &CircuitName) -> Self {
        let hash = circuit.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The low bits of this hash are its best mixed ones but the lowest: fold the rest in.
        let folded = hash ^ (hash >> 32);
        #[expect(clippy::cast_possible_truncation, reason = "below the number of groups")]
        Self((folded % u64::from(Self::COUNT)) as u8)
    }

    /// Returns all groups.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Returns the number of the group, from 0.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}
