//! What replicas have said of their circuits while a page watches them.

use std::collections::HashMap;
use std::time::Duration;

use super::wire::{Said, millis};
use crate::clock;
use crate::machine::State;
use crate::store::{CircuitSummary, ReplicaCircuits};
use crate::timestamp::Timestamp;

/// How many replicas are remembered.
const MOST_REPLICAS: usize = 256;

/// How many circuits of each. A replica publishes up to 60 KiB.
const MOST_CIRCUITS: usize = 2_000;

/// They publish about once a second.
const FORGET: Duration = Duration::from_secs(15);

/// What replicas have said.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    by_id: HashMap<String, Replica>,
}

#[derive(Debug)]
struct Replica {
    name: String,
    at: Timestamp,
    circuits: HashMap<String, CircuitSummary>,
}

impl Replicas {
    /// Remembers what a replica says, and returns the circuits whose state has changed on it.
    pub(super) fn say(&mut self, replica: ReplicaCircuits) -> Vec<String> {
        let now = clock::now();
        self.by_id.retain(|_, replica| now.since(replica.at) < FORGET);
        let ReplicaCircuits { name, id, circuits } = replica;
        if !self.by_id.contains_key(&id) && self.by_id.len() >= MOST_REPLICAS {
            return Vec::new();
        }
        let before = self.by_id.get(&id);
        let of = |circuit: &CircuitSummary| (circuit.state, circuit.generation, circuit.detached);
        let changed = circuits.iter().filter(|circuit| {
            before.and_then(|before| before.circuits.get(&circuit.name)).map(of)
                != Some(of(circuit))
        });
        let changed = changed.map(|circuit| circuit.name.clone()).collect();
        let named = |circuit: CircuitSummary| (circuit.name.clone(), circuit);
        let circuits = circuits.into_iter().take(MOST_CIRCUITS).map(named).collect();
        self.by_id.insert(id, Replica { name, at: now, circuits });
        changed
    }

    /// Returns what replicas have said of a circuit, and how many are left out. Those in another
    /// state than `state` come first.
    pub(super) fn of(&self, circuit: &str, state: State, most: usize) -> (Vec<Said>, usize) {
        let now = clock::now();
        let said = self.by_id.iter().filter_map(|(id, replica)| {
            let ago = now.since(replica.at);
            let said = replica.circuits.get(circuit).filter(|_| ago < FORGET)?;
            Some(Said {
                name: replica.name.clone(),
                id: id.clone(),
                state: said.state,
                since_ms: millis(said.since.saturating_add(ago)),
                generation: said.generation,
                detached: said.detached,
                tally: said.tally,
                // Replicas do not publish totals yet.
                succeeded: None,
                failed: None,
                rejected: None,
            })
        });
        let mut said: Vec<_> = said.collect();
        said.sort_by(|a, b| {
            let key = |said: &Said| said.state == state;
            (key(a), &a.name, &a.id).cmp(&(key(b), &b.name, &b.id))
        });
        let omitted = said.len().saturating_sub(most);
        said.truncate(most);
        (said, omitted)
    }

    /// Returns how long the state of a circuit has lasted, as far as a replica knows it.
    pub(super) fn since(&self, circuit: &str, generation: u64) -> Option<Duration> {
        let now = clock::now();
        let since = self.by_id.values().filter_map(|replica| {
            let said = replica.circuits.get(circuit)?;
            let ago = now.since(replica.at);
            (said.generation == generation).then(|| said.since.saturating_add(ago))
        });
        since.max()
    }
}
