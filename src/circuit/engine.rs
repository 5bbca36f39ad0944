//! What stands in front of the machine, so that most calls need not wait for it.
//!
//! The [`Machine`] is behind a mutex. In front of it are a few atomics that say what may be done
//! without it, and until when:
//!
//! - `word`: the state, flags, and an epoch ([`Word`]);
//! - `horizon`: the time at which the word is no longer good, and the lock must be asked;
//! - `phase`: the epoch at which the current phase began.
//!
//! Laws:
//!
//! 1. Only who holds the lock writes the word, and each time with a greater epoch: an odd one while
//!    it works, an even one when it publishes.
//! 2. Who takes the lock to change something first makes a *cut*: the word moves to a new epoch
//!    without `QUIET`, then the lanes are drained. What was counted before the cut is in the
//!    drain; what comes after it is refused by its lane and must wait for the lock.
//! 3. A grant bears the epoch at which it was given. It is stale if that is before the epoch at
//!    which the current phase began; stale results are counted as such and change nothing.
//! 4. A success goes by without the lock only while the machine says that one more success matters
//!    to nothing but a count (`QUIET`), the bucket has not ended, and it was not slow.
//!
//! So a judgement includes every result whose recording returned before it began, and each result
//! is counted once, in its own phase, or is stale.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::grant::Grant;
use super::lanes::{Lanes, Width};
use super::locked::{Locked, Observer, Reading};
use super::member::{Link, Member, Told};
use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use super::word::Word;
use crate::backend::Setting;
use crate::clock;
use crate::machine::{
    Admission, Begin, Ended, Event, LeaseId, Ledger, Origin, Policy, Reason, State,
};
use crate::outcome::Outcome;
use crate::timestamp::{Timestamp, nanos};

/// One circuit: the machine, and the atomics in front of it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Engine {
    word: AtomicU64,
    horizon: AtomicU64,
    phase: AtomicU64,
    generation: AtomicU64,
    /// A call that ran longer, in nanoseconds, was slow.
    slow: AtomicU64,
    lanes: Lanes,
    locked: Mutex<Locked>,
    stale: AtomicU64,
    /// The epoch at which the engine became this circuit's.
    birth: AtomicU64,
    /// Told when what is rejected may have changed.
    changed: Notify,
}

/// Why a call is not admitted, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Rejected(Rejection),
    /// The cluster's state is not known yet.
    Unknown,
    /// The ledger is to be asked for a probe's lease.
    Ask,
}

/// Why a call was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) state: State,
    pub(crate) generation: u64,
    pub(crate) retry_after: Option<Duration>,
}

impl Engine {
    pub(crate) fn new(policy: Policy, observers: Vec<Observer>, width: Width) -> Self {
        let locked = Locked::new(policy, observers, 0);
        let engine = Self {
            word: AtomicU64::new(0),
            horizon: AtomicU64::new(0),
            phase: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            lanes: Lanes::new(width),
            locked: Mutex::new(locked),
            stale: AtomicU64::new(0),
            birth: AtomicU64::new(0),
            changed: Notify::new(),
        };
        engine.cut(|_| ());
        engine
    }

    /// Makes the engine a new circuit's. Grants of the old one are stale from here on.
    pub(super) fn recycle(&self, policy: Policy, observers: Vec<Observer>) {
        let old = self.cut(|locked| {
            self.birth.store(locked.epoch, Ordering::Relaxed);
            self.stale.store(0, Ordering::Relaxed);
            let new = Locked::new(policy, observers, locked.epoch);
            std::mem::replace(locked, new)
        });
        // Not under the lock: with it go its observers, and what users have put into them.
        drop(old);
    }

    #[inline]
    pub(super) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Whether it is of use to ask for leave now. Moves nothing.
    #[inline]
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.word().passes_all() {
            return Ok(());
        }
        match self.rejection() {
            Some(rejection) => Err(Refusal::Rejected(rejection)),
            None => self.check_locked(),
        }
    }

    /// Leave to make a call, where everybody has it.
    #[inline]
    pub(super) fn pass(&self, begin: Begin) -> Option<Grant> {
        let word = self.word();
        let timed = begin == Begin::Now && word.has(Word::TIMED);
        word.passes_all().then(|| Grant::call(word.epoch(), start(timed)))
    }

    /// Asks for leave to make a call.
    #[inline]
    pub(super) fn acquire(&self, begin: Begin) -> Result<Grant, Refusal> {
        match self.pass(begin) {
            Some(grant) => Ok(grant),
            None => self.acquire_slowly(begin),
        }
    }

    /// Begins the call of a grant that was given for later, where everybody has leave.
    #[inline]
    pub(super) fn pass_on(&self, grant: Grant) -> Option<Grant> {
        if grant.lease().is_some() || self.is_stale(grant) {
            return None;
        }
        let timed = self.word().has(Word::TIMED);
        Some(Grant::call(grant.epoch(), start(timed)))
    }

    /// Begins the call of a grant that was given for later. If the grant does not hold any more,
    /// asks for another.
    pub(super) fn begin(&self, grant: Grant) -> Result<Grant, Refusal> {
        let begun = grant.lease().is_some_and(|lease| {
            self.cut(|locked| {
                !locked.is_stale(grant) && locked.machine.begin(lease, clock::now(), &locked.policy)
            })
        });
        if begun { Ok(grant) } else { self.acquire(Begin::Now) }
    }

    /// Whether a grant still lets its call pass.
    #[inline]
    pub(super) fn holds(&self, grant: Grant) -> bool {
        !self.is_stale(grant) && grant.lease().is_none_or(|lease| self.holds_lease(grant, lease))
    }

    /// Records how a call ended.
    #[inline]
    pub(super) fn record(&self, grant: Grant, outcome: Outcome) {
        if !matches!(outcome, Outcome::Success) || !self.record_quietly(grant) {
            self.record_locked(grant, |_, _| outcome);
        }
    }

    /// Records that a call was dropped before it ended.
    pub(super) fn cancel(&self, grant: Grant) {
        self.record_locked(grant, Policy::cancelled);
    }

    /// Gives back a grant whose call was not begun: only a lease holds anything.
    pub(super) fn release(&self, grant: Grant) {
        if grant.lease().is_some() {
            self.settle(grant, |_, _| Outcome::Ignored);
        }
    }

    /// Sets a state by hand. In a cluster, the answer tells when all know.
    pub(super) fn force(&self, setting: Setting) -> Option<Told> {
        self.cut(|locked| {
            let now = clock::now();
            locked.force(setting.clone(), Origin::Local, now);
            locked.wish(Some(setting), now)
        })
    }

    pub(super) fn reset(&self) -> Option<Told> {
        self.cut(|locked| {
            let now = clock::now();
            let transition = locked.machine.reset(Reason::ByHand, &locked.policy, now);
            locked.happened(Some(Event::Transition(transition)));
            locked.wish(None, now)
        })
    }

    /// Makes the circuit a cluster's, whose state is still to be learnt.
    pub(super) fn join(&self, link: Arc<dyn Link>) {
        self.cut(|locked| {
            locked.machine.set_ledger(Ledger::Reachable);
            locked.member = Some(Member::new(link, &locked.policy, clock::now()));
        });
    }

    /// Whoever keeps the circuit in agreement with its cluster.
    pub(super) fn link(&self) -> Option<Arc<dyn Link>> {
        self.lock().member.as_ref().map(|member| member.link().clone())
    }

    /// Does what the keeper of a cluster's circuit has to do.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Locked, Timestamp) -> R) -> R {
        self.cut(|locked| f(locked, clock::now()))
    }

    /// Puts another policy in force. Evidence starts anew; the state stays.
    pub(super) fn set_policy(&self, policy: Policy) {
        self.cut(|locked| {
            let now = clock::now();
            locked.machine.reshape(&policy, now);
            if let Some(member) = &mut locked.member {
                member.reshape(&policy, now);
            }
            locked.policy = policy;
        });
    }

    pub(super) fn observe(&self, observer: Observer) {
        self.lock().observers.push(observer);
    }

    pub(super) fn policy(&self) -> Policy {
        self.lock().policy.clone()
    }

    pub(super) fn state(&self) -> State {
        self.word().state()
    }

    pub(super) fn read(&self) -> Reading {
        self.cut(|locked| locked.read(self.stale.load(Ordering::Relaxed)))
    }

    /// The rejection that is published, if it is good for now. `None`: ask under the lock.
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
        let now = clock::coarse();
        // Half-open, a place is free as soon as a probe ends: nobody knows when.
        let retry_after = (state == State::Open).then(|| horizon.since(now));
        (horizon > now).then_some(Rejection { state, generation, retry_after })
    }

    /// Waits until it may be of use to ask for leave again.
    ///
    /// Until then it is polled when it is made and when something has changed, and not in between.
    pub(super) async fn changed(&self) {
        let mut changed = pin!(self.changed.notified());
        // From here on no change is missed; one from before shows in what is read now.
        changed.as_mut().enable();
        if !matches!(self.check(), Err(Refusal::Rejected(_))) {
            return;
        }
        let until = self.lock().rejected_until();
        // By the clock that admits.
        let wait = until.since(clock::coarse());
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

    /// What a call would be told that is not admitted now.
    pub(super) fn rejection_now(&self) -> Rejection {
        self.lock().rejection(clock::now())
    }

    #[cold]
    fn check_locked(&self) -> Result<(), Refusal> {
        let locked = self.lock();
        let now = clock::now();
        if locked.is_unknown() {
            return Err(Refusal::Unknown);
        }
        let asking = locked.machine.asks() && locked.is_asking();
        match locked.machine.rejects_until(&locked.policy) {
            Some(until) if until > now || asking => Err(Refusal::Rejected(locked.rejection(now))),
            _ => Ok(()),
        }
    }

    #[inline(never)]
    fn acquire_slowly(&self, begin: Begin) -> Result<Grant, Refusal> {
        if let Some(rejection) = self.rejection() {
            return Err(Refusal::Rejected(rejection));
        }
        self.cut(|locked| {
            let now = clock::now();
            let (admission, transition) =
                locked.machine.admit(begin, now, &locked.policy, fastrand::u64(..));
            locked.happened(transition.map(Event::Transition));
            let timed = begin == Begin::Now && locked.times();
            match admission {
                Admission::Granted(None) => Ok(Grant::call(locked.epoch, start(timed))),
                Admission::Granted(Some(lease)) => Ok(Grant::probe(locked.epoch, lease)),
                Admission::Ask if !locked.is_asking() => Err(Refusal::Ask),
                Admission::Ask | Admission::Rejected => {
                    Err(Refusal::Rejected(locked.rejection(now)))
                }
            }
        })
    }

    #[cold]
    fn holds_lease(&self, grant: Grant, lease: LeaseId) -> bool {
        let locked = self.lock();
        !locked.is_stale(grant) && locked.machine.holds(lease, clock::now())
    }

    /// Records a success if that takes no lock. False if it does.
    #[inline]
    fn record_quietly(&self, grant: Grant) -> bool {
        let word = self.word();
        // The word is read before the phase and the horizon. Had a cut come between, they might be
        // of a later epoch than the word; then the lane refuses (law 2), and the lock decides.
        if !word.has(Word::QUIET) || self.is_stale(grant) {
            return false;
        }
        let started = grant.started();
        if started != Timestamp::NEVER {
            let slow = Duration::from_nanos(self.slow.load(Ordering::Relaxed));
            if clock::now().since(started) > slow {
                return false;
            }
        }
        if word.has(Word::CLOCK) {
            let horizon = Timestamp::from_nanos(self.horizon.load(Ordering::Acquire));
            if horizon <= clock::coarse() {
                return false;
            }
        }
        !word.has(Word::COUNT) || self.lanes.add(word.epoch())
    }

    #[cold]
    fn record_locked(&self, grant: Grant, outcome: impl FnOnce(&Policy, Duration) -> Outcome) {
        let stale = !self.settle(grant, outcome);
        // One from before the birth was another circuit's call.
        if stale && grant.epoch() >= self.birth.load(Ordering::Relaxed) {
            self.stale.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells the machine how a call ended. False if the grant is stale: then it is not told.
    fn settle(&self, grant: Grant, outcome: impl FnOnce(&Policy, Duration) -> Outcome) -> bool {
        // Asked before the lock too: what is late must not slow down those who are not.
        if self.is_stale(grant) {
            return false;
        }
        self.cut(|locked| {
            if locked.is_stale(grant) {
                return false;
            }
            let now = clock::now();
            let lease = grant.lease();
            let ran = match lease {
                Some(lease) => locked.machine.ran(lease, now),
                None => now.since(grant.started()),
            };
            let ended = Ended {
                outcome: outcome(&locked.policy, ran),
                slow: locked.policy.is_slow(ran),
                lease,
            };
            locked.record(ended, now);
            true
        })
    }

    /// Runs `f` under the lock, at a consistent cut of what was counted outside it; then publishes
    /// what the machine says, unlocks, and tells what has happened.
    fn cut<R>(&self, f: impl FnOnce(&mut Locked) -> R) -> R {
        let mut guard = self.lock();
        let locked = &mut *guard;
        let word = self.word().cut();
        self.word.store(word.0, Ordering::Release);
        // Not the epoch of that word: until the answer is published it still admits calls as the
        // old phase did, and should a new phase begin here, they are not of it.
        locked.epoch = word.epoch() + 1;
        locked.successes(self.lanes.drain(locked.epoch));
        let closed_off = locked.closed_off();
        locked.run_out();

        let answer = f(locked);

        let changed = closed_off != locked.closed_off();
        self.publish(locked);
        let news = !locked.outbox.is_empty() && !locked.telling;
        locked.telling |= news;
        let ring = locked.member.as_mut().and_then(Member::ring);
        drop(guard);
        if let Some(link) = ring {
            link.wake();
        }
        if changed {
            self.changed.notify_waiters();
        }
        if news {
            self.tell();
        }
        answer
    }

    fn publish(&self, locked: &Locked) {
        let slow = locked.policy.slow_call_duration().map_or(u64::MAX, nanos);
        let (word, horizon) = locked.word();
        self.slow.store(slow, Ordering::Release);
        self.horizon.store(horizon.as_nanos(), Ordering::Release);
        self.generation.store(locked.machine.generation(), Ordering::Release);
        self.phase.store(locked.phase, Ordering::Release);
        self.word.store(word.0, Ordering::Release);
    }

    /// Tells what has happened, until there is nothing left to tell.
    #[cold]
    fn tell(&self) {
        loop {
            let mut locked = self.lock();
            let Some(event) = locked.outbox.pop_front() else {
                // Under the lock in which the outbox was seen empty: what comes next must not find
                // somebody telling who has already stopped.
                locked.telling = false;
                return;
            };
            let observers = locked.observers.clone();
            drop(locked);
            for observer in observers {
                // A call must not fail for what an observer does. The panic hook has shown it.
                let _ = catch_unwind(AssertUnwindSafe(|| observer(&event)));
            }
        }
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    #[inline]
    fn is_stale(&self, grant: Grant) -> bool {
        grant.epoch() < self.phase.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        // Nothing panics under this lock. Should it ever, a circuit that goes on serves better than
        // one that panics for everybody.
        self.locked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[inline]
fn start(timed: bool) -> Timestamp {
    if timed { clock::now() } else { Timestamp::NEVER }
}
