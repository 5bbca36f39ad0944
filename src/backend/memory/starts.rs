//! What the starts of replicas have sent in one group.

use std::collections::BTreeMap;

use super::time::MINUTE;

/// By the id of each start: its last batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Starts {
    starts: BTreeMap<String, Start>,
    swept: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Start {
    seq: u64,
    seen: u64,
    time: u64,
}

impl Starts {
    const MAX: usize = 1_000;

    /// How long a start may be silent before its numbers are forgotten.
    const FORGET: u64 = 10 * MINUTE;

    /// Records a batch. Returns whether it is new.
    pub(super) fn record(&mut self, id: &str, seq: u64, seen: u64, now: u64) -> bool {
        self.sweep(now);
        if !self.starts.contains_key(id) && self.starts.len() >= Self::MAX {
            self.drop_silent_quarter();
        }
        let start =
            self.starts.entry(id.to_owned()).or_insert(Start { seq: 0, seen: 0, time: now });
        let is_new = seq > start.seq;
        *start = Start { seq: start.seq.max(seq), seen: start.seen.max(seen), time: now };
        is_new
    }

    /// Returns up to which version a start has seen the changes.
    pub(super) fn seen(&self, id: &str) -> u64 {
        self.starts.get(id).map_or(0, |start| start.seen)
    }

    /// Returns how many starts have seen a version.
    pub(super) fn have_seen(&self, version: u64) -> u64 {
        self.starts.values().filter(|start| start.seen >= version).count() as u64
    }

    fn sweep(&mut self, now: u64) {
        if now.abs_diff(self.swept) < MINUTE {
            return;
        }
        self.swept = now;
        self.starts.retain(|_, start| {
            start.time = start.time.min(now);
            now - start.time <= Self::FORGET
        });
    }

    fn drop_silent_quarter(&mut self) {
        let mut by_time: Vec<_> = self.starts.iter().map(|(id, s)| (s.time, id.clone())).collect();
        by_time.sort();
        for (_, id) in by_time.iter().take(Self::MAX / 4) {
            self.starts.remove(id);
        }
    }
}
