//! A circuit as plain data, for programs that show the whole cluster.

use std::time::Duration;

use crate::circuit::Snapshot;
use crate::machine::{State, Tally};

/// A circuit, as a replica publishes it while a program watches the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CircuitSummary {
    /// The name of the circuit.
    pub name: String,
    /// The state.
    pub state: State,
    /// The generation of that state.
    pub generation: u64,
    /// How long the state has lasted.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", with = "crate::data::millis"))]
    pub since: Duration,
    /// What that replica has counted in that state.
    pub tally: Tally,
    /// Whether the circuit is detached on that replica: it decides without the backend.
    pub detached: bool,
}

impl CircuitSummary {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        Self {
            name: snapshot.name.to_string(),
            state: snapshot.state,
            generation: snapshot.generation,
            since: snapshot.since,
            tally: snapshot.tally,
            detached: snapshot.detached,
        }
    }

    /// Fields with tabs between them, the name last: it may contain anything but the end of a line,
    /// which is escaped.
    pub(super) fn line(&self) -> String {
        let Tally { calls, failures, slow_calls, consecutive_failures, unanswered } = self.tally;
        format!(
            "{}\t{}\t{}\t{calls}\t{failures}\t{slow_calls}\t{consecutive_failures}\t{unanswered}\t\
             {}\t{}\n",
            self.state.as_str(),
            self.generation,
            self.since.as_millis(),
            u8::from(self.detached),
            self.name.replace('%', "%25").replace('\n', "%0a").replace('\r', "%0d"),
        )
    }

    pub(super) fn read(line: &str) -> Option<Self> {
        let mut fields = line.splitn(10, '\t');
        let state = State::from_name(fields.next()?)?;
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (generation, since) = (number()?, number()?);
        let tally = Tally {
            calls: number()?,
            failures: number()?,
            slow_calls: number()?,
            consecutive_failures: number()?,
            unanswered: number()?,
        };
        let detached = number()? != 0;
        let name = fields.next()?.replace("%0d", "\r").replace("%0a", "\n").replace("%25", "%");
        Some(Self { name, state, generation, since: Duration::from_millis(since), tally, detached })
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_reads_as_it_was_described_whatever_its_name() {
        for name in ["payments", "a\tb", "a\nb", "100%", "%0a", "\r\n", "ä {x}:y"] {
            let summary = CircuitSummary {
                name: name.to_owned(),
                state: State::HalfOpen,
                generation: 1_700_000_000_000,
                since: Duration::from_millis(17),
                tally: Tally { calls: 9, failures: 4, ..Tally::default() },
                detached: true,
            };
            let line = summary.line();
            assert_eq!(line.lines().count(), 1);
            assert_eq!(CircuitSummary::read(line.trim_end_matches('\n')), Some(summary));
        }
    }

    #[test]
    fn a_line_of_another_version_is_skipped() {
        for line in ["", "closed", "closed\t1\t2", "what\t1\t2\t3\t4\t5\t6\t7\t0\tname"] {
            assert_eq!(CircuitSummary::read(line), None, "{line:?}");
        }
    }
}
