//! What replicas have reported on a closed circuit, in one generation.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ring::Rings;
use super::streak::Streak;
use super::time::{HOUR, MINUTE, SECOND, ago, cut, left, micros};
use crate::backend::{Attention, Geometry, Report, Roll, Shares, View};
use crate::machine::Tally;

/// Everything is of the whole cluster but what is by name: of one replica over all its starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Evidence {
    total: Counted,
    shares: BTreeMap<String, Counted>,
    last_success: Option<u64>,
    votes: BTreeMap<String, Vote>,
    /// When each replica last reported failures.
    failing: BTreeMap<String, u64>,
    /// The last roll call, while the circuit is suspect.
    roll: Option<RollCall>,
    /// How far back the longest window goes.
    horizon: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Counted {
    rings: Rings,
    streak: Streak,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Vote {
    until: u64,
    length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RollCall {
    /// The group's version since it was called.
    id: u64,
    time: u64,
    /// The first answer with a report: what every replica that has answered had counted by then is
    /// known.
    whole: Option<u64>,
}

impl Evidence {
    /// How long the answers to a roll call are counted.
    const COUNTED: u64 = 2 * SECOND;

    /// Returns whether a report says anything that a new record would keep.
    pub(super) fn is_in(report: &Report) -> bool {
        let horizon = report.horizon();
        let counted = report.window.is_some()
            && report.counts.iter().any(|count| {
                count.age < horizon && (count.calls, count.failures, count.slow_calls) != (0, 0, 0)
            });
        counted
            || report.failures.iter().any(|f| f.age < horizon && f.number > 0)
            || report.vote.is_some_and(|vote| !vote.is_zero())
            || report.attention == Some(Attention::RollCall { after: 0 })
    }

    /// Adds a report, apart from what it proposes.
    pub(super) fn add(&mut self, name: &str, report: &Report, now: u64) {
        self.cut(now);
        let horizon = micros(report.horizon());
        self.horizon = self.horizon.max(horizon);
        self.last_success = self.last_success.max(report.last_success.map(|age| ago(age, now)));
        let end = self.after(horizon, now);
        self.total.streak.end(end);
        self.shares.values_mut().for_each(|share| share.streak.end(end));

        self.total.add(report, end, now);
        if report.shares != Shares::None {
            self.shares.entry(name.to_owned()).or_default().add(report, end, now);
        }
        self.shares.retain(|_, share| *share != Counted::default());
        match report.vote {
            Some(vote) => {
                let length = micros(vote).min(HOUR);
                let vote = Vote { until: now.saturating_add(length), length };
                self.votes.insert(name.to_owned(), vote);
            }
            None => drop(self.votes.remove(name)),
        }
        if has_failures(report) {
            self.failing.insert(name.to_owned(), now);
        }
    }

    /// Returns whether the proposal changes something. The change gets this version.
    pub(super) fn attend(&mut self, attention: Attention, version: u64, now: u64) -> bool {
        let known = self.roll.map_or(0, |roll| roll.id);
        match attention {
            Attention::RollCall { after } if after == known => {
                self.roll = Some(RollCall { id: version, time: now, whole: None });
                true
            }
            Attention::Quiet { after } if after == known && self.roll.is_some() => {
                self.roll = None;
                true
            }
            _ => false,
        }
    }

    /// A report was added of a batch that answers the roll calls with these ids, but for the first
    /// of the range.
    pub(super) fn answer(&mut self, answers: &Range<u64>, now: u64) {
        if let Some(roll) = &mut self.roll
            && answers.start < roll.id
            && roll.id <= answers.end
        {
            roll.whole.get_or_insert(now);
        }
    }

    /// How long a report is kept.
    pub(super) fn lasts(report: &Report) -> u64 {
        let vote = report.vote.map_or(0, micros).min(HOUR);
        micros(report.horizon()).max(vote).max(SECOND)
    }

    /// Cuts what lies in the future because the clock went back.
    pub(super) fn cut(&mut self, now: u64) {
        self.last_success = self.last_success.map(|time| time.min(now));
        if let Some(roll) = &mut self.roll {
            roll.time = roll.time.min(now);
            roll.whole = roll.whole.map(|time| time.min(now));
        }
        self.total.streak.cut(now);
        self.shares.values_mut().for_each(|share| share.streak.cut(now));
        self.failing.values_mut().for_each(|time| *time = (*time).min(now));
        self.votes.values_mut().for_each(|vote| cut(&mut vote.until, vote.length, now));
        self.votes.retain(|_, vote| vote.until > now);
    }

    /// The replicas that have reported failures in the last minute or the longest window: the
    /// newest first.
    pub(super) fn contributors(&self, now: u64) -> Vec<String> {
        let since = now.checked_sub(self.horizon.max(MINUTE));
        let mut found: Vec<_> =
            self.failing.iter().filter(|(_, time)| Some(**time) >= since).collect();
        found.sort_by(|(_, a), (_, b)| b.cmp(a));
        found.into_iter().take(View::MAX_CONTRIBUTORS).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn votes(&self, now: u64) -> u64 {
        self.votes.values().filter(|vote| vote.until > now).count() as u64
    }

    /// Returns the consecutive failures, and nothing that needs a window.
    pub(super) fn streak(&self, now: u64) -> Tally {
        let after = self.after(self.horizon, now);
        self.total.tally(None, after, now)
    }

    /// Returns the totals that a report asks for, and the shares if it does.
    pub(super) fn totals(&self, report: &Report, now: u64) -> (Tally, Vec<Tally>) {
        let after = self.after(micros(report.horizon()), now);
        let tally = |counted: &Counted| counted.tally(report.window, after, now);
        let shares = match report.shares {
            Shares::Return => self.shares.values().map(tally).collect(),
            Shares::None | Shares::Count => Vec::new(),
        };
        (tally(&self.total), shares.into_iter().filter(|t| *t != Tally::default()).collect())
    }

    /// Returns the roll call of a suspect circuit. `answered` counts the replicas that have seen a
    /// version.
    pub(super) fn suspect(&self, answered: impl Fn(u64) -> u64, now: u64) -> Option<Roll> {
        let RollCall { id, time, whole } = self.roll?;
        let whole = whole.unwrap_or(time);
        let age = now.saturating_sub(time);
        Some(Roll {
            id,
            age: left(now, time),
            answered: if age < Self::COUNTED { answered(id) } else { 0 },
            consecutive_failures: self.total.streak.total(self.after(self.horizon, now), whole),
        })
    }

    /// The moment up to which failures are not consecutive, or too old.
    fn after(&self, horizon: u64, now: u64) -> Option<u64> {
        self.last_success.max(now.checked_sub(horizon))
    }
}

impl Counted {
    fn add(&mut self, report: &Report, after: Option<u64>, now: u64) {
        if let Some(window) = report.window {
            self.rings.add(window, &report.counts, now);
        }
        for failures in &report.failures {
            let time = ago(failures.age, now);
            if Some(time) > after {
                self.streak.add(time, failures.number);
            }
        }
    }

    fn tally(&self, window: Option<Geometry>, after: Option<u64>, now: u64) -> Tally {
        let [calls, failures, slow_calls] = self.rings.total(window, now);
        let consecutive_failures = self.streak.total(after, now);
        Tally { calls, failures, slow_calls, consecutive_failures, ..Tally::default() }
    }
}

fn has_failures(report: &Report) -> bool {
    let horizon = report.horizon();
    report.counts.iter().any(|count| count.failures > 0 && count.age < horizon)
        || report.failures.iter().any(|f| f.number > 0 && f.age < horizon)
}
