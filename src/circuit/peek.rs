//! What the store must know of a circuit before it forgets it.

use super::Circuit;
use super::locked::Locked;
use crate::clock;
use crate::machine::State;
use crate::timestamp::Timestamp;

/// A circuit at one moment, as far as it decides whether the store may forget it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peek {
    /// It rejects calls, other than by an override.
    pub(crate) rejects: bool,
    /// It has evidence against its upstream: it is not closed, or has counted failures or slow
    /// calls.
    pub(crate) suspects: bool,
    /// It is under an override that is still in force.
    pub(crate) overridden: bool,
}

impl Circuit {
    /// Returns whether the circuit belongs to a key, of a layer [with
    /// keys](crate::CircuitBreakerLayer::keyed_by) or of [`Store::keyed`](crate::Store::keyed).
    ///
    /// The store bounds the number of these circuits, and may forget them. A circuit that was
    /// looked up by its full name before any call used the key is a named one, and stays.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        self.engine.is_of_a_key()
    }

    /// Reads without changing anything: it ends no override and sends no event. So it runs no user
    /// code, and may be called under a lock.
    pub(crate) fn peek(&self) -> Peek {
        self.engine.peek(clock::now())
    }
}

impl Locked {
    pub(super) fn peek(&self, now: Timestamp) -> Peek {
        let Self { machine, policy, .. } = self;
        let state = machine.state();
        let by_operator = state.is_overridden();
        let tally = machine.tally();
        let counted = tally.failures + tally.slow_calls + tally.unanswered > 0;
        Peek {
            rejects: !by_operator && machine.rejects_until(policy).is_some_and(|until| until > now),
            suspects: match state {
                State::Closed => counted,
                _ => !by_operator,
            },
            overridden: by_operator && machine.ends() > now,
        }
    }
}
