//! Runs policies over a trace.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use super::calls::Ending;
use super::error::{Kind, ReplayError};
use super::reader::Lines;
use super::report::{CircuitReport, Entry, MOST_TRANSITIONS, PolicyReport, Replayed};
use super::simulated::{Grant, Simulated};
use super::timeline::{Consumer, Timeline};
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

/// The time zero of a trace: a call may have started before it.
const ZERO: Timestamp = Timestamp::from_nanos(1 << 60);

const DEFAULT_LONGEST: Duration = Duration::from_secs(60);
const MOST_LONGEST: Duration = Duration::from_secs(86_400);

/// The most circuits, times policies.
const MOST_SIMULATED: usize = 100_000;

/// Runs policies over a trace of calls. [`replay`](super) explains what for, and what a trace is.
///
/// It reads the trace once, line by line, and needs memory for the calls of one
/// [longest call](Self::longest_call) and for the circuits, however long the trace is.
///
/// # Cost
///
/// One pass over the trace; each call is decided once for each policy.
#[derive(Clone, Debug)]
#[must_use = "a replay does nothing until it reads a trace"]
pub struct Replay {
    policies: Vec<Arc<Policy>>,
    longest: Duration,
    only: Option<CircuitName>,
}

impl Replay {
    /// Returns a replay of one policy.
    pub fn new(policy: Policy) -> Self {
        Self::all([policy])
    }

    /// Returns a replay of several policies, which see the same trace and nothing of each other.
    /// [`grid`](super::grid()) returns policies around one.
    pub fn all(policies: impl IntoIterator<Item = Policy>) -> Self {
        let policies = policies.into_iter().map(Arc::new).collect();
        Self { policies, longest: DEFAULT_LONGEST, only: None }
    }

    /// Sets how long before its end a call may have started. Default: 60 s; at most a day.
    ///
    /// Calls are held back for so long, because a trace has them in the order of their ends. A call
    /// that took longer may count as started later than it did; [`Replayed::shortened`] says how
    /// many did.
    pub fn longest_call(mut self, longest: Duration) -> Self {
        self.longest = longest.min(MOST_LONGEST);
        self
    }

    /// Replays only the calls of this circuit. Default: all calls, each in the circuit that it
    /// names.
    pub fn only(mut self, circuit: CircuitName) -> Self {
        self.only = Some(circuit);
        self
    }

    /// Reads a trace to its end, and returns what the policies would have done.
    ///
    /// # Errors
    ///
    /// Returns an error if a line is not a call, times go back by more than a second, the reader
    /// fails, there is no policy, or the trace has too many circuits: the circuits times the
    /// policies may be 100,000.
    pub fn read(&self, trace: impl BufRead) -> Result<Replayed, ReplayError> {
        if self.policies.is_empty() {
            return Err(Kind::Setting("there is no policy, expected at least one".into()).into());
        }
        let mut lines = Lines::new(trace);
        let mut circuits = Circuits::new(&self.policies);
        let mut timeline = Timeline::new(self.longest);
        let mut from = None;
        while let Some(call) = lines.next()? {
            if self.only.as_ref().is_some_and(|only| only.as_str() != call.circuit) {
                continue;
            }
            let end = ZERO.after(call.at);
            let start = Timestamp::from_nanos(end.as_nanos() - nanos_of(call.took));
            let ending = call.ending;
            let Some(circuit) = circuits.find(&call.circuit) else {
                let policies = self.policies.len();
                let most = MOST_SIMULATED / policies;
                return Err(lines
                    .wrong(format!(
                        "more than {most} circuits under {policies} policies, expected fewer: \
                         replay one circuit, or fewer policies"
                    ))
                    .into());
            };
            from = Some(from.map_or(start, |from: Timestamp| from.min(start)));
            if let Err(back) = timeline.add(circuit, (start, end), ending, &mut circuits) {
                return Err(lines
                    .wrong(format!(
                        "the time goes back by {back:?}, expected the order in which calls ended"
                    ))
                    .into());
            }
        }
        timeline.finish(&mut circuits);
        let to = timeline.newest();
        Ok(Replayed {
            calls: timeline.calls(),
            from: from.unwrap_or_default().since(ZERO),
            to: to.since(ZERO),
            shortened: timeline.late(),
            policies: circuits.reports(to),
        })
    }
}

/// A duration of a line: those are bounded so that they fit.
fn nanos_of(took: Duration) -> u64 {
    crate::timestamp::nanos(took).min(ZERO.as_nanos())
}

/// The circuits of a trace, each under all policies.
struct Circuits<'a> {
    policies: &'a [Arc<Policy>],
    names: HashMap<String, u32>,
    each: Vec<Simulations>,
    /// How many transitions each policy may still list.
    room: Vec<u64>,
    /// What running calls were granted: one for each policy, slot after slot.
    grants: Vec<Grant>,
    free: Vec<u32>,
}

struct Simulations {
    name: Option<CircuitName>,
    /// One for each policy, since the first call.
    under: Vec<Simulation>,
}

struct Simulation {
    circuit: Simulated,
    report: CircuitReport,
    since: Timestamp,
}

impl<'a> Circuits<'a> {
    fn new(policies: &'a [Arc<Policy>]) -> Self {
        Self {
            policies,
            names: HashMap::new(),
            each: Vec::new(),
            room: vec![MOST_TRANSITIONS; policies.len()],
            grants: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Returns the number of a circuit, or `None` if there are too many.
    fn find(&mut self, name: &str) -> Option<u32> {
        if let Some(&number) = self.names.get(name) {
            return Some(number);
        }
        let count = self.each.len();
        if count >= (MOST_SIMULATED / self.policies.len()).max(1) {
            return None;
        }
        let number = u32::try_from(count).ok()?;
        self.names.insert(name.to_owned(), number);
        // A name that is empty is none; longer ones than names may be were refused.
        let name = CircuitName::new(name.to_owned()).ok();
        self.each.push(Simulations { name, under: Vec::new() });
        Some(number)
    }

    fn reports(self, end: Timestamp) -> Vec<PolicyReport> {
        let mut reports: Vec<_> = self
            .policies
            .iter()
            .map(|policy| PolicyReport { policy: (**policy).clone(), circuits: Vec::new() })
            .collect();
        let mut room = 0;
        for Simulations { under, .. } in self.each {
            for (mut one, report) in under.into_iter().zip(&mut reports) {
                let state = one.circuit.state();
                one.entry(end, &mut room).spent(state);
                one.report.ends = Some(state);
                report.circuits.push(one.report);
            }
        }
        reports
    }
}

impl Simulation {
    fn new(circuit: Option<CircuitName>, policy: &Arc<Policy>, now: Timestamp) -> Self {
        let report = CircuitReport { circuit, ..CircuitReport::default() };
        Self { circuit: Simulated::new(policy, now), report, since: now }
    }

    fn entry<'a>(&'a mut self, now: Timestamp, room: &'a mut u64) -> Entry<'a> {
        let (report, since) = (&mut self.report, &mut self.since);
        Entry { report, room, since, now, at: now.since(ZERO) }
    }
}

impl Consumer for Circuits<'_> {
    fn start(&mut self, circuit: u32, at: Timestamp, ending: Ending) -> u32 {
        let width = self.policies.len();
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = self.grants.len() / width;
            self.grants.resize(self.grants.len() + width, Grant::Rejected);
            u32::try_from(slot).unwrap_or(u32::MAX)
        });
        let grants = &mut self.grants[slot as usize * width..][..width];
        let Simulations { name, under } = &mut self.each[circuit as usize];
        if under.is_empty() {
            let new = |policy| Simulation::new(name.clone(), policy, at);
            *under = self.policies.iter().map(new).collect();
        }
        for ((grant, one), room) in grants.iter_mut().zip(under).zip(&mut self.room) {
            let Simulation { circuit, report, since } = one;
            let mut entry = Entry { report, room, since, now: at, at: at.since(ZERO) };
            *grant = circuit.start(at, &mut entry);
            match grant {
                Grant::Rejected => report.rejected.add(ending),
                Grant::Call { .. } | Grant::Probe { .. } => report.admitted.add(ending),
            }
        }
        slot
    }

    fn end(
        &mut self,
        circuit: u32,
        slot: u32,
        (start, end): (Timestamp, Timestamp),
        ending: Ending,
    ) {
        let width = self.policies.len();
        let grants = &self.grants[slot as usize * width..][..width];
        let under = &mut self.each[circuit as usize].under;
        for ((grant, one), room) in grants.iter().zip(under).zip(&mut self.room) {
            let granted = match *grant {
                Grant::Rejected => continue,
                Grant::Call { phase } => (phase, None),
                Grant::Probe { phase, lease } => (phase, Some(lease)),
            };
            let Simulation { circuit, report, since } = one;
            let mut entry = Entry { report, room, since, now: end, at: end.since(ZERO) };
            circuit.end(granted, start, end, ending, &mut entry);
        }
        self.free.push(slot);
    }
}
