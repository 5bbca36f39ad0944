//! What stands in front of the machine, so that most calls need not wait for it.
//!
//! The [`Machine`](crate::machine::Machine) is behind a mutex. In front of it are a few atomics
//! that say what may be done without it, and until when:
//!
//! - `word`: the state, flags, and an epoch ([`Word`]);
//! - `horizon`: the time at which the word is no longer good, and the lock must be asked;
//! - `phase`: the epoch at which the current phase began.
//!
//! Laws:
//!
//! 1. Only the holder of the lock writes the word, and each time with a greater epoch: an odd one
//!    while it works, an even one when it publishes.
//! 2. A thread that takes the lock to change something first makes a *cut*: the word moves to a new
//!    epoch without `QUIET`, then the stripes are drained. What was counted before the cut is in
//!    the drain; what comes after it is refused by its stripe and must wait for the lock.
//! 3. A grant bears the epoch at which it was given. It is stale if that is before the epoch at
//!    which the current phase began; stale results are counted as such and change nothing.
//! 4. A success goes by without the lock only while the machine says that one more success matters
//!    to nothing but a count (`QUIET`), the bucket has not ended, and it was not slow. Without a
//!    window it is no evidence: then it counts in a total of its thread alone, which no cut drains.
//! 5. A result that leaves no evidence takes no lock. A cancelled call that leaves none counts in
//!    its stripe's run, where there is a window, and takes the lock where that could complete a run
//!    that matters, or when its stripe has counted its share of what is missing.
//! 6. No user code runs under the lock: no observer, no drop of what one has captured, no waker.
//!    What would run some waits until the lock is released ([`Locked::later`]).
//!
//! So a judgement includes every result whose recording returned before it began, and each result
//! is counted once, in its own phase, or is stale.
//!
//! [`admission`](super::admission) admits calls, [`results`](super::results) records how they
//! ended.

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::cause::Cause;
use super::counters::{Counter, Life};
use super::grant::Grant;
use super::link::Link;
use super::locked::{Locked, Observer};
use super::past::Past;
use super::peek::Peek;
use super::primitives::{AtomicU64, Mutex, MutexGuard, Ordering};
use super::running::Watch;
use super::sampler::{Sampled, Samplers};
use super::snapshot::Reading;
use super::stripes::{Stripes, Width, thread_number};
use super::synced::Synced;
use super::word::Word;
use crate::backend::OverrideChange;
use crate::clock;
use crate::machine::{Backing, Origin, OverrideRecord, Reason, State};
use crate::policy::Policy;
use crate::stats::{Durations, Latency, Totals};
use crate::sync::{Acknowledgement, CircuitSync};
use crate::timestamp::{Timestamp, nanos};
use crate::unwind::contain;

/// One circuit: the machine, and the atomics in front of it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Engine {
    pub(super) word: AtomicU64,
    pub(super) horizon: AtomicU64,
    pub(super) phase: AtomicU64,
    /// Which running calls are counted ([`Watch`]).
    pub(super) watch: AtomicU64,
    /// When running calls are to be judged.
    pub(super) look: AtomicU64,
    /// A call that ran for so long or less, by the coarse clock, was not slow for sure.
    pub(super) quick: AtomicU64,
    /// A call that ran longer, in nanoseconds, was slow.
    pub(super) slow: AtomicU64,
    /// So many cancelled calls a stripe may count in a row.
    pub(super) most_cancelled: AtomicU64,
    pub(super) stripes: Stripes,
    pub(super) generation: AtomicU64,
    /// Why calls are rejected ([`Cause`]).
    cause: [AtomicU64; 4],
    locked: Mutex<Locked>,
    pub(super) stale: Counter,
    /// Set once a circuit of this engine has measured how long calls take.
    pub(super) samplers: OnceLock<Samplers>,
    /// The epoch at which the engine became this circuit's.
    pub(super) birth: AtomicU64,
    /// Notified when what is rejected may have changed.
    pub(super) changed: Notify,
}

impl Engine {
    pub(crate) fn new(policy: Policy, observers: Vec<Observer>, width: Width) -> Self {
        let zero = || AtomicU64::new(0);
        let engine = Self {
            word: zero(),
            horizon: zero(),
            phase: zero(),
            watch: AtomicU64::new(Watch::OFF.0),
            look: zero(),
            quick: zero(),
            slow: zero(),
            most_cancelled: zero(),
            stripes: Stripes::new(width),
            generation: zero(),
            cause: std::array::from_fn(|_| zero()),
            locked: Mutex::new(Locked::new(policy, observers, 0)),
            stale: Counter::new(),
            samplers: OnceLock::new(),
            birth: zero(),
            changed: Notify::new(),
        };
        engine.cut(|locked| locked.past = Past::new(width));
        engine
    }

    /// Drops what belongs to the circuit, which no store and no handle has any more. Its grants are
    /// stale from here on. False, with nothing changed, while observers get one of its events: it
    /// would arrive among those of the next circuit.
    pub(super) fn vacate(&self) -> bool {
        let old = self.cut(|locked| {
            let idle = !locked.notifying && locked.outbox.is_empty();
            idle.then(|| {
                self.watch.store(Watch::OFF.0, Ordering::Release);
                std::mem::replace(locked, Locked::vacant(locked.epoch))
            })
        });
        let vacated = old.is_some();
        // Without the lock: with it go its observers, and what users have put into them. Whoever
        // makes a circuit now has nothing to do with those.
        contain(|| drop(old));
        vacated
    }

    /// Makes the engine, which is vacant, a new circuit's.
    pub(super) fn occupy(&self, policy: Policy, observers: Vec<Observer>) {
        self.cut(|locked| {
            self.birth.store(locked.epoch, Ordering::Release);
            let life = Life::born_at(locked.epoch);
            self.stripes.begin(life);
            self.stale.begin(life);
            *locked = Locked::new(policy, observers, locked.epoch);
            locked.past = Past::new(self.stripes.width());
        });
    }

    /// Whether it is the engine of a key's circuit.
    #[inline]
    pub(super) fn is_of_a_key(&self) -> bool {
        self.stripes.width() == Width::One
    }

    #[inline]
    pub(super) fn stripes(&self) -> &Stripes {
        &self.stripes
    }

    /// Sets an override. In a cluster, the answer resolves once the backend has stored it.
    pub(super) fn set_override(&self, record: OverrideRecord) -> Option<Acknowledgement> {
        self.cut(|locked| {
            let now = clock::now();
            let shared = Arc::new(record.clone());
            let began = locked.machine.force(shared, Origin::Local, &locked.policy, now);
            if began.is_some() {
                locked.began(began, now);
            }
            locked.send_override(OverrideChange::Set(record), now)
        })
    }

    /// Ends an override: the state beneath it is in force again.
    pub(super) fn clear_override(&self) -> Option<Acknowledgement> {
        self.cut(|locked| {
            let now = clock::now();
            locked.end_override(Reason::Override, now);
            locked.send_override(OverrideChange::Clear, now)
        })
    }

    /// Closes the circuit, and ends an override.
    pub(super) fn reset(&self) -> Option<Acknowledgement> {
        self.cut(|locked| {
            let now = clock::now();
            let transition = locked.machine.reset(Reason::Override, &locked.policy, now);
            locked.began(transition, now);
            locked.send_override(OverrideChange::Reset, now)
        })
    }

    /// Ends an open interval. False if there is none.
    pub(super) fn probe_now(&self) -> bool {
        self.cut(|locked| locked.probe_now(clock::now()))
    }

    /// Joins a cluster, whose state is not known yet.
    pub(super) fn join(&self, link: Arc<dyn Link>) {
        self.cut(|locked| {
            locked.machine.set_backing(Backing::Attached);
            locked.synced = Some(Synced::new(CircuitSync::new(&locked.policy), link));
            locked.renewed = true;
        });
    }

    /// The link to the cluster, if the circuit belongs to one.
    pub(super) fn link(&self) -> Option<Arc<dyn Link>> {
        self.lock().link()
    }

    /// Runs `f` at a cut, with the time.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Locked, Timestamp) -> R) -> R {
        self.cut(|locked| f(locked, clock::now()))
    }

    /// Puts another policy in force. The state stays, and the evidence where its window does.
    pub(super) fn set_policy(&self, policy: Policy) {
        self.cut(|locked| locked.set_policy(policy, clock::now()));
    }

    /// Measures how long one call in so many takes, from now on.
    pub(super) fn sample_latency(&self, one_in: NonZeroU32) {
        let samplers = self.samplers.get_or_init(|| Samplers::new(self.stripes.number()));
        self.cut(|locked| {
            samplers.begin(one_in);
            locked.sampled = true;
            locked.renewed = true;
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
        let (reading, queued) = self.read_quietly();
        if queued {
            self.notify();
        }
        reading
    }

    pub(super) fn read_quietly(&self) -> (Reading, bool) {
        self.cut_and_queue(|locked| {
            let now = clock::now();
            self.look_at_running(locked, now);
            Reading {
                latency: self.latency(locked, now),
                ..locked.read(self.totals(locked, now), now)
            }
        })
    }

    /// Returns the totals, without a cut.
    pub(super) fn totals(&self, locked: &Locked, now: Timestamp) -> Totals {
        let mut totals = locked.counted.totals(now);
        self.stripes.add_to(&mut totals, self.life());
        totals.stale = self.stale.count();
        totals
    }

    /// Counts a call that is made without a service, and returns whether it is measured.
    #[inline]
    pub(super) fn samples_next(&self, word: Word) -> Sampled {
        if word.has(Word::SAMPLED) { self.sampler_next() } else { Sampled::No }
    }

    // Apart: inlined, it makes the grant travel through memory.
    #[inline(never)]
    fn sampler_next(&self) -> Sampled {
        self.samplers.get().map_or(Sampled::No, |samplers| samplers.next(thread_number()))
    }

    fn latency(&self, locked: &Locked, now: Timestamp) -> Option<Latency> {
        self.samplers.get().filter(|_| locked.sampled).and_then(|it| Latency::of(&it.recent(now)))
    }

    /// Returns how long all sampled calls took, if calls are sampled.
    pub(super) fn durations(&self) -> Option<Durations> {
        let sampled = self.lock().sampled;
        self.samplers.get().filter(|_| sampled).map(Samplers::all)
    }

    /// Takes the lock and nothing more: no cut, no event.
    pub(super) fn peek(&self, now: Timestamp) -> Peek {
        let mut peek = self.lock().peek(now);
        // Cancelled calls that no cut has drained yet.
        peek.suspects |= !peek.overridden && self.stripes.has_run();
        peek
    }

    /// Why calls of this generation are rejected.
    #[inline]
    pub(super) fn cause(&self, generation: u64) -> Cause {
        let word = self.word();
        let words = std::array::from_fn(|n| self.cause[n].load(Ordering::Acquire));
        let read = self.generation.load(Ordering::Acquire);
        // What was read between two equal words, and not in a cut, belongs to that word (law 1).
        if read == generation && !word.in_cut() && self.word() == word {
            return Cause(words);
        }
        self.lock().cause
    }

    /// Counts the calls that have been running for too long as slow ones, if running calls are
    /// watched.
    pub(super) fn look_at_running(&self, locked: &mut Locked, now: Timestamp) -> Option<Watch> {
        let limit = locked.policy.watched_duration()?;
        let watch = Some(self.watch_running(locked, now)).filter(|watch| *watch != Watch::OFF)?;
        locked.machine.set_overdue(self.stripes.overdue(watch, limit, now));
        Some(watch)
    }

    /// Judges running calls, if it is time for that.
    pub(super) fn judge_running(&self, locked: &mut Locked, now: Timestamp) {
        if locked.look > now {
            return;
        }
        if let Some(watch) = self.look_at_running(locked, now) {
            locked.look = watch.next_look(now);
            locked.judge(now);
        }
    }

    /// Starts the watch that the phase and its policy ask for, if that is not in force yet.
    pub(super) fn watch_running(&self, locked: &mut Locked, now: Timestamp) -> Watch {
        let watch = locked.wanted_watch();
        if watch != locked.watch {
            if watch != Watch::OFF {
                self.stripes.watch(watch, now);
            }
            locked.watch = watch;
            locked.look = now;
            self.watch.store(watch.0, Ordering::Release);
        }
        watch
    }

    /// Runs `f` under the lock, at a consistent cut of what was counted outside it; then publishes
    /// what the machine says, unlocks, and notifies observers.
    pub(super) fn cut<R>(&self, f: impl FnOnce(&mut Locked) -> R) -> R {
        let (answer, queued) = self.cut_and_queue(f);
        if queued {
            self.notify();
        }
        answer
    }

    /// The same, but if events are queued and no thread notifies observers, it returns true, and
    /// the caller must have [`notify`](Self::notify) called.
    pub(super) fn cut_and_queue<R>(&self, f: impl FnOnce(&mut Locked) -> R) -> (R, bool) {
        let mut guard = self.lock();
        let locked = &mut *guard;
        let word = self.word().cut();
        self.word.store(word.0, Ordering::Release);
        // Not the epoch of that word: until the answer is published it still admits calls as the
        // old phase did, and should a new phase begin here, they are not of it.
        locked.epoch = word.epoch() + 1;
        let closed_off = locked.closed_off();
        locked.count(self.stripes.drain(locked.epoch));
        locked.run_out();

        let answer = f(locked);

        let changed = closed_off != locked.closed_off();
        self.publish(locked);
        let notify = !locked.outbox.is_empty() && !locked.notifying;
        locked.notifying |= notify;
        let ring = locked.synced.as_mut().and_then(Synced::ring);
        let later = std::mem::take(&mut locked.later);
        drop(guard);
        // Wakers are user code, and may panic: what follows must still run.
        for later in later {
            contain(later);
        }
        if let Some(link) = ring {
            contain(|| link.wake());
        }
        if changed {
            contain(|| self.changed.notify_waiters());
        }
        (answer, notify)
    }

    fn publish(&self, locked: &mut Locked) {
        if std::mem::take(&mut locked.renewed) {
            self.publish_phase(locked);
        }
        let (word, horizon) = locked.word();
        self.look.store(locked.look.as_nanos(), Ordering::Release);
        let most = locked.most_cancelled(self.stripes.log2());
        self.most_cancelled.store(most, Ordering::Release);
        self.horizon.store(horizon.as_nanos(), Ordering::Release);
        self.word.store(word.0, Ordering::Release);
    }

    /// Publishes what changes with the phase and the policy alone.
    #[cold]
    fn publish_phase(&self, locked: &mut Locked) {
        locked.phase_flags = locked.flags_of_phase();
        if locked.wanted_watch() != locked.watch {
            self.watch_running(locked, clock::now());
        }
        let slow = locked.policy.slow_call_duration().map_or(u64::MAX, nanos);
        let coarse = locked.phase_flags & Word::COARSE != 0;
        let quick = if coarse { slow } else { slow.saturating_sub(clock::step()) };
        self.slow.store(slow, Ordering::Release);
        self.quick.store(quick, Ordering::Release);
        for (published, word) in self.cause.iter().zip(locked.cause.0) {
            published.store(word, Ordering::Release);
        }
        self.generation.store(locked.machine.generation(), Ordering::Release);
        self.phase.store(locked.phase, Ordering::Release);
    }

    /// Notifies observers of queued events, until there are none.
    #[cold]
    pub(super) fn notify(&self) {
        loop {
            let mut locked = self.lock();
            let Some(event) = locked.outbox.pop_front() else {
                // Under the lock under which the outbox was empty: the next event must not find a
                // thread that still seems to notify, and has stopped.
                locked.notifying = false;
                return;
            };
            let observers = locked.observers.clone();
            drop(locked);
            for observer in observers {
                // A call must not fail for what an observer does, or what it has captured.
                contain(|| observer(&event));
                contain(|| drop(observer));
            }
        }
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Returns the life of the engine. The caller has a handle or the lock.
    #[inline]
    pub(super) fn life(&self) -> Life {
        Life::born_at(self.birth.load(Ordering::Acquire))
    }

    /// Returns the life of the engine in which a call was admitted, unless that is over.
    #[inline]
    pub(super) fn life_of(&self, grant: Grant) -> Option<Life> {
        let birth = self.birth.load(Ordering::Acquire);
        (grant.epoch() >= birth).then(|| Life::born_at(birth))
    }

    /// Counts a call that is rejected. The caller has a handle.
    // Apart, so that the rejection is still made where it is returned: a copy costs more.
    #[inline(never)]
    pub(super) fn count_rejected(&self) {
        self.stripes.count_rejected(self.life());
    }

    #[inline]
    pub(super) fn is_stale(&self, grant: Grant) -> bool {
        grant.epoch() < self.phase.load(Ordering::Acquire)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Locked> {
        // Nothing panics under this lock. Should it ever, a circuit that goes on serves better than
        // one that panics for all.
        self.locked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[cfg(feature = "test-util")]
    #[tokio::test(start_paused = true)]
    async fn successes_are_evidence_in_a_cluster_whatever_the_window() {
        let policy = Policy::only().consecutive_failures(5).no_window().build().unwrap();
        let builder = || crate::Store::builder().default_policy(policy.clone());
        let alone = builder().build().circuit("test");
        assert!(!alone.engine.word().has(Word::COUNT));
        let store = builder().backend(crate::backend::MemoryBackend::new()).build();
        let shared = store.circuit("test");
        // Until the record is known, every call takes the lock.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(shared.engine.word().has(Word::COUNT), "they end a streak of other replicas");
        shared.leave();
        assert!(!shared.engine.word().has(Word::COUNT));
    }

    #[test]
    fn a_vacant_engine_watches_no_running_calls() {
        let limit = Duration::from_secs(1);
        let watching =
            Policy::only().slow_call_duration(limit).slow_call_rate(0.5).build().unwrap();
        let timed = Policy::default().to_builder().slow_call_duration(limit).build().unwrap();
        let engine = Engine::new(watching, Vec::new(), Width::One);
        assert_ne!(engine.watch.load(Ordering::Relaxed), Watch::OFF.0);
        assert!(engine.vacate());
        engine.occupy(timed, Vec::new());
        assert_eq!(engine.watch.load(Ordering::Relaxed), Watch::OFF.0, "of the last circuit");
    }
}
