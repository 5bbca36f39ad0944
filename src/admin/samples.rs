//! What circuits counted in the last ten minutes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::wire::Sample;
use crate::name::CircuitName;
use crate::stats::Totals;

/// The length of a sample.
pub(super) const LENGTH: Duration = Duration::from_secs(5);

/// Ten minutes.
const MOST_SAMPLES: usize = 120;

/// With all their samples, 2 MB.
const MOST_CIRCUITS: usize = 1_000;

/// The samples of circuits.
#[derive(Debug, Default)]
pub(super) struct Samples {
    circuits: HashMap<CircuitName, Series>,
    rounds: u64,
}

/// The samples of a circuit, without zeros before the first call.
#[derive(Debug, Default)]
struct Series {
    before: [u64; 4],
    samples: VecDeque<Sample>,
    seen_in: u64,
}

impl Samples {
    /// Adds one sample to each circuit. `totals` are those of the circuits that are listed.
    pub(super) fn take(&mut self, totals: impl IntoIterator<Item = (CircuitName, bool, Totals)>) {
        self.rounds += 1;
        let round = self.rounds;
        for (name, keyed, totals) in totals {
            let now = [totals.succeeded, totals.failed.sum(), totals.rejected, totals.slow];
            let full = self.circuits.len() >= MOST_CIRCUITS;
            if !self.circuits.contains_key(&name) && full {
                continue;
            }
            let series = self.circuits.entry(name).or_insert_with(|| {
                // A named circuit that was not there in the last round was made since. One of a key
                // is listed only while it is not closed.
                let since_its_start = round > 1 && !keyed;
                Series { before: if since_its_start { [0; 4] } else { now }, ..Series::default() }
            });
            if keyed && series.seen_in + 1 < round {
                // It was not listed in between: what it counted then is of no sample.
                series.before = now;
            }
            series.seen_in = round;
            series.add(now);
        }
        self.circuits.retain(|_, series| {
            if series.seen_in < round {
                series.add(series.before);
            }
            series.seen_in == round || !series.samples.is_empty()
        });
    }

    /// Returns the samples of a circuit, the oldest first, or `None` if it has not been sampled.
    pub(super) fn of(&self, name: &str) -> Option<Vec<Sample>> {
        Some(self.circuits.get(name)?.samples.iter().copied().collect())
    }

    /// Returns the last sample of each circuit that counted something in it.
    pub(super) fn last(&self) -> Vec<(CircuitName, Sample)> {
        let last = |(name, series): (&CircuitName, &Series)| {
            let sample = *series.samples.back()?;
            (sample != Sample::default()).then(|| (name.clone(), sample))
        };
        self.circuits.iter().filter_map(last).collect()
    }
}

impl Series {
    fn add(&mut self, now: [u64; 4]) {
        let counted = |n: usize| {
            let more = now[n].saturating_sub(self.before[n]);
            u32::try_from(more).unwrap_or(u32::MAX)
        };
        let sample = [counted(0), counted(1), counted(2), counted(3)];
        self.before = now;
        self.samples.push_back(sample);
        if self.samples.len() > MOST_SAMPLES {
            self.samples.pop_front();
        }
        // So that a circuit without calls takes no memory.
        while self.samples.front() == Some(&Sample::default()) {
            self.samples.pop_front();
        }
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_the_circuit_of_a_key_counts_while_it_is_not_listed_is_in_no_sample() {
        let name = CircuitName::new("tenants:acme").unwrap();
        let listed = |rejected| {
            let totals = Totals { rejected, ..Totals::default() };
            [(name.clone(), true, totals)]
        };
        let mut samples = Samples::default();
        samples.take(listed(100));
        samples.take(listed(103));
        samples.take([]);
        samples.take(listed(900));
        samples.take(listed(905));
        let rejected = |it: Sample| it[2];
        let seen = samples.of(name.as_str()).unwrap().into_iter().map(rejected);
        assert_eq!(seen.collect::<Vec<_>>(), [3, 0, 0, 5]);
    }
}
