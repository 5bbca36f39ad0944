//! The last failure of a circuit, as text: what a transition shows that opens it.
//!
//! A text is made by user code, and costs. So failures are described only while the word says so:
//! the first failure of a phase, one about every second after it, and one that could open the
//! circuit. For the others the kind is kept, which costs nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Origin, Reason, State, Transition};
use crate::outcome::FailureKind;
use crate::timestamp::Timestamp;

/// A text is taken about this often, and stands for the failures after it for so long.
const FRESH: Duration = Duration::from_secs(1);

/// The last failure, behind the lock.
#[derive(Debug)]
pub(super) struct LastFailure {
    /// Its kind, and when it was.
    last: Option<(FailureKind, Timestamp)>,
    described: Option<Described>,
    /// So many failures more cannot open the circuit, as far as is known.
    spare: u64,
    /// The next failure is to be described.
    wanted: bool,
}

#[derive(Debug)]
struct Described {
    kind: FailureKind,
    text: Option<Arc<str>>,
    at: Timestamp,
}

impl LastFailure {
    pub(super) fn new() -> Self {
        Self { last: None, described: None, spare: 0, wanted: true }
    }

    /// Whether the next failure is to be described before it is recorded.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// A phase begins. A closed one has no failure yet.
    pub(super) fn begin(&mut self, state: State) {
        self.judge_anew();
        if state == State::Closed {
            self.last = None;
        }
    }

    /// How many failures more cannot open the circuit is not known any more.
    pub(super) fn judge_anew(&mut self) {
        (self.spare, self.wanted) = (0, true);
    }

    /// A failure is described. It is recorded next.
    pub(super) fn describe(&mut self, kind: FailureKind, text: Option<String>, now: Timestamp) {
        let text = text.map(|text| Transition::cut_error(&text).into());
        self.described = Some(Described { kind, text, at: now });
        self.wanted = false;
    }

    /// A call has failed.
    #[inline]
    pub(super) fn failed(&mut self, kind: FailureKind, now: Timestamp) {
        self.last = Some((kind, now));
    }

    /// A failure is recorded that did not open the circuit: whether the next one is to be
    /// described.
    #[inline]
    pub(super) fn look(&mut self, to_trip: impl FnOnce() -> u64, now: Timestamp) {
        self.spare = self.spare.saturating_sub(1);
        let fresh = |described: &Described| now.since(described.at) < FRESH;
        self.wanted = !self.described.as_ref().is_some_and(fresh);
        if self.spare <= 1 {
            self.spare = to_trip();
            self.wanted |= self.spare <= 1;
        }
    }

    /// Returns the last failure of this phase as text.
    pub(super) fn text(&self) -> Option<Arc<str>> {
        let (kind, at) = self.last?;
        let fits = |it: &&Described| it.kind == kind && at.since(it.at) <= FRESH;
        let described = self.described.as_ref().filter(fits);
        let text = described.and_then(|described| described.text.clone());
        text.or_else(|| kind.text().map(Into::into))
    }

    /// Adds the last failure to a transition of this process, if it is among what caused it.
    pub(super) fn attach(&self, transition: &mut Transition) {
        let here = transition.to == State::Open && transition.origin == Origin::Local;
        if here && caused(transition) {
            transition.last_error = self.text();
        }
    }
}

/// Whether failures are among what opened the circuit.
fn caused(transition: &Transition) -> bool {
    match transition.reason {
        Reason::ConsecutiveFailures
        | Reason::FailureRate
        | Reason::FailureCount
        | Reason::NoCompletions
        | Reason::ProbeFailed => true,
        Reason::SlowCallRate => transition.tally.failures > 0,
        _ => false,
    }
}
