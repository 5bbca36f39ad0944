//! Which circuits of a group have changed, and when.

use std::collections::BTreeMap;

use super::time::millis;
use crate::backend::Cursor;
use crate::name::CircuitName;

/// The circuits of a group that have changed, each with the version of its last change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Index {
    epoch: u64,
    version: u64,
    /// The largest version of a circuit that was removed: a replica that has not read so far must
    /// begin again.
    floor: u64,
    changed: BTreeMap<CircuitName, u64>,
}

/// A part of the changes after a cursor.
pub(super) struct Page {
    pub(super) circuits: Vec<CircuitName>,
    pub(super) cursor: Cursor,
    pub(super) restarted: bool,
    pub(super) more: bool,
}

impl Index {
    /// The most changes of one answer.
    const PAGE: usize = 256;

    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch, version: 0, floor: 0, changed: BTreeMap::new() }
    }

    /// Returns how far a replica has seen the changes. A version of another epoch says nothing
    /// about this one, and no change is seen before it is made.
    pub(super) fn seen(&self, since: Cursor, seen: u64) -> u64 {
        if since.epoch == self.epoch { seen.min(self.version) } else { 0 }
    }

    pub(super) fn next_version(&self, now: u64) -> u64 {
        self.version.saturating_add(1).max(millis(now))
    }

    /// Records a change of a circuit. Returns the versions before and after it.
    pub(super) fn change(&mut self, circuit: &CircuitName, now: u64) -> (u64, u64) {
        let (previous, version) = (self.version, self.next_version(now));
        self.version = version;
        self.changed.insert(circuit.clone(), version);
        (previous, version)
    }

    pub(super) fn after(&self, since: Cursor) -> Page {
        let known =
            since.epoch == self.epoch && (self.floor..=self.version).contains(&since.version);
        let after = if known { since.version } else { 0 };
        let mut changes: Vec<_> =
            self.changed.iter().filter(|(_, version)| **version > after).collect();
        changes.sort_by_key(|(_, version)| **version);
        // A page that ends below the floor would begin again with the next one, for ever.
        let below_floor = changes.partition_point(|(_, version)| **version <= self.floor);
        let length = changes.len().min(Self::PAGE.max(below_floor));
        let more = length < changes.len();
        // What has vanished may have been the last change before the next page.
        let version = if more { self.floor.max(*changes[length - 1].1) } else { self.version };
        Page {
            circuits: changes[..length].iter().map(|(circuit, _)| (*circuit).clone()).collect(),
            cursor: Cursor { epoch: self.epoch, version },
            restarted: !known,
            more,
        }
    }

    /// Returns a few circuits, others at each moment.
    pub(super) fn sample(&self, now: u64) -> Vec<CircuitName> {
        let number = self.changed.len() as u64;
        let at = |n: u64| usize::try_from(n.checked_rem(number)?).ok();
        let numbers = [at(now), at(millis(now).wrapping_add(1))];
        numbers.into_iter().flatten().filter_map(|n| self.changed.keys().nth(n).cloned()).collect()
    }

    /// Removes a circuit of which nothing is stored.
    pub(super) fn remove(&mut self, circuit: &CircuitName) {
        if let Some(version) = self.changed.remove(circuit) {
            self.floor = self.floor.max(version);
        }
    }
}
