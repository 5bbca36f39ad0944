//! Where engines come from, and where they go.
//!
//! A permit must outlive the borrow of its circuit (it sits in a future), and counting references
//! for it would make every call write a cache line that all threads share. So engines are never
//! freed; a permit refers to one freely, and its epoch tells if that engine has become another
//! circuit's meanwhile: then the permit is stale, like any other of an earlier phase.
//!
//! Memory does not grow for that: the handles of a circuit are counted, in lanes, and an engine
//! that its store has let go of and that no handle is left of serves the next circuit that is
//! made. So there are about as many engines as there were circuits at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::engine::Engine;
use super::lanes::Width;
use super::locked::Observer;
use crate::machine::Policy;

/// Engines whose stores have let go of them, by their width. Some may still have handles.
static WIDE: Abandoned = Mutex::new(Vec::new());
static NARROW: Abandoned = Mutex::new(Vec::new());

type Abandoned = Mutex<Vec<&'static Engine>>;

/// How many have been looked at so far.
static LOOKED: AtomicUsize = AtomicUsize::new(0);

/// How many abandoned engines are looked at for each new circuit. More than one, so that the list
/// gets shorter when it can; bounded, so that a circuit is made in constant time.
const LOOKS: usize = 8;

/// An engine for a new circuit, with its first handle counted.
pub(super) fn take(policy: Policy, observers: Vec<Observer>, width: Width) -> &'static Engine {
    let engine = match reusable(width) {
        Some(engine) => {
            engine.recycle(policy, observers);
            engine
        }
        None => Box::leak(Box::new(Engine::new(policy, observers, width))),
    };
    engine.lanes().handle_cloned();
    engine
}

/// Says that the store has let go of the engine. Once per circuit.
pub(super) fn abandon(engine: &'static Engine) {
    abandoned(engine.lanes().width()).push(engine);
}

fn reusable(width: Width) -> Option<&'static Engine> {
    let mut abandoned = abandoned(width);
    for _ in 0..LOOKS.min(abandoned.len()) {
        // From another place each time, as those that are still in use would gather at a fixed one.
        let place = LOOKED.fetch_add(1, Ordering::Relaxed) % abandoned.len();
        if abandoned[place].lanes().handles() == 0 {
            return Some(abandoned.swap_remove(place));
        }
    }
    None
}

fn abandoned(width: Width) -> MutexGuard<'static, Vec<&'static Engine>> {
    let abandoned = match width {
        Width::Many => &WIDE,
        Width::One => &NARROW,
    };
    abandoned.lock().unwrap_or_else(PoisonError::into_inner)
}
