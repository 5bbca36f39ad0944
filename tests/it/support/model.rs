//! A circuit, written as naively as can be: everything is kept, and everything computed from it.
#![expect(clippy::unchecked_time_subtraction, reason = "a model that is wrong ought to fail")]

use std::time::Duration;

use tower_breaker::{Cancelled, State};

/// A policy, as the model sees it.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) consecutive: Option<u64>,
    pub(crate) rate: Option<u32>,
    pub(crate) count: Option<u64>,
    pub(crate) slow_rate: Option<u32>,
    pub(crate) slow: Option<Duration>,
    pub(crate) minimum: u64,
    pub(crate) window: Window,
    pub(crate) open_for: Duration,
    pub(crate) multiplier: u32,
    pub(crate) longest: Duration,
    pub(crate) probes: u64,
    pub(crate) needed: u64,
    pub(crate) lease: Duration,
    pub(crate) cancelled: Cancelled,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Window {
    Count(u64),
    Time(Duration, u32),
    None,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Success,
    Failure,
    Hinted(Duration),
    Ignored,
    Dropped,
}

/// The model: everything is kept, and everything is computed from it.
pub(crate) struct Model {
    pub(crate) rules: Rules,
    pub(crate) now: Duration,
    pub(crate) state: State,
    pub(crate) generation: u64,
    pub(crate) began: Duration,
    /// When, failed, slow: the results of this generation.
    pub(crate) results: Vec<(Duration, bool, bool)>,
    pub(crate) until: Duration,
    pub(crate) reopenings: u32,
    /// Probes that are out: number, and when the lease is over.
    pub(crate) probes: Vec<(u64, Duration)>,
    pub(crate) passed: u64,
    pub(crate) stale: u64,
}

/// A call as the model remembers it: number, generation, start.
pub(crate) type Call = (u64, u64, Duration);

impl Model {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            now: Duration::ZERO,
            state: State::Closed,
            generation: 1,
            began: Duration::ZERO,
            results: Vec::new(),
            until: Duration::ZERO,
            reopenings: 0,
            probes: Vec::new(),
            passed: 0,
            stale: 0,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        self.began = self.now;
        self.results.clear();
        self.probes.clear();
        self.passed = 0;
    }

    pub(crate) fn by_hand(&mut self, state: State) {
        self.reopenings = 0;
        self.enter(state);
    }

    fn open(&mut self, hint: Duration) {
        let mut interval = self.rules.open_for;
        for _ in 0..self.reopenings {
            interval = (interval * self.rules.multiplier).min(self.rules.longest);
        }
        self.enter(State::Open);
        self.until = self.now + interval.max(hint.min(self.rules.longest));
    }

    /// What the window holds now: calls, failed, slow.
    pub(crate) fn tally(&self) -> (u64, u64, u64) {
        let kept: Vec<_> = match self.rules.window {
            Window::None => Vec::new(),
            Window::Count(n) => {
                let first = (self.results.len() as u64).saturating_sub(n);
                self.results.iter().skip(usize::try_from(first).unwrap()).collect()
            }
            Window::Time(length, buckets) => {
                let width = length / buckets;
                let bucket = |at: Duration| (at - self.began).as_nanos() / width.as_nanos();
                let current = bucket(self.now);
                let recent = |at| bucket(at) + u128::from(buckets) > current;
                self.results.iter().filter(|(at, ..)| recent(*at)).collect()
            }
        };
        let failed = kept.iter().filter(|(_, failed, _)| *failed).count();
        let slow = kept.iter().filter(|(.., slow)| *slow).count();
        (kept.len() as u64, failed as u64, slow as u64)
    }

    pub(crate) fn streak(&self) -> u64 {
        self.results.iter().rev().take_while(|(_, failed, _)| *failed).count() as u64
    }

    fn trips(&self) -> bool {
        let (calls, failed, slow) = self.tally();
        let enough = calls >= self.rules.minimum;
        let reaches = |part, rate| enough && part * 100 >= calls * u64::from(rate);
        self.rules.consecutive.is_some_and(|n| self.streak() >= n)
            || self.rules.rate.is_some_and(|rate| reaches(failed, rate))
            || self.rules.count.is_some_and(|n| failed >= n)
            || self.rules.slow_rate.is_some_and(|rate| reaches(slow, rate))
    }

    pub(crate) fn acquire(&mut self, number: u64) -> Option<Call> {
        if self.state == State::Open && self.now >= self.until {
            self.enter(State::HalfOpen);
        }
        if self.state == State::HalfOpen && self.probes.iter().any(|(_, over)| *over <= self.now) {
            self.reopenings += 1;
            self.open(Duration::ZERO);
        }
        let admitted = match self.state {
            State::Open | State::ForcedOpen => false,
            State::HalfOpen => (self.probes.len() as u64) < self.rules.probes,
            _ => true,
        };
        if admitted && self.state == State::HalfOpen {
            self.probes.push((number, self.now + self.rules.lease));
        }
        admitted.then_some((number, self.generation, self.now))
    }

    pub(crate) fn settle(&mut self, (number, generation, started): Call, end: End) {
        if generation != self.generation {
            self.stale += 1;
            return;
        }
        let ran = self.now - started;
        let slow = self.rules.slow.is_some_and(|limit| ran > limit);
        let (failed, hint) = match (end, self.rules.cancelled) {
            (End::Success, _) => (Some(false), Duration::ZERO),
            (End::Hinted(hint), _) => (Some(true), hint),
            (End::Failure, _) | (End::Dropped, Cancelled::Failure) => (Some(true), Duration::ZERO),
            (End::Dropped, Cancelled::FailureIfSlow) if slow => (Some(true), Duration::ZERO),
            (End::Ignored | End::Dropped, _) => (None, Duration::ZERO),
        };
        match self.state {
            State::HalfOpen => {
                let place = self.probes.iter().position(|(n, _)| *n == number).unwrap();
                let (_, over) = self.probes.remove(place);
                match failed {
                    _ if over <= self.now => {
                        self.reopenings += 1;
                        self.open(Duration::ZERO);
                    }
                    Some(true) => {
                        self.reopenings += 1;
                        self.open(hint);
                    }
                    Some(false) => {
                        self.passed += 1;
                        if self.passed >= self.rules.needed {
                            self.reopenings = 0;
                            self.enter(State::Closed);
                        }
                    }
                    None => {}
                }
            }
            State::Closed | State::ForcedClosed | State::MetricsOnly => {
                if let Some(failed) = failed {
                    self.results.push((self.now, failed, slow));
                    if self.state == State::Closed && self.trips() {
                        self.open(hint);
                    }
                }
            }
            _ => {}
        }
    }

    pub(crate) fn available(&self) -> bool {
        match self.state {
            State::Open => self.now >= self.until,
            State::ForcedOpen => false,
            State::HalfOpen => {
                (self.probes.len() as u64) < self.rules.probes
                    || self.probes.iter().any(|(_, over)| *over <= self.now)
            }
            _ => true,
        }
    }
}
