//! What a backend has shown, so that it can be compared with another one.
//!
//! Generations, versions and epochs come from a backend's clock, and differ: they are shown by
//! their order of appearance. What lasts is shown as lasting an hour, or no time.

use std::time::Duration;

use tower_breaker::CircuitName;
use tower_breaker::backend::{BackendError, Changes, Cursor, Lease, Notice, RecordState, View};
use tower_breaker::event::Tally;

use super::history::{HOUR, When};

/// The group of each circuit.
pub(super) const GROUPS: [usize; 3] = [0, 0, 1];

/// What a backend answers.
pub(super) enum Answer {
    View(usize, View),
    Leased(usize, Option<Lease>, View),
    Changes(usize, Changes),
    Nothing,
}

/// What followed from a step, as both backends must show it.
#[derive(Debug, PartialEq)]
pub(super) struct Shown {
    notices: Vec<ShownNotice>,
    answer: Result<ShownAnswer, Refused>,
}

#[derive(Debug, PartialEq)]
struct Refused;

#[derive(Debug, Default, PartialEq)]
struct ShownAnswer {
    views: Vec<(usize, View)>,
    /// Whether there is a lease, and whether it is of the view's generation.
    leased: Option<bool>,
    changes: Option<ShownChanges>,
}

#[derive(Debug, PartialEq)]
struct ShownChanges {
    epoch: usize,
    version: usize,
    restarted: bool,
    more: bool,
    refused: usize,
}

#[derive(Debug, PartialEq)]
pub(super) struct ShownNotice {
    circuit: usize,
    previous: usize,
    version: usize,
    view: View,
}

/// What a backend has shown so far.
pub(super) struct Known<'a> {
    names: &'a [CircuitName; 3],
    circuits: [Circuit; 3],
    groups: [Group; 2],
}

#[derive(Default)]
struct Circuit {
    generations: Order,
    overrides: Order,
    /// The roll call of the last view. Zero: it was quiet.
    roll: u64,
    /// All roll calls.
    rolls: Vec<u64>,
}

#[derive(Default)]
struct Group {
    epochs: Order,
    versions: Order,
    cursors: Vec<Cursor>,
}

impl<'a> Known<'a> {
    pub(super) fn new(names: &'a [CircuitName; 3]) -> Self {
        Self { names, circuits: Default::default(), groups: Default::default() }
    }

    /// The backend has lost everything, and may begin with lower numbers. Cursors are still those
    /// of before.
    pub(super) fn forget(&mut self) {
        self.circuits = Default::default();
        for group in &mut self.groups {
            group.versions = Order::default();
        }
    }

    pub(super) fn generation(&self, circuit: usize, when: When) -> u64 {
        let back = match when {
            When::Now => 0,
            When::Before(n) => n + 1,
            When::Never => return 0,
        };
        self.circuits[circuit].generations.back(back).unwrap_or(View::FIRST)
    }

    pub(super) fn override_version(&self, circuit: usize) -> u64 {
        self.circuits[circuit].overrides.back(0).unwrap_or_default()
    }

    pub(super) fn roll(&self, circuit: usize, when: When) -> u64 {
        let Circuit { roll, rolls, .. } = &self.circuits[circuit];
        match when {
            When::Now => *roll,
            When::Before(n) => rolls.iter().rev().nth(n).copied().unwrap_or(1),
            When::Never => 1,
        }
    }

    pub(super) fn version(&self, group: usize, back: usize) -> u64 {
        self.groups[group].versions.back(back).unwrap_or_default()
    }

    pub(super) fn cursor(&self, group: usize, back: usize) -> Cursor {
        let cursors = &self.groups[group].cursors;
        cursors.iter().rev().nth(back).copied().unwrap_or_default()
    }

    /// Notices come first: what an answer names has been published. If the last roll call was long
    /// ago, answers to it are perhaps counted no longer.
    pub(super) fn shown(
        &mut self,
        notices: Vec<Notice>,
        answer: Result<Answer, BackendError>,
        is_long_ago: bool,
    ) -> Shown {
        let notices = notices.into_iter().map(|notice| self.notice(notice)).collect();
        let answer = answer.map(|answer| self.answer(answer)).map_err(|error| {
            assert!(!error.is_unavailable(), "{error}");
            Refused
        });
        let mut shown = Shown { notices, answer };
        if is_long_ago {
            let answered = shown.answer.iter_mut().flat_map(|answer| &mut answer.views);
            let views = shown.notices.iter_mut().map(|notice| &mut notice.view);
            for view in views.chain(answered.map(|(_, view)| view)) {
                if let Some(roll) = &mut view.suspect {
                    roll.answered = 0;
                }
            }
        }
        shown
    }

    fn notice(&mut self, notice: Notice) -> ShownNotice {
        let Notice::Changed { circuit, view, previous, version } = notice else {
            panic!("not a change: {notice:?}");
        };
        let circuit = self.circuit(&circuit);
        let versions = &mut self.groups[GROUPS[circuit]].versions;
        let (previous, version) = (versions.of(previous), versions.of(version));
        ShownNotice { circuit, previous, version, view: self.view(circuit, *view) }
    }

    fn answer(&mut self, answer: Answer) -> ShownAnswer {
        match answer {
            Answer::Nothing => ShownAnswer::default(),
            Answer::View(circuit, view) => {
                let views = vec![(circuit, self.view(circuit, view))];
                ShownAnswer { views, ..ShownAnswer::default() }
            }
            Answer::Leased(circuit, lease, view) => {
                let leased = lease.map(|lease| lease.generation == view.generation);
                let views = vec![(circuit, self.view(circuit, view))];
                ShownAnswer { views, leased, ..ShownAnswer::default() }
            }
            Answer::Changes(group, changes) => {
                let views = changes.views.into_iter().map(|(name, view)| {
                    let circuit = self.circuit(&name);
                    (circuit, self.view(circuit, view))
                });
                let mut views: Vec<_> = views.collect();
                views.sort_by_key(|(circuit, _)| *circuit);
                let group = &mut self.groups[group];
                group.cursors.push(changes.cursor);
                let changes = ShownChanges {
                    epoch: group.epochs.of(changes.cursor.epoch),
                    version: group.versions.of(changes.cursor.version),
                    restarted: changes.restarted,
                    more: changes.more,
                    refused: changes.refused.len(),
                };
                ShownAnswer { views, changes: Some(changes), ..ShownAnswer::default() }
            }
        }
    }

    fn circuit(&self, name: &CircuitName) -> usize {
        self.names.iter().position(|known| known == name).expect("a circuit of the history")
    }

    fn view(&mut self, number: usize, mut view: View) -> View {
        let circuit = &mut self.circuits[number];
        circuit.roll = view.suspect.map_or(0, |roll| roll.id);
        if circuit.roll > 0 && !circuit.rolls.contains(&circuit.roll) {
            circuit.rolls.push(circuit.roll);
        }
        view.generation = circuit.generations.of(view.generation) as u64;
        view.overridden.version = circuit.overrides.of(view.overridden.version) as u64;
        if let Some(roll) = &mut view.suspect {
            roll.id = self.groups[GROUPS[number]].versions.of(roll.id) as u64;
            roll.age = Duration::ZERO;
        }
        let round = |left: &mut Duration| *left = if left.is_zero() { *left } else { HOUR };
        match &mut view.state {
            RecordState::Open { remaining, .. } => round(remaining),
            RecordState::HalfOpen { next_expiry: Some(next), .. } => round(next),
            _ => {}
        }
        if let Some(left) = view.overridden.record.as_mut().and_then(|set| set.remaining.as_mut()) {
            round(left);
        }
        let numbers = |share: &Tally| {
            (share.calls, share.failures, share.slow_calls, share.consecutive_failures)
        };
        view.shares.sort_by_key(numbers);
        view
    }
}

/// Growing numbers, in the order in which they appeared.
#[derive(Default)]
struct Order(Vec<u64>);

impl Order {
    fn of(&mut self, number: u64) -> usize {
        self.0.iter().position(|known| *known == number).unwrap_or_else(|| {
            assert!(self.0.last().is_none_or(|last| *last < number), "{number} after {:?}", self.0);
            self.0.push(number);
            self.0.len() - 1
        })
    }

    fn back(&self, n: usize) -> Option<u64> {
        self.0.iter().rev().nth(n).copied()
    }
}
