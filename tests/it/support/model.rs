//! A circuit, written as naively as possible: it keeps everything, and computes everything from
//! that.
#![expect(clippy::unchecked_time_subtraction, reason = "a wrong model must fail")]

use std::time::Duration;

use tower_breaker::State;
use tower_breaker::policy::Cancelled;

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
    /// The multiplier, in halves.
    pub(crate) halves: u32,
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

pub(crate) struct Model {
    pub(crate) rules: Rules,
    pub(crate) now: Duration,
    pub(crate) state: State,
    pub(crate) generation: u64,
    pub(crate) began: Duration,
    /// The results of this generation: when, failed, slow.
    pub(crate) results: Vec<(Duration, bool, bool)>,
    /// The answer of each call of this generation that ended, cancelled calls included.
    pub(crate) answers: Vec<Answer>,
    pub(crate) until: Duration,
    pub(crate) reopenings: u32,
    /// The probes that are out: number, and when the lease expires.
    pub(crate) probes: Vec<(u64, Duration)>,
    pub(crate) passed: u64,
    pub(crate) stale: u64,
    /// The calls of this generation in flight, without the probes: number, and start.
    pub(crate) running: Vec<(u64, Duration)>,
    /// When a call last asked for a permit in this generation.
    pub(crate) asked: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Succeeded,
    Failed,
    Ignored,
    /// It got no answer.
    Cancelled,
}

/// A little more than the shortest slice of time in which calls in flight are counted.
const SLICE: Duration = Duration::from_micros(200);

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
            answers: Vec::new(),
            until: Duration::ZERO,
            reopenings: 0,
            probes: Vec::new(),
            passed: 0,
            stale: 0,
            running: Vec::new(),
            asked: None,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        self.began = self.now;
        self.results.clear();
        self.answers.clear();
        self.running.clear();
        self.asked = None;
        self.probes.clear();
        self.passed = 0;
    }

    pub(crate) fn override_state(&mut self, state: State) {
        self.reopenings = 0;
        self.enter(state);
    }

    /// Opens for an interval that began at `from`, or for the time of the hint if that is longer.
    fn open(&mut self, from: Duration, hint: Duration) {
        let longest = self.rules.longest.as_nanos();
        let (mut long, mut parts) = (self.rules.open_for.as_nanos(), 1);
        for _ in 0..self.reopenings {
            if long / parts < longest {
                (long, parts) = (long * u128::from(self.rules.halves), parts * 2);
            }
        }
        let interval = Duration::from_nanos(u64::try_from((long / parts).min(longest)).unwrap());
        self.enter(State::Open);
        self.until = (from + interval).max(self.now + hint.min(self.rules.longest));
    }

    fn reopen(&mut self, from: Duration, hint: Duration) {
        self.reopenings += 1;
        self.open(from, hint);
    }

    /// When the first of the expired leases expired.
    fn hung_since(&self) -> Option<Duration> {
        self.probes.iter().map(|(_, over)| *over).filter(|over| *over <= self.now).min()
    }

    /// The content of the window: calls, failed, slow.
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

    pub(crate) fn unanswered(&self) -> u64 {
        let run = self.answers.iter().rev().take_while(|answer| **answer != Answer::Succeeded);
        let completed = run.clone().position(|answer| *answer == Answer::Ignored);
        let counts = |(at, answer): &(usize, &Answer)| match answer {
            Answer::Failed => true,
            Answer::Cancelled => completed.is_none_or(|completed| *at < completed),
            _ => false,
        };
        run.enumerate().filter(counts).count() as u64
    }

    /// The fewest and the most calls in flight that may count as slow by now. A circuit may be late
    /// by a third of the limit.
    pub(crate) fn overdue(&self) -> std::ops::RangeInclusive<u64> {
        let Some(limit) = self.rules.slow.filter(|_| self.rules.slow_rate.is_some()) else {
            return 0..=0;
        };
        let longer = |than: Duration| {
            self.running.iter().filter(|(_, at)| self.now - *at > than).count() as u64
        };
        longer(limit + limit / 3 + SLICE)..=longer(limit)
    }

    /// Whether the evidence trips the circuit. Where that depends on which calls in flight count as
    /// slow, or where those need not be judged yet, the model follows the circuit.
    fn trips(&self, opened: bool, judged: bool) -> bool {
        let overdue = self.overdue();
        let least = if judged { *overdue.start() } else { 0 };
        let mut each = (least..=*overdue.end()).map(|overdue| self.trips_with(overdue));
        let first = each.next().expect("a range is not empty");
        if each.all(|trips| trips == first) { first } else { opened }
    }

    fn trips_with(&self, overdue: u64) -> bool {
        let (calls, failed, slow) = self.tally();
        let (calls, slow) = (calls + overdue, slow + overdue);
        let enough = match self.rules.window {
            Window::Count(n) => calls >= self.rules.minimum.min(n),
            Window::Time(..) | Window::None => calls >= self.rules.minimum,
        };
        let reaches = |part, rate| enough && part * 100 >= calls * u64::from(rate);
        self.rules.consecutive.is_some_and(|n| self.streak() >= n)
            || self.rules.rate.is_some_and(|rate| reaches(failed, rate))
            || self.rules.count.is_some_and(|n| failed >= n)
            || self.rules.slow_rate.is_some_and(|rate| reaches(slow, rate))
    }

    /// Whether the circuit judges the calls in flight now, and opens. It judges them now and then,
    /// and certainly after a sixth of the limit without a call.
    fn opens_for_calls_in_flight(&mut self, opened: bool) -> bool {
        let Some(limit) = self.rules.slow.filter(|_| self.rules.slow_rate.is_some()) else {
            return false;
        };
        let pause = (limit / 6).max(Duration::from_millis(1));
        let asked = self.asked.replace(self.now);
        let due = asked.is_none_or(|asked| self.now - asked >= pause);
        if due { self.trips(opened, true) } else { opened && self.trips(true, false) }
    }

    pub(crate) fn acquire(&mut self, number: u64, opened: bool) -> Option<Call> {
        if self.state == State::Closed && self.opens_for_calls_in_flight(opened) {
            self.open(self.now, Duration::ZERO);
        }
        if let Some(expired) = self.hung_since() {
            self.reopen(expired, Duration::ZERO);
        }
        if self.state == State::Open && self.now >= self.until {
            self.enter(State::HalfOpen);
        }
        let admitted = match self.state {
            State::Open | State::ForcedOpen => false,
            State::HalfOpen => (self.probes.len() as u64) < self.rules.probes,
            _ => true,
        };
        if admitted && self.state == State::HalfOpen {
            self.probes.push((number, self.now + self.rules.lease));
        } else if admitted && self.state != State::Disabled {
            self.running.push((number, self.now));
        }
        admitted.then_some((number, self.generation, self.now))
    }

    pub(crate) fn settle(&mut self, (number, generation, started): Call, end: End, opened: bool) {
        if generation != self.generation {
            self.stale += 1;
            return;
        }
        self.running.retain(|(running, _)| *running != number);
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
                if let Some(expired) = self.hung_since() {
                    return self.reopen(expired, hint);
                }
                let at = self.probes.iter().position(|(n, _)| *n == number).unwrap();
                self.probes.remove(at);
                match failed {
                    Some(true) => self.reopen(self.now, hint),
                    Some(false) if slow && self.rules.slow_rate.is_some() => {
                        self.reopen(self.now, Duration::ZERO);
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
                let dropped = matches!(end, End::Dropped);
                let run = dropped && self.rules.cancelled != Cancelled::Ignored;
                if let Some(failed) = failed {
                    self.results.push((self.now, failed, slow));
                    self.answers.push(if failed { Answer::Failed } else { Answer::Succeeded });
                } else if run {
                    self.answers.push(Answer::Cancelled);
                } else if matches!(end, End::Ignored) {
                    self.answers.push(Answer::Ignored);
                }
                let judged = slow || failed == Some(true);
                let trips = failed.is_some() && self.trips(opened, judged)
                    || run && self.unanswered() >= self.rules.minimum;
                if self.state == State::Closed && trips {
                    self.open(self.now, hint);
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
