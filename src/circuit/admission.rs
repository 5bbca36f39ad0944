//! How calls are admitted, and how they are rejected.

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

use super::engine::Engine;
use super::grant::Grant;
use super::primitives::Ordering;
use super::refusal::{Refusal, Rejection};
use super::running::Watch;
use super::sampler::Sampled;
use super::word::Word;
use crate::clock;
use crate::machine::{Admission, Begin, LeaseId, State};
use crate::timestamp::Timestamp;

/// Nothing coarse is further behind, on any kernel.
const TICK: Duration = Duration::from_millis(10);

impl Engine {
    /// Whether a call would probably be admitted now. Changes nothing.
    #[inline]
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.word().passes_all() { Ok(()) } else { self.check_slowly() }
    }

    // Apart, so that callers have the rest inline.
    #[inline(never)]
    fn check_slowly(&self) -> Result<(), Refusal> {
        match self.rejection() {
            Some(rejection) => Err(Refusal::Rejected(rejection)),
            None => self.check_locked(),
        }
    }

    /// Grants a call: the one way in.
    ///
    /// It does not say that the state of the cluster is unknown: a caller that cannot wait is
    /// admitted as the circuit knows.
    #[inline]
    pub(super) fn enter(&self, begin: Begin) -> Result<Grant, Refusal> {
        let word = self.word();
        let sample = match begin {
            Begin::Now => self.samples_next(word),
            Begin::Later => Sampled::No,
        };
        self.enter_by(word, begin, sample)
    }

    #[inline]
    fn enter_by(&self, word: Word, begin: Begin, sample: Sampled) -> Result<Grant, Refusal> {
        if word.passes_all() {
            let epoch = word.epoch();
            let granted = match begin {
                Begin::Now => self.start(word, epoch, sample),
                Begin::Later => Some(Grant::call(epoch, Timestamp::NEVER)),
            };
            if let Some(grant) = granted {
                return Ok(grant);
            }
        }
        self.enter_locked(begin, sample)
    }

    /// Begins the call of a grant that was reserved. Enters anew if the grant is not valid any
    /// more.
    #[inline]
    pub(super) fn resume(&self, grant: Grant, sample: Sampled) -> Result<Grant, Refusal> {
        if grant.lease().is_none()
            && !self.is_stale(grant)
            && let Some(grant) = self.start(self.word(), grant.epoch(), sample)
        {
            return Ok(grant);
        }
        self.resume_slowly(grant, sample)
    }

    #[cold]
    fn resume_slowly(&self, grant: Grant, sample: Sampled) -> Result<Grant, Refusal> {
        let begun = grant.lease().is_some_and(|lease| {
            self.cut(|locked| {
                let begun = !locked.is_stale(grant)
                    && locked.machine.begin(lease, clock::now(), &locked.policy);
                locked.counted.totals.probes += u64::from(begun);
                begun
            })
        });
        if begun { Ok(grant) } else { self.enter_by(self.word(), Begin::Now, sample) }
    }

    /// Whether a grant still lets its call pass.
    #[inline]
    pub(super) fn holds(&self, grant: Grant) -> bool {
        !self.is_stale(grant) && grant.lease().is_none_or(|lease| self.holds_lease(grant, lease))
    }

    /// Waits until a call may be admitted.
    ///
    /// It is polled when it is made, and when something has changed.
    pub(super) async fn changed(&self) {
        let mut changed = pin!(self.changed.notified());
        // From here on no change is missed; one from before shows in what is read now.
        changed.as_mut().enable();
        if !matches!(self.check(), Err(Refusal::Rejected(_))) {
            return;
        }
        let until = self.lock().rejected_until();
        let wait = until.since(clock::now());
        if until == Timestamp::NEVER {
            changed.await;
        } else {
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// What a call is rejected with that does not wait for the cluster.
    pub(super) fn rejection_now(&self) -> Rejection {
        self.lock().rejection(clock::now())
    }

    /// A grant for a call that starts now, in the epoch of an admission. `None`: decide under the
    /// lock.
    #[inline]
    fn start(&self, word: Word, epoch: u64, sample: Sampled) -> Option<Grant> {
        if word.has(Word::TIMED) || sample == Sampled::Yes && word.has(Word::SAMPLED) {
            self.start_timed(word, epoch, sample)
        } else {
            Some(Grant::call(epoch, Timestamp::NEVER))
        }
    }

    #[inline(never)]
    fn start_timed(&self, word: Word, epoch: u64, sample: Sampled) -> Option<Grant> {
        let sampled = sample == Sampled::Yes && word.has(Word::SAMPLED);
        let coarse = word.has(Word::COARSE) && !sampled;
        let started = if coarse { clock::coarse() } else { clock::now() };
        let watch = Watch(self.watch.load(Ordering::Acquire));
        let watched = || {
            watch.covers(epoch)
                && started.as_nanos() < self.look.load(Ordering::Acquire)
                && self.stripes.start(watch, started)
        };
        (watch == Watch::OFF || watched()).then(|| Grant::started(epoch, started, sampled))
    }

    /// The published rejection, if it is valid now. `None`: decide under the lock.
    #[inline]
    fn rejection(&self) -> Option<Rejection> {
        let word = self.word();
        if !word.has(Word::REJECT) || word.in_cut() {
            return None;
        }
        let horizon = Timestamp::from_nanos(self.horizon.load(Ordering::Acquire));
        let generation = self.generation.load(Ordering::Acquire);
        // What was read between two equal words, and not in a cut, belongs to that word (law 1).
        if self.word() != word {
            return None;
        }
        let state = word.state();
        if state == State::ForcedOpen && horizon == Timestamp::NEVER {
            return Some(Rejection { state, generation, retry_after: None });
        }
        let mut wait = horizon.since(clock::coarse());
        // The coarse clock may be a tick behind. Where that would show (just before the end, or in
        // a number of whole seconds), the exact one decides: a caller that waits for `retry_after`
        // is not rejected for the same interval, and waits no second too long.
        if wait.subsec_nanos() < TICK.subsec_nanos() {
            wait = horizon.since(clock::now());
        }
        // Half-open, a probe slot is free as soon as a probe ends, at an unknown time.
        let known = state == State::Open && horizon < Timestamp::NEVER;
        let retry_after = known.then_some(wait);
        (!wait.is_zero()).then_some(Rejection { state, generation, retry_after })
    }

    #[cold]
    fn check_locked(&self) -> Result<(), Refusal> {
        let locked = self.lock();
        let now = clock::now();
        if let Some(link) = locked.unknown() {
            return Err(Refusal::Unknown(link));
        }
        let asking = locked.machine.asks_backend() && locked.is_asking();
        let over = locked.machine.ends() <= now;
        let until = if over {
            locked.machine.beneath_until()
        } else {
            locked.machine.rejects_until(&locked.policy)
        };
        match until {
            Some(until) if until > now || asking => Err(Refusal::Rejected(locked.rejection(now))),
            _ => Ok(()),
        }
    }

    #[inline(never)]
    fn enter_locked(&self, begin: Begin, sample: Sampled) -> Result<Grant, Refusal> {
        if let Some(rejection) = self.rejection() {
            return Err(Refusal::Rejected(rejection));
        }
        self.cut(|locked| {
            let now = clock::now();
            self.judge_running(locked, now);
            match locked.admit(begin, now) {
                Admission::Granted(None) => {
                    let sampled = sample == Sampled::Yes && locked.samples();
                    if begin == Begin::Later || !locked.notes_starts() && !sampled {
                        return Ok(Grant::call(locked.epoch, Timestamp::NEVER));
                    }
                    if locked.notes_starts() {
                        let watch = self.watch_running(locked, now);
                        if watch.covers(locked.epoch) {
                            self.stripes.start(watch, now);
                        }
                    }
                    Ok(Grant::started(locked.epoch, now, sampled))
                }
                Admission::Granted(Some(lease)) => {
                    locked.counted.totals.probes += u64::from(begin == Begin::Now);
                    Ok(Grant::probe(locked.epoch, lease))
                }
                Admission::Ask => match locked.link().filter(|_| !locked.is_asking()) {
                    Some(link) => Err(Refusal::NeedsLease(link)),
                    None => Err(Refusal::Rejected(locked.rejection(now))),
                },
                Admission::Rejected => Err(Refusal::Rejected(locked.rejection(now))),
            }
        })
    }

    #[cold]
    fn holds_lease(&self, grant: Grant, lease: LeaseId) -> bool {
        let locked = self.lock();
        !locked.is_stale(grant) && locked.machine.holds(lease, clock::now())
    }
}
