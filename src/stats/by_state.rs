//! Time, by the state in which it was spent.

use std::fmt;
use std::time::Duration;

use crate::machine::State;
use crate::timestamp::nanos;

const STATES: [State; 7] = [
    State::Closed,
    State::Open,
    State::HalfOpen,
    State::ForcedOpen,
    State::ForcedClosed,
    State::Disabled,
    State::MetricsOnly,
];

/// How long a circuit was in each [`State`].
///
/// ```
/// use tower_breaker::{State, Store};
///
/// let payments = Store::in_memory().circuit("payments");
/// payments.force_open("an example");
/// let times = payments.snapshot().totals.times;
/// assert!(times.get(State::HalfOpen).is_zero());
/// assert_eq!(times.iter().count(), 7);
/// ```
// In nanoseconds: half the size of durations.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ByState([u64; STATES.len()]);

impl ByState {
    /// Returns the time spent in this state.
    #[must_use]
    pub const fn get(&self, state: State) -> Duration {
        Duration::from_nanos(self.0[place(state)])
    }

    /// Returns all states with their times, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (State, Duration)> + '_ {
        STATES.into_iter().map(|state| (state, self.get(state)))
    }

    pub(crate) fn spend(&mut self, state: State, time: Duration) {
        let sum = &mut self.0[place(state)];
        *sum = sum.saturating_add(nanos(time));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, n)| *sum = sum.saturating_add(n));
    }
}

const fn place(state: State) -> usize {
    match state {
        State::Closed => 0,
        State::Open => 1,
        State::HalfOpen => 2,
        State::ForcedOpen => 3,
        State::ForcedClosed => 4,
        State::Disabled => 5,
        State::MetricsOnly => 6,
    }
}

/// A map of the times that are not zero, in whole milliseconds.
#[cfg(feature = "serde")]
impl serde::Serialize for ByState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = |(state, time): (State, Duration)| {
            (state, u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        };
        serializer.collect_map(self.iter().filter(|(_, time)| !time.is_zero()).map(millis))
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for ByState {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = std::collections::HashMap::<State, u64>::deserialize(from)?;
        let mut times = Self::default();
        for (state, millis) in read {
            times.spend(state, Duration::from_millis(millis));
        }
        Ok(times)
    }
}

impl fmt::Debug for ByState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, time)| !time.is_zero())).finish()
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_place() {
        let places: Vec<_> = STATES.into_iter().map(place).collect();
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 6]);
    }
}
