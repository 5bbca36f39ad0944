//! The bounds of circuits that requests name.
//!
//! A request may carry any key, so the number of circuits of keys is bounded, and circuits that are
//! no longer used make room. Laws:
//!
//! 1. There are never more circuits of keys than the limit.
//! 2. A circuit is forgotten when it is idle (not used for the idle time) and would reject nothing:
//!    closed, open with its interval over, or half-open with a free probe slot.
//! 3. When the limit is reached, a new key evicts a circuit at once. First choice: one without
//!    evidence against its upstream (closed, and no failure and no slow call counted), the least
//!    recently used of those that are looked at. Second choice: the least recently used of the
//!    others, even one that rejects: an open circuit that no call uses protects nothing.
//! 4. A circuit that is in use (a handle or a permit is out), or under an override that is in
//!    force, is neither forgotten nor evicted. Only if that is true of all that are looked at, the
//!    new key's call passes through uncounted.
//! 5. Looking changes nothing and runs no user code. It may be done under the map's lock; what is
//!    taken out of the map is dropped without any lock.
//! 6. A call looks at no more than a few circuits. They wait in two queues, *clean* and *suspect*,
//!    by what the last look at them has seen. For idle ones [`LOOKS`] of both are looked at from
//!    time to time, so that each has its turn within about one idle time; for room, at most
//!    [`LOOKS_FOR_ROOM`] of each, apart from those in the clean queue that have become suspect
//!    since. These are moved, which is paid once for each; at most [`MOST_MOVED`] at a time.
//!
//! What follows for a client that chooses keys:
//!
//! - It cannot keep a new key from getting a circuit, unless its calls hold the circuits in use.
//! - It cannot evict a circuit with evidence that is used more often than its own keys. How long
//!   ago a circuit was used is measured by how many circuits of keys have been made since, so a
//!   flood cannot be too quick for it. The choice is the least recent of a sample, so in numbers: a
//!   circuit that is used once per `limit / 2` new keys stays, except with a probability of about 1
//!   in 2^31 at each look.
//! - Keys whose calls succeed evict circuits without evidence. They evict others only if all those
//!   without evidence that are looked at are in use: so not more than about one for each of their
//!   calls that run at once. Two queues are needed for that: in one, the few clean circuits of a
//!   table full of failing hosts would seldom be among those looked at, and each new key would cost
//!   a circuit that is worth more. (If thousands have become suspect since the last look, one for
//!   each [`MOST_MOVED`] of them may be evicted too.)

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::departed::Departed;
use super::entry::{Circuits, Entry, Look};
use super::settings::KeySettings;
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// How many circuits of each queue a call looks at, when it is its turn to look.
const LOOKS: usize = 16;

/// The same, for a new key that needs room.
const LOOKS_FOR_ROOM: usize = 32;

/// How many circuits a new key moves to the other queue at most, in its search for room.
const MOST_MOVED: usize = 1_024;

/// The shortest time between two warnings of one kind.
const WARN_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The circuits of keys of one store.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) settings: KeySettings,
    pub(super) departed: Departed,
    count: AtomicUsize,
    made: AtomicU64,
    queues: Mutex<Queues>,
    next_look: AtomicU64,
    pub(super) no_room: Trouble,
    pub(super) no_key: Trouble,
    warned_unnamed: AtomicBool,
}

/// The names of the circuits, in the order in which they are looked at.
#[derive(Debug, Default)]
struct Queues {
    clean: VecDeque<CircuitName>,
    suspect: VecDeque<CircuitName>,
}

/// Room for one more circuit, which is counted from here on.
pub(super) enum Room {
    Free,
    /// The circuit that made room. The caller must [release](Entry::release) it.
    Evicted(Entry),
}

/// What happens again and again, and is logged from time to time.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    times: AtomicU64,
    next: AtomicU64,
}

impl Keys {
    pub(super) fn new(settings: KeySettings) -> Self {
        Self {
            settings,
            departed: Departed::default(),
            count: AtomicUsize::new(0),
            made: AtomicU64::new(0),
            queues: Mutex::default(),
            next_look: AtomicU64::new(0),
            no_room: Trouble::default(),
            no_key: Trouble::default(),
            warned_unnamed: AtomicBool::new(false),
        }
    }

    /// Returns true once per store: a layer without a name may have thousands of keys.
    pub(super) fn is_unnamed_to_be_logged(&self) -> bool {
        !self.warned_unnamed.swap(true, Ordering::Relaxed)
    }

    /// How many circuits were made so far: the age of a use, in a flood of new keys.
    #[inline]
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Counts a circuit that is being made.
    pub(super) fn count_made(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a circuit that has room and is in the map. Never call it while the map is locked: a
    /// look locks the queues first.
    pub(super) fn add(&self, name: CircuitName) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clean.push_back(name);
    }

    /// Gives back room that was not needed.
    pub(super) fn give_back_room(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns room for a new key's circuit, or `None` if all circuits that were looked at are in
    /// use or overridden.
    pub(super) fn room(&self, circuits: &Circuits) -> Option<Room> {
        let limit = self.settings.limit;
        let more = |count| (count < limit).then_some(count + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            return Some(Room::Free);
        }
        self.evict(circuits).map(Room::Evicted)
    }

    fn evict(&self, circuits: &Circuits) -> Option<Entry> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen: Vec<(CircuitName, Look)> = Vec::with_capacity(2 * LOOKS_FOR_ROOM);
        let (mut clean, mut moved) = (0, 0);
        while clean < LOOKS_FOR_ROOM
            && moved < MOST_MOVED
            && let Some((name, look)) = queues.next(Queue::Clean, circuits)
        {
            *(if look.is_suspect() { &mut moved } else { &mut clean }) += 1;
            seen.push((name, look));
        }
        if !seen.iter().any(|(_, look)| look.may_be_evicted() && !look.is_suspect()) {
            let suspects = std::iter::from_fn(|| queues.next(Queue::Suspect, circuits));
            seen.extend(suspects.take(LOOKS_FOR_ROOM));
        }
        let evicted = loop {
            let candidates = seen.iter().enumerate().filter(|(_, (_, look))| look.may_be_evicted());
            let Some((at, _)) = candidates.min_by_key(|(_, (_, look))| look.worth()) else {
                break None;
            };
            let (name, look) = &mut seen[at];
            // What has changed since was used just now.
            let removed = self.departed.remove(circuits, name, |entry| entry.look() == *look);
            if let Some(entry) = removed {
                seen.remove(at);
                break Some(entry);
            }
            look.in_use = true;
        };
        for (name, look) in seen {
            queues.put_back(name, look);
        }
        evicted
    }

    pub(super) fn is_time_to_look(&self, now: Timestamp) -> bool {
        let next = self.next_look.load(Ordering::Relaxed);
        if now.as_nanos() < next {
            return false;
        }
        let share = self.count.load(Ordering::Relaxed) / LOOKS + 1;
        let wait = self.settings.idle / u32::try_from(share).unwrap_or(u32::MAX);
        let (order, after) = (Ordering::Relaxed, now.after(wait).as_nanos());
        self.next_look.compare_exchange(next, after, order, order).is_ok()
    }

    /// Looks at the next circuits of both queues, and takes out those that may be forgotten. The
    /// caller must [release](Entry::release) them.
    pub(super) fn forget_idle(&self, circuits: &Circuits, now: Timestamp) -> Vec<Entry> {
        // If another thread is looking already, that is enough.
        let Ok(mut queues) = self.queues.try_lock() else { return Vec::new() };
        let idle = self.settings.idle;
        let mut gone = Vec::new();
        for queue in [Queue::Suspect, Queue::Clean] {
            for _ in 0..LOOKS.min(queues.of(queue).len()) {
                let Some((name, look)) = queues.next(queue, circuits) else { break };
                let may_go = |look: Look| look.may_be_forgotten(now, idle);
                let remove = || self.departed.remove(circuits, &name, |entry| may_go(entry.look()));
                match may_go(look).then(remove).flatten() {
                    Some(entry) => gone.push(entry),
                    None => queues.put_back(name, look),
                }
            }
        }
        self.count.fetch_sub(gone.len(), Ordering::Relaxed);
        gone
    }
}

#[derive(Clone, Copy, Debug)]
enum Queue {
    Clean,
    Suspect,
}

impl Queues {
    fn of(&mut self, queue: Queue) -> &mut VecDeque<CircuitName> {
        match queue {
            Queue::Clean => &mut self.clean,
            Queue::Suspect => &mut self.suspect,
        }
    }

    /// Takes the next name out of a queue, with the current look at its circuit.
    fn next(&mut self, queue: Queue, circuits: &Circuits) -> Option<(CircuitName, Look)> {
        let queue = self.of(queue);
        loop {
            let name = queue.pop_front()?;
            // It is in the map, because only a holder of the queues takes it out. A name that is
            // gone is skipped.
            let look = circuits.get(&name).map(|entry| entry.look());
            if let Some(look) = look {
                return Some((name, look));
            }
        }
    }

    fn put_back(&mut self, name: CircuitName, look: Look) {
        let queue = if look.is_suspect() { Queue::Suspect } else { Queue::Clean };
        self.of(queue).push_back(name);
    }
}

impl Trouble {
    /// Counts, and returns how often it has happened since it was last logged, if it should be
    /// logged again.
    pub(super) fn is_to_be_logged(&self, now: Timestamp) -> Option<u64> {
        self.times.fetch_add(1, Ordering::Relaxed);
        let next = self.next.load(Ordering::Relaxed);
        let (order, after) = (Ordering::Relaxed, now.after(WARN_AGAIN_AFTER).as_nanos());
        let due =
            now.as_nanos() >= next && self.next.compare_exchange(next, after, order, order).is_ok();
        due.then(|| self.times.swap(0, Ordering::Relaxed))
    }
}
