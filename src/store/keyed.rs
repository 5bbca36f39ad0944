//! Bounds and eviction for circuits that are named by requests.
//!
//! A request may name anything, so what it names is bounded in number, and what is not used any more
//! makes room. Laws:
//!
//! 1. There are never more circuits of keys than the limit.
//! 2. Only a circuit that is closed, idle, and in nobody's hands is forgotten. So none that rejects, or
//!    that a hand has set, is closed by being forgotten.
//! 3. No call looks at more than a few circuits for that: they take turns in a queue, and all of them
//!    have had theirs within about one idle time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dashmap::mapref::entry::Entry as Slot;

use super::builder::KeySettings;
use super::{Entry, Inner, Sharing, Store};
use crate::circuit::{Circuit, Width};
use crate::clock;
use crate::machine::{Policy, State};
use crate::name::{KeyedName, Name};
use crate::observe;
use crate::timestamp::Timestamp;

/// How many circuits a call looks at, where it is its turn to look.
const LOOKS: usize = 16;

/// The same, for who needs room.
const LOOKS_FOR_ROOM: usize = 32;

/// How often the log is told of the same trouble, at most.
const TELL_AFTER: Duration = Duration::from_secs(60);

/// The circuits of keys of one store.
#[derive(Debug)]
pub(super) struct Keys {
    settings: KeySettings,
    count: AtomicUsize,
    /// Their names, in the order in which they are looked at.
    turns: Mutex<VecDeque<Name>>,
    next_look: AtomicU64,
    no_room: Trouble,
    no_key: Trouble,
    told_unnamed: AtomicBool,
}

/// When the circuit of a key was last asked for.
#[derive(Debug)]
pub(super) struct Used(AtomicU64);

/// What happens again and again, and is told now and then.
#[derive(Debug, Default)]
struct Trouble {
    times: AtomicU64,
    next: AtomicU64,
}

/// Whose keys, and what their circuits are like.
#[derive(Clone, Debug)]
pub(crate) struct KeyedCircuits {
    pub(crate) store: Store,
    /// The name of the layer.
    pub(crate) layer: Name,
    pub(crate) policy: Option<Policy>,
    pub(crate) sharing: Sharing,
}

impl KeyedCircuits {
    /// The circuit of a key. `None`: there is no room for one more.
    pub(crate) fn circuit(&self, key: &str) -> Option<Circuit> {
        let inner = &*self.store.inner;
        let name = KeyedName::new(self.layer.as_str(), key);
        let now = clock::coarse();
        if inner.keys.is_time_to_look(now) {
            inner.look(LOOKS, now);
        }
        if let Some(entry) = inner.circuits.get(name.as_str())
            && (entry.explicit || self.policy.is_none())
        {
            entry.touch(now, inner.keys.settings.idle);
            return Some(entry.circuit.clone());
        }
        self.make(&name.to_name(), now)
    }

    /// Says that a request had no key.
    pub(crate) fn no_key(&self) {
        if let Some(calls) = self.store.inner.keys.no_key.is_to_be_told(clock::coarse()) {
            observe::no_key(self.layer.as_str(), calls);
        }
    }

    #[cold]
    fn make(&self, name: &Name, now: Timestamp) -> Option<Circuit> {
        let inner = &*self.store.inner;
        if inner.keys.is_full() {
            inner.look(LOOKS_FOR_ROOM, now);
        }
        let circuit = match inner.circuits.entry(name.clone()) {
            // Somebody else was quicker, or has asked for it by its name and left the policy open.
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                entry.touch(now, inner.keys.settings.idle);
                let circuit = entry.circuit.clone();
                let explicit = entry.explicit;
                entry.explicit |= self.policy.is_some();
                drop(slot);
                self.give_policy(&circuit, explicit);
                return Some(circuit);
            }
            Slot::Vacant(slot) if inner.keys.take_room() => {
                let mut entry = inner.make(name.clone(), self.sharing, Width::One);
                let unshared = inner.replica.is_some() && self.sharing == Sharing::Process;
                if unshared && inner.keys.is_unnamed_to_be_told() {
                    observe::unnamed(&self.layer);
                }
                entry.used = Some(Used(AtomicU64::new(now.as_nanos())));
                let explicit = entry.explicit;
                entry.explicit |= self.policy.is_some();
                let circuit = slot.insert(entry).circuit.clone();
                self.give_policy(&circuit, explicit);
                circuit
            }
            Slot::Vacant(_) => {
                if let Some(calls) = inner.keys.no_room.is_to_be_told(now) {
                    observe::no_room(self.layer.as_str(), inner.keys.settings.limit, calls);
                }
                return None;
            }
        };
        // Not before the map is unlocked: who looks has the queue, and wants the map.
        inner.keys.queue(circuit.name().clone());
        Some(circuit)
    }

    /// Puts the layer's policy in force, unless there is one already that somebody has asked for. Not
    /// while the map is locked: observers may be told.
    fn give_policy(&self, circuit: &Circuit, explicit: bool) {
        if let (Some(policy), false) = (&self.policy, explicit) {
            circuit.set_policy(policy.clone());
        }
    }
}

impl Inner {
    /// Looks at the next circuits in the queue, and forgets those that are idle.
    fn look(&self, most: usize, now: Timestamp) {
        // If somebody else is looking, that will do.
        let Ok(mut turns) = self.keys.turns.try_lock() else { return };
        for _ in 0..most.min(turns.len()) {
            let Some(name) = turns.pop_front() else { break };
            let idle = self.keys.settings.idle;
            let gone = self.circuits.remove_if(&name, |_, entry| {
                let gone = entry.is_forgettable(now, idle);
                // Before the map is unlocked: the name may be another circuit's right after.
                if let (Some(replica), true) = (&self.replica, gone) {
                    replica.let_go(&name);
                }
                gone
            });
            match gone {
                Some((_, entry)) => {
                    self.keys.count.fetch_sub(1, Ordering::Relaxed);
                    entry.circuit.abandon();
                }
                None => turns.push_back(name),
            }
        }
    }
}

impl Keys {
    pub(super) fn new(settings: KeySettings) -> Self {
        Self {
            settings,
            count: AtomicUsize::new(0),
            turns: Mutex::default(),
            next_look: AtomicU64::new(0),
            no_room: Trouble::default(),
            no_key: Trouble::default(),
            told_unnamed: AtomicBool::new(false),
        }
    }

    /// Once for the store: a layer without a name may have thousands of keys.
    pub(super) fn is_unnamed_to_be_told(&self) -> bool {
        !self.told_unnamed.swap(true, Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.settings.limit
    }

    fn take_room(&self) -> bool {
        let limit = self.settings.limit;
        let more = |count| (count < limit).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn queue(&self, name: Name) {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).push_back(name);
    }

    fn is_time_to_look(&self, now: Timestamp) -> bool {
        let next = self.next_look.load(Ordering::Relaxed);
        if now.as_nanos() < next {
            return false;
        }
        let share = self.count.load(Ordering::Relaxed) / LOOKS + 1;
        let wait = self.settings.idle / u32::try_from(share).unwrap_or(u32::MAX);
        let (order, after) = (Ordering::Relaxed, now.after(wait).as_nanos());
        self.next_look.compare_exchange(next, after, order, order).is_ok()
    }
}

impl Entry {
    /// Not at every call, so that threads seldom write what others read.
    fn touch(&self, now: Timestamp, idle: Duration) {
        if let Some(Used(used)) = &self.used {
            let last = Timestamp::from_nanos(used.load(Ordering::Relaxed));
            if now.since(last) > grain(idle) {
                used.store(now.as_nanos(), Ordering::Relaxed);
            }
        }
    }

    fn is_forgettable(&self, now: Timestamp, idle: Duration) -> bool {
        let Some(Used(used)) = &self.used else { return false };
        let used = Timestamp::from_nanos(used.load(Ordering::Relaxed));
        now.since(used) > idle + grain(idle)
            && self.circuit.state() == State::Closed
            && self.circuit.is_unused()
    }
}

/// How far behind the last use may be that is put down.
fn grain(idle: Duration) -> Duration {
    idle / 16
}

impl Trouble {
    /// How often it has happened since it was told last, if it is to be told again.
    fn is_to_be_told(&self, now: Timestamp) -> Option<u64> {
        self.times.fetch_add(1, Ordering::Relaxed);
        let next = self.next.load(Ordering::Relaxed);
        let (order, after) = (Ordering::Relaxed, now.after(TELL_AFTER).as_nanos());
        let told =
            now.as_nanos() >= next && self.next.compare_exchange(next, after, order, order).is_ok();
        told.then(|| self.times.swap(0, Ordering::Relaxed))
    }
}
