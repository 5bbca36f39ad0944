//! What has happened to circuits, beside their records: it decides nothing, and outlives them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::stored::Ended;
use super::time::{HOUR, micros};
use crate::backend::{View, most_noted};
use crate::machine::{HistoryEntry, Origin, Reason, Transition};
use crate::name::CircuitName;

#[derive(Debug, Default)]
pub(super) struct Histories {
    circuits: BTreeMap<CircuitName, VecDeque<Noted>>,
    /// When expired ones are looked for next.
    sweep: u64,
}

#[derive(Clone, Debug)]
struct Noted {
    at: u64,
    transition: Transition,
}

impl Histories {
    /// Notes what an operation has changed. `ended` is an override that was over before it.
    pub(super) fn note(
        &mut self,
        circuit: &CircuitName,
        ended: Option<Ended>,
        before: &View,
        after: &View,
        now: u64,
    ) {
        let replaced = after.overridden.version > before.overridden.version;
        let ended = ended.filter(|_| replaced);
        let transition = after.transition_since(before);
        if ended.is_none() && transition.is_none() {
            return;
        }
        if now >= self.sweep {
            self.sweep = now.saturating_add(HOUR);
            self.circuits.retain(|_, noted| noted.back().is_some_and(|last| last.is_kept(now)));
        }
        let noted = self.circuits.entry(circuit.clone()).or_default();
        if let Some(ended) = ended {
            ended.add_to(noted);
        }
        noted.extend(transition.map(|transition| Noted { at: now, transition }));
        noted.drain(..noted.len().saturating_sub(most_noted(circuit)));
    }

    /// Returns the entries of a circuit, the newest last.
    pub(super) fn of(
        &self,
        circuit: &CircuitName,
        ended: Option<Ended>,
        now: u64,
    ) -> Vec<HistoryEntry> {
        let mut noted = self.circuits.get(circuit).cloned().unwrap_or_default();
        if let Some(ended) = ended {
            ended.add_to(&mut noted);
        }
        let surplus = noted.len().saturating_sub(HistoryEntry::MOST);
        let kept = noted.iter().skip(surplus).filter(|noted| noted.is_kept(now));
        kept.map(|noted| {
            let ago = Duration::from_micros(now.saturating_sub(noted.at));
            HistoryEntry::new(ago, noted.transition.clone())
        })
        .collect()
    }
}

impl Ended {
    /// Adds its entry, at the moment when it was.
    fn add_to(self, noted: &mut VecDeque<Noted>) {
        let place = noted.partition_point(|noted| noted.at <= self.at);
        let after = noted.get(place).filter(|_| self.moved_on);
        let from = self.record.state.state();
        let to = after.map_or(self.beneath, |after| after.transition.from);
        let transition = Transition {
            origin: Origin::Cluster,
            overridden: Some(Arc::new(self.record)),
            ..Transition::new(from, to, Reason::OverrideOver, self.version)
        };
        noted.insert(place, Noted { at: self.at, transition });
    }
}

impl Noted {
    fn is_kept(&self, now: u64) -> bool {
        self.at.saturating_add(micros(HistoryEntry::KEPT_FOR)) > now
    }
}
