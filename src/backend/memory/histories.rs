//! What has happened to circuits, beside their records: it decides nothing, and outlives them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::time::{HOUR, micros};
use crate::backend::View;
use crate::machine::{HistoryEntry, Transition};
use crate::name::CircuitName;

#[derive(Debug, Default)]
pub(super) struct Histories {
    circuits: BTreeMap<CircuitName, VecDeque<Noted>>,
    /// When expired ones are looked for next.
    sweep: u64,
}

#[derive(Debug)]
struct Noted {
    at: u64,
    transition: Transition,
}

impl Histories {
    /// Notes what an operation has changed.
    pub(super) fn note(&mut self, circuit: &CircuitName, before: &View, after: &View, now: u64) {
        let Some(transition) = after.transition_since(before) else { return };
        if now >= self.sweep {
            self.sweep = now.saturating_add(HOUR);
            self.circuits.retain(|_, noted| noted.back().is_some_and(|last| last.is_kept(now)));
        }
        let noted = self.circuits.entry(circuit.clone()).or_default();
        if noted.len() >= HistoryEntry::MOST {
            noted.pop_front();
        }
        noted.push_back(Noted { at: now, transition });
    }

    /// Returns the entries of a circuit, the newest last.
    pub(super) fn of(&self, circuit: &CircuitName, now: u64) -> Vec<HistoryEntry> {
        let noted = self.circuits.get(circuit).into_iter().flatten();
        let kept = noted.filter(|noted| noted.is_kept(now));
        kept.map(|noted| {
            let ago = Duration::from_micros(now.saturating_sub(noted.at));
            HistoryEntry::new(ago, noted.transition.clone())
        })
        .collect()
    }
}

impl Noted {
    fn is_kept(&self, now: u64) -> bool {
        self.at.saturating_add(micros(HistoryEntry::KEPT_FOR)) > now
    }
}
