//! What the circuits of keys had counted that the store has forgotten.
//!
//! Laws:
//!
//! 1. A circuit is either in the map, or its totals are in the sum of its layer: it leaves the one
//!    for the other under one lock. So sums never fall, and miss no call.
//! 2. There is one sum for each layer that has lost a circuit, so memory does not grow with keys.
//!
//! The lock is taken before those of the map and of circuits. No user code runs under it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::{Circuits, Entry};
use crate::name::CircuitName;
use crate::stats::Totals;

#[derive(Debug, Default)]
pub(super) struct Departed(Mutex<Sums>);

type Sums = HashMap<CircuitName, Totals>;

impl Departed {
    /// Takes a circuit out of the map if `may_go`, and keeps what it has counted.
    ///
    /// It must not be in use, or later results would miss in the sum.
    pub(super) fn remove(
        &self,
        circuits: &Circuits,
        name: &CircuitName,
        may_go: impl FnOnce(&Entry) -> bool,
    ) -> Option<Entry> {
        let mut sums = self.lock();
        let (_, entry) = circuits.remove_if(name, |_, entry| may_go(entry))?;
        if let Some(layer) = entry.layer() {
            sums.entry(layer.clone()).or_default().add(&entry.circuit.totals());
        }
        Some(entry)
    }

    /// Returns the totals of each layer: of all circuits that it has, and of those that it had.
    pub(super) fn all(&self, circuits: &Circuits) -> Sums {
        let sums = self.lock();
        let mut all = sums.clone();
        for entry in circuits {
            if let Some(layer) = entry.layer() {
                all.entry(layer.clone()).or_default().add(&entry.circuit.totals());
            }
        }
        all
    }

    /// Returns the totals of one layer.
    pub(super) fn of(&self, layer: &CircuitName, circuits: &Circuits) -> Totals {
        let sums = self.lock();
        let mut totals = sums.get(layer).cloned().unwrap_or_default();
        for entry in circuits {
            if entry.layer() == Some(layer) {
                totals.add(&entry.circuit.totals());
            }
        }
        totals
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
