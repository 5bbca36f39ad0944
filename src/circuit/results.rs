//! How results are recorded.

use std::time::Duration;

use super::counted::Call;
use super::engine::Engine;
use super::grant::Grant;
use super::locked::Locked;
use super::primitives::Ordering;
use super::running::Watch;
use super::stripes::thread_number;
use super::word::Word;
use crate::clock;
use crate::machine::Ended;
use crate::outcome::{FailureKind, Outcome};
use crate::timestamp::Timestamp;
use crate::unwind::contain;

/// How a call ended.
#[derive(Clone, Copy, Debug)]
enum End {
    With(Outcome),
    /// The call was dropped before it ended.
    Cancelled,
}

impl Engine {
    /// Records how a call ended.
    // Apart: inlined, it takes registers from the future, which moves the response.
    #[inline(never)]
    pub(super) fn record(&self, grant: Grant, outcome: Outcome) {
        let word = self.word();
        // The word is read before the phase and the horizon. Had a cut come between, they might be
        // of a later epoch than the word; then the stripe refuses (law 2), and the lock decides.
        // What is quiet is no half-open phase, so a grant of the same phase is no probe's.
        let quiet = word.has(Word::QUIET) && matches!(outcome, Outcome::Success);
        if !quiet || self.is_stale(grant) || !self.succeed_quietly(grant, word) {
            self.record_slowly(grant, outcome);
        }
    }

    /// Counts a success that is no evidence, here or in the cluster. False if that takes more than the thread's own counter.
    #[inline]
    fn count(&self, grant: Grant) -> bool {
        self.life_of(grant).is_some_and(|life| self.stripes.count_succeeded(life))
    }

    /// Records that a call panicked.
    #[cold]
    pub(super) fn record_panic(&self, grant: Grant) {
        self.record(grant.failed_as(FailureKind::Panic), Outcome::failure());
    }

    /// Whether the text of this failure is wanted.
    #[inline]
    pub(super) fn wants_text(&self, grant: Grant) -> bool {
        self.word().has(Word::DESCRIBE) && !self.is_stale(grant)
    }

    /// Keeps the text of a failure that is recorded next. `describe` is user code: it runs here,
    /// without the lock, and may panic.
    #[cold]
    pub(super) fn describe(&self, grant: Grant, describe: impl FnOnce() -> Option<String>) {
        let mut text = None;
        contain(|| text = describe());
        let now = clock::now();
        let mut locked = self.lock();
        if !locked.is_stale(grant) {
            locked.last_failure.describe(grant.kind(), text, now);
        }
    }

    #[inline(never)]
    fn record_slowly(&self, grant: Grant, outcome: Outcome) {
        let word = self.word();
        if word.has(Word::TRACED) {
            self.trace(grant, Some(outcome));
        }
        // A stale result must not slow down others: it takes no lock.
        if !self.end(grant) {
            return;
        }
        if outcome != Outcome::Ignored {
            self.sample(grant);
        }
        if outcome != Outcome::Ignored || !self.ignore_quietly(grant, word) {
            self.settle(grant, End::With(outcome));
        }
    }

    /// Records a result that leaves no evidence, if that takes no lock. False if it does: it may
    /// end a run of cancelled calls.
    fn ignore_quietly(&self, grant: Grant, word: Word) -> bool {
        let quiet = grant.lease().is_none()
            && !word.has(Word::PENDING)
            && (!word.has(Word::RUN) || self.stripes.complete(word.epoch()));
        if let (true, Some(life)) = (quiet, self.life_of(grant)) {
            self.stripes.counters().ignored.add(life);
        }
        quiet
    }

    /// Records that a call was dropped before it ended.
    pub(super) fn cancel(&self, grant: Grant) {
        let word = self.word();
        if word.has(Word::TRACED) {
            self.trace(grant, None);
        }
        if self.end(grant) && !self.cancel_quietly(grant, word) {
            self.settle(grant, End::Cancelled);
        }
    }

    /// Gives back a grant whose call was not begun: only a lease holds anything.
    pub(super) fn release(&self, grant: Grant) {
        if grant.lease().is_some() && !self.is_stale(grant) {
            // Asked again under the lock: a later round may have a lease of the same number.
            self.cut(|locked| {
                if !locked.is_stale(grant) {
                    self.settle_locked(locked, grant, End::With(Outcome::Ignored));
                }
            });
        }
    }

    /// Measures how long a call took, if it is one of the sample.
    #[inline]
    fn sample(&self, grant: Grant) {
        if grant.is_sampled() {
            self.sample_now(grant);
        }
    }

    #[cold]
    fn sample_now(&self, grant: Grant) {
        if let (Some(samplers), Some(_)) = (self.samplers.get(), self.life_of(grant)) {
            samplers.add(thread_number(), grant.began(), clock::now());
        }
    }

    /// Takes a call out of those that run. False if it is stale: then it is counted as such, and
    /// nothing is left to do.
    #[inline]
    fn end(&self, grant: Grant) -> bool {
        if self.is_stale(grant) {
            self.count_stale(grant);
            return false;
        }
        if grant.lease().is_none() && grant.began() != Timestamp::NEVER {
            self.stop_watching(grant);
        }
        true
    }

    #[inline]
    fn stop_watching(&self, grant: Grant) {
        let watch = Watch(self.watch.load(Ordering::Acquire));
        if watch.covers(grant.epoch()) {
            self.stripes.end(watch, grant.began());
        }
    }

    /// Records a success if that takes no lock. False if it does: then nothing was recorded.
    #[inline]
    fn succeed_quietly(&self, grant: Grant, word: Word) -> bool {
        if grant.began() != Timestamp::NEVER {
            return self.succeed_in_time(grant, word);
        }
        (!word.has(Word::CLOCK) || clock::coarse() < self.horizon())
            && self.count_success(grant, word)
    }

    /// Counts a success, as evidence if it is some. False if that needs the lock.
    #[inline]
    fn count_success(&self, grant: Grant, word: Word) -> bool {
        !word.has(Word::COUNT) && self.count(grant) || self.stripes.succeed(word.epoch())
    }

    /// The same, of a call that was timed.
    #[inline(never)]
    fn succeed_in_time(&self, grant: Grant, word: Word) -> bool {
        let now = clock::coarse();
        let recorded = !self.is_slow(grant.began(), now, word)
            && (!word.has(Word::CLOCK) || now < self.horizon())
            && self.count_success(grant, word);
        if recorded {
            self.stop_watching(grant);
            self.sample(grant);
        }
        recorded
    }

    #[inline]
    fn horizon(&self) -> Timestamp {
        Timestamp::from_nanos(self.horizon.load(Ordering::Acquire))
    }

    /// Records a cancelled call if that takes no lock. False if it does.
    fn cancel_quietly(&self, grant: Grant, word: Word) -> bool {
        if grant.lease().is_some() {
            return false;
        }
        let quiet = word.has(Word::FORGET) || self.cancel_in_run(grant, word);
        if let (true, Some(life)) = (quiet, self.life_of(grant)) {
            self.stripes.counters().cancelled.add(life);
        }
        quiet
    }

    fn cancel_in_run(&self, grant: Grant, word: Word) -> bool {
        let started = grant.began();
        let slow = started != Timestamp::NEVER && self.is_slow(started, clock::coarse(), word);
        word.has(Word::RUN)
            && !slow
            && self.stripes.cancel(word.epoch(), self.most_cancelled.load(Ordering::Acquire))
    }

    /// Whether a call was slow, which has ended now, by the coarse clock.
    #[inline]
    fn is_slow(&self, started: Timestamp, now: Timestamp, word: Word) -> bool {
        if now.since(started) <= Duration::from_nanos(self.quick.load(Ordering::Relaxed)) {
            return false;
        }
        let slow = Duration::from_nanos(self.slow.load(Ordering::Relaxed));
        word.has(Word::COARSE) || clock::now().since(started) > slow
    }

    #[cold]
    fn count_stale(&self, grant: Grant) {
        // One from before the birth was another circuit's call.
        if let Some(life) = self.life_of(grant) {
            self.stale.add(life);
        }
    }

    /// Hands the machine how a call ended.
    #[cold]
    fn settle(&self, grant: Grant, end: End) {
        let stale = self.cut(|locked| {
            let stale = locked.is_stale(grant);
            if !stale {
                let call = self.settle_locked(locked, grant, end);
                locked.counted.ended(call);
            }
            stale
        });
        if stale {
            self.count_stale(grant);
        }
    }

    fn settle_locked(&self, locked: &mut Locked, grant: Grant, end: End) -> Call {
        let now = clock::now();
        if locked.watch != Watch::OFF && (locked.machine.overdue() > 0 || locked.look <= now) {
            self.look_at_running(locked, now);
        }
        let lease = grant.lease();
        let ran = match lease {
            Some(lease) => locked.machine.ran(lease, now),
            None => now.since(grant.began()),
        };
        let (outcome, cancelled) = match end {
            End::With(outcome) => (outcome, false),
            End::Cancelled => (locked.policy.cancelled_after(ran), true),
        };
        let slow = locked.policy.is_slow(ran);
        if let Outcome::Failure { .. } = outcome {
            let kind = if cancelled { FailureKind::Cancelled } else { grant.kind() };
            locked.last_failure.failed(kind, now);
        }
        locked.record(Ended { outcome, slow, cancelled, lease }, now);
        Call { outcome, kind: grant.kind(), cancelled, slow }
    }
}
