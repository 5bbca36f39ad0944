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
    /// How many calls succeeded on that replica since it made the circuit, in all states. Zero,
    /// like the next two, if the replica is of a version that does not publish totals.
    #[cfg_attr(feature = "serde", serde(default))]
    pub succeeded: u64,
    /// How many calls failed there.
    #[cfg_attr(feature = "serde", serde(default))]
    pub failed: u64,
    /// How many calls the circuit rejected there.
    #[cfg_attr(feature = "serde", serde(default))]
    pub rejected: u64,
}

/// What the line of totals starts with.
const TOTALS: &str = "totals";

impl CircuitSummary {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        Self {
            name: snapshot.name.to_string(),
            state: snapshot.state,
            generation: snapshot.generation,
            since: snapshot.since,
            tally: snapshot.tally,
            detached: snapshot.detached,
            succeeded: snapshot.totals.succeeded,
            failed: snapshot.totals.failed.sum(),
            rejected: snapshot.totals.rejected,
        }
    }

    /// Fields with tabs between them, the name last: it may contain anything but the end of a line,
    /// which is escaped. A second line has the totals: a reader that does not know it finds no state
    /// in it and skips it, so that each version reads what the other one publishes.
    pub(super) fn line(&self) -> String {
        let Tally { calls, failures, slow_calls, consecutive_failures, unanswered } = self.tally;
        format!(
            "{}\t{}\t{}\t{calls}\t{failures}\t{slow_calls}\t{consecutive_failures}\t{unanswered}\t\
             {}\t{}\n{TOTALS}\t{}\t{}\t{}\n",
            self.state.as_str(),
            self.generation,
            self.since.as_millis(),
            u8::from(self.detached),
            self.name.replace('%', "%25").replace('\n', "%0a").replace('\r', "%0d"),
            self.succeeded,
            self.failed,
            self.rejected,
        )
    }

    /// Reads the circuits that a replica describes. Lines that are not known are skipped.
    pub(super) fn read_all(lines: &str) -> Vec<Self> {
        let mut all = Vec::new();
        // Totals of a circuit that could not be read are not those of the one before it.
        let mut last_was_read = false;
        for line in lines.lines() {
            if let Some(totals) = line.strip_prefix(TOTALS) {
                if let (Some(last), true) = (all.last_mut(), last_was_read) {
                    Self::add_totals(last, totals);
                }
                last_was_read = false;
            } else {
                let read = Self::read(line);
                last_was_read = read.is_some();
                all.extend(read);
            }
        }
        all
    }

    fn add_totals(&mut self, totals: &str) {
        let mut fields = totals.split('\t').skip(1).map(|field| field.parse().unwrap_or(0));
        let mut number = || fields.next().unwrap_or(0);
        (self.succeeded, self.failed, self.rejected) = (number(), number(), number());
    }

    fn read(line: &str) -> Option<Self> {
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
        Some(Self {
            name,
            state,
            generation,
            since: Duration::from_millis(since),
            tally,
            detached,
            succeeded: 0,
            failed: 0,
            rejected: 0,
        })
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
                succeeded: 1,
                failed: u64::MAX,
                rejected: 3,
            };
            let line = summary.line();
            assert_eq!(line.lines().count(), 2);
            assert_eq!(CircuitSummary::read_all(&line), [summary]);
        }
    }

    #[test]
    fn a_line_of_another_version_is_skipped() {
        for line in ["", "closed", "closed\t1\t2", "what\t1\t2\t3\t4\t5\t6\t7\t0\tname"] {
            assert_eq!(CircuitSummary::read_all(line), [], "{line:?}");
        }
    }

    #[test]
    fn replicas_of_a_version_with_totals_and_of_one_without_read_each_other() {
        let old = "open\t7\t2\t9\t4\t0\t4\t0\t0\ta\n";
        let [read] = &CircuitSummary::read_all(old)[..] else { panic!("one") };
        assert_eq!((read.state, read.generation, read.rejected), (State::Open, 7, 0));
        let line = CircuitSummary { rejected: 5, ..read.clone() }.line();
        let [known, totals] = line.lines().collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!(known, old.trim_end(), "what the version without totals reads");
        assert_eq!(CircuitSummary::read(totals), None, "and what it skips");
    }

    #[test]
    fn totals_are_those_of_the_circuit_before_them() {
        let lines = "totals\t1\t2\t3\nnew\t1\ntotals\t4\t5\t6\n\
                     open\t7\t2\t9\t4\t0\t4\t0\t0\ta\nnew\t1\ntotals\t7\t8\t9\n\
                     open\t8\t2\t9\t4\t0\t4\t0\t0\tb\ntotals\t1\tx\n";
        let read = CircuitSummary::read_all(lines);
        let totals = read.iter().map(|it| (it.succeeded, it.failed, it.rejected));
        assert_eq!(totals.collect::<Vec<_>>(), [(0, 0, 0), (1, 0, 0)]);
    }
}
