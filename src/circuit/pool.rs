//! Where engines come from, and where they go.
//!
//! A permit must outlive the borrow of its circuit (it is part of a future), and counting
//! references for it would make every call write a cache line that all threads share. So engines
//! are never freed. A permit refers to one freely, and its epoch shows whether that engine has
//! become another circuit's meanwhile: then the permit is stale, like any other of an earlier
//! phase.
//!
//! Memory does not grow for that. Handles are counted, in stripes. An engine that its store has
//! released and that has no handle is emptied (its observers, its evidence) and serves a later
//! circuit. One that still has handles waits in a queue; each new circuit looks at a few of it. If
//! `n` circuits are in use whose stores are gone, at most about `n / 7` engines without a handle
//! wait among them, with all that their observers have captured. So the number of engines is
//! bounded by the number of circuits that were alive at once.
//!
//! A circuit of a key is forgotten by its store when it has no handle. So each call of one holds a
//! handle until it ends, and a [permit](super::Permit) is one. Doing that for all circuits would
//! cost every call 11 ns.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::engine::Engine;
use super::locked::Observer;
use super::stripes::Width;
use crate::policy::Policy;

/// How many engines are looked at for each new circuit. More than one, so that the queue gets
/// shorter when it can; bounded, so that a circuit is made in constant time.
const LOOKS: usize = 8;

/// The engines of one width that are not a circuit of any store.
struct Pool {
    /// Engines that had handles when they were released, or were sending an event.
    in_use: VecDeque<&'static Engine>,
    free: Vec<&'static Engine>,
}

impl Pool {
    const EMPTY: Self = Self { in_use: VecDeque::new(), free: Vec::new() };
}

/// Returns an engine for a new circuit, with its first handle counted.
pub(super) fn take(policy: Policy, observers: Vec<Observer>, width: Width) -> &'static Engine {
    let looks = LOOKS.min(pool(width).in_use.len());
    for _ in 0..looks {
        let next = pool(width).in_use.pop_front();
        next.into_iter().for_each(release);
    }
    // Not in the condition: the pool must not be locked while the engine changes its circuit.
    let free = pool(width).free.pop();
    let engine = if let Some(engine) = free {
        engine.occupy(policy, observers);
        engine
    } else {
        Box::leak(Box::new(Engine::new(policy, observers, width)))
    };
    engine.stripes().handle_cloned();
    engine
}

/// Records that the store has released the engine. Once per circuit.
pub(super) fn release(engine: &'static Engine) {
    // Where there is no handle, none can be made.
    let free = engine.stripes().handles() == 0 && engine.vacate();
    let mut pool = pool(engine.stripes().width());
    if free {
        pool.free.push(engine);
    } else {
        pool.in_use.push_back(engine);
    }
}

fn pool(width: Width) -> MutexGuard<'static, Pool> {
    static MANY: Mutex<Pool> = Mutex::new(Pool::EMPTY);
    static ONE: Mutex<Pool> = Mutex::new(Pool::EMPTY);
    let pool = match width {
        Width::Many => &MANY,
        Width::One => &ONE,
    };
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}
